/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_forward.c - a batch through a model, every value written: how a model is held against another program's
 * numbers.
 *
 *   logits [B, T, V], hidden.0 .. hidden.L [B, T, d] (the last after the final norm), hidden_last_layer [B, T, d],
 * per_token_nll [B, T-1], loss = mean of per_token_nll over the targets that there are, grad.<parameter> = its
 * gradient (of an adapter's matrices too, without dropout). Padding is zero everywhere. */
#include "pipeline/commands.h"

#include <stdio.h>
#include <string.h>

#include "pipeline/estimate.h"
#include "pipeline/forward_input.h"
#include "pipeline/open_model.h"
#include "pipeline/result.h"

enum { BATCH_ROWS = 2048, LOGIT_BYTES = 64 << 20 };

typedef struct wanted {
    bool logits, nll, last_layer, grad;
    bool *hidden; /* [L + 1] */
} wanted;

typedef struct forward {
    lt_call_ctx *c;
    lt_model *model;
    lt_adapters *adapters; /* NULL: none */
    lt_forward_input in;
    wanted want;
    size_t d, L, V, n_params; /* n_params: stored tensors of the model */
    float **hidden;           /* [L + 1], each [n_rows, d] or NULL; the last one always */
    float *last_layer;        /* [n_rows, d] or NULL */
    float *nll;               /* [n_rows] */
    lt_exec *x;
} forward;

/* ---- what is asked for ---- */
static lt_status want_one(forward *f, const char *name, size_t n, lt_err *err) {
    wanted *w = &f->want;
    size_t layer;
    char tail, text[64];
    snprintf(text, sizeof text, "%.*s", (int)n, name);
    if (strcmp(text, "logits") == 0)
        w->logits = true;
    else if (strcmp(text, "per_token_nll") == 0)
        w->nll = true;
    else if (strcmp(text, "hidden_last_layer") == 0)
        w->last_layer = true;
    else if (strcmp(text, "hidden") == 0)
        memset(w->hidden, true, (f->L + 1) * sizeof *w->hidden);
    else if (sscanf(text, "hidden.%zu%c", &layer, &tail) == 1 && layer <= f->L)
        w->hidden[layer] = true;
    else
        return lt_fail(
            err, LT_EUSAGE,
            "--outputs: no output \"%s\" (logits, hidden, hidden.0 .. hidden.%zu, hidden_last_layer, per_token_nll)",
            text, f->L);
    return LT_OK;
}

static lt_status parse_outputs(forward *f, lt_err *err) {
    f->want.hidden = lt_calloc(f->L + 1, sizeof *f->want.hidden);
    if (!f->want.hidden) return lt_fail(err, LT_ENOMEM, "forward: out of memory");
    for (const char *text = lt_arg_string(f->c->args, "outputs"); *text;) {
        const size_t n = strcspn(text, ",");
        if (n) LT_TRY(want_one(f, text, n, err));
        text += n + (text[n] == ',');
    }
    f->want.grad = lt_arg_flag(f->c->args, "grad");
    return LT_OK;
}

/* Width of hidden.i: behind the last layer, what the head reads. */
static size_t width_of(const forward *f, size_t i) {
    return i == f->L ? f->model->config.d_embed : f->d;
}

/* ---- what has a gradient: the model's parameters, then its adapters' ---- */
static const lt_param *param_at(const forward *f, size_t i) {
    lt_param_info p;
    if (lt_model_param(f->model, i, &p)) return p.param;
    return f->adapters ? lt_adapters_param(f->adapters, i - f->n_params) : NULL;
}

static size_t n_values(const forward *f) {
    return lt_model_n_params(f->model) + (f->adapters ? lt_adapters_n_params(f->adapters) : 0);
}

/* ---- memory ---- */
static size_t kept_rows(const forward *f) {
    size_t n = 1 + f->want.last_layer;
    for (size_t i = 0; i < f->L; i++) n += f->want.hidden[i];
    return n;
}

static size_t largest_batch(const forward *f) {
    size_t n = 0;
    for (size_t i = 0; i < f->in.n_batches; i++) n = lt_max_size(n, f->in.batch[i].n_rows);
    return n;
}

static size_t memory_bytes(const forward *f) {
    const size_t rows = largest_batch(f), logits = lt_max_size(LOGIT_BYTES, f->V * sizeof(float));
    size_t bytes = lt_model_bytes(f->model) + kept_rows(f) * f->in.n_rows * f->d * sizeof(float) + logits +
                   lt_model_exec_bytes(f->model, rows);
    /* a recorded block keeps its values and their gradients; every layer keeps its input */
    if (f->want.grad)
        bytes += (n_values(f) + f->L * rows * f->d) * sizeof(float) + 2 * lt_model_exec_bytes(f->model, rows);
    return bytes;
}

static size_t output_bytes(const forward *f) {
    const size_t tokens = f->in.B * f->in.T;
    size_t n = (f->want.last_layer ? f->d : 0) + (f->want.logits ? f->V : 0) + (f->want.nll ? 1 : 0);
    for (size_t i = 0; i <= f->L; i++) n += f->want.hidden[i] ? width_of(f, i) : 0;
    return (tokens * n + (f->want.grad ? n_values(f) : 0)) * sizeof(float);
}

static lt_status allocate(forward *f, lt_err *err) {
    size_t count;
    if (!lt_mul_size(f->in.n_rows, lt_max_size(f->d, f->model->config.d_embed) * sizeof(float), &count))
        return lt_fail(err, LT_ENOMEM, "forward: %zu tokens", f->in.n_rows);
    f->hidden = lt_calloc(f->L + 1, sizeof *f->hidden);
    f->nll = lt_calloc(f->in.n_rows, sizeof *f->nll);
    bool whole = f->hidden && f->nll;
    for (size_t i = 0; whole && i <= f->L; i++)
        if (f->want.hidden[i] || i == f->L) whole = (f->hidden[i] = lt_malloc(count)) != NULL;
    if (whole && f->want.last_layer) whole = (f->last_layer = lt_malloc(count)) != NULL;
    return whole ? LT_OK : lt_fail(err, LT_ENOMEM, "forward: hidden states of %zu tokens", f->in.n_rows);
}

/* ---- running ---- */
static void keep(forward *f, float *to, lt_var v, size_t first) {
    const float *data = to ? lt_data(f->x, v) : NULL;
    const size_t d = lt_cols(f->x, v);
    if (data) memcpy(to + first * d, data, lt_rows(f->x, v) * d * sizeof *data);
}

static void seed_backward(forward *f, lt_var nll, size_t rows) {
    float *seed = lt_exec_scratch(f->x, rows * sizeof *seed);
    for (size_t i = 0; seed && i < rows; i++) seed[i] = (float)(1.0 / (double)f->in.n_targets);
    if (seed) lt_backward(f->x, nll, seed);
}

static lt_status run_batch(forward *f, size_t b, lt_err *err) {
    const lt_batch *batch = &f->in.batch[b];
    const size_t first = f->in.batch_row[b];
    lt_exec_begin(f->x, batch);
    lt_var h = lt_model_embed(f->x, f->model);
    for (size_t layer = 0; layer < f->L; layer++) {
        keep(f, f->hidden[layer], h, first);
        h = lt_model_layer(f->x, f->model, layer, h);
        LT_TRY(lt_exec_status(f->x, err));
    }
    keep(f, f->last_layer, h, first);
    h = lt_model_final(f->x, f->model, h);
    keep(f, f->hidden[f->L], h, first);
    if (f->want.nll || f->want.grad) {
        const lt_var nll = lt_model_nll(f->x, f->model, h, f->in.target + first, NULL);
        const float *values = lt_data(f->x, nll);
        if (values) memcpy(f->nll + first, values, batch->n_rows * sizeof *values);
        if (values && f->want.grad && f->in.n_targets) seed_backward(f, nll, batch->n_rows);
    }
    return lt_exec_status(f->x, err);
}

static lt_status run_all(forward *f, lt_err *err) {
    const lt_exec_opts opts = { .mode = f->want.grad ? LT_RECORD : LT_INFER, .recompute = true };
    if (f->want.grad) LT_TRY(lt_model_make_trainable(f->model, err));
    if (f->want.grad && f->adapters) LT_TRY(lt_adapters_make_trainable(f->adapters, err));
    LT_TRY(lt_exec_create(&f->x, f->c->team, &opts, err));
    lt_status st = LT_OK;
    for (size_t b = 0; st == LT_OK && b < f->in.n_batches; b++) {
        st = lt_progress(f->c->ctx, err, "forward", (double)f->in.batch_row[b], (double)f->in.n_rows, "tokens");
        if (st == LT_OK) st = run_batch(f, b, err);
    }
    lt_exec_destroy(f->x);
    f->x = NULL;
    return st;
}

static double mean_loss(const forward *f) {
    double sum = 0;
    for (size_t i = 0; i < f->in.n_rows; i++) sum += f->nll[i];
    return f->in.n_targets ? sum / (double)f->in.n_targets : 0.0;
}

/* ---- writing: [n_rows, d] spread over [B, T, d], zero where there is padding ---- */
typedef struct spread {
    lt_st_writer *w;
    const forward *f;
    float *zeros;
    size_t at; /* next packed row */
} spread;

static lt_status write_rows(lt_st_writer *w, const forward *f, const float *rows, size_t d, const float *zeros,
                            lt_err *err) {
    const size_t bytes = d * sizeof *rows;
    for (size_t p = 0, r = 0; p < f->in.B * f->in.T; p++) {
        const bool real = r < f->in.n_rows && f->in.place[r] == p;
        LT_TRY(lt_st_writer_bytes(w, real ? rows + r++ * d : zeros, bytes, err));
    }
    return LT_OK;
}

/* Row r predicts the token after it: entry [b, t] for t < T - 1. */
static lt_status write_nll(lt_st_writer *w, const forward *f, lt_err *err) {
    const float zero = 0.0f;
    for (size_t p = 0, r = 0; p < f->in.B * f->in.T; p++) {
        const bool real = r < f->in.n_rows && f->in.place[r] == p, last = (p + 1) % f->in.T == 0;
        if (!last) LT_TRY(lt_st_writer_bytes(w, real ? &f->nll[r] : &zero, sizeof zero, err));
        r += real;
    }
    return LT_OK;
}

/* Logits of n rows from row `first` on; a batch of their own, for the head looks at rows only. */
static lt_status write_logit_chunk(lt_exec *x, spread *s, size_t first, size_t n, lt_err *err) {
    const forward *f = s->f;
    const lt_piece piece = { .n = n, .parent = -1 };
    const lt_batch batch = { .n_rows = n, .n_pieces = 1, .ids = f->in.ids + first, .piece = &piece };
    lt_exec_begin(x, &batch);
    const size_t d = width_of(f, f->L);
    const lt_var h = lt_input(x, n, d, f->hidden[f->L] + first * d, false);
    const float *logits = lt_data(x, lt_model_logits(x, f->model, h));
    LT_TRY(lt_exec_status(x, err));
    for (size_t r = first; r < first + n; s->at++) {
        const bool real = f->in.place[r] == s->at;
        LT_TRY(lt_st_writer_bytes(s->w, real ? logits + (r - first) * f->V : s->zeros, f->V * sizeof *logits, err));
        r += real;
    }
    return LT_OK;
}

static lt_status write_logits(lt_st_writer *w, const forward *f, lt_err *err) {
    const size_t chunk = lt_max_size(1, LOGIT_BYTES / sizeof(float) / f->V);
    spread s = { .w = w, .f = f, .zeros = lt_calloc(f->V, sizeof *s.zeros) };
    lt_exec *x = NULL;
    lt_status st = s.zeros ? lt_exec_create(&x, f->c->team, NULL, err) : lt_fail(err, LT_ENOMEM, "forward: logits");
    for (size_t r = 0; st == LT_OK && r < f->in.n_rows; r += chunk) {
        st = lt_progress(f->c->ctx, err, "logits", (double)r, (double)f->in.n_rows, "tokens");
        if (st == LT_OK) st = write_logit_chunk(x, &s, r, lt_min_size(chunk, f->in.n_rows - r), err);
    }
    for (; st == LT_OK && s.at < f->in.B * f->in.T; s.at++)
        st = lt_st_writer_bytes(w, s.zeros, f->V * sizeof(float), err);
    lt_exec_destroy(x);
    lt_free(s.zeros);
    return st;
}

/* A gradient has the shape of the stored tensor; a GGUF's rotary rows are a 4-d view of a matrix. */
static lt_status declare_grads(lt_st_writer *w, const forward *f, lt_err *err) {
    const lt_param *p;
    for (size_t i = 0; (p = param_at(f, i)); i++) {
        char name[512];
        const lt_tensor *t = &p->t;
        const size_t matrix[] = { lt_tensor_rows(t), lt_tensor_cols(t) };
        snprintf(name, sizeof name, "grad.%s", p->name);
        if (t->rank <= 2)
            LT_TRY(lt_st_writer_declare(w, name, LT_F32, t->rank, t->size, err));
        else
            LT_TRY(lt_st_writer_declare(w, name, LT_F32, 2, matrix, err));
    }
    return LT_OK;
}

static lt_status declare(lt_st_writer *w, const forward *f, lt_err *err) {
    const size_t B = f->in.B, T = f->in.T;
    char name[40];
    for (size_t i = 0; i <= f->L; i++) {
        snprintf(name, sizeof name, "hidden.%zu", i);
        if (f->want.hidden[i])
            LT_TRY(lt_st_writer_declare(w, name, LT_F32, 3, (const size_t[]){ B, T, width_of(f, i) }, err));
    }
    if (f->want.last_layer)
        LT_TRY(lt_st_writer_declare(w, "hidden_last_layer", LT_F32, 3, (const size_t[]){ B, T, f->d }, err));
    if (f->want.nll) LT_TRY(lt_st_writer_declare(w, "per_token_nll", LT_F32, 2, (const size_t[]){ B, T - 1 }, err));
    if (f->want.nll || f->want.grad) LT_TRY(lt_st_writer_declare(w, "loss", LT_F64, 0, NULL, err));
    if (f->want.grad) LT_TRY(declare_grads(w, f, err));
    if (f->want.logits) LT_TRY(lt_st_writer_declare(w, "logits", LT_F32, 3, (const size_t[]){ B, T, f->V }, err));
    return LT_OK;
}

static lt_status write_values(lt_st_writer *w, const forward *f, const float *zeros, lt_err *err) {
    const double loss = mean_loss(f);
    const lt_param *p;
    LT_TRY(lt_st_writer_meta(w, "format", "lathe-forward/1", err));
    LT_TRY(declare(w, f, err));
    LT_TRY(lt_st_writer_begin(w, err));
    for (size_t i = 0; i <= f->L; i++)
        if (f->want.hidden[i]) LT_TRY(write_rows(w, f, f->hidden[i], width_of(f, i), zeros, err));
    if (f->want.last_layer) LT_TRY(write_rows(w, f, f->last_layer, f->d, zeros, err));
    if (f->want.nll) LT_TRY(write_nll(w, f, err));
    if (f->want.nll || f->want.grad) LT_TRY(lt_st_writer_bytes(w, &loss, sizeof loss, err));
    for (size_t i = 0; f->want.grad && (p = param_at(f, i)); i++)
        LT_TRY(lt_st_writer_bytes(w, p->grad, lt_tensor_count(&p->t) * sizeof(float), err));
    return f->want.logits ? write_logits(w, f, err) : LT_OK;
}

static lt_status write_output(const forward *f, const char *path, lt_err *err) {
    lt_st_writer *w;
    LT_TRY(lt_st_writer_create(&w, path, err));
    float *zeros = lt_calloc(lt_max_size(f->d, f->model->config.d_embed), sizeof *zeros);
    const lt_status st = zeros ? write_values(w, f, zeros, err) : lt_fail(err, LT_ENOMEM, "forward: out of memory");
    lt_free(zeros);
    if (st == LT_OK) return lt_st_writer_commit(w, err);
    lt_st_writer_abort(w);
    return st;
}

/* ---- the verb ---- */
static lt_status load_input(forward *f, lt_err *err) {
    lt_safetensors *file;
    LT_TRY(lt_safetensors_open(&file, lt_arg_string(f->c->args, "input"), err));
    const lt_status st = lt_forward_input_load(&f->in, file, f->V, BATCH_ROWS, err);
    lt_safetensors_close(file);
    return st;
}

static lt_status estimate(const forward *f, json_t **result, lt_err *err) {
    lt_estimate e = { .memory_bytes = memory_bytes(f), .disk_bytes = output_bytes(f) };
    for (size_t b = 0; b < f->in.n_batches; b++)
        e.flops += lt_model_flops(f->model, &f->in.batch[b], f->in.batch[b].n_rows);
    if (f->want.grad) e.flops *= 4; /* forward twice (blocks are replayed), backward twice that of one */
    return lt_estimate_result(result, f->c, &e, err);
}

static lt_status report(const forward *f, json_t **result, const char *path, lt_err *err) {
    static const char *const columns[] = { "rows", "tokens", "pieces", "loss", "output" };
    json_t *r = lt_result_new(f->c);
    const bool scored = f->want.nll || f->want.grad;
    if (scored) json_object_set_new(r, "loss", lt_result_real(mean_loss(f)));
    lt_result_row(lt_result_table(r, "", columns, 5), "zzzjs", f->in.B, f->in.n_rows, f->in.n_pieces,
                  scored ? lt_result_real(mean_loss(f)) : json_string(""), path);
    return lt_result_finish(result, r, err);
}

static lt_status run_opened(forward *f, json_t **result, lt_err *err) {
    const char *path = lt_arg_string(f->c->args, "output");
    f->d = f->model->config.d_model;
    f->L = f->model->config.n_layers;
    f->V = f->model->config.vocab_size;
    for (lt_param_info p; lt_model_param(f->model, f->n_params, &p);) f->n_params++;
    LT_TRY(parse_outputs(f, err));
    LT_TRY(load_input(f, err));
    if (lt_arg_flag(f->c->args, "estimate")) return estimate(f, result, err);
    LT_TRY(lt_need_memory(f->c, memory_bytes(f), err));
    LT_TRY(allocate(f, err));
    LT_TRY(run_all(f, err));
    LT_TRY(write_output(f, path, err));
    return report(f, result, path, err);
}

static void clear(forward *f) {
    for (size_t i = 0; f->hidden && i <= f->L; i++) lt_free(f->hidden[i]);
    lt_free(f->hidden);
    lt_free(f->last_layer);
    lt_free(f->nll);
    lt_free(f->want.hidden);
    lt_forward_input_clear(&f->in);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    forward f = { .c = c };
    lt_opened opened;
    LT_TRY(lt_open_model(&opened, lt_arg_string(c->args, "model"), LT_TOKENIZER_NO, err));
    LT_TRY(lt_opened_adapt(&opened, c, LT_ADAPT_RUN, err));
    f.model = opened.model;
    f.adapters = opened.adapters;
    const lt_status st = run_opened(&f, result, err);
    clear(&f);
    lt_opened_clear(&opened);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "model folder, GGUF file or output folder" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "input", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE",
      "safetensors with input_ids [B, T] and optionally attention_mask [B, T], position_ids [B, T], cu_seqlens [n + "
      "1]" },
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE", "safetensors to write" },
    { "outputs", LT_OPT_STRING, "logits,hidden,hidden_last_layer,per_token_nll", 0, 0, NULL, false, "LIST",
      "what to write: logits, hidden (or hidden.N), hidden_last_layer, per_token_nll" },
    { "grad", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL,
      "also grad.<parameter> of the mean of per_token_nll; with --adapter, of its matrices too, without dropout" },
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_forward = {
    .name = "forward",
    .summary = "run a batch of token ids and write logits, hidden states, losses and gradients",
    .details =
        "Padding at either end of a row (attention_mask 0) is left out, and zero in every output. A position that does "
        "not continue the one "
        "before it, or a border in cu_seqlens, begins a new document: nothing is seen across it and nothing predicted.",
    .example = "lathe forward ./model --input batch.safetensors --output values.safetensors",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_OVERWRITE,
};
