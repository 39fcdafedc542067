/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/parts.h - products on a matrix unit (lt_matrix_unit): operands cut into bf16 parts, sums in f32.
 *
 * The left matrix is split once per call by all threads, the right one by each task for its own columns. An entry's
 * bits depend on its row, its column and k alone, as in linalg/packed.h. */
#ifndef LT_LINALG_PARTS_H
#define LT_LINALG_PARTS_H

#include "linalg/packed.h"

void lt_parts_multiply(lt_team *team, const lt_packed *p);
/* lt_gram_add: f32 sums over at most 512 rows, fewer where d is so large that these rows of x do not fit the scratch */
void lt_parts_gram(lt_team *team, double *acc, const float *x, size_t ldx, size_t n, size_t d);

#endif
