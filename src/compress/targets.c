/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/targets.h"

#include <math.h>
#include <string.h>

#include "compress/module_weight.h"
#include "core/patterns.h"

/* ---- selection ---- */

static bool eligible(const lt_module *m, const lt_plan_in *in) {
    if (m->layer < 0 && !in->include_head) return false;
    if (in->slots && !(in->slots >> m->slot & 1u)) return false;
    return m->linear->n_stages == 1 && m->linear->stage[0].n_adapters == 0;
}

static size_t count_modules(const lt_model *m) {
    lt_module mod;
    size_t n = 0;
    while (lt_model_module(m, n, &mod)) n++;
    return n;
}

/* No name of a linear has a "#": such a pattern asks for parts of fused matrices. */
static lt_status check_no_parts(const char *const *pattern, lt_err *err) {
    for (; pattern && *pattern; pattern++)
        if (strchr(*pattern, '#'))
            return lt_fail(err, LT_EUNSUPPORTED,
                           "a part of a fused matrix cannot be cut or spared alone: name the whole (pattern: %s)",
                           *pattern);
    return LT_OK;
}

lt_status lt_targets_select(lt_targets *out, const lt_plan_in *in, lt_err *err) {
    lt_patterns include = { 0 }, exclude = { 0 };
    lt_targets t = { 0 };
    lt_module mod;
    lt_status st;
    if (in->include_head && in->model->config.tied)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "the head is tied to the embedding: factoring it would add parameters (%s)",
                       in->model->head.name);
    LT_TRY(check_no_parts(in->include, err));
    LT_TRY(check_no_parts(in->exclude, err));
    LT_GO(lt_patterns_init(&include, in->include, err));
    LT_GO(lt_patterns_init(&exclude, in->exclude, err));
    t.module = lt_calloc(count_modules(in->model) + 1, sizeof *t.module);
    if (!t.module) LT_GO(lt_fail(err, LT_ENOMEM, "no memory for the list of modules"));
    for (size_t i = 0; lt_model_module(in->model, i, &mod); i++) {
        if (!eligible(&mod, in) || (include.n && !lt_patterns_match(&include, mod.linear->name)) ||
            lt_patterns_match(&exclude, mod.linear->name))
            continue;
        t.module[t.n++] = mod;
    }
    if (t.n == 0)
        st = lt_fail(err, LT_EUSAGE, "no linear to cut: the patterns select none, or all are factored already (%s)",
                     in->model->path ? in->model->path : "model");
done:
    lt_patterns_clear(&include);
    lt_patterns_clear(&exclude);
    if (st == LT_OK)
        *out = t;
    else
        lt_free(t.module);
    return st;
}

/* ---- the budget ---- */

/* Bytes of one element once saved: block types become bf16. */
static double saved_bytes(lt_dtype t) {
    const lt_dtype_row *row = lt_dtype_get(t);
    return row->block > 1 ? 2.0 : (double)row->bytes;
}

double lt_target_unit(const lt_linear *l, lt_budget_of of) {
    return of == LT_BUDGET_BYTES ? (double)lt_dtype_get(lt_factor_dtype(l))->bytes : 1.0;
}

/* Everything the budget speaks of, as it is now. */
static double whole(const lt_plan_in *in) {
    const lt_model *m = in->model;
    lt_param_info p;
    double sum = 0.0;
    if (in->budget.of == LT_BUDGET_PARAMS) return (double)lt_model_n_params(m);
    if (in->budget.of == LT_BUDGET_LINEARS)
        return (double)lt_model_n_linear_params(m) +
               (in->include_head ? (double)lt_tensor_count(&m->head.stage[0].w.t) : 0.0);
    for (size_t i = 0; lt_model_param(m, i, &p); i++)
        sum += saved_bytes(p.param->t.dtype) * (double)lt_tensor_count(&p.param->t);
    return sum;
}

lt_status lt_targets_budget(double *budget, double *keep, const lt_targets *t, const lt_plan_in *in, lt_err *err) {
    const lt_budget *b = &in->budget;
    const double all = whole(in);
    double dense = 0.0, least = 0.0;
    for (size_t i = 0; i < t->n; i++) {
        const lt_linear *l = t->module[i].linear;
        const double m = (double)lt_linear_out(l), d = (double)lt_linear_in(l), unit = lt_target_unit(l, b->of);
        dense += unit * m * d;
        least += unit * fmin(m + d, m * d);
    }
    const double allowed = b->fraction > 0.0 ? floor(b->fraction * all + 1e-9)
                                             : b->absolute; /* 0.7 * n in doubles may fall below its integer */
    *budget = allowed - (all - dense);
    *keep = b->fraction > 0.0 && all == dense ? b->fraction : *budget / dense;
    if (*budget >= least) return LT_OK;
    return lt_fail(err, LT_ETARGET, "keep %s=%.6g of %.0f cannot be met: rank 1 everywhere still leaves %.0f, or %.4f",
                   lt_budget_name(b->of), b->fraction > 0.0 ? b->fraction : b->absolute, all, all - dense + least,
                   (all - dense + least) / all);
}
