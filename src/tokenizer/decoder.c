/* SPDX-License-Identifier: Apache-2.0 */
/* Decoders: the strings of the tokens become text. Each row maps a list of strings (spans) to a list of strings. */
#include "tokenizer/stage.h"

#include <string.h>

#include "tokenizer/utf8.h"

/* The list that a decoder makes. */
typedef struct strings {
    lt_tok_buf text;
    lt_tok_spans spans;
} strings;

static void strings_clear(strings *s) {
    lt_tok_buf_clear(&s->text);
    lt_free(s->spans.v);
}

/* What was appended to s->text since start becomes one string. */
static lt_status end_string(strings *s, size_t start, lt_err *err) {
    return lt_tok_spans_push(&s->spans, (lt_tok_span){ start, s->text.len, -1, false }, err);
}

static lt_status put_string(strings *s, const char *text, size_t bytes, lt_err *err) {
    const size_t start = s->text.len;
    LT_TRY(lt_tok_buf_put(&s->text, text, bytes, err));
    return end_string(s, start, err);
}

/* t becomes *s when st is LT_OK; *s is emptied. Returns st. */
static lt_status become(lt_tok_text *t, strings *s, lt_status st, lt_err *err) {
    if (st == LT_OK) st = lt_tok_buf_reserve(&s->text, 1, err); /* an empty text has an address, too */
    if (st == LT_OK) {
        lt_tok_buf_clear(&t->own);
        t->own = s->text;
        t->data = s->text.data;
        t->len = s->text.len;
        lt_tok_text_set_spans(t, &s->spans);
        return st;
    }
    strings_clear(s);
    return st;
}

/* Maps each token by itself; index is its place in the list. */
typedef lt_status (*map_token)(const void *self, size_t index, size_t count, const char *token, size_t bytes,
                               lt_tok_buf *out, lt_err *err);

static lt_status map_tokens(lt_tok_text *t, map_token map, const void *self, lt_err *err) {
    strings s = { 0 };
    lt_status st = lt_tok_buf_reserve(&s.text, t->len + 1, err);
    for (size_t i = 0; i < t->spans.n && st == LT_OK; i++) {
        const size_t start = s.text.len;
        const lt_tok_span token = t->spans.v[i];
        st = map(self, i, t->spans.n, t->data + token.start, token.end - token.start, &s.text, err);
        if (st == LT_OK) st = end_string(&s, start, err);
        if (st == LT_OK && s.text.len > t->most)
            st = lt_fail(err, LT_EUNSUPPORTED, "decoder makes %zu bytes of %zu", s.text.len, t->len);
    }
    return become(t, &s, st, err);
}

/* ---- ByteLevel ---- */

/* Bytes of one token: those its symbols stand for, or the token as it is when one character is no symbol. */
static size_t token_bytes(const char *s, size_t n, char *out) {
    size_t len = 0;
    for (size_t at = 0; at < n; at += lt_utf8_length(s[at])) {
        const int byte = lt_tok_symbol_byte(lt_utf8_get(s + at));
        if (byte < 0) {
            for (size_t i = 0; i < n; i++) out[i] = s[i];
            return n;
        }
        out[len++] = (char)byte;
    }
    return len;
}

static lt_status lossy_utf8(const char *s, size_t n, lt_tok_buf *out, lt_err *err) {
    size_t good = 0, at = 0; /* [good, at) is valid and not yet copied */
    while (at < n) {
        uint32_t cp;
        const int bytes = lt_utf8_read(s + at, n - at, &cp);
        if (bytes > 0) {
            at += (size_t)bytes;
            continue;
        }
        LT_TRY(lt_tok_buf_put(out, s + good, at - good, err));
        LT_TRY(lt_tok_buf_put(out, "\xEF\xBF\xBD", 3, err));
        at += (size_t)-bytes;
        good = at;
    }
    return lt_tok_buf_put(out, s + good, at - good, err);
}

static lt_status byte_level(const void *self, lt_tok_text *t, lt_err *err) {
    (void)self;
    lt_tok_buf bytes = { 0 };
    strings s = { 0 };
    lt_status st = lt_tok_buf_reserve(&bytes, t->len + 1, err);
    for (size_t i = 0; i < t->spans.n && st == LT_OK; i++) {
        const lt_tok_span token = t->spans.v[i];
        bytes.len += token_bytes(t->data + token.start, token.end - token.start, bytes.data + bytes.len);
    }
    if (st == LT_OK) st = lt_tok_buf_reserve(&s.text, bytes.len + 1, err);
    if (st == LT_OK) st = lossy_utf8(bytes.data, bytes.len, &s.text, err);
    if (st == LT_OK) st = end_string(&s, 0, err);
    lt_tok_buf_clear(&bytes);
    return become(t, &s, st, err);
}

/* ---- ByteFallback: a run of <0xHH> is the text that its bytes make, or one U+FFFD for each ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte that a token names, -1: none. */
static int named_byte(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    if (s[3] == '+') return hex_digit(s[4]); /* Rust reads a sign, too */
    const int high = hex_digit(s[3]), low = hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

static bool valid_utf8(const char *s, size_t n) {
    uint32_t cp;
    for (size_t at = 0; at < n; at += lt_utf8_length(s[at]))
        if (lt_utf8_read(s + at, n - at, &cp) < 0) return false;
    return true;
}

static lt_status end_run(lt_tok_buf *run, strings *s, lt_err *err) {
    const size_t n = run->len;
    run->len = 0;
    if (valid_utf8(run->data, n)) return n ? put_string(s, run->data, n, err) : LT_OK;
    for (size_t i = 0; i < n; i++) LT_TRY(put_string(s, "\xEF\xBF\xBD", 3, err));
    return LT_OK;
}

static lt_status byte_fallback_list(const lt_tok_text *t, lt_tok_buf *run, strings *s, lt_err *err) {
    for (size_t i = 0; i < t->spans.n; i++) {
        const char *token = t->data + t->spans.v[i].start;
        const size_t n = t->spans.v[i].end - t->spans.v[i].start;
        const int byte = named_byte(token, n);
        if (byte >= 0) {
            LT_TRY(lt_tok_buf_put(run, &(char){ (char)byte }, 1, err));
            continue;
        }
        LT_TRY(end_run(run, s, err));
        LT_TRY(put_string(s, token, n, err));
    }
    return end_run(run, s, err);
}

static lt_status byte_fallback(const void *self, lt_tok_text *t, lt_err *err) {
    (void)self;
    strings s = { 0 };
    lt_tok_buf run = { 0 };
    const lt_status st = byte_fallback_list(t, &run, &s, err);
    lt_tok_buf_clear(&run);
    return become(t, &s, st, err);
}

/* ---- Fuse, Replace, Strip ---- */

static lt_status fuse(const void *self, lt_tok_text *t, lt_err *err) {
    (void)self;
    strings s = { 0 };
    lt_status st = LT_OK;
    for (size_t i = 0; i < t->spans.n && st == LT_OK; i++)
        st = lt_tok_buf_put(&s.text, t->data + t->spans.v[i].start, t->spans.v[i].end - t->spans.v[i].start, err);
    if (st == LT_OK) st = end_string(&s, 0, err);
    return become(t, &s, st, err);
}

static lt_status replace_token(const void *self, size_t index, size_t count, const char *token, size_t bytes,
                               lt_tok_buf *out, lt_err *err) {
    (void)index, (void)count;
    return lt_tok_replace_run(self, token, bytes, false, out, err);
}

static lt_status replace(const void *self, lt_tok_text *t, lt_err *err) {
    return map_tokens(t, replace_token, self, err);
}

typedef struct strip {
    char content[5];
    size_t start, stop;
} strip;

static lt_status strip_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    strip s = { 0 }, *p;
    const char *content;
    LT_TRY(lt_json_string(&content, j, "content", "", in->where, err));
    LT_TRY(lt_json_size(&s.start, j, "start", 0, in->where, err));
    LT_TRY(lt_json_size(&s.stop, j, "stop", 0, in->where, err));
    if (!*content || strlen(content) != lt_utf8_length(*content))
        return lt_fail(err, LT_EDATA, "content of Strip is not one character (%s: \"%.80s\")", in->where, content);
    memcpy(s.content, content, strlen(content) + 1);
    *self = p = lt_malloc(sizeof *p);
    if (!p) return lt_fail(err, LT_ENOMEM, "no memory for a decoder (%s)", in->where);
    *p = s;
    return LT_OK;
}

/* At most `start` characters of that kind at the start, and `stop` at the end. */
static lt_status strip_token(const void *self, size_t index, size_t count, const char *token, size_t bytes,
                             lt_tok_buf *out, lt_err *err) {
    const strip *s = self;
    const size_t n = strlen(s->content);
    (void)index, (void)count;
    size_t from = 0, to = bytes;
    for (size_t i = 0; i < s->start && to - from >= n && memcmp(token + from, s->content, n) == 0; i++) from += n;
    for (size_t i = 0; i < s->stop && to - from >= n && memcmp(token + to - n, s->content, n) == 0; i++) to -= n;
    return lt_tok_buf_put(out, token + from, to - from, err);
}

static lt_status strip_run(const void *self, lt_tok_text *t, lt_err *err) {
    return map_tokens(t, strip_token, self, err);
}

/* ---- Metaspace ---- */

typedef struct metaspace {
    char blank[5];
    bool prepended;
} metaspace;

static lt_status metaspace_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    metaspace m = { 0 }, *p;
    const char *blank, *scheme;
    bool old;
    LT_TRY(lt_json_string(&blank, j, "replacement", "\xE2\x96\x81", in->where, err));
    LT_TRY(lt_json_string(&scheme, j, "prepend_scheme", "always", in->where, err));
    LT_TRY(lt_json_bool(&old, j, "add_prefix_space", true, in->where, err));
    if (!*blank || strlen(blank) != lt_utf8_length(*blank))
        return lt_fail(err, LT_EDATA, "replacement is not one character (%s: \"%.80s\")", in->where, blank);
    memcpy(m.blank, blank, strlen(blank) + 1);
    m.prepended = old && strcmp(scheme, "never") != 0;
    *self = p = lt_malloc(sizeof *p);
    if (!p) return lt_fail(err, LT_ENOMEM, "no memory for a decoder (%s)", in->where);
    *p = m;
    return LT_OK;
}

static lt_status metaspace_token(const void *self, size_t index, size_t count, const char *token, size_t bytes,
                                 lt_tok_buf *out, lt_err *err) {
    const metaspace *m = self;
    const size_t blank = strlen(m->blank);
    (void)count;
    for (size_t at = 0, n; at < bytes; at += n) {
        n = lt_utf8_length(token[at]);
        if (n != blank || memcmp(token + at, m->blank, n) != 0)
            LT_TRY(lt_tok_buf_put(out, token + at, n, err));
        else if (index > 0 || !m->prepended)
            LT_TRY(lt_tok_buf_put(out, " ", 1, err));
    }
    return LT_OK;
}

static lt_status metaspace_run(const void *self, lt_tok_text *t, lt_err *err) {
    return map_tokens(t, metaspace_token, self, err);
}

/* ---- WordPiece ---- */

typedef struct wordpiece {
    bool cleanup;
    char prefix[];
} wordpiece;

static lt_status wordpiece_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    const char *prefix;
    bool cleanup;
    LT_TRY(lt_json_string(&prefix, j, "prefix", "##", in->where, err));
    LT_TRY(lt_json_bool(&cleanup, j, "cleanup", true, in->where, err));
    wordpiece *w = lt_malloc(sizeof *w + strlen(prefix) + 1);
    if (!w) return lt_fail(err, LT_ENOMEM, "no memory for a decoder (%s)", in->where);
    w->cleanup = cleanup;
    memcpy(w->prefix, prefix, strlen(prefix) + 1);
    *self = w;
    return LT_OK;
}

/* Replaces every `from` in out behind start by `to`, which is not longer. */
static void shorten(lt_tok_buf *out, size_t start, const char *from, const char *to) {
    const size_t n = strlen(from), m = strlen(to);
    size_t write = start, read = start;
    while (read < out->len) {
        if (out->len - read >= n && memcmp(out->data + read, from, n) == 0) {
            memcpy(out->data + write, to, m);
            write += m;
            read += n;
        } else
            out->data[write++] = out->data[read++];
    }
    out->len = write;
}

static lt_status wordpiece_token(const void *self, size_t index, size_t count, const char *token, size_t bytes,
                                 lt_tok_buf *out, lt_err *err) {
    static const char *const tidy[][2] = { { " .", "." },     { " ?", "?" },           { " !", "!" },
                                           { " ,", "," },     { " ' ", "'" },          { " n't", "n't" },
                                           { " 'm", "'m" },   { " do not", " don't" }, { " 's", "'s" },
                                           { " 've", "'ve" }, { " 're", "'re" } };
    const wordpiece *w = self;
    const size_t start = out->len, prefix = strlen(w->prefix);
    (void)count;
    if (index > 0 && bytes >= prefix && memcmp(token, w->prefix, prefix) == 0)
        token += prefix, bytes -= prefix;
    else if (index > 0)
        LT_TRY(lt_tok_buf_put(out, " ", 1, err));
    LT_TRY(lt_tok_buf_put(out, token, bytes, err));
    for (size_t i = 0; i < LT_COUNTOF(tidy) && w->cleanup; i++) shorten(out, start, tidy[i][0], tidy[i][1]);
    return LT_OK;
}

static lt_status wordpiece_run(const void *self, lt_tok_text *t, lt_err *err) {
    return map_tokens(t, wordpiece_token, self, err);
}

static const lt_tok_row rows[] = {
    { .type = "ByteFallback", .decode = byte_fallback },
    { .type = "ByteLevel", .decode = byte_level },
    { .type = "Fuse", .decode = fuse },
    { .type = "Metaspace", .parse = metaspace_parse, .decode = metaspace_run },
    { .type = "Replace", .parse = lt_tok_replace_parse, .destroy = lt_tok_replace_destroy, .decode = replace },
    { .type = "Strip", .parse = strip_parse, .decode = strip_run },
    { .type = "WordPiece", .parse = wordpiece_parse, .decode = wordpiece_run },
};
const lt_tok_table lt_tok_decoders = { "decoder", "decoders", rows, LT_COUNTOF(rows) };
