/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/normal_form.h"

#include <string.h>
#include <utf8proc.h>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

/* A code point and its canonical combining class. */
typedef struct mark {
    uint32_t cp;
    int32_t class;
} mark;

/* A cluster: a code point that nothing before it can combine with, and what follows up to the next such one. */
typedef struct cluster {
    mark *v, *tmp;
    size_t n, cap;
} cluster;

#define MOST_PARTS 32 /* of one code point; the longest decomposition of Unicode has 18 */

static lt_status reserve(cluster *c, lt_err *err) {
    if (c->n + MOST_PARTS <= c->cap) return LT_OK;
    const size_t cap = c->cap ? 2 * c->cap : 64;
    mark *v = lt_realloc(c->v, cap * sizeof *v);
    if (v) c->v = v;
    mark *tmp = v ? lt_realloc(c->tmp, cap * sizeof *tmp) : NULL;
    if (!tmp) return lt_fail(err, LT_ENOMEM, "tokenizer: no memory to normalise %zu code points", cap);
    c->tmp = tmp;
    c->cap = cap;
    return LT_OK;
}

static lt_status add_parts(cluster *c, uint32_t cp, bool compatibility, lt_err *err) {
    LT_TRY(reserve(c, err));
    if (cp < 0x80 || lt_uni_props(cp) & LT_UNI_NEW) {
        c->v[c->n++] = (mark){ cp, 0 };
        return LT_OK;
    }
    utf8proc_int32_t part[MOST_PARTS];
    int unused = 0;
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
    const utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, part, MOST_PARTS, options, &unused);
    if (n < 0 || n > MOST_PARTS) return lt_fail(err, LT_EINTERNAL, "tokenizer: no decomposition of U+%04X", cp);
    for (utf8proc_ssize_t i = 0; i < n; i++)
        c->v[c->n++] = (mark){ (uint32_t)part[i], utf8proc_get_property(part[i])->combining_class };
    return LT_OK;
}

/* Stable merge sort by class: runs of marks can be as long as a hostile text. */
static void sort_marks(mark *v, mark *tmp, size_t n) {
    if (n < 2) return;
    const size_t half = n / 2;
    sort_marks(v, tmp, half);
    sort_marks(v + half, tmp, n - half);
    memcpy(tmp, v, half * sizeof *v);
    for (size_t i = 0, j = half, k = 0; i < half; k++) v[k] = j < n && v[j].class < tmp[i].class ? v[j++] : tmp[i++];
}

static void reorder(cluster *c) {
    for (size_t i = 0; i < c->n;) {
        size_t end = i;
        while (end < c->n && c->v[end].class != 0) end++;
        sort_marks(c->v + i, c->tmp, end - i);
        i = end + 1;
    }
}

/* The primary composite of a pair, 0: none. */
static uint32_t composite(uint32_t a, uint32_t b) {
    utf8proc_int32_t pair[2] = { (utf8proc_int32_t)a, (utf8proc_int32_t)b };
    if (b < 0x300 || lt_uni_props(a) & LT_UNI_NEW || lt_uni_props(b) & LT_UNI_NEW) return 0;
    return utf8proc_normalize_utf32(pair, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE) == 1 ? (uint32_t)pair[0] : 0;
}

static void compose_cluster(cluster *c) {
    size_t kept = 0, starter = SIZE_MAX;
    for (size_t i = 0; i < c->n; i++) {
        const mark m = c->v[i];
        /* blocked: something of the same or a higher class stands between (a starter blocks everything) */
        const bool blocked = starter == SIZE_MAX ||
                             (kept > starter + 1 && (c->v[kept - 1].class == 0 || c->v[kept - 1].class >= m.class));
        const uint32_t joined = blocked ? 0 : composite(c->v[starter].cp, m.cp);
        if (joined) {
            c->v[starter].cp = joined;
            continue;
        }
        if (m.class == 0) starter = kept;
        c->v[kept++] = m;
    }
    c->n = kept;
}

/* Does a cluster end before this code point? True of those that never combine with what stands before. */
static bool begins_cluster(uint32_t cp) {
    return cp < 0x300 || lt_uni_props(cp) & LT_UNI_NEW;
}

static lt_status normal_cluster(cluster *c, const char *in, size_t bytes, bool compatibility, bool compose,
                                lt_tok_buf *out, lt_err *err) {
    c->n = 0;
    for (size_t at = 0; at < bytes; at += lt_utf8_length(in[at]))
        LT_TRY(add_parts(c, lt_utf8_get(in + at), compatibility, err));
    reorder(c);
    if (compose) compose_cluster(c);
    LT_TRY(lt_tok_buf_reserve(out, 4 * c->n, err));
    for (size_t i = 0; i < c->n; i++) out->len += lt_utf8_put(out->data + out->len, c->v[i].cp);
    return LT_OK;
}

/* End of the stretch from at on whose code points stand alone and are their own normal form. */
static size_t settled(const char *in, size_t bytes, size_t at, uint32_t below) {
    size_t last = at; /* start of the newest code point: the next one may combine with it */
    for (size_t i = at; i < bytes; i += lt_utf8_length(in[i])) {
        const uint32_t cp = lt_utf8_get(in + i);
        if (cp >= below) return cp < 0x300 ? i : last;
        last = i;
    }
    return bytes;
}

lt_status lt_normal_form(const char *in, size_t bytes, bool compatibility, bool compose, lt_tok_buf *out, lt_err *err) {
    const uint32_t below =
        compose && !compatibility ? 0x300 : 0x80; /* Latin-1 has compositions and compatibility forms */
    cluster c = { 0 };
    lt_status st = LT_OK;
    for (size_t at = 0; at < bytes && st == LT_OK;) {
        size_t end = settled(in, bytes, at, below);
        st = lt_tok_buf_put(out, in + at, end - at, err);
        at = end;
        if (at == bytes || st != LT_OK) break;
        end += lt_utf8_length(in[end]);
        while (end < bytes && !begins_cluster(lt_utf8_get(in + end))) end += lt_utf8_length(in[end]);
        st = normal_cluster(&c, in + at, end - at, compatibility, compose, out, err);
        at = end;
    }
    lt_free(c.v);
    lt_free(c.tmp);
    return st;
}
