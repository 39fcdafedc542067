/* SPDX-License-Identifier: Apache-2.0 */
/* One budget for all modules: minimise sum_l w_l tau_l(r_l) subject to sum_l cost_l <= B, tau_l(r) = sum_{i>r} lambda_i
 * (spec utilized-rank §4.3).
 *
 *   alloc(mu):  r = clip(#{i : w lambda_i > mu c}, r_min, r_max);  dense when mu md < w tau(r) + mu c r
 *
 * lambda descends, so gains are concave and alloc(mu) minimises the Lagrangian; its cost falls as mu grows, so the
 * least mu that fits is found by bisection (over the bits of mu: positive doubles are ordered as their bits, and 64
 * steps are exact). Then single ranks are added by gain per cost while one fits, ties to the first module. */
#include "compress/method.h"

#include <math.h>
#include <string.h>

typedef struct item {
    const lt_curve *curve;
    double *tau;           /* [n + 1]: tau[r] is the sum of lambda[r..] */
    double w, cost, dense; /* weight; cost of one rank; cost when left as it is */
    size_t r_min, r_max;   /* r_max 0: always dense */
} item;
typedef struct state {
    item *items;
    size_t n;
    double *tails;
    bool allow_dense;
} state;

static void state_clear(state *s) {
    lt_free(s->items);
    lt_free(s->tails);
}

/* The weight of a module's error. */
static double weight_of(const lt_curve *c, const char *weights) {
    if (strcmp(weights, "relative") == 0) return 1.0 / c->total;
    return strcmp(weights, "unit") == 0 ? 1.0 : c->weight;
}

static void item_init(item *it, const lt_curve *c, double *tau, const lt_alloc_in *in) {
    const size_t uniform = lt_uniform_rank(c->m, c->d, in->keep);
    const bool dead = c->total <= 0.0;
    *it = (item){ .curve = c, .tau = tau, .w = dead ? 0.0 : weight_of(c, in->weights) };
    it->cost = c->unit * (double)(c->m + c->d);
    it->dense = c->unit * (double)c->m * (double)c->d;
    it->r_max = dead ? 0 : lt_min_size(c->r_max, c->n);
    it->r_min = lt_min_size(lt_max_size(1, (size_t)(in->floor * (double)uniform)), it->r_max);
    tau[c->n] = 0.0;
    for (size_t r = c->n; r > 0; r--) tau[r - 1] = tau[r] + c->lambda[r - 1];
}

static lt_status state_init(state *s, const lt_alloc_in *in, lt_err *err) {
    size_t doubles = 0;
    for (size_t i = 0; i < in->n; i++) doubles += in->curve[i].n + 1;
    *s = (state){ .n = in->n, .allow_dense = in->allow_dense };
    s->items = lt_calloc(in->n, sizeof *s->items);
    s->tails = lt_calloc(doubles, sizeof(double));
    if (!s->items || !s->tails) {
        state_clear(s);
        return lt_fail(err, LT_ENOMEM, "allocate: no memory for %zu modules", in->n);
    }
    double *tau = s->tails;
    for (size_t i = 0; i < in->n; i++) {
        item_init(&s->items[i], &in->curve[i], tau, in);
        tau += in->curve[i].n + 1;
    }
    return LT_OK;
}

/* #{i : w lambda_i > price}, lambda descending */
static size_t count_above(const item *it, double price) {
    size_t lo = 0, hi = it->curve->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (it->w * it->curve->lambda[mid] > price)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static size_t rank_at(const item *it, double mu, bool allow_dense) {
    if (it->r_max == 0) return 0;
    size_t r = count_above(it, mu * it->cost);
    r = lt_max_size(it->r_min, lt_min_size(r, it->r_max));
    const double factored = it->w * it->tau[r] + mu * it->cost * (double)r;
    return allow_dense && mu * it->dense < factored ? 0 : r;
}

static void ranks_at(size_t *rank, const state *s, double mu) {
    for (size_t i = 0; i < s->n; i++) rank[i] = rank_at(&s->items[i], mu, s->allow_dense);
}

static double mu_of_bits(uint64_t bits) {
    double mu;
    memcpy(&mu, &bits, sizeof mu);
    return mu;
}

/* The least mu whose ranks cost at most the budget; false: not even at the floor. */
static bool least_mu(double *mu, size_t *rank, const state *s, const lt_alloc_in *in) {
    const double largest = 1e300;
    uint64_t lo = 0, hi;
    memcpy(&hi, &largest, sizeof hi);
    ranks_at(rank, s, largest);
    if (lt_alloc_cost(in, rank) > in->budget) return false;
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        ranks_at(rank, s, mu_of_bits(mid));
        if (lt_alloc_cost(in, rank) <= in->budget)
            hi = mid;
        else
            lo = mid + 1;
    }
    *mu = mu_of_bits(hi);
    ranks_at(rank, s, *mu);
    return true;
}

static void round_down(size_t *rank, const state *s, size_t align) {
    for (size_t i = 0; i < s->n; i++)
        if (rank[i] > align) rank[i] -= rank[i] % align;
}

static size_t next_rank(const item *it, size_t rank, size_t align) {
    const size_t next = rank < align && align > 1 ? align : rank + align;
    return next <= it->r_max ? next : 0;
}

/* What ranks [from, to) take off the error, in the allocator's unit. */
static double gain_of(const item *it, size_t from, size_t to) {
    double sum = 0.0;
    for (size_t i = from; i < to; i++) sum += it->curve->lambda[i];
    return it->w * sum;
}

/* The module that gains most per cost from its next step and can still afford it; n: none. */
static size_t best_step(const state *s, const size_t *rank, size_t align, double left) {
    size_t best = s->n;
    double most = 0.0;
    for (size_t i = 0; i < s->n; i++) {
        const item *it = &s->items[i];
        const size_t next = rank[i] ? next_rank(it, rank[i], align) : 0;
        if (!next) continue;
        const double cost = it->cost * (double)(next - rank[i]), gain = gain_of(it, rank[i], next) / cost;
        if (cost <= left && gain > most) most = gain, best = i;
    }
    return best;
}

static void fill(size_t *rank, const state *s, const lt_alloc_in *in) {
    for (;;) {
        const size_t i = best_step(s, rank, in->align, in->budget - lt_alloc_cost(in, rank));
        if (i == s->n) return;
        rank[i] = next_rank(&s->items[i], rank[i], in->align);
    }
}

static lt_status allocate(size_t *rank, const lt_alloc_in *in, lt_alloc_trace *trace, lt_err *err) {
    state s;
    double mu = 0.0;
    LT_TRY(state_init(&s, in, err));
    const bool fits = least_mu(&mu, rank, &s, in);
    const double least = lt_alloc_cost(in, rank);
    if (fits) {
        round_down(rank, &s, in->align);
        if (trace && trace->before_fill) memcpy(trace->before_fill, rank, in->n * sizeof *rank);
        if (trace) trace->mu = mu;
        fill(rank, &s, in);
    }
    state_clear(&s);
    if (fits) return LT_OK;
    return lt_fail(err, LT_ETARGET,
                   "the budget of %.0f cannot be met: ranks at the floor already cost %.0f (floor %g, keep %.4f)",
                   in->budget, least, in->floor, in->keep);
}

extern const lt_allocator lt_alloc_global;
const lt_allocator lt_alloc_global = { .name = "global",
                                       .summary = "one budget spent where it lowers the error most",
                                       .source = "Lagrangian allocation, floor as in Qi et al., Swift-SVD (2026)",
                                       .spectra = true,
                                       .allocate = allocate };
