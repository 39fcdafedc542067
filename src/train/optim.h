/* SPDX-License-Identifier: Apache-2.0 */
/* train/optim.h - AdamW over flat parameters, and the global norm that clips.
 *
 *   m += (1 - b1)(g - m),  v += (1 - b2)(g² - v),  p -= lr decay p,
 *   p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)         (Loshchilov & Hutter 2019; PyTorch's order)
 * One pass over memory updates everything and clears the gradient. Parameters are cut into pieces by size only, so the
 * bytes do not depend on the thread count; the norm is a sum of f64 sums in piece order. */
#ifndef LT_TRAIN_OPTIM_H
#define LT_TRAIN_OPTIM_H

#include "linalg/team.h"

/* One tensor that trains: views of n values each. */
typedef struct lt_slice {
    float *value, *grad, *m, *v;
    size_t n;
    bool decays;
} lt_slice;
typedef struct lt_adamw {
    double beta1, beta2, eps, decay;
} lt_adamw;

typedef struct lt_optim lt_optim;
/* Borrows slices. */
lt_status lt_optim_create(lt_optim **out, const lt_slice *slices, size_t n, lt_err *err);
void lt_optim_destroy(lt_optim *o);
/* Euclidean norm of all gradients. */
double lt_optim_norm(lt_optim *o, lt_team *team);
/* Update number t (1, 2, ...); gradients are multiplied by scale first, and are zero afterwards. */
void lt_optim_step(lt_optim *o, lt_team *team, const lt_adamw *a, double lr, double scale, uint64_t t);

#endif
