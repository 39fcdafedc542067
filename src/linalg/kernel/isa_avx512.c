/* SPDX-License-Identifier: Apache-2.0 */
#define TABLE lt_kernels_avx512
#define TABLE_NAME "avx512"
#define UNIT NULL
#include "linalg/kernel/avx512.h"
