/* SPDX-License-Identifier: Apache-2.0 */
/* ASVD's sensitivity-based truncation rank search (Yuan et al. 2023): every module is tried at keep ratios 0.1 ... 0.9
 * with all others as they are; the (module, ratio) pairs, worst first, are cut at the last place whose result fits the
 * budget: each module takes the smallest ratio that is left behind the cut, or stays dense. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/alloc_group.h"
#include "compress/trial.h"

enum { RATIOS = 9 };

typedef struct pair {
    double nll;
    size_t module, ratio; /* keep = 0.1 (ratio + 1) */
} pair;

static int worst_first(const void *pa, const void *pb) {
    const pair *a = pa, *b = pb;
    if (a->nll != b->nll) return a->nll > b->nll ? -1 : 1;
    if (a->module != b->module) return a->module < b->module ? -1 : 1;
    return a->ratio < b->ratio ? -1 : 1;
}

static size_t rank_of(const lt_alloc_in *in, size_t module, size_t ratio) {
    const lt_curve *c = &in->curve[module];
    return lt_alloc_clip(in, module, (double)lt_uniform_rank(c->m, c->d, 0.1 * (double)(ratio + 1)));
}

static lt_status try_all(pair *pairs, size_t *n, const lt_alloc_in *in, size_t *rank, lt_err *err) {
    *n = 0;
    for (size_t i = 0; i < in->n; i++)
        for (size_t r = 0; in->curve[i].total > 0.0 && in->curve[i].r_max && r < RATIOS; r++) {
            pair *p = &pairs[(*n)++];
            *p = (pair){ 0.0, i, r };
            memset(rank, 0, in->n * sizeof *rank);
            rank[i] = rank_of(in, i, r);
            LT_TRY(lt_trial_score(in->trial, &p->nll, rank, err));
            if (isnan(p->nll)) p->nll = INFINITY;
        }
    return LT_OK;
}

static void ranks_behind(size_t *rank, const lt_alloc_in *in, const pair *pairs, size_t n, size_t cut) {
    memset(rank, 0, in->n * sizeof *rank);
    for (size_t k = cut; k < n; k++) {
        const size_t r = rank_of(in, pairs[k].module, pairs[k].ratio);
        size_t *at = &rank[pairs[k].module];
        if (*at == 0 || r < *at) *at = r;
    }
}

/* The cost grows with the cut: the largest that fits. */
static void choose_cut(size_t *rank, const lt_alloc_in *in, const pair *pairs, size_t n) {
    size_t lo = 0, hi = n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo + 1) / 2;
        ranks_behind(rank, in, pairs, n, mid);
        if (lt_alloc_cost(in, rank) <= in->budget)
            lo = mid;
        else
            hi = mid - 1;
    }
    ranks_behind(rank, in, pairs, n, lo);
}

static lt_status allocate(size_t *rank, const lt_alloc_in *in, lt_alloc_trace *trace, lt_err *err) {
    pair *pairs = lt_calloc(in->n * RATIOS + 1, sizeof *pairs);
    size_t n = 0;
    (void)trace;
    if (!pairs) return lt_fail(err, LT_ENOMEM, "allocate: no memory for %zu modules", in->n);
    lt_status st = try_all(pairs, &n, in, rank, err);
    if (st == LT_OK) {
        qsort(pairs, n, sizeof *pairs, worst_first);
        choose_cut(rank, in, pairs, n);
    }
    lt_free(pairs);
    return st == LT_OK ? lt_alloc_within(in, rank, "asvd_strs", err) : st;
}

extern const lt_allocator lt_alloc_asvd_strs;
const lt_allocator lt_alloc_asvd_strs = { .name = "asvd_strs",
                                          .summary = "every module tried at nine ratios, the least harmful kept",
                                          .source =
                                              "Yuan et al., ASVD (2023): sensitivity-based truncation rank search",
                                          .probe = true,
                                          .allocate = allocate };
