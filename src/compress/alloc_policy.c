/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks of a base (uniform ones, or those that a method or a file gave) moved between roles at equal cost:
 * compress/policy.h. s is found by bisection over the bits of a positive double, which are ordered as the numbers. */
#include "compress/policy.h"

#include <string.h>

#include "compress/method.h"

static size_t most_of(const lt_policy *p, const lt_curve *c) {
    return lt_min_size(p->max_rank, c->r_max);
}

static void ranks_at(size_t *rank, const lt_alloc_in *in, const size_t *base, double scale) {
    for (size_t i = 0; i < in->n; i++) {
        const lt_curve *c = &in->curve[i];
        size_t r = base[i] ? lt_policy_rank(in->policy, c->role, base[i], scale, most_of(in->policy, c)) : 0;
        if (r > in->align) r -= r % in->align;
        rank[i] = r;
    }
}

static double scale_of_bits(uint64_t bits) {
    double s;
    memcpy(&s, &bits, sizeof s);
    return s;
}

/* The largest factor whose ranks cost at most the budget; false: not even at the smallest. */
static bool largest_scale(size_t *rank, const lt_alloc_in *in, const size_t *base, double budget) {
    const double least = 1e-9, most = 1e9;
    uint64_t lo, hi;
    memcpy(&lo, &least, sizeof lo);
    memcpy(&hi, &most, sizeof hi);
    ranks_at(rank, in, base, least);
    if (lt_alloc_cost(in, rank) > budget) return false;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo + 1) / 2;
        ranks_at(rank, in, base, scale_of_bits(mid));
        if (lt_alloc_cost(in, rank) <= budget)
            lo = mid;
        else
            hi = mid - 1;
    }
    ranks_at(rank, in, base, scale_of_bits(lo));
    return true;
}

static void uniform_base(size_t *base, const lt_alloc_in *in) {
    for (size_t i = 0; i < in->n; i++) {
        const lt_curve *c = &in->curve[i];
        const size_t r = lt_uniform_rank(c->m, c->d, in->keep);
        base[i] = c->total <= 0.0 || r > c->r_max ? 0 : r;
    }
}

static lt_status allocate(size_t *rank, const lt_alloc_in *in, lt_alloc_trace *trace, lt_err *err) {
    (void)trace;
    LT_REQUIRE(err, in->policy, "allocate policy: which? give --policy FILE.yaml");
    size_t *base = lt_calloc(in->n + 1, sizeof *base);
    if (!base) return lt_fail(err, LT_ENOMEM, "allocate: no memory for %zu modules", in->n);
    if (in->base)
        memcpy(base, in->base, in->n * sizeof *base);
    else
        uniform_base(base, in);
    const double budget = lt_alloc_cost(in, base);
    const bool fits = largest_scale(rank, in, base, budget);
    lt_free(base);
    if (fits) return LT_OK;
    return lt_fail(err, LT_ETARGET, "policy %s: its least rank %zu everywhere costs %.0f, the unscaled ranks cost %.0f",
                   in->policy->name, in->policy->min_rank, lt_alloc_cost(in, rank), budget);
}

extern const lt_allocator lt_alloc_qkv_heavier, lt_alloc_mlp_heavier, lt_alloc_policy;
const lt_allocator lt_alloc_qkv_heavier = { .name = "qkv_heavier",
                                            .summary = "more rank for q, k, v, less for the MLP, at equal cost",
                                            .source = "role policies of the utilized-rank code, budget preserved",
                                            .policy = "qkv_heavier",
                                            .allocate = allocate };
const lt_allocator lt_alloc_mlp_heavier = { .name = "mlp_heavier",
                                            .summary = "more rank for the MLP, less for attention, at equal cost",
                                            .source = "role policies of the utilized-rank code, budget preserved",
                                            .policy = "mlp_heavier",
                                            .allocate = allocate };
const lt_allocator lt_alloc_policy = { .name = "policy",
                                       .summary = "multipliers by role from a YAML file, at equal cost",
                                       .source = "role policies of the utilized-rank code, budget preserved",
                                       .allocate = allocate };
