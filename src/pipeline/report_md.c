/* SPDX-License-Identifier: Apache-2.0 */
/* Tables as Markdown. */
#include <string.h>

#include "pipeline/report.h"

/* What Markdown or HTML in it would interpret is escaped; control characters are blanks. */
static lt_status put_text(lt_report_out *o, const char *text, lt_err *err) {
    for (const char *c = text; *c; c++) {
        if (strchr("\\|<>*_`[]&$~#", *c)) LT_TRY(lt_report_put(o, err, "\\"));
        LT_TRY(lt_report_put(o, err, "%c", (unsigned char)*c < 0x20 ? ' ' : *c));
    }
    return LT_OK;
}

static lt_status put_heading(lt_report_out *o, const char *level, const char *text, lt_err *err) {
    LT_TRY(lt_report_put(o, err, "%s", level));
    LT_TRY(put_text(o, text, err));
    return lt_report_put(o, err, "\n\n");
}

static lt_status put_row(lt_report_out *o, const json_t *cells, lt_err *err) {
    size_t i;
    json_t *cell;
    json_array_foreach((json_t *)cells, i, cell) {
        LT_TRY(lt_report_put(o, err, "%s", i ? " | " : "| "));
        LT_TRY(put_text(o, json_string_value(cell), err));
    }
    return lt_report_put(o, err, " |\n");
}

static lt_status put_table(lt_report_out *o, const json_t *table, lt_err *err) {
    const json_t *columns = json_object_get(table, "columns");
    const size_t right = (size_t)json_integer_value(json_object_get(table, "right"));
    size_t i;
    json_t *row;
    LT_TRY(put_row(o, columns, err));
    for (i = 0; i < json_array_size(columns); i++) LT_TRY(lt_report_put(o, err, i < right ? "|---" : "|---:"));
    LT_TRY(lt_report_put(o, err, "|\n"));
    json_array_foreach(json_object_get(table, "rows"), i, row) LT_TRY(put_row(o, row, err));
    return LT_OK;
}

static lt_status put_tables(lt_report_out *o, const json_t *tables, lt_err *err) {
    size_t i;
    json_t *table;
    json_array_foreach((json_t *)tables, i, table) {
        const char *title = json_string_value(json_object_get(table, "title"));
        if (i) LT_TRY(lt_report_put(o, err, "\n"));
        LT_TRY(put_heading(o, "## ", title, err));
        LT_TRY(put_table(o, table, err));
    }
    return LT_OK;
}

static lt_status write_md(lt_report_out *o, const lt_report *r, lt_err *err) {
    json_t *tables = lt_report_tables(r);
    char *title = lt_report_title(r);
    lt_status st = tables && title ? LT_OK : lt_fail(err, LT_ENOMEM, "report: out of memory");
    if (st == LT_OK && *title) st = put_heading(o, "# ", title, err);
    if (st == LT_OK) st = put_tables(o, tables, err);
    json_decref(tables);
    lt_free(title);
    return st;
}

const lt_report_format lt_report_md = { "md", ".md", false, write_md };
