/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/text.h"

#include <string.h>

#include "tokenizer/utf8.h"

/* Room for `more` elements behind n, growing by half: false when out of memory. */
static bool grow(void **data, size_t n, size_t *cap, size_t more, size_t size) {
    size_t need, bytes;
    if (!lt_add_size(n, more, &need)) return false;
    if (need <= *cap) return true;
    need = lt_max_size(need, *cap + *cap / 2);
    need = lt_max_size(need, 16);
    if (!lt_mul_size(need, size, &bytes)) return false;
    void *p = lt_realloc(*data, bytes);
    if (!p) return false;
    *data = p;
    *cap = need;
    return true;
}

static lt_status no_memory(lt_err *err, size_t n) {
    return lt_fail(err, LT_ENOMEM, "tokenizer: no memory for %zu more elements", n);
}

lt_status lt_tok_buf_reserve(lt_tok_buf *b, size_t more, lt_err *err) {
    void *p = b->data;
    if (!grow(&p, b->len, &b->cap, more, 1)) return no_memory(err, more);
    b->data = p;
    return LT_OK;
}

lt_status lt_tok_buf_put(lt_tok_buf *b, const void *data, size_t bytes, lt_err *err) {
    if (bytes == 0) return LT_OK;
    if (bytes > b->cap - b->len) LT_TRY(lt_tok_buf_reserve(b, bytes, err));
    memcpy(b->data + b->len, data, bytes);
    b->len += bytes;
    return LT_OK;
}

void lt_tok_buf_clear(lt_tok_buf *b) {
    lt_free(b->data);
    *b = (lt_tok_buf){ 0 };
}

lt_status lt_tok_ids_reserve(lt_tok_ids *ids, size_t more, lt_err *err) {
    void *p = ids->v;
    if (!grow(&p, ids->n, &ids->cap, more, sizeof *ids->v)) return no_memory(err, more);
    ids->v = p;
    return LT_OK;
}

lt_status lt_tok_ids_put(lt_tok_ids *ids, int32_t id, lt_err *err) {
    if (ids->n == ids->cap) LT_TRY(lt_tok_ids_reserve(ids, 1, err));
    ids->v[ids->n++] = id;
    return LT_OK;
}

void lt_tok_ids_clear(lt_tok_ids *ids) {
    lt_free(ids->v);
    *ids = (lt_tok_ids){ 0 };
}

lt_status lt_tok_spans_push(lt_tok_spans *spans, lt_tok_span span, lt_err *err) {
    if (spans->n == spans->cap) {
        void *p = spans->v;
        if (!grow(&p, spans->n, &spans->cap, 1, sizeof *spans->v)) return no_memory(err, 1);
        spans->v = p;
    }
    spans->v[spans->n++] = span;
    return LT_OK;
}

lt_status lt_tok_spans_put(lt_tok_spans *spans, lt_tok_span span, lt_err *err) {
    return span.start == span.end && span.id < 0 ? LT_OK : lt_tok_spans_push(spans, span, err);
}

size_t lt_tok_text_most(size_t bytes) {
    size_t most;
    return lt_mul_size(bytes, 256, &most) && lt_add_size(most, 1 << 16, &most) ? most : SIZE_MAX;
}

lt_status lt_tok_text_init(lt_tok_text *t, const char *data, size_t bytes, lt_err *err) {
    *t = (lt_tok_text){ .data = data, .len = bytes };
    t->most = lt_tok_text_most(bytes);
    return lt_tok_spans_put(&t->spans, (lt_tok_span){ 0, bytes, -1, true }, err);
}

void lt_tok_text_clear(lt_tok_text *t) {
    lt_tok_buf_clear(&t->own);
    lt_free(t->spans.v);
    *t = (lt_tok_text){ 0 };
}

void lt_tok_text_set_spans(lt_tok_text *t, lt_tok_spans *spans) {
    lt_free(t->spans.v);
    t->spans = *spans;
    *spans = (lt_tok_spans){ 0 };
}

lt_status lt_tok_text_rewrite(lt_tok_text *t, lt_tok_rewrite rewrite, const void *self, lt_err *err) {
    lt_tok_buf out = { 0 };
    lt_status st = lt_tok_buf_reserve(&out, t->len + 16, err);
    size_t kept = 0;
    for (size_t i = 0; i < t->spans.n && st == LT_OK; i++) {
        lt_tok_span s = t->spans.v[i];
        const size_t start = out.len;
        if (s.id < 0) st = rewrite(self, t->data + s.start, s.end - s.start, s.first, &out, err);
        if (out.len > t->most && st == LT_OK)
            st = lt_fail(err, LT_EUNSUPPORTED, "tokenizer: a stage makes %zu bytes of %zu", out.len, t->len);
        if (s.id < 0 && out.len == start) continue;
        s.start = start;
        s.end = out.len;
        t->spans.v[kept++] = s;
    }
    if (st != LT_OK) {
        lt_tok_buf_clear(&out);
        return st;
    }
    t->spans.n = kept;
    lt_tok_buf_clear(&t->own);
    t->own = out;
    t->data = out.data;
    t->len = out.len;
    return LT_OK;
}

static bool own_character(unsigned byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* The 68 bytes without a character of their own, in order: 0x00-0x20, 0x7F-0xA0, 0xAD. */
uint32_t lt_tok_symbol(unsigned char byte) {
    if (own_character(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xA0) return 0x100u + 33 + (byte - 0x7Fu);
    return 0x100u + 67;
}

int lt_tok_symbol_byte(uint32_t cp) {
    if (cp < 0x100) return own_character(cp) ? (int)cp : -1;
    if (cp <= 0x120) return (int)(cp - 0x100);
    if (cp <= 0x142) return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

static lt_status spell(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    (void)self;
    (void)first;
    for (size_t i = 0; i < bytes; i++) {
        char utf8[4];
        LT_TRY(lt_tok_buf_put(out, utf8, lt_utf8_put(utf8, lt_tok_symbol((unsigned char)in[i])), err));
    }
    return LT_OK;
}

lt_status lt_tok_text_spell_out(lt_tok_text *t, lt_err *err) {
    if (!t->symbols) return LT_OK;
    LT_TRY(lt_tok_text_rewrite(t, spell, NULL, err));
    t->symbols = false;
    return LT_OK;
}
