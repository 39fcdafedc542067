/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/method.h"

#include <math.h>
#include <string.h>

#include "compress/rows.h"

extern const lt_allocator lt_alloc_global, lt_alloc_uniform, lt_alloc_qkv_heavier, lt_alloc_mlp_heavier,
    lt_alloc_policy, lt_alloc_svd_llm_v2, lt_alloc_swift_svd, lt_alloc_asvd_strs;
const lt_allocator *const lt_allocators[] = { &lt_alloc_global,      &lt_alloc_uniform,   &lt_alloc_qkv_heavier,
                                              &lt_alloc_mlp_heavier, &lt_alloc_policy,    &lt_alloc_svd_llm_v2,
                                              &lt_alloc_swift_svd,   &lt_alloc_asvd_strs, NULL };

static const char *const grad_trace[] = { "grad.count", "grad.trace", NULL }, *const nothing[] = { NULL };
const lt_weighting lt_weightings[] = {
    { "relative", "error over the energy of the module's outputs", nothing, false },
    { "unit", "the error as it is", nothing, false },
    { "fisher", "times the mean squared gradient of the loss at the outputs", grad_trace, false },
    { "sens", "times the rise of the probe's loss per error, measured at the uniform rank", nothing, true },
    { NULL, NULL, NULL, false },
};

static const char *weighting_name(size_t i) {
    return lt_weightings[i].name;
}

lt_status lt_weighting_find(const lt_weighting **out, const char *name, lt_err *err) {
    size_t i;
    LT_TRY(lt_find_row(&i, "weights", name, weighting_name, err));
    *out = &lt_weightings[i];
    return LT_OK;
}

static const char *allocator_name(size_t i) {
    return lt_allocators[i] ? lt_allocators[i]->name : NULL;
}

lt_status lt_allocator_find(const lt_allocator **out, const char *name, lt_err *err) {
    size_t i;
    LT_TRY(lt_find_row(&i, "allocator", name, allocator_name, err));
    *out = lt_allocators[i];
    return LT_OK;
}

size_t lt_break_even_rank(size_t m, size_t d) {
    return (m * d + m + d - 1) / (m + d) - 1;
}

size_t lt_uniform_rank(size_t m, size_t d, double keep) {
    const double r = floor((double)m * (double)d * keep / (double)(m + d) +
                           1e-9); /* 0.7 * md in doubles may fall below its integer */
    return r < 1.0 ? 1 : (size_t)r;
}

double lt_alloc_cost(const lt_alloc_in *in, const size_t *rank) {
    double sum = 0.0;
    for (size_t i = 0; i < in->n; i++) {
        const lt_curve *c = &in->curve[i];
        sum += c->unit * (rank[i] ? (double)rank[i] * (double)(c->m + c->d) : (double)c->m * (double)c->d);
    }
    return sum;
}
