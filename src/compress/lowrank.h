/* SPDX-License-Identifier: Apache-2.0 */
/* compress/lowrank.h - the one fit behind all low-rank modes (spec utilized-rank §5.3, §5.4).
 *
 * Minimises tr((W - AB) M (W - AB)ᵀ) over rank r, with the metric M given as data:
 *   "weight"  M = I                    (plain SVD; Eckart-Young)
 *   "input"   M = C = XᵀX              (whitened: SVD-LLM, utilized rank)
 * affine: M = C - N mu muᵀ and the bias gains (W - AB) mu.
 * Solution W_r = U_r U_rᵀ W with U_r the top eigenvectors of W M Wᵀ (m <= d), or by the smaller side (m > d):
 * M = F Fᵀ, Fᵀ WᵀW F = V σ² Vᵀ, U_r = W F V_r / σ, re-orthonormalised. F is the Cholesky factor, or QΛ^½ when M is
 * singular. Directions that M cannot tell apart (σ² below rounding) are taken from the plain SVD of what is left. All
 * f64. */
#ifndef LT_COMPRESS_LOWRANK_H
#define LT_COMPRESS_LOWRANK_H

#include "linalg/decomp.h"

typedef enum lt_metric { LT_METRIC_WEIGHT, LT_METRIC_INPUT, LT_N_METRICS } lt_metric;
const char *lt_metric_name(lt_metric m);
bool lt_metric_find(const char *name, lt_metric *out);
typedef enum lt_balance { LT_BALANCE_ORTH, LT_BALANCE_BALANCED, LT_N_BALANCES } lt_balance;
const char *lt_balance_name(lt_balance b);
bool lt_balance_find(const char *name, lt_balance *out);

/* What the modules of one input site share: the metric unpacked, centred and, for modules with m > d, factored. */
typedef struct lt_metric_form {
    size_t d;
    bool affine;
    double *c;  /* [d, d] symmetric M */
    double *mu; /* [d] when affine */
    double count;
    double *f; /* [d, k], M = F Fᵀ; NULL: not asked for */
    size_t k;  /* rank of F */
} lt_metric_form;
/* c packed lower [d(d+1)/2]; sum [d] and count only when affine. A non-finite entry is LT_EDATA. Serial. */
lt_status lt_metric_form_create(lt_metric_form **out, size_t d, const double *c, const double *sum, double count,
                                bool affine, bool factored, lt_err *err);
void lt_metric_form_destroy(lt_metric_form *f);
size_t lt_metric_form_bytes(size_t d, bool factored); /* while it is made */

typedef struct lt_lowrank_in {
    size_t m, d;
    const double *w;   /* [m, d] */
    const double *c;   /* packed lower Gram [d(d+1)/2], or NULL for LT_METRIC_WEIGHT */
    const double *sum; /* [d], with count: only when affine */
    double count;
    bool affine;
    lt_balance balance;
    const lt_metric_form
        *form; /* made before for several modules (then c, sum, count, affine are not read); NULL: made inside */
} lt_lowrank_in;
/* Eigenvalues of W M Wᵀ, descending, min(m, d) of them; total = tr(W C Wᵀ), uncentred also when affine: what errors are
 * relative to. Serial: run many in parallel. LT_EDATA: a weight or Gram entry is not finite. */
lt_status lt_lowrank_spectrum(double *lambda, double *total, const lt_lowrank_in *in, lt_err *err);
/* a [m, r], b [r, d]; bias_delta [m] when affine else NULL; *error = sum of the lambda left out. 1 <= r <= min(m, d).
 * Serial. */
lt_status lt_lowrank_fit(double *a, double *b, double *bias_delta, double *error, size_t rank, const lt_lowrank_in *in,
                         lt_err *err);
size_t lt_lowrank_scratch_bytes(size_t m, size_t d,
                                size_t rank); /* of one call, beside in and out; rank 0: of the spectrum */
/* tr((W - AB) C (W - AB)ᵀ), exact, for checks and reports; c NULL: identity. */
lt_status lt_lowrank_error(double *error, const lt_lowrank_in *in, size_t rank, const double *a, const double *b,
                           lt_err *err);

#endif
