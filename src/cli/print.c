/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one cell as text ---- */
static void bytes_text(double v, char *buf, size_t cap) {
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    size_t u = 0;
    for (; fabs(v) >= 1024 && u < 4; u++) v /= 1024;
    snprintf(buf, cap, u ? "%.2f %s" : "%.0f %s", v, units[u]);
}

static void cell_text(char *buf, size_t cap, const json_t *v, const char *unit) {
    size_t n = 0, i;
    json_t *item;
    buf[0] = 0;
    if (json_is_number(v) && unit && strcmp(unit, "B") == 0)
        bytes_text(json_number_value(v), buf, cap);
    else if (json_is_string(v))
        snprintf(buf, cap, "%s", json_string_value(v));
    else if (json_is_integer(v))
        snprintf(buf, cap, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(buf, cap, "%.6g", json_real_value(v));
    else if (json_is_boolean(v))
        snprintf(buf, cap, "%s", json_is_true(v) ? "yes" : "no");
    json_array_foreach(v, i, item) {
        if (n + 3 >= cap) return;
        if (i) n += (size_t)snprintf(buf + n, cap - n, ", ");
        cell_text(buf + n, cap - n, item, unit);
        n += strlen(buf + n);
    }
}

/* Columns of a terminal that UTF-8 text takes, wide and combining characters aside. */
static size_t width(const char *text) {
    size_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void pad(FILE *f, size_t n) {
    if (n) fprintf(f, "%*s", (int)n, "");
}

/* ---- tables ---- */
enum { MAX_COLUMNS = 32, CELL = 512 };
typedef struct table {
    size_t n;
    char head[MAX_COLUMNS][96];
    const char *unit[MAX_COLUMNS];
    size_t width[MAX_COLUMNS];
    bool number[MAX_COLUMNS];
} table;

/* "speed|tokens/s": name and unit; bytes are shown with units of their own */
static void measure_head(table *t, const json_t *columns) {
    size_t i;
    json_t *column;
    json_array_foreach(columns, i, column) {
        if (i >= MAX_COLUMNS) break;
        const char *text = json_string_value(column), *bar = text ? strchr(text, '|') : NULL;
        const int n = bar ? (int)(bar - text) : (int)strlen(text ? text : "");
        t->unit[i] = bar ? bar + 1 : NULL;
        if (bar && strcmp(bar + 1, "B") != 0)
            snprintf(t->head[i], sizeof t->head[i], "%.*s, %s", n, text, bar + 1);
        else
            snprintf(t->head[i], sizeof t->head[i], "%.*s", n, text ? text : "");
        t->width[i] = width(t->head[i]);
        t->number[i] = true;
        t->n = i + 1;
    }
}

static void measure_rows(table *t, const json_t *rows) {
    char text[CELL];
    size_t i, k;
    json_t *row, *v;
    json_array_foreach(rows, i, row) {
        json_array_foreach(row, k, v) {
            if (k >= t->n) break;
            cell_text(text, sizeof text, v, t->unit[k]);
            if (width(text) > t->width[k]) t->width[k] = width(text);
            if (!json_is_number(v) && text[0]) t->number[k] = false;
        }
    }
}

static void print_cell(FILE *f, const table *t, size_t k, const char *text) {
    const size_t space = t->width[k] > width(text) ? t->width[k] - width(text) : 0;
    fputs("  ", f);
    if (t->number[k]) pad(f, space);
    fputs(text, f);
    if (!t->number[k] && k + 1 < t->n) pad(f, space);
}

static void print_table(FILE *f, const json_t *json) {
    char text[CELL];
    size_t i, k;
    json_t *row, *v;
    table t = { 0 };
    const char *title = json_string_value(json_object_get(json, "title"));
    measure_head(&t, json_object_get(json, "columns"));
    measure_rows(&t, json_object_get(json, "rows"));
    if (title && *title) fprintf(f, "%s\n", title);
    for (k = 0; k < t.n; k++) print_cell(f, &t, k, t.head[k]);
    fputc('\n', f);
    json_array_foreach(json_object_get(json, "rows"), i, row) {
        json_array_foreach(row, k, v) {
            if (k >= t.n) break;
            cell_text(text, sizeof text, v, t.unit[k]);
            print_cell(f, &t, k, text);
        }
        fputc('\n', f);
    }
}

void cli_print_result(FILE *f, const json_t *result, bool text_was_streamed) {
    const json_t *text = json_object_get(result, "text");
    size_t i;
    json_t *one;
    if (text && !text_was_streamed) fwrite(json_string_value(text), 1, json_string_length(text), f);
    json_array_foreach(json_object_get(result, "tables"), i, one) {
        if (i) fputc('\n', f);
        print_table(f, one);
    }
}
