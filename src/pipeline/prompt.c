/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "pipeline/text_rows.h"

/* what reading needs, and where it is */
typedef struct reading {
    lt_prompts *to;
    const lt_args *args;
    const lt_tokenizer *tok;
    const lt_chat *chat; /* NULL: plain prompts */
    size_t max_positions;
    const char *where; /* of the prompt at hand: "--prompt", "FILE: line 3" */
    bool from_file;    /* a fault of the prompt is a fault of the input, not of the usage */
} reading;

static lt_status no_tokens(const reading *r, lt_err *err) {
    return lt_fail(err, r->from_file ? LT_EDATA : LT_EUSAGE, "the prompt has no tokens (%s)", r->where);
}

/* Takes ids, also when it fails. */
static lt_status put(reading *r, int32_t *ids, size_t n, json_t *id, json_t *text, lt_err *err) {
    lt_prompts *to = r->to;
    lt_status st = n > 0 ? LT_OK : no_tokens(r, err);
    if (st == LT_OK && n > r->max_positions)
        st = lt_fail(err, LT_EDATA, "prompt has %zu tokens, the model has %zu positions (%s)", n, r->max_positions,
                     r->where);
    if (st == LT_OK && to->n == to->cap) {
        const size_t cap = to->cap ? 2 * to->cap : 16;
        lt_prompt *grown = lt_realloc(to->at, cap * sizeof *grown);
        if (grown) {
            to->at = grown;
            to->cap = cap;
        } else
            st = lt_fail(err, LT_ENOMEM, "%zu prompts: out of memory", cap);
    }
    if (st == LT_OK)
        to->at[to->n++] = (lt_prompt){ ids, n, json_incref(id), json_incref(text) };
    else
        lt_free(ids);
    return st;
}

/* row: {"messages": ...} */
static lt_status put_chat(reading *r, const json_t *row, json_t *id, json_t *shown, lt_err *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    const lt_status st = lt_chat_encode(r->chat, r->tok, row, true, &ids, &n, err);
    return st == LT_OK ? put(r, ids, n, id, shown, err) : lt_context(err, st, "%s", r->where);
}

static lt_status put_user(reading *r, const char *text, size_t bytes, json_t *id, json_t *shown, lt_err *err) {
    json_t *row = NULL;
    LT_TRY(lt_chat_row(&row, lt_arg_string(r->args, "system"), text, bytes, err));
    const lt_status st = put_chat(r, row, id, shown, err);
    json_decref(row);
    return st;
}

static lt_status put_text(reading *r, const char *text, size_t bytes, json_t *id, json_t *shown, lt_err *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    if (!r->tok)
        return lt_fail(err, LT_EDATA, "the model has no tokenizer: only prompt ids can be used (%s)", r->where);
    if (r->chat) return put_user(r, text, bytes, id, shown, err);
    const lt_status st = lt_tokenizer_encode(r->tok, text, bytes, lt_arg_flag(r->args, "add-special"), &ids, &n, err);
    if (st != LT_OK) return r->from_file ? lt_context(err, st, "%s", r->where) : st;
    return put(r, ids, n, id, shown, err);
}

/* ---- one prompt ---- */

static lt_status put_id_list(reading *r, const char *text, lt_err *err) {
    int32_t *list = lt_malloc((strlen(text) / 2 + 1) * sizeof *list);
    size_t n = 0;
    if (!list) return lt_fail(err, LT_ENOMEM, "--prompt-ids: out of memory");
    for (const char *blank = ", \t\n"; *(text += strspn(text, blank));) {
        char *end;
        errno = 0;
        const long id = strtol(text, &end, 10);
        if (end == text || errno || id < 0 || id > INT32_MAX || (*end && !strchr(blank, *end))) {
            lt_free(list);
            return lt_fail(err, LT_EUSAGE, "--prompt-ids: \"%.*s\" is not a token id",
                           (int)lt_min_size(strcspn(text, blank), 20), text);
        }
        list[n++] = (int32_t)id;
        text = end;
    }
    return put(r, list, n, NULL, NULL, err);
}

static lt_status put_file(reading *r, const char *path, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(lt_file_read(&text, &bytes, strcmp(path, "-") == 0 ? "/dev/stdin" : path, 0, err));
    lt_status st = put_text(r, text, bytes, NULL, NULL, err);
    if (st != LT_OK) st = lt_context(err, st, "%s", path);
    lt_free(text);
    return st;
}

/* ---- many ---- */

static lt_status put_id_array(reading *r, const json_t *list, json_t *id, lt_err *err) {
    const size_t n = json_array_size(list);
    int32_t *ids = lt_malloc(lt_max_size(1, n) * sizeof *ids);
    if (!ids) return lt_fail(err, LT_ENOMEM, "%s: %zu ids: out of memory", r->where, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        const json_int_t value = json_is_integer(v) ? json_integer_value(v) : -1;
        if (value < 0 || value > INT32_MAX) {
            lt_free(ids);
            return lt_fail(err, LT_EDATA, "\"prompt_ids\": entry %zu is not a token id (%s)", i, r->where);
        }
        ids[i] = (int32_t)value;
    }
    return put(r, ids, n, id, NULL, err);
}

static lt_status put_row(reading *r, const json_t *row, json_t *id, lt_err *err) {
    json_t *text = json_object_get(row, "prompt"), *list = json_object_get(row, "prompt_ids"),
           *messages = json_object_get(row, "messages");
    if (!json_is_object(row)) return lt_fail(err, LT_EDATA, "row is not an object (%s)", r->where);
    if ((text != NULL) + (list != NULL) + (messages != NULL) != 1)
        return lt_fail(err, LT_EDATA, "row needs one of \"prompt\", \"prompt_ids\" and \"messages\" (%s)", r->where);
    if (messages && !r->chat) return lt_fail(err, LT_EDATA, "\"messages\": give --chat (%s)", r->where);
    if (messages) return put_chat(r, row, id, messages, err);
    if (list && !json_is_array(list)) return lt_fail(err, LT_EDATA, "\"prompt_ids\" is not a list (%s)", r->where);
    if (text && !json_is_string(text)) return lt_fail(err, LT_EDATA, "\"prompt\" is not a string (%s)", r->where);
    if (list) return put_id_array(r, list, id, err);
    return put_text(r, json_string_value(text), json_string_length(text), id, text, err);
}

static lt_status put_line(reading *r, const lt_text_rows *rows, const char *line, size_t bytes, lt_err *err) {
    json_t *number = json_integer((json_int_t)r->to->n), *row = NULL;
    lt_status st;
    if (rows->jsonl) {
        st = lt_json_parse(&row, line, bytes, r->where, err);
        json_t *id = json_object_get(row, "id");
        if (st == LT_OK) st = put_row(r, row, id ? id : number, err);
    } else if ((row = json_stringn(line, bytes)))
        st = put_text(r, line, bytes, number, row, err);
    else
        st = lt_fail(err, LT_EDATA, "line is not UTF-8 text (%s)", r->where);
    json_decref(row);
    json_decref(number);
    return st;
}

static lt_status put_lines(reading *r, const char *path, lt_err *err) {
    lt_text_rows rows;
    char where[512];
    const char *line;
    size_t bytes;
    lt_status st = lt_text_rows_open(&rows, path, lt_arg_string(r->args, "format"), err);
    r->where = where;
    r->from_file = true;
    while (st == LT_OK && lt_text_rows_line(&rows, &line, &bytes)) {
        snprintf(where, sizeof where, "%.400s: line %zu", rows.name, rows.line);
        st = put_line(r, &rows, line, bytes, err);
    }
    if (st == LT_OK && r->to->n == 0) st = lt_fail(err, LT_EDATA, "file holds no prompts (%s)", rows.name);
    lt_text_rows_close(&rows);
    return st;
}

lt_status lt_prompts_read(lt_prompts *p, const lt_args *args, const lt_tokenizer *tok, const lt_chat *chat,
                          size_t max_positions, lt_err *err) {
    const char *text = lt_arg_string(args, "prompt"), *file = lt_arg_string(args, "prompt-file"),
               *list = lt_arg_string(args, "prompt-ids"), *many = lt_arg_string(args, "prompts");
    reading r = { .to = p, .args = args, .tok = tok, .chat = chat, .max_positions = max_positions };
    *p = (lt_prompts){ 0 };
    LT_REQUIRE(err, (text != NULL) + (file != NULL) + (list != NULL) + (many != NULL) == 1,
               "one of --prompt, --prompt-file, --prompt-ids and --prompts is needed");
    r.where = text ? "--prompt" : file ? "--prompt-file" : "--prompt-ids";
    if (many) return put_lines(&r, many, err);
    if (list) return put_id_list(&r, list, err);
    if (file) return put_file(&r, file, err);
    return put_text(&r, text, strlen(text), NULL, NULL, err);
}

void lt_prompts_clear(lt_prompts *p) {
    for (size_t i = 0; i < p->n; i++) {
        lt_free(p->at[i].ids);
        json_decref(p->at[i].id);
        json_decref(p->at[i].text);
    }
    lt_free(p->at);
    *p = (lt_prompts){ 0 };
}
