/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/method.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "compress/lowrank_method.h"
#include "compress/module_weight.h"
#include "compress/rows.h"
#include "compress/targets.h"

extern const lt_method lt_method_lathe, lt_method_sequential, lt_method_whitened, lt_method_weight_svd,
    lt_method_utilized, lt_method_utilized_biased, lt_method_projected, lt_method_hybrid, lt_method_asvd,
    lt_method_two_sided, lt_method_energy, lt_method_search, lt_method_output_gram;
const lt_method *const lt_methods[] = { &lt_method_lathe,       &lt_method_sequential,
                                        &lt_method_whitened,    &lt_method_weight_svd,
                                        &lt_method_asvd,        &lt_method_two_sided,
                                        &lt_method_energy,      &lt_method_utilized,
                                        &lt_method_hybrid,      &lt_method_utilized_biased,
                                        &lt_method_projected,   &lt_method_search,
                                        &lt_method_output_gram, NULL };

static const char *const loaders[] = { "lathe", "hf", NULL };

static const char *method_name(size_t i) {
    return lt_methods[i] ? lt_methods[i]->name : NULL;
}
static const char *loader_name(size_t i) {
    return loaders[i];
}
lt_status lt_method_find(const lt_method **out, const char *name, lt_err *err) {
    size_t i;
    LT_TRY(lt_find_row(&i, "method", name, method_name, err));
    *out = lt_methods[i];
    return LT_OK;
}

/* ---- parameters ---- */

static const lt_method_param *find_param(const lt_method *m, const char *name) {
    for (const lt_method_param *p = m->params; p && p->name; p++)
        if (strcmp(p->name, name) == 0) return p;
    return NULL;
}

static bool in_choices(const char *choices, const char *value) {
    const size_t n = strlen(value);
    for (const char *c = choices; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
        if (strncmp(c, value, n) == 0 && (c[n] == 0 || c[n] == '|')) return true;
    return false;
}

/* A JSON number, or text that is one. */
static bool number_of(double *out, const json_t *value) {
    const char *text = json_string_value(value);
    if (json_is_number(value)) return *out = json_number_value(value), true;
    if (!text || !*text) return false;
    json_t *parsed = json_loads(text, JSON_DECODE_ANY, NULL);
    const bool ok = json_is_number(parsed);
    if (ok) *out = json_number_value(parsed);
    json_decref(parsed);
    return ok;
}

static lt_status check_number(const lt_method *m, const lt_method_param *p, const json_t *value, lt_err *err) {
    double v;
    if (number_of(&v, value) && v >= p->lo && v <= p->hi && (strcmp(p->type, "int") != 0 || v == floor(v)))
        return LT_OK;
    return lt_fail(err, LT_EUSAGE, "%s: %s must be %s within %g and %g", m->name, p->name,
                   strcmp(p->type, "int") == 0 ? "a whole number" : "a number", p->lo, p->hi);
}

static lt_status check_param(const lt_method *m, const char *name, const json_t *value, lt_err *err) {
    const lt_method_param *p = find_param(m, name);
    if (!p) return lt_fail(err, LT_EUSAGE, "method %s has no parameter \"%s\"", m->name, name);
    const char *text = json_string_value(value);
    if (strcmp(p->type, "real") == 0 || strcmp(p->type, "int") == 0) return check_number(m, p, value, err);
    if (strcmp(p->type, "text") == 0 && text) return LT_OK;
    if (!text || !p->choices || !in_choices(p->choices, text))
        return lt_fail(err, LT_EUSAGE, "%s: %s must be one of %s", m->name, name, p->choices);
    return LT_OK;
}

static lt_status check_params(const lt_method *m, const json_t *params, lt_err *err) {
    const char *name;
    json_t *value;
    if (!params) return LT_OK;
    json_object_foreach((json_t *)params, name, value) LT_TRY(check_param(m, name, value, err));
    return LT_OK;
}

const char *lt_method_choice(const lt_method *m, const json_t *params, const char *name) {
    const lt_method_param *p = find_param(m, name);
    const char *said = json_string_value(json_object_get(params, name));
    return !p ? NULL : said ? said : p->dflt;
}

double lt_method_number(const lt_method *m, const json_t *params, const char *name) {
    const lt_method_param *p = find_param(m, name);
    double v = 0.0;
    json_t *dflt = p ? json_string(p->dflt) : NULL;
    if (p && !number_of(&v, json_object_get(params, name))) number_of(&v, dflt);
    json_decref(dflt);
    return v;
}

static json_t *param_json(const lt_method *m, const json_t *params, const lt_method_param *p) {
    if (strcmp(p->type, "int") == 0) return json_integer((json_int_t)lt_method_number(m, params, p->name));
    if (strcmp(p->type, "real") == 0) return json_real(lt_method_number(m, params, p->name));
    return json_string(lt_method_choice(m, params, p->name));
}

/* ---- the head of a plan ---- */

static json_t *list_of(const char *const *text) {
    json_t *list = json_array();
    for (size_t i = 0; text && text[i]; i++) json_array_append_new(list, json_string(text[i]));
    return list;
}

/* Everything that decided the cuts: budget and allocator, then the method's own parameters as they were used. */
static json_t *params_of(const lt_method *m, const lt_plan_in *in) {
    const lt_budget *b = &in->budget;
    const bool budget = b->fraction > 0.0 || b->absolute > 0.0;
    json_t *o = budget ? json_pack("{s:{s:f}, s:s}", "keep", lt_budget_name(b->of),
                                   b->fraction > 0.0 ? b->fraction : b->absolute, "allocate",
                                   in->allocate ? in->allocate : "global")
                       : json_object();
    if (!o) return NULL;
    if (budget && (!in->allocate || strcmp(in->allocate, "global") == 0)) {
        json_object_set_new(o, "weights", json_string(in->weights));
        json_object_set_new(o, "floor", json_real(in->floor));
        json_object_set_new(o, "allow_dense", json_boolean(in->allow_dense));
    }
    if (!budget && in->allocate) json_object_set_new(o, "allocate", json_string(in->allocate));
    if (in->policy) json_object_set_new(o, "policy", json_string(in->policy->name));
    if (in->probe) json_object_set_new(o, "probe", json_string(in->probe->what));
    if (in->ranks) json_object_set_new(o, "ranks", json_string("from a file"));
    if (in->align > 1) json_object_set_new(o, "align", json_integer((json_int_t)in->align));
    if (in->include) json_object_set_new(o, "include", list_of(in->include));
    if (in->exclude) json_object_set_new(o, "exclude", list_of(in->exclude));
    if (in->include_head) json_object_set_new(o, "include_head", json_true());
    if (in->parts) json_object_set_new(o, "parts", json_true());
    if (in->without_errors) json_object_set_new(o, "errors", json_false());
    for (const lt_method_param *p = m->params; p && p->name; p++)
        json_object_set_new(o, p->name, param_json(m, in->params, p));
    return o;
}

static lt_status set_member(json_t *o, const char *key, json_t *value, lt_err *err) {
    return value && json_object_set_new(o, key, value) == 0 ? LT_OK : lt_fail(err, LT_ENOMEM, "plan: out of memory");
}

static lt_status start_head(lt_plan *p, const lt_plan_in *in, lt_err *err) {
    if (!p->head && !(p->head = json_object())) return lt_fail(err, LT_ENOMEM, "plan: out of memory");
    LT_TRY(set_member(p->head, "format", json_string("lathe-plan/1"), err));
    LT_TRY(set_member(p->head, "model", json_pack("{s:s}", "hash", in->model_hash), err));
    if (in->stats)
        LT_TRY(set_member(p->head, "stats",
                          json_pack("{s:s, s:s*}", "hash", lt_stats_hash(in->stats), "tokens_hash",
                                    lt_stats_meta(in->stats, "tokens_hash")),
                          err));
    LT_TRY(set_member(p->head, "for", json_string(in->target_loader ? in->target_loader : "lathe"), err));
    if (json_is_array(json_object_get(p->head, "made_by"))) return LT_OK;
    return set_member(p->head, "made_by", json_array(), err);
}

static lt_status add_made_by(lt_plan *p, const lt_method *m, const lt_plan_in *in, lt_err *err) {
    json_t *params = params_of(m, in);
    json_t *entry = params ? json_pack("{s:s, s:o}", "method", m->name, "params", params) : NULL;
    if (entry && json_array_append_new(json_object_get(p->head, "made_by"), entry) == 0) return LT_OK;
    return lt_fail(err, LT_ENOMEM, "plan: out of memory");
}

/* ---- making one ---- */

/* "gram": of inputs; "grad.gram": of the gradients of outputs; "output.gram": of outputs, imported. */
static bool has_need(const char *need, const lt_stats *stats) {
    static const struct {
        const char *prefix;
        lt_stats_kind kind;
    } kinds[] = { { "grad.", LT_STATS_GRAD }, { "output.", LT_STATS_OUTPUT }, { "output.", LT_STATS_BIASED } };
    const char *stat = strchr(need, '.') ? strchr(need, '.') + 1 : need;
    for (size_t i = 0; i < lt_stats_n_sites(stats); i++) {
        const lt_stats_site site = lt_stats_site_at(stats, i);
        bool fits = stat == need && site.kind == LT_STATS_INPUT;
        for (size_t k = 0; stat != need && k < LT_COUNTOF(kinds); k++)
            fits |= strncmp(need, kinds[k].prefix, strlen(kinds[k].prefix)) == 0 && site.kind == kinds[k].kind;
        if (fits && lt_stats_have(stats, site.name, stat)) return true;
        if (strcmp(need, "gram") == 0 && site.kind == LT_STATS_SPECTRUM) return true; /* enough to plan */
    }
    return false;
}

static lt_status check_need(const lt_method *m, const char *need, const lt_stats *stats, lt_err *err) {
    if (has_need(need, stats)) return LT_OK;
    if (strncmp(need, "output.", 7) == 0)
        return lt_fail(err, LT_EDATA, "stats hold no output Grams, which method %s needs: `lathe stats import`",
                       m->name);
    return lt_fail(err, LT_EDATA,
                   "stats lack %s, which method %s needs: run `lathe calibrate MODEL --data FILE --methods %s`", need,
                   m->name, m->name);
}

static lt_status check_words(const lt_method *m, const lt_plan_in *in, lt_err *err) {
    size_t row;
    const lt_allocator *a;
    const lt_weighting *weighting;
    LT_TRY(check_params(m, in->params, err));
    LT_TRY(lt_find_row(&row, "loader", in->target_loader ? in->target_loader : "lathe", loader_name, err));
    LT_TRY(lt_allocator_find(&a, in->allocate ? in->allocate : "global", err));
    LT_TRY(lt_weighting_find(&weighting, in->weights, err));
    LT_REQUIRE(err, in->floor >= 0.0 && in->floor <= 1.0, "floor must be within 0 and 1, got %g", in->floor);
    return LT_OK;
}

/* The head's inputs are summed where they are asked for. */
static lt_status check_head(const lt_plan_in *in, lt_err *err) {
    lt_stats_site site;
    bool whole;
    if (!in->include_head || in->model->config.tied) return LT_OK;
    for (int kind = 0; kind < LT_N_STATS_KINDS; kind++)
        if (lt_stats_of_linear(in->stats, (lt_stats_kind)kind, &in->model->head, &site, &whole)) return LT_OK;
    return lt_fail(err, LT_EDATA,
                   "stats lack the head's inputs: run `lathe calibrate MODEL --data FILE --include-head` (%s)",
                   in->model->head.name);
}

static lt_status check_stats(const lt_method *m, const lt_plan_in *in, lt_err *err) {
    if (m->needs.stats[0] && !in->stats)
        return lt_fail(err, LT_EUSAGE, "method %s needs stats: run `lathe calibrate MODEL --data FILE --methods %s`",
                       m->name, m->name);
    for (size_t i = 0; m->needs.stats[i]; i++) LT_TRY(check_need(m, m->needs.stats[i], in->stats, err));
    if (!in->stats) return LT_OK;
    LT_TRY(lt_stats_check_model(in->stats, in->model_hash, err));
    return m->needs.stats[0] ? check_head(in, err) : LT_OK;
}

/* The method, and what is asked of it with its defaults filled in. */
static lt_status read_request(const lt_method **m, lt_plan_in *in, const char *method, lt_err *err) {
    LT_TRY(lt_method_find(m, method, err));
    if (!in->weights) in->weights = (*m)->weights ? (*m)->weights : "relative";
    return check_words(*m, in, err);
}

lt_status lt_plan_check_request(const char *method, const lt_plan_in *given, lt_err *err) {
    const lt_method *m;
    lt_plan_in in = *given;
    lt_targets t = { 0 };
    LT_TRY(read_request(&m, &in, method, err));
    double budget, keep;
    lt_status st = lt_targets_select(&t, &in, err);
    if (st == LT_OK && lt_budget_given(&in.budget)) st = lt_targets_budget(&budget, &keep, &t, &in, err);
    lt_free(t.module);
    return st;
}

lt_status lt_make_plan(lt_plan *p, const char *method, const lt_plan_in *given, lt_err *err) {
    const lt_method *m;
    lt_plan_in all = *given;
    const lt_plan_in *in = &all;
    LT_TRY(read_request(&m, &all, method, err));
    LT_TRY(check_stats(m, in, err));
    if (p->head) LT_TRY(lt_plan_check(p, in->model, in->model_hash, in->stats, err));
    LT_TRY(start_head(p, in, err));
    LT_TRY(add_made_by(p, m, in, err));
    LT_TRY(m->plan(p, in, err));
    if (in->frontier) return LT_OK;
    return lt_plan_cost(p, in->model, err);
}
