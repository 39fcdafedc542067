/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/verify_cut.h"

#include <string.h>

#include "export/export.h"

typedef struct checking {
    const lt_model *parent, *made;
    json_t *ranks; /* module or part of the parent, by the parent's name: rank */
    lt_cut_check *out;
    lt_err *err;
} checking;

/* ---- what was cut ---- */
static lt_status no_memory(const checking *k) {
    return lt_fail(k->err, LT_ENOMEM, "out of memory (%s)", k->made->path);
}

static lt_status ranks_of_plan(checking *k, const lt_plan *p) {
    for (size_t i = 0; i < p->n_cuts; i++) {
        const lt_cut *c = &p->cuts[i];
        lt_module mod;
        if (strcmp(c->kind->kind, "rank") != 0) {
            k->out->unchecked = c->kind->kind;
            return LT_OK;
        }
        if (!lt_model_find_module(k->parent, c->kind->target(c), &mod))
            return lt_fail(k->err, LT_EVERIFY, "the plan names a module that the parent has not (%s: %s)",
                           k->made->path, c->kind->target(c));
        if (json_object_set(k->ranks, mod.linear->name, json_object_get(c->json, "rank")) != 0) return no_memory(k);
    }
    return LT_OK;
}

static json_t *table_of(const lt_model *m) {
    return json_object_get(m->config.raw, "low_rank_modules");
}

static lt_status ranks_of_config(checking *k) {
    const char *module;
    json_t *v;
    json_object_foreach(table_of(k->made), module, v) {
        lt_module mod;
        const lt_linear *was =
            lt_model_find_module(k->made, module, &mod) ? lt_model_counterpart(k->parent, &mod) : NULL;
        if (!was) return lt_fail(k->err, LT_EVERIFY, "the parent has no such module (%s: %s)", k->made->path, module);
        if (lt_linear_rank(was) > 0) continue; /* was before */
        if (json_object_set(k->ranks, was->name, json_object_get(v, "rank")) != 0) return no_memory(k);
    }
    return LT_OK;
}

/* Whatever is factored, and was not in the parent. */
static lt_status ranks_of_factors(checking *k) {
    lt_module mod;
    for (size_t i = 0; lt_model_module(k->made, i, &mod); i++) {
        const lt_linear *was = lt_model_counterpart(k->parent, &mod);
        const size_t rank = lt_linear_rank(mod.linear);
        if (rank == 0 || !was || lt_linear_rank(was) > 0) continue;
        if (json_object_set_new(k->ranks, was->name, json_integer((json_int_t)rank)) != 0) return no_memory(k);
    }
    return LT_OK;
}

static lt_status find_ranks(checking *k, const lt_plan *plan) {
    if (!k->ranks) return no_memory(k);
    k->out->by = plan ? "plan.json" : table_of(k->made) ? "config.json" : NULL;
    return plan ? ranks_of_plan(k, plan) : k->out->by ? ranks_of_config(k) : ranks_of_factors(k);
}

/* ---- what is there ---- */
static lt_status same(const checking *k, const lt_param *a, const lt_param *b) {
    LT_TRY(lt_verify_values(a, b, k->err));
    k->out->n_same++;
    return LT_OK;
}

static lt_status has_rank(const checking *k, const lt_linear *a, const lt_linear *b, const json_t *rank) {
    const size_t got = lt_linear_rank(b);
    if (got != (size_t)json_integer_value(rank))
        return lt_fail(k->err, LT_EVERIFY, "rank is %zu, the plan says %lld (%s: %s)", got,
                       (long long)json_integer_value(rank), k->made->path, b->name);
    if (lt_linear_out(a) != lt_linear_out(b) || lt_linear_in(a) != lt_linear_in(b))
        return lt_fail(k->err, LT_EVERIFY, "widths are not the parent's (%s: %s)", k->made->path, b->name);
    k->out->n_cut++;
    return LT_OK;
}

/* Of what was made: parts that stand apart now were one matrix in the parent. */
static lt_status check_module(const checking *k, const lt_module *made) {
    const lt_linear *a = lt_model_counterpart(k->parent, made), *b = made->linear;
    if (!a) return lt_fail(k->err, LT_EVERIFY, "the parent has no such module (%s: %s)", k->made->path, b->name);
    const json_t *rank = json_object_get(k->ranks, a->name);
    if (rank) return has_rank(k, a, b, rank);
    if (a->n_stages != b->n_stages)
        return lt_fail(k->err, LT_EVERIFY, "factored, and the plan does not name it (%s: %s)", k->made->path, a->name);
    for (int s = 0; s < a->n_stages; s++) LT_TRY(same(k, &a->stage[s].w, &b->stage[s].w));
    if (!a->bias.name != !b->bias.name)
        return lt_fail(k->err, LT_EVERIFY, "a bias came or went, and the plan does not name the module (%s: %s)",
                       k->made->path, a->name);
    return a->bias.name ? same(k, &a->bias, &b->bias) : LT_OK;
}

static bool next_other(const lt_model *m, size_t *i, lt_param_info *p) {
    while (lt_model_param(m, (*i)++, p))
        if (!p->is_linear) return true;
    return false;
}

static lt_status check_all(const checking *k) {
    lt_module mod;
    lt_param_info a, b;
    if (k->made->config.n_layers != k->parent->config.n_layers || k->made->config.tied != k->parent->config.tied)
        return lt_fail(k->err, LT_EVERIFY, "the config does not describe the parent (%s)", k->made->path);
    for (size_t i = 0; lt_model_module(k->made, i, &mod); i++)
        if (mod.layer >= 0 || !k->made->config.tied) LT_TRY(check_module(k, &mod));
    for (size_t i = 0, n = 0; next_other(k->parent, &i, &a);) {
        if (!next_other(k->made, &n, &b) || strcmp(a.param->name, b.param->name) != 0)
            return lt_fail(k->err, LT_EVERIFY, "tensor is missing (%s: %s)", k->made->path, a.param->name);
        LT_TRY(same(k, a.param, b.param));
    }
    if (k->out->n_cut == json_object_size(k->ranks)) return LT_OK;
    return lt_fail(k->err, LT_EVERIFY, "modules that the plan names are not cut (%s)", k->made->path);
}

lt_status lt_verify_cut(lt_cut_check *out, const lt_model *parent, const lt_model *made, const lt_plan *plan,
                        lt_err *err) {
    *out = (lt_cut_check){ 0 };
    checking k = { .parent = parent, .made = made, .ranks = json_object(), .out = out, .err = err };
    lt_status st = find_ranks(&k, plan);
    if (st == LT_OK && !out->unchecked) st = check_all(&k);
    json_decref(k.ranks);
    return st;
}
