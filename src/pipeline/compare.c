/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/compare.h"

#include <stdio.h>
#include <string.h>

#include "eval/kld.h"
#include "model/overlay.h"
#include "pipeline/require.h"
#include "pipeline/result.h"
#include "pipeline/speed.h"

const char *const lt_compare_names[] = { "ppl",  "kld.mean", "kld.median", "kld.p99", "kld.max",
                                         "top1", "params",   "bytes",      NULL };

typedef struct row {
    const char *id, *role, *hash; /* role: "base", "base q8_0", "unhealed", "model" */
    const lt_model *model;
    lt_kld_out kld;
    lt_speed speed;
} row;

typedef struct comparison {
    const lt_compare_in *in;
    lt_overlay *q8;
    row *row; /* base, q8_0 if there is one, models */
    size_t n;
} comparison;

/* ---- the rows ---- */
/* NULL (said in the log) where it would say nothing: rows that are no multiple of 32, or weights that are small
 * already. */
static lt_status make_q8(lt_overlay **out, const lt_compare_in *in, lt_err *err) {
    lt_err own = { 0 };
    *out = NULL;
    if (!in->q8) return LT_OK;
    LT_TRY(lt_overlay_create(out, in->base->o.model, err));
    const lt_status st = lt_overlay_quantize(*out, LT_Q8_0, &own);
    const bool smaller = st == LT_OK && lt_model_bytes(lt_overlay_model(*out)) < lt_model_bytes(in->base->o.model);
    if (smaller) return LT_OK;
    lt_overlay_destroy(*out);
    *out = NULL;
    if (st != LT_OK && st != LT_EUNSUPPORTED) return lt_fail(err, st, "%s", own.message);
    lt_log(in->c->ctx, LT_LOG_INFO, "no q8_0 row: %s",
           st == LT_OK ? "the base's weights are not larger than that" : own.message);
    return LT_OK;
}

/* The q8_0 row comes first among the compared and is filled last: its weights are memory of this process, which the
 * runs of the other rows would inherit. */
static lt_status make_rows(comparison *k, lt_err *err) {
    const lt_compare_in *in = k->in;
    LT_REQUIRE(err, in->n_models > 0 || in->q8, "compare: a model to compare with the base is needed");
    k->row = lt_calloc(3 + in->n_models, sizeof *k->row);
    if (!k->row) return lt_fail(err, LT_ENOMEM, "compare: out of memory");
    k->row[k->n++] = (row){ .id = in->base->id, .role = "base", .hash = in->base->hash, .model = in->base->o.model };
    if (in->unhealed)
        k->row[k->n++] = (row){
            .id = in->unhealed->id, .role = "unhealed", .hash = in->unhealed->hash, .model = in->unhealed->o.model
        };
    for (size_t i = 0; i < in->n_models; i++)
        k->row[k->n++] = (row){
            .id = in->models[i]->id, .role = "model", .hash = in->models[i]->hash, .model = in->models[i]->o.model
        };
    return LT_OK;
}

static lt_status add_q8_row(comparison *k, lt_err *err) {
    LT_TRY(make_q8(&k->q8, k->in, err));
    LT_REQUIRE(err, k->q8 || k->n > 1, "compare: a model to compare with the base is needed");
    if (!k->q8) return LT_OK;
    memmove(k->row + 2, k->row + 1, (k->n - 1) * sizeof *k->row);
    k->row[1] = (row){ .id = k->in->base->id, .role = "base q8_0", .model = lt_overlay_model(k->q8) };
    k->n++;
    return LT_OK;
}

static lt_status score(comparison *k, lt_err *err) {
    const lt_compare_in *in = k->in;
    lt_ctx ctx = *in->c->ctx; /* what the q8_0 copy holds is not there for the runs */
    const size_t copy = k->q8 ? lt_model_bytes(lt_overlay_model(k->q8)) : 0;
    if (ctx.max_memory) ctx.max_memory = ctx.max_memory > copy ? ctx.max_memory - copy : 1;
    const size_t n = k->n - 1;
    const lt_model **models = lt_calloc(n, sizeof *models);
    lt_kld_out *out = lt_calloc(n, sizeof *out);
    const lt_kld_in kld = { .base = in->base->o.model,
                            .models = models,
                            .n_models = n,
                            .tokens = in->tokens,
                            .team = in->c->team,
                            .ctx = &ctx };
    lt_status st = models && out ? LT_OK : lt_fail(err, LT_ENOMEM, "compare: out of memory");
    for (size_t i = 0; i < n && st == LT_OK; i++) models[i] = k->row[i + 1].model;
    if (st == LT_OK) st = lt_kld(out, &kld, err);
    for (size_t i = 0; i < n && st == LT_OK; i++) k->row[i + 1].kld = out[i];
    if (st == LT_OK)
        k->row[0].kld = (lt_kld_out){
            .top1 = 1.0, .ppl_model = out[0].ppl_base, .tokens = out[0].tokens, .windows = out[0].windows
        };
    lt_free(models);
    lt_free(out);
    return st;
}

static lt_status time_row(comparison *k, size_t i, lt_err *err) {
    const lt_compare_in *in = k->in;
    const lt_speed_in speed = { .c = in->c,
                                .model = k->row[i].model,
                                .ids = in->tokens->ids,
                                .prompt = lt_min_size(in->prompt, in->tokens->n_ids),
                                .new_tokens = in->new_tokens,
                                .at = i,
                                .of = 1 + in->n_models + in->q8 + (in->unhealed != NULL) };
    return in->speed ? lt_speed_measure(&k->row[i].speed, &speed, err) : LT_OK;
}

/* ---- as JSON ---- */
static json_t *row_json(const row *r) {
    const lt_kld_out *v = &r->kld;
    return json_pack("{s:s, s:s, s:s?, s:I, s:I, s:o, s:{s:o, s:o, s:o, s:o, s:o}, s:o}", "model", r->id, "role",
                     r->role, "hash", r->hash, "params", (json_int_t)lt_model_n_params(r->model), "bytes",
                     (json_int_t)lt_model_bytes(r->model), "ppl", lt_result_real(v->ppl_model), "kld", "mean",
                     lt_result_real(v->mean), "stderr", lt_result_real(v->stderr_mean), "median",
                     lt_result_real(v->median), "p99", lt_result_real(v->p99), "max", lt_result_real(v->max), "top1",
                     lt_result_real(v->top1));
}

static json_t *speed_json(const row *r) {
    const lt_speed *s = &r->speed;
    return json_pack("{s:s, s:s, s:f, s:f, s:I, s:I, s:I}", "model", r->id, "role", r->role, "prefill_tok_s",
                     s->prefill_tok_s, "decode_tok_s", s->decode_tok_s, "prompt", (json_int_t)s->prompt, "new_tokens",
                     (json_int_t)s->new_tokens, "peak_memory_bytes", (json_int_t)s->peak_bytes);
}

static const char *name_note(const comparison *k, const row *r) {
    if (strcmp(r->role, "base q8_0") == 0) return " as q8_0";
    if (strcmp(r->role, "unhealed") == 0) return ", compressed";
    return k->in->unhealed && strcmp(r->role, "model") == 0 ? ", healed" : "";
}

static void add_table(json_t *result, const comparison *k) {
    char title[256], label[32], name[160];
    const lt_compare_in *in = k->in;
    snprintf(label, sizeof label, "ppl_block_%zu", in->window);
    snprintf(title, sizeof title, "%.100s: %zu windows of %zu tokens, protocol block, recipe %.40s",
             in->tokens->source ? in->tokens->source : "tokens", in->tokens->n_rows, in->window,
             in->tokens->recipe ? in->tokens->recipe : "-");
    const char *const columns[] = { "model",   "parameters", "size|B",        label,          "KLD mean",
                                    "KLD p99", "same top-1", "prefill|tok/s", "decode|tok/s", "peak memory|B" };
    json_t *rows = lt_result_table(result, title, columns, in->speed ? 10 : 7);
    for (size_t i = 0; i < k->n; i++) {
        const row *r = &k->row[i];
        const lt_kld_out *v = &r->kld;
        const size_t params = lt_model_n_params(r->model), bytes = lt_model_bytes(r->model);
        snprintf(name, sizeof name, "%.120s%s", r->id, name_note(k, r));
        if (in->speed)
            lt_result_row(rows, "szzddddddz", name, params, bytes, v->ppl_model, v->mean, v->p99, v->top1,
                          r->speed.prefill_tok_s, r->speed.decode_tok_s, r->speed.peak_bytes);
        else
            lt_result_row(rows, "szzdddd", name, params, bytes, v->ppl_model, v->mean, v->p99, v->top1);
    }
}

static lt_status report(json_t *result, const comparison *k, lt_err *err) {
    json_t *models = json_array(), *speeds = json_array();
    int failed = !models || !speeds;
    for (size_t i = 0; i < k->n; i++) {
        failed = failed || json_array_append_new(models, row_json(&k->row[i])) != 0;
        if (k->in->speed) failed = failed || json_array_append_new(speeds, speed_json(&k->row[i])) != 0;
    }
    failed |= json_object_set_new(result, "protocol", lt_protocol_json("block", k->in->tokens, k->in->window)) != 0;
    failed |= json_object_set_new(result, "models", models) != 0;
    if (k->in->speed) failed |= json_object_set_new(result, "run", json_pack("{s:O}", "speed", speeds)) != 0;
    json_decref(speeds);
    if (failed) return lt_fail(err, LT_ENOMEM, "compare: out of memory");
    add_table(result, k);
    return LT_OK;
}

lt_status lt_compare(json_t *result, const lt_compare_in *in, lt_err *err) {
    comparison k = { .in = in };
    lt_status st = make_rows(&k, err);
    for (size_t i = 0; i < k.n && st == LT_OK; i++) st = time_row(&k, i, err);
    if (st == LT_OK) st = add_q8_row(&k, err);
    if (st == LT_OK && k.q8) st = time_row(&k, 1, err);
    if (st == LT_OK) st = score(&k, err);
    if (st == LT_OK) st = report(result, &k, err);
    lt_overlay_destroy(k.q8);
    lt_free(k.row);
    return st;
}

lt_status lt_compare_requires(const json_t *result, const lt_args *a, lt_err *err) {
    size_t i;
    json_t *record;
    json_array_foreach(json_object_get(result, "models"), i, record) {
        if (strcmp(json_string_value(json_object_get(record, "role")), "model") != 0) continue;
        LT_TRY(lt_requires_met(a, json_string_value(json_object_get(record, "model")), record, err));
    }
    return LT_OK;
}

static const json_t *record_of(const json_t *result, const char *role) {
    size_t i;
    json_t *record;
    json_array_foreach(json_object_get(result, "models"), i, record) {
        if (strcmp(json_string_value(json_object_get(record, "role")), role) == 0) return record;
    }
    return NULL;
}

json_t *lt_compare_card(const json_t *result) {
    const json_t *base = record_of(result, "base"), *model = record_of(result, "model"),
                 *p = json_object_get(result, "protocol");
    const json_t *kld = json_object_get(model, "kld");
    if (!base || !model) return NULL;
    json_t *what = json_sprintf("%s (%s, %lld windows)", json_string_value(json_object_get(p, "label")),
                                json_string_value(json_object_get(p, "data")),
                                (long long)json_integer_value(json_object_get(p, "windows")));
    return json_pack("[[o, O, O], [s, i, O], [s, i, O], [s, i, O]]", what, json_object_get(base, "ppl"),
                     json_object_get(model, "ppl"), "KL divergence to the parent, mean", 0,
                     json_object_get(kld, "mean"), "KL divergence to the parent, 99 %", 0, json_object_get(kld, "p99"),
                     "same most likely token", 1, json_object_get(model, "top1"));
}

lt_status lt_compare_estimate(lt_estimate *e, const lt_compare_in *in, lt_err *err) {
    double flops;
    const size_t runs = in->q8 ? 2 : 1, base_bytes = lt_model_bytes(in->base->o.model),
                 n_others = in->n_models + (in->unhealed != NULL);
    LT_TRY(lt_tokens_flops(&flops, in->base->o.model, in->tokens, true, err));
    *e = (lt_estimate){ .flops = flops * (double)runs, .memory_bytes = base_bytes + (in->q8 ? base_bytes / 2 : 0) };
    for (size_t i = 0; i < n_others; i++) {
        const lt_model *m = i < in->n_models ? in->models[i]->o.model : in->unhealed->o.model;
        LT_TRY(lt_tokens_flops(&flops, m, in->tokens, true, err));
        e->flops += flops;
        e->memory_bytes += lt_model_bytes(m);
    }
    e->memory_bytes += 2 * lt_model_exec_bytes(in->base->o.model, lt_min_size(in->tokens->n_ids, 2048));
    if (in->speed) {
        e->flops +=
            (double)(n_others + runs) * 3.0 * 2.0 * (double)lt_model_n_params(in->base->o.model) * (double)in->prompt;
        e->read_bytes = (double)(n_others + runs) * 3.0 * (double)(in->new_tokens * base_bytes);
    }
    return LT_OK;
}
