/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_detokenize.c - ids to text: {"ids", "skip_special"} -> {"text"}, line by line; plain numbers become
 * plain text. */
#include "pipeline/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/open_model.h"
#include "pipeline/result.h"
#include "pipeline/sink.h"
#include "pipeline/text_rows.h"

typedef struct detokenizing {
    lt_call_ctx *c;
    lt_tokenizer *tok;
    lt_text_rows in;
    lt_sink out;
    size_t rows, tokens;
} detokenizing;

static lt_status write_row(detokenizing *z, const char *text, size_t bytes, lt_err *err) {
    if (!z->in.jsonl) return lt_sink_write(&z->out, text, bytes, err);
    json_t *row = json_object();
    char *line = NULL;
    size_t n = 0;
    if (row && json_object_set_new(row, "text", json_stringn(text, bytes)) == 0)
        n = json_dumpb(row, NULL, 0, JSON_COMPACT);
    if (n) line = lt_malloc(n + 1);
    lt_status st = LT_OK;
    if (line) {
        json_dumpb(row, line, n, JSON_COMPACT);
        line[n] = '\n';
        st = lt_sink_write(&z->out, line, n + 1, err);
    } else
        st = lt_fail(err, LT_ENOMEM, "detokenize: out of memory (%s: line %zu)", z->in.name, z->in.line);
    lt_free(line);
    json_decref(row);
    return st;
}

static lt_status decode(detokenizing *z, const int32_t *ids, size_t n, bool skip_special, lt_err *err) {
    char *text = NULL;
    size_t bytes = 0;
    lt_status st = lt_tokenizer_decode(z->tok, ids, n, skip_special, &text, &bytes, err);
    if (st == LT_OK)
        st = write_row(z, text, bytes, err);
    else
        st = lt_context(err, st, "%s: line %zu", z->in.name, z->in.line);
    lt_free(text);
    z->rows++;
    z->tokens += n;
    return st;
}

/* A row is {"ids": [...]} or the bare list. */
static lt_status decode_row(detokenizing *z, const json_t *row, lt_err *err) {
    char where[512];
    json_t *list = (json_t *)row;
    bool skip = lt_arg_flag(z->c->args, "skip-special");
    snprintf(where, sizeof where, "%.400s: line %zu", z->in.name, z->in.line);
    if (!json_is_array(row)) {
        LT_TRY(lt_json_need(&list, row, "ids", where, err));
        LT_TRY(lt_json_bool(&skip, row, "skip_special", skip, where, err));
    }
    if (!json_is_array(list)) return lt_fail(err, LT_EDATA, "\"ids\" is not an array (%s)", where);
    const size_t n = json_array_size(list);
    int32_t *ids = lt_malloc(n * sizeof *ids);
    lt_status st = ids ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", where);
    for (size_t i = 0; st == LT_OK && i < n; i++) {
        const json_t *v = json_array_get(list, i);
        const json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > INT32_MAX)
            st = lt_fail(err, LT_EDATA, "entry %zu of \"ids\" is not an id (%s)", i, where);
        else
            ids[i] = (int32_t)id;
    }
    if (st == LT_OK) st = decode(z, ids, n, skip, err);
    lt_free(ids);
    return st;
}

static lt_status decode_json_lines(detokenizing *z, lt_err *err) {
    for (json_t *row;;) {
        LT_TRY(lt_progress(z->c->ctx, err, "detokenize", (double)z->in.at, (double)z->in.bytes, "B"));
        LT_TRY(lt_text_rows_next(&z->in, &row, err));
        if (!row) return LT_OK;
        const lt_status st = decode_row(z, row, err);
        json_decref(row);
        LT_TRY(st);
    }
}

/* Numbers between blanks and commas. */
static lt_status decode_plain(detokenizing *z, lt_err *err) {
    const char *blank = " \t\r\n,", *text = z->in.text;
    int32_t *ids = lt_malloc((z->in.bytes / 2 + 1) * sizeof *ids);
    size_t n = 0;
    lt_status st = ids ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", z->in.name);
    for (text += strspn(text, blank); st == LT_OK && *text; text += strspn(text, blank)) {
        char *end;
        errno = 0;
        const long id = strtol(text, &end, 10);
        if (end == text || errno || id < 0 || id > INT32_MAX || (*end && !strchr(blank, *end)))
            st = lt_fail(err, LT_EDATA, "\"%.*s\" is not a token id (%s)", (int)lt_min_size(strcspn(text, blank), 20),
                         text, z->in.name);
        else
            ids[n++] = (int32_t)id;
        text = end;
    }
    if (st == LT_OK) st = decode(z, ids, n, lt_arg_flag(z->c->args, "skip-special"), err);
    lt_free(ids);
    return st;
}

static void report(const detokenizing *z, json_t *r, const char *output) {
    static const char *const columns[] = { "rows", "tokens", "output" };
    json_object_set_new(r, "rows", json_integer((json_int_t)z->rows));
    json_object_set_new(r, "tokens", json_integer((json_int_t)z->tokens));
    if (output && strcmp(output, "-") != 0)
        lt_result_row(lt_result_table(r, "", columns, 3), "zzs", z->rows, z->tokens, output);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    detokenizing z = { .c = c };
    const char *output = lt_arg_string(c->args, "output");
    json_t *r = lt_result_new(c);
    lt_status st;
    LT_GO(lt_open_tokenizer(&z.tok, lt_arg_string(c->args, "model"), err));
    LT_GO(lt_text_rows_open(&z.in, lt_arg_string(c->args, "input"), lt_arg_string(c->args, "format"), err));
    LT_GO(lt_sink_open(&z.out, c, output, err));
    LT_GO(z.in.jsonl ? decode_json_lines(&z, err) : decode_plain(&z, err));
    LT_GO(lt_sink_finish(&z.out, r, err));
    report(&z, r, output);
    st = lt_result_finish(result, r, err);
    r = NULL;
done:
    json_decref(r);
    lt_sink_abort(&z.out);
    lt_text_rows_close(&z.in);
    lt_tokenizer_destroy(z.tok);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "model folder, GGUF file, or folder with a tokenizer.json" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "input", LT_OPT_PATH, "-", 0, 0, NULL, false, "FILE",
      "JSON lines with \"ids\" (and \"skip_special\"), or plain numbers; -: standard input" },
    { "output", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE",
      "JSON lines with \"text\", or plain text; default: standard output" },
    { "format", LT_OPT_STRING, "auto", 0, 0, "auto|jsonl|text", false, NULL,
      "of the input; auto looks at its first line" },
    { "skip-special", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL,
      "leave special tokens out where a row does not say" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_detokenize = {
    .name = "detokenize",
    .summary = "turn token ids into text",
    .details = "A JSON line {\"ids\": [...], \"skip_special\": true} becomes {\"text\": ...}; plain numbers become "
               "plain text.",
    .example = "lathe detokenize ./model --input ids.jsonl --output texts.jsonl",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE | LT_NO_OVERWRITE,
};
