/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/added.h"

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

lt_status lt_added_put(lt_added *a, lt_added_token token, lt_err *err) {
    if (a->n == a->cap) {
        const size_t cap = a->cap ? a->cap * 2 : 64;
        lt_added_token *p = lt_realloc(a->token, cap * sizeof *p);
        if (!p) return lt_fail(err, LT_ENOMEM, "tokenizer: no memory for %zu added tokens", cap);
        a->token = p;
        a->cap = cap;
    }
    a->token[a->n++] = token;
    return LT_OK;
}

void lt_added_clear(lt_added *a) {
    lt_free(a->token);
    lt_free(a->raw.node);
    lt_free(a->normal.node);
    *a = (lt_added){ 0 };
}

static lt_status new_node(lt_trie *t, unsigned char byte, int32_t *at, lt_err *err) {
    if (t->n == t->cap) {
        const size_t cap = t->cap ? t->cap * 2 : 256;
        if (cap > INT32_MAX) return lt_fail(err, LT_EUNSUPPORTED, "tokenizer: added tokens of %zu bytes in all", cap);
        lt_trie_node *p = lt_realloc(t->node, cap * sizeof *p);
        if (!p) return lt_fail(err, LT_ENOMEM, "tokenizer: no memory for %zu bytes of added tokens", cap);
        t->node = p;
        t->cap = cap;
    }
    t->node[t->n] = (lt_trie_node){ -1, -1, -1, byte };
    *at = (int32_t)t->n++;
    return LT_OK;
}

static int32_t child_of(const lt_trie *t, int32_t node, unsigned char byte) {
    int32_t c = t->node[node].child;
    while (c >= 0 && t->node[c].byte != byte) c = t->node[c].next;
    return c;
}

lt_status lt_added_index(lt_added *a, size_t i, const char *content, size_t bytes, lt_err *err) {
    lt_trie *t = a->token[i].normalized ? &a->normal : &a->raw;
    if (bytes == 0) return LT_OK;
    if (t->n == 0)
        for (int b = 0; b < 256; b++) t->root[b] = -1;
    int32_t at = t->root[(unsigned char)content[0]];
    if (at < 0) {
        LT_TRY(new_node(t, (unsigned char)content[0], &at, err));
        t->root[(unsigned char)content[0]] = at;
    }
    for (size_t k = 1; k < bytes; k++) {
        const unsigned char byte = (unsigned char)content[k];
        int32_t c = child_of(t, at, byte);
        if (c < 0) {
            LT_TRY(new_node(t, byte, &c, err));
            t->node[c].next = t->node[at].child;
            t->node[at].child = c;
        }
        at = c;
    }
    t->node[at].token = (int32_t)i; /* of two tokens that normalise alike the later one wins */
    return LT_OK;
}

/* The longest token that starts at s: its index and length; -1: none. */
static int32_t longest_at(const lt_trie *t, const char *s, size_t n, size_t *bytes) {
    int32_t at = t->root[(unsigned char)s[0]], best = -1;
    for (size_t k = 1; at >= 0; k++) {
        if (t->node[at].token >= 0) {
            best = t->node[at].token;
            *bytes = k;
        }
        if (k == n) break;
        at = child_of(t, at, (unsigned char)s[k]);
    }
    return best;
}

static bool word_at(const char *s, size_t at) {
    return lt_uni_props(lt_utf8_get(s + at)) & LT_UNI_WORD;
}

static bool white_at(const char *s, size_t at) {
    return lt_uni_props(lt_utf8_get(s + at)) & LT_UNI_WHITE;
}

static bool stands_alone(const char *s, size_t n, size_t start, size_t end) {
    return (start == 0 || !word_at(s, lt_utf8_before(s, start))) && (end == n || !word_at(s, end));
}

static size_t white_before(const char *s, size_t at) {
    while (at > 0) {
        const size_t before = lt_utf8_before(s, at);
        if (!white_at(s, before)) break;
        at = before;
    }
    return at;
}

static size_t white_after(const char *s, size_t n, size_t at) {
    while (at < n && white_at(s, at)) at += lt_utf8_length(s[at]);
    return at;
}

static lt_status split_span(const lt_added *a, const lt_trie *t, const char *data, lt_tok_span span, lt_tok_spans *out,
                            lt_err *err) {
    const char *s = data + span.start;
    const size_t n = span.end - span.start;
    size_t done = 0; /* text before this is in a span already */
    for (size_t i = 0; i < n;) {
        size_t bytes = 0;
        const int32_t found = longest_at(t, s + i, n - i, &bytes);
        if (found < 0) {
            i++;
            continue;
        }
        const lt_added_token *token = &a->token[found];
        size_t start = i, end = i + bytes;
        i = end;
        if (token->single_word && !stands_alone(s, n, start, end)) continue;
        if (token->lstrip) start = lt_max_size(white_before(s, start), done);
        if (token->rstrip) end = white_after(s, n, end);
        if (done < start)
            LT_TRY(lt_tok_spans_put(
                out, (lt_tok_span){ span.start + done, span.start + start, -1, span.first && done == 0 }, err));
        LT_TRY(lt_tok_spans_put(out, (lt_tok_span){ span.start + start, span.start + end, token->id, false }, err));
        done = end; /* may lie past i, in white space that rstrip took; a token found there still counts */
    }
    return lt_tok_spans_put(out, (lt_tok_span){ span.start + done, span.end, -1, span.first && done == 0 }, err);
}

lt_status lt_added_split(const lt_added *a, bool normalized, lt_tok_text *t, lt_err *err) {
    const lt_trie *trie = normalized ? &a->normal : &a->raw;
    if (trie->n == 0) return LT_OK;
    lt_tok_spans out = { 0 };
    lt_status st = LT_OK;
    for (size_t i = 0; i < t->spans.n && st == LT_OK; i++) {
        if (t->spans.v[i].id >= 0)
            st = lt_tok_spans_put(&out, t->spans.v[i], err);
        else
            st = split_span(a, trie, t->data, t->spans.v[i], &out, err);
    }
    if (st == LT_OK) lt_tok_text_set_spans(t, &out);
    lt_free(out.v);
    return st;
}
