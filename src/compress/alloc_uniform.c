/* SPDX-License-Identifier: Apache-2.0 */
/* The same fraction of every module: r = floor(keep md / (m + d)). Wang et al., SVD-LLM, ICLR 2025; spec utilized-rank
 * §4.2. */
#include "compress/method.h"

static size_t uniform_rank(const lt_curve *c, const lt_alloc_in *in) {
    if (c->total <= 0.0 || c->r_max == 0) return 0;
    size_t r = lt_uniform_rank(c->m, c->d, in->keep);
    if (r > c->r_max) return 0;
    return r > in->align ? r - r % in->align : r;
}

static lt_status allocate(size_t *rank, const lt_alloc_in *in, lt_alloc_trace *trace, lt_err *err) {
    (void)trace;
    for (size_t i = 0; i < in->n; i++) rank[i] = uniform_rank(&in->curve[i], in);
    const double cost = lt_alloc_cost(in, rank);
    if (cost <= in->budget + 1e-6) return LT_OK;
    return lt_fail(err, LT_ETARGET,
                   "uniform ranks cost %.0f, the budget is %.0f: modules too small or dead to be cut stay dense; "
                   "allocate global, or keep more",
                   cost, in->budget);
}

extern const lt_allocator lt_alloc_uniform;
const lt_allocator lt_alloc_uniform = { .name = "uniform",
                                        .summary = "the same fraction of every module",
                                        .source = "Wang et al., SVD-LLM (ICLR 2025)",
                                        .allocate = allocate };
