/* SPDX-License-Identifier: Apache-2.0 */
/* Tests: `v is NAME` and `v is NAME arg`. */
#include <string.h>

#include "chat/jinja_text.h"

static lt_status defined(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind != LT_J_UNDEFINED;
    return LT_OK;
}

static lt_status undefined(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind == LT_J_UNDEFINED;
    return LT_OK;
}

static lt_status none(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind == LT_J_NONE;
    return LT_OK;
}

static lt_status boolean(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind == LT_J_BOOL;
    return LT_OK;
}

static lt_status true_(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind == LT_J_BOOL && v.b;
    return LT_OK;
}

static lt_status false_(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind == LT_J_BOOL && !v.b;
    return LT_OK;
}

static lt_status integer(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind == LT_J_INT;
    return LT_OK;
}

static lt_status float_(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind == LT_J_FLOAT;
    return LT_OK;
}

static lt_status number(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    double unused;
    (void)c, (void)arg;
    *out = lt_j_number(v, &unused);
    return LT_OK;
}

static lt_status string(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind == LT_J_STRING;
    return LT_OK;
}

static lt_status mapping(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind == LT_J_DICT;
    return LT_OK;
}

static lt_status iterable(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind == LT_J_UNDEFINED || (v.kind >= LT_J_STRING && v.kind <= LT_J_DICT) || v.kind == LT_J_LOOP;
    return LT_OK;
}

static lt_status sequence(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)arg;
    if (v.kind == LT_J_LIST && v.form == LT_J_VIEW) return lt_j_beyond(c, "the test sequence of a range or view");
    *out = v.kind == LT_J_UNDEFINED || v.kind == LT_J_STRING || v.kind == LT_J_DICT ||
           (v.kind == LT_J_LIST && v.form != LT_J_GENERATOR);
    return LT_OK;
}

static lt_status callable(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)c, (void)arg;
    *out = v.kind >= LT_J_LOOP || v.kind == LT_J_UNDEFINED; /* Undefined has __call__ */
    return LT_OK;
}

static lt_status remainder_is(lt_jctx *c, lt_jv v, int64_t by, int64_t want, bool *out) {
    int64_t i;
    if (!lt_j_integer(v, &i)) return lt_j_beyond(c, "a test of divisibility of a %s", lt_j_type(v));
    if (by == 0) return lt_j_bad(c, "division by zero");
    *out = by == -1 ? want == 0 : (i % by + by) % by == want;
    return LT_OK;
}

static lt_status odd(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)arg;
    return remainder_is(c, v, 2, 1, out);
}

static lt_status even(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)arg;
    return remainder_is(c, v, 2, 0, out);
}

static lt_status divisibleby(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    int64_t by;
    if (!lt_j_integer(arg, &by)) return lt_j_bad(c, "divisibleby takes an integer");
    if (by > INT32_MAX || by < -INT32_MAX) return lt_j_beyond(c, "a divisor of more than 31 bits");
    return remainder_is(c, v, by, 0, out);
}

static lt_status equal(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    return lt_j_equal(c, v, arg, out);
}

static lt_status unequal(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    LT_TRY(lt_j_equal(c, v, arg, out));
    *out = !*out;
    return LT_OK;
}

static lt_status less(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    int order;
    LT_TRY(lt_j_order(c, v, arg, "<", &order));
    *out = order < 0;
    return LT_OK;
}

static lt_status at_most(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    int order;
    LT_TRY(lt_j_order(c, v, arg, "<=", &order));
    *out = order <= 0;
    return LT_OK;
}

static lt_status greater(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    int order;
    LT_TRY(lt_j_order(c, v, arg, ">", &order));
    *out = order == 1;
    return LT_OK;
}

static lt_status at_least(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    int order;
    LT_TRY(lt_j_order(c, v, arg, ">=", &order));
    *out = order == 0 || order == 1;
    return LT_OK;
}

static lt_status in_case(lt_jctx *c, lt_jv v, lt_jcase how, bool *out) {
    lt_jv same;
    bool cased = false;
    LT_TRY(lt_j_str(c, &v, v));
    LT_TRY(lt_j_case(c, v, how, &same));
    for (size_t i = 0; i < v.n; i++) {
        if ((unsigned char)v.s[i] >= 0x80) return lt_j_beyond(c, "a test of case outside of ASCII");
        cased = cased || (unsigned)((v.s[i] | 0x20) - 'a') < 26;
    }
    LT_TRY(lt_j_equal(c, v, same, out));
    *out = *out && cased;
    return LT_OK;
}

static lt_status upper(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)arg;
    return in_case(c, v, LT_J_UPPER, out);
}

static lt_status lower(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    (void)arg;
    return in_case(c, v, LT_J_LOWER, out);
}

/* `v is in list` is the operator. */
static lt_status in(lt_jctx *c, lt_jv v, lt_jv arg, bool *out) {
    return lt_j_contains(c, v, arg, out);
}

static const lt_jtest tests[] = {
    { "defined", 0, defined },
    { "undefined", 0, undefined },
    { "none", 0, none },
    { "boolean", 0, boolean },
    { "true", 0, true_ },
    { "false", 0, false_ },
    { "integer", 0, integer },
    { "float", 0, float_ },
    { "number", 0, number },
    { "string", 0, string },
    { "mapping", 0, mapping },
    { "iterable", 0, iterable },
    { "sequence", 0, sequence },
    { "callable", 0, callable },
    { "odd", 0, odd },
    { "even", 0, even },
    { "divisibleby", 1, divisibleby },
    { "eq", 1, equal },
    { "equalto", 1, equal },
    { "==", 1, equal },
    { "ne", 1, unequal },
    { "!=", 1, unequal },
    { "lt", 1, less },
    { "lessthan", 1, less },
    { "<", 1, less },
    { "le", 1, at_most },
    { "<=", 1, at_most },
    { "gt", 1, greater },
    { "greaterthan", 1, greater },
    { ">", 1, greater },
    { "ge", 1, at_least },
    { ">=", 1, at_least },
    { "in", 1, in },
    { "upper", 0, upper },
    { "lower", 0, lower },
};

const lt_jtest *lt_j_test(const char *name, size_t n) {
    for (size_t i = 0; i < LT_COUNTOF(tests); i++)
        if (strlen(tests[i].name) == n && memcmp(tests[i].name, name, n) == 0) return &tests[i];
    return NULL;
}
