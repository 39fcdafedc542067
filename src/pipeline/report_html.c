/* SPDX-License-Identifier: Apache-2.0 */
/* One page without links to anything: tables, and drawings as SVG in it. */
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "pipeline/report_chart.h"

static const char before_title[] = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                                   "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>";
static const char after_title[] =
    "</title>\n<style>\n"
    ":root{color-scheme:light}\n"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:96rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff}\n"
    "h1{font-size:1.5rem}\nh2{font-size:1.1rem;margin:2rem 0 .5rem;overflow-wrap:anywhere}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}\n"
    "th,td{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:left}\n"
    "td.why{white-space:normal;min-width:20rem}\n"
    "thead th{border-bottom:2px solid #888}\n"
    "tbody tr:hover{background:#f4f6f8}\n"
    ".n{text-align:right}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,34rem),1fr));gap:1rem}\n"
    "figure{margin:0;max-width:48rem;overflow-x:auto}\nsvg{width:100%;min-width:34rem;height:auto}\n"
    "figcaption{color:#555}\n"
    "@media print{.wide,figure{overflow:visible}svg{min-width:0}}\n"
    "</style>\n</head>\n<body>\n<h1>";

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

/* Cells of numbers stand right; the words of the last one, where none are numbers, may be many. */
static const char *class_of(size_t i, size_t n, size_t right, bool heading) {
    if (i >= right) return " class=\"n\"";
    return !heading && right == n && i + 1 == n ? " class=\"why\"" : "";
}

static lt_status put_row(lt_report_out *o, const json_t *cells, bool heading, size_t right, lt_err *err) {
    const char *tag = heading ? "th" : "td", *scope = heading ? " scope=\"col\"" : "";
    size_t i;
    json_t *cell;
    LT_TRY(lt_report_put(o, err, "<tr>"));
    json_array_foreach((json_t *)cells, i, cell) {
        LT_TRY(lt_report_put(o, err, "<%s%s%s>", tag, scope, class_of(i, json_array_size(cells), right, heading)));
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
    LT_TRY(lt_report_put(o, err, "</h2>\n<div class=\"wide\" tabindex=\"0\"><table>\n<thead>\n"));
    LT_TRY(put_row(o, json_object_get(table, "columns"), true, right, err));
    LT_TRY(lt_report_put(o, err, "</thead>\n<tbody>\n"));
    json_array_foreach(json_object_get(table, "rows"), i, row) LT_TRY(put_row(o, row, false, right, err));
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

/* What stands between two marks of the text, after them; NULL: nothing does. */
static const char *after(const char *text, const char *mark) {
    const char *found = strstr(text, mark);
    return found ? found + strlen(mark) : NULL;
}

/* "perplexity against size, MB" */
static lt_status put_axes(lt_report_out *o, const json_t *chart, lt_err *err) {
    LT_TRY(put_text(o, json_string_value(json_object_get(chart, "y")), err));
    LT_TRY(lt_report_put(o, err, " against "));
    return put_text(o, json_string_value(json_object_get(chart, "x")), err);
}

/* The svg element as an image with a name of its own (gnuplot calls every one "Gnuplot"), the names of its parts made
 * unique in the page. */
static lt_status put_svg(lt_report_out *o, const char *svg, const json_t *chart, size_t index, lt_err *err) {
    const char *start = strstr(svg, "<svg"), *rest = start ? strchr(start, '>') : NULL,
               *from = rest ? after(rest, "</desc>") : NULL;
    bool in_tag = false;
    if (!from) return lt_fail(err, LT_EIO, "gnuplot wrote no SVG (%s)", o->path);
    LT_TRY(lt_report_put(o, err, "<svg role=\"img\""));
    LT_TRY(lt_sink_write(&o->sink, start + 4, (size_t)(rest + 1 - (start + 4)), err));
    LT_TRY(lt_report_put(o, err, "<title>"));
    LT_TRY(put_axes(o, chart, err));
    LT_TRY(lt_report_put(o, err, ": "));
    LT_TRY(put_text(o, json_string_value(json_object_get(chart, "title")), err));
    LT_TRY(lt_report_put(o, err, "</title>"));
    start = from;
    for (const char *p = from; *p; p++) {
        if (*p == '<' || *p == '>') in_tag = *p == '<';
        if (!in_tag || !begins_name(p, start)) continue;
        LT_TRY(lt_sink_write(&o->sink, from, (size_t)(p - from), err));
        LT_TRY(lt_report_put(o, err, "c%zu-", index));
        from = p;
    }
    return lt_report_put(o, err, "%s", from);
}

static lt_status put_drawing(lt_report_out *o, const char *path, const json_t *chart, size_t index, lt_err *err) {
    const long long left_out = (long long)json_integer_value(json_object_get(chart, "left_out"));
    char *svg;
    size_t bytes;
    LT_TRY(lt_file_read(&svg, &bytes, path, 0, err));
    lt_status st = lt_report_put(o, err, "<figure>\n");
    if (st == LT_OK) st = put_svg(o, svg, chart, index, err);
    if (st == LT_OK && left_out)
        st = lt_report_put(o, err, "<figcaption>Not drawn: %lld that %s not finite.</figcaption>\n", left_out,
                           left_out > 1 ? "are" : "is");
    if (st == LT_OK) st = lt_report_put(o, err, "</figure>\n");
    lt_free(svg);
    return st;
}

static lt_status put_chart(lt_report_out *o, const json_t *chart, size_t index, lt_err *err) {
    char *path = lt_asprintf("%s.%zu.svg", o->path, index);
    if (!path) return lt_fail(err, LT_ENOMEM, "report: out of memory");
    lt_status st = lt_report_draw(path, chart, err);
    if (st == LT_OK) {
        st = put_drawing(o, path, chart, index, err);
        unlink(path);
    }
    lt_free(path);
    return st;
}

static bool same_group(const json_t *a, const json_t *b) {
    return json_equal(json_object_get(a, "group"), json_object_get(b, "group"));
}

/* Charts of a group share a heading, and stand side by side where there is room. */
static lt_status put_charts(lt_report_out *o, const json_t *charts, lt_err *err) {
    const size_t n = json_array_size(charts);
    for (size_t i = 0; i < n; i++) {
        const json_t *chart = json_array_get(charts, i);
        if (i == 0 || !same_group(chart, json_array_get(charts, i - 1))) {
            LT_TRY(lt_report_put(o, err, "<h2>"));
            LT_TRY(put_text(o, json_string_value(json_object_get(chart, "group")), err));
            LT_TRY(lt_report_put(o, err, "</h2>\n<div class=\"charts\">\n"));
        }
        LT_TRY(put_chart(o, chart, i, err));
        if (i + 1 == n || !same_group(chart, json_array_get(charts, i + 1))) LT_TRY(lt_report_put(o, err, "</div>\n"));
    }
    return LT_OK;
}

static lt_status put_head(lt_report_out *o, const char *title, lt_err *err) {
    const char *shown = *title ? title : "Report";
    LT_TRY(lt_report_put(o, err, "%s", before_title));
    LT_TRY(put_text(o, shown, err));
    LT_TRY(lt_report_put(o, err, "%s", after_title));
    LT_TRY(put_text(o, shown, err));
    return lt_report_put(o, err, "</h1>\n");
}

static lt_status write_html(lt_report_out *o, const lt_report *r, lt_err *err) {
    json_t *charts = lt_report_charts(r);
    char *title = lt_report_title(r);
    lt_status st = charts && title ? put_head(o, title, err) : lt_fail(err, LT_ENOMEM, "report: out of memory");
    if (st == LT_OK) st = put_tables(o, r, err);
    if (st == LT_OK) st = put_charts(o, charts, err);
    json_decref(charts);
    lt_free(title);
    if (st == LT_EUNSUPPORTED) return lt_context(err, st, "a page, unlike --format md, csv and latex");
    return st == LT_OK ? lt_report_put(o, err, "</body>\n</html>\n") : st;
}

const lt_report_format lt_report_html = { "html", ".html", true, write_html };
