/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_generate.c - writes on from a prompt, text going out as it comes; or from many, a JSON line each. */
#include "pipeline/commands.h"

#include <stdlib.h>
#include <string.h>

#include "model/generate.h"
#include "model/settle.h"
#include "pipeline/estimate.h"
#include "pipeline/open_model.h"
#include "pipeline/prompt.h"
#include "pipeline/result.h"
#include "pipeline/sink.h"
#include "pipeline/writing.h"

enum { WORTH_SETTLING = 64 }; /* steps: each gains a fifth of what settling costs, or more */

/* one sample of one prompt */
typedef struct answer {
    lt_writing w;
    lt_finish finish;
    bool begun, ended;
} answer;

typedef struct generating {
    lt_call_ctx *c;
    const lt_model *model;
    const lt_tokenizer *tok; /* NULL: ids only */
    lt_prompts prompts;
    lt_stops stops;
    const char **stop_text;
    size_t samples, batch, tokens; /* tokens: asked for in all */
    lt_request *requests;          /* [prompts.n] */
    lt_dtype kv;
    bool lines;      /* answers go out as JSON lines */
    answer *answers; /* [prompts.n, samples] */
    size_t shown;    /* bytes of the one answer that are out; lines: answers that are */
    size_t done;     /* tokens */
    lt_sink out;
    lt_status st; /* of the callbacks */
    lt_err *err;
} generating;

/* ---- answers ---- */

static json_t *ids_json(const int32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static answer *answer_of(const generating *g, size_t request, uint32_t sample) {
    return &g->answers[request * g->samples + sample];
}

/* What has become certain of the one answer. */
static void emit_text(generating *g, const answer *a) {
    if (g->c->ctx->emit && a->w.settled > g->shown)
        g->c->ctx->emit(g->c->ctx->user, a->w.text + g->shown, a->w.settled - g->shown);
    g->shown = a->w.settled;
}

static json_t *line_json(const generating *g, size_t i) {
    const answer *a = &g->answers[i];
    const lt_prompt *p = &g->prompts.at[i / g->samples];
    json_t *line = json_object();
    json_object_set(line, "id", p->id ? p->id : json_null());
    if (g->samples > 1) json_object_set_new(line, "sample", json_integer((json_int_t)(i % g->samples)));
    if (p->text) json_object_set(line, "prompt", p->text);
    if (g->tok) json_object_set_new(line, "text", json_stringn(a->w.text ? a->w.text : "", a->w.bytes));
    json_object_set_new(line, "ids", ids_json(a->w.ids, a->w.n_ids));
    json_object_set_new(line, "finish_reason", json_string(lt_finish_name(a->finish)));
    json_object_set_new(line, "n_prompt", json_integer((json_int_t)p->n));
    json_object_set_new(line, "n_new", json_integer((json_int_t)a->w.n_ids));
    return line;
}

/* Answers that have ended, up to the first that has not: lines come in the order of the prompts. */
static lt_status write_lines(generating *g) {
    for (; g->shown < g->prompts.n * g->samples && g->answers[g->shown].ended; g->shown++) {
        json_t *line = line_json(g, g->shown);
        char *text = json_dumps(line, JSON_COMPACT);
        json_decref(line);
        lt_status st =
            text ? lt_sink_write(&g->out, text, strlen(text), g->err) : lt_fail(g->err, LT_ENOMEM, "out of memory");
        free(text);
        if (st == LT_OK) st = lt_sink_write(&g->out, "\n", 1, g->err);
        lt_writing_clear(&g->answers[g->shown].w);
        LT_TRY(st);
    }
    lt_sink_flush(&g->out);
    return LT_OK;
}

static lt_status begin_answer(generating *g, answer *a, size_t request) {
    if (a->begun) return LT_OK;
    const lt_prompt *p = &g->prompts.at[request];
    a->begun = true;
    return lt_writing_begin(&a->w, g->tok, &g->stops, p->ids, p->n, g->err);
}

static lt_token_reply on_token(void *user, const lt_token *t) {
    generating *g = user;
    answer *a = answer_of(g, t->request, t->sample);
    g->done++;
    g->st = lt_progress(g->c->ctx, g->err, "generate", (double)g->done, (double)g->tokens, "tokens");
    if (g->st == LT_OK) g->st = begin_answer(g, a, t->request);
    if (g->st == LT_OK) g->st = lt_writing_put(&a->w, t->id, g->err);
    if (g->st != LT_OK) return LT_TOKEN_ABORT;
    if (!g->lines) emit_text(g, a);
    return a->w.stopped ? LT_TOKEN_STOP : LT_TOKEN_NEXT;
}

static lt_token_reply on_end(void *user, size_t request, uint32_t sample, lt_finish why) {
    generating *g = user;
    answer *a = answer_of(g, request, sample);
    if (g->st != LT_OK) return LT_TOKEN_ABORT;
    const size_t left = g->requests[request].max_new - a->w.n_ids;
    g->tokens -= left;
    a->finish = why;
    a->ended = true;
    lt_writing_end(&a->w);
    if (g->lines)
        g->st = write_lines(g);
    else
        emit_text(g, a);
    return g->st == LT_OK ? LT_TOKEN_NEXT : LT_TOKEN_ABORT;
}

/* ---- memory and time ---- */

static size_t longest_prompt(const generating *g) {
    size_t n = 0;
    for (size_t i = 0; i < g->prompts.n; i++) n = lt_max_size(n, g->prompts.at[i].n);
    return n;
}

/* Of the largest sequence. */
static size_t cache_bytes(const generating *g) {
    size_t most = 0;
    for (size_t i = 0; i < g->prompts.n; i++)
        most = lt_max_size(most, lt_session_predict(g->model, g->kv, g->requests[i].n_prompt + g->requests[i].max_new));
    return most;
}

static size_t fixed_bytes(const generating *g) {
    return lt_model_bytes(g->model) + lt_generate_bytes(g->model, longest_prompt(g), g->batch);
}

static lt_status estimate(const generating *g, json_t **result, lt_err *err) {
    lt_estimate e = { .memory_bytes = fixed_bytes(g) + g->batch * cache_bytes(g) };
    for (size_t i = 0; i < g->prompts.n; i++) {
        const lt_piece piece = { .n = g->requests[i].n_prompt, .parent = -1 };
        const lt_batch batch = { .n_rows = piece.n, .n_pieces = 1, .ids = g->prompts.at[i].ids, .piece = &piece };
        e.flops += lt_model_flops(g->model, &batch, 1);
    }
    e.read_bytes = (double)g->tokens / (double)g->batch * (double)lt_model_bytes(g->model);
    return lt_estimate_result(result, g->c, &e, err);
}

/* ---- the result ---- */

static void report_one(const generating *g, const lt_generate_many_out *out, json_t *r) {
    const answer *a = g->answers;
    json_object_set_new(r, "prompt_ids", ids_json(g->prompts.at[0].ids, g->prompts.at[0].n));
    json_object_set_new(r, "ids", ids_json(a->w.ids, a->w.n_ids));
    json_object_set_new(r, "finish_reason", json_string(lt_finish_name(a->finish)));
    json_object_set_new(r, "kv_bytes", json_integer((json_int_t)out->kv_bytes));
    if (g->tok)
        json_object_set_new(r, "text", json_stringn(a->w.text ? a->w.text : "", a->w.bytes));
    else
        lt_result_row(lt_result_table(r, "", (const char *const[]){ "ids" }, 1), "j", ids_json(a->w.ids, a->w.n_ids));
    if (g->tok && g->c->ctx->emit) g->c->ctx->emit(g->c->ctx->user, "\n", 1);
}

static lt_status report_lines(generating *g, const lt_generate_many_out *out, json_t *r, lt_err *err) {
    static const char *const columns[] = { "prompts", "answers", "new tokens", "output" };
    const char *output = lt_arg_string(g->c->args, "output");
    json_object_set_new(r, "n_prompts", json_integer((json_int_t)g->prompts.n));
    json_object_set_new(r, "n_answers", json_integer((json_int_t)(g->prompts.n * g->samples)));
    json_object_set_new(r, "n_new", json_integer((json_int_t)out->n_new));
    json_object_set_new(r, "kv_bytes", json_integer((json_int_t)out->kv_bytes));
    if (output && strcmp(output, "-") != 0)
        lt_result_row(lt_result_table(r, "", columns, LT_COUNTOF(columns)), "zzzs", g->prompts.n,
                      g->prompts.n * g->samples, out->n_new, output);
    return lt_sink_finish(&g->out, r, err);
}

static lt_status report(generating *g, const lt_generate_many_out *out, json_t **result, lt_err *err) {
    /* the first token of each answer comes with its prompt */
    const double prefill = (double)out->n_prompt / (out->prefill_s + 1e-12),
                 decode = (double)(out->n_new - lt_min_size(out->n_new, g->prompts.n * g->samples)) /
                          (out->decode_s + 1e-12);
    json_t *r = lt_result_new(g->c);
    json_object_set_new(r, "run",
                        json_pack("{s:{s:f, s:f, s:f, s:f}}", "timings", "prefill_seconds", out->prefill_s,
                                  "decode_seconds", out->decode_s, "prefill_tokens_per_second", prefill,
                                  "decode_tokens_per_second", decode));
    lt_log(g->c->ctx, LT_LOG_INFO,
           "prompts %zu tokens, %.1f tokens/s; new %zu tokens in %zu steps, %.1f tokens/s; cache %zu KiB",
           out->n_prompt, prefill, out->n_new, out->n_steps, decode, out->kv_bytes >> 10);
    const lt_status st = g->lines ? report_lines(g, out, r, err) : (report_one(g, out, r), LT_OK);
    if (st == LT_OK) return lt_result_finish(result, r, err);
    json_decref(r);
    return st;
}

/* ---- the verb ---- */

/* Not more than the model has positions for, unless that much is asked for by name. */
static size_t new_tokens(const generating *g, size_t n_prompt) {
    const size_t wanted = (size_t)lt_arg_int(g->c->args, "max-new"), most = g->model->config.max_positions;
    return lt_arg_given(g->c->args, "max-new") ? wanted : lt_min_size(wanted, most - n_prompt + 1);
}

static lt_status make_requests(generating *g, lt_err *err) {
    size_t answers;
    LT_REQUIRE(err, lt_mul_size(g->prompts.n, g->samples, &answers), "--samples: %zu of %zu prompts", g->samples,
               g->prompts.n);
    g->requests = lt_calloc(g->prompts.n, sizeof *g->requests);
    g->answers = lt_calloc(answers, sizeof *g->answers);
    if (!g->requests || !g->answers) return lt_fail(err, LT_ENOMEM, "generate: %zu answers", answers);
    for (size_t i = 0; i < g->prompts.n; i++) {
        const lt_prompt *p = &g->prompts.at[i];
        g->requests[i] = (lt_request){ p->ids, p->n, new_tokens(g, p->n), g->samples };
        g->tokens += g->requests[i].max_new * g->samples;
    }
    g->batch = lt_min_size((size_t)lt_arg_int(g->c->args, "batch"), answers);
    return LT_OK;
}

static lt_status read_stops(generating *g, lt_err *err) {
    const size_t n = lt_arg_count(g->c->args, "stop");
    LT_REQUIRE(err, n == 0 || g->tok, "--stop: the model has no tokenizer");
    g->stop_text = lt_calloc(lt_max_size(1, n), sizeof *g->stop_text);
    if (!g->stop_text) return lt_fail(err, LT_ENOMEM, "generate: %zu stop strings", n);
    for (size_t i = 0; i < n; i++) {
        g->stop_text[i] = lt_arg_at(g->c->args, "stop", i);
        LT_REQUIRE(err, *g->stop_text[i], "--stop: the text is empty");
    }
    g->stops = (lt_stops){ g->stop_text, n };
    return LT_OK;
}

static lt_status generate(generating *g, json_t **result, lt_err *err) {
    const lt_args *a = g->c->args;
    const size_t fixed = fixed_bytes(g), limit = g->c->ctx->max_memory;
    LT_TRY(lt_need_memory(g->c, fixed + cache_bytes(g), err));
    const lt_generate_many_in in = {
        .model = g->model,
        .team = g->c->team,
        .requests = g->requests,
        .n_requests = g->prompts.n,
        .batch = g->batch,
        .kv_bytes = limit ? limit - fixed : 0,
        .min_new = (size_t)lt_arg_int(a, "min-new"),
        .ignore_eos = lt_arg_flag(a, "ignore-eos"),
        .sampler = { lt_arg_real(a, "temperature"), (size_t)lt_arg_int(a, "top-k"), lt_arg_real(a, "top-p"),
                     lt_arg_real(a, "min-p"), (uint64_t)lt_arg_int(a, "seed"), lt_arg_real(a, "repetition-penalty") },
        .kv_dtype = g->kv,
        .on_token = on_token,
        .on_end = on_end,
        .user = g,
    };
    lt_generate_many_out out;
    if (g->tokens / g->batch >= WORTH_SETTLING) lt_model_settle(g->model);
    if (g->lines) LT_TRY(lt_sink_open(&g->out, g->c, lt_arg_string(a, "output"), err));
    LT_TRY(lt_generate_many(&out, &in, err));
    return g->st == LT_OK ? report(g, &out, result, err) : g->st;
}

static lt_status read_prompts(generating *g, lt_err *err) {
    const lt_args *a = g->c->args;
    const char *file = lt_arg_string(a, "template");
    const bool is_chat = lt_arg_flag(a, "chat");
    lt_chat *chat = NULL;
    LT_REQUIRE(err, is_chat || !(file || lt_arg_string(a, "system")), "--system and --template: only with --chat");
    LT_REQUIRE(err, !is_chat || g->tok, "--chat: the model has no tokenizer");
    if (is_chat) LT_TRY(lt_model_chat(&chat, g->model, g->tok, file, err));
    if (is_chat && !chat)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "%s: the model has no chat template: give --template FILE, or plain prompts", g->model->path);
    const lt_status st = lt_prompts_read(&g->prompts, a, g->tok, chat, g->model->config.max_positions, err);
    lt_chat_destroy(chat);
    return st;
}

static lt_status prepare(generating *g, lt_err *err) {
    const lt_args *a = g->c->args;
    g->samples = (size_t)lt_arg_int(a, "samples");
    g->lines = lt_arg_given(a, "prompts") || g->samples > 1;
    LT_REQUIRE(err, g->lines || !lt_arg_given(a, "output"), "--output: only with --prompts or --samples");
    lt_dtype_find(lt_arg_string(a, "kv-dtype"), &g->kv);
    LT_TRY(read_prompts(g, err));
    LT_TRY(read_stops(g, err));
    return make_requests(g, err);
}

static void clear(generating *g) {
    for (size_t i = 0; g->answers && i < g->prompts.n * g->samples; i++) lt_writing_clear(&g->answers[i].w);
    lt_free(g->answers);
    lt_free(g->requests);
    lt_free(g->stop_text);
    lt_sink_abort(&g->out);
    lt_prompts_clear(&g->prompts);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    generating g = { .c = c, .kv = LT_F32, .err = err };
    lt_opened opened;
    LT_TRY(lt_open_model(&opened, lt_arg_string(c->args, "model"), LT_TOKENIZER_IF_THERE, err));
    LT_TRY(lt_opened_adapt(&opened, c, LT_ADAPT_RUN, err));
    g.model = opened.model;
    g.tok = opened.tokenizer;
    lt_status st = prepare(&g, err);
    if (st == LT_OK) st = lt_arg_flag(c->args, "estimate") ? estimate(&g, result, err) : generate(&g, result, err);
    clear(&g);
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
    { "prompts", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE",
      "many prompts: a text line each, or JSON lines with \"prompt\" or \"prompt_ids\", and an \"id\"; -: standard "
      "input" },
    { "format", LT_OPT_STRING, "auto", 0, 0, "auto|jsonl|text", false, NULL,
      "of --prompts; auto looks at its first line" },
    { "output", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE",
      "with --prompts or --samples: where the JSON lines go; default: standard output" },
    { "chat", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL,
      "the prompt is a user's message: the model's chat template goes around it; JSON lines of --prompts may have "
      "\"messages\"" },
    { "system", LT_OPT_STRING, NULL, 0, 0, NULL, false, "TEXT", "with --chat: the system message" },
    LT_TEMPLATE_OPTION("with --chat: the template"),
    { "samples", LT_OPT_INT, "1", 1, 1 << 20, NULL, false, "N", "answers to each prompt" },
    { "batch", LT_OPT_INT, "8", 1, 4096, NULL, false, "N",
      "answers that are written at a time, where memory allows; it does not change them" },
    { "add-special", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL, "begin-of-text and the like before the prompt" },
    { "max-new", LT_OPT_INT, "128", 1, 1 << 24, NULL, false, "N", "new tokens at most" },
    { "min-new", LT_OPT_INT, "0", 0, 1 << 24, NULL, false, "N", "no end-of-text token before so many" },
    { "stop", LT_OPT_STRING, NULL, 0, 0, NULL, true, "TEXT", "end where this text comes, and leave it out" },
    { "temperature", LT_OPT_REAL, "0", 0, 100, NULL, false, "T", "0: greedy" },
    { "top-k", LT_OPT_INT, "0", 0, 1 << 30, NULL, false, "K", "choose among the K most likely; 0: all" },
    { "top-p", LT_OPT_REAL, "1", 0, 1, NULL, false, "P",
      "choose among the most likely that hold P of the probability" },
    { "min-p", LT_OPT_REAL, "0", 0, 1, NULL, false, "P", "leave out what is less likely than P times the most likely" },
    { "repetition-penalty", LT_OPT_REAL, "1", 0.01, 100, NULL, false, "R",
      "divide positive logits of tokens that were there already by R, multiply negative ones; 1: off" },
    { "seed", LT_OPT_INT, "0", 0, 0x1p53, NULL, false, "N", "of the choice" },
    { "ignore-eos", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, "go on after an end-of-text token" },
    { "kv-dtype", LT_OPT_STRING, "f32", 0, 0, "f32|f16|bf16|q8_0", false, NULL, "how keys and values are remembered" },
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_generate = {
    .name = "generate",
    .summary = "write on from a prompt, greedily or by sampling",
    .details =
        "The text streams to standard output and ends with a newline; the prompt is not repeated. --json gives "
        "ids and timings. With --prompts or --samples, each answer is a JSON line {id, sample, prompt, text, ids, "
        "finish_reason, n_prompt, n_new}, in the order of the prompts; finish_reason is eos, stop or length. Answers "
        "depend on the prompt, the options, the seed and the number of the sample, not on what is written beside them.",
    .example = "lathe generate ./model --prompt 'The capital of France is' --max-new 32",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_OVERWRITE,
};
