/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/layout.h - where things lie, for the files of linalg/ that cut matrices into tiles. */
#ifndef LT_LINALG_LAYOUT_H
#define LT_LINALG_LAYOUT_H

#include "core/tensor.h"

static inline size_t lt_round_up(size_t a, size_t to) {
    return (a + to - 1) / to * to;
}
/* How many parts cover the length; 0 for nothing to cut. */
static inline size_t lt_parts_of(size_t length, size_t part) {
    return length ? (length + part - 1) / part : 0;
}
/* First entry of row i of a packed lower triangle. */
static inline size_t lt_packed_at(size_t i) {
    return i * (i + 1) / 2;
}
/* Address of element c of stored row r; c a multiple of the block. */
static inline const void *lt_stored_at(const lt_tensor *w, size_t r, size_t c) {
    const lt_dtype_row *type = lt_dtype_get(w->dtype);
    return (const char *)lt_tensor_row(w, r) + c / type->block * type->bytes;
}

#endif
