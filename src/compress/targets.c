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

enum { MAX_PARTS = 3 };

typedef struct selection {
    const lt_plan_in *in;
    lt_patterns include, exclude, of_parts; /* of_parts: those of both with a "#", which no name of a whole has */
} selection;

static void selection_clear(selection *s) {
    lt_patterns_clear(&s->include);
    lt_patterns_clear(&s->exclude);
    lt_patterns_clear(&s->of_parts);
}

static size_t count_patterns(const char *const *pattern) {
    size_t n = 0;
    while (pattern && pattern[n]) n++;
    return n;
}

static lt_status selection_init(selection *s, const lt_plan_in *in, lt_err *err) {
    const char *const *lists[] = { in->include, in->exclude };
    const char **sharp = lt_calloc(count_patterns(in->include) + count_patterns(in->exclude) + 1, sizeof *sharp);
    size_t n = 0;
    *s = (selection){ .in = in };
    if (!sharp) return lt_fail(err, LT_ENOMEM, "no memory for patterns");
    for (size_t l = 0; l < LT_COUNTOF(lists); l++)
        for (const char *const *p = lists[l]; p && *p; p++)
            if (strchr(*p, '#')) sharp[n++] = *p;
    lt_status st = lt_patterns_init(&s->include, in->include, err);
    if (st == LT_OK) st = lt_patterns_init(&s->exclude, in->exclude, err);
    if (st == LT_OK) st = lt_patterns_init(&s->of_parts, sharp, err);
    lt_free(sharp);
    return st;
}

static bool selected(const selection *s, const lt_module *m) {
    const char *name = m->linear->name;
    return (!s->include.n || lt_patterns_match(&s->include, name)) && !lt_patterns_match(&s->exclude, name);
}

static bool in_parts(const selection *s, const lt_module *fused) {
    lt_module part;
    bool named = s->in->parts;
    for (size_t i = 0; lt_module_part(fused, i, &part); i++)
        named |= lt_patterns_match(&s->of_parts, part.linear->name) ||
                 json_object_get(s->in->ranks, part.linear->name) != NULL;
    return named && lt_module_part(fused, 0, &part);
}

static void take(lt_targets *t, const selection *s, const lt_module *mod) {
    lt_module part;
    if (!in_parts(s, mod)) {
        if (selected(s, mod)) t->module[t->n++] = *mod;
        return;
    }
    for (size_t i = 0; lt_module_part(mod, i, &part); i++)
        if (selected(s, &part)) t->module[t->n++] = part;
}

lt_status lt_targets_select(lt_targets *out, const lt_plan_in *in, lt_err *err) {
    selection s = { 0 };
    lt_targets t = { 0 };
    lt_module mod;
    lt_status st;
    if (in->include_head && in->model->config.tied)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "the head is tied to the embedding: factoring it would add parameters (%s)",
                       in->model->head.name);
    LT_GO(selection_init(&s, in, err));
    t.module = lt_calloc(MAX_PARTS * count_modules(in->model) + 1, sizeof *t.module);
    if (!t.module) LT_GO(lt_fail(err, LT_ENOMEM, "no memory for the list of modules"));
    for (size_t i = 0; lt_model_module(in->model, i, &mod); i++)
        if (eligible(&mod, in)) take(&t, &s, &mod);
    if (t.n == 0)
        st = lt_fail(err, LT_EUSAGE, "no linear to cut: the patterns select none, or all are factored already (%s)",
                     in->model->path ? in->model->path : "model");
done:
    selection_clear(&s);
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
