/* SPDX-License-Identifier: Apache-2.0 */
/* Filters and global functions: rows. */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chat/jinja_text.h"

/* ---- calling a row ---- */

static lt_status sort_arguments(lt_jctx *c, const lt_jfn *f, const lt_jargs *a, lt_jv sorted[LT_J_PARAMS]) {
    for (size_t i = 0; i < a->n; i++) {
        size_t k = i;
        if (a->name && a->name[i])
            for (k = 0; k < LT_J_PARAMS && f->param[k] && strcmp(f->param[k], a->name[i]) != 0;) k++;
        if (k >= LT_J_PARAMS || !f->param[k])
            return lt_j_beyond(c, "%s with %s%.60s", f->name,
                               a->name && a->name[i] ? "the argument " : "more arguments",
                               a->name && a->name[i] ? a->name[i] : "");
        if (sorted[k].kind != LT_J_UNSET) return lt_j_bad(c, "%s: %s is given twice", f->name, f->param[k]);
        sorted[k] = a->v[i];
    }
    return LT_OK;
}

lt_status lt_j_apply(lt_jctx *c, const lt_jfn *f, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jv sorted[LT_J_PARAMS] = { { 0 } };
    LT_TRY(lt_j_work(c, 2));
    if (self.form == LT_J_SAFE && strcmp(f->name, "safe") != 0)
        return lt_j_beyond(c, "%s of what `safe` gave", f->name);
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].form == LT_J_SAFE) return lt_j_beyond(c, "%s with what `safe` gave", f->name);
    if (f->param[0] && strcmp(f->param[0], "*") == 0) return f->call(c, self, a, out);
    LT_TRY(sort_arguments(c, f, a, sorted));
    const lt_jargs by_order = { sorted, NULL, LT_J_PARAMS };
    return f->call(c, self, &by_order, out);
}

/* ---- filters of text; as in Jinja they take anything that can be printed ---- */

static lt_status trim(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    LT_TRY(lt_j_str(c, out, self));
    lt_j_strip(out, a->v[0], true, true);
    return LT_OK;
}

static lt_status string(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    return lt_j_str(c, out, self);
}

static lt_status safe(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    LT_TRY(lt_j_str(c, out, self));
    out->form = LT_J_SAFE;
    return LT_OK;
}

static lt_status upper(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    LT_TRY(lt_j_str(c, &self, self));
    return lt_j_case(c, self, LT_J_UPPER, out);
}

static lt_status lower(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    LT_TRY(lt_j_str(c, &self, self));
    return lt_j_case(c, self, LT_J_LOWER, out);
}

static lt_status capitalize(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    LT_TRY(lt_j_str(c, &self, self));
    return lt_j_case(c, self, LT_J_CAPITALIZE, out);
}

static lt_status title(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    LT_TRY(lt_j_str(c, &self, self));
    return lt_j_case(c, self, LT_J_TITLE_FILTER, out);
}

static lt_status replace(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jv old = a->v[0], with = a->v[1];
    LT_TRY(lt_j_str(c, &self, self));
    LT_TRY(lt_j_str(c, &old, old));
    LT_TRY(lt_j_str(c, &with, with));
    return lt_j_replace(c, self, old, with, a->v[2], out);
}

static lt_status indent_width(lt_jctx *c, lt_jv width, lt_jv *out) {
    static const char blanks[] = "                                                                ";
    int64_t n = 4;
    if (width.kind == LT_J_STRING) {
        *out = width;
        return LT_OK;
    }
    if (width.kind != LT_J_UNSET && !lt_j_integer(width, &n)) return lt_j_bad(c, "indent: width is no number");
    if (n > (int64_t)strlen(blanks)) return lt_j_beyond(c, "an indent of more than %zu", strlen(blanks));
    *out = lt_j_text(blanks, n > 0 ? (size_t)n : 0);
    return LT_OK;
}

static lt_status indent(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jv by, text, lines;
    lt_tok_buf b = { 0 };
    lt_status st = LT_OK;
    const bool first = lt_j_truth(a->v[1]), blank = lt_j_truth(a->v[2]);
    LT_TRY(indent_width(c, a->v[0], &by));
    LT_TRY(lt_j_str(c, &self, self));
    LT_TRY(lt_j_copy(c, &text, self.s, self.n));
    ((char *)(uintptr_t)text.s)[text.n++] = '\n'; /* over our copy's NUL: Jinja, too, ends the text so */
    LT_TRY(lt_j_lines(c, text, false, &lines));
    for (size_t i = 0; i < lines.list->n && st == LT_OK; i++) {
        const lt_jv line = lines.list->v[i];
        if (i > 0) st = lt_tok_buf_put(&b, "\n", 1, c->err);
        if (st == LT_OK && (i == 0 ? first : blank || line.n > 0)) st = lt_tok_buf_put(&b, by.s, by.n, c->err);
        if (st == LT_OK) st = lt_tok_buf_put(&b, line.s, line.n, c->err);
        if (st == LT_OK) st = lt_j_work(c, line.n / 16 + 1);
    }
    if (st == LT_OK) return lt_j_copy_buf(c, out, &b);
    lt_tok_buf_clear(&b);
    return st;
}

static lt_status separators(lt_jctx *c, lt_jv v, lt_jdump *how) {
    how->between = how->indented ? lt_j_text(",", 1) : lt_j_text(", ", 2);
    how->after_key = lt_j_text(": ", 2);
    if (v.kind == LT_J_UNSET || v.kind == LT_J_NONE) return LT_OK;
    if (v.kind != LT_J_LIST || v.list->n != 2 || v.list->v[0].kind != LT_J_STRING || v.list->v[1].kind != LT_J_STRING)
        return lt_j_bad(c, "tojson: separators are no two strings");
    how->between = v.list->v[0];
    how->after_key = v.list->v[1];
    return LT_OK;
}

static lt_status tojson(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jdump how = { .ascii = lt_j_truth(a->v[0]), .sort = lt_j_truth(a->v[3]) };
    lt_tok_buf b = { 0 };
    how.indented = a->v[1].kind != LT_J_UNSET && a->v[1].kind != LT_J_NONE;
    if (how.indented && !lt_j_integer(a->v[1], &how.indent)) return lt_j_beyond(c, "tojson with this indent");
    if (how.indent < 0) how.indent = 0;
    if (how.indent > 64) return lt_j_beyond(c, "an indent of more than 64");
    LT_TRY(separators(c, a->v[2], &how));
    const lt_status st = lt_j_dump(c, &b, self, &how);
    if (st == LT_OK) return lt_j_copy_buf(c, out, &b);
    lt_tok_buf_clear(&b);
    return st;
}

/* ---- numbers ---- */

/* A string as Python's int() or float() reads it; false: it does not. */
static bool read_number(lt_jv s, bool real, lt_jv *out) {
    char text[64], *end;
    lt_j_strip(&s, lt_j_none(), true, true);
    if (s.n == 0 || s.n >= sizeof text || memchr(s.s, '\0', s.n)) return false;
    memcpy(text, s.s, s.n);
    text[s.n] = '\0';
    if (strspn(text, real ? "+-0123456789.eE" : "+-0123456789") != s.n) return false;
    errno = 0;
    *out = real ? lt_j_float(strtod(text, &end)) : lt_j_int(strtoll(text, &end, 10));
    return *end == '\0' && end != text && (real || errno == 0);
}

static lt_status to_int(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    int64_t i;
    lt_jv v;
    if (a->v[1].kind != LT_J_UNSET) return lt_j_beyond(c, "int with a base");
    *out = a->v[0].kind == LT_J_UNSET ? lt_j_int(0) : a->v[0];
    if (lt_j_integer(self, &i)) {
        *out = lt_j_int(i);
    } else if (self.kind == LT_J_STRING && read_number(self, false, &v)) {
        *out = v;
    } else if (self.kind == LT_J_FLOAT || (self.kind == LT_J_STRING && read_number(self, true, &v))) {
        const double f = self.kind == LT_J_FLOAT ? self.f : v.f;
        if (!(fabs(f) < 9e18)) return lt_j_beyond(c, "an integer of more than 64 bits");
        *out = lt_j_int((int64_t)f);
    }
    return LT_OK;
}

static lt_status to_float(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    double f;
    lt_jv v;
    (void)c;
    *out = a->v[0].kind == LT_J_UNSET ? lt_j_float(0) : a->v[0];
    if (lt_j_number(self, &f))
        *out = lt_j_float(f);
    else if (self.kind == LT_J_STRING && read_number(self, true, &v))
        *out = v;
    return LT_OK;
}

static lt_status absolute(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    int64_t i;
    (void)a;
    if (lt_j_integer(self, &i) && i > INT64_MIN)
        *out = lt_j_int(i < 0 ? -i : i);
    else if (self.kind == LT_J_FLOAT)
        *out = lt_j_float(fabs(self.f));
    else
        return lt_j_bad(c, "bad operand type for abs(): '%s'", lt_j_type(self));
    return LT_OK;
}

/* ---- lists ---- */

static lt_status length(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    int64_t n;
    (void)a;
    LT_TRY(lt_j_length(c, self, &n));
    *out = lt_j_int(n);
    return LT_OK;
}

static lt_status first(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jlist items;
    (void)a;
    LT_TRY(lt_j_items(c, self, &items));
    *out = items.n ? items.v[0] : lt_j_undefined("first of nothing", 16);
    return LT_OK;
}

static lt_status last(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jlist items;
    (void)a;
    if (self.form == LT_J_GENERATOR) return lt_j_bad(c, "'generator' object is not reversible");
    LT_TRY(lt_j_items(c, self, &items));
    *out = items.n ? items.v[items.n - 1] : lt_j_undefined("last of nothing", 15);
    return LT_OK;
}

static lt_status list(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jlist items;
    (void)a;
    LT_TRY(lt_j_items(c, self, &items));
    LT_TRY(lt_j_list(c, out, LT_J_PLAIN));
    for (size_t i = 0; i < items.n; i++) LT_TRY(lt_j_push(c, out->list, items.v[i]));
    return LT_OK;
}

static lt_status reverse(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jlist items;
    (void)a;
    if (self.kind == LT_J_STRING) return lt_j_beyond(c, "reversing a string");
    LT_TRY(lt_j_items(c, self, &items));
    LT_TRY(lt_j_list(c, out, LT_J_GENERATOR));
    for (size_t i = items.n; i-- > 0;) LT_TRY(lt_j_push(c, out->list, items.v[i]));
    return LT_OK;
}

static lt_status join(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jlist items;
    lt_tok_buf b = { 0 };
    lt_jv between = lt_j_text("", 0);
    lt_status st = LT_OK;
    LT_TRY(lt_j_items(c, self, &items));
    if (a->v[0].kind != LT_J_UNSET) LT_TRY(lt_j_str(c, &between, a->v[0]));
    for (size_t i = 0; i < items.n && st == LT_OK; i++) {
        lt_jv v = items.v[i];
        if (i > 0) st = lt_j_print(c, &b, between, false);
        if (st == LT_OK && a->v[1].kind != LT_J_UNSET) st = lt_j_path(c, v, a->v[1], &v);
        if (st == LT_OK) st = lt_j_print(c, &b, v, false);
    }
    if (st == LT_OK) return lt_j_copy_buf(c, out, &b);
    lt_tok_buf_clear(&b);
    return st;
}

static lt_status items_(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    if (self.kind == LT_J_UNDEFINED) return lt_j_list(c, out, LT_J_GENERATOR);
    if (self.kind != LT_J_DICT) return lt_j_bad(c, "Can only get item pairs from a mapping.");
    LT_TRY(lt_j_pairs(c, self.dict, out));
    out->form = LT_J_GENERATOR;
    return LT_OK;
}

/* What sort compares: the item or its attribute, in lower case where it is a string. */
static lt_status sort_key(lt_jctx *c, lt_jv v, const lt_jargs *a, lt_jv *key) {
    *key = v;
    if (a->v[2].kind != LT_J_UNSET && a->v[2].kind != LT_J_NONE) LT_TRY(lt_j_path(c, v, a->v[2], key));
    return key->kind == LT_J_STRING && !lt_j_truth(a->v[1]) ? lt_j_case(c, *key, LT_J_LOWER, key) : LT_OK;
}

static lt_status sort(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jv keys;
    const int sign = lt_j_truth(a->v[0]) ? -1 : 1;
    LT_TRY(list(c, self, a, out));
    LT_TRY(lt_j_list(c, &keys, LT_J_PLAIN));
    lt_jv *v = out->list->v;
    for (size_t i = 0; i < out->list->n; i++) {
        const lt_jv item = v[i];
        lt_jv key;
        size_t k = i;
        LT_TRY(sort_key(c, item, a, &key));
        LT_TRY(lt_j_push(c, keys.list, key));
        for (int order; k > 0; k--) {
            LT_TRY(lt_j_order(c, keys.list->v[k - 1], key, "<", &order));
            if (order == LT_J_UNORDERED) return lt_j_beyond(c, "sorting NaN");
            if (order * sign <= 0) break;
            keys.list->v[k] = keys.list->v[k - 1];
            v[k] = v[k - 1];
        }
        keys.list->v[k] = key;
        v[k] = item;
    }
    return LT_OK;
}

static lt_status default_(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)c;
    const bool missing = self.kind == LT_J_UNDEFINED || (lt_j_truth(a->v[1]) && !lt_j_truth(self));
    *out = !missing ? self : a->v[0].kind == LT_J_UNSET ? lt_j_text("", 0) : a->v[0];
    return LT_OK;
}

/* ---- filters that take a filter or a test by name ---- */

static lt_status map(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jlist items;
    const bool attribute = a->n == 1 && a->name && a->name[0] && strcmp(a->name[0], "attribute") == 0;
    const lt_jfn *f = NULL;
    if (!attribute && a->n > 0 && a->v[0].kind == LT_J_STRING) f = lt_j_filter(a->v[0].s, a->v[0].n);
    if (!attribute && !f) return lt_j_beyond(c, "map with these arguments");
    LT_TRY(lt_j_items(c, self, &items));
    LT_TRY(lt_j_list(c, out, LT_J_GENERATOR));
    for (size_t i = 0; i < items.n; i++) {
        lt_jv v;
        const lt_jargs rest = { a->v + 1, a->name ? a->name + 1 : NULL, a->n - 1 };
        LT_TRY(attribute ? lt_j_path(c, items.v[i], a->v[0], &v) : lt_j_apply(c, f, items.v[i], &rest, &v));
        LT_TRY(lt_j_push(c, out->list, v));
    }
    return LT_OK;
}

static lt_status holds(lt_jctx *c, lt_jv v, const lt_jtest *t, lt_jv arg, bool *out) {
    if (t) return t->run(c, v, arg, out);
    *out = lt_j_truth(v);
    return LT_OK;
}

/* The items (by an attribute: a->v[0]) for which a test is true, or is not. */
static lt_status choose(lt_jctx *c, lt_jv self, const lt_jargs *a, bool by_attribute, bool wanted, lt_jv *out) {
    lt_jlist items;
    const size_t at = by_attribute;
    const lt_jtest *t = NULL;
    for (size_t i = 0; i < a->n; i++)
        if (a->name && a->name[i]) return lt_j_beyond(c, "a choice with keyword arguments");
    if (a->n < at) return lt_j_bad(c, "Missing parameter for attribute name");
    if (a->n > at) {
        t = a->v[at].kind == LT_J_STRING ? lt_j_test(a->v[at].s, a->v[at].n) : NULL;
        if (!t || a->n != at + 1 + t->args) return lt_j_beyond(c, "a choice by this test");
    }
    LT_TRY(lt_j_items(c, self, &items));
    LT_TRY(lt_j_list(c, out, LT_J_GENERATOR));
    for (size_t i = 0; i < items.n; i++) {
        lt_jv v = items.v[i];
        bool is = false;
        if (by_attribute) LT_TRY(lt_j_path(c, v, a->v[0], &v));
        LT_TRY(holds(c, v, t, t && t->args ? a->v[at + 1] : lt_j_none(), &is));
        if (is == wanted) LT_TRY(lt_j_push(c, out->list, items.v[i]));
    }
    return LT_OK;
}

static lt_status select_(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return choose(c, self, a, false, true, out);
}

static lt_status reject(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return choose(c, self, a, false, false, out);
}

static lt_status selectattr(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return choose(c, self, a, true, true, out);
}

static lt_status rejectattr(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return choose(c, self, a, true, false, out);
}

static const lt_jfn filters[] = {
    { "trim", { "chars" }, trim },
    { "string", { NULL }, string },
    { "safe", { NULL }, safe },
    { "upper", { NULL }, upper },
    { "lower", { NULL }, lower },
    { "capitalize", { NULL }, capitalize },
    { "title", { NULL }, title },
    { "replace", { "old", "new", "count" }, replace },
    { "indent", { "width", "first", "blank" }, indent },
    { "tojson", { "ensure_ascii", "indent", "separators", "sort_keys" }, tojson },
    { "int", { "default", "base" }, to_int },
    { "float", { "default" }, to_float },
    { "abs", { NULL }, absolute },
    { "length", { NULL }, length },
    { "count", { NULL }, length },
    { "first", { NULL }, first },
    { "last", { NULL }, last },
    { "list", { NULL }, list },
    { "reverse", { NULL }, reverse },
    { "join", { "d", "attribute" }, join },
    { "items", { NULL }, items_ },
    { "sort", { "reverse", "case_sensitive", "attribute" }, sort },
    { "default", { "default_value", "boolean" }, default_ },
    { "d", { "default_value", "boolean" }, default_ },
    { "map", { "*" }, map },
    { "select", { "*" }, select_ },
    { "reject", { "*" }, reject },
    { "selectattr", { "*" }, selectattr },
    { "rejectattr", { "*" }, rejectattr },
};

const lt_jfn *lt_j_filter(const char *name, size_t n) {
    return lt_j_row(filters, LT_COUNTOF(filters), name, n);
}

/* ---- global functions ---- */

static lt_status raise_exception(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jv text;
    (void)self;
    (void)out;
    LT_TRY(lt_j_str(c, &text, a->v[0]));
    return lt_j_bad(c, "%.*s", (int)lt_min_size(text.n, 300), text.s);
}

static lt_status range(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    int64_t v[3] = { 0, 0, 1 };
    (void)self;
    for (size_t i = 0; i < 3; i++)
        if (a->v[i].kind != LT_J_UNSET && !lt_j_integer(a->v[i], &v[i]))
            return lt_j_bad(c, "range: '%s' cannot be interpreted as an integer", lt_j_type(a->v[i]));
    if (a->v[0].kind == LT_J_UNSET) return lt_j_bad(c, "range expected at least 1 argument");
    const bool one = a->v[1].kind == LT_J_UNSET;
    const int64_t from = one ? 0 : v[0], to = one ? v[0] : v[1], step = v[2];
    if (step == 0) return lt_j_bad(c, "range() arg 3 must not be zero");
    LT_TRY(lt_j_list(c, out, LT_J_VIEW));
    for (int64_t i = from; step > 0 ? i < to : i > to;) {
        if (out->list->n == 100000) return lt_j_bad(c, "range too big"); /* as Jinja's sandbox */
        LT_TRY(lt_j_push(c, out->list, lt_j_int(i)));
        if (__builtin_add_overflow(i, step, &i)) return LT_OK;
    }
    return LT_OK;
}

static lt_status members(lt_jctx *c, const lt_jargs *a, lt_jkind kind, lt_jv *out) {
    LT_TRY(lt_j_dict(c, out, kind));
    for (size_t i = 0; i < a->n; i++) {
        if (a->name && a->name[i]) {
            LT_TRY(lt_j_put(c, out->dict, lt_j_text(a->name[i], strlen(a->name[i])), a->v[i]));
            continue;
        }
        if (i > 0 || a->v[i].kind != LT_J_DICT) return lt_j_beyond(c, "dict or namespace of this");
        for (size_t k = 0; k < a->v[i].dict->n; k++)
            LT_TRY(lt_j_put(c, out->dict, a->v[i].dict->key[k], a->v[i].dict->value[k]));
    }
    return LT_OK;
}

static lt_status namespace_(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)self;
    return members(c, a, LT_J_NAMESPACE, out);
}

static lt_status dict(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)self;
    return members(c, a, LT_J_DICT, out);
}

static lt_status strftime_now(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    char text[512];
    struct tm now;
    const time_t seconds = (time_t)c->now;
    (void)self;
    if (a->v[0].kind != LT_J_STRING || memchr(a->v[0].s, '\0', a->v[0].n))
        return lt_j_bad(c, "strftime_now: no format");
    lt_jv format;
    LT_TRY(lt_j_copy(c, &format, a->v[0].s, a->v[0].n)); /* with a NUL at its end */
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!plain || !localtime_r(&seconds, &now)) return lt_fail(c->err, LT_EINTERNAL, "strftime_now: no local time");
    const size_t n = strftime_l(text, sizeof text, format.s, &now, plain);
    freelocale(plain);
    if (n == 0 && format.n > 0) return lt_j_beyond(c, "strftime_now with this format");
    return lt_j_copy(c, out, text, n);
}

static const lt_jfn globals[] = {
    { "raise_exception", { "message" }, raise_exception },
    { "range", { "start", "stop", "step" }, range },
    { "namespace", { "*" }, namespace_ },
    { "dict", { "*" }, dict },
    { "strftime_now", { "format" }, strftime_now },
};

const lt_jfn *lt_j_global(const char *name, size_t n) {
    return lt_j_row(globals, LT_COUNTOF(globals), name, n);
}
