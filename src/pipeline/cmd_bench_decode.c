/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_bench_decode.c - how fast single tokens follow one another, beside the rate at which this machine reads
 * memory. */
#include "pipeline/commands.h"

#include "model/generate.h"
#include "model/settle.h"
#include "pipeline/bench.h"
#include "pipeline/estimate.h"
#include "pipeline/open_model.h"
#include "pipeline/result.h"

enum { PROBE_BYTES = 256 << 20 };

typedef struct decode {
    lt_call_ctx *c;
    const lt_model *model;
    size_t prompt, tokens, runs, batch;
    lt_dtype kv;
    size_t kv_bytes;
    int32_t *ids; /* [batch, prompt] */
    lt_request *requests;
    double *seconds; /* of one step, a run each */
} decode;

static lt_status measure(decode *d, lt_err *err) {
    for (size_t i = 0; i < d->batch; i++)
        d->requests[i] = (lt_request){ d->ids + i * d->prompt, d->prompt, d->tokens + 1, 1 };
    const lt_generate_many_in in = { .model = d->model,
                                     .team = d->c->team,
                                     .requests = d->requests,
                                     .n_requests = d->batch,
                                     .batch = d->batch,
                                     .ignore_eos = true,
                                     .sampler = LT_SAMPLER_GREEDY,
                                     .kv_dtype = d->kv };
    for (size_t i = 0; i < d->runs; i++) {
        lt_generate_many_out out;
        LT_TRY(lt_progress(d->c->ctx, err, "bench decode", (double)i, (double)d->runs, "runs"));
        /* the prompts, which have a clock of their own, touch every page before the steps begin */
        LT_TRY(lt_generate_many(&out, &in, err));
        d->seconds[i] = out.decode_s / (double)out.n_steps;
        d->kv_bytes = out.kv_bytes;
    }
    return LT_OK;
}

/* Read for one step: every weight but the table's other rows (a tied table is read as the head), and the cache, half
 * full on average between its size after the prompt and at the end. */
static double bytes_per_step(const decode *d) {
    const size_t table = d->model->config.tied ? 0 : lt_tensor_bytes(&d->model->embed.t);
    const double ends = (double)(d->prompt + d->tokens), mean = (double)d->prompt + 0.5 * (double)d->tokens;
    return (double)(lt_model_bytes(d->model) - table) + (double)d->kv_bytes * mean / ends;
}

static lt_status report(decode *d, double read, json_t **result, lt_err *err) {
    static const char *const columns[] = { "prompt",          "tokens",        "batch",
                                           "median|tokens/s", "best|tokens/s", "read for a step|B",
                                           "speed|GB/s",      "memory|GB/s",   "share|%" };
    const lt_times t = lt_times_of(d->seconds, d->runs);
    const double n = (double)d->batch, bytes = bytes_per_step(d), rate = bytes / t.median;
    json_t *r = lt_result_new(d->c);
    json_object_set_new(r, "value",
                        json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I}", "batch", (json_int_t)d->batch,
                                  "tokens_per_second", n / t.median, "tokens_per_second_best", n / t.best,
                                  "tokens_per_second_worst", n / t.worst, "bytes_per_token", bytes / n,
                                  "bytes_per_second", rate, "read_bytes_per_second", read, "share_of_read", rate / read,
                                  "kv_bytes", (json_int_t)d->kv_bytes));
    lt_result_row(lt_result_table(r, "decode", columns, LT_COUNTOF(columns)), "zzzdddddd", d->prompt, d->tokens,
                  d->batch, n / t.median, n / t.best, bytes, rate * 1e-9, read * 1e-9, 100 * rate / read);
    return lt_result_finish(result, r, err);
}

static lt_status bench(decode *d, json_t **result, lt_err *err) {
    double before, after;
    LT_TRY(lt_bench_check_positions(d->model, d->prompt + d->tokens, err));
    LT_TRY(lt_need_memory(d->c,
                          lt_model_bytes(d->model) + lt_generate_bytes(d->model, d->prompt, d->batch) +
                              d->batch * lt_session_predict(d->model, d->kv, d->prompt + d->tokens) + PROBE_BYTES,
                          err));
    size_t n_ids;
    LT_REQUIRE(err, lt_mul_size(d->batch, d->prompt, &n_ids), "--batch %zu, --prompt %zu", d->batch, d->prompt);
    d->ids = lt_bench_ids(n_ids, d->model->config.vocab_size, 0);
    d->seconds = lt_calloc(d->runs, sizeof *d->seconds);
    d->requests = lt_calloc(d->batch, sizeof *d->requests);
    if (!d->ids || !d->seconds || !d->requests) return lt_fail(err, LT_ENOMEM, "bench decode: out of memory");
    LT_TRY(lt_probe_read(&before, d->c->team, PROBE_BYTES, 0.3, err));
    lt_model_settle(d->model);
    LT_TRY(measure(d, err));
    LT_TRY(lt_probe_read(&after, d->c->team, PROBE_BYTES, 0.3, err));
    return report(d, before > after ? before : after, result, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    decode d = { .c = c,
                 .prompt = (size_t)lt_arg_int(c->args, "prompt"),
                 .tokens = (size_t)lt_arg_int(c->args, "tokens"),
                 .runs = (size_t)lt_arg_int(c->args, "runs"),
                 .batch = (size_t)lt_arg_int(c->args, "batch"),
                 .kv = LT_F32 };
    lt_dtype_find(lt_arg_string(c->args, "kv-dtype"), &d.kv);
    lt_opened opened;
    LT_TRY(lt_open_model(&opened, lt_arg_string(c->args, "model"), LT_TOKENIZER_NO, err));
    LT_TRY(lt_opened_adapt(&opened, c, LT_ADAPT_RUN, err));
    d.model = opened.model;
    const lt_status st = bench(&d, result, err);
    lt_free(d.ids);
    lt_free(d.requests);
    lt_free(d.seconds);
    lt_opened_clear(&opened);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "model folder, GGUF file or output folder" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "tokens", LT_OPT_INT, "64", 1, 1 << 20, NULL, false, "N", "tokens that are generated and timed" },
    { "prompt", LT_OPT_INT, "16", 1, 1 << 20, NULL, false, "N", "tokens that stand before them" },
    { "batch", LT_OPT_INT, "1", 1, 4096, NULL, false, "N", "sequences at a time" },
    { "runs", LT_OPT_INT, "3", 1, 1000, NULL, false, "N", "runs" },
    { "kv-dtype", LT_OPT_STRING, "f32", 0, 0, "f32|f16|bf16|q8_0", false, NULL, "how keys and values are remembered" },
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_bench_decode = {
    .name = "bench decode",
    .summary = "measure how fast tokens are generated",
    .details = "Reading is what limits it: each step needs every weight and the cache once, and gives a token to each "
               "sequence of the batch. The memory rate is that "
               "of a matrix-vector product "
               "over 256 MiB of f32, measured before and after; the higher one counts.",
    .example = "lathe bench decode ./model --tokens 64",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE | LT_NO_OVERWRITE,
};
