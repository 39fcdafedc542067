/* SPDX-License-Identifier: Apache-2.0 */
/* io/sync.h - what the files of io/ share about folders on disk. */
#ifndef LT_IO_SYNC_H
#define LT_IO_SYNC_H

#include "core/core.h"

/* A rename is safe on disk only when its folder is. File systems that cannot sync folders are fine. */
lt_status lt_sync_folder_of(const char *path, lt_err *err);

#endif
