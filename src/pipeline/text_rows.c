/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/text_rows.h"

#include <stdio.h>
#include <string.h>

#include "calib/tokens.h"

static size_t line_end(const lt_text_rows *r) {
    const char *newline = memchr(r->text + r->at, '\n', r->bytes - r->at);
    return newline ? (size_t)(newline - r->text) : r->bytes;
}

static bool is_blank(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r", text[i]) || !text[i]) return false;
    return true;
}

static bool looks_like_jsonl(const lt_text_rows *r) {
    if (r->bytes == 0 || (r->text[0] != '{' && r->text[0] != '[')) return false;
    json_t *first = NULL;
    const bool is = lt_json_parse(&first, r->text, line_end(r), r->name, NULL) == LT_OK;
    json_decref(first);
    return is;
}

lt_status lt_text_rows_open(lt_text_rows *r, const char *path, const char *format, lt_err *err) {
    const bool in = strcmp(path, "-") == 0;
    *r = (lt_text_rows){ .name = in ? "standard input" : path };
    LT_TRY(lt_text_read(&r->text, &r->bytes, in ? "/dev/stdin" : path, err));
    r->jsonl = strcmp(format, "jsonl") == 0 || (strcmp(format, "auto") == 0 && looks_like_jsonl(r));
    return LT_OK;
}

void lt_text_rows_close(lt_text_rows *r) {
    lt_free(r->text);
    r->text = NULL;
}

bool lt_text_rows_line(lt_text_rows *r, const char **line, size_t *bytes) {
    while (r->at < r->bytes) {
        const size_t begin = r->at, end = line_end(r);
        r->at = end + (end < r->bytes);
        r->line++;
        if (is_blank(r->text + begin, end - begin)) continue;
        *line = r->text + begin;
        *bytes = end - begin - (r->text[end - 1] == '\r');
        return true;
    }
    return false;
}

lt_status lt_text_rows_next(lt_text_rows *r, json_t **row, lt_err *err) {
    const char *line;
    size_t bytes;
    char where[512];
    *row = NULL;
    if (!lt_text_rows_line(r, &line, &bytes)) return LT_OK;
    snprintf(where, sizeof where, "%.400s: line %zu", r->name, r->line);
    return lt_json_parse(row, line, bytes, where, err);
}
