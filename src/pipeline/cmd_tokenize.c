/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_tokenize.c - text to ids: {"text", "add_special"} -> {"ids"}, line by line; plain text is one row;
 * --pack makes a token file. */
#include "pipeline/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calib/tokens.h"
#include "pipeline/open_model.h"
#include "pipeline/result.h"
#include "pipeline/sink.h"
#include "pipeline/text_rows.h"

typedef struct tokenizing {
    lt_call_ctx *c;
    lt_tokenizer *tok;
    const lt_chat *chat; /* NULL: rows of "text" */
    lt_text_rows in;
    lt_sink out;
    size_t rows, tokens;
} tokenizing;

static lt_status write_ids(tokenizing *z, const int32_t *ids, size_t n, lt_err *err) {
    char number[16];
    LT_TRY(lt_sink_write(&z->out, "{\"ids\":[", 8, err));
    for (size_t i = 0; i < n; i++) {
        const int w = snprintf(number, sizeof number, i ? ",%d" : "%d", (int)ids[i]);
        LT_TRY(lt_sink_write(&z->out, number, (size_t)w, err));
    }
    z->rows++;
    z->tokens += n;
    return lt_sink_write(&z->out, "]}\n", 3, err);
}

static lt_status encode(tokenizing *z, const char *text, size_t bytes, bool add_special, lt_err *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    lt_status st = lt_tokenizer_encode(z->tok, text, bytes, add_special, &ids, &n, err);
    if (st == LT_OK)
        st = write_ids(z, ids, n, err);
    else
        st = z->in.jsonl ? lt_context(err, st, "%s: line %zu", z->in.name, z->in.line)
                         : lt_context(err, st, "%s", z->in.name);
    lt_free(ids);
    return st;
}

static lt_status write_text(tokenizing *z, const char *text, size_t bytes, lt_err *err) {
    json_t *row = json_pack("{s:s%}", "text", text, bytes);
    char *line = row ? json_dumps(row, JSON_COMPACT) : NULL;
    lt_status st = line ? lt_sink_write(&z->out, line, strlen(line), err)
                        : lt_fail(err, LT_ENOMEM, "no memory for %zu bytes of text", bytes);
    if (st == LT_OK) st = lt_sink_write(&z->out, "\n", 1, err);
    free(line);
    json_decref(row);
    z->rows++;
    return st;
}

static lt_status render_row(tokenizing *z, const json_t *row, const char *where, lt_err *err) {
    char *text = NULL;
    size_t bytes;
    lt_status st = lt_chat_render(z->chat, row, lt_arg_flag(z->c->args, "add-generation-prompt"), &text, &bytes, err);
    if (st != LT_OK) return lt_context(err, st, "%s", where);
    st = lt_arg_flag(z->c->args, "rendered") ? write_text(z, text, bytes, err) : encode(z, text, bytes, false, err);
    lt_free(text);
    return st;
}

static lt_status encode_row(tokenizing *z, const json_t *row, lt_err *err) {
    char where[512];
    bool add_special;
    json_t *text;
    snprintf(where, sizeof where, "%.400s: line %zu", z->in.name, z->in.line);
    if (z->chat) return render_row(z, row, where, err);
    if (json_object_get(row, "messages") && !json_object_get(row, "text"))
        return lt_fail(err, LT_EDATA, "row has \"messages\" and no \"text\": give --chat (%s)", where);
    LT_TRY(lt_json_need(&text, row, "text", where, err));
    if (!json_is_string(text)) return lt_fail(err, LT_EDATA, "\"text\" is not a string (%s)", where);
    LT_TRY(lt_json_bool(&add_special, row, "add_special", lt_arg_flag(z->c->args, "add-special"), where, err));
    return encode(z, json_string_value(text), json_string_length(text), add_special, err);
}

static lt_status encode_all(tokenizing *z, lt_err *err) {
    if (z->chat && !z->in.jsonl)
        return lt_fail(err, LT_EDATA, "--chat takes JSON lines with \"messages\" (%s)", z->in.name);
    if (!z->in.jsonl) return encode(z, z->in.text, z->in.bytes, lt_arg_flag(z->c->args, "add-special"), err);
    for (json_t *row;;) {
        LT_TRY(lt_progress(z->c->ctx, err, "tokenize", (double)z->in.at, (double)z->in.bytes, "B"));
        LT_TRY(lt_text_rows_next(&z->in, &row, err));
        if (!row) return LT_OK;
        const lt_status st = encode_row(z, row, err);
        json_decref(row);
        LT_TRY(st);
    }
}

static void report(json_t *r, size_t rows, size_t tokens, const char *output) {
    static const char *const columns[] = { "rows", "tokens", "output" };
    json_object_set_new(r, "rows", json_integer((json_int_t)rows));
    json_object_set_new(r, "tokens", json_integer((json_int_t)tokens));
    if (output && strcmp(output, "-") != 0)
        lt_result_row(lt_result_table(r, "", columns, 3), "zzs", rows, tokens, output);
}

static lt_status tokenize_rows(lt_call_ctx *c, lt_tokenizer *tok, const lt_chat *chat, json_t *r, lt_err *err) {
    tokenizing z = { .c = c, .tok = tok, .chat = chat };
    const char *output = lt_arg_string(c->args, "output");
    lt_status st = lt_text_rows_open(&z.in, lt_arg_string(c->args, "input"), lt_arg_string(c->args, "format"), err);
    if (st == LT_OK) st = lt_sink_open(&z.out, c, output, err);
    if (st == LT_OK) st = encode_all(&z, err);
    if (st == LT_OK) st = lt_sink_finish(&z.out, r, err);
    if (st == LT_OK) report(r, z.rows, z.tokens, output);
    lt_sink_abort(&z.out);
    lt_text_rows_close(&z.in);
    return st;
}

static lt_status pack(lt_call_ctx *c, lt_tokenizer *tok, const lt_chat *chat, json_t *r, lt_err *err) {
    const char *input = lt_arg_string(c->args, "input"), *output = lt_arg_string(c->args, "output");
    LT_REQUIRE(err, output && strcmp(output, "-") != 0, "tokenize: --pack needs --output FILE.safetensors");
    const lt_tokens_opts opts = { .recipe = lt_arg_string(c->args, "recipe"),
                                  .seq_len = (size_t)lt_arg_int(c->args, "pack"),
                                  .max_rows = (size_t)lt_arg_int(c->args, "max-rows"),
                                  .seed = (uint64_t)lt_arg_int(c->args, "seed"),
                                  .chat = chat };
    lt_tokens t = { 0 };
    LT_TRY(lt_tokens_from_data(&t, strcmp(input, "-") == 0 ? "/dev/stdin" : input, tok, lt_tokenizer_vocab_size(tok),
                               &opts, err));
    lt_status st = lt_tokens_save(&t, output, err);
    if (st == LT_OK) {
        json_object_set_new(r, "tokens_hash", json_string(t.hash));
        json_object_set_new(r, "recipe", json_string(opts.recipe));
        report(r, t.n_rows, t.n_ids, output);
    }
    lt_tokens_clear(&t);
    return st;
}

/* *chat NULL: the rows are no chats. */
static lt_status open_chat(lt_chat **chat, const lt_call_ctx *c, const lt_tokenizer *tok, lt_err *err) {
    const char *file = lt_arg_string(c->args, "template"), *model = lt_arg_string(c->args, "model");
    const bool wanted = lt_arg_flag(c->args, "chat");
    *chat = NULL;
    LT_REQUIRE(err,
               wanted || !(file || lt_arg_flag(c->args, "rendered") || lt_arg_flag(c->args, "add-generation-prompt")),
               "tokenize: --template, --rendered and --add-generation-prompt need --chat");
    if (wanted) LT_TRY(lt_open_chat(chat, model, tok, file, err));
    if (wanted && !*chat)
        return lt_fail(err, LT_EUNSUPPORTED, "%s: the model has no chat template: give --template FILE", model);
    return LT_OK;
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    lt_tokenizer *tok = NULL;
    lt_chat *chat = NULL;
    LT_TRY(lt_open_tokenizer(&tok, lt_arg_string(c->args, "model"), err));
    json_t *r = lt_result_new(c);
    json_object_set_new(r, "tokenizer_hash", json_string(lt_tokenizer_hash(tok)));
    lt_status st = open_chat(&chat, c, tok, err);
    if (st == LT_OK)
        st = lt_arg_given(c->args, "pack") ? pack(c, tok, chat, r, err) : tokenize_rows(c, tok, chat, r, err);
    lt_chat_destroy(chat);
    lt_tokenizer_destroy(tok);
    if (st == LT_OK) return lt_result_finish(result, r, err);
    json_decref(r);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "model folder, GGUF file, or folder with a tokenizer.json" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "input", LT_OPT_PATH, "-", 0, 0, NULL, false, "FILE",
      "JSON lines with \"text\" (and \"add_special\"), or plain text; gzip and zstd are undone; -: standard input" },
    { "output", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE", "JSON lines with \"ids\"; default: standard output" },
    { "format", LT_OPT_STRING, "auto", 0, 0, "auto|jsonl|text", false, NULL,
      "of the input; auto looks at its first line" },
    { "add-special", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL,
      "add begin-of-text and the like where a row does not say" },
    { "chat", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL,
      "rows have \"messages\" (and \"tools\", \"add_generation_prompt\", ...): the chat template makes the text" },
    LT_TEMPLATE_OPTION("with --chat: the template"),
    { "add-generation-prompt", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL,
      "with --chat: open the assistant's turn where a row does not say" },
    { "rendered", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, "with --chat: write the text instead of ids" },
    { "pack", LT_OPT_INT, NULL, 2, 1 << 24, NULL, false, "N",
      "make a token file (safetensors) of rows of N tokens instead" },
    { "recipe", LT_OPT_STRING, "plain", 0, 0, NULL, false, "NAME", "with --pack: how text becomes rows" },
    { "max-rows", LT_OPT_INT, "0", 0, 0x1p40, NULL, false, "N", "with --pack: rows at most; 0: all" },
    { "seed", LT_OPT_INT, "0", 0, 0x1p53, NULL, false, "N", "with --pack --recipe svdllm: which windows" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_tokenize = {
    .name = "tokenize",
    .summary = "turn text into token ids, or into a token file",
    .details = "A JSON line {\"text\": ..., \"add_special\": true} becomes {\"ids\": [...]}; plain text becomes one "
               "such line. With --chat a line {\"messages\": [{\"role\": ..., \"content\": ...}]} is rendered by the "
               "model's chat template first.",
    .example = "lathe tokenize ./model --input texts.jsonl --output ids.jsonl",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE | LT_NO_OVERWRITE,
};
