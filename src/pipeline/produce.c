/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/produce.h"

#include <math.h>
#include <string.h>

#include "io/file.h"

/* What one rounding of every weight may move the logits by, relative to the largest. Same dtype: nothing. The bounds
 * are generous on purpose: each stored number has been compared already, and a wrong config or name is off by far more.
 */
static double rounding_gap(lt_dtype t) {
    switch (t) {
    case LT_BF16:
        return 0.1;
    case LT_F16:
        return 0.02;
    default:
        return 1e-4;
    }
}

static lt_dtype written_as(lt_dtype stored, lt_dtype asked) {
    if (asked != LT_N_DTYPES) return asked;
    return lt_dtype_get(stored)->block > 1 ? LT_BF16 : stored;
}

static double allowed_gap(const lt_model *m, const lt_export_target *target, lt_dtype asked) {
    lt_param_info p;
    lt_module mod;
    double gap = target->max_logit_gap;
    bool product = false;
    for (size_t i = 0; lt_model_param(m, i, &p); i++) {
        const lt_dtype to = written_as(p.param->t.dtype, asked);
        if (to != p.param->t.dtype) gap = fmax(gap, rounding_gap(to));
    }
    for (size_t i = 0; target->form == LT_FORM_DENSE && lt_model_module(m, i, &mod); i++) {
        if (mod.linear->n_stages < 2) continue;
        product = true;
        gap = fmax(gap, rounding_gap(written_as(mod.linear->stage[1].w.t.dtype, asked)));
    }
    return target->form == LT_FORM_DENSE && !product && gap == target->max_logit_gap ? 0.0 : gap;
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

static lt_status describe(lt_produced *out, const lt_lineage *l, double gap, const char *folder, lt_err *err) {
    LT_TRY(lt_produced_open(out, l->c, gap, folder, err));
    lt_status st = lt_manifest_write(l, out->model, out->hash, folder, err);
    if (st == LT_OK) st = lt_card_write(l, out->model, NULL, folder, err);
    if (st != LT_OK) lt_produced_clear(out);
    return st;
}

lt_status lt_produce(lt_produced *out, const lt_lineage *l, const lt_model *made, const lt_export_target *target,
                     lt_dtype dtype, const char *folder, lt_err *err) {
    const lt_save_opts opts = { .form = target->form, .dtype = dtype, .method = method_of(l->plan) };
    double gap = 0.0;
    LT_TRY(lt_remove_tree(folder, err));
    LT_TRY(lt_model_save(made, folder, &opts, l->c->ctx, err));
    LT_TRY(lt_companions_copy(l, folder, err));
    LT_TRY(lt_progress(l->c->ctx, err, "verify", 0, 0, "tensors"));
    LT_TRY(lt_verify_model(&gap, made, folder, allowed_gap(made, target, dtype), l->c->team, err));
    return describe(out, l, gap, folder, err);
}

static lt_status check_weights(const lt_lineage *l, lt_err *err) {
    const size_t n = l->parent->config.n_layers;
    LT_TRY(lt_model_check_finite(l->parent, -1, err));
    for (size_t i = 0; i < n; i++) {
        LT_TRY(lt_model_check_finite(l->parent, (int)i, err));
        LT_TRY(lt_progress(l->c->ctx, err, "check weights", (double)(i + 1), (double)n, "layers"));
    }
    return LT_OK;
}

lt_status lt_produce_cut(lt_produced *out, const lt_lineage *l, lt_dtype dtype, const char *folder, lt_err *err) {
    const lt_apply_in in = {
        .model = l->parent, .stats = l->stats, .team = l->c->team, .ctx = l->c->ctx, .dtype = dtype
    };
    const lt_export_target *target;
    lt_overlay *o;
    LT_TRY(lt_export_find(&target, "ablinear", err));
    LT_TRY(lt_plan_check(l->plan, l->parent, l->parent_hash, l->stats, err));
    LT_TRY(check_weights(l, err));
    LT_TRY(lt_overlay_create(&o, l->parent, err));
    lt_status st = lt_plan_apply(o, l->plan, &in, err);
    if (st == LT_OK) st = lt_produce(out, l, lt_overlay_model(o), target, dtype, folder, err);
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
