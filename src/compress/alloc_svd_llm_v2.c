/* SPDX-License-Identifier: Apache-2.0 */
/* Wang et al., SVD-LLM V2 (NAACL 2025): within a role, what is removed goes by the loss at the uniform rank.
 *
 *   s_i = 1 / ln ℓ_i,   removed fraction R_i = n R s_i / Σs,   r_i = floor((1 - R_i) m d / (m + d))
 * (the paper prints ℓ in the numerator; this is the reading by which a large loss is compressed less). ℓ must exceed 1:
 * a group in which one does not gets uniform ranks. R_i is clipped to [0, 0.95], the others make up for it. */
#include <math.h>

#include "compress/alloc_group.h"

#define MOST_REMOVED 0.95

/* R_i = min(0.95, scale s_i) with Σ R_i = n R: the clipped ones are fixed one by one, largest first. */
static void share(double *removed, const double *s, size_t n, double all) {
    double left = (double)n * all, sum = 0.0;
    bool changed = true;
    for (size_t i = 0; i < n; i++) removed[i] = -1.0, sum += s[i];
    while (changed) {
        changed = false;
        for (size_t i = 0; i < n; i++)
            if (removed[i] < 0.0 && left * s[i] / sum > MOST_REMOVED) {
                removed[i] = MOST_REMOVED;
                left -= MOST_REMOVED;
                sum -= s[i];
                changed = true;
            }
    }
    for (size_t i = 0; i < n; i++)
        if (removed[i] < 0.0) removed[i] = fmax(0.0, left * s[i] / sum);
}

static lt_status allocate_group(size_t *rank, const lt_alloc_in *in, const lt_alloc_group *g, lt_err *err) {
    double *s = lt_calloc(2 * g->n, sizeof *s), *removed = s + g->n;
    bool usable = true;
    if (!s) return lt_fail(err, LT_ENOMEM, "allocate: no memory for %zu modules", g->n);
    for (size_t k = 0; k < g->n; k++) {
        s[k] = 1.0 / log(lt_alloc_loss(in, g->index[k]));
        usable &= s[k] > 0.0 && isfinite(s[k]);
    }
    if (usable) share(removed, s, g->n, 1.0 - in->keep);
    for (size_t k = 0; k < g->n; k++) {
        const lt_curve *c = &in->curve[g->index[k]];
        const double kept = usable ? 1.0 - removed[k] : in->keep;
        rank[g->index[k]] = lt_alloc_clip(in, g->index[k], kept * (double)c->m * (double)c->d / (double)(c->m + c->d));
    }
    lt_free(s);
    return LT_OK;
}

static lt_status allocate(size_t *rank, const lt_alloc_in *in, lt_alloc_trace *trace, lt_err *err) {
    (void)trace;
    for (size_t i = 0; i < in->n; i++) rank[i] = 0;
    for (size_t i = 0; i < in->n; i++) {
        lt_alloc_group g;
        LT_TRY(lt_alloc_group_of(&g, in, i, err));
        const lt_status st = g.n ? allocate_group(rank, in, &g, err) : LT_OK;
        lt_free(g.index);
        if (st != LT_OK) return st;
    }
    return lt_alloc_within(in, rank, "svd_llm_v2", err);
}

extern const lt_allocator lt_alloc_svd_llm_v2;
const lt_allocator lt_alloc_svd_llm_v2 = { .name = "svd_llm_v2",
                                           .summary = "within a role, less is removed where the loss is larger",
                                           .source = "Wang et al., SVD-LLM V2 (NAACL 2025)",
                                           .spectra = true,
                                           .allocate = allocate };
