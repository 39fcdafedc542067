/* SPDX-License-Identifier: Apache-2.0 */
/* Published values: CSV (RFC 4180) with the columns of the tidy CSV; model, metric and value are required, any other
 * name is an axis. */
#include <stdio.h>
#include <string.h>

#include "pipeline/report.h"

/* One field after another; quoted ones are undone in place. */
typedef struct reader {
    char *at;      /* NUL-terminated */
    bool line_end; /* the field before was the last of its line */
    size_t line;
    const char *where;
} reader;

static lt_status bad(const reader *c, const char *what, lt_err *err) {
    return lt_fail(err, LT_EDATA, "%s (%s: line %zu)", what, c->where, c->line);
}

static lt_status quoted(char **field, reader *c, lt_err *err) {
    char *to = *field = ++c->at;
    for (;; c->at++) {
        if (!*c->at) return bad(c, "a quote is not closed", err);
        if (*c->at == '\n') c->line++;
        if (*c->at == '"' && *++c->at != '"') break;
        *to++ = *c->at;
    }
    char *end = c->at;
    if (*end && !strchr(",\r\n", *end)) return bad(c, "text after a closing quote", err);
    c->at = end;
    *to = 0;
    return LT_OK;
}

/* Ends the field by a NUL and says whether its line ends. */
static void leave(reader *c) {
    char *end = c->at;
    c->line_end = *end != ',';
    if (*end == '\r' && end[1] == '\n') *end++ = 0;
    if (*end) {
        c->at = end + 1;
        *end = 0;
    } else
        c->at = end;
}

static lt_status next_field(char **field, reader *c, lt_err *err) {
    *field = c->at;
    if (*c->at == '"')
        LT_TRY(quoted(field, c, err));
    else
        c->at += strcspn(c->at, ",\r\n");
    leave(c);
    return LT_OK;
}

/* A line as an array of texts. */
static lt_status next_line(json_t **line, reader *c, lt_err *err) {
    char *field;
    *line = json_array();
    c->line++;
    do {
        const lt_status st = next_field(&field, c, err);
        if (st == LT_OK && json_array_append_new(*line, json_string(field)) == 0) continue;
        json_decref(*line);
        *line = NULL;
        return st != LT_OK ? st : bad(c, "no UTF-8 text", err);
    } while (!c->line_end);
    return LT_OK;
}

/* A number where it is one, else the text; "": null. New reference. */
static json_t *value_of(const char *text) {
    json_t *v = NULL;
    if (!*text) return json_null();
    if (lt_json_parse(&v, text, strlen(text), "", NULL) == LT_OK && json_is_number(v)) return v;
    json_decref(v);
    return json_string(text);
}

static bool is_column(const char *name) {
    for (size_t i = 0; lt_report_columns[i]; i++)
        if (strcmp(name, lt_report_columns[i]) == 0) return true;
    return false;
}

static const char *text_at(const json_t *fields, const char *name) {
    const char *text = json_string_value(json_object_get(fields, name));
    return text && *text ? text : NULL;
}

/* Sorts a line into columns (as texts) and axes (as values). */
static lt_status sort_line(json_t *fields, json_t *axes, const reader *c, const json_t *head, const json_t *line,
                           lt_err *err) {
    size_t i;
    json_t *name;
    if (json_array_size(line) != json_array_size(head)) return bad(c, "not as many fields as the heading has", err);
    json_array_foreach((json_t *)head, i, name) {
        const char *key = json_string_value(name), *text = json_string_value(json_array_get(line, i));
        const char *axis = strncmp(key, "axis_", 5) == 0 && is_column(key + 5) ? key + 5 : key;
        int failed = 0;
        if (is_column(key))
            failed = json_object_set_new(fields, key, json_string(text));
        else if (*text)
            failed = json_object_set_new(axes, axis, value_of(text));
        if (failed) return lt_fail(err, LT_ENOMEM, "report: out of memory");
    }
    return LT_OK;
}

static lt_status add_line(lt_report *r, const reader *c, const json_t *fields, json_t *axes, lt_err *err) {
    static const char *const numbers[] = { "window", "windows", "tokens", "value", "uncertainty" };
    json_t *n[LT_COUNTOF(numbers)];
    char where[256];
    const char *model = text_at(fields, "model"), *metric = text_at(fields, "metric");
    const char *source = text_at(fields, "source");
    if (!model || !metric || !text_at(fields, "value")) return bad(c, "no model, metric or value", err);
    for (size_t i = 0; i < LT_COUNTOF(numbers); i++) {
        const char *text = text_at(fields, numbers[i]);
        n[i] = value_of(text ? text : "");
    }
    char *id = lt_json_canonical(axes), *whole = id ? lt_asprintf("%s %s", model, id) : NULL;
    const lt_report_value v = { .source = source ? source : "published",
                                .model = model,
                                .id = whole,
                                .axes = axes,
                                .metric = metric,
                                .protocol = text_at(fields, "protocol"),
                                .data = text_at(fields, "data"),
                                .window = n[0],
                                .windows = n[1],
                                .tokens = n[2],
                                .value = n[3],
                                .uncertainty = n[4] };
    snprintf(where, sizeof where, "%.200s: line %zu", c->where, c->line);
    const lt_status st = whole ? lt_report_add(r, &v, where, err) : lt_fail(err, LT_ENOMEM, "report: out of memory");
    for (size_t i = 0; i < LT_COUNTOF(numbers); i++) json_decref(n[i]);
    lt_free(id);
    lt_free(whole);
    return st;
}

static lt_status read_line(lt_report *r, reader *c, const json_t *head, lt_err *err) {
    json_t *line, *fields = json_object(), *axes = json_object();
    lt_status st = next_line(&line, c, err);
    if (st == LT_OK) {
        const bool blank = json_array_size(line) == 1 && !*json_string_value(json_array_get(line, 0));
        if (!blank) st = sort_line(fields, axes, c, head, line, err);
        if (!blank && st == LT_OK) st = add_line(r, c, fields, axes, err);
        json_decref(line);
    }
    json_decref(fields);
    json_decref(axes);
    return st;
}

lt_status lt_report_published(lt_report *r, char *text, size_t bytes, const char *where, lt_err *err) {
    json_t *head = NULL;
    if (memchr(text, 0, bytes)) return lt_fail(err, LT_EDATA, "no text: a zero byte (%s)", where);
    reader c = { .at = text, .where = where };
    lt_status st = next_line(&head, &c, err);
    while (st == LT_OK && *c.at) st = read_line(r, &c, head, err);
    if (st == LT_OK && c.line < 2) st = bad(&c, "no rows", err);
    json_decref(head);
    return st;
}
