/* SPDX-License-Identifier: Apache-2.0 */
/* compress/lowrank.h - the one fit behind all low-rank modes (spec utilized-rank §5.3, §5.4).
 *
 * Minimises tr(Γ (W - AB) M (W - AB)ᵀ) over rank r. What M is, is a row (lt_metric_get):
 *   "weight"        M = I                        plain SVD; Eckart-Young
 *   "input"         M = C = XᵀX                  whitened: SVD-LLM, utilized rank
 *   "abs"           M = diag(a²), a = (mean |x|)^alpha + 1e-6                       ASVD
 *   "input_biased"  U from the Gram of Wx + b, bias included, though only W is projected (the original code)
 *   "output"        U from a measured output Gram (imported files)
 *   "projected"     P_T W P_S with P_S from C: the concept paper's two-sided projection
 * affine: M = C - N mu muᵀ and the bias gains (W - AB) mu. left: Γ, the Gram of output gradients (two-sided); W' = RW
 * with Γ + damping mean(diag Γ) I = RᵀR is fitted, A is R⁻¹ times what was found.
 * Solution W_r = U_r U_rᵀ W with U_r the top eigenvectors of W M Wᵀ (m <= d; as (WF)(WF)ᵀ where that is less work and M
 * is not singular), or by the smaller side (m > d): M = F Fᵀ, Fᵀ WᵀW F = V σ² Vᵀ, U_r = W F V_r / σ,
 * re-orthonormalised. F is the Cholesky factor, or QΛ^½ when M is singular. Directions that M cannot tell apart (σ²
 * below rounding) are taken from the plain SVD of what is left. All f64. */
#ifndef LT_COMPRESS_LOWRANK_H
#define LT_COMPRESS_LOWRANK_H

#include "linalg/decomp.h"

typedef enum lt_metric {
    LT_METRIC_WEIGHT,
    LT_METRIC_INPUT,
    LT_METRIC_ABS,
    LT_METRIC_INPUT_BIASED,
    LT_METRIC_OUTPUT,
    LT_METRIC_PROJECTED,
    LT_N_METRICS
} lt_metric;
/* What a metric is made of, and what follows from it. */
typedef struct lt_metric_row {
    const char *name;
    enum { LT_FORM_NONE, LT_FORM_GRAM, LT_FORM_GRAM_SUM, LT_FORM_ABS, LT_FORM_OUTPUT } form;
    bool may_centre; /* affine is defined */
    bool of_outputs; /* the spectrum's tail is the error of the outputs that the fit leaves */
} lt_metric_row;
const lt_metric_row *lt_metric_get(lt_metric m);
const char *lt_metric_name(lt_metric m);
bool lt_metric_find(const char *name, lt_metric *out);
typedef enum lt_balance { LT_BALANCE_ORTH, LT_BALANCE_BALANCED, LT_N_BALANCES } lt_balance;
const char *lt_balance_name(lt_balance b);
bool lt_balance_find(const char *name, lt_balance *out);

/* What a module wants of its site: F with M = F Fᵀ not at all, where Cholesky finds it, or by eigenvectors if not. */
typedef enum lt_factor { LT_FACTOR_NONE, LT_FACTOR_CHOLESKY, LT_FACTOR_ALWAYS } lt_factor;
lt_factor lt_factor_for(size_t m, size_t d);
/* What the modules of one input site share: the metric unpacked, centred and, for modules that want it, factored. */
typedef struct lt_metric_form {
    size_t d;
    bool affine;
    double *c;   /* [d, d] symmetric M */
    double *mu;  /* [d] when affine */
    double *sum; /* [d] when given without affine */
    double count;
    double *f;  /* [d, k], M = F Fᵀ; NULL: there is none */
    size_t k;   /* rank of F */
    bool lower; /* F is the Cholesky factor, zeros above */
} lt_metric_form;
/* c packed lower [d(d+1)/2]; sum [d] and count when affine, or where the bias is part of the metric; else NULL. A
 * non-finite entry is LT_EDATA. Serial. */
lt_status lt_metric_form_create(lt_metric_form **out, size_t d, const double *c, const double *sum, double count,
                                bool affine, lt_factor factor, lt_err *err);
/* M = diag(scale²) */
lt_status lt_metric_form_diagonal(lt_metric_form **out, size_t d, const double *scale, lt_factor factor, lt_err *err);
void lt_metric_form_destroy(lt_metric_form *f);
size_t lt_metric_form_bytes(size_t d, lt_factor factor);        /* kept */
size_t lt_metric_form_making_bytes(size_t d, lt_factor factor); /* beside that, at most, while it is made */

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
    const double *bias;     /* [m]: U is that of Wx + bias; needs sum and count */
    const double *out_gram; /* packed [m(m+1)/2]: U is its eigenvectors; no form */
    bool project;           /* B = A'W P_S, P_S the top directions of C */
    const double *left;     /* packed Γ [m(m+1)/2]; NULL: identity */
    double damping;         /* of Γ */
    bool nested; /* with left: A = R⁻¹U as found, not made orthonormal: its first k columns and B's first k
                    rows are the fit of rank k, as they always are without left */
} lt_lowrank_in;
/* Eigenvalues of W M Wᵀ, descending, min(m, d) of them; total = tr(W C Wᵀ), uncentred also when affine: what errors are
 * relative to. Serial: run many in parallel. LT_EDATA: a weight or Gram entry is not finite. */
lt_status lt_lowrank_spectrum(double *lambda, double *total, const lt_lowrank_in *in, lt_err *err);
/* v [r, d]: the top eigenvectors of the form's C, as rows. Serial. */
lt_status lt_lowrank_top_inputs(double *v, size_t r, const lt_metric_form *form, lt_err *err);
/* b [r, d] <- b VᵀV with the first r rows of v: P_S. Serial. */
lt_status lt_lowrank_project_inputs(double *b, size_t r, size_t d, const double *v, lt_err *err);
/* a [m, r], b [r, d]; bias_delta [m] when affine else NULL; *error = sum of the lambda left out, or where that is not
 * the error (bias, project) tr((W - AB) C (W - AB)ᵀ); *total as that of the spectrum. 1 <= r <= min(m, d). Serial. */
lt_status lt_lowrank_fit(double *a, double *b, double *bias_delta, double *error, double *total, size_t rank,
                         const lt_lowrank_in *in, lt_err *err);
/* The same product with ‖A‖ = ‖B‖, from an orthonormal a [m, r] (columns may be zero) and any b [r, d]. Serial. */
lt_status lt_lowrank_balance(double *a, double *b, size_t m, size_t d, size_t r, lt_err *err);
/* Of one call, beside in and out, at most; rank 0: of the spectrum. */
size_t lt_lowrank_scratch_bytes(size_t m, size_t d, size_t rank);
/* tr((W - AB) C (W - AB)ᵀ), exact, for checks and reports; c and form NULL: identity; rank 0: of W itself. */
lt_status lt_lowrank_error(double *error, const lt_lowrank_in *in, size_t rank, const double *a, const double *b,
                           lt_err *err);
/* Σ ‖(W - AB) x - bias_delta‖² over the rows that c, sum and count are of. */
lt_status lt_lowrank_affine_error(double *error, const lt_lowrank_in *in, size_t rank, const double *a, const double *b,
                                  const double *bias_delta, lt_err *err);

#endif
