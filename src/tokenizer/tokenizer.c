/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer.h"

#include <string.h>

#include "tokenizer/stage.h"
#include "tokenizer/utf8.h"

void lt_tokenizer_destroy(lt_tokenizer *t) {
    if (!t) return;
    if (t->model) t->model->destroy(t->model_self);
    lt_tok_stage_clear(&t->normalizer);
    lt_tok_stage_clear(&t->pretokenizer);
    lt_tok_stage_clear(&t->postprocessor);
    lt_tok_stage_clear(&t->decoder);
    lt_added_clear(&t->added);
    lt_vocab_clear(&t->vocab);
    lt_free(t);
}

static lt_status check_utf8(const char *s, size_t n, lt_err *err) {
    const uint64_t high = 0x8080808080808080u;
    for (size_t at = 0; at < n;) {
        uint64_t eight;
        uint32_t cp;
        if (n - at >= 8 && (memcpy(&eight, s + at, 8), (eight & high) == 0)) {
            at += 8;
            continue;
        }
        const int bytes = lt_utf8_read(s + at, n - at, &cp);
        if (bytes < 0)
            return lt_fail(err, LT_EDATA, "text is not UTF-8 (byte offset %zu: 0x%02x)", at, (unsigned char)s[at]);
        at += (size_t)bytes;
    }
    return LT_OK;
}

static lt_status run_pipeline(const lt_tokenizer *t, lt_tok_text *text, bool add_special, lt_tok_ids *ids,
                              lt_err *err) {
    LT_TRY(lt_added_split(&t->added, false, text, err));
    LT_TRY(lt_tok_normalize(t, text, err));
    LT_TRY(lt_added_split(&t->added, true, text, err));
    LT_TRY(lt_tok_pretokenize(&t->pretokenizer, text, err));
    LT_TRY(t->model->run(t->model_self, &t->vocab, text, ids, err));
    for (size_t i = 0; i < t->postprocessor.n && add_special; i++)
        LT_TRY(t->postprocessor.part[i].row->process(t->postprocessor.part[i].self, ids, err));
    return LT_OK;
}

lt_status lt_tokenizer_encode(const lt_tokenizer *t, const char *text, size_t bytes, bool add_special, int32_t **ids,
                              size_t *n, lt_err *err) {
    lt_tok_text work = { 0 };
    lt_tok_ids out = { 0 };
    LT_TRY(check_utf8(text, bytes, err));
    lt_status st = lt_tok_text_init(&work, text, bytes, err);
    if (st == LT_OK) st = lt_tok_ids_reserve(&out, bytes / 4 + 8, err);
    if (st == LT_OK) st = run_pipeline(t, &work, add_special, &out, err);
    lt_tok_text_clear(&work);
    if (st != LT_OK) {
        lt_tok_ids_clear(&out);
        return st;
    }
    *ids = out.v;
    *n = out.n;
    return LT_OK;
}

/* The strings of the tokens, one span each. */
static lt_status put_tokens(const lt_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, lt_tok_text *text,
                            lt_err *err) {
    LT_TRY(
        lt_tok_buf_reserve(&text->own, 4 * lt_min_size(n, 1 << 20) + 1, err)); /* an empty text has an address, too */
    for (size_t i = 0; i < n; i++) {
        size_t bytes;
        const char *token = lt_vocab_get(&t->vocab, ids[i], &bytes);
        if (!token)
            return lt_fail(err, LT_EDATA, "token id outside the vocabulary (%d, vocabulary %zu)", ids[i],
                           t->vocab.size);
        if (skip_special && lt_vocab_has(&t->vocab, ids[i], LT_VOCAB_SPECIAL)) continue;
        const size_t start = text->own.len;
        LT_TRY(lt_tok_buf_put(&text->own, token, bytes, err));
        LT_TRY(lt_tok_spans_push(&text->spans, (lt_tok_span){ start, text->own.len, -1, false }, err));
    }
    text->data = text->own.data;
    text->len = text->own.len;
    text->most = lt_tok_text_most(text->len);
    return LT_OK;
}

static lt_status join_spans(const lt_tok_text *t, const char *between, lt_tok_buf *out, lt_err *err) {
    for (size_t i = 0; i < t->spans.n; i++) {
        if (i > 0) LT_TRY(lt_tok_buf_put(out, between, strlen(between), err));
        LT_TRY(lt_tok_buf_put(out, t->data + t->spans.v[i].start, t->spans.v[i].end - t->spans.v[i].start, err));
    }
    return lt_tok_buf_reserve(out, 1, err);
}

lt_status lt_tokenizer_decode(const lt_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, char **text,
                              size_t *bytes, lt_err *err) {
    lt_tok_text work = { 0 };
    lt_tok_buf out = { 0 };
    lt_status st = put_tokens(t, ids, n, skip_special, &work, err);
    for (size_t i = 0; i < t->decoder.n && st == LT_OK; i++)
        st = t->decoder.part[i].row->decode(t->decoder.part[i].self, &work, err);
    if (st == LT_OK) st = join_spans(&work, t->decoder.n ? "" : " ", &out, err);
    lt_tok_text_clear(&work);
    if (st != LT_OK) {
        lt_tok_buf_clear(&out);
        return st;
    }
    out.data[out.len] = '\0';
    *text = out.data;
    *bytes = out.len;
    return LT_OK;
}

size_t lt_tokenizer_vocab_size(const lt_tokenizer *t) {
    return t->vocab.size;
}

const char *lt_tokenizer_token(const lt_tokenizer *t, int32_t id) {
    return lt_vocab_get(&t->vocab, id, NULL);
}

int32_t lt_tokenizer_find(const lt_tokenizer *t, const char *token) {
    return lt_vocab_find(&t->vocab, token, strlen(token));
}

int32_t lt_tokenizer_bos(const lt_tokenizer *t) {
    return t->bos;
}

int32_t lt_tokenizer_eos(const lt_tokenizer *t) {
    return t->eos;
}

bool lt_tokenizer_is_special(const lt_tokenizer *t, int32_t id) {
    return lt_vocab_has(&t->vocab, id, LT_VOCAB_SPECIAL);
}

const char *lt_tokenizer_hash(const lt_tokenizer *t) {
    return t->hash;
}
