/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_report.c - results as tables, tidy data and a page with drawings. */
#include "pipeline/commands.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "pipeline/outdir.h"
#include "pipeline/report.h"
#include "pipeline/result.h"

const lt_report_format *const lt_report_formats[] = { &lt_report_md, &lt_report_csv, &lt_report_latex, &lt_report_html,
                                                      NULL };

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

/* --format, else what the name ends with; NULL: neither. */
static const lt_report_format *choose(const lt_args *a, const char *path) {
    const char *name = lt_arg_string(a, "format");
    for (size_t i = 0; lt_report_formats[i]; i++)
        if (name ? strcmp(lt_report_formats[i]->name, name) == 0 : ends_with(path, lt_report_formats[i]->suffix))
            return lt_report_formats[i];
    return NULL;
}

static lt_status write_one(const lt_call_ctx *c, const lt_report *r, const lt_report_format *f, const char *path,
                           json_t *result, json_t *rows, lt_err *err) {
    lt_report_out o = { .path = path };
    const bool file = strcmp(path, "-") != 0;
    LT_REQUIRE(err, file || !f->needs_file, "report: %s needs a file, drawings are made beside it", f->name);
    if (file) LT_TRY(lt_output_check(c, path, err));
    LT_TRY(lt_sink_open(&o.sink, c, path, err));
    const lt_status st = f->write(&o, r, err);
    if (st != LT_OK) {
        lt_sink_abort(&o.sink);
        return st;
    }
    if (file) lt_result_row(rows, "ss", f->name, path);
    return lt_sink_finish(&o.sink, result, err);
}

/* What is done with each file of a folder: all are looked at before the first is written. */
static lt_status folder_file(const lt_call_ctx *c, const lt_report *r, const lt_report_format *f, bool look,
                             json_t *result, json_t *rows, lt_err *err) {
    char name[32];
    snprintf(name, sizeof name, "report%s", f->suffix);
    char *path = lt_path_join(lt_arg_string(c->args, "output"), name);
    if (!path) return lt_fail(err, LT_ENOMEM, "report: out of memory");
    const lt_status st = look ? lt_output_check(c, path, err) : write_one(c, r, f, path, result, rows, err);
    lt_free(path);
    return st;
}

/* The page, last in the list, comes first: it is what may lack something. */
static lt_status write_folder(const lt_call_ctx *c, const lt_report *r, json_t *result, json_t *rows, lt_err *err) {
    const char *folder = lt_arg_string(c->args, "output");
    const lt_report_format *only = lt_arg_given(c->args, "format") ? choose(c->args, folder) : NULL;
    LT_TRY(lt_make_dirs(folder, err));
    for (int look = 1; look >= 0; look--)
        for (size_t i = LT_COUNTOF(lt_report_formats) - 1; i-- > 0;)
            if (!only || only == lt_report_formats[i])
                LT_TRY(folder_file(c, r, lt_report_formats[i], look, result, rows, err));
    return LT_OK;
}

static lt_status write_all(const lt_call_ctx *c, const lt_report *r, json_t **result, lt_err *err) {
    static const char *const columns[] = { "format", "output" };
    const char *path = lt_arg_string(c->args, "output");
    const lt_report_format *f = choose(c->args, path);
    const bool folder = lt_path_is_dir(path) || path[strlen(path) - 1] == '/';
    LT_REQUIRE(err, folder || f, "report: --format, or a name that ends with .md, .csv, .tex or .html (%s)", path);
    json_t *j = lt_result_new(c);
    if (!j) return lt_fail(err, LT_ENOMEM, "report: out of memory");
    json_object_set_new(j, "values", json_integer((json_int_t)json_array_size(r->values)));
    json_t *rows = strcmp(path, "-") != 0 ? lt_result_table(j, "", columns, LT_COUNTOF(columns)) : NULL;
    const lt_status st = folder ? write_folder(c, r, j, rows, err) : write_one(c, r, f, path, j, rows, err);
    if (st == LT_OK) return lt_result_finish(result, j, err);
    json_decref(j);
    return st;
}

static lt_status read_published(lt_report *r, const char *path, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(lt_file_read(&text, &bytes, path, 0, err));
    const lt_status st = lt_report_published(r, text, bytes, path, err);
    lt_free(text);
    return st;
}

static lt_status read_all(lt_report *r, const lt_call_ctx *c, lt_err *err) {
    LT_TRY(lt_report_create(r, err));
    for (size_t i = 0; i < lt_arg_count(c->args, "results"); i++)
        LT_TRY(lt_report_read(r, c->ctx, lt_arg_at(c->args, "results", i), err));
    for (size_t i = 0; i < lt_arg_count(c->args, "published"); i++)
        LT_TRY(read_published(r, lt_arg_at(c->args, "published", i), err));
    return lt_report_finish(r, c->ctx, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    lt_report r;
    lt_status st = read_all(&r, c, err);
    if (st == LT_OK) st = write_all(c, &r, result, err);
    lt_report_clear(&r);
    return st;
}

static const lt_positional positionals[] = {
    { "results", 1, SIZE_MAX,
      "result.json, output folders, NAME.step.json, the folder of a recipe, plan.json, metrics.jsonl, results of "
      "lm-eval-harness" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "output", LT_OPT_PATH, lt_required, 0, 0, NULL, false, "FILE|DIR",
      "what to write; a folder (there, or ending in /) gets every format; -: standard output" },
    { "format", LT_OPT_STRING, NULL, 0, 0, "md|csv|latex|html", false, NULL,
      "default: by the end of the name, .md .csv .tex .html" },
    { "published", LT_OPT_PATH, NULL, 0, 0, NULL, true, "FILE",
      "CSV of values from elsewhere: model, metric, value, and the other columns of the tidy CSV" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_report = {
    .name = "report",
    .summary = "results as Markdown, tidy CSV, LaTeX, and a page with drawings",
    .details =
        "Values measured under different conditions never share a table: protocol, window, tokens and text stand "
        "over it. The page is one file; it draws quality against size, what a plan predicted against what was "
        "measured, the ranks of each layer, spectra, and training curves (by gnuplot).",
    .example = "lathe report study -o study.html",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE,
};
