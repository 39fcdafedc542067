/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/healing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "pipeline/result.h"
#include "train/checkpoint.h"

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "training: out of memory");
}

/* ---- data ---- */

static lt_status add_hashes(json_t *settings, const char *key, const char *const *files, lt_err *err) {
    json_t *list = json_array();
    char hex[LT_HASH_HEX];
    lt_status st = list ? LT_OK : no_memory(err);
    for (size_t i = 0; st == LT_OK && files && files[i]; i++) {
        lt_buffer map; /* opened once to see that it is a file: a pipe could not be read again by the next call */
        st = lt_map_open(&map, files[i], err);
        if (st == LT_OK) lt_map_close(&map);
        if (st == LT_OK) st = lt_hash_file(files[i], hex, err);
        if (st == LT_OK && json_array_append_new(list, json_string(hex)) != 0) st = no_memory(err);
    }
    if (st == LT_OK && json_object_set(settings, key, list) != 0) st = no_memory(err);
    json_decref(list);
    return st;
}

lt_status lt_heal_settings(json_t *settings, const lt_heal_opts *o, lt_err *err) {
    LT_TRY(add_hashes(settings, "data_hash", o->data, err));
    const char *const template[] = { o->template_file, NULL };
    LT_TRY(add_hashes(settings, "template_hash", template, err));
    return add_hashes(settings, "validation_data_hash", o->valid_data, err);
}

static json_t *note_json(const lt_corpus_note *n) {
    return json_pack("{s:I, s:I, s:I, s:b, s:b}", "ids", (json_int_t)n->n_ids, "documents", (json_int_t)n->n_docs,
                     "empty", (json_int_t)n->n_empty, "given", n->given, "isolated", n->isolated);
}

static lt_corpus_note note_of(const json_t *j) {
    return (lt_corpus_note){ .n_ids = (size_t)json_integer_value(json_object_get(j, "ids")),
                             .n_docs = (size_t)json_integer_value(json_object_get(j, "documents")),
                             .n_empty = (size_t)json_integer_value(json_object_get(j, "empty")),
                             .given = json_is_true(json_object_get(j, "given")),
                             .isolated = json_is_true(json_object_get(j, "isolated")) };
}

/* A template that cannot be read is an error of the first row that needs it, and only then. */
static lt_status open_chat(lt_chat **out, const lt_heal_in *in, lt_err *why) {
    *out = NULL;
    return in->tokenizer ? lt_model_chat(out, in->model, in->tokenizer, in->o->template_file, why) : LT_OK;
}

static lt_status make_corpus(lt_corpus_note *note, const lt_heal_in *in, const char *const *files, const char *ids,
                             const char *docs, lt_err *err) {
    const int32_t model_eos = in->model->config.n_eos ? in->model->config.eos[0] : -1;
    lt_err why = { 0 };
    lt_chat *chat;
    const lt_status chat_st = open_chat(&chat, in, &why);
    lt_corpus_in ci = { .files = files,
                        .tok = in->tokenizer,
                        .chat = chat,
                        .why_no_chat = chat_st == LT_OK ? NULL : why.message,
                        .vocab_size = in->model->config.vocab_size,
                        .eos = in->tokenizer && lt_tokenizer_eos(in->tokenizer) >= 0 ? lt_tokenizer_eos(in->tokenizer)
                                                                                     : model_eos,
                        .ids_path = ids,
                        .docs_path = docs,
                        .ctx = in->c->ctx };
    while (files[ci.n]) ci.n++;
    const lt_status st = lt_corpus_make(note, &ci, err);
    lt_chat_destroy(chat);
    return st;
}

/* Ids of files in the work folder: made by the first call, found by the next. step names them too. */
static lt_status need_corpus(lt_corpus *out, const lt_heal_in *in, const char *step, const char *const *files,
                             lt_err *err) {
    const json_t *before = lt_outdir_step(in->out, step);
    char *ids = lt_asprintf("%s/%s.ids", in->out->work, step), *docs = lt_asprintf("%s/%s.docs", in->out->work, step);
    lt_corpus_note note = before ? note_of(before) : (lt_corpus_note){ 0 };
    lt_status st = ids && docs ? LT_OK : no_memory(err);
    /* a kill while a finished call was tidied up takes them away */
    if (st == LT_OK && !(before && lt_path_exists(ids) && lt_path_exists(docs))) {
        st = make_corpus(&note, in, files, ids, docs, err);
        if (st == LT_OK) st = lt_outdir_mark(in->out, step, note_json(&note), err);
    }
    if (st == LT_OK) st = lt_corpus_open(out, ids, docs, &note, err);
    if (st == LT_OK && note.n_empty)
        lt_log(in->c->ctx, LT_LOG_WARN, "%s: %zu empty texts were left out", step, note.n_empty);
    lt_free(ids);
    lt_free(docs);
    return st;
}

static lt_status all_rows(lt_train_rows *out, const lt_heal_in *in, const lt_corpus *c, lt_err *err) {
    const size_t window = c->note.given ? in->model->config.max_positions : in->o->seq_len;
    LT_TRY(lt_corpus_rows(out, c, window, in->o->isolate, err));
    if (out->n_dropped) lt_log(in->c->ctx, LT_LOG_WARN, "%zu rows without a target were left out", out->n_dropped);
    return out->n ? LT_OK : lt_fail(err, LT_EDATA, "no row has a target to train on");
}

static lt_status make_sets(lt_healed *h, const lt_heal_in *in, lt_err *err) {
    const bool own_valid = h->valid_rows.n > 0;
    const size_t n = h->rows.n, all = n + h->valid_rows.n;
    size_t n_valid = own_valid ? 0 : (size_t)floor(in->o->valid_share * (double)n);
    if (!own_valid && in->o->valid_share > 0 && n_valid == 0) n_valid = 1;
    h->index = lt_malloc(all * sizeof *h->index);
    if (!h->index) return no_memory(err);
    const lt_status st = lt_split_rows(h->index, n, n_valid, in->o->seed, err);
    if (st != LT_OK)
        return lt_context(err, st, "the validation split leaves nothing (--validation-share 0 trains on all)");
    for (size_t i = 0; i < h->valid_rows.n; i++) h->index[n + i] = i;
    h->train = (lt_row_set){ &h->rows, h->index + n_valid, n - n_valid };
    h->valid = own_valid ? (lt_row_set){ &h->valid_rows, h->index + n, h->valid_rows.n }
                         : (lt_row_set){ &h->rows, h->index, n_valid };
    return LT_OK;
}

static lt_status read_rows(lt_healed *h, const lt_heal_in *in, lt_err *err) {
    LT_TRY(need_corpus(&h->corpus, in, "data", in->o->data, err));
    LT_TRY(all_rows(&h->rows, in, &h->corpus, err));
    if (in->o->valid_data && in->o->valid_data[0]) {
        LT_TRY(need_corpus(&h->valid_corpus, in, "validation-data", in->o->valid_data, err));
        LT_TRY(all_rows(&h->valid_rows, in, &h->valid_corpus, err));
    }
    LT_TRY(make_sets(h, in, err));
    lt_log(in->c->ctx, LT_LOG_INFO, "%zu rows to train on (%llu targets in all rows), %zu to validate on", h->train.n,
           (unsigned long long)h->rows.n_targets, h->valid.n);
    return LT_OK;
}

/* ---- training ---- */

static lt_status make_trainee(lt_healed *h, const lt_heal_in *in, lt_err *err) {
    const lt_trainee_opts what = { .base = in->o->preset->base,
                                   .decay = in->o->decay,
                                   .lora = in->o->preset->lora ? &in->o->lora : NULL,
                                   .freeze = in->o->freeze,
                                   .only = in->o->only };
    LT_TRY(lt_trainee_create(&h->trainee, in->model, &what, err));
    const bool merge = in->merge && h->trainee->adapters;
    const lt_status st = merge ? lt_adapters_check_merge(h->trainee->adapters, err) : LT_OK;
    if (st != LT_OK) return lt_context(err, st, "--no-merge writes the adapter alone");
    lt_log(in->c->ctx, LT_LOG_INFO, "%zu parameters in %zu tensors train, of %zu", h->trainee->n_values, h->trainee->n,
           lt_model_n_params(in->model));
    const size_t tokens = in->o->batch * in->o->seq_len;
    return lt_need_memory(in->c,
                          lt_trainee_bytes(h->trainee) + lt_model_bytes(in->model) +
                              lt_trainer_exec_bytes(in->model, tokens, in->o->trainer.recompute),
                          err);
}

lt_status lt_heal(lt_healed *h, const lt_heal_in *in, lt_err *err) {
    const lt_heal_opts *o = in->o;
    LT_TRY(read_rows(h, in, err));
    LT_TRY(make_trainee(h, in, err));
    const lt_run_train run = { .trainee = h->trainee,
                               .team = in->c->team,
                               .ctx = in->c->ctx,
                               .folder = in->out->work,
                               .train = h->train,
                               .valid = h->valid,
                               .batch = o->batch,
                               .accumulate = o->accumulate,
                               .shuffle = o->shuffle,
                               .seed = o->seed,
                               .budget = o->budget,
                               .trainer = o->trainer,
                               .warmup_share = o->warmup_share,
                               .decay_share = o->decay_share,
                               .eval_every = o->eval_every,
                               .save_every = o->save_every,
                               .save_seconds = o->save_seconds,
                               .keep = o->keep,
                               .take_best = o->take_best };
    return lt_run_train_all(&h->done, &run, err);
}

lt_status lt_heal_merge(lt_healed *h, const lt_call_ctx *c, lt_err *err) {
    if (h->trainee->adapters) LT_TRY(lt_merge_within(c, h->trainee->adapters, err));
    return lt_trainee_merge(h->trainee, LT_F32, c->team, err);
}

void lt_healed_clear(lt_healed *h) {
    lt_trainee_destroy(h->trainee);
    lt_train_rows_clear(&h->rows);
    lt_train_rows_clear(&h->valid_rows);
    lt_corpus_close(&h->corpus);
    lt_corpus_close(&h->valid_corpus);
    lt_free(h->index);
    *h = (lt_healed){ 0 };
}

lt_status lt_heal_measure(double *ppl, const lt_healed *h, const lt_model *m, lt_team *team, lt_err *err) {
    double nll;
    size_t targets;
    *ppl = NAN;
    if (h->valid.n == 0) return LT_OK;
    LT_TRY(lt_evaluate_rows(&nll, &targets, m, team, h->valid.rows, h->valid.index, h->valid.n, err));
    *ppl = exp(nll / (double)targets);
    return LT_OK;
}

/* ---- what is told ---- */

static json_t *recipe_json(const lt_heal_opts *o) {
    const lt_trainer_opts *t = &o->trainer;
    json_t *j = json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:b, s:I}", "schedule",
                          t->schedule.row->name, "lr", t->schedule.lr, "beta1", t->adamw.beta1, "beta2", t->adamw.beta2,
                          "eps", t->adamw.eps, "weight_decay", t->adamw.decay, "clip", t->clip, "batch",
                          (json_int_t)o->batch, "accumulate", (json_int_t)o->accumulate, "seq_len",
                          (json_int_t)o->seq_len, "isolate", o->isolate, "seed", (json_int_t)o->seed);
    if (j && o->preset->lora)
        json_object_set_new(j, "lora",
                            json_pack("{s:I, s:f, s:f, s:b, s:s}", "rank", (json_int_t)o->lora.opts.rank, "alpha",
                                      o->lora.opts.alpha, "dropout", o->lora.opts.dropout, "rslora",
                                      o->lora.opts.rslora, "targets", o->lora.targets));
    return j;
}

json_t *lt_heal_json(const lt_healed *h, const lt_heal_opts *o) {
    const lt_run_done *d = &h->done;
    return json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "preset", o->preset->name,
                     "recipe", recipe_json(o), "trained_params", (json_int_t)h->trainee->n_values, "steps",
                     (json_int_t)d->steps, "targets", (json_int_t)d->targets, "tokens", (json_int_t)d->tokens, "rows",
                     (json_int_t)h->train.n, "validation_rows", (json_int_t)h->valid.n, "loss_spikes",
                     (json_int_t)d->n_spikes, "first_loss", lt_result_real(d->first_loss), "last_loss",
                     lt_result_real(d->last_loss), "validation",
                     h->valid.n ? json_pack("{s:o, s:o, s:o, s:I}", "ppl_before", lt_result_real(exp(d->valid_before)),
                                            "ppl_after", lt_result_real(exp(d->valid_after)), "ppl_best",
                                            lt_result_real(exp(d->valid_best)), "best_step", (json_int_t)d->best_step)
                                : json_null());
}

lt_status lt_heal_sweep(const lt_outdir *out, lt_err *err) {
    static const char *const names[] = { "data.ids",    "data.docs", "validation-data.ids", "validation-data.docs",
                                         "budget.json", "fresh" };
    size_t *steps, n;
    LT_TRY(lt_checkpoint_list(&steps, &n, out->work, err));
    lt_status st = LT_OK;
    for (size_t i = 0; st == LT_OK && i < n; i++) st = lt_checkpoint_remove(out->work, steps[i], err);
    lt_free(steps);
    for (size_t i = 0; st == LT_OK && i < LT_COUNTOF(names); i++) {
        char *path;
        st = lt_outdir_file(&path, out, names[i], err);
        if (st == LT_OK) st = lt_remove_tree(path, err);
        if (st == LT_OK) lt_free(path);
    }
    return st;
}

void lt_heal_estimate(lt_estimate *e, const lt_heal_opts *o, const lt_model *m) {
    const size_t rows = o->batch * o->seq_len;
    const lt_piece piece = { .n = rows, .parent = -1 };
    const lt_batch batch = { .n_rows = rows, .n_pieces = 1, .piece = &piece };
    const double passes = o->trainer.recompute ? 4 : 3; /* backward is twice a forward; a replay once more */
    const double steps = o->budget.by == LT_BY_STEPS    ? o->budget.amount
                         : o->budget.by == LT_BY_TOKENS ? ceil(o->budget.amount / (double)(rows * o->accumulate))
                                                        : 1;
    const size_t trained = o->preset->base == LT_TRAIN_ALL ? 4 * lt_model_n_params(m) * sizeof(float) : 0;
    e->flops += passes * steps * (double)o->accumulate * lt_model_flops(m, &batch, rows);
    e->memory_bytes = lt_max_size(e->memory_bytes,
                                  trained + lt_model_bytes(m) + lt_trainer_exec_bytes(m, rows, o->trainer.recompute));
    e->disk_bytes += lt_model_bytes(m) + trained;
}
