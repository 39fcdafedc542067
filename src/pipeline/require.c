/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/require.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/suggest.h"
#include "pipeline/options.h"

typedef struct condition {
    char name[32];
    bool less, equal; /* < or >; with = */
    double bound;
} condition;

static lt_status parse(condition *out, const char *text, lt_err *err) {
    static const lt_option number = { .name = "require", .type = LT_OPT_REAL };
    const size_t n = strcspn(text, "<>= ");
    const char *op = text + n + strspn(text + n, " ");
    LT_REQUIRE(err, n > 0 && n < sizeof out->name && (*op == '<' || *op == '>'),
               "--require: \"%.60s\" is not NAME<NUMBER (or <=, >, >=)", text);
    *out = (condition){ .less = *op == '<', .equal = op[1] == '=' };
    memcpy(out->name, text, n);
    op += 1 + out->equal;
    op += strspn(op, " ");
    lt_value v = { 0 };
    LT_TRY(lt_value_parse(&v, &number, op, err));
    out->bound = v.d;
    lt_value_clear(&v);
    return LT_OK;
}

static lt_status known(const char *name, const char *const *names, lt_err *err) {
    char list[256] = "", hint[80];
    lt_suggestion s = { .word = name };
    size_t used = 0;
    for (size_t i = 0; names[i]; i++) {
        if (strcmp(names[i], name) == 0) return LT_OK;
        lt_suggest(&s, names[i]);
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
        used = lt_min_size(used, sizeof list - 1);
    }
    return lt_fail(err, LT_EUSAGE, "--require: \"%s\" is not one of %s%s", name, list,
                   lt_suggest_text(&s, "", hint, sizeof hint));
}

lt_status lt_requires_check(const lt_args *a, const char *const *names, lt_err *err) {
    condition c;
    for (size_t i = 0; i < lt_arg_count(a, "require"); i++) {
        LT_TRY(parse(&c, lt_arg_at(a, "require", i), err));
        LT_TRY(known(c.name, names, err));
    }
    return LT_OK;
}

/* Results hold "inf" and "nan" as texts. */
static double value_of(const json_t *v) {
    if (json_is_number(v)) return json_number_value(v);
    return json_is_string(v) && strcmp(json_string_value(v), "inf") == 0 ? INFINITY : NAN;
}

static const json_t *find(const json_t *record, const char *name) {
    char part[32];
    const char *dot = strchr(name, '.');
    if (!dot) return json_object_get(record, name);
    snprintf(part, sizeof part, "%.*s", (int)(dot - name), name);
    return json_object_get(json_object_get(record, part), dot + 1);
}

lt_status lt_requires_met(const lt_args *a, const char *model, const json_t *record, lt_err *err) {
    condition c;
    for (size_t i = 0; i < lt_arg_count(a, "require"); i++) {
        const char *text = lt_arg_at(a, "require", i);
        LT_TRY(parse(&c, text, err));
        const double v = value_of(find(record, c.name));
        const bool met = c.less ? v < c.bound || (c.equal && v == c.bound) : v > c.bound || (c.equal && v == c.bound);
        if (!met) return lt_fail(err, LT_ETARGET, "%s: --require %s is not met: %.6g", model, text, v);
    }
    return LT_OK;
}
