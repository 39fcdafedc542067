/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/plan.h"

#include <string.h>

#include "compress/drift.h"
#include "io/file.h"
#include "io/json.h"

#define FORMAT "lathe-plan/1"
static const char *const head_members[] = {
    "format", "model", "stats", "for", "made_by", "cost"
}; /* in the order they are written */

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "plan: out of memory");
}

static void cut_clear(lt_cut *c) {
    if (c->kind && c->parsed) c->kind->clear(c);
    json_decref(c->json);
}

void lt_plan_clear(lt_plan *p) {
    for (size_t i = 0; i < p->n_cuts; i++) cut_clear(&p->cuts[i]);
    lt_free(p->cuts);
    json_decref(p->head);
    json_decref(p->targets);
    *p = (lt_plan){ 0 };
}

/* ---- cuts ---- */

static lt_status find_kind(const lt_cut_kind **out, const json_t *cut, lt_err *err) {
    const char *name = json_string_value(json_object_get(cut, "kind"));
    if (!name) return lt_fail(err, LT_EDATA, "a cut needs a \"kind\"");
    for (size_t i = 0; lt_cut_kinds[i]; i++) {
        if (strcmp(lt_cut_kinds[i]->kind, name) != 0) continue;
        *out = lt_cut_kinds[i];
        return LT_OK;
    }
    return lt_fail(err, LT_EUNSUPPORTED, "unknown kind of cut \"%s\"", name);
}

static lt_status note_target(lt_plan *p, const lt_cut *c, lt_err *err) {
    if (!p->targets && !(p->targets = json_object())) return no_memory(err);
    char *key = lt_asprintf("%s %s", c->kind->kind, c->kind->target(c));
    if (!key) return no_memory(err);
    lt_status st = LT_OK;
    if (json_object_get(p->targets, key))
        st = lt_fail(err, LT_EDATA, "two cuts of one thing (plan: %s)", key);
    else if (json_object_set_new(p->targets, key, json_true()) != 0)
        st = no_memory(err);
    lt_free(key);
    return st;
}

static lt_status reserve_cut(lt_plan *p, lt_err *err) {
    if (p->n_cuts < p->cap_cuts) return LT_OK;
    const size_t cap = p->cap_cuts ? 2 * p->cap_cuts : 64;
    lt_cut *cuts = lt_realloc(p->cuts, cap * sizeof *cuts);
    if (!cuts) return no_memory(err);
    p->cuts = cuts;
    p->cap_cuts = cap;
    return LT_OK;
}

lt_status lt_plan_add(lt_plan *p, json_t *cut, lt_err *err) {
    lt_cut c = { .json = cut };
    lt_status st;
    if (!json_is_object(cut)) LT_GO(lt_fail(err, LT_EDATA, "a cut must be an object"));
    LT_GO(find_kind(&c.kind, cut, err));
    LT_GO(c.kind->parse(&c, err));
    LT_GO(reserve_cut(p, err));
    LT_GO(note_target(p, &c, err));
    p->cuts[p->n_cuts++] = c;
    return LT_OK;
done:
    cut_clear(&c);
    return st;
}

bool lt_plan_needs_stats(const lt_plan *p) {
    for (size_t i = 0; i < p->n_cuts; i++)
        if (p->cuts[i].kind->needs_stats(&p->cuts[i])) return true;
    return false;
}

bool lt_plan_needs_tokens(const lt_plan *p, const lt_model *m) {
    lt_drift_item item;
    for (size_t i = 0; i < p->n_cuts; i++)
        if (p->cuts[i].kind->drift && p->cuts[i].kind->drift(&p->cuts[i], m, &item)) return true;
    return false;
}

/* ---- reading ---- */

static lt_status check_head(const json_t *head, const char *name, lt_err *err) {
    const char *key, *format = json_string_value(json_object_get(head, "format"));
    json_t *value;
    if (!format || strcmp(format, FORMAT) != 0)
        return lt_fail(err, LT_EDATA, "not a plan: \"format\" is not \"" FORMAT "\" (%s)", name);
    json_object_foreach((json_t *)head, key, value) {
        bool found = strcmp(key, "cuts") == 0;
        for (size_t i = 0; i < LT_COUNTOF(head_members); i++) found |= strcmp(key, head_members[i]) == 0;
        if (!found) return lt_fail(err, LT_EDATA, "unknown member \"%s\" (%s)", key, name);
    }
    static const char *const objects[] = { "model", "stats", "cost" };
    for (size_t i = 0; i < LT_COUNTOF(objects); i++) {
        const json_t *o = json_object_get(head, objects[i]);
        if (o && !json_is_null(o) && !json_is_object(o))
            return lt_fail(err, LT_EDATA, "\"%s\" must be an object (%s)", objects[i], name);
    }
    return LT_OK;
}

static lt_status read_plan(lt_plan *p, json_t *root, const char *name, lt_err *err) {
    LT_TRY(check_head(root, name, err));
    json_t *cuts = json_object_get(root, "cuts");
    if (!json_is_array(cuts)) return lt_fail(err, LT_EDATA, "\"cuts\" must be a list (%s)", name);
    for (size_t i = 0; i < json_array_size(cuts); i++) {
        const lt_status st = lt_plan_add(p, json_incref(json_array_get(cuts, i)), err);
        if (st != LT_OK) return lt_context(err, st, "%s: cut %zu", name, i);
    }
    p->head = json_incref(root);
    json_object_del(root, "cuts");
    return LT_OK;
}

lt_status lt_plan_parse(lt_plan *p, const char *text, size_t bytes, const char *name, lt_err *err) {
    lt_plan q = { 0 };
    json_t *root = NULL;
    LT_TRY(lt_json_parse(&root, text, bytes, name, err));
    const lt_status st = json_is_object(root) ? read_plan(&q, root, name, err)
                                              : lt_fail(err, LT_EDATA, "not a plan: no JSON object (%s)", name);
    json_decref(root);
    if (st == LT_OK)
        *p = q;
    else
        lt_plan_clear(&q);
    return st;
}

lt_status lt_plan_load(lt_plan *p, const char *path, lt_err *err) {
    char *text = NULL;
    size_t bytes = 0;
    LT_TRY(lt_file_read(&text, &bytes, path, (size_t)1 << 30, err));
    const lt_status st = lt_plan_parse(p, text, bytes, path, err);
    lt_free(text);
    return st;
}

/* ---- writing ---- */

typedef struct out {
    char *text;
    size_t used, cap;
    bool failed;
} out;

static void put(out *o, const char *s) {
    const size_t n = strlen(s);
    if (!o->failed && o->used + n + 1 > o->cap) {
        const size_t cap = 2 * (o->used + n + 1);
        char *text = lt_realloc(o->text, cap);
        if (!text)
            o->failed = true;
        else
            o->text = text, o->cap = cap;
    }
    if (o->failed) return;
    memcpy(o->text + o->used, s, n + 1);
    o->used += n;
}

/* 15 digits: what people wrote (0.8) comes back as they wrote it, and a second trip changes nothing. */
static void put_json(out *o, const json_t *j) {
    char *text = json_dumps(j, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    if (text)
        put(o, text);
    else
        o->failed = true;
    free(text);
}

static void put_cuts(out *o, const lt_plan *p) {
    put(o, " \"cuts\": [");
    for (size_t i = 0; i < p->n_cuts; i++) {
        put(o, i ? ",\n  " : "\n  ");
        put_json(o, p->cuts[i].json);
    }
    put(o, "]");
}

char *lt_plan_text(const lt_plan *p) {
    out o = { 0 };
    put(&o, "{");
    for (size_t i = 0; i < LT_COUNTOF(head_members); i++) {
        const bool last = i + 1 == LT_COUNTOF(head_members); /* cost comes after the cuts */
        const json_t *value = json_object_get(p->head, head_members[i]);
        if (last) {
            put(&o, i ? ",\n" : "\n");
            put_cuts(&o, p);
        }
        if (!value) continue;
        put(&o, i ? ",\n \"" : "\n \"");
        put(&o, head_members[i]);
        put(&o, "\": ");
        put_json(&o, value);
    }
    put(&o, "}\n");
    if (!o.failed) return o.text;
    lt_free(o.text);
    return NULL;
}

lt_status lt_plan_save(const lt_plan *p, const char *path, lt_err *err) {
    char *text = lt_plan_text(p);
    if (!text) return no_memory(err);
    const lt_status st = lt_file_write(path, text, strlen(text), err);
    lt_free(text);
    return st;
}

/* ---- against a model ---- */

static const char *hash_in(const lt_plan *p, const char *member) {
    return json_string_value(json_object_get(json_object_get(p->head, member), "hash"));
}

/* One module, one cut: of whatever kind. */
static lt_status check_module(const lt_plan *p, const lt_module *mod, lt_err *err) {
    const lt_cut *first = NULL;
    for (size_t i = 0; i < p->n_cuts; i++) {
        const lt_cut *c = &p->cuts[i];
        if (!c->kind->touches(c, mod)) continue;
        if (first)
            return lt_fail(err, LT_EUNSUPPORTED, "two cuts change one module (%s: %s of %s, %s of %s)",
                           mod->linear->name, first->kind->kind, first->kind->target(first), c->kind->kind,
                           c->kind->target(c));
        first = c;
    }
    return LT_OK;
}

static lt_status check_cuts(const lt_plan *p, const lt_model *m, lt_err *err) {
    lt_module mod, part;
    for (size_t i = 0; i < p->n_cuts; i++) LT_TRY(p->cuts[i].kind->check(&p->cuts[i], m, err));
    for (size_t i = 0; lt_model_module(m, i, &mod); i++) {
        if (!lt_module_part(&mod, 0, &part)) LT_TRY(check_module(p, &mod, err));
        for (size_t k = 0; lt_module_part(&mod, k, &part); k++) LT_TRY(check_module(p, &part, err));
    }
    return LT_OK;
}

lt_status lt_plan_check(const lt_plan *p, const lt_model *m, const char *model_hash, const lt_stats *s, lt_err *err) {
    const char *of_model = hash_in(p, "model"), *of_stats = hash_in(p, "stats");
    if (of_model && model_hash && strcmp(of_model, model_hash) != 0)
        return lt_fail(err, LT_EDATA, "the plan was made for another model (plan: %s, model: %s)", of_model,
                       model_hash);
    if (s && model_hash) LT_TRY(lt_stats_check_model(s, model_hash, err));
    if (of_stats && s && strcmp(of_stats, lt_stats_hash(s)) != 0)
        return lt_fail(err, LT_EDATA, "the plan was made from other stats (plan: %s, stats: %s)", of_stats,
                       lt_stats_hash(s));
    return check_cuts(p, m, err);
}

static lt_status set_pair(json_t *o, const char *key, double before, double after, lt_err *err) {
    return json_object_set_new(o, key, json_pack("[I, I]", (json_int_t)before, (json_int_t)after)) == 0
               ? LT_OK
               : no_memory(err);
}

lt_status lt_plan_cost(lt_plan *p, const lt_model *m, lt_err *err) {
    const lt_cost all = { (double)lt_model_n_params(m), (double)lt_model_n_linear_params(m),
                          (double)lt_model_bytes(m) };
    lt_cost left = all;
    LT_TRY(check_cuts(p, m, err));
    for (size_t i = 0; i < p->n_cuts; i++) {
        const lt_cost before = p->cuts[i].kind->before(&p->cuts[i], m), after = p->cuts[i].kind->after(&p->cuts[i], m);
        left.params += after.params - before.params;
        left.linear_params += after.linear_params - before.linear_params;
        left.bytes += after.bytes - before.bytes;
    }
    json_t *cost = json_pack("{s:f, s:f}", "linears_kept", left.linear_params / all.linear_params, "params_kept",
                             left.params / all.params);
    if (!cost) return no_memory(err);
    json_t *predicted = json_object_get(json_object_get(p->head, "cost"), "predicted");
    lt_status st;
    LT_GO(set_pair(cost, "params", all.params, left.params, err));
    LT_GO(set_pair(cost, "bytes", all.bytes, left.bytes, err));
    if (predicted && json_object_set(cost, "predicted", predicted) != 0) LT_GO(no_memory(err));
    if (json_object_set(p->head, "cost", cost) != 0) st = no_memory(err);
done:
    json_decref(cost);
    return st;
}

/* ---- applying ---- */

static lt_status apply_kind(const lt_cut_kind *kind, const lt_cut **mine, lt_overlay *o, const lt_plan *p,
                            const lt_apply_in *in, lt_err *err) {
    size_t n = 0;
    for (size_t i = 0; i < p->n_cuts; i++)
        if (p->cuts[i].kind == kind) mine[n++] = &p->cuts[i];
    return n ? kind->fit(o, mine, n, in, err) : LT_OK;
}

/* The modules that are fitted to the inputs of the changed model, one layer after another. */
static lt_status apply_drift(lt_overlay *o, const lt_plan *p, const lt_apply_in *in, lt_err *err) {
    lt_drift_item *items = lt_calloc(p->n_cuts + 1, sizeof *items);
    size_t n = 0;
    if (!items) return no_memory(err);
    for (size_t i = 0; i < p->n_cuts; i++)
        if (p->cuts[i].kind->drift && p->cuts[i].kind->drift(&p->cuts[i], in->model, &items[n])) n++;
    const lt_drift_run run = { .overlay = o,
                               .original = in->model,
                               .tokens = in->tokens,
                               .journal = in->journal,
                               .dtype = in->dtype,
                               .team = in->team,
                               .ctx = in->ctx };
    const lt_status st = lt_drift_run_all(items, n, &run, err);
    lt_free(items);
    return st;
}

lt_status lt_plan_apply(lt_overlay *o, const lt_plan *p, const lt_apply_in *in, lt_err *err) {
    LT_TRY(check_cuts(p, in->model, err));
    if (lt_plan_needs_stats(p) && !in->stats)
        return lt_fail(err, LT_EUSAGE, "the plan's cuts are fitted from stats: give the stats file");
    if (lt_plan_needs_tokens(p, in->model) && !in->tokens)
        return lt_fail(err, LT_EUSAGE, "the plan's cuts are fitted to drifted inputs: give the text");
    const lt_cut **mine = lt_calloc(p->n_cuts + 1, sizeof *mine);
    if (!mine) return no_memory(err);
    lt_status st = LT_OK;
    for (size_t k = 0; lt_cut_kinds[k] && st == LT_OK; k++) st = apply_kind(lt_cut_kinds[k], mine, o, p, in, err);
    lt_free(mine);
    return st == LT_OK ? apply_drift(o, p, in, err) : st;
}
