/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_compare.c - models beside their base in one table. */
#include "pipeline/commands.h"

#include "pipeline/compare.h"
#include "pipeline/require.h"
#include "pipeline/result.h"

typedef struct comparing {
    lt_call_ctx *c;
    lt_subject *subject; /* the base, then the models */
    const lt_subject **model;
    size_t n;
    lt_tokens tokens;
    size_t window;
} comparing;

static lt_status open_all(comparing *k, lt_err *err) {
    const lt_args *a = k->c->args;
    const size_t n = 1 + lt_arg_count(a, "model");
    k->subject = lt_calloc(n, sizeof *k->subject);
    k->model = lt_calloc(n, sizeof *k->model);
    if (!k->subject || !k->model) return lt_fail(err, LT_ENOMEM, "compare: out of memory");
    for (; k->n < n; k->n++) {
        const char *path = k->n ? lt_arg_at(a, "model", k->n - 1) : lt_arg_string(a, "base");
        LT_TRY(lt_subject_open(&k->subject[k->n], k->c, path, k->n ? LT_ADAPT_RUN : LT_ADAPT_NO, err));
        k->model[k->n] = &k->subject[k->n];
    }
    return LT_OK;
}

static lt_status read_text(comparing *k, lt_err *err) {
    const lt_args *a = k->c->args;
    LT_TRY(lt_window_choose(&k->window, k->c, k->model, k->n, err));
    const lt_tokens_opts opts = { .recipe = lt_arg_string(a, "recipe"),
                                  .seq_len = k->window,
                                  .max_rows = (size_t)lt_arg_int(a, "max-windows") };
    return lt_subject_tokens(&k->tokens, &k->subject[0], k->c, lt_arg_string(a, "data"), &opts, err);
}

static lt_status compare(comparing *k, json_t **result, lt_err *err) {
    const lt_args *a = k->c->args;
    const lt_compare_in in = { .c = k->c,
                               .base = &k->subject[0],
                               .models = k->model + 1,
                               .n_models = k->n - 1,
                               .tokens = &k->tokens,
                               .window = k->window,
                               .q8 = lt_arg_flag(a, "q8"),
                               .speed = lt_arg_flag(a, "speed"),
                               .prompt = (size_t)lt_arg_int(a, "prompt-tokens"),
                               .new_tokens = (size_t)lt_arg_int(a, "new-tokens") };
    if (lt_arg_flag(a, "estimate")) {
        lt_estimate e;
        LT_TRY(lt_compare_estimate(&e, &in, err));
        return lt_estimate_result(result, k->c, &e, err);
    }
    json_t *r = lt_result_new(k->c);
    lt_status st = r ? lt_compare(r, &in, err) : lt_fail(err, LT_ENOMEM, "compare: out of memory");
    if (st == LT_OK) st = lt_result_finish(result, json_incref(r), err);
    if (st == LT_OK) st = lt_compare_requires(r, a, err);
    json_decref(r);
    return st;
}

static lt_status check(const lt_args *a, lt_err *err) {
    return lt_requires_check(a, lt_compare_names, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    comparing k = { .c = c };
    lt_status st = open_all(&k, err);
    if (st == LT_OK) st = read_text(&k, err);
    if (st == LT_OK) st = compare(&k, result, err);
    lt_tokens_clear(&k.tokens);
    for (size_t i = 0; i < k.n; i++) lt_subject_clear(&k.subject[i]);
    lt_free(k.subject);
    lt_free(k.model);
    return st;
}

static const lt_positional positionals[] = {
    { "base", 1, 1, "model that the others were made from" },
    { "model", 0, SIZE_MAX, "models, or output folders, to compare with it" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "data", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE",
      "text that none of the models has seen: text, JSON lines, gzip or zstd of them, or a token file" },
    LT_TEMPLATE_OPTION("chat template for rows of \"messages\""),
    { "recipe", LT_OPT_STRING, "wikitext", 0, 0, NULL, false, "NAME", "how the text becomes windows" },
    { "window", LT_OPT_INT, NULL, 2, 1 << 24, NULL, false, "N",
      "tokens per window; default: 2048, or the models' positions where they are fewer" },
    { "max-windows", LT_OPT_INT, "0", 0, 0x1p40, NULL, false, "N", "windows at most; 0: all" },
    { "q8", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL,
      "a row for the base with its weights as q8_0: what quantising alone gives" },
    { "speed", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL,
      "measure reading and writing speed and peak memory, in a process per model" },
    { "prompt-tokens", LT_OPT_INT, "512", 1, 1 << 20, NULL, false, "N", "tokens read in the speed runs" },
    { "new-tokens", LT_OPT_INT, "32", 2, 1 << 20, NULL, false, "N", "tokens written in the speed runs" },
    LT_REQUIRE_OPTION,
    LT_ADAPTER_OPTION,
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_compare = {
    .name = "compare",
    .summary = "one table: size, perplexity, KL divergence, speed and memory of models beside their base",
    .details = "The perplexity is that of the block protocol: whole windows, every token but a window's first is "
               "predicted, exp of the "
               "mean. KLD is KL(base || model) in nats over the same positions: its mean and its 99 % quantile. Same "
               "top-1 is the share of "
               "positions where both find the same token most likely.\n"
               "The q8_0 row shows what quantising the base alone gives.\n"
               "--require conditions (ppl, kld.mean, kld.median, kld.p99, kld.max, top1, params, bytes) hold for every "
               "model but the base.",
    .example = "lathe compare ./model ./smaller --data wiki.test.raw --max-windows 4",
    .positionals = positionals,
    .options = options,
    .check = check,
    .run = run,
    .without = LT_NO_OVERWRITE,
};
