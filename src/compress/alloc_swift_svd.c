/* SPDX-License-Identifier: Apache-2.0 */
/* Swift-SVD* (Qi et al. 2026): half of every uniform rank is sure, the other half goes by importance and loss.
 *
 *   k_i = δ k + pool s_i / Σs,   pool = n (1 - δ) k,   δ = 0.5,   s_i = β_i^α ln(e + ℓ_i)^(1-α)
 * within a role. β is the importance of the module's layer, mapped to [1, 2]: here the rise of the probe's mean NLL
 * when all of that layer has uniform ranks. α runs over 0, 0.1 ... 1 and the best by the probe wins. */
#include <math.h>
#include <string.h>

#include "compress/alloc_group.h"
#include "compress/trial.h"

#define SURE 0.5
enum { ALPHAS = 11 };

typedef struct scores {
    double *beta, *loss; /* [n] */
} scores;

static size_t uniform(const lt_alloc_in *in, size_t i) {
    const lt_curve *c = &in->curve[i];
    return c->total > 0.0 && c->r_max ? lt_min_size(lt_uniform_rank(c->m, c->d, in->keep), c->r_max) : 0;
}

/* Into beta: what the layer of module i costs when all of it is cut. */
static lt_status try_layers(double *beta, const lt_alloc_in *in, size_t *rank, lt_err *err) {
    double base;
    memset(rank, 0, in->n * sizeof *rank);
    LT_TRY(lt_trial_score(in->trial, &base, rank, err));
    for (size_t i = 0; i < in->n; i++) {
        const int layer = in->curve[i].layer;
        if (i > 0 && in->curve[i - 1].layer == layer) {
            beta[i] = beta[i - 1];
            continue;
        }
        for (size_t k = 0; k < in->n; k++) rank[k] = in->curve[k].layer == layer ? uniform(in, k) : 0;
        LT_TRY(lt_trial_score(in->trial, &beta[i], rank, err));
        beta[i] -= base;
    }
    return LT_OK;
}

/* To [1, 2]; an infinite rise is the largest there is. */
static void map_beta(double *beta, size_t n) {
    double lo = INFINITY, hi = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (isfinite(beta[i])) lo = fmin(lo, beta[i]), hi = fmax(hi, beta[i]);
    for (size_t i = 0; i < n; i++) {
        const double at = isfinite(beta[i]) ? beta[i] : hi;
        beta[i] = hi > lo ? 1.0 + (at - lo) / (hi - lo) : 1.0;
    }
}

static lt_status ranks_at(size_t *rank, const lt_alloc_in *in, const scores *s, double alpha, lt_err *err) {
    memset(rank, 0, in->n * sizeof *rank);
    for (size_t i = 0; i < in->n; i++) {
        lt_alloc_group g;
        double sum = 0.0;
        LT_TRY(lt_alloc_group_of(&g, in, i, err));
        for (size_t k = 0; k < g.n; k++)
            sum += pow(s->beta[g.index[k]], alpha) * pow(log(exp(1.0) + s->loss[g.index[k]]), 1.0 - alpha);
        for (size_t k = 0; k < g.n; k++) {
            const size_t at = g.index[k];
            const double mean = (double)lt_uniform_rank(in->curve[at].m, in->curve[at].d, in->keep),
                         share = pow(s->beta[at], alpha) * pow(log(exp(1.0) + s->loss[at]), 1.0 - alpha) / sum;
            rank[at] = lt_alloc_clip(in, at, SURE * mean + (double)g.n * (1.0 - SURE) * mean * share);
        }
        lt_free(g.index);
    }
    return LT_OK;
}

static lt_status sweep(size_t *rank, size_t *tried, const lt_alloc_in *in, const scores *s, lt_err *err) {
    double best = INFINITY;
    for (int a = 0; a < ALPHAS; a++) {
        double nll;
        LT_TRY(ranks_at(tried, in, s, 0.1 * a, err));
        LT_TRY(lt_trial_score(in->trial, &nll, tried, err));
        if (a > 0 && !(nll < best)) continue;
        best = nll;
        memcpy(rank, tried, in->n * sizeof *rank);
    }
    return LT_OK;
}

static lt_status allocate(size_t *rank, const lt_alloc_in *in, lt_alloc_trace *trace, lt_err *err) {
    scores s = { lt_calloc(in->n + 1, sizeof(double)), lt_calloc(in->n + 1, sizeof(double)) };
    size_t *tried = lt_calloc(in->n + 1, sizeof *tried);
    lt_status st = s.beta && s.loss && tried ? LT_OK : lt_fail(err, LT_ENOMEM, "allocate: out of memory");
    (void)trace;
    if (st == LT_OK) st = try_layers(s.beta, in, tried, err);
    if (st == LT_OK) map_beta(s.beta, in->n);
    for (size_t i = 0; st == LT_OK && i < in->n; i++) s.loss[i] = lt_alloc_loss(in, i);
    if (st == LT_OK) st = sweep(rank, tried, in, &s, err);
    lt_free(s.beta);
    lt_free(s.loss);
    lt_free(tried);
    return st == LT_OK ? lt_alloc_within(in, rank, "swift_svd", err) : st;
}

extern const lt_allocator lt_alloc_swift_svd;
const lt_allocator lt_alloc_swift_svd = { .name = "swift_svd",
                                          .summary =
                                              "half uniform, half by layer importance and loss, best of 11 mixtures",
                                          .source = "Qi et al., Swift-SVD (2026)",
                                          .probe = true,
                                          .spectra = true,
                                          .allocate = allocate };
