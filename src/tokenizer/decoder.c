/* SPDX-License-Identifier: Apache-2.0 */
/* Decoders: the strings of the tokens become text. Each row maps a list of strings (spans) to a list of strings. */
#include "tokenizer/stage.h"

#include "tokenizer/utf8.h"

/* Replaces the text of t by out with one span over all of it. */
static lt_status become(lt_tok_text *t, lt_tok_buf *out, lt_err *err) {
    lt_tok_buf_clear(&t->own);
    t->own = *out;
    *out = (lt_tok_buf){ 0 };
    t->data = t->own.data;
    t->len = t->own.len;
    t->spans.n = 0;
    return lt_tok_spans_put(&t->spans, (lt_tok_span){ 0, t->len, -1, true }, err);
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
    lt_tok_buf bytes = { 0 }, out = { 0 };
    lt_status st = lt_tok_buf_reserve(&bytes, t->len + 1, err);
    for (size_t i = 0; i < t->spans.n && st == LT_OK; i++) {
        const lt_tok_span s = t->spans.v[i];
        bytes.len += token_bytes(t->data + s.start, s.end - s.start, bytes.data + bytes.len);
    }
    if (st == LT_OK) st = lt_tok_buf_reserve(&out, bytes.len + 1, err);
    if (st == LT_OK) st = lossy_utf8(bytes.data, bytes.len, &out, err);
    if (st == LT_OK) st = become(t, &out, err);
    lt_tok_buf_clear(&bytes);
    lt_tok_buf_clear(&out);
    return st;
}

static const lt_tok_row rows[] = {
    { .type = "ByteLevel", .decode = byte_level },
};
const lt_tok_table lt_tok_decoders = { "decoder", "decoders", rows, LT_COUNTOF(rows) };
