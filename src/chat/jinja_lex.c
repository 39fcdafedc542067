/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting a template: what Jinja 3.1's lexer does with trim_blocks and lstrip_blocks (docs/formats/chat.md). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chat/jinja_ast.h"
#include "tokenizer/utf8.h"

typedef struct lexer {
    lt_jctx *c;
    const char *s; /* newlines are all \n, the last one is gone */
    size_t n, at;
    int line;
    bool line_starting; /* the last thing read ended a line */
    lt_jtoken *token;
    size_t n_tokens, cap;
    char open[LT_J_MOST_DEPTH]; /* brackets that wait for their other half */
    size_t n_open;
} lexer;

static lt_status put(lexer *x, lt_jtoken t) {
    if (x->n_tokens == x->cap) {
        const size_t cap = x->cap ? 2 * x->cap : 64;
        lt_jtoken *more = lt_j_alloc(x->c, cap, sizeof *more);
        if (!more) return lt_j_spent(x->c);
        if (x->n_tokens > 0) memcpy(more, x->token, x->n_tokens * sizeof *more);
        x->token = more;
        x->cap = cap;
    }
    t.line = x->line;
    x->token[x->n_tokens++] = t;
    return LT_OK;
}

static void skip_to(lexer *x, size_t end) {
    for (; x->at < end; x->at++) x->line += x->s[x->at] == '\n';
    x->line_starting = end > 0 && x->s[end - 1] == '\n';
    x->c->line = x->line;
}

static size_t space_end(const lexer *x, size_t at) {
    while (at < x->n && lt_j_space(lt_utf8_get(x->s + at))) at += lt_utf8_length(x->s[at]);
    return at;
}

static bool follows(const lexer *x, size_t at, const char *text) {
    const size_t n = strlen(text);
    return n <= x->n - at && memcmp(x->s + at, text, n) == 0;
}

/* Text up to the tag at `end`, whose opening is followed by sign. */
static lt_status put_data(lexer *x, size_t end, char sign, bool print) {
    lt_jv text = lt_j_text(x->s + x->at, end - x->at);
    if (sign == '-') lt_j_strip(&text, lt_j_none(), false, true);
    if (sign != '-' && sign != '+' && !print) {
        size_t line = text.n;
        while (line > 0 && text.s[line - 1] != '\n') line--;
        const size_t first = x->at + line;
        if ((line > 0 || x->line_starting) && space_end(x, first) >= end) text.n = line;
    }
    if (text.n > 0) LT_TRY(put(x, (lt_jtoken){ .type = LT_T_DATA, .s = text.s, .n = text.n }));
    skip_to(x, end);
    return LT_OK;
}

/* Behind the end of a block or comment tag: the newline that trim_blocks takes, or all blanks. */
static size_t tag_end(const lexer *x, size_t close, char sign) {
    const size_t end = close + 2;
    if (sign == '-') return space_end(x, end);
    return sign != '+' && end < x->n && x->s[end] == '\n' ? end + 1 : end;
}

static char sign_before(const lexer *x, size_t from, size_t close) {
    return close > from && (x->s[close - 1] == '-' || x->s[close - 1] == '+') ? x->s[close - 1] : '\0';
}

static size_t find(const lexer *x, size_t at, const char *text) {
    const char *p = memmem(x->s + at, x->n - at, text, strlen(text));
    return p ? (size_t)(p - x->s) : x->n;
}

static lt_status comment(lexer *x, size_t begin) {
    const size_t close = find(x, begin, "#}");
    if (close == x->n) return lt_j_bad(x->c, "Missing end of comment tag");
    skip_to(x, tag_end(x, close, sign_before(x, begin, close)));
    return LT_OK;
}

/* "{%- raw -%}" at `at`: where its text begins; 0: it is another tag */
static size_t raw_begin(const lexer *x, size_t at) {
    at = space_end(x, at);
    if (!follows(x, at, "raw")) return 0;
    at = space_end(x, at + 3);
    if (follows(x, at, "-%}")) return space_end(x, at + 3);
    return follows(x, at, "%}") ? at + 2 : 0;
}

/* From here to "{% endraw %}" everything is text. */
static lt_status raw(lexer *x) {
    for (size_t at = x->at; (at = find(x, at, "{%")) < x->n; at += 2) {
        const char sign = follows(x, at + 2, "-") ? '-' : follows(x, at + 2, "+") ? '+' : '\0';
        size_t end = space_end(x, at + 2 + (sign != '\0'));
        if (!follows(x, end, "endraw")) continue;
        end = space_end(x, end + 6);
        const char last = follows(x, end, "-%}") ? '-' : follows(x, end, "+%}") ? '+' : '\0';
        if (!last && !follows(x, end, "%}")) continue;
        LT_TRY(put_data(x, at, sign, false));
        skip_to(x, tag_end(x, end + (last != '\0'), last));
        return LT_OK;
    }
    return lt_j_bad(x->c, "Missing end of raw directive");
}

/* ---- inside of a tag ---- */

static bool digit(char c) {
    return c >= '0' && c <= '9';
}

static bool word(char c) {
    return digit(c) || c == '_' || (unsigned)((c | 0x20) - 'a') < 26 || (unsigned char)c >= 0x80;
}

static size_t digits_end(const lexer *x, size_t at) {
    while (at < x->n && (digit(x->s[at]) || (x->s[at] == '_' && at + 1 < x->n && digit(x->s[at + 1])))) at++;
    return at;
}

/* [digits].[digits]e[+-][digits], as far as it goes */
static size_t number_end(const lexer *x, size_t at, bool *real) {
    at = digits_end(x, at);
    *real = false;
    if (at + 1 < x->n && x->s[at] == '.' && digit(x->s[at + 1])) {
        at = digits_end(x, at + 1);
        *real = true;
    }
    size_t e = at;
    if (e < x->n && (x->s[e] | 0x20) == 'e') {
        e++;
        if (e < x->n && (x->s[e] == '-' || x->s[e] == '+')) e++;
        if (e < x->n && digit(x->s[e])) {
            at = digits_end(x, e);
            *real = true;
        }
    }
    return at;
}

static lt_status number(lexer *x) {
    char text[64];
    bool real;
    size_t n = 0;
    const size_t end = number_end(x, x->at, &real);
    if (end < x->n && word(x->s[end])) return lt_j_beyond(x->c, "this form of number");
    for (size_t i = x->at; i < end; i++) {
        if (x->s[i] == '_') continue;
        if (n + 1 == sizeof text) return lt_j_beyond(x->c, "a number of %zu characters", end - x->at);
        text[n++] = x->s[i];
    }
    text[n] = '\0';
    errno = 0;
    const lt_jv v = real ? lt_j_float(strtod(text, NULL)) : lt_j_int(strtoll(text, NULL, 10));
    if (errno) return lt_j_beyond(x->c, "the number %s", text);
    if (!real && n > 1 && text[0] == '0' && strspn(text, "0") < n) return lt_j_bad(x->c, "number with a leading 0");
    LT_TRY(put(x, (lt_jtoken){ .type = LT_T_CONST, .s = x->s + x->at, .n = end - x->at, .value = v }));
    skip_to(x, end);
    return LT_OK;
}

static int hex_value(char c) {
    if (digit(c)) return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \xNN \uNNNN \UNNNNNNNN; *at stands behind the letter */
static lt_status hex_escape(lexer *x, const char *s, size_t n, size_t *at, size_t digits, lt_tok_buf *out) {
    uint32_t cp = 0;
    char utf8[4];
    for (size_t i = 0; i < digits; i++, (*at)++) {
        const int v = *at < n ? hex_value(s[*at]) : -1;
        if (v < 0) return lt_j_bad(x->c, "truncated \\x, \\u or \\U escape");
        cp = cp << 4 | (uint32_t)v;
    }
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000)) return lt_j_beyond(x->c, "the escape of U+%04X", cp);
    return lt_tok_buf_put(out, utf8, lt_utf8_put(utf8, cp), x->c->err);
}

static lt_status octal_escape(lexer *x, const char *s, size_t n, size_t *at, lt_tok_buf *out) {
    uint32_t cp = 0;
    char utf8[4];
    for (int i = 0; i < 3 && *at < n && s[*at] >= '0' && s[*at] <= '7'; i++) cp = cp * 8 + (uint32_t)(s[(*at)++] - '0');
    return lt_tok_buf_put(out, utf8, lt_utf8_put(utf8, cp), x->c->err);
}

/* Behind a backslash at s[*at]. */
static lt_status escape(lexer *x, const char *s, size_t n, size_t *at, lt_tok_buf *out) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char e = s[*at];
    const char *known = e ? strchr(from, e) : NULL;
    if ((unsigned char)e >= 0x80 || e == 'N') return lt_j_beyond(x->c, "this escape in a string");
    if (e >= '0' && e <= '7') return octal_escape(x, s, n, at, out);
    ++*at;
    if (e == '\n') return LT_OK;
    if (e == 'x') return hex_escape(x, s, n, at, 2, out);
    if (e == 'u') return hex_escape(x, s, n, at, 4, out);
    if (e == 'U') return hex_escape(x, s, n, at, 8, out);
    if (known) return lt_tok_buf_put(out, &to[known - from], 1, x->c->err);
    return lt_tok_buf_put(out, s + *at - 2, 2, x->c->err); /* Python keeps what it does not know */
}

static lt_status unescape(lexer *x, const char *s, size_t n, lt_jv *value) {
    lt_tok_buf b = { 0 };
    lt_status st = LT_OK;
    for (size_t at = 0; at < n && st == LT_OK;) {
        const char *back = memchr(s + at, '\\', n - at);
        const size_t plain = back ? (size_t)(back - (s + at)) : n - at;
        st = lt_tok_buf_put(&b, s + at, plain, x->c->err);
        at += plain;
        if (st == LT_OK && back) {
            at++; /* a backslash is never the last: it would have hidden the quote */
            st = escape(x, s, n, &at, &b);
        }
    }
    if (st == LT_OK) return lt_j_copy_buf(x->c, value, &b);
    lt_tok_buf_clear(&b);
    return st;
}

static lt_status string(lexer *x) {
    const char quote = x->s[x->at];
    size_t end = x->at + 1;
    lt_jv v = lt_j_none();
    while (end < x->n && x->s[end] != quote) end += x->s[end] == '\\' ? 2 : 1;
    if (end >= x->n) return lt_j_bad(x->c, "string without an end");
    LT_TRY(unescape(x, x->s + x->at + 1, end - x->at - 1, &v));
    LT_TRY(put(x, (lt_jtoken){ .type = LT_T_CONST, .s = x->s + x->at, .n = end + 1 - x->at, .value = v }));
    skip_to(x, end + 1);
    return LT_OK;
}

static lt_status name(lexer *x) {
    size_t end = x->at;
    while (end < x->n && word(x->s[end])) end++;
    LT_TRY(put(x, (lt_jtoken){ .type = LT_T_NAME, .s = x->s + x->at, .n = end - x->at }));
    skip_to(x, end);
    return LT_OK;
}

static lt_status bracket(lexer *x, char c) {
    static const char open[] = "([{", close[] = ")]}";
    const char *o = strchr(open, c), *e = strchr(close, c);
    if (o) {
        if (x->n_open == sizeof x->open) return lt_j_beyond(x->c, "nesting deeper than %zu", sizeof x->open);
        x->open[x->n_open++] = close[o - open];
    }
    if (e && (x->n_open == 0 || x->open[--x->n_open] != c)) return lt_j_bad(x->c, "unexpected '%c'", c);
    return LT_OK;
}

static lt_status operator_(lexer *x) {
    static const char *const two[] = { "//", "**", "==", "!=", ">=", "<=" };
    size_t n = 1;
    for (size_t i = 0; i < LT_COUNTOF(two); i++)
        if (follows(x, x->at, two[i])) n = 2;
    if (n == 1 && !(x->s[x->at] && strchr("+-*/%~[](){}<>=.:|,;", x->s[x->at])))
        return lt_j_bad(x->c, "unexpected character (0x%02x)", (unsigned char)x->s[x->at]);
    if (n == 1) LT_TRY(bracket(x, x->s[x->at]));
    LT_TRY(put(x, (lt_jtoken){ .type = LT_T_OP, .s = x->s + x->at, .n = n }));
    skip_to(x, x->at + n);
    return LT_OK;
}

/* Where the tag ends if it ends here; 0: it does not. */
static size_t closes(const lexer *x, bool print) {
    const char *mark = print ? "}}" : "%}";
    if (x->n_open > 0) return 0;
    if (follows(x, x->at, print ? "-}}" : "-%}")) return space_end(x, x->at + 3);
    if (!print && follows(x, x->at, "+%}")) return x->at + 3;
    if (!follows(x, x->at, mark)) return 0;
    return print ? x->at + 2 : tag_end(x, x->at, '\0');
}

static lt_status tag(lexer *x, bool print) {
    LT_TRY(put(x, (lt_jtoken){ .type = print ? LT_T_PRINT : LT_T_BLOCK }));
    for (;;) {
        skip_to(x, space_end(x, x->at));
        if (x->at == x->n) return lt_j_bad(x->c, "a tag without an end");
        const size_t end = closes(x, print);
        if (end) {
            LT_TRY(put(x, (lt_jtoken){ .type = print ? LT_T_PRINT_END : LT_T_BLOCK_END }));
            skip_to(x, end);
            return LT_OK;
        }
        const char c = x->s[x->at];
        if (digit(c))
            LT_TRY(number(x));
        else if (word(c))
            LT_TRY(name(x));
        else if (c == '\'' || c == '"')
            LT_TRY(string(x));
        else
            LT_TRY(operator_(x));
    }
}

static lt_status next_tag(lexer *x) {
    size_t at = x->at;
    while (at < x->n && !(x->s[at] == '{' && at + 1 < x->n && strchr("%{#", x->s[at + 1]) && x->s[at + 1])) at++;
    if (at == x->n) {
        if (x->at < x->n) LT_TRY(put(x, (lt_jtoken){ .type = LT_T_DATA, .s = x->s + x->at, .n = x->n - x->at }));
        skip_to(x, x->n);
        return LT_OK;
    }
    const char type = x->s[at + 1], next = at + 2 < x->n ? x->s[at + 2] : '\0';
    const char sign = next == '-' || next == '+' ? next : '\0';
    const size_t begin = at + 2 + (sign != '\0'), raw_text = type == '%' ? raw_begin(x, begin) : 0;
    LT_TRY(put_data(x, at, sign, type == '{'));
    skip_to(x, raw_text ? raw_text : begin);
    if (raw_text) return raw(x);
    return type == '#' ? comment(x, begin) : tag(x, type == '{');
}

/* \r\n and \r become \n; one at the end of the text is dropped. */
static lt_status plain_lines(lexer *x, const char *text, size_t bytes) {
    char *s = lt_j_alloc(x->c, bytes + 1, 1);
    size_t n = 0;
    if (!s) return lt_j_spent(x->c);
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '\n' && i > 0 && text[i - 1] == '\r') continue;
        s[n++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (n > 0 && s[n - 1] == '\n') n--;
    s[n] = '\0';
    x->s = s;
    x->n = n;
    return LT_OK;
}

lt_status lt_j_lex(lt_jctx *c, const char *text, size_t bytes, lt_jtoken **tokens) {
    lexer x = { .c = c, .line = 1, .line_starting = true };
    LT_TRY(plain_lines(&x, text, bytes));
    c->line = 1;
    while (x.at < x.n) LT_TRY(next_tag(&x));
    LT_TRY(put(&x, (lt_jtoken){ .type = LT_T_END }));
    *tokens = x.token;
    return LT_OK;
}
