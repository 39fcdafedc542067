/* SPDX-License-Identifier: Apache-2.0 */
/* Data files as documents. A file is JSONL when its name says so or its first line is a JSON object. A row has "text",
 * or "messages" for the model's chat template, or the members of an instruction set (Taori et al., Stanford Alpaca,
 * 2023), which its published template joins. */
#include <ctype.h>
#include <string.h>

#include "calib/recipe.h"
#include "io/file.h"
#include "io/json.h"

#define ALPACA_HEAD "Below is an instruction that describes a task"
#define ALPACA_TASK "Write a response that appropriately completes the request.\n\n### Instruction:\n"

static lt_status no_memory(const char *name, lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "no memory for the text (%s)", name);
}

void lt_docs_clear(lt_docs *d) {
    for (size_t i = 0; i < d->n_made; i++) lt_free(d->made[i]);
    lt_free(d->made);
    lt_free(d->doc);
    lt_free(d->storage);
    json_decref(d->json);
    *d = (lt_docs){ 0 };
}

static lt_status add_doc(lt_docs *d, const char *text, size_t bytes, bool templated, const char *name, lt_err *err) {
    if (d->n == d->cap) {
        const size_t cap = d->cap ? 2 * d->cap : 256;
        lt_doc *doc = lt_realloc(d->doc, cap * sizeof *doc);
        if (!doc) return no_memory(name, err);
        d->doc = doc;
        char **made = lt_realloc(d->made, cap * sizeof *made);
        if (!made) return no_memory(name, err);
        d->made = made;
        d->cap = cap;
    }
    d->doc[d->n++] = (lt_doc){ text, bytes, templated };
    return LT_OK;
}

/* ---- rows of JSONL ---- */

/* Takes text. */
static lt_status add_made(lt_docs *d, char *text, size_t bytes, bool templated, const char *name, lt_err *err) {
    const lt_status st = add_doc(d, text, bytes, templated, name, err);
    if (st != LT_OK) return lt_free(text), st;
    d->made[d->n_made++] = text;
    return LT_OK;
}

char *lt_alpaca_text(const char *instruction, const char *input, const char *output) {
    if (input && *input)
        return lt_asprintf(ALPACA_HEAD ", paired with an input that provides further context. " ALPACA_TASK
                                       "%s\n\n### Input:\n%s\n\n### Response:\n%s",
                           instruction, input, output);
    return lt_asprintf(ALPACA_HEAD ". " ALPACA_TASK "%s\n\n### Response:\n%s", instruction, output);
}

static lt_status add_alpaca(lt_docs *d, const json_t *row, const char *name, lt_err *err) {
    const char *instruction, *input, *output;
    LT_TRY(lt_json_string(&instruction, row, "instruction", NULL, name, err));
    LT_TRY(lt_json_string(&input, row, "input", NULL, name, err));
    LT_TRY(lt_json_string(&output, row, "output", NULL, name, err));
    if (!output) return lt_fail(err, LT_EDATA, "an instruction without \"output\" (%s)", name);
    char *text = lt_alpaca_text(instruction, input, output);
    if (!text) return no_memory(name, err);
    d->eos = true;
    return add_made(d, text, strlen(text), false, name, err);
}

static lt_status add_messages(lt_docs *d, const json_t *row, const lt_tokens_opts *o, const char *name, lt_err *err) {
    char *text;
    size_t bytes;
    if (o && !o->chat && o->no_chat && o->no_chat->code != LT_OK)
        return lt_fail(err, o->no_chat->code, "%s", o->no_chat->message);
    if (!o || !o->chat)
        return lt_fail(
            err, LT_EUNSUPPORTED,
            "rows of \"messages\" need a chat template, and the model has none: give --template FILE, or rows "
            "of \"text\" (%s)",
            name);
    LT_TRY(lt_chat_render(o->chat, row, false, &text, &bytes, err));
    return add_made(d, text, bytes, true, name, err);
}

static lt_status add_row(lt_docs *d, const json_t *row, const lt_tokens_opts *o, const char *name, lt_err *err) {
    const json_t *text = json_object_get(row, "text");
    if (!json_is_object(row)) return lt_fail(err, LT_EDATA, "row is not a JSON object (%s)", name);
    if (json_is_string(text)) return add_doc(d, json_string_value(text), json_string_length(text), false, name, err);
    if (text && !json_is_null(text)) return lt_fail(err, LT_EDATA, "\"text\" is not a string (%s)", name);
    if (json_object_get(row, "messages")) return add_messages(d, row, o, name, err);
    if (json_object_get(row, "instruction")) return add_alpaca(d, row, name, err);
    return lt_fail(err, LT_EDATA, "row has neither \"text\" nor \"messages\" nor \"instruction\" and \"output\" (%s)",
                   name);
}

static bool is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isspace((unsigned char)s[i])) return false;
    return true;
}

static size_t line_length(const char *s, size_t left) {
    const char *end = memchr(s, '\n', left);
    return end ? (size_t)(end - s) : left;
}

static lt_status parse_line(lt_docs *d, const char *line, size_t n, const lt_tokens_opts *o, const char *name,
                            size_t number, lt_err *err) {
    json_t *row = NULL;
    lt_status st = lt_json_parse(&row, line, n, name, err);
    if (st == LT_OK && json_array_append_new(d->json, row) != 0) st = no_memory(name, err);
    if (st == LT_OK) st = add_row(d, row, o, name, err);
    return st == LT_OK ? LT_OK : lt_context(err, st, "line %zu", number);
}

static lt_status parse_rows(lt_docs *d, const char *text, size_t bytes, const lt_tokens_opts *o, const char *name,
                            lt_err *err) {
    d->jsonl = true;
    if (!(d->json = json_array())) return no_memory(name, err);
    for (size_t at = 0, number = 1; at < bytes; number++) {
        const size_t n = line_length(text + at, bytes - at);
        if (!is_blank(text + at, n)) LT_TRY(parse_line(d, text + at, n, o, name, number, err));
        at += n + 1;
    }
    return LT_OK;
}

/* ---- the file ---- */

static bool looks_like_rows(const char *text, size_t bytes, const char *name) {
    if (strstr(lt_path_name(name), ".jsonl")) return true;
    size_t at = 0;
    while (at < bytes && isspace((unsigned char)text[at])) at++;
    if (at == bytes || text[at] != '{') return false;
    json_t *row = NULL;
    const bool object =
        lt_json_parse(&row, text + at, line_length(text + at, bytes - at), name, NULL) == LT_OK && json_is_object(row);
    json_decref(row);
    return object;
}

lt_status lt_docs_parse(lt_docs *out, char *text, size_t bytes, const char *name, const lt_tokens_opts *o,
                        lt_err *err) {
    lt_docs d = { .storage = text };
    const bool rows = looks_like_rows(text, bytes, name);
    const lt_status st = rows ? parse_rows(&d, text, bytes, o, name, err) : add_doc(&d, text, bytes, false, name, err);
    if (st == LT_OK)
        *out = d;
    else
        lt_docs_clear(&d);
    return st;
}

lt_status lt_docs_read(lt_docs *out, const char *path, const lt_tokens_opts *o, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(lt_text_read(&text, &bytes, path, err));
    return lt_docs_parse(out, text, bytes, path, o, err);
}

/* ---- joined ---- */

static void append(char *to, size_t *used, const char *from, size_t n) {
    memcpy(to + *used, from, n);
    *used += n;
}

/* The lines of a text file as its data set has them as rows. */
static void join_lines(char *to, size_t *used, const char *text, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        const size_t n = line_length(text + at, bytes - at), whole = lt_min_size(n + 1, bytes - at);
        if (at > 0) append(to, used, "\n\n", 2);
        if (!is_blank(text + at, n)) append(to, used, text + at, whole);
        at += whole;
    }
}

lt_status lt_docs_join(char **text, size_t *bytes, const lt_docs *d, lt_err *err) {
    size_t cap = 1, used = 0;
    for (size_t i = 0; i < d->n; i++)
        cap += (d->jsonl ? 1 : 3) * d->doc[i].bytes + 2; /* a line grows by two newlines */
    char *to = lt_malloc(cap);
    if (!to) return lt_fail(err, LT_ENOMEM, "no memory for %zu bytes of text", cap);
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0) append(to, &used, "\n\n", 2);
        if (d->jsonl)
            append(to, &used, d->doc[i].text, d->doc[i].bytes);
        else
            join_lines(to, &used, d->doc[i].text, d->doc[i].bytes);
    }
    to[used] = 0;
    *text = to;
    *bytes = used;
    return LT_OK;
}
