/* SPDX-License-Identifier: Apache-2.0 */
/* What is inside of models: eigenvalues of outputs from statistics that keep them, and the tables of those and of the
 * ranks of plans, by role over the layers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calib/stats.h"
#include "io/safetensors.h"
#include "pipeline/report.h"

enum { MOST_POINTS = 100 };                   /* of a drawn line */
static const double floor_of_drawing = 1e-12; /* shares below are rounding */

const char *lt_report_role(double *layer, const char *module) {
    for (const char *p = strchr(module, '.'); p; p = strchr(p + 1, '.')) {
        char *end;
        const unsigned long n = strtoul(p + 1, &end, 10);
        if (end > p + 1 && *end == '.' && p[1] >= '0' && p[1] <= '9') {
            *layer = (double)n;
            return end + 1;
        }
    }
    return NULL;
}

/* ---- reading ---- */

bool lt_report_has_spectra(const char *path) {
    static const char end[] = ".spectrum.lambda";
    lt_safetensors *f;
    bool found = false;
    if (lt_safetensors_open(&f, path, NULL) != LT_OK) return false;
    for (size_t i = 0; i < lt_safetensors_count(f) && !found; i++) {
        const char *name = lt_safetensors_at(f, i)->name;
        const size_t n = strlen(name);
        found = n > strlen(end) && strcmp(name + n - strlen(end), end) == 0;
    }
    lt_safetensors_close(f);
    return found;
}

/* The least number of eigenvalues that sum to this share of all. */
static json_int_t rank_at(const double *lambda, size_t n, double share) {
    double total = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++) total += lambda[i];
    for (size_t i = 0; i < n; i++)
        if ((sum += lambda[i]) >= share * total) return (json_int_t)(i + 1);
    return (json_int_t)n;
}

/* Evenly over the index, first and last among them. */
static json_t *points_of(const double *lambda, size_t n) {
    json_t *points = json_array();
    const size_t m = lt_min_size(n, MOST_POINTS);
    for (size_t k = 0; k < m; k++) {
        const size_t i = m > 1 ? k * (n - 1) / (m - 1) : 0;
        const double share = lambda[i] / lambda[0];
        if (share > floor_of_drawing) json_array_append_new(points, json_pack("[f, f]", (double)(i + 1), share));
    }
    return points;
}

static lt_status add_module(json_t *modules, const lt_stats *s, const lt_stats_site *site, lt_err *err) {
    double layer, *lambda;
    const char *role = lt_report_role(&layer, site->modules[0]);
    const size_t n = site->cols;
    if (!role || n == 0) return LT_OK;
    LT_TRY(lt_stats_load(&lambda, s, site->name, "lambda", err));
    int failed = 0;
    if (lambda[0] > 0.0)
        failed =
            json_array_append_new(modules, json_pack("{s:s, s:f, s:I, s:o, s:I, s:I}", "role", role, "layer", layer,
                                                     "n", (json_int_t)n, "points", points_of(lambda, n), "rank90",
                                                     rank_at(lambda, n, 0.90), "rank99", rank_at(lambda, n, 0.99)));
    lt_free(lambda);
    return failed ? lt_fail(err, LT_ENOMEM, "report: out of memory") : LT_OK;
}

lt_status lt_report_spectra(lt_report *r, const char *path, const char *name, lt_err *err) {
    lt_stats *s;
    LT_TRY(lt_stats_open(&s, path, NULL, err));
    json_t *modules = json_array();
    lt_status st = LT_OK;
    for (size_t i = 0; st == LT_OK && i < lt_stats_n_sites(s); i++) {
        const lt_stats_site site = lt_stats_site_at(s, i);
        if (site.kind == LT_STATS_SPECTRUM && site.n_modules == 1) st = add_module(modules, s, &site, err);
    }
    if (st == LT_OK && json_array_size(modules) == 0)
        st = lt_fail(err, LT_EDATA, "statistics without spectra: `lathe calibrate --keep spectra` makes them (%s)",
                     path);
    json_t *entry = st == LT_OK ? json_pack("{s:s, s:O}", "name", name, "modules", modules) : NULL;
    if (st == LT_OK && !entry) st = lt_fail(err, LT_ENOMEM, "report: out of memory");
    if (st == LT_OK) st = lt_report_once(r->spectra, entry, err);
    json_decref(entry);
    json_decref(modules);
    lt_stats_close(s);
    return st;
}

/* ---- tables ---- */

/* Least and most of some numbers of a role. */
typedef struct span {
    json_int_t lo, hi;
    size_t n;
} span;

static void widen(span *s, json_int_t v) {
    s->lo = s->n && s->lo < v ? s->lo : v;
    s->hi = s->n && s->hi > v ? s->hi : v;
    s->n++;
}

static bool put(json_t *row, char *text) {
    const bool ok = text && json_array_append_new(row, json_string(text)) == 0;
    lt_free(text);
    return ok;
}

static bool put_span(json_t *row, const span *s) {
    if (s->n == 0) return put(row, lt_strdup(""));
    return put(row, s->lo == s->hi ? lt_asprintf("%lld", (long long)s->lo)
                                   : lt_asprintf("%lld–%lld", (long long)s->lo, (long long)s->hi));
}

static json_t *table_new(json_t *tables, const char *title, json_t *columns) {
    json_t *rows = json_array();
    json_t *t = json_pack("{s:s, s:i, s:o, s:o}", "title", title, "right", 1, "columns", columns, "rows", rows);
    return json_array_append_new(tables, t) == 0 ? rows : NULL;
}

static const json_t *cuts_of(const json_t *entry) {
    return json_object_get(json_object_get(entry, "plan"), "cuts");
}

static const char *role_of_cut(const json_t *cut) {
    double layer;
    const char *module = json_string_value(json_object_get(cut, "module"));
    return module && json_is_integer(json_object_get(cut, "rank")) ? lt_report_role(&layer, module) : NULL;
}

static bool has_role(const json_t *columns, const char *role) {
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)columns, i, v) if (strcmp(json_string_value(v), role) == 0) return true;
    return false;
}

static bool collect_roles(json_t *columns, const json_t *plans) {
    size_t i, k;
    json_t *entry, *cut;
    json_array_foreach((json_t *)plans, i, entry) json_array_foreach((json_t *)cuts_of(entry), k, cut) {
        const char *role = role_of_cut(cut);
        if (role && !has_role(columns, role) && json_array_append_new(columns, json_string(role)) != 0) return false;
    }
    return true;
}

static bool add_plan_row(json_t *rows, const json_t *columns, const json_t *entry) {
    json_t *row = json_array(), *cut, *column;
    size_t i, k;
    bool ok = row && put(row, lt_strdup(json_string_value(json_object_get(entry, "name"))));
    json_array_foreach((json_t *)columns, i, column) {
        span s = { 0 };
        if (i == 0) continue;
        json_array_foreach((json_t *)cuts_of(entry), k, cut) {
            const char *role = role_of_cut(cut);
            if (role && strcmp(role, json_string_value(column)) == 0)
                widen(&s, json_integer_value(json_object_get(cut, "rank")));
        }
        ok = ok && put_span(row, &s);
    }
    return json_array_append_new(rows, row) == 0 && ok;
}

static bool add_ranks(json_t *tables, const lt_report *r) {
    json_t *columns = json_pack("[s]", "plan"), *rows, *entry;
    size_t i;
    bool ok = columns && collect_roles(columns, r->plans);
    if (!ok || json_array_size(columns) == 1) {
        json_decref(columns);
        return ok;
    }
    rows = table_new(tables, "ranks, least and most of the layers", columns);
    ok = rows != NULL;
    json_array_foreach(r->plans, i, entry) ok = ok && add_plan_row(rows, columns, entry);
    return ok;
}

static bool add_role_row(json_t *rows, const json_t *modules, const char *role) {
    span n = { 0 }, rank90 = { 0 }, rank99 = { 0 };
    json_t *row = json_array(), *m;
    size_t i;
    json_array_foreach((json_t *)modules, i, m) {
        if (strcmp(json_string_value(json_object_get(m, "role")), role) != 0) continue;
        widen(&n, json_integer_value(json_object_get(m, "n")));
        widen(&rank90, json_integer_value(json_object_get(m, "rank90")));
        widen(&rank99, json_integer_value(json_object_get(m, "rank99")));
    }
    const bool ok = row && put(row, lt_strdup(role)) && put(row, lt_asprintf("%zu", n.n)) && put_span(row, &n) &&
                    put_span(row, &rank90) && put_span(row, &rank99);
    return json_array_append_new(rows, row) == 0 && ok;
}

static bool add_spectra(json_t *tables, const json_t *entry) {
    const json_t *modules = json_object_get(entry, "modules");
    char *title = lt_asprintf("spectra of outputs, %s", json_string_value(json_object_get(entry, "name")));
    json_t *columns = json_pack("[s, s, s, s, s]", "role", "modules", "full rank", "rank of 90 % of the energy",
                                "rank of 99 %"),
           *rows = title && columns ? table_new(tables, title, columns) : NULL, *m, *done = json_array();
    size_t i;
    bool ok = rows && done;
    json_array_foreach((json_t *)modules, i, m) {
        const char *role = json_string_value(json_object_get(m, "role"));
        if (!ok || has_role(done, role)) continue;
        ok = json_array_append_new(done, json_string(role)) == 0 && add_role_row(rows, modules, role);
    }
    json_decref(done);
    lt_free(title);
    return ok;
}

bool lt_report_inner(json_t *tables, const lt_report *r) {
    json_t *entry;
    size_t i;
    bool ok = add_ranks(tables, r);
    json_array_foreach(r->spectra, i, entry) ok = ok && add_spectra(tables, entry);
    return ok;
}
