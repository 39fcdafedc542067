/* SPDX-License-Identifier: Apache-2.0 */
/* One page without links to anything: tables, and drawings as SVG in it. */
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "pipeline/report_chart.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>lathe report</title>\n<style>\n"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}\n"
    "h2{font-size:1.1rem;margin:2rem 0 .5rem}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}\n"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:left}\n"
    "thead th{border-bottom:2px solid #888}\n"
    ".n{text-align:right}\n"
    "figure{margin:1rem 0;max-width:48rem}\nsvg{width:100%;height:auto}\n"
    "</style>\n</head>\n<body>\n<h1>Report</h1>\n";

static lt_status put_text(lt_report_out *o, const char *text, lt_err *err) {
    static const char special[] = "&<>\"'";
    static const char *const escaped[] = { "&amp;", "&lt;", "&gt;", "&quot;", "&#39;" };
    for (const char *c = text; *c; c++) {
        const char *s = strchr(special, *c);
        LT_TRY(s ? lt_report_put(o, err, "%s", escaped[s - special]) : lt_report_put(o, err, "%c", *c));
    }
    return LT_OK;
}

/* ---- tables ---- */

static lt_status put_row(lt_report_out *o, const json_t *cells, const char *tag, size_t right, lt_err *err) {
    size_t i;
    json_t *cell;
    LT_TRY(lt_report_put(o, err, "<tr>"));
    json_array_foreach((json_t *)cells, i, cell) {
        LT_TRY(lt_report_put(o, err, "<%s%s>", tag, i < right ? "" : " class=\"n\""));
        LT_TRY(put_text(o, json_string_value(cell), err));
        LT_TRY(lt_report_put(o, err, "</%s>", tag));
    }
    return lt_report_put(o, err, "</tr>\n");
}

static lt_status put_table(lt_report_out *o, const json_t *table, lt_err *err) {
    const size_t right = (size_t)json_integer_value(json_object_get(table, "right"));
    size_t i;
    json_t *row;
    LT_TRY(lt_report_put(o, err, "<h2>"));
    LT_TRY(put_text(o, json_string_value(json_object_get(table, "title")), err));
    LT_TRY(lt_report_put(o, err, "</h2>\n<div class=\"wide\"><table>\n<thead>\n"));
    LT_TRY(put_row(o, json_object_get(table, "columns"), "th", right, err));
    LT_TRY(lt_report_put(o, err, "</thead>\n<tbody>\n"));
    json_array_foreach(json_object_get(table, "rows"), i, row) LT_TRY(put_row(o, row, "td", right, err));
    return lt_report_put(o, err, "</tbody>\n</table></div>\n");
}

static lt_status put_tables(lt_report_out *o, const lt_report *r, lt_err *err) {
    json_t *tables = lt_report_tables(r), *table;
    size_t i;
    lt_status st = tables ? LT_OK : lt_fail(err, LT_ENOMEM, "report: out of memory");
    json_array_foreach(tables, i, table) if (st == LT_OK) st = put_table(o, table, err);
    json_decref(tables);
    return st;
}

/* ---- drawings ---- */

/* Does a name that is unique in its drawing only begin behind p? */
static bool begins_name(const char *p, const char *start) {
    static const char *const before[] = { "id='", "id=\"", "href='#", "href=\"#", "url(#" };
    for (size_t i = 0; i < LT_COUNTOF(before); i++) {
        const size_t n = strlen(before[i]);
        if ((size_t)(p - start) >= n && memcmp(p - n, before[i], n) == 0) return true;
    }
    return false;
}

/* The svg element with the names of its parts made unique in the page. */
static lt_status put_svg(lt_report_out *o, const char *svg, size_t index, lt_err *err) {
    const char *start = strstr(svg, "<svg"), *from = start;
    bool in_tag = false;
    if (!start) return lt_fail(err, LT_EIO, "gnuplot wrote no SVG (%s)", o->path);
    for (const char *p = start; *p; p++) {
        if (*p == '<' || *p == '>') in_tag = *p == '<';
        if (!in_tag || !begins_name(p, start)) continue;
        LT_TRY(lt_sink_write(&o->sink, from, (size_t)(p - from), err));
        LT_TRY(lt_report_put(o, err, "c%zu-", index));
        from = p;
    }
    return lt_report_put(o, err, "%s", from);
}

static lt_status put_drawing(lt_report_out *o, const char *path, size_t index, lt_err *err) {
    char *svg;
    size_t bytes;
    LT_TRY(lt_file_read(&svg, &bytes, path, 0, err));
    lt_status st = lt_report_put(o, err, "<figure>\n");
    if (st == LT_OK) st = put_svg(o, svg, index, err);
    if (st == LT_OK) st = lt_report_put(o, err, "</figure>\n");
    lt_free(svg);
    return st;
}

static lt_status put_chart(lt_report_out *o, const json_t *chart, size_t index, lt_err *err) {
    char *path = lt_asprintf("%s.%zu.svg", o->path, index);
    if (!path) return lt_fail(err, LT_ENOMEM, "report: out of memory");
    lt_status st = lt_report_draw(path, chart, err);
    if (st == LT_OK) {
        st = lt_report_put(o, err, "<h2>");
        if (st == LT_OK) st = put_text(o, json_string_value(json_object_get(chart, "y")), err);
        if (st == LT_OK) st = lt_report_put(o, err, " against ");
        if (st == LT_OK) st = put_text(o, json_string_value(json_object_get(chart, "x")), err);
        if (st == LT_OK) st = lt_report_put(o, err, "</h2>\n");
        if (st == LT_OK) st = put_drawing(o, path, index, err);
        unlink(path);
    }
    lt_free(path);
    return st;
}

static lt_status write_html(lt_report_out *o, const lt_report *r, lt_err *err) {
    json_t *charts = lt_report_charts(r), *chart;
    size_t i;
    lt_status st = charts ? lt_report_put(o, err, "%s", head) : lt_fail(err, LT_ENOMEM, "report: out of memory");
    if (st == LT_OK) st = put_tables(o, r, err);
    json_array_foreach(charts, i, chart) if (st == LT_OK) st = put_chart(o, chart, i, err);
    json_decref(charts);
    return st == LT_OK ? lt_report_put(o, err, "</body>\n</html>\n") : st;
}

const lt_report_format lt_report_html = { "html", ".html", true, write_html };
