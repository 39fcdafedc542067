/* SPDX-License-Identifier: Apache-2.0 */
/* Unigram language model: of all ways to cut a text into tokens, the one with the largest sum of log-probabilities.
 *
 * Kudo 2018 (Subword Regularization), section 3.2, solved by Viterbi from the left; a character that no token covers
 * costs 10 more than the worst token. Details as in tokenizers 0.22: a later way must be strictly better to win,
 * neighbouring unknowns are one, sums in double. */
#include "tokenizer/stage.h"

#include <stdio.h>
#include <string.h>

#include "tokenizer/utf8.h"

#define UNKNOWN_PENALTY 10.0

typedef struct edge {
    uint64_t key;
    int32_t to;
} edge; /* key: node << 8 | byte */
#define NO_EDGE UINT64_MAX

typedef struct unigram {
    double *score; /* by id */
    size_t n;
    edge *slot; /* a trie over the bytes of the tokens, its edges in a hash table at most half full */
    int slot_bits;
    size_t n_nodes;
    int32_t *token; /* by node: the token that ends there, -1: none */
    int32_t fallback[256];
    int32_t unk; /* -1: none */
    double unk_score;
    bool byte_fallback;
} unigram;

static void unigram_destroy(void *self) {
    unigram *u = self;
    if (!u) return;
    lt_free(u->score);
    lt_free(u->slot);
    lt_free(u->token);
    lt_free(u);
}

/* ---- the trie ---- */

static inline size_t slot_of(const unigram *u, uint64_t key) {
    const size_t mask = ((size_t)1 << u->slot_bits) - 1;
    size_t i = (size_t)((key * 0x9E3779B97F4A7C15u) >> (64 - u->slot_bits));
    while (u->slot[i].key != key && u->slot[i].key != NO_EDGE) i = (i + 1) & mask;
    return i;
}

static inline int32_t step(const unigram *u, int32_t node, char byte) {
    return u->slot[slot_of(u, (uint64_t)(uint32_t)node << 8 | (unsigned char)byte)].to; /* -1 in a free slot */
}

static lt_status make_trie(unigram *u, const lt_vocab *v, const char *where, lt_err *err) {
    const size_t most = v->text_len + 1; /* nodes: no more than bytes, and the root */
    u->slot_bits = 4;
    while (u->slot_bits < 40 && (size_t)1 << u->slot_bits < 2 * most) u->slot_bits++;
    const size_t slots = (size_t)1 << u->slot_bits;
    u->slot = lt_malloc(slots * sizeof *u->slot);
    u->token = lt_malloc(most * sizeof *u->token);
    if (!u->slot || !u->token) return lt_fail(err, LT_ENOMEM, "no memory for %zu tokens (%s)", u->n, where);
    for (size_t i = 0; i < slots; i++) u->slot[i] = (edge){ NO_EDGE, -1 };
    u->token[0] = -1;
    u->n_nodes = 1;
    return LT_OK;
}

static void insert(unigram *u, const char *s, size_t bytes, int32_t id) {
    int32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        const uint64_t key = (uint64_t)(uint32_t)node << 8 | (unsigned char)s[i];
        edge *e = &u->slot[slot_of(u, key)];
        if (e->to < 0) {
            *e = (edge){ key, (int32_t)u->n_nodes };
            u->token[u->n_nodes++] = -1;
        }
        node = e->to;
    }
    u->token[node] = id;
}

/* ---- parsing ---- */

static lt_status parse_vocab(unigram *u, lt_vocab *v, const json_t *j, const char *where, lt_err *err) {
    json_t *vocab = NULL;
    LT_TRY(lt_json_need(&vocab, j, "vocab", where, err));
    if (!json_is_array(vocab) || json_array_size(vocab) == 0)
        return lt_fail(err, LT_EDATA, "no list of tokens (%s: model.vocab)", where);
    u->n = json_array_size(vocab);
    u->score = lt_malloc(u->n * sizeof *u->score);
    if (!u->score) return lt_fail(err, LT_ENOMEM, "no memory for %zu scores (%s)", u->n, where);
    for (size_t id = 0; id < u->n; id++) {
        const json_t *entry = json_array_get(vocab, id), *s = json_array_get(entry, 0),
                     *score = json_array_get(entry, 1);
        if (!json_is_string(s) || !json_is_number(score))
            return lt_fail(err, LT_EDATA, "token is not [text, score] (%s: model.vocab: entry %zu)", where, id);
        u->score[id] = json_number_value(score);
        LT_TRY(lt_vocab_add(v, (int64_t)id, json_string_value(s), json_string_length(s), LT_VOCAB_MODEL, where, err));
    }
    return LT_OK;
}

static lt_status parse_unknown(unigram *u, const json_t *j, const char *where, lt_err *err) {
    const json_t *unk = json_object_get(j, "unk_id");
    double worst = u->score[0];
    u->unk = -1;
    for (size_t id = 1; id < u->n; id++) worst = u->score[id] < worst ? u->score[id] : worst;
    u->unk_score = worst - UNKNOWN_PENALTY;
    if (!unk || json_is_null(unk)) return LT_OK;
    const json_int_t id = json_is_integer(unk) ? json_integer_value(unk) : -1;
    if (id < 0 || (uint64_t)id >= u->n)
        return lt_fail(err, LT_EDATA, "unk_id outside the vocabulary (%s: model.unk_id: %lld)", where, (long long)id);
    u->unk = (int32_t)id;
    return LT_OK;
}

static void find_fallback(unigram *u, const lt_vocab *v) {
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", byte);
        u->fallback[byte] = lt_vocab_find_model(v, text, 6);
    }
}

static lt_status unigram_fill(unigram *u, lt_vocab *v, const json_t *j, const char *where, lt_hash *digest,
                              lt_err *err) {
    LT_TRY(lt_json_bool(&u->byte_fallback, j, "byte_fallback", false, where, err));
    LT_TRY(parse_vocab(u, v, j, where, err));
    LT_TRY(parse_unknown(u, j, where, err));
    LT_TRY(make_trie(u, v, where, err));
    for (size_t id = 0; id < u->n; id++) insert(u, v->text + v->entry[id].start, v->entry[id].bytes, (int32_t)id);
    find_fallback(u, v);
    const int32_t options[2] = { u->unk, u->byte_fallback };
    lt_hash_update(digest, "Unigram", 8);
    lt_hash_update(digest, options, sizeof options);
    lt_hash_update(digest, u->score, u->n * sizeof *u->score);
    return LT_OK;
}

static lt_status unigram_parse(void **self, lt_vocab *v, const json_t *j, const char *where, lt_hash *digest,
                               lt_err *err) {
    unigram *u = lt_calloc(1, sizeof *u);
    if (!u) return lt_fail(err, LT_ENOMEM, "no memory for a Unigram model (%s)", where);
    const lt_status st = unigram_fill(u, v, j, where, digest, err);
    if (st == LT_OK)
        *self = u;
    else
        unigram_destroy(u);
    return st;
}

static bool unigram_recognise(const json_t *j) {
    return json_is_array(json_object_get(j, "vocab"));
}

/* ---- a span ---- */

/* The best way to reach an offset: where its last token starts, and which it is. */
typedef struct way {
    double score;
    size_t from;
    int32_t id;
} way;
#define UNREACHED SIZE_MAX

typedef struct work {
    way *at;
    size_t cap;
} work;

static lt_status work_reserve(work *w, size_t n, lt_err *err) {
    size_t bytes;
    if (n + 1 <= w->cap) return LT_OK;
    const size_t cap = lt_max_size(n + 1, 2 * w->cap);
    lt_free(w->at);
    w->cap = 0;
    w->at = lt_mul_size(cap, sizeof *w->at, &bytes) ? lt_malloc(bytes) : NULL;
    if (!w->at) return lt_fail(err, LT_ENOMEM, "tokenizer: no memory for a piece of %zu bytes", n);
    w->cap = cap;
    return LT_OK;
}

static inline bool better(const way *than, double score) {
    return than->from == UNREACHED || score > than->score;
}

static lt_status search(const unigram *u, const char *s, size_t n, way *at, lt_err *err) {
    for (size_t i = 0; i <= n; i++) at[i] = (way){ 0.0, UNREACHED, 0 };
    for (size_t start = 0, bytes; start < n; start += bytes) {
        const double here = at[start].score;
        bool covered = false; /* by a token of its own */
        bytes = lt_utf8_length(s[start]);
        int32_t node = 0;
        for (size_t end = start; end < n;) {
            node = step(u, node, s[end++]);
            if (node < 0) break;
            if (u->token[node] < 0) continue;
            const double score = u->score[u->token[node]] + here;
            if (better(&at[end], score)) at[end] = (way){ score, start, u->token[node] };
            covered |= end - start == bytes;
        }
        if (covered || !better(&at[start + bytes], u->unk_score + here)) continue;
        if (u->unk < 0) return lt_fail(err, LT_EDATA, "tokenizer: text without a token, and no unknown token");
        at[start + bytes] = (way){ u->unk_score + here, start, u->unk };
    }
    return LT_OK;
}

/* Ids of s[start, end), which the search took as one token or as unknown. */
static lt_status put_token(const unigram *u, const lt_vocab *v, const char *s, size_t start, size_t end,
                           lt_tok_ids *out, lt_err *err) {
    const int32_t id = lt_vocab_find_model(v, s + start, end - start);
    if (id >= 0) return lt_tok_ids_put(out, id, err);
    bool all = u->byte_fallback;
    for (size_t i = start; i < end && all; i++) all = u->fallback[(unsigned char)s[i]] >= 0;
    if (!all) return lt_tok_ids_put(out, u->unk, err);
    for (size_t i = start; i < end; i++) LT_TRY(lt_tok_ids_put(out, u->fallback[(unsigned char)s[i]], err));
    return LT_OK;
}

static lt_status encode_span(const unigram *u, const lt_vocab *v, const char *s, size_t n, work *w, lt_tok_ids *out,
                             lt_err *err) {
    LT_TRY(work_reserve(w, n, err));
    LT_TRY(search(u, s, n, w->at, err));
    /* turn the way back from the end into a way forward: `from` becomes the end of the token that starts here */
    way last = w->at[n];
    size_t to = n;
    bool unknown = false;
    for (size_t end = n; end > 0;) {
        const bool also = u->unk >= 0 && last.id == u->unk;
        const way before = w->at[last.from];
        if (!also || !unknown) to = end; /* neighbouring unknowns are one */
        w->at[last.from].from = to;
        end = last.from;
        last = before;
        unknown = also;
    }
    for (size_t start = 0; start < n; start = w->at[start].from)
        LT_TRY(put_token(u, v, s, start, w->at[start].from, out, err));
    return LT_OK;
}

static lt_status unigram_run(const void *self, const lt_vocab *v, lt_tok_text *t, lt_tok_ids *out, lt_err *err) {
    work w = { 0 };
    LT_TRY(lt_tok_text_spell_out(t, err));
    lt_status st = LT_OK;
    for (size_t i = 0; i < t->spans.n && st == LT_OK; i++) {
        const lt_tok_span s = t->spans.v[i];
        if (s.id >= 0)
            st = lt_tok_ids_put(out, s.id, err);
        else
            st = encode_span(self, v, t->data + s.start, s.end - s.start, &w, out, err);
    }
    lt_free(w.at);
    return st;
}

const lt_tok_model_row lt_tok_unigram = { .type = "Unigram",
                                          .recognise = unigram_recognise,
                                          .parse = unigram_parse,
                                          .destroy = unigram_destroy,
                                          .run = unigram_run };
