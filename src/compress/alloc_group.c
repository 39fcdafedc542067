/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/alloc_group.h"

#include <math.h>

static bool may_cut(const lt_curve *c) {
    return c->total > 0.0 && c->r_max > 0;
}

static bool alike(const lt_curve *a, const lt_curve *b) {
    return a->role == b->role && a->m == b->m && a->d == b->d;
}

lt_status lt_alloc_group_of(lt_alloc_group *out, const lt_alloc_in *in, size_t first, lt_err *err) {
    *out = (lt_alloc_group){ 0 };
    if (!may_cut(&in->curve[first])) return LT_OK;
    for (size_t i = 0; i < first; i++)
        if (may_cut(&in->curve[i]) && alike(&in->curve[i], &in->curve[first])) return LT_OK;
    out->index = lt_calloc(in->n, sizeof *out->index);
    if (!out->index) return lt_fail(err, LT_ENOMEM, "allocate: no memory for %zu modules", in->n);
    for (size_t i = first; i < in->n; i++)
        if (may_cut(&in->curve[i]) && alike(&in->curve[i], &in->curve[first])) out->index[out->n++] = i;
    return LT_OK;
}

double lt_alloc_loss(const lt_alloc_in *in, size_t module) {
    const lt_curve *c = &in->curve[module];
    double tau = 0.0;
    for (size_t i = c->n; i > lt_uniform_rank(c->m, c->d, in->keep); i--) tau += c->lambda[i - 1];
    return sqrt(tau);
}

size_t lt_alloc_clip(const lt_alloc_in *in, size_t module, double rank) {
    const size_t most = in->curve[module].r_max;
    size_t r = !(rank >= 1.0) ? 1 : rank >= (double)most ? most : (size_t)(rank + 1e-9);
    return r > in->align ? r - r % in->align : r;
}

lt_status lt_alloc_within(const lt_alloc_in *in, const size_t *rank, const char *who, lt_err *err) {
    const double cost = lt_alloc_cost(in, rank);
    if (cost <= in->budget + 1e-6) return LT_OK;
    return lt_fail(err, LT_ETARGET,
                   "%s ranks cost %.0f, the budget is %.0f: modules too small or dead to be cut stay dense; allocate "
                   "global, or keep more",
                   who, cost, in->budget);
}
