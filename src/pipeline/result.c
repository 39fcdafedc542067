/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/result.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "pipeline/args.h"
#include "pipeline/presets.h"

json_t *lt_result_real(double v) {
    if (isnan(v)) return json_string("nan");
    if (isinf(v)) return json_string(v > 0 ? "inf" : "-inf");
    return json_real(v);
}

void lt_result_row(json_t *rows, const char *cells, ...) {
    json_t *row = json_array();
    va_list args;
    va_start(args, cells);
    for (const char *c = cells; *c; c++) {
        const char *text;
        json_t *cell = NULL;
        switch (*c) {
        case 's':
            text = va_arg(args, const char *);
            cell = json_string(text ? text : "");
            break;
        case 'z':
            cell = json_integer((json_int_t)va_arg(args, size_t));
            break;
        case 'i':
            cell = json_integer((json_int_t)va_arg(args, int64_t));
            break;
        case 'd':
            cell = lt_result_real(va_arg(args, double));
            break;
        case 'b':
            cell = json_boolean(va_arg(args, int));
            break;
        case 'j':
            cell = va_arg(args, json_t *);
            break;
        }
        /* names in files need not be UTF-8 */
        json_array_append_new(row, cell ? cell : json_string("?"));
    }
    va_end(args);
    json_array_append_new(rows, row);
}

const char *lt_bytes_text(double bytes, char *buf, size_t cap) {
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    size_t u = 0;
    while (fabs(bytes) >= 1024 && u + 1 < LT_COUNTOF(units)) {
        bytes /= 1024;
        u++;
    }
    snprintf(buf, cap, u == 0 ? "%.0f %s" : "%.2f %s", bytes, units[u]);
    return buf;
}

json_t *lt_result_new(const lt_call_ctx *c) {
    const lt_command *command = lt_command_find(c->verb);
    json_t *r = json_pack("{s:s, s:s}", "format", "lathe-result/1", "verb", c->verb);
    json_t *preset = r && command && c->args ? lt_presets_report(c->args, command) : NULL;
    if (preset) json_object_set_new(r, "preset", preset);
    return r;
}

json_t *lt_result_table(json_t *result, const char *title, const char *const *columns, size_t n) {
    json_t *tables = json_object_get(result, "tables");
    if (!tables) {
        tables = json_array();
        json_object_set_new(result, "tables", tables);
    }
    json_t *names = json_array(), *rows = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(names, json_string(columns[i]));
    json_array_append_new(tables, json_pack("{s:s, s:o, s:o}", "title", title, "columns", names, "rows", rows));
    return rows;
}

bool lt_result_is_whole(const json_t *result) {
    bool whole = json_is_object(result);
    size_t i, k;
    json_t *table, *row;
    json_array_foreach(json_object_get(result, "tables"), i, table) {
        const size_t n = json_array_size(json_object_get(table, "columns"));
        whole = whole && n > 0 && json_is_array(json_object_get(table, "rows"));
        json_array_foreach(json_object_get(table, "rows"), k, row) whole = whole && json_array_size(row) == n;
    }
    return whole;
}

lt_status lt_result_finish(json_t **out, json_t *result, lt_err *err) {
    if (lt_result_is_whole(result)) {
        *out = result;
        return LT_OK;
    }
    json_decref(result);
    return lt_fail(err, LT_ENOMEM, "result: out of memory");
}

/* "model name" of the first processor; other architectures have other words for it */
static void cpu_name(char *buf, size_t cap) {
    static const char *const keys[] = { "model name", "Model", "Hardware", "uarch" };
    char text[256];
    snprintf(buf, cap, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (!f) return;
    bool found = false;
    while (!found && fgets(text, sizeof text, f))
        for (size_t i = 0; i < LT_COUNTOF(keys) && !found; i++) {
            const char *colon = strchr(text, ':');
            if (!colon || strncmp(text, keys[i], strlen(keys[i])) != 0) continue;
            colon += 1 + strspn(colon + 1, " \t");
            snprintf(buf, cap, "%.*s", (int)strcspn(colon, "\n"), colon);
            found = true;
        }
    fclose(f);
}

json_t *lt_run_info(const lt_call_ctx *c, double started) {
    char blas[128], machine[160], when[32];
    const double seconds = lt_seconds() - started;
    lt_team_describe(c->team, blas, sizeof blas);
    blas[strcspn(blas, ",")] = 0;
    cpu_name(machine, sizeof machine);
    const time_t begin = time(NULL) - (time_t)llround(seconds);
    struct tm utc;
    gmtime_r(&begin, &utc);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    char *line = lt_args_command_line(c->args);
    json_t *run = json_pack("{s:s?, s:s, s:i, s:s, s:s, s:s, s:f, s:I, s:s}", "command", line, "version", lt_version(),
                            "threads", c->team->threads, "kernels", c->team->k->name, "blas", blas, "machine", machine,
                            "seconds", seconds, "peak_rss_bytes", (json_int_t)lt_peak_rss_bytes(), "started", when);
    lt_free(line);
    return run;
}

char *lt_result_text(const json_t *j) {
    const size_t flags = JSON_INDENT(1) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17);
    const size_t n = json_dumpb(j, NULL, 0, flags);
    char *text = n ? lt_malloc(n + 1) : NULL;
    if (!text) return NULL;
    json_dumpb(j, text, n, flags);
    text[n] = 0;
    return text;
}
