/* SPDX-License-Identifier: Apache-2.0 */
/* Values as text: Python's str() and repr(), and json.dumps. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "chat/jinja_value.h"
#include "tokenizer/utf8.h"

static lt_status put(lt_jctx *c, lt_tok_buf *out, const char *s, size_t n) {
    if (out->len + n > LT_J_MOST_BYTES / 4) return lt_j_beyond(c, "more than %zu MiB of text", LT_J_MOST_BYTES >> 22);
    LT_TRY(lt_j_work(c, n / 16 + 1));
    return lt_tok_buf_put(out, s, n, c->err);
}

static lt_status puts_(lt_jctx *c, lt_tok_buf *out, const char *s) {
    return put(c, out, s, strlen(s));
}

/* repr(float): the shortest digits that read back, with an exponent below 1e-4 and from 1e16. */
static lt_status put_float(lt_jctx *c, lt_tok_buf *out, double f, bool json) {
    char s[48], digits[32];
    int exponent, used = 0;
    if (isnan(f)) return puts_(c, out, json ? "NaN" : "nan");
    if (isinf(f)) return puts_(c, out, f < 0 ? (json ? "-Infinity" : "-inf") : (json ? "Infinity" : "inf"));
    for (int precision = 0; precision < 17; precision++) {
        snprintf(s, sizeof s, "%.*e", precision, f);
        if (strtod(s, NULL) == f) break;
    }
    char *e = strchr(s, 'e');
    exponent = (int)strtol(e + 1, NULL, 10);
    for (const char *p = s; p < e; p++)
        if (*p >= '0' && *p <= '9') digits[used++] = *p;
    const char *sign = s[0] == '-' ? "-" : "";
    char text[64];
    if (exponent < -4 || exponent >= 16)
        snprintf(text, sizeof text, "%s%.1s%s%.*se%c%02d", sign, digits, used > 1 ? "." : "", used - 1, digits + 1,
                 exponent < 0 ? '-' : '+', abs(exponent));
    else if (exponent < 0)
        snprintf(text, sizeof text, "%s0.%.*s%.*s", sign, -exponent - 1, "000", used, digits);
    else if (used > exponent + 1)
        snprintf(text, sizeof text, "%s%.*s.%.*s", sign, exponent + 1, digits, used - exponent - 1,
                 digits + exponent + 1);
    else
        snprintf(text, sizeof text, "%s%.*s%.*s.0", sign, used, digits, exponent + 1 - used, "0000000000000000");
    return puts_(c, out, text);
}

/* str.isprintable of one character. */
static bool printable(uint32_t cp) {
    if (cp == ' ') return true;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

static lt_status put_repr_char(lt_jctx *c, lt_tok_buf *out, const char *s, size_t n, char quote) {
    const uint32_t cp = lt_utf8_get(s);
    char text[16];
    if (cp == '\n') return puts_(c, out, "\\n");
    if (cp == '\r') return puts_(c, out, "\\r");
    if (cp == '\t') return puts_(c, out, "\\t");
    if (cp == '\\' || cp == (unsigned char)quote) {
        snprintf(text, sizeof text, "\\%c", (int)cp);
        return puts_(c, out, text);
    }
    if (printable(cp)) return put(c, out, s, n);
    snprintf(text, sizeof text, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
    return puts_(c, out, text);
}

static lt_status put_repr(lt_jctx *c, lt_tok_buf *out, lt_jv v) {
    const char quote = memchr(v.s, '\'', v.n) && !memchr(v.s, '"', v.n) ? '"' : '\'';
    LT_TRY(put(c, out, &quote, 1));
    for (size_t at = 0; at < v.n;) {
        const size_t n = lt_utf8_length(v.s[at]);
        LT_TRY(put_repr_char(c, out, v.s + at, n, quote));
        at += n;
    }
    return put(c, out, &quote, 1);
}

static lt_status print_list(lt_jctx *c, lt_tok_buf *out, lt_jv v) {
    const bool tuple = v.form == LT_J_TUPLE;
    if (v.form > LT_J_TUPLE) return lt_j_beyond(c, "printing a %s", lt_j_type(v));
    LT_TRY(puts_(c, out, tuple ? "(" : "["));
    for (size_t i = 0; i < v.list->n; i++) {
        if (i > 0) LT_TRY(puts_(c, out, ", "));
        LT_TRY(lt_j_print(c, out, v.list->v[i], true));
    }
    if (tuple && v.list->n == 1) LT_TRY(puts_(c, out, ","));
    return puts_(c, out, tuple ? ")" : "]");
}

static lt_status print_dict(lt_jctx *c, lt_tok_buf *out, const lt_jdict *d) {
    LT_TRY(puts_(c, out, "{"));
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0) LT_TRY(puts_(c, out, ", "));
        LT_TRY(lt_j_print(c, out, d->key[i], true));
        LT_TRY(puts_(c, out, ": "));
        LT_TRY(lt_j_print(c, out, d->value[i], true));
    }
    return puts_(c, out, "}");
}

static lt_status print(lt_jctx *c, lt_tok_buf *out, lt_jv v, bool repr) {
    char text[32];
    switch (v.kind) {
    case LT_J_UNDEFINED:
        return puts_(c, out, repr ? "Undefined" : "");
    case LT_J_NONE:
        return puts_(c, out, "None");
    case LT_J_BOOL:
        return puts_(c, out, v.b ? "True" : "False");
    case LT_J_INT:
        snprintf(text, sizeof text, "%" PRId64, v.i);
        return puts_(c, out, text);
    case LT_J_FLOAT:
        return put_float(c, out, v.f, false);
    case LT_J_STRING:
        return repr ? put_repr(c, out, v) : put(c, out, v.s, v.n);
    case LT_J_LIST:
        return print_list(c, out, v);
    case LT_J_DICT:
        return print_dict(c, out, v.dict);
    default:
        return lt_j_beyond(c, "printing a %s", lt_j_type(v));
    }
}

lt_status lt_j_print(lt_jctx *c, lt_tok_buf *out, lt_jv v, bool repr) {
    LT_TRY(lt_j_enter(c));
    const lt_status st = print(c, out, v, repr);
    c->depth--;
    return st;
}

lt_status lt_j_str(lt_jctx *c, lt_jv *out, lt_jv v) {
    lt_tok_buf b = { 0 };
    if (v.kind == LT_J_STRING) {
        *out = v;
        return LT_OK;
    }
    const lt_status st = lt_j_print(c, &b, v, false);
    if (st == LT_OK) return lt_j_copy_buf(c, out, &b);
    lt_tok_buf_clear(&b);
    return st;
}

/* ---- json.dumps ---- */

static lt_status dump_char(lt_jctx *c, lt_tok_buf *out, const char *s, size_t n, bool ascii) {
    static const char from[] = "\"\\\n\r\t\f\b", *const to[] = { "\\\"", "\\\\", "\\n", "\\r", "\\t", "\\f", "\\b" };
    const uint32_t cp = lt_utf8_get(s);
    const char *known = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    char text[16];
    if (known) return puts_(c, out, to[known - from]);
    if (cp >= 0x20 && (cp < 0x80 || !ascii)) return put(c, out, s, n);
    if (cp < 0x10000)
        snprintf(text, sizeof text, "\\u%04x", cp);
    else
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD800 + ((cp - 0x10000) >> 10), 0xDC00 + (cp & 0x3FF));
    return puts_(c, out, text);
}

static lt_status dump_text(lt_jctx *c, lt_tok_buf *out, lt_jv v, bool ascii) {
    LT_TRY(puts_(c, out, "\""));
    for (size_t at = 0; at < v.n;) {
        const size_t n = lt_utf8_length(v.s[at]);
        LT_TRY(dump_char(c, out, v.s + at, n, ascii));
        at += n;
    }
    return puts_(c, out, "\"");
}

static lt_status new_line(lt_jctx *c, lt_tok_buf *out, const lt_jdump *how, size_t level) {
    if (!how->indented) return LT_OK;
    LT_TRY(puts_(c, out, "\n"));
    for (int64_t i = 0; i < how->indent * (int64_t)level; i++) LT_TRY(puts_(c, out, " "));
    return LT_OK;
}

static lt_status dump(lt_jctx *c, lt_tok_buf *out, lt_jv v, const lt_jdump *how, size_t level);

static lt_status dump_list(lt_jctx *c, lt_tok_buf *out, lt_jv v, const lt_jdump *how, size_t level) {
    if (v.form > LT_J_TUPLE) return lt_j_bad(c, "object of type %s is not JSON serializable", lt_j_type(v));
    if (v.list->n == 0) return puts_(c, out, "[]");
    LT_TRY(puts_(c, out, "["));
    for (size_t i = 0; i < v.list->n; i++) {
        if (i > 0) LT_TRY(put(c, out, how->between.s, how->between.n));
        LT_TRY(new_line(c, out, how, level + 1));
        LT_TRY(dump(c, out, v.list->v[i], how, level + 1));
    }
    LT_TRY(new_line(c, out, how, level));
    return puts_(c, out, "]");
}

/* Keys that are no strings are written as JSON's words for them. */
static lt_status dump_key(lt_jctx *c, lt_tok_buf *out, lt_jv key, const lt_jdump *how) {
    if (key.kind == LT_J_STRING) return dump_text(c, out, key, how->ascii);
    if (key.kind > LT_J_STRING)
        return lt_j_bad(c, "keys must be str, int, float, bool or None, not %s", lt_j_type(key));
    LT_TRY(puts_(c, out, "\""));
    LT_TRY(dump(c, out, key, how, 0));
    return puts_(c, out, "\"");
}

/* The member that comes after key `last` in sorted order (last NULL: the first one). */
static lt_status next_key(lt_jctx *c, const lt_jdict *d, const lt_jv *last, size_t *at) {
    *at = d->n;
    for (size_t i = 0; i < d->n; i++) {
        int order = 1;
        if (last) LT_TRY(lt_j_order(c, d->key[i], *last, "<", &order));
        if (order <= 0) continue;
        if (*at < d->n) LT_TRY(lt_j_order(c, d->key[*at], d->key[i], "<", &order));
        if (*at == d->n || order > 0) *at = i;
    }
    return LT_OK;
}

static lt_status dump_dict(lt_jctx *c, lt_tok_buf *out, const lt_jdict *d, const lt_jdump *how, size_t level) {
    const lt_jv *last = NULL;
    if (d->n == 0) return puts_(c, out, "{}");
    LT_TRY(puts_(c, out, "{"));
    for (size_t i = 0; i < d->n; i++) {
        size_t at = i;
        if (how->sort) LT_TRY(next_key(c, d, last, &at));
        if (at == d->n) break; /* keys that compare equal */
        last = &d->key[at];
        if (i > 0) LT_TRY(put(c, out, how->between.s, how->between.n));
        LT_TRY(new_line(c, out, how, level + 1));
        LT_TRY(dump_key(c, out, d->key[at], how));
        LT_TRY(put(c, out, how->after_key.s, how->after_key.n));
        LT_TRY(dump(c, out, d->value[at], how, level + 1));
    }
    LT_TRY(new_line(c, out, how, level));
    return puts_(c, out, "}");
}

static lt_status dump_value(lt_jctx *c, lt_tok_buf *out, lt_jv v, const lt_jdump *how, size_t level) {
    switch (v.kind) {
    case LT_J_NONE:
        return puts_(c, out, "null");
    case LT_J_BOOL:
        return puts_(c, out, v.b ? "true" : "false");
    case LT_J_INT:
        return print(c, out, v, false);
    case LT_J_FLOAT:
        return put_float(c, out, v.f, true);
    case LT_J_STRING:
        return dump_text(c, out, v, how->ascii);
    case LT_J_LIST:
        return dump_list(c, out, v, how, level);
    case LT_J_DICT:
        return dump_dict(c, out, v.dict, how, level);
    default:
        return lt_j_bad(c, "object of type %s is not JSON serializable", lt_j_type(v));
    }
}

static lt_status dump(lt_jctx *c, lt_tok_buf *out, lt_jv v, const lt_jdump *how, size_t level) {
    LT_TRY(lt_j_enter(c));
    const lt_status st = dump_value(c, out, v, how, level);
    c->depth--;
    return st;
}

lt_status lt_j_dump(lt_jctx *c, lt_tok_buf *out, lt_jv v, const lt_jdump *how) {
    return dump(c, out, v, how, 0);
}
