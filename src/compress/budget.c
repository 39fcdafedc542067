/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/method.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/rows.h"

static const char *const budget_names[LT_N_BUDGETS + 1] = { "linears", "params", "bytes", NULL };

const char *lt_budget_name(lt_budget_of of) {
    return budget_names[of];
}
bool lt_budget_given(const lt_budget *b) {
    return b->fraction > 0.0 || b->absolute > 0.0;
}
static const char *budget_name(size_t i) {
    return budget_names[i];
}

/* strtod in the C locale's manner: digits, one '.', an exponent; no hex, inf or nan. */
static bool parse_number(double *out, const char **text) {
    const char *p = *text;
    char copy[64];
    size_t n = 0;
    while (n + 1 < sizeof copy && (isdigit((unsigned char)*p) || *p == '.')) copy[n++] = *p++;
    copy[n] = 0;
    if (n == 0 || strchr(copy, '.') != strrchr(copy, '.') || strcmp(copy, ".") == 0) return false;
    const char *dot = strchr(copy, '.');
    double value = 0.0, place = 1.0;
    for (size_t i = 0; i < n; i++) {
        if (copy[i] == '.') continue;
        value = value * 10.0 + (copy[i] - '0');
        if (dot && copy + i > dot) place *= 10.0;
    }
    *out = value / place;
    *text = p;
    return true;
}

/* "G" -> 1e9; "%" -> 1/100; "" -> 1; 0: neither */
static double unit_of(const char *suffix, bool *percent) {
    static const struct {
        const char *name;
        double times;
    } units[] = { { "", 1.0 },
                  { "K", 1e3 },
                  { "M", 1e6 },
                  { "G", 1e9 },
                  { "T", 1e12 },
                  { "KB", 1e3 },
                  { "MB", 1e6 },
                  { "GB", 1e9 },
                  { "TB", 1e12 },
                  { "KiB", 1024.0 },
                  { "MiB", 1048576.0 },
                  { "GiB", 1073741824.0 },
                  { "TiB", 1099511627776.0 },
                  { "B", 1.0 } };
    *percent = strcmp(suffix, "%") == 0;
    if (*percent) return 0.01;
    for (size_t i = 0; i < LT_COUNTOF(units); i++)
        if (strcmp(suffix, units[i].name) == 0) return units[i].times;
    return 0.0;
}

static lt_status parse_value(lt_budget *b, const char *text, const char *whole, lt_err *err) {
    double value;
    bool percent;
    const char *rest = text;
    if (!parse_number(&value, &rest)) return lt_fail(err, LT_EUSAGE, "keep: \"%s\" has no number", whole);
    const double unit = unit_of(rest, &percent);
    if (unit == 0.0)
        return lt_fail(err, LT_EUSAGE, "keep: unknown unit \"%s\" in \"%s\" (%%, K, M, G, KiB, ...)", rest, whole);
    if (*rest == 0 && value > 1.0 && value <= 100.0)
        return lt_fail(err, LT_EUSAGE, "keep: a share is written %g%% or %g, \"%s\" would be a count", value,
                       value / 100.0, whole);
    const bool fraction = percent || (*rest == 0 && value <= 1.0);
    value = percent ? value / 100.0 : value * unit;
    if (!(value > 0.0)) return lt_fail(err, LT_EUSAGE, "keep: \"%s\" must be above 0", whole);
    if (fraction && value > 1.0) return lt_fail(err, LT_EUSAGE, "keep: \"%s\" is more than everything", whole);
    if (fraction)
        b->fraction = value;
    else
        b->absolute = value;
    return LT_OK;
}

lt_status lt_budget_parse(lt_budget *out, const char *text, lt_err *err) {
    lt_budget b = { .of = LT_BUDGET_PARAMS };
    const char *equals = strchr(text, '='), *value = equals ? equals + 1 : text;
    if (equals) {
        char name[64];
        const size_t n = (size_t)(equals - text);
        size_t row;
        if (strchr(text, ',')) return lt_fail(err, LT_EUSAGE, "keep: one budget at a time, got \"%s\"", text);
        if (n >= sizeof name) return lt_fail(err, LT_EUSAGE, "keep: unknown budget in \"%.100s\"", text);
        memcpy(name, text, n);
        name[n] = 0;
        LT_TRY(lt_find_row(&row, "budget", name, budget_name, err));
        b.of = (lt_budget_of)row;
    }
    LT_TRY(parse_value(&b, value, text, err));
    *out = b;
    return LT_OK;
}
