/* SPDX-License-Identifier: Apache-2.0 */
/* Tables as LaTeX tabulars, without packages. */
#include <string.h>

#include "pipeline/report.h"

/* What LaTeX would interpret, as it is written to be seen. */
static const char *escaped(const char *c) {
    switch (*c) {
    case '\\':
        return "\\textbackslash{}";
    case '~':
        return "\\textasciitilde{}";
    case '^':
        return "\\textasciicircum{}";
    case '<':
        return "\\textless{}";
    case '>':
        return "\\textgreater{}";
    case '|':
        return "\\textbar{}";
    case '"':
        return "{\\char34}"; /* \textquotedbl needs a font encoding */
    case '[':
        return "{[}"; /* after \\ it, and *, would be an argument */
    case '*':
        return "{*}";
    default:
        return (unsigned char)*c < 0x20 ? " " : NULL;
    }
}

/* Two that TeX would set as one: -- '' `` ?` !` */
static bool is_ligature(const char *c) {
    return (strchr("-'`", *c) && c[1] == *c) || (strchr("?!", *c) && c[1] == '`');
}

static lt_status put_text(lt_report_out *o, const char *text, lt_err *err) {
    for (const char *c = text; *c; c++) {
        const char *other = escaped(c);
        if (strncmp(c, "±", strlen("±")) == 0) {
            other = "$\\pm$";
            c += strlen("±") - 1;
        }
        if (other)
            LT_TRY(lt_report_put(o, err, "%s", other));
        else
            LT_TRY(lt_report_put(o, err, "%s%c", strchr("&%$#_{}", *c) ? "\\" : "", *c));
        if (is_ligature(c)) LT_TRY(lt_report_put(o, err, "{}"));
    }
    return LT_OK;
}

static lt_status put_row(lt_report_out *o, const json_t *cells, lt_err *err) {
    size_t i;
    json_t *cell;
    json_array_foreach((json_t *)cells, i, cell) {
        LT_TRY(lt_report_put(o, err, "%s", i ? " & " : ""));
        LT_TRY(put_text(o, json_string_value(cell), err));
    }
    return lt_report_put(o, err, " \\\\\n");
}

/* Numbers stand right; the words of the last column, where none are numbers, may be many. */
static const char *column(size_t i, size_t n, size_t right) {
    if (i >= right) return "r";
    return right == n && i + 1 == n ? "p{.5\\linewidth}" : "l";
}

/* The conditions are a row over all columns: they go where the table goes. */
static lt_status put_table(lt_report_out *o, const json_t *table, lt_err *err) {
    const json_t *columns = json_object_get(table, "columns");
    const size_t n = json_array_size(columns), right = (size_t)json_integer_value(json_object_get(table, "right"));
    size_t i;
    json_t *row;
    LT_TRY(lt_report_put(o, err, "\\begin{tabular}{"));
    for (i = 0; i < n; i++) LT_TRY(lt_report_put(o, err, "%s", column(i, n, right)));
    LT_TRY(lt_report_put(o, err, "}\n\\multicolumn{%zu}{l}{", n));
    LT_TRY(put_text(o, json_string_value(json_object_get(table, "title")), err));
    LT_TRY(lt_report_put(o, err, "} \\\\\n\\hline\n"));
    LT_TRY(put_row(o, columns, err));
    LT_TRY(lt_report_put(o, err, "\\hline\n"));
    json_array_foreach(json_object_get(table, "rows"), i, row) LT_TRY(put_row(o, row, err));
    return lt_report_put(o, err, "\\hline\n\\end{tabular}\n");
}

static lt_status write_latex(lt_report_out *o, const lt_report *r, lt_err *err) {
    json_t *tables = lt_report_tables(r), *table;
    size_t i;
    lt_status st = tables ? LT_OK : lt_fail(err, LT_ENOMEM, "report: out of memory");
    json_array_foreach(tables, i, table) {
        if (st == LT_OK && i) st = lt_report_put(o, err, "\n");
        if (st == LT_OK) st = put_table(o, table, err);
    }
    json_decref(tables);
    return st;
}

const lt_report_format lt_report_latex = { "latex", ".tex", false, write_latex };
