/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of a report: rows are models with their axes, columns what was measured under the same conditions. */
#include <string.h>

#include "pipeline/report.h"

static const char no_conditions[] = "sizes and plans";

typedef struct table {
    const lt_report *r;
    json_t *values;  /* of these conditions */
    json_t *metrics; /* names */
    json_t *rows;    /* one value each, for its model and axes */
} table;

static const char *text_of(const json_t *value, const char *key) {
    const char *s = json_string_value(json_object_get(value, key));
    return s ? s : "";
}

static bool same_row(const json_t *a, const json_t *b) {
    return strcmp(text_of(a, "source"), text_of(b, "source")) == 0 &&
           strcmp(text_of(a, "model"), text_of(b, "model")) == 0 && strcmp(text_of(a, "id"), text_of(b, "id")) == 0 &&
           json_equal(json_object_get(a, "axes"), json_object_get(b, "axes"));
}

static bool has_text(const json_t *list, const char *text) {
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)list, i, v) if (strcmp(json_string_value(v), text) == 0) return true;
    return false;
}

static bool has_row(const json_t *rows, const json_t *value) {
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)rows, i, v) if (same_row(v, value)) return true;
    return false;
}

static const json_t *find(const table *t, const json_t *row, const char *metric) {
    size_t i;
    json_t *v;
    json_array_foreach(t->values, i, v) if (same_row(v, row) && strcmp(text_of(v, "metric"), metric) == 0) return v;
    return NULL;
}

static bool axis_is_used(const table *t, const char *axis) {
    size_t i;
    json_t *v;
    json_array_foreach(t->rows, i, v) if (json_object_get(json_object_get(v, "axes"), axis)) return true;
    return false;
}

static bool source_is_used(const table *t) {
    size_t i;
    json_t *v;
    json_array_foreach(t->rows, i, v) if (strcmp(text_of(v, "source"), "measured") != 0) return true;
    return false;
}

/* Takes the text; its lack shows as a row that is too short. */
static void put(json_t *list, char *text) {
    if (text) json_array_append_new(list, json_string(text));
    lt_free(text);
}

/* Two digits: more of an uncertainty is not known. */
static char *uncertainty_text(const json_t *v) {
    const double x = json_number_value(v);
    if (!json_is_number(v)) return lt_report_text(v);
    return x >= 9.5 && x < 1e6 ? lt_asprintf("%.0f", x) : lt_asprintf("%#.2g", x);
}

static char *with_uncertainty(const json_t *v) {
    char *value = lt_report_text(json_object_get(v, "value"));
    char *error = uncertainty_text(json_object_get(v, "uncertainty"));
    char *both = value && error ? lt_asprintf("%s%s%s", value, *error ? " ± " : "", error) : NULL;
    lt_free(value);
    lt_free(error);
    return both;
}

static json_t *columns(const table *t) {
    json_t *names = json_array(), *v;
    size_t i;
    if (source_is_used(t)) put(names, lt_strdup("source"));
    put(names, lt_strdup("model"));
    json_array_foreach(t->r->axes, i, v) if (axis_is_used(t, json_string_value(v)))
        put(names, lt_report_column(json_string_value(v)));
    json_array_foreach(t->metrics, i, v) put(names, lt_strdup(json_string_value(v)));
    return names;
}

static json_t *cells(const table *t, const json_t *row) {
    json_t *list = json_array(), *v;
    size_t i;
    if (source_is_used(t)) put(list, lt_strdup(text_of(row, "source")));
    put(list, lt_strdup(text_of(row, "model")));
    json_array_foreach(t->r->axes, i, v) if (axis_is_used(t, json_string_value(v)))
        put(list, lt_report_text(json_object_get(json_object_get(row, "axes"), json_string_value(v))));
    json_array_foreach(t->metrics, i, v) put(list, with_uncertainty(find(t, row, json_string_value(v))));
    return list;
}

static json_t *table_json(table *t, const char *title) {
    json_t *names = columns(t), *rows = json_array(), *v;
    size_t i;
    json_array_foreach(t->rows, i, v) json_array_append_new(rows, cells(t, v));
    return json_pack("{s:s, s:i, s:o, s:o}", "title", *title ? title : no_conditions, "right",
                     (int)(json_array_size(names) - json_array_size(t->metrics)), "columns", names, "rows", rows);
}

/* What has no conditions of its own and is wanted beside what has. */
static bool is_size(const json_t *value) {
    return strcmp(text_of(value, "metric"), "params") == 0 || strcmp(text_of(value, "metric"), "bytes") == 0;
}

static bool add_value(table *t, json_t *value) {
    if (json_array_append(t->values, value) != 0) return false;
    return has_text(t->metrics, text_of(value, "metric")) ||
           json_array_append(t->metrics, json_object_get(value, "metric")) == 0;
}

static bool add_sizes(table *t) {
    size_t i;
    json_t *v;
    json_array_foreach(t->r->values, i, v) if (is_size(v) && has_row(t->rows, v) && !add_value(t, v)) return false;
    return true;
}

static bool add_mine(table *t, const char *title) {
    size_t i;
    json_t *v;
    json_array_foreach(t->r->values, i, v) {
        char *conditions = lt_report_conditions(v);
        if (!conditions) return false;
        const bool mine = strcmp(conditions, title) == 0;
        lt_free(conditions);
        if (mine && !add_value(t, v)) return false;
    }
    return true;
}

/* All values under the conditions `title`. */
static json_t *one_table(const lt_report *r, const char *title) {
    table t = { r, json_array(), json_array(), json_array() };
    size_t i;
    json_t *v, *j = NULL;
    bool whole = t.values && t.metrics && t.rows && add_mine(&t, title);
    json_array_foreach(t.values, i, v) if (!has_row(t.rows, v)) whole = whole && json_array_append(t.rows, v) == 0;
    if (*title) whole = whole && add_sizes(&t);
    if (whole) j = table_json(&t, title);
    json_decref(t.values);
    json_decref(t.metrics);
    json_decref(t.rows);
    return j;
}

static bool has_table(const json_t *tables, const char *title) {
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)tables, i, v) if (strcmp(text_of(v, "title"), title) == 0) return true;
    return false;
}

static bool is_whole(const json_t *tables) {
    size_t i, k;
    json_t *t, *row;
    json_array_foreach((json_t *)tables, i, t) json_array_foreach(
        json_object_get(t, "rows"), k,
        row) if (json_array_size(row) != json_array_size(json_object_get(t, "columns"))) return false;
    return true;
}

/* First, so that nobody takes what is there for all. */
static bool add_open_jobs(json_t *tables, const lt_report *r) {
    const char *key;
    json_t *job, *rows = json_array();
    if (!rows) return false;
    json_object_foreach(r->jobs, key, job)
        json_array_append_new(rows, json_pack("[O, O, O]", json_object_get(job, "step"), json_object_get(job, "cell"),
                                              json_object_get(job, "why")));
    if (json_array_size(rows) == 0) {
        json_decref(rows);
        return true;
    }
    return json_array_append_new(tables, json_pack("{s:s, s:i, s:[s, s, s], s:o}", "title", "not done", "right", 3,
                                                   "columns", "step", "cell", "why", "rows", rows)) == 0;
}

json_t *lt_report_tables(const lt_report *r) {
    json_t *tables = json_array(), *v;
    size_t i;
    bool whole = tables && add_open_jobs(tables, r);
    for (int sizes = 0; sizes <= 1; sizes++) /* last: they stand beside what was measured, too */
        json_array_foreach(r->values, i, v) {
            char *title = lt_report_conditions(v);
            whole = whole && title;
            if (whole && (*title == 0) == sizes && !has_table(tables, *title ? title : no_conditions))
                whole = json_array_append_new(tables, one_table(r, title)) == 0;
            lt_free(title);
        }
    if (whole && lt_report_inner(tables, r) && is_whole(tables)) return tables;
    json_decref(tables);
    return NULL;
}
