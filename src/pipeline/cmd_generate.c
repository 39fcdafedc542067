/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_generate.c - writes on from a prompt; text goes out as it comes. */
#include "pipeline/commands.h"

#include <string.h>

#include "model/generate.h"
#include "pipeline/estimate.h"
#include "pipeline/open_model.h"
#include "pipeline/prompt.h"
#include "pipeline/result.h"

typedef struct generating {
    lt_call_ctx *c;
    const lt_tokenizer *tok; /* NULL: ids only */
    lt_decode_stream *stream;
    int32_t *prompt, *ids;
    size_t n_prompt, n_ids, max_new;
    char *text;
    size_t text_bytes, text_cap;
    lt_status st;
    lt_err *err;
} generating;

static lt_status add_text(generating *g, const char *piece, size_t bytes) {
    if (g->text_bytes + bytes > g->text_cap) {
        const size_t cap = 2 * (g->text_bytes + bytes);
        char *grown = lt_realloc(g->text, cap);
        if (!grown) return lt_fail(g->err, LT_ENOMEM, "generate: out of memory");
        g->text = grown;
        g->text_cap = cap;
    }
    memcpy(g->text + g->text_bytes, piece, bytes);
    g->text_bytes += bytes;
    if (g->c->ctx->emit) g->c->ctx->emit(g->c->ctx->user, piece, bytes);
    return LT_OK;
}

static int on_token(void *user, int32_t id, const float *logits) {
    generating *g = user;
    const char *piece = NULL;
    size_t bytes = 0;
    (void)logits;
    g->ids[g->n_ids++] = id;
    g->st = lt_progress(g->c->ctx, g->err, "generate", (double)g->n_ids, (double)g->max_new, "tokens");
    if (g->st == LT_OK && g->stream) g->st = lt_decode_stream_push(g->stream, id, &piece, &bytes, g->err);
    if (g->st == LT_OK && piece) g->st = add_text(g, piece, bytes);
    return g->st != LT_OK;
}

/* The stream knows the prompt: what a token looks like may depend on those before it. */
static lt_status open_stream(generating *g, lt_err *err) {
    const char *piece;
    size_t bytes;
    if (!g->tok) return LT_OK;
    LT_TRY(lt_decode_stream_create(&g->stream, g->tok, true, err));
    for (size_t i = 0; i < g->n_prompt; i++) {
        if (!lt_tokenizer_token(g->tok, g->prompt[i])) continue; /* models may have more ids than their tokenizer */
        LT_TRY(lt_decode_stream_push(g->stream, g->prompt[i], &piece, &bytes, err));
    }
    return LT_OK;
}

static size_t kv_bytes(const lt_model *m, size_t positions, lt_dtype t) {
    const lt_dtype_row *row = lt_dtype_get(t);
    size_t per_position = 0;
    for (size_t l = 0; l < m->config.n_layers; l++) {
        const lt_layer_config *c = &m->config.layer[l];
        if (c->present) per_position += c->n_k_heads * c->qk_dim + c->n_v_heads * c->v_dim;
    }
    return per_position * row->bytes / row->block * positions;
}

static size_t memory_bytes(const generating *g, const lt_model *m, lt_dtype kv) {
    return lt_model_bytes(m) + kv_bytes(m, g->n_prompt + g->max_new, kv) +
           lt_model_exec_bytes(m, lt_min_size(g->n_prompt, 512)) + 2 * m->config.vocab_size * sizeof(float);
}

static lt_status estimate(const generating *g, const lt_model *m, lt_dtype kv, json_t **result, lt_err *err) {
    const lt_piece piece = { .n = g->n_prompt, .parent = -1 };
    const lt_batch batch = { .n_rows = g->n_prompt, .n_pieces = 1, .ids = g->prompt, .piece = &piece };
    const lt_estimate e = { .flops = lt_model_flops(m, &batch, 1),
                            .memory_bytes = memory_bytes(g, m, kv),
                            .read_bytes = (double)g->max_new * (double)lt_model_bytes(m) };
    return lt_estimate_result(result, g->c, &e, err);
}

static json_t *ids_json(const int32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static lt_status report(const generating *g, const lt_generate_out *out, json_t **result, lt_err *err) {
    const size_t steps = out->n_new > 1 ? out->n_new - 1 : 0;
    json_t *r = lt_result_new(g->c);
    json_object_set_new(r, "prompt_ids", ids_json(g->prompt, g->n_prompt));
    json_object_set_new(r, "ids", ids_json(g->ids, g->n_ids));
    json_object_set_new(r, "stopped", json_string(out->eos ? "eos" : "length"));
    json_object_set_new(r, "kv_bytes", json_integer((json_int_t)out->kv_bytes));
    json_object_set_new(r, "run",
                        json_pack("{s:{s:f, s:f, s:f, s:f}}", "timings", "prefill_seconds", out->prefill_s,
                                  "decode_seconds", out->decode_s, "prefill_tokens_per_second",
                                  (double)g->n_prompt / (out->prefill_s + 1e-12), "decode_tokens_per_second",
                                  (double)steps / (out->decode_s + 1e-12)));
    lt_log(g->c->ctx, LT_LOG_INFO, "prompt %zu tokens, %.1f tokens/s; new %zu tokens, %.1f tokens/s; cache %zu KiB",
           g->n_prompt, (double)g->n_prompt / (out->prefill_s + 1e-12), out->n_new,
           (double)steps / (out->decode_s + 1e-12), out->kv_bytes >> 10);
    if (g->tok)
        json_object_set_new(r, "text", json_stringn(g->text ? g->text : "", g->text_bytes));
    else
        lt_result_row(lt_result_table(r, "", (const char *const[]){ "ids" }, 1), "j", ids_json(g->ids, g->n_ids));
    if (g->tok && g->c->ctx->emit) g->c->ctx->emit(g->c->ctx->user, "\n", 1);
    return lt_result_finish(result, r, err);
}

/* Not more than the model has positions for, unless that much is asked for by name. */
static size_t new_tokens(const lt_args *a, const lt_model *m, size_t n_prompt) {
    const size_t wanted = (size_t)lt_arg_int(a, "max-new"), most = m->config.max_positions;
    if (lt_arg_given(a, "max-new") || n_prompt > most) return wanted;
    return lt_min_size(wanted, most - n_prompt + 1);
}

static lt_status generate(generating *g, const lt_model *m, json_t **result, lt_err *err) {
    const lt_args *a = g->c->args;
    lt_dtype kv = LT_F32;
    lt_dtype_find(lt_arg_string(a, "kv-dtype"), &kv);
    g->max_new = new_tokens(a, m, g->n_prompt);
    if (lt_arg_flag(a, "estimate")) return estimate(g, m, kv, result, err);
    LT_TRY(lt_need_memory(g->c, memory_bytes(g, m, kv), err));
    g->ids = lt_calloc(g->max_new, sizeof *g->ids);
    if (!g->ids) return lt_fail(err, LT_ENOMEM, "generate: %zu tokens", g->max_new);
    LT_TRY(open_stream(g, err));
    const lt_generate_in in = {
        .model = m,
        .team = g->c->team,
        .prompt = g->prompt,
        .n_prompt = g->n_prompt,
        .max_new = g->max_new,
        .ignore_eos = lt_arg_flag(a, "ignore-eos"),
        .sampler = { lt_arg_real(a, "temperature"), (size_t)lt_arg_int(a, "top-k"), lt_arg_real(a, "top-p"),
                     lt_arg_real(a, "min-p"), (uint64_t)lt_arg_int(a, "seed") },
        .kv_dtype = kv,
        .on_token = on_token,
        .user = g,
    };
    lt_generate_out out;
    LT_TRY(lt_generate(&out, &in, err));
    return g->st == LT_OK ? report(g, &out, result, err) : g->st;
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    generating g = { .c = c, .err = err };
    lt_opened opened;
    LT_TRY(lt_open_model(&opened, lt_arg_string(c->args, "model"), LT_TOKENIZER_IF_THERE, err));
    g.tok = opened.tokenizer;
    lt_status st = lt_prompt_read(&g.prompt, &g.n_prompt, c->args, g.tok, err);
    if (st == LT_OK) st = generate(&g, opened.model, result, err);
    lt_decode_stream_destroy(g.stream);
    lt_free(g.prompt);
    lt_free(g.ids);
    lt_free(g.text);
    lt_opened_clear(&opened);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "model folder, GGUF file or output folder" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "prompt", LT_OPT_STRING, NULL, 0, 0, NULL, false, "TEXT", "text to go on from" },
    { "prompt-file", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE", "file that holds it; -: standard input" },
    { "prompt-ids", LT_OPT_STRING, NULL, 0, 0, NULL, false, "IDS", "token ids instead: 1,2,3" },
    { "add-special", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL, "begin-of-text and the like before the prompt" },
    { "max-new", LT_OPT_INT, "128", 1, 1 << 24, NULL, false, "N", "new tokens at most" },
    { "temperature", LT_OPT_REAL, "0", 0, 100, NULL, false, "T", "0: greedy" },
    { "top-k", LT_OPT_INT, "0", 0, 1 << 30, NULL, false, "K", "choose among the K most likely; 0: all" },
    { "top-p", LT_OPT_REAL, "1", 0, 1, NULL, false, "P",
      "choose among the most likely that hold P of the probability" },
    { "min-p", LT_OPT_REAL, "0", 0, 1, NULL, false, "P", "leave out what is less likely than P times the most likely" },
    { "seed", LT_OPT_INT, "0", 0, 0x1p53, NULL, false, "N", "of the choice" },
    { "ignore-eos", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, "go on after an end-of-text token" },
    { "kv-dtype", LT_OPT_STRING, "f32", 0, 0, "f32|f16|bf16|q8_0", false, NULL, "how keys and values are remembered" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_generate = {
    .name = "generate",
    .summary = "write on from a prompt, greedily or by sampling",
    .details = "The text streams to standard output and ends with a newline; the prompt is not repeated. --json gives "
               "ids and timings.",
    .example = "lathe generate ./model --prompt 'The capital of France is' --max-new 32",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_OVERWRITE,
};
