/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const lt_report_columns[] = { "source",  "model",  "metric", "protocol",    "data", "window",
                                          "windows", "tokens", "value",  "uncertainty", NULL };

lt_status lt_report_create(lt_report *r, lt_err *err) {
    *r = (lt_report){ .axes = json_array(),
                      .values = json_array(),
                      .parents = json_object(),
                      .made = json_object(),
                      .cut = json_object(),
                      .plans = json_array(),
                      .curves = json_array(),
                      .titles = json_object(),
                      .jobs = json_object(),
                      .spectra = json_array() };
    return r->axes && r->values && r->parents && r->made && r->cut && r->plans && r->curves && r->titles && r->jobs &&
                   r->spectra
               ? LT_OK
               : lt_fail(err, LT_ENOMEM, "report: out of memory");
}

void lt_report_clear(lt_report *r) {
    json_decref(r->axes);
    json_decref(r->values);
    json_decref(r->parents);
    json_decref(r->plans);
    json_decref(r->curves);
    json_decref(r->made);
    json_decref(r->cut);
    json_decref(r->titles);
    json_decref(r->jobs);
    json_decref(r->spectra);
    *r = (lt_report){ 0 };
}

/* ---- values ---- */

static bool is_number(const json_t *v) {
    static const char *const others[] = { "inf", "-inf", "nan" };
    for (size_t i = 0; json_is_string(v) && i < LT_COUNTOF(others); i++)
        if (strcmp(json_string_value(v), others[i]) == 0) return true;
    return json_is_number(v);
}

static bool is_count(const json_t *v) {
    return !v || json_is_null(v) || (json_is_integer(v) && json_integer_value(v) >= 0);
}

static bool is_perplexity(const char *metric) {
    return strncmp(metric, "ppl", 3) == 0 || strstr(metric, "perplexity");
}

static lt_status check(const lt_report_value *v, const char *where, lt_err *err) {
    if (!is_number(v->value)) return lt_fail(err, LT_EDATA, "no number (%s: %s: %s)", where, v->model, v->metric);
    if (!is_count(v->window) || !is_count(v->windows) || !is_count(v->tokens))
        return lt_fail(err, LT_EDATA, "window, windows or tokens is no count (%s: %s: %s)", where, v->model, v->metric);
    if (v->uncertainty && !json_is_null(v->uncertainty) && !is_number(v->uncertainty))
        return lt_fail(err, LT_EDATA, "the uncertainty is no number (%s: %s: %s)", where, v->model, v->metric);
    if (is_perplexity(v->metric) && !(v->protocol && *v->protocol))
        return lt_fail(err, LT_EDATA, "a perplexity without its protocol (%s: %s: %s)", where, v->model, v->metric);
    return LT_OK;
}

static bool add_axes(lt_report *r, const json_t *axes) {
    const char *name;
    json_t *value, *known;
    size_t i;
    json_object_foreach((json_t *)axes, name, value) {
        bool there = false;
        json_array_foreach(r->axes, i, known) there |= strcmp(json_string_value(known), name) == 0;
        if (!there && json_array_append_new(r->axes, json_string(name)) != 0) return false;
    }
    return true;
}

lt_status lt_report_add(lt_report *r, const lt_report_value *v, const char *where, lt_err *err) {
    LT_TRY(check(v, where, err));
    json_t *axes = v->axes ? json_copy(v->axes) : json_object();
    json_t *o = json_pack("{s:s, s:s, s:s?, s:o, s:s, s:s?, s:s?, s:O?, s:O?, s:O?, s:O, s:O?}", "source", v->source,
                          "model", v->model, "id", v->id, "axes", axes, "metric", v->metric, "protocol", v->protocol,
                          "data", v->data, "window", v->window, "windows", v->windows, "tokens", v->tokens, "value",
                          v->value, "uncertainty", v->uncertainty);
    return o && add_axes(r, axes) && json_array_append_new(r->values, o) == 0
               ? LT_OK
               : lt_fail(err, LT_ENOMEM, "report: out of memory");
}

/* ---- once each ---- */

lt_status lt_report_once(json_t *list, json_t *entry, lt_err *err) {
    size_t i;
    json_t *known;
    json_array_foreach(list, i, known) if (json_equal(known, entry)) return LT_OK;
    return json_array_append(list, entry) == 0 ? LT_OK : lt_fail(err, LT_ENOMEM, "report: out of memory");
}

static bool same_but_axes(const json_t *a, const json_t *b) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key, value) if (strcmp(key, "axes") != 0 &&
                                                     !json_equal(value, json_object_get(b, key))) return false;
    return true;
}

static bool is_parent(const lt_report *r, const json_t *value) {
    const char *id = json_string_value(json_object_get(value, "id"));
    return id && json_object_get(r->parents, id);
}

static void drop_differing(json_t *axes, const json_t *other) {
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(axes, next, key, value) if (!json_equal(value, json_object_get(other, key)))
        json_object_del(axes, key);
}

/* Removes what is like the i-th value and comes after it. A value without a cell is not of one of the cells. */
static void keep_once(lt_report *r, size_t i) {
    json_t *kept = json_array_get(r->values, i), *axes = json_object_get(kept, "axes");
    const bool of_cells = is_parent(r, kept) && json_object_size(axes) > 0;
    for (size_t k = json_array_size(r->values); k-- > i + 1;) {
        const json_t *v = json_array_get(r->values, k);
        const json_t *others = json_object_get(v, "axes");
        const bool alike = json_equal(axes, others) || (of_cells && json_object_size(others) > 0);
        if (!alike || !same_but_axes(kept, v)) continue;
        drop_differing(axes, others);
        json_array_remove(r->values, k);
        k = json_array_size(r->values); /* with fewer axes others may be alike */
    }
}

/* What was there before all cells does not depend on them. */
static void free_parents(lt_report *r) {
    size_t i;
    json_t *v;
    json_array_foreach(r->values, i, v) {
        const char *id = json_string_value(json_object_get(v, "id"));
        if (is_parent(r, v) && !json_object_get(r->made, id)) json_object_clear(json_object_get(v, "axes"));
    }
}

/* The model that was made by a plan says all that the plan says. */
static void drop_plans(lt_report *r) {
    for (size_t i = json_array_size(r->values); i-- > 0;) {
        const char *id = json_string_value(json_object_get(json_array_get(r->values, i), "id"));
        if (id && json_object_get(r->cut, id)) json_array_remove(r->values, i);
    }
}

/* Leaves the jobs that are not done, and says so. */
static void look_at_jobs(lt_report *r, const lt_ctx *ctx) {
    const char *key;
    json_t *job, *first = NULL;
    void *next;
    json_object_foreach_safe(r->jobs, next, key, job) {
        if (json_is_true(job))
            json_object_del(r->jobs, key);
        else if (!first)
            first = job;
    }
    if (!first) return;
    const char *cell = json_string_value(json_object_get(first, "cell"));
    lt_log(ctx, LT_LOG_WARN, "report: %zu jobs are not done; the first: step %s%s%s: %s", json_object_size(r->jobs),
           json_string_value(json_object_get(first, "step")), *cell ? " " : "", cell,
           json_string_value(json_object_get(first, "why")));
}

lt_status lt_report_finish(lt_report *r, const lt_ctx *ctx, lt_err *err) {
    drop_plans(r);
    free_parents(r);
    for (size_t i = 0; i < json_array_size(r->values); i++) keep_once(r, i);
    look_at_jobs(r, ctx);
    if (json_array_size(r->values) + json_array_size(r->plans) + json_array_size(r->curves) +
            json_array_size(r->spectra) + json_object_size(r->jobs) ==
        0)
        return lt_fail(err, LT_EDATA, "report: nothing that was measured in any of the files");
    return LT_OK;
}

char *lt_report_title(const lt_report *r) {
    char *all = lt_strdup("");
    const char *title;
    json_t *v;
    json_object_foreach(r->titles, title, v) {
        char *longer = all ? lt_asprintf("%s%s%s", all, *all ? "; " : "", title) : NULL;
        lt_free(all);
        all = longer;
    }
    return all;
}

/* ---- text ---- */

static char *real_text(double x, int digits) {
    char text[40];
    for (int d = digits; d <= 17; d++) {
        snprintf(text, sizeof text, "%.*g", d, x);
        double back;
        if (digits < 15 || (sscanf(text, "%lf", &back) == 1 && back == x)) break;
    }
    return lt_strdup(text);
}

static char *value_text(const json_t *v, int digits) {
    if (json_is_string(v)) return lt_strdup(json_string_value(v));
    if (json_is_integer(v)) return lt_asprintf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
    if (json_is_real(v)) return real_text(json_real_value(v), digits);
    if (!v || json_is_null(v)) return lt_strdup("");
    return lt_json_canonical(v);
}

char *lt_report_text(const json_t *v) {
    return value_text(v, 6);
}

char *lt_report_exact(const json_t *v) {
    return value_text(v, 15);
}

char *lt_report_column(const char *axis) {
    for (size_t i = 0; lt_report_columns[i]; i++)
        if (strcmp(axis, lt_report_columns[i]) == 0) return lt_asprintf("axis_%s", axis);
    return lt_strdup(axis);
}

char *lt_report_conditions(const json_t *value) {
    char window[48] = "", tokens[48] = "";
    const char *protocol = json_string_value(json_object_get(value, "protocol"));
    const char *data = json_string_value(json_object_get(value, "data"));
    const json_t *w = json_object_get(value, "window"), *n = json_object_get(value, "windows"),
                 *t = json_object_get(value, "tokens");
    if (!protocol) return lt_strdup("");
    if (json_is_integer(w) && json_is_integer(n))
        snprintf(window, sizeof window, ", %lld windows of %lld", (long long)json_integer_value(n),
                 (long long)json_integer_value(w));
    else if (json_is_integer(w))
        snprintf(window, sizeof window, ", windows of %lld", (long long)json_integer_value(w));
    if (json_is_integer(t)) snprintf(tokens, sizeof tokens, ", %lld tokens", (long long)json_integer_value(t));
    return lt_asprintf("%s%s%s%s%s", protocol, window, tokens, data && *data ? ", " : "", data ? data : "");
}

lt_status lt_report_put(lt_report_out *o, lt_err *err, const char *format, ...) {
    char text[4096];
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    char *all = n >= (int)sizeof text ? lt_malloc((size_t)n + 1) : NULL;
    if (all) vsnprintf(all, (size_t)n + 1, format, again);
    va_end(again);
    if (n < 0 || (n >= (int)sizeof text && !all)) return lt_fail(err, LT_ENOMEM, "report: out of memory");
    const lt_status st = lt_sink_write(&o->sink, all ? all : text, (size_t)n, err);
    lt_free(all);
    return st;
}
