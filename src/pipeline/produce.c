/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/produce.h"

#include <math.h>
#include <string.h>

#include "io/file.h"
#include "model/spill.h"

#define JOURNAL_SECONDS 10.0 /* small models are done before anything is written */

double lt_rounding_gap(lt_dtype t) {
    switch (t) {
    case LT_Q4_0:
        return 2.0;
    case LT_Q8_0:
    case LT_BF16:
        return 0.1;
    case LT_F16:
        return 0.02;
    default:
        return 1e-4;
    }
}

static double allowed_gap(const lt_model *m, const lt_export_target *target, lt_dtype asked) {
    lt_param_info p;
    lt_module mod;
    double gap = target->max_logit_gap;
    bool product = false;
    for (size_t i = 0; lt_model_param(m, i, &p); i++) {
        const lt_dtype to = lt_export_dtype(target, p.param->t.dtype, asked);
        if (to != p.param->t.dtype) gap = fmax(gap, lt_rounding_gap(to));
    }
    for (size_t i = 0; target->form == LT_FORM_DENSE && lt_model_module(m, i, &mod); i++) {
        if (mod.linear->n_stages < 2) continue;
        product = true;
        gap = fmax(gap, lt_rounding_gap(lt_export_dtype(target, mod.linear->stage[1].w.t.dtype, asked)));
    }
    const bool exact = target->form == LT_FORM_DENSE && !target->is_file && !product && gap == target->max_logit_gap;
    return exact ? 0.0 : gap;
}

static const char *method_of(const lt_plan *p) {
    const json_t *by = p ? json_array_get(json_object_get(p->head, "made_by"), 0) : NULL;
    return json_string_value(json_object_get(by, "method"));
}

lt_status lt_produced_open(lt_produced *out, const lt_call_ctx *c, double gap, const char *folder, lt_err *err) {
    *out = (lt_produced){ .gap = gap };
    LT_TRY(lt_model_open(&out->model, folder, err));
    const lt_status st = lt_model_hash(out->model, c->ctx->threads, out->hash, err);
    if (st != LT_OK) lt_produced_clear(out);
    return st;
}

/* lathe.json and README.md in folder, of the model at path. */
static lt_status describe(lt_produced *out, const lt_lineage *l, double gap, const char *path, const char *folder,
                          lt_err *err) {
    LT_TRY(lt_produced_open(out, l->c, gap, path, err));
    lt_status st = lt_manifest_write(l, out->model, out->hash, folder, err);
    if (st == LT_OK) st = lt_card_write(l, out->model, NULL, folder, err);
    if (st != LT_OK) lt_produced_clear(out);
    return st;
}

static lt_status write(const lt_lineage *l, const lt_model *made, const lt_export_target *target, lt_dtype dtype,
                       const char *path, lt_err *err) {
    char *id = lt_model_id(l->parent);
    const lt_save_opts opts = { .form = target->form, .dtype = dtype, .method = method_of(l->plan), .name = id };
    lt_status st = id ? lt_remove_tree(path, err) : lt_fail(err, LT_ENOMEM, "%s: out of memory", path);
    if (st == LT_OK) st = target->write(made, path, &opts, l->c->ctx, err);
    if (st == LT_OK && !target->is_file) st = lt_companions_copy(l, path, err);
    lt_free(id);
    return st;
}

lt_status lt_produce(lt_produced *out, const lt_lineage *l, const lt_model *made, const lt_export_target *target,
                     lt_dtype dtype, const char *path, lt_err *err) {
    double gap = 0.0;
    LT_TRY(write(l, made, target, dtype, path, err));
    LT_TRY(lt_progress(l->c->ctx, err, "verify", 0, 0, "tensors"));
    LT_TRY(lt_verify_model(&gap, made, path, allowed_gap(made, target, dtype), l->c->team, err));
    if (target->check) LT_TRY(target->check(made, path, err));
    char *folder = target->is_file ? lt_path_folder(path) : lt_strdup(path);
    const lt_status st =
        folder ? describe(out, l, gap, path, folder, err) : lt_fail(err, LT_ENOMEM, "%s: out of memory", path);
    lt_free(folder);
    return st;
}

typedef struct checking {
    const lt_model *m;
    size_t first;
} checking;

static lt_status check_layer(void *user, size_t i, lt_err *err) {
    const checking *k = user;
    return lt_model_check_finite(k->m, (int)(k->first + i), err);
}

lt_status lt_check_weights(const lt_call_ctx *c, const lt_model *m, const char *stage, lt_err *err) {
    const size_t n = m->config.n_layers, step = (size_t)c->team->threads;
    LT_TRY(lt_model_check_finite(m, -1, err));
    for (checking k = { .m = m }; k.first < n; k.first += step) {
        const size_t some = lt_min_size(step, n - k.first);
        LT_TRY(lt_team_for(c->team, some, check_layer, &k, err));
        LT_TRY(lt_progress(c->ctx, err, stage, (double)(k.first + some), (double)n, "layers"));
    }
    return LT_OK;
}

/* Models may be larger than memory, and so may be what is made of them. */
static lt_status set_spill(lt_overlay *o, const lt_ctx *ctx, const char *folder, lt_err *err) {
    if (!ctx->max_memory) return LT_OK;
    char *spill = lt_spill_folder(ctx, folder);
    const lt_status st = spill ? lt_overlay_spill(o, lt_spill_limit(ctx), spill, err)
                               : lt_fail(err, LT_ENOMEM, "out of memory (%s)", folder);
    lt_free(spill);
    return st;
}

lt_status lt_produce_cut(lt_produced *out, const lt_lineage *l, lt_dtype dtype, const char *folder,
                         const lt_tokens *tokens, const char *journal, lt_err *err) {
    lt_fit_errors errors = { 0 };
    const lt_apply_in in = { .model = l->parent,
                             .stats = l->stats,
                             .team = l->c->team,
                             .ctx = l->c->ctx,
                             .dtype = dtype,
                             .tokens = tokens,
                             .errors = &errors,
                             .journal = journal,
                             .journal_seconds = JOURNAL_SECONDS };
    const lt_export_target *target;
    lt_overlay *o;
    LT_TRY(lt_export_find(&target, "ablinear", err));
    LT_TRY(lt_plan_check(l->plan, l->parent, l->parent_hash, l->stats, err));
    LT_TRY(lt_check_weights(l->c, l->parent, "check weights", err));
    LT_TRY(lt_overlay_create(&o, l->parent, err));
    lt_status st = set_spill(o, l->c->ctx, folder, err);
    if (st == LT_OK) st = lt_plan_apply(o, l->plan, &in, err);
    if (st == LT_OK) st = lt_produce(out, l, lt_overlay_model(o), target, dtype, folder, err);
    if (st == LT_OK) out->errors = errors;
    lt_overlay_destroy(o);
    return st;
}

void lt_produced_clear(lt_produced *p) {
    lt_model_destroy(p->model);
    p->model = NULL;
}

lt_dtype lt_dtype_option(const lt_args *a) {
    lt_dtype t;
    const char *name = lt_arg_string(a, "dtype");
    return name && lt_dtype_find(name, &t) ? t : LT_N_DTYPES;
}
