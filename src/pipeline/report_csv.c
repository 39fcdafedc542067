/* SPDX-License-Identifier: Apache-2.0 */
/* Tidy CSV (RFC 4180): a row for every measured value, all its digits. */
#include <string.h>

#include "pipeline/report.h"

static lt_status put_field(lt_report_out *o, const char *text, bool first, lt_err *err) {
    if (!first) LT_TRY(lt_report_put(o, err, ","));
    if (!strpbrk(text, ",\"\r\n")) return lt_report_put(o, err, "%s", text);
    LT_TRY(lt_report_put(o, err, "\""));
    for (const char *c = text; *c; c++) LT_TRY(lt_report_put(o, err, "%s%c", *c == '"' ? "\"" : "", *c));
    return lt_report_put(o, err, "\"");
}

/* text is taken */
static lt_status put_taken(lt_report_out *o, char *text, bool first, lt_err *err) {
    if (!text) return lt_fail(err, LT_ENOMEM, "report: out of memory");
    const lt_status st = put_field(o, text, first, err);
    lt_free(text);
    return st;
}

/* A column by its name; v NULL: the heading. */
static lt_status put_row(lt_report_out *o, const lt_report *r, const json_t *v, lt_err *err) {
    size_t k;
    json_t *axis;
    for (size_t i = 0; lt_report_columns[i]; i++) {
        const char *name = lt_report_columns[i];
        if (i == LT_REPORT_LEADING) json_array_foreach(r->axes, k, axis) {
                const char *a = json_string_value(axis);
                const json_t *value = json_object_get(json_object_get(v, "axes"), a);
                LT_TRY(put_taken(o, v ? lt_report_exact(value) : lt_report_column(a), false, err));
            }
        LT_TRY(put_taken(o, v ? lt_report_exact(json_object_get(v, name)) : lt_strdup(name), i == 0, err));
    }
    return lt_report_put(o, err, "\n");
}

static lt_status write_csv(lt_report_out *o, const lt_report *r, lt_err *err) {
    size_t i;
    json_t *v;
    LT_TRY(put_row(o, r, NULL, err));
    json_array_foreach(r->values, i, v) LT_TRY(put_row(o, r, v, err));
    return LT_OK;
}

const lt_report_format lt_report_csv = { "csv", ".csv", false, write_csv };
