/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/inspect.h"

#include <stdio.h>
#include <string.h>

#include "pipeline/result.h"

lt_props lt_props_begin(json_t *result, const char *name) {
    static const char *const columns[] = { "property", "value" };
    lt_props p = { .object = json_object(), .rows = lt_result_table(result, name, columns, 2) };
    json_object_set_new(result, name, p.object);
    return p;
}

void lt_prop(const lt_props *p, const char *name, json_t *value) {
    char plain[64], text[64];
    const size_t n = strcspn(name, "|");
    snprintf(plain, sizeof plain, "%.*s", (int)n, name);
    json_object_set(p->object, plain, value);
    if (strcmp(name + n, "|B") == 0) {
        lt_result_row(p->rows, "ss", plain, lt_bytes_text(json_number_value(value), text, sizeof text));
        json_decref(value);
    } else
        lt_result_row(p->rows, "sj", plain, value);
}
