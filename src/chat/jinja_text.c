/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/jinja_text.h"

#include <string.h>
#include <utf8proc.h>

#include "tokenizer/utf8.h"

const lt_jfn *lt_j_row(const lt_jfn *row, size_t n_rows, const char *name, size_t n) {
    for (size_t i = 0; i < n_rows; i++)
        if (strlen(row[i].name) == n && memcmp(row[i].name, name, n) == 0) return &row[i];
    return NULL;
}

/* ---- upper and lower case ---- */

/* Python maps some characters to several, or by what stands beside them (Unicode, SpecialCasing.txt); those are not
 * guessed at. */
static bool special_case(uint32_t cp) {
    static const struct {
        uint32_t from, to;
    } range[] = { { 0xDF, 0xDF },     { 0x130, 0x130 },   { 0x149, 0x149 },   { 0x1C4, 0x1CC },
                  { 0x1F0, 0x1F3 },   { 0x390, 0x390 },   { 0x3A3, 0x3A3 },   { 0x3B0, 0x3B0 },
                  { 0x587, 0x587 },   { 0x10A0, 0x10FF }, { 0x13A0, 0x13FF }, { 0x1C80, 0x1CBF },
                  { 0x1E96, 0x1E9F }, { 0x1F50, 0x1FFC }, { 0xAB70, 0xABBF }, { 0xFB00, 0xFB17 } };
    for (size_t i = 0; i < LT_COUNTOF(range); i++)
        if (cp >= range[i].from && cp <= range[i].to) return true;
    return false;
}

static bool begins_word(lt_jcase how, size_t at, uint32_t before) {
    if (at == 0) return true;
    if (how == LT_J_CAPITALIZE) return false;
    if (how == LT_J_TITLE_FILTER) return lt_j_space(before) || (before < 0x80 && strchr("-({[<", (int)before));
    return utf8proc_toupper((int32_t)before) == utf8proc_tolower((int32_t)before); /* no letter with a case */
}

static uint32_t in_case(uint32_t cp, lt_jcase how, bool begins) {
    const bool up = how == LT_J_UPPER || (how >= LT_J_CAPITALIZE && begins);
    if (cp < 0x80) return up ? (cp >= 'a' && cp <= 'z' ? cp - 32 : cp) : (cp >= 'A' && cp <= 'Z' ? cp + 32 : cp);
    return (uint32_t)(up ? utf8proc_toupper((int32_t)cp) : utf8proc_tolower((int32_t)cp));
}

lt_status lt_j_case(lt_jctx *c, lt_jv s, lt_jcase how, lt_jv *out) {
    char *to = lt_j_alloc(c, 2 * s.n + 1, 1); /* no single mapping doubles the bytes */
    size_t n = 0;
    uint32_t before = 0;
    if (!to) return lt_j_spent(c);
    for (size_t at = 0; at < s.n;) {
        const uint32_t cp = lt_utf8_get(s.s + at);
        if (special_case(cp)) return lt_j_beyond(c, "upper or lower case of U+%04X", cp);
        n += lt_utf8_put(to + n, in_case(cp, how, begins_word(how, at, before)));
        before = cp;
        at += lt_utf8_length(s.s[at]);
    }
    to[n] = '\0';
    *out = lt_j_text(to, n);
    return lt_j_work(c, s.n / 4 + 1);
}

/* ---- parts ---- */

static size_t occurrences(lt_jv s, lt_jv old) {
    size_t count = 0;
    if (old.n == 0) return lt_j_chars(s.s, s.n) + 1;
    for (const char *p = s.s, *end = s.s + s.n; (p = memmem(p, (size_t)(end - p), old.s, old.n)); p += old.n) count++;
    return count;
}

lt_status lt_j_replace(lt_jctx *c, lt_jv s, lt_jv old, lt_jv with, lt_jv count, lt_jv *out) {
    int64_t most = -1;
    size_t grown, bytes, n = 0;
    lt_j_integer(count, &most);
    size_t left = occurrences(s, old);
    if (most >= 0) left = lt_min_size(left, (size_t)most);
    if (!lt_mul_size(left, with.n, &grown) || !lt_add_size(grown, s.n + 1, &bytes)) bytes = SIZE_MAX;
    char *to = lt_j_alloc(c, bytes, 1);
    if (!to) return lt_j_spent(c);
    const char *p = s.s, *end = s.s + s.n;
    for (; left > 0; left--) {
        const char *hit = old.n ? memmem(p, (size_t)(end - p), old.s, old.n) : p;
        memcpy(to + n, p, (size_t)(hit - p));
        n += (size_t)(hit - p);
        memcpy(to + n, with.s, with.n);
        n += with.n;
        p = hit + old.n;
        if (old.n > 0 || p == end) continue;
        const size_t one = lt_utf8_length(*p);
        memcpy(to + n, p, one);
        n += one;
        p += one;
    }
    memcpy(to + n, p, (size_t)(end - p));
    *out = lt_j_text(to, n + (size_t)(end - p));
    return lt_j_work(c, (s.n + bytes) / 16 + 1);
}

/* Bytes of the line end at s, as str.splitlines knows them; 0: none. */
static size_t line_end(const char *s, size_t n) {
    const uint32_t cp = lt_utf8_get(s);
    if (cp == '\r') return n > 1 && s[1] == '\n' ? 2 : 1;
    if ((cp >= 10 && cp <= 12) || (cp >= 0x1C && cp <= 0x1E)) return 1;
    return cp == 0x85 || cp == 0x2028 || cp == 0x2029 ? lt_utf8_length(*s) : 0;
}

lt_status lt_j_lines(lt_jctx *c, lt_jv s, bool keep_ends, lt_jv *out) {
    size_t begin = 0;
    LT_TRY(lt_j_list(c, out, LT_J_PLAIN));
    LT_TRY(lt_j_work(c, s.n / 4));
    for (size_t at = 0; at < s.n;) {
        const size_t n = line_end(s.s + at, s.n - at);
        if (n > 0) LT_TRY(lt_j_push(c, out->list, lt_j_text(s.s + begin, at - begin + (keep_ends ? n : 0))));
        at += n ? n : lt_utf8_length(s.s[at]);
        if (n > 0) begin = at;
    }
    return begin < s.n ? lt_j_push(c, out->list, lt_j_text(s.s + begin, s.n - begin)) : LT_OK;
}

lt_status lt_j_pairs(lt_jctx *c, const lt_jdict *d, lt_jv *out) {
    LT_TRY(lt_j_list(c, out, LT_J_VIEW));
    for (size_t i = 0; i < d->n; i++) {
        lt_jv pair;
        LT_TRY(lt_j_list(c, &pair, LT_J_TUPLE));
        LT_TRY(lt_j_push(c, pair.list, d->key[i]));
        LT_TRY(lt_j_push(c, pair.list, d->value[i]));
        LT_TRY(lt_j_push(c, out->list, pair));
    }
    return LT_OK;
}
