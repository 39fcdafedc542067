/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"

/* A JSON number and what follows it. */
static bool leading_number(double *out, const char *text, const char **rest) {
    char copy[64];
    const size_t n = strspn(text, "0123456789.eE+-");
    if (n == 0 || n >= sizeof copy) return false;
    memcpy(copy, text, n);
    copy[n] = 0;
    json_t *j = json_loads(copy, JSON_DECODE_ANY, NULL);
    const bool ok = json_is_number(j);
    if (ok) *out = json_number_value(j);
    json_decref(j);
    *rest = text + n;
    return ok;
}

lt_status lt_epsilon_parse(lt_epsilon *out, const char *text, lt_err *err) {
    const char *rest = text, *number = text;
    lt_epsilon e = { LT_EPSILON_RATIO, 0.0 };
    double times = 1.0;
    if (strncmp(text, "ratio:", 6) == 0)
        number = text + 6;
    else if (strncmp(text, "nll:", 4) == 0)
        number = text + 4, e.unit = LT_EPSILON_NLL;
    bool ok = leading_number(&e.value, number, &rest) && e.value >= 0.0;
    if (ok && number == text) ok = strcmp(rest, "%") == 0, times = 0.01;
    if (ok && number != text) ok = *rest == 0;
    e.value *= times;
    if (ok) return *out = e, LT_OK;
    return lt_fail(err, LT_EUSAGE, "epsilon: \"%.40s\" has no unit: 5%% or ratio:0.05 (of perplexity), or nll:0.02",
                   text);
}

bool lt_epsilon_accepts(const lt_epsilon *e, double base_nll, double nll, double share) {
    const double allowed = e->value * share;
    return e->unit == LT_EPSILON_NLL ? nll - base_nll <= allowed : exp(nll - base_nll) - 1.0 <= allowed;
}

lt_status lt_search_energy(double *found, double lo, double hi, int probes, lt_try_energy accept, void *user,
                           lt_err *err) {
    *found = 0.0;
    for (int i = 0; i < probes; i++) {
        const double e = (lo + hi) / 2.0;
        bool ok = false;
        LT_TRY(accept(user, e, &ok, err));
        if (ok)
            *found = hi = e;
        else
            lo = e;
    }
    return LT_OK;
}

lt_status lt_search_rank(size_t *found, size_t lo, size_t hi, lt_try_rank accept, void *user, lt_err *err) {
    bool ok = false;
    *found = 0;
    LT_TRY(accept(user, hi, &ok, err));
    if (!ok) return LT_OK;
    *found = hi;
    if (lo >= hi) return LT_OK;
    LT_TRY(accept(user, lo, &ok, err));
    if (ok) return *found = lo, LT_OK;
    while (hi - lo > 1) {
        const size_t mid = (lo + hi) / 2;
        LT_TRY(accept(user, mid, &ok, err));
        if (ok)
            *found = hi = mid;
        else
            lo = mid;
    }
    return LT_OK;
}
