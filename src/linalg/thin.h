/* linalg/thin.h - products with a matrix of few rows v [q, d], as LoRA has them, where entries of the wide operand may
 * be dropped: (x ∘ mask)[i, c] is x[i, c] where bit c of row i of the mask is set (linalg/kernel.h), else 0.
 *
 * The wide operand, which is what such a product costs, is read once and where it lies; dropped entries are left out on
 * the way. An entry's bits depend on the operands' rows and columns that meet in it: not on threads. */
#ifndef LT_LINALG_THIN_H
#define LT_LINALG_THIN_H

#include "linalg/team.h"

typedef struct lt_thin {
    size_t n, d, q;
    const uint8_t *mask; /* row i at i * mask_ld bytes; NULL: nothing is dropped */
    size_t mask_ld;
    double alpha;
} lt_thin;
/* Where these pay, and fit the team's scratch. */
static inline bool lt_thin_fits(size_t n, size_t d, size_t q) {
    return n > 8 && q <= 32 && d <= (size_t)1 << 15;
}
/* t [n, q] = alpha (x ∘ mask) vᵀ */
void lt_thin_project(lt_team *team, float *t, const float *x, const float *v, const lt_thin *s);
/* y [n, d] += alpha (t v) ∘ mask */
void lt_thin_expand(lt_team *team, float *y, const float *t, const float *v, const lt_thin *s);
/* dv [q, d] += alpha tᵀ (x ∘ mask) */
void lt_thin_outer(lt_team *team, float *dv, const float *t, const float *x, const lt_thin *s);

#endif
