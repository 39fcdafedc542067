/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/kernel/tables.h - the tables of this build, one file each; table.c chooses. */
#ifndef LT_LINALG_KERNEL_TABLES_H
#define LT_LINALG_KERNEL_TABLES_H

#include "linalg/kernel.h"

extern const lt_kernels lt_kernels_ref, lt_kernels_avx2, lt_kernels_avx512, lt_kernels_amx, lt_kernels_neon;

#endif
