/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/healing_run.h"

#include <math.h>

#include "io/file.h"
#include "pipeline/healing_step.h"
#include "pipeline/result.h"

/* ---- what is written ---- */

static lt_status save_adapter(lt_healing *x, lt_err *err) {
    char *folder;
    if (!x->h.trainee->adapters) return LT_OK;
    LT_TRY(lt_outdir_file(&folder, &x->out, "adapter", err));
    lt_status st = lt_remove_tree(folder, err);
    if (st == LT_OK) st = lt_adapters_save(x->h.trainee->adapters, folder, x->source.id, err);
    lt_free(folder);
    return st;
}

/* What was written is measured on its own: neither what trained nor what it came from has to be resident. */
static void make_room(lt_healing *x) {
    lt_param_info p;
    lt_trainee_let_go(x->h.trainee);
    for (size_t i = 0; lt_model_param(x->source.o.model, i, &p); i++) lt_tensor_drop(&p.param->t);
}

static lt_status save_model(lt_healing *x, lt_err *err) {
    const lt_lineage l = { .c = x->c,
                           .settings = x->settings,
                           .parent = x->source.o.model,
                           .parent_hash = x->source.hash,
                           .tokenizer = x->source.o.tokenizer,
                           .training = x->training,
                           .form = "ablinear" };
    const lt_export_target *target;
    char *folder;
    LT_TRY(lt_export_find(&target, "ablinear", err));
    LT_TRY(lt_heal_merge(&x->h, x->c, err));
    LT_TRY(lt_outdir_file(&folder, &x->out, "model", err));
    const lt_status st = lt_produce(&x->made, &l, &x->h.trainee->model, target,
                                    lt_heal_dtype(x->c->args, x->source.o.model), folder, err);
    lt_free(folder);
    if (st == LT_OK) make_room(x);
    return st;
}

/* ---- what is told ---- */

static void add_table(json_t *r, const lt_healing *x, double saved) {
    static const char *const columns[] = { "trained",   "steps",      "targets",   "first loss",
                                           "last loss", "ppl before", "ppl after", "ppl as saved" };
    const lt_run_done *d = &x->h.done;
    json_t *rows = lt_result_table(r, "", columns, LT_COUNTOF(columns));
    const bool valid = x->h.valid.n > 0;
    lt_result_row(rows, "zzzddjjj", x->h.trainee->n_values, d->steps, d->targets, d->first_loss, d->last_loss,
                  valid ? lt_result_real(exp(d->valid_before)) : json_null(),
                  valid ? lt_result_real(exp(d->valid_after)) : json_null(),
                  valid && x->made.model ? lt_result_real(saved) : json_null());
}

static lt_status report(lt_healing *x, json_t **result, lt_err *err) {
    double saved = NAN;
    json_t *r = lt_result_new(x->c);
    if (x->made.model) LT_TRY(lt_heal_measure(&saved, &x->h, x->made.model, x->c->team, err));
    if (x->made.model && x->h.valid.n)
        json_object_set_new(json_object_get(x->training, "validation"), "ppl_saved", lt_result_real(saved));
    json_object_update_new(r, json_pack("{s:{s:s, s:s}, s:O}", "source", "model", x->source.id, "hash", x->source.hash,
                                        "training", x->training));
    if (x->made.model)
        json_object_update_new(r, json_pack("{s:{s:s, s:I, s:I}, s:{s:s, s:o}}", "model", "hash", x->made.hash,
                                            "params", (json_int_t)lt_model_n_params(x->made.model), "bytes",
                                            (json_int_t)lt_model_bytes(x->made.model), "verified", "by",
                                            "lathe's reader: every tensor, logits of a fixed batch", "logit_gap",
                                            lt_result_real(x->made.gap)));
    add_table(r, x, saved);
    return lt_result_finish(result, r, err);
}

static lt_status run(lt_healing *x, json_t **result, lt_err *err) {
    const lt_heal_in in = { .c = x->c,
                            .out = &x->out,
                            .model = x->source.o.model,
                            .tokenizer = x->source.o.tokenizer,
                            .o = &x->o,
                            .merge = x->merge };
    json_t *r = NULL;
    LT_TRY(lt_heal(&x->h, &in, err));
    if (!(x->training = lt_heal_json(&x->h, &x->o))) return lt_fail(err, LT_ENOMEM, "heal: out of memory");
    LT_TRY(save_adapter(x, err));
    if (x->merge) LT_TRY(save_model(x, err));
    LT_TRY(report(x, &r, err));
    const lt_status st = lt_heal_sweep(&x->out, err);
    if (st == LT_OK) return lt_outdir_give(result, &x->out, x->c, r, x->started, err);
    json_decref(r);
    return st;
}

lt_status lt_healing_run(lt_healing *x, json_t **result, lt_err *err) {
    return lt_outdir_kept(&x->out, run(x, result, err), err);
}

void lt_healing_clear(lt_healing *x) {
    lt_produced_clear(&x->made);
    lt_healed_clear(&x->h);
    lt_outdir_close(&x->out);
    json_decref(x->settings);
    json_decref(x->training);
    lt_heal_opts_clear(&x->o);
    lt_subject_clear(&x->source);
}
