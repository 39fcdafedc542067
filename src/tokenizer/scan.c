/* SPDX-License-Identifier: Apache-2.0 */
/* Hand-written scanners for the expressions of known families. Each follows its alternatives in order; all of
 * them match at every position, except where said. */
#include "tokenizer/finder.h"

#include <string.h>

#include "core/core.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

typedef enum kind { LETTER, NUMBER, WHITE, OTHER } kind;

/* Kind and length of the code point at s. */
static inline kind kind_at(const char *s, size_t *bytes) {
    const unsigned char c = (unsigned char)*s;
    if (c < 0x80) {
        *bytes = 1;
        if ((unsigned)((c | 0x20) - 'a') < 26) return LETTER;
        if ((unsigned)(c - '0') < 10) return NUMBER;
        return c == ' ' || (unsigned)(c - 9) < 5 ? WHITE : OTHER;
    }
    *bytes = lt_utf8_length(*s);
    const unsigned props = lt_uni_props(lt_utf8_get(s));
    if (lt_uni_in(props, LT_UNI_L)) return LETTER;
    if (lt_uni_in(props, LT_UNI_N)) return NUMBER;
    return props & LT_UNI_WHITE ? WHITE : OTHER;
}

/* End of the run of code points of kind k that starts at at; at most limit of them. */
static inline size_t run_of(const char *s, size_t n, size_t at, kind k, size_t limit) {
    size_t bytes;
    for (; at < n && limit > 0 && kind_at(s + at, &bytes) == k; limit--) at += bytes;
    return at;
}

/* \s+(?!\S)|\s+ at a white code point: a run gives its last one to the word that follows. */
static size_t blanks(const char *s, size_t n, size_t at) {
    const size_t end = run_of(s, n, at, WHITE, SIZE_MAX);
    if (end == n) return end;
    const size_t last = lt_utf8_before(s, end);
    return last > at ? last : end;
}

static inline char lower(char c, bool fold) {
    return fold && c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* 's|'t|'re|'ve|'m|'ll|'d; length, 0: none. With fold, (?i:...), U+017F is an s too. */
static size_t contraction(const char *s, size_t n, bool fold) {
    if (n < 2 || s[0] != '\'') return 0;
    const char a = lower(s[1], fold), b = n > 2 ? lower(s[2], fold) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (b == 'e' && (a == 'r' || a == 'v')) return 3;
    if (b == 'l' && a == 'l') return 3;
    return fold && n > 2 && memcmp(s + 1, "\xC5\xBF", 2) == 0 ? 3 : 0;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
void lt_scan_gpt2(const char *s, size_t n, size_t from, size_t *start, size_t *end) {
    size_t bytes, at = from;
    *start = from;
    const size_t short_form = contraction(s + from, n - from, false);
    if (short_form) {
        *end = from + short_form;
        return;
    }
    kind k = kind_at(s + at, &bytes);
    if (s[at] == ' ' && at + 1 < n) {
        k = kind_at(s + at + 1, &bytes);
        if (k != WHITE) at++;
    }
    *end = k == WHITE ? blanks(s, n, from) : run_of(s, n, at + bytes, k, SIZE_MAX);
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ at a white code point: all up to the last line end of the run, if it has one. */
static size_t lines_or_blanks(const char *s, size_t n, size_t at) {
    size_t bytes, end = at, line = at;
    while (end < n && kind_at(s + end, &bytes) == WHITE) {
        if (s[end] == '\n' || s[end] == '\r') line = end + 1;
        end += bytes;
    }
    return line > at ? line : blanks(s, n, at);
}

static inline bool line_end(char c) {
    return c == '\r' || c == '\n';
}

/* The expression of cl100k, Llama 3 and Qwen 2; they differ in how many digits stay together. */
static size_t cl100k(const char *s, size_t n, size_t from, size_t digits) {
    const size_t short_form = contraction(s + from, n - from, true);
    if (short_form) return from + short_form;
    size_t bytes, next_bytes;
    const kind k = kind_at(s + from, &bytes);
    const size_t next = from + bytes;
    if (k == LETTER) return run_of(s, n, next, LETTER, SIZE_MAX);
    if (k == NUMBER) return run_of(s, n, next, NUMBER, digits - 1);
    const kind follows = next < n ? kind_at(s + next, &next_bytes) : WHITE;
    if (follows == LETTER && !line_end(s[from])) return run_of(s, n, next, LETTER, SIZE_MAX);
    if (k == OTHER || (s[from] == ' ' && follows == OTHER)) {
        size_t end = run_of(s, n, next, OTHER, SIZE_MAX);
        while (end < n && line_end(s[end])) end++;
        return end;
    }
    return lines_or_blanks(s, n, from);
}

/* The expression itself stands in `known` below. */
static void scan_cl100k(const char *s, size_t n, size_t from, size_t *start, size_t *end) {
    *start = from;
    *end = cl100k(s, n, from, 3);
}

/* The same with \p{N} instead of \p{N}{1,3}. */
static void scan_qwen2(const char *s, size_t n, size_t from, size_t *start, size_t *end) {
    *start = from;
    *end = cl100k(s, n, from, 1);
}

/* \p{N}{1,3}: has gaps. */
static void scan_digits3(const char *s, size_t n, size_t from, size_t *start, size_t *end) {
    size_t bytes;
    *start = LT_NO_MATCH;
    for (size_t at = from; at < n; at += bytes) {
        if (kind_at(s + at, &bytes) != NUMBER) continue;
        *start = at;
        *end = run_of(s, n, at + bytes, NUMBER, 2);
        return;
    }
}

#define WORDS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define SIGNS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define SHORT_FORMS "'s|'t|'re|'ve|'m|'ll|'d"
static const struct {
    const char *pattern;
    lt_scan scan;
} known[] = {
    { SHORT_FORMS "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", lt_scan_gpt2 },
    { "(?i:" SHORT_FORMS ")|" WORDS "\\p{N}{1,3}|" SIGNS, scan_cl100k },
    { "(?i:" SHORT_FORMS ")|" WORDS "\\p{N}|" SIGNS, scan_qwen2 },
    { "\\p{N}{1,3}", scan_digits3 },
};

lt_scan lt_scan_for(const char *pattern, size_t bytes) {
    for (size_t i = 0; i < LT_COUNTOF(known); i++)
        if (strlen(known[i].pattern) == bytes && memcmp(known[i].pattern, pattern, bytes) == 0) return known[i].scan;
    return NULL;
}
