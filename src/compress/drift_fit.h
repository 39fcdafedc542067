/* SPDX-License-Identifier: Apache-2.0 */
/* compress/drift_fit.h - fits of a linear whose inputs have drifted: what it should give, and what it now reads,
 * differ.
 *
 *   minimise ‖Y - X' W_rᵀ‖_F over rank r            C' = X'ᵀX',  T = YᵀX'
 *   C' = QΛQᵀ,  P = QΛ^-½ (Λ_i <= cut Λ_1 dropped), Z = T P,  W_r = [Z]_r Pᵀ
 *   error = ‖Y‖² - ‖Z‖² + Σ_{i>r} σ_i(Z)²
 *
 * Spec utilized-rank §5.4 "sequential" with Y = X Wᵀ, so that T = W K and K = XᵀX' is the cross Gram; by the eigen
 * route because C' is singular as soon as an earlier factor feeds it. A Y that is not W times something (the residual
 * stream of the original model less the drifted one, docs/methods/drift.md) only changes T. ridge adds
 * ridge * mean(diag C') * ‖W_r - W‖² to what is minimised: directions that the text hardly shows keep the old weight.
 */
#ifndef LT_COMPRESS_DRIFT_FIT_H
#define LT_COMPRESS_DRIFT_FIT_H

#include "compress/lowrank.h"

/* What the modules of one input share. */
typedef struct lt_drift_form {
    size_t d, k; /* k: rank of C' */
    double *p;   /* [d, k]: C'⁺ = P Pᵀ; NULL: l is there */
    double *l;   /* [d, d]: C' = L Lᵀ, where a ridge makes it positive definite: a tenth of the eigenproblem's cost */
    double ridge; /* as added to the diagonal of C' */
} lt_drift_form;
#define LT_DRIFT_CUT 1e-10
/* c packed lower [d(d+1)/2]; ridge relative to the mean of its diagonal, >= 0. LT_EDATA: an entry is not finite.
 * Serial. */
lt_status lt_drift_form_create(lt_drift_form **out, size_t d, const double *c, double ridge, lt_err *err);
void lt_drift_form_destroy(lt_drift_form *f);
size_t lt_drift_form_bytes(size_t d, double ridge);             /* while it is made */
size_t lt_drift_scratch_bytes(size_t m, size_t d, size_t rank); /* of one fit, beside in and out; rank 0: of a solve */

typedef struct lt_drift_in {
    const lt_drift_form *form;
    size_t m;
    const double *t; /* [m, d] */
    const double *w; /* [m, d] what ridge pulls to; NULL: zero */
    lt_balance balance;
} lt_drift_in;
/* a [m, r], b [r, d], 1 <= r <= min(m, d); *gain = ‖[Z]_r‖²: what the fit takes off ‖Y‖² (exactly so when ridge is 0).
 * Serial. */
lt_status lt_drift_fit(double *a, double *b, double *gain, size_t rank, const lt_drift_in *in, lt_err *err);
/* w [m, d]: the same without a bound on the rank, least squares. */
lt_status lt_drift_solve(double *w, double *gain, const lt_drift_in *in, lt_err *err);

#endif
