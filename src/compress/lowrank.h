/* compress/lowrank.h - the one fit behind all low-rank modes (spec utilized-rank §5.3, §5.4).
 *
 * Minimises tr((W - AB) M (W - AB)ᵀ) over rank r, with the metric M given as data:
 *   "weight"  M = I                    (plain SVD; Eckart-Young)
 *   "input"   M = C = XᵀX              (whitened: SVD-LLM, utilized rank)
 * affine: M = C - N mu muᵀ and the bias gains (W - AB) mu.
 * Solution W_r = U_r U_rᵀ W with U_r the top eigenvectors of W M Wᵀ (m <= d), or by the smaller side (m > d). All f64; C may be singular. */
#ifndef LT_COMPRESS_LOWRANK_H
#define LT_COMPRESS_LOWRANK_H

#include "linalg/decomp.h"

typedef enum lt_metric { LT_METRIC_WEIGHT, LT_METRIC_INPUT, LT_N_METRICS } lt_metric;
const char *lt_metric_name(lt_metric m);
bool lt_metric_find(const char *name, lt_metric *out);
typedef enum lt_balance { LT_BALANCE_ORTH, LT_BALANCE_BALANCED } lt_balance;

typedef struct lt_lowrank_in {
    size_t m, d;
    const double *w;          /* [m, d] */
    const double *c;          /* packed lower Gram [d(d+1)/2], or NULL for LT_METRIC_WEIGHT */
    const double *sum;        /* [d], with count: only when affine */
    double count;
    bool affine;
    lt_balance balance;
} lt_lowrank_in;
/* Eigenvalues of W M Wᵀ, descending, min(m, d) of them; total = their exact sum tr(W M Wᵀ). Serial: run many in parallel. */
lt_status lt_lowrank_spectrum(double *lambda, double *total, const lt_lowrank_in *in, lt_err *err);
/* a [m, r], b [r, d]; bias_delta [m] when affine else NULL; *error = sum of the lambda left out. Serial. */
lt_status lt_lowrank_fit(double *a, double *b, double *bias_delta, double *error, size_t rank, const lt_lowrank_in *in, lt_err *err);
/* tr((W - AB) C (W - AB)ᵀ), exact, for checks and reports; c NULL: identity. */
double lt_lowrank_error(const lt_lowrank_in *in, size_t rank, const double *a, const double *b);

#endif
