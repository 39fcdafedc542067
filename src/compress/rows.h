/* SPDX-License-Identifier: Apache-2.0 */
/* compress/rows.h - finding a row of a table by name, with a suggestion when it is not there; private to the room. */
#ifndef LT_COMPRESS_ROWS_H
#define LT_COMPRESS_ROWS_H

#include "core/core.h"

/* name_at(i): name of row i, NULL past the end. LT_EUSAGE: "unknown <kind> "x" (there are: a, b; did you mean a?)". */
lt_status lt_find_row(size_t *out, const char *kind, const char *name, const char *(*name_at)(size_t i), lt_err *err);

#endif
