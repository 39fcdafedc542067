/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/report_chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- charts are made as JSON, {"title", "x", "y", "series": [{"name", "points": [[x, y]]}]} ---- */

static const char *text_of(const json_t *value, const char *key) {
    const char *s = json_string_value(json_object_get(value, key));
    return s ? s : "";
}

static json_t *chart_new(const char *group, const char *title, const char *x, const char *y) {
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:[]}", "group", group, "title", title, "x", x, "y", y, "left_out", 0,
                     "series");
}

static bool add_point(json_t *chart, const char *name, double x, double y) {
    json_t *all = json_object_get(chart, "series"), *s, *points = NULL;
    size_t i;
    if (!isfinite(x) || !isfinite(y)) {
        const json_int_t before = json_integer_value(json_object_get(chart, "left_out"));
        return json_object_set_new(chart, "left_out", json_integer(before + 1)) == 0;
    }
    json_array_foreach(all, i, s) if (strcmp(text_of(s, "name"), name) == 0) points = json_object_get(s, "points");
    if (!points) {
        points = json_array();
        if (json_array_append_new(all, json_pack("{s:s, s:o}", "name", name, "points", points)) != 0) return false;
    }
    return json_array_append_new(points, json_pack("[f, f]", x, y)) == 0;
}

static bool keep(json_t *charts, json_t *chart, size_t least) {
    size_t n = 0, i;
    json_t *s;
    json_array_foreach(json_object_get(chart, "series"), i, s) n += json_array_size(json_object_get(s, "points"));
    if (chart && n >= least) return json_array_append_new(charts, chart) == 0;
    json_decref(chart);
    return chart != NULL;
}

/* ---- one measured value against another ---- */

typedef struct pair {
    const char *x, *y, *x_name, *y_name;
    double x_unit;
} pair;
static const pair pairs[] = {
    { "bytes", "ppl", "size (MB)", "perplexity", 1e6 },
    { "bytes", "kld.mean", "size (MB)", "KL divergence from the base (nats)", 1e6 },
    { "predicted.rel_error", "ppl", "predicted relative error of the outputs", "perplexity", 1.0 },
    { "predicted.rel_error", "kld.mean", "predicted relative error of the outputs",
      "KL divergence from the base (nats)", 1.0 },
};
static const double much = 3.0; /* an axis over which values differ by more is logarithmic */

static double number_of(const json_t *value) {
    const json_t *v = json_object_get(value, "value");
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* The other value of the same model; of the same cell, where there are several. */
static double partner(const lt_report *r, const json_t *value, const char *metric) {
    const json_t *id = json_object_get(value, "id");
    double found = NAN;
    size_t i;
    json_t *v;
    json_array_foreach(r->values, i, v) {
        if (!json_is_string(id) || !json_equal(json_object_get(v, "id"), id)) continue;
        if (strcmp(text_of(v, "metric"), metric) != 0) continue;
        const bool same_cell = json_equal(json_object_get(v, "axes"), json_object_get(value, "axes"));
        if (isnan(found) || same_cell) found = number_of(v);
        if (same_cell) break;
    }
    return found;
}

/* Model and axes that are words; along numbers a line goes on. */
static char *series_name(const json_t *value) {
    const char *source = text_of(value, "source"), *axis;
    const bool measured = strcmp(source, "measured") == 0;
    char *name = lt_asprintf("%s%s%s%s", text_of(value, "model"), measured ? "" : " (", measured ? "" : source,
                             measured ? "" : ")");
    json_t *v;
    json_object_foreach(json_object_get(value, "axes"), axis, v) {
        if (json_is_number(v)) continue;
        char *text = lt_report_text(v), *longer = name && text ? lt_asprintf("%s, %s", name, text) : NULL;
        lt_free(text);
        lt_free(name);
        name = longer;
    }
    return name;
}

static bool add_value(json_t *chart, const lt_report *r, const pair *p, const json_t *value) {
    const double x = partner(r, value, p->x) / p->x_unit;
    char *name = isnan(x) ? NULL : series_name(value);
    const bool ok = isnan(x) || (name && add_point(chart, name, x, number_of(value)));
    lt_free(name);
    return ok;
}

/* Most of the k-th coordinates over least; 0 where one is not positive. */
static double spread(const json_t *chart, size_t k) {
    double lo = INFINITY, hi = 0.0;
    size_t i, j;
    json_t *s, *point;
    json_array_foreach(json_object_get(chart, "series"), i, s)
        json_array_foreach(json_object_get(s, "points"), j, point) {
        const double v = json_number_value(json_array_get(point, k));
        lo = fmin(lo, v), hi = fmax(hi, v);
    }
    return lo > 0.0 ? hi / lo : 0.0;
}

/* With two axes of numbers (budgets and seeds) a line along x would jump between the values of the other. */
static bool many_numbers(const lt_report *r, const pair *p) {
    size_t i, k, n = 0;
    json_t *axis, *v;
    json_array_foreach(r->axes, i, axis) {
        const json_t *first = NULL;
        bool varies = false;
        json_array_foreach(r->values, k, v) {
            const json_t *here = json_object_get(json_object_get(v, "axes"), json_string_value(axis));
            if (strcmp(text_of(v, "metric"), p->y) != 0 || !json_is_number(here)) continue;
            varies |= first && !json_equal(first, here);
            first = here;
        }
        n += varies;
    }
    return n > 1;
}

static bool set_axes(json_t *chart, const lt_report *r, const pair *p) {
    return json_object_set_new(chart, "log_x", json_boolean(spread(chart, 0) > much)) == 0 &&
           json_object_set_new(chart, "log_y", json_boolean(spread(chart, 1) > much)) == 0 &&
           json_object_set_new(chart, "unordered", json_boolean(many_numbers(r, p))) == 0;
}

static bool is_drawn(const json_t *titles, const char *title) {
    return json_object_get(titles, title) != NULL;
}

/* A chart for each set of conditions: what was measured under others does not compare. */
static bool add_pair(json_t *charts, const lt_report *r, const pair *p) {
    json_t *by = json_object(), *v, *chart;
    size_t i;
    const char *key;
    bool ok = by != NULL;
    json_array_foreach(r->values, i, v) {
        if (strcmp(text_of(v, "metric"), p->y) != 0) continue;
        char *title = lt_report_conditions(v);
        if (title && !is_drawn(by, title))
            ok = ok && json_object_set_new(by, title, chart_new("quality", title, p->x_name, p->y_name)) == 0;
        ok = ok && title && add_value(json_object_get(by, title), r, p, v);
        lt_free(title);
    }
    json_object_foreach(by, key, chart) ok = ok && set_axes(chart, r, p) && keep(charts, json_incref(chart), 2);
    json_decref(by);
    return ok;
}

/* ---- ranks ---- */

/* No line of the chart rises or falls anywhere. */
static bool is_level(const json_t *chart) {
    size_t i, k;
    json_t *s, *point;
    json_array_foreach(json_object_get(chart, "series"), i, s) {
        const json_t *points = json_object_get(s, "points"), *first = json_array_get(json_array_get(points, 0), 1);
        json_array_foreach((json_t *)points, k, point) if (!json_equal(first, json_array_get(point, 1))) return false;
    }
    return true;
}

/* Ranks that are the same in all layers are told by the table. */
static bool add_ranks(json_t *charts, const json_t *entry) {
    size_t i;
    json_t *cut;
    json_t *chart = chart_new("ranks of the layers", text_of(entry, "name"), "layer", "rank");
    bool ok = chart && json_object_set_new(chart, "whole_x", json_true()) == 0;
    json_array_foreach(json_object_get(json_object_get(entry, "plan"), "cuts"), i, cut) {
        double layer;
        const char *kind = lt_report_role(&layer, text_of(cut, "module"));
        const json_t *rank = json_object_get(cut, "rank");
        if (kind && json_is_integer(rank)) ok = ok && add_point(chart, kind, layer, json_number_value(rank));
    }
    return keep(charts, chart, is_level(chart) ? SIZE_MAX : 1) && ok;
}

/* ---- spectra: a chart for each role, a line for each layer ---- */

static json_t *spectrum_chart(const json_t *entry, const char *role) {
    char *title = lt_asprintf("%s, %s", role, text_of(entry, "name"));
    json_t *chart = title ? chart_new("spectra of outputs", title, "eigenvalue", "share of the largest") : NULL;
    lt_free(title);
    if (chart) json_object_set_new(chart, "log_y", json_true());
    if (chart) json_object_set_new(chart, "whole_x", json_true());
    if (chart) json_object_set_new(chart, "level", json_string("layer"));
    return chart;
}

static bool add_spectrum(json_t *chart, const json_t *module) {
    const json_t *layer = json_object_get(module, "layer");
    json_t *series = json_object_get(chart, "series");
    char *name = lt_report_text(layer);
    const bool ok = name && json_array_append_new(series, json_pack("{s:s, s:O, s:O}", "name", name, "level", layer,
                                                                    "points", json_object_get(module, "points"))) == 0;
    lt_free(name);
    return ok;
}

static bool add_spectra(json_t *charts, const json_t *entry) {
    json_t *by = json_object(), *module, *chart;
    const char *role;
    size_t i;
    bool ok = by != NULL;
    json_array_foreach(json_object_get(entry, "modules"), i, module) {
        role = text_of(module, "role");
        if (ok && !json_object_get(by, role)) ok = json_object_set_new(by, role, spectrum_chart(entry, role)) == 0;
        ok = ok && add_spectrum(json_object_get(by, role), module);
    }
    json_object_foreach(by, role, chart) ok = ok && keep(charts, json_incref(chart), 2);
    json_decref(by);
    return ok;
}

/* ---- curves ---- */

static bool add_curve(json_t *chart, const json_t *points, const char *name) {
    size_t i;
    json_t *p;
    bool ok = true;
    json_array_foreach((json_t *)points, i, p) if (json_is_number(json_array_get(p, 1))) ok =
        ok && add_point(chart, name, json_number_value(json_array_get(p, 0)), json_number_value(json_array_get(p, 1)));
    return ok;
}

static bool add_curves(json_t *charts, const json_t *entry) {
    json_t *chart = chart_new("training", text_of(entry, "name"), "step", "loss (nats per token)");
    const bool ok = chart && add_curve(chart, json_object_get(entry, "train"), "training rows") &&
                    add_curve(chart, json_object_get(entry, "valid"), "validation rows");
    return keep(charts, chart, 1) && ok;
}

/* Lines of one name have one colour in all charts from the n-th. */
static bool choose_colours(json_t *charts, size_t n) {
    json_t *names = json_object(), *s;
    bool ok = names != NULL;
    size_t i;
    for (; ok && n < json_array_size(charts); n++) {
        json_array_foreach(json_object_get(json_array_get(charts, n), "series"), i, s) {
            const char *name = text_of(s, "name");
            if (!json_object_get(names, name))
                ok = ok && json_object_set_new(names, name, json_integer((json_int_t)json_object_size(names))) == 0;
            ok = ok && json_object_set(s, "colour", json_object_get(names, name)) == 0;
        }
    }
    json_decref(names);
    return ok;
}

json_t *lt_report_charts(const lt_report *r) {
    json_t *charts = json_array(), *entry;
    size_t i;
    bool ok = charts != NULL;
    for (i = 0; i < LT_COUNTOF(pairs); i++) ok = ok && add_pair(charts, r, &pairs[i]);
    ok = ok && choose_colours(charts, 0);
    const size_t ranks = json_array_size(charts);
    json_array_foreach(r->plans, i, entry) ok = ok && add_ranks(charts, entry);
    ok = ok && choose_colours(charts, ranks);
    json_array_foreach(r->spectra, i, entry) ok = ok && add_spectra(charts, entry);
    const size_t curves = json_array_size(charts);
    json_array_foreach(r->curves, i, entry) ok = ok && add_curves(charts, entry);
    if (ok && choose_colours(charts, curves)) return charts;
    json_decref(charts);
    return NULL;
}

/* ---- drawing ---- */

static int by_x(const void *a, const void *b) {
    const double *p = a, *q = b;
    return (p[0] > q[0]) - (p[0] < q[0]);
}

/* Points in the order of x; of equal x in any fixed one. */
static bool series_from(lt_plot_series *s, const json_t *j) {
    const json_t *points = json_object_get(j, "points");
    const size_t n = json_array_size(points);
    double(*p)[2] = lt_calloc(n, sizeof *p), *x = lt_calloc(n, 2 * sizeof *x);
    const bool ok = p && x;
    for (size_t i = 0; ok && i < n; i++)
        for (size_t k = 0; k < 2; k++) p[i][k] = json_number_value(json_array_get(json_array_get(points, i), k));
    if (ok) qsort(p, n, sizeof *p, by_x);
    for (size_t i = 0; ok && i < n; i++) x[i] = p[i][0], x[n + i] = p[i][1];
    lt_free(p);
    *s = (lt_plot_series){ .name = text_of(j, "name"),
                           .x = x,
                           .y = x ? x + n : NULL,
                           .n = n,
                           .level = json_number_value(json_object_get(j, "level")),
                           .colour = (size_t)json_integer_value(json_object_get(j, "colour")) };
    return ok;
}

lt_status lt_report_draw(const char *svg, const json_t *chart, lt_err *err) {
    const json_t *all = json_object_get(chart, "series");
    const size_t n = json_array_size(all);
    lt_plot_series *s = lt_calloc(n, sizeof *s);
    bool ok = s != NULL;
    for (size_t i = 0; ok && i < n; i++) ok = series_from(&s[i], json_array_get(all, i));
    const lt_plot plot = { .title = text_of(chart, "title"),
                           .x = text_of(chart, "x"),
                           .y = text_of(chart, "y"),
                           .series = s,
                           .n_series = n,
                           .log_x = json_is_true(json_object_get(chart, "log_x")),
                           .log_y = json_is_true(json_object_get(chart, "log_y")),
                           .whole_x = json_is_true(json_object_get(chart, "whole_x")),
                           .unordered = json_is_true(json_object_get(chart, "unordered")),
                           .level = json_string_value(json_object_get(chart, "level")) };
    const lt_status st = ok ? lt_plot_svg(svg, &plot, err) : lt_fail(err, LT_ENOMEM, "report: out of memory");
    for (size_t i = 0; s && i < n; i++) lt_free((void *)s[i].x);
    lt_free(s);
    return st;
}
