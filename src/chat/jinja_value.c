/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/jinja_value.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tokenizer/utf8.h"

/* ---- budgets and messages ---- */

void *lt_j_alloc(lt_jctx *c, size_t count, size_t size) {
    size_t bytes;
    if (!lt_mul_size(count, size, &bytes) || c->bytes >= LT_J_MOST_BYTES || bytes > LT_J_MOST_BYTES - c->bytes) {
        c->failed = lt_j_beyond(c, "more than %zu MiB of values", LT_J_MOST_BYTES >> 20);
        return NULL;
    }
    c->bytes += lt_max_size(bytes, 64); /* what the arena gives out at least */
    void *p = lt_arena_alloc(c->arena, bytes);
    if (!p) c->failed = lt_fail(c->err, LT_ENOMEM, "no memory for a chat template (%s)", c->where);
    return p;
}

lt_status lt_j_work(lt_jctx *c, size_t steps) {
    c->work += steps;
    return c->work <= LT_J_MOST_WORK ? LT_OK : lt_j_beyond(c, "more than %zu steps", LT_J_MOST_WORK);
}

lt_status lt_j_enter(lt_jctx *c) {
    if (c->depth >= LT_J_MOST_DEPTH) return lt_j_beyond(c, "nesting deeper than %d", LT_J_MOST_DEPTH);
    c->depth++;
    return LT_OK;
}

void lt_j_set_bad(const lt_jctx *c, const char *format, ...) {
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    lt_set_err(c->err, LT_EDATA, "chat template: %s (%s: line %d)", what, c->where, c->line);
}

void lt_j_set_beyond(const lt_jctx *c, const char *format, ...) {
    char what[300];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    lt_set_err(c->err, LT_EUNSUPPORTED,
               "chat template: %s is outside of what lathe renders (docs/formats/chat.md): give --template FILE, or "
               "plain prompts (%s: line %d)",
               what, c->where, c->line);
}

/* ---- making values ---- */

lt_status lt_j_copy(lt_jctx *c, lt_jv *out, const char *s, size_t n) {
    char *to = lt_j_alloc(c, n + 1, 1);
    if (!to) return lt_j_spent(c);
    if (n > 0) memcpy(to, s, n);
    to[n] = '\0';
    *out = lt_j_text(to, n);
    return lt_j_work(c, n / 16 + 1);
}

lt_status lt_j_copy_buf(lt_jctx *c, lt_jv *out, lt_tok_buf *b) {
    const lt_status st = lt_j_copy(c, out, b->data, b->len);
    lt_tok_buf_clear(b);
    return st;
}

lt_status lt_j_list(lt_jctx *c, lt_jv *out, lt_jform form) {
    lt_jlist *l = lt_j_alloc(c, 1, sizeof *l);
    if (!l) return lt_j_spent(c);
    *l = (lt_jlist){ 0 };
    *out = (lt_jv){ .kind = LT_J_LIST, .form = form, .list = l };
    return LT_OK;
}

lt_status lt_j_push(lt_jctx *c, lt_jlist *l, lt_jv v) {
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 8;
        lt_jv *more = lt_j_alloc(c, cap, sizeof *more);
        if (!more) return lt_j_spent(c);
        if (l->n > 0) memcpy(more, l->v, l->n * sizeof *more);
        l->v = more;
        l->cap = cap;
    }
    l->v[l->n++] = v;
    return lt_j_work(c, 1);
}

lt_status lt_j_dict(lt_jctx *c, lt_jv *out, lt_jkind kind) {
    lt_jdict *d = lt_j_alloc(c, 1, sizeof *d);
    if (!d) return lt_j_spent(c);
    *d = (lt_jdict){ 0 };
    *out = (lt_jv){ .kind = kind, .dict = d };
    return LT_OK;
}

static lt_status append(lt_jctx *c, lt_jdict *d, lt_jv key, lt_jv value) {
    if (d->n == d->cap) {
        const size_t cap = d->cap ? 2 * d->cap : 8;
        lt_jv *k = lt_j_alloc(c, 2 * cap, sizeof *k);
        if (!k) return lt_j_spent(c);
        if (d->n > 0) {
            memcpy(k, d->key, d->n * sizeof *k);
            memcpy(k + cap, d->value, d->n * sizeof *k);
        }
        d->key = k;
        d->value = k + cap;
        d->cap = cap;
    }
    d->key[d->n] = key;
    d->value[d->n++] = value;
    return lt_j_work(c, 1);
}

const lt_jv *lt_j_find(const lt_jdict *d, const char *key, size_t n) {
    for (size_t i = 0; i < d->n; i++)
        if (d->key[i].kind == LT_J_STRING && d->key[i].n == n && memcmp(d->key[i].s, key, n) == 0) return &d->value[i];
    return NULL;
}

lt_status lt_j_lookup(lt_jctx *c, const lt_jdict *d, lt_jv key, const lt_jv **out) {
    *out = NULL;
    if (key.kind >= LT_J_LIST && key.form != LT_J_TUPLE) return lt_j_bad(c, "unhashable type '%s'", lt_j_type(key));
    LT_TRY(lt_j_work(c, d->n / 8 + 1));
    for (size_t i = 0; i < d->n && !*out; i++) {
        bool same;
        LT_TRY(lt_j_equal(c, d->key[i], key, &same));
        if (same) *out = &d->value[i];
    }
    return LT_OK;
}

lt_status lt_j_put(lt_jctx *c, lt_jdict *d, lt_jv key, lt_jv value) {
    const lt_jv *old;
    LT_TRY(lt_j_lookup(c, d, key, &old));
    if (!old) return append(c, d, key, value);
    d->value[old - d->value] = value;
    return LT_OK;
}

static lt_status list_from_json(lt_jctx *c, lt_jv *out, const json_t *j) {
    LT_TRY(lt_j_list(c, out, LT_J_PLAIN));
    for (size_t i = 0; i < json_array_size(j); i++) {
        lt_jv v;
        LT_TRY(lt_j_from_json(c, &v, json_array_get(j, i)));
        LT_TRY(lt_j_push(c, out->list, v));
    }
    return LT_OK;
}

static lt_status dict_from_json(lt_jctx *c, lt_jv *out, const json_t *j) {
    const char *key;
    size_t n;
    json_t *value;
    LT_TRY(lt_j_dict(c, out, LT_J_DICT));
    json_object_keylen_foreach((json_t *)(uintptr_t)j, key, n, value) { /* the macro only reads */
        lt_jv k, v;
        LT_TRY(lt_j_copy(c, &k, key, n));
        LT_TRY(lt_j_from_json(c, &v, value));
        LT_TRY(append(c, out->dict, k, v)); /* the reader has refused doubles */
    }
    return LT_OK;
}

lt_status lt_j_from_json(lt_jctx *c, lt_jv *out, const json_t *j) {
    lt_status st = LT_OK;
    *out = lt_j_none();
    LT_TRY(lt_j_enter(c));
    if (json_is_string(j)) st = lt_j_copy(c, out, json_string_value(j), json_string_length(j));
    if (json_is_integer(j)) *out = lt_j_int(json_integer_value(j));
    if (json_is_real(j)) *out = lt_j_float(json_real_value(j));
    if (json_is_boolean(j)) *out = lt_j_bool(json_is_true(j));
    if (json_is_array(j)) st = list_from_json(c, out, j);
    if (json_is_object(j)) st = dict_from_json(c, out, j);
    c->depth--;
    return st;
}

/* ---- asking values ---- */

const char *lt_j_type(lt_jv v) {
    static const char *const name[] = { "nothing", "Undefined", "NoneType",  "bool", "int",      "float",   "str",
                                        "list",    "dict",      "Namespace", "loop", "function", "function" };
    static const char *const form[] = { "list", "tuple", "view", "generator", "Markup" };
    return v.kind == LT_J_LIST ? form[v.form] : v.form == LT_J_SAFE ? "Markup" : name[v.kind];
}

bool lt_j_truth(lt_jv v) {
    switch (v.kind) {
    case LT_J_UNSET:
    case LT_J_UNDEFINED:
    case LT_J_NONE:
        return false;
    case LT_J_BOOL:
        return v.b;
    case LT_J_INT:
        return v.i != 0;
    case LT_J_FLOAT:
        return v.f != 0;
    case LT_J_STRING:
        return v.n > 0;
    case LT_J_LIST:
        return v.form == LT_J_GENERATOR || v.list->n > 0;
    case LT_J_DICT:
        return v.dict->n > 0;
    default:
        return true;
    }
}

bool lt_j_integer(lt_jv v, int64_t *i) {
    if (v.kind != LT_J_INT && v.kind != LT_J_BOOL) return false;
    *i = v.kind == LT_J_INT ? v.i : v.b;
    return true;
}

bool lt_j_number(lt_jv v, double *f) {
    int64_t i;
    if (v.kind == LT_J_FLOAT)
        *f = v.f;
    else if (lt_j_integer(v, &i))
        *f = (double)i;
    else
        return false;
    return true;
}

static bool same_text(lt_jv a, lt_jv b) {
    return a.n == b.n && memcmp(a.s, b.s, a.n) == 0;
}

static lt_status same_lists(lt_jctx *c, lt_jv a, lt_jv b, bool *out) {
    *out = a.list == b.list || (a.list->n == b.list->n && a.form == b.form && a.form <= LT_J_TUPLE);
    for (size_t i = 0; *out && a.list != b.list && i < a.list->n; i++)
        LT_TRY(lt_j_equal(c, a.list->v[i], b.list->v[i], out));
    return LT_OK;
}

static lt_status same_dicts(lt_jctx *c, const lt_jdict *a, const lt_jdict *b, bool *out) {
    *out = a->n == b->n;
    for (size_t i = 0; *out && a != b && i < a->n; i++) {
        const lt_jv *other;
        LT_TRY(lt_j_lookup(c, b, a->key[i], &other));
        *out = other != NULL;
        if (other) LT_TRY(lt_j_equal(c, a->value[i], *other, out));
    }
    return LT_OK;
}

static bool same_numbers(lt_jv a, lt_jv b) {
    int64_t i, k;
    double x, y;
    if (lt_j_integer(a, &i) && lt_j_integer(b, &k)) return i == k;
    return lt_j_number(a, &x) && lt_j_number(b, &y) && x == y;
}

lt_status lt_j_equal(lt_jctx *c, lt_jv a, lt_jv b, bool *out) {
    lt_status st = LT_OK;
    double unused;
    LT_TRY(lt_j_work(c, 1));
    LT_TRY(lt_j_enter(c));
    if (lt_j_number(a, &unused) || lt_j_number(b, &unused))
        *out = same_numbers(a, b);
    else if (a.kind != b.kind)
        *out = false;
    else if (a.kind == LT_J_STRING)
        *out = same_text(a, b);
    else if (a.kind == LT_J_LIST)
        st = same_lists(c, a, b, out);
    else if (a.kind == LT_J_DICT)
        st = same_dicts(c, a.dict, b.dict, out);
    else
        *out = a.kind <= LT_J_NONE || (a.dict == b.dict && a.self == b.self);
    c->depth--;
    return st;
}

static int order_text(lt_jv a, lt_jv b) { /* UTF-8 sorts as its code points do */
    const int d = memcmp(a.s, b.s, lt_min_size(a.n, b.n));
    return d ? (d < 0 ? -1 : 1) : a.n < b.n ? -1 : a.n > b.n;
}

static lt_status order_lists(lt_jctx *c, lt_jv a, lt_jv b, const char *op, int *out) {
    const size_t n = lt_min_size(a.list->n, b.list->n);
    LT_TRY(lt_j_enter(c));
    *out = a.list->n < b.list->n ? -1 : a.list->n > b.list->n;
    lt_status st = LT_OK;
    for (size_t i = 0; i < n && st == LT_OK; i++) {
        bool same = false;
        st = lt_j_equal(c, a.list->v[i], b.list->v[i], &same);
        if (st != LT_OK || same) continue;
        st = lt_j_order(c, a.list->v[i], b.list->v[i], op, out);
        break;
    }
    c->depth--;
    return st;
}

lt_status lt_j_order(lt_jctx *c, lt_jv a, lt_jv b, const char *op, int *out) {
    int64_t i, k;
    double x, y;
    LT_TRY(lt_j_work(c, 1));
    if (lt_j_integer(a, &i) && lt_j_integer(b, &k))
        *out = i < k ? -1 : i > k;
    else if (lt_j_number(a, &x) && lt_j_number(b, &y))
        *out = isnan(x) || isnan(y) ? LT_J_UNORDERED : x < y ? -1 : x > y;
    else if (a.kind == LT_J_STRING && b.kind == LT_J_STRING)
        *out = order_text(a, b);
    else if (a.kind == LT_J_LIST && b.kind == LT_J_LIST && a.form == b.form && a.form <= LT_J_TUPLE)
        return order_lists(c, a, b, op, out);
    else
        return lt_j_bad(c, "'%s' not supported between instances of '%s' and '%s'", op, lt_j_type(a), lt_j_type(b));
    return LT_OK;
}

static lt_status characters(lt_jctx *c, lt_jv v, lt_jlist *out) {
    for (size_t at = 0; at < v.n;) {
        const size_t n = lt_utf8_length(v.s[at]);
        LT_TRY(lt_j_push(c, out, lt_j_text(v.s + at, n)));
        at += n;
    }
    return LT_OK;
}

lt_status lt_j_items(lt_jctx *c, lt_jv v, lt_jlist *out) {
    *out = (lt_jlist){ 0 };
    switch (v.kind) {
    case LT_J_LIST:
        *out = *v.list;
        return LT_OK;
    case LT_J_DICT:
        *out = (lt_jlist){ v.dict->key, v.dict->n, v.dict->n };
        return LT_OK;
    case LT_J_STRING:
        return characters(c, v, out);
    case LT_J_UNDEFINED:
        return LT_OK;
    default:
        return lt_j_bad(c, "'%s' object is not iterable", lt_j_type(v));
    }
}

lt_status lt_j_contains(lt_jctx *c, lt_jv v, lt_jv in, bool *out) {
    lt_jlist items;
    const lt_jv *at;
    if (in.kind == LT_J_DICT) {
        LT_TRY(lt_j_lookup(c, in.dict, v, &at));
        *out = at != NULL;
        return LT_OK;
    }
    if (in.kind == LT_J_STRING) {
        if (v.kind != LT_J_STRING)
            return lt_j_bad(c, "'in <string>' requires string as left operand, not %s", lt_j_type(v));
        *out = memmem(in.s, in.n, v.s, v.n) != NULL;
        return lt_j_work(c, in.n / 8);
    }
    LT_TRY(lt_j_items(c, in, &items));
    *out = false;
    for (size_t i = 0; i < items.n && !*out; i++) LT_TRY(lt_j_equal(c, v, items.v[i], out));
    return LT_OK;
}

lt_status lt_j_length(lt_jctx *c, lt_jv v, int64_t *out) {
    if (v.kind == LT_J_STRING)
        *out = (int64_t)lt_j_chars(v.s, v.n);
    else if (v.kind == LT_J_DICT)
        *out = (int64_t)v.dict->n;
    else if (v.kind == LT_J_LIST && v.form != LT_J_GENERATOR)
        *out = (int64_t)v.list->n;
    else if (v.kind == LT_J_UNDEFINED)
        *out = 0;
    else
        return lt_j_bad(c, "object of type '%s' has no len()", lt_j_type(v));
    return lt_j_work(c, v.kind == LT_J_STRING ? v.n / 16 : 1);
}

/* ---- text ---- */

bool lt_j_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x1F);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static bool strips(lt_jv chars, uint32_t cp) {
    if (chars.kind != LT_J_STRING) return lt_j_space(cp);
    for (size_t at = 0; at < chars.n; at += lt_utf8_length(chars.s[at]))
        if (lt_utf8_get(chars.s + at) == cp) return true;
    return false;
}

void lt_j_strip(lt_jv *s, lt_jv chars, bool front, bool back) {
    while (front && s->n > 0 && strips(chars, lt_utf8_get(s->s))) {
        const size_t n = lt_utf8_length(*s->s);
        s->s += n;
        s->n -= n;
    }
    while (back && s->n > 0) {
        const size_t last = lt_utf8_before(s->s, s->n);
        if (!strips(chars, lt_utf8_get(s->s + last))) return;
        s->n = last;
    }
}

size_t lt_j_chars(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xC0) != 0x80;
    return count;
}

size_t lt_j_offset(const char *s, size_t n, size_t code_points) {
    size_t at = 0;
    for (; at < n && code_points > 0; code_points--) at += lt_utf8_length(s[at]);
    return at;
}
