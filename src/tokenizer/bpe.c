/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair encoding: of all pairs of neighbours that the merge list has, join the one of the lowest rank (the leftmost
 * of equals) until none is left.
 *
 * Sennrich, Haddow and Birch 2016, section 3.2, with the refinements of tokenizers 0.22: byte_fallback, fuse_unk,
 * ignore_merges, prefix and suffix. Short words are searched linearly, long ones with a heap over a linked list:
 * O(n log n). A span's ids are remembered for the rest of the call by where they stand in the output. Where a model has
 * no pre-tokenizer, a span is cut between characters that no token has side by side: no merge can reach across. */
#include "tokenizer/stage.h"

#include <stdio.h>
#include <string.h>

#include "tokenizer/utf8.h"

typedef struct merge {
    uint64_t pair;
    uint32_t rank;
    int32_t id;
} merge; /* pair: left << 32 | right */
#define NO_PAIR UINT64_MAX
#define NO_RANK UINT32_MAX

typedef struct bpe {
    merge *slot; /* hash table; a power of two, at most half full */
    int slot_bits;
    int32_t byte_symbol[256];    /* id of the symbol of a byte; -1: not in the vocabulary */
    int32_t fallback[256];       /* id of <0xHH> */
    char *prefix, *suffix, *unk; /* NULL: none */
    size_t prefix_bytes, suffix_bytes;
    int32_t unk_id;  /* -1: not in the vocabulary */
    size_t longest;  /* bytes of the longest token */
    uint64_t *touch; /* set of pairs of characters that stand side by side in some token, one bit per hash value */
    int touch_bits;
    bool byte_fallback, fuse_unk, ignore_merges;
} bpe;

static void bpe_destroy(void *self) {
    bpe *b = self;
    if (!b) return;
    lt_free(b->slot);
    lt_free(b->touch);
    lt_free(b->prefix);
    lt_free(b->suffix);
    lt_free(b->unk);
    lt_free(b);
}

/* ---- the merge list ---- */

static inline uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static inline size_t slot_of(const bpe *b, uint64_t pair) {
    const size_t mask = ((size_t)1 << b->slot_bits) - 1;
    size_t i = (size_t)((pair * 0x9E3779B97F4A7C15u) >> (64 - b->slot_bits));
    while (b->slot[i].pair != pair && b->slot[i].pair != NO_PAIR) i = (i + 1) & mask;
    return i;
}

static inline uint32_t rank_of(const bpe *b, int32_t left, int32_t right, int32_t *id) {
    const merge *m = &b->slot[slot_of(b, pair_of(left, right))];
    *id = m->id;
    return m->rank; /* NO_RANK in a free slot */
}

static lt_status make_slots(bpe *b, size_t n, const char *where, lt_err *err) {
    b->slot_bits = 4;
    while (b->slot_bits < 40 && (size_t)1 << b->slot_bits < 2 * n) b->slot_bits++;
    const size_t slots = (size_t)1 << b->slot_bits;
    b->slot = lt_malloc(slots * sizeof *b->slot);
    if (!b->slot) return lt_fail(err, LT_ENOMEM, "no memory for %zu merges (%s)", n, where);
    for (size_t i = 0; i < slots; i++) b->slot[i] = (merge){ NO_PAIR, NO_RANK, -1 };
    return LT_OK;
}

/* "a b" or ["a", "b"] */
static lt_status halves(const json_t *j, const char *half[2], size_t bytes[2], size_t line, const char *where,
                        lt_err *err) {
    if (json_is_array(j) && json_array_size(j) == 2) {
        for (size_t i = 0; i < 2; i++) {
            const json_t *s = json_array_get(j, i);
            if (!json_is_string(s))
                return lt_fail(err, LT_EDATA, "merge is not made of strings (%s: merge %zu)", where, line);
            half[i] = json_string_value(s);
            bytes[i] = json_string_length(s);
        }
        return LT_OK;
    }
    if (!json_is_string(j))
        return lt_fail(err, LT_EDATA, "merge is neither a string nor a pair (%s: merge %zu)", where, line);
    const char *s = json_string_value(j), *end = s + json_string_length(j);
    const char *space = memchr(s, ' ', (size_t)(end - s));
    if (!space || memchr(space + 1, ' ', (size_t)(end - space - 1)))
        return lt_fail(err, LT_EDATA, "merge is not two tokens with a space between (%s: merge %zu: \"%.80s\")", where,
                       line, s);
    half[0] = s;
    bytes[0] = (size_t)(space - s);
    half[1] = space + 1;
    bytes[1] = (size_t)(end - space - 1);
    return LT_OK;
}

static lt_status token_of(int32_t *id, const lt_vocab *v, const char *s, size_t bytes, size_t line, const char *where,
                          lt_err *err) {
    *id = lt_vocab_find_model(v, s, bytes);
    if (*id >= 0) return LT_OK;
    return lt_fail(err, LT_EDATA, "merge of a token that the vocabulary lacks (%s: merge %zu: \"%.*s\")", where, line,
                   (int)lt_min_size(bytes, 80), s);
}

static lt_status put_merge(bpe *b, const lt_vocab *v, const json_t *j, size_t line, uint32_t rank, lt_tok_buf *joined,
                           const char *where, lt_hash *digest, lt_err *err) {
    const char *half[2];
    size_t bytes[2];
    int32_t left, right, id;
    LT_TRY(halves(j, half, bytes, line, where, err));
    LT_TRY(token_of(&left, v, half[0], bytes[0], line, where, err));
    LT_TRY(token_of(&right, v, half[1], bytes[1], line, where, err));
    /* the right half of a merge inside a word carries the prefix, the whole has it once */
    const size_t drop = lt_min_size(b->prefix_bytes, bytes[1]);
    joined->len = 0;
    LT_TRY(lt_tok_buf_put(joined, half[0], bytes[0], err));
    LT_TRY(lt_tok_buf_put(joined, half[1] + drop, bytes[1] - drop, err));
    LT_TRY(token_of(&id, v, joined->data, joined->len, line, where, err));
    b->slot[slot_of(b, pair_of(left, right))] = (merge){ pair_of(left, right), rank, id }; /* a later double wins */
    const int32_t triple[3] = { left, right, id };
    lt_hash_update(digest, triple, sizeof triple);
    return LT_OK;
}

static lt_status parse_merges(bpe *b, const lt_vocab *v, const json_t *j, const char *where, lt_hash *digest,
                              lt_err *err) {
    const json_t *list = json_object_get(j, "merges");
    if (!json_is_array(list)) return lt_fail(err, LT_EDATA, "not a list (%s: model.merges)", where);
    const size_t n = json_array_size(list);
    if (n >= NO_RANK) return lt_fail(err, LT_EUNSUPPORTED, "too many merges (%s: %zu)", where, n);
    LT_TRY(make_slots(b, n, where, err));
    lt_tok_buf joined = { 0 };
    lt_status st = lt_tok_buf_reserve(&joined, 64, err);
    uint32_t rank = 0;
    for (size_t i = 0; i < n && st == LT_OK; i++) {
        const json_t *m = json_array_get(list, i);
        if (json_is_string(m) && strncmp(json_string_value(m), "#version", 8) == 0)
            continue; /* first line of merges.txt */
        st = put_merge(b, v, m, i, rank++, &joined, where, digest, err);
    }
    lt_tok_buf_clear(&joined);
    return st;
}

/* ---- parsing ---- */

/* A copy of a string member; absent and empty are NULL. */
static lt_status optional_text(char **out, const json_t *j, const char *key, const char *where, lt_err *err) {
    const char *s = NULL;
    LT_TRY(lt_json_string(&s, j, key, NULL, where, err));
    if (!s || !*s) return LT_OK;
    *out = lt_strdup(s);
    return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "no memory for %s (%s)", key, where);
}

static void find_byte_tokens(bpe *b, const lt_vocab *v) {
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        b->byte_symbol[byte] = lt_vocab_find_model(v, text, lt_utf8_put(text, lt_tok_symbol((unsigned char)byte)));
        snprintf(text, sizeof text, "<0x%02X>", byte);
        b->fallback[byte] = lt_vocab_find_model(v, text, 6);
    }
}

/* ---- pairs of characters ---- */

static inline size_t touch_bit(const bpe *b, uint32_t left, uint32_t right) {
    return (size_t)((((uint64_t)left << 21 | right) * 0x9E3779B97F4A7C15u) >> (64 - b->touch_bits));
}

/* False only if no token has the two side by side. */
static inline bool may_touch(const bpe *b, uint32_t left, uint32_t right) {
    const size_t bit = touch_bit(b, left, right);
    return b->touch[bit / 64] >> (bit % 64) & 1;
}

static lt_status collect_pairs(bpe *b, const lt_vocab *v, const char *where, lt_err *err) {
    b->touch_bits = 12;
    while (b->touch_bits < 24 && (size_t)1 << b->touch_bits < 8 * v->text_len) b->touch_bits++;
    b->touch = lt_calloc(((size_t)1 << b->touch_bits) / 64, sizeof *b->touch);
    if (!b->touch) return lt_fail(err, LT_ENOMEM, "no memory for a BPE model (%s)", where);
    for (size_t id = 0; id < v->size; id++) {
        const char *s = v->text + v->entry[id].start;
        uint32_t last = 0;
        for (size_t at = 0; at < v->entry[id].bytes; at += lt_utf8_length(s[at])) {
            const uint32_t cp = lt_utf8_get(s + at);
            const size_t bit = touch_bit(b, last, cp);
            if (at > 0) b->touch[bit / 64] |= (uint64_t)1 << (bit % 64);
            last = cp;
        }
    }
    return LT_OK;
}

static lt_status parse_options(bpe *b, const json_t *j, const char *where, lt_err *err) {
    double dropout;
    LT_TRY(lt_json_double(&dropout, j, "dropout", 0.0, where, err));
    if (dropout != 0.0) return lt_fail(err, LT_EUNSUPPORTED, "BPE with dropout (%s: %g)", where, dropout);
    LT_TRY(lt_json_bool(&b->byte_fallback, j, "byte_fallback", false, where, err));
    LT_TRY(lt_json_bool(&b->fuse_unk, j, "fuse_unk", false, where, err));
    LT_TRY(lt_json_bool(&b->ignore_merges, j, "ignore_merges", false, where, err));
    LT_TRY(optional_text(&b->prefix, j, "continuing_subword_prefix", where, err));
    LT_TRY(optional_text(&b->suffix, j, "end_of_word_suffix", where, err));
    LT_TRY(optional_text(&b->unk, j, "unk_token", where, err));
    b->prefix_bytes = b->prefix ? strlen(b->prefix) : 0;
    b->suffix_bytes = b->suffix ? strlen(b->suffix) : 0;
    return LT_OK;
}

static void digest_options(const bpe *b, lt_hash *digest) {
    const char *const text[3] = { b->prefix, b->suffix, b->unk };
    const unsigned char flags[3] = { b->byte_fallback, b->fuse_unk, b->ignore_merges };
    lt_hash_update(digest, "BPE", 4);
    lt_hash_update(digest, flags, sizeof flags);
    for (size_t i = 0; i < 3; i++) lt_hash_update(digest, text[i] ? text[i] : "", text[i] ? strlen(text[i]) + 1 : 1);
}

static lt_status bpe_fill(bpe *b, lt_vocab *v, const json_t *j, const char *where, lt_hash *digest, lt_err *err) {
    LT_TRY(parse_options(b, j, where, err));
    digest_options(b, digest);
    LT_TRY(lt_vocab_parse(v, j, where, err));
    LT_TRY(parse_merges(b, v, j, where, digest, err));
    LT_TRY(collect_pairs(b, v, where, err));
    find_byte_tokens(b, v);
    for (size_t id = 0; id < v->size; id++) b->longest = lt_max_size(b->longest, v->entry[id].bytes);
    b->unk_id = b->unk ? lt_vocab_find_model(v, b->unk, strlen(b->unk)) : -1;
    return LT_OK;
}

static lt_status bpe_parse(void **self, lt_vocab *v, const json_t *j, const char *where, lt_hash *digest, lt_err *err) {
    bpe *b = lt_calloc(1, sizeof *b);
    if (!b) return lt_fail(err, LT_ENOMEM, "no memory for a BPE model (%s)", where);
    const lt_status st = bpe_fill(b, v, j, where, digest, err);
    if (st == LT_OK)
        *self = b;
    else
        bpe_destroy(b);
    return st;
}

static bool bpe_recognise(const json_t *j) {
    return json_is_array(json_object_get(j, "merges"));
}

/* ---- one word ---- */

/* Symbols of the word in hand, as parallel arrays that grow to the longest word; rank[i] and joined[i] are of the pair
 * (i, its right neighbour). next, prev and heap serve long words only. */
typedef struct word {
    int32_t *id, *joined, *next, *prev;
    uint32_t *rank;
    uint64_t *heap; /* rank << 32 | index */
    size_t n, cap, heap_n, heap_cap;
} word;

#define SHORT_WORD 32 /* symbols; below it a linear search beats the heap */

static void word_clear(word *w) {
    lt_free(w->id);
    lt_free(w->heap);
}

static lt_status word_reserve(word *w, size_t n, lt_err *err) {
    if (n <= w->cap) return LT_OK;
    if (n > INT32_MAX / 2) return lt_fail(err, LT_EUNSUPPORTED, "tokenizer: a word of %zu bytes", n);
    const size_t cap = lt_max_size(256, lt_max_size(n, w->cap * 2));
    int32_t *p = lt_malloc(5 * cap * sizeof *p);
    if (!p) return lt_fail(err, LT_ENOMEM, "tokenizer: no memory for a word of %zu bytes", n);
    lt_free(w->id);
    w->id = p;
    w->joined = p + cap;
    w->next = p + 2 * cap;
    w->prev = p + 3 * cap;
    w->rank = (uint32_t *)(p + 4 * cap);
    w->cap = cap;
    return LT_OK;
}

static inline void look_up(const bpe *b, word *w, size_t i, size_t right) {
    w->rank[i] = rank_of(b, w->id[i], w->id[right], &w->joined[i]);
}

static void merge_short(const bpe *b, word *w) {
    size_t n = w->n;
    for (size_t i = 0; i + 1 < n; i++) look_up(b, w, i, i + 1);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (w->rank[i] < w->rank[best]) best = i;
        if (w->rank[best] == NO_RANK) break;
        w->id[best] = w->joined[best];
        for (size_t i = best + 1; i + 1 < n; i++) {
            w->id[i] = w->id[i + 1];
            w->rank[i] = w->rank[i + 1];
            w->joined[i] = w->joined[i + 1];
        }
        n--;
        if (best > 0) look_up(b, w, best - 1, best);
        if (best + 1 < n) look_up(b, w, best, best + 1);
    }
    w->n = n;
}

static void heap_down(word *w, size_t i) {
    const uint64_t key = w->heap[i];
    for (size_t child; (child = 2 * i + 1) < w->heap_n; i = child) {
        if (child + 1 < w->heap_n && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= key) break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = key;
}

static void heap_push(word *w, size_t index) {
    if (w->rank[index] == NO_RANK) return;
    const uint64_t key = (uint64_t)w->rank[index] << 32 | index;
    size_t i = w->heap_n++;
    for (; i > 0 && w->heap[(i - 1) / 2] > key; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = key;
}

/* At most one entry per pair at the start and two per merge: 3n in all. */
static lt_status heap_reserve(word *w, lt_err *err) {
    if (3 * w->n <= w->heap_cap) return LT_OK;
    lt_free(w->heap);
    w->heap_cap = 0;
    w->heap = lt_malloc(3 * w->n * sizeof *w->heap);
    if (!w->heap) return lt_fail(err, LT_ENOMEM, "tokenizer: no memory for a word of %zu symbols", w->n);
    w->heap_cap = 3 * w->n;
    return LT_OK;
}

static lt_status merge_long(const bpe *b, word *w, lt_err *err) {
    LT_TRY(heap_reserve(w, err));
    const size_t n = w->n;
    w->heap_n = 0;
    for (size_t i = 0; i < n; i++) {
        w->next[i] = i + 1 < n ? (int32_t)(i + 1) : -1;
        w->prev[i] = (int32_t)i - 1;
        w->rank[i] = NO_RANK;
        if (i + 1 < n) look_up(b, w, i, i + 1);
        heap_push(w, i);
    }
    while (w->heap_n > 0) {
        const uint64_t top = w->heap[0];
        w->heap[0] = w->heap[--w->heap_n];
        if (w->heap_n > 0) heap_down(w, 0);
        const size_t i = (uint32_t)top;
        if (w->rank[i] != (uint32_t)(top >> 32)) continue; /* the pair has changed since */
        const int32_t gone = w->next[i], right = w->next[gone], left = w->prev[i];
        w->id[i] = w->joined[i];
        w->rank[gone] = w->rank[i] = NO_RANK;
        w->next[i] = right;
        if (right >= 0) {
            w->prev[right] = (int32_t)i;
            look_up(b, w, i, (size_t)right);
            heap_push(w, i);
        }
        if (left >= 0) {
            look_up(b, w, (size_t)left, i);
            heap_push(w, (size_t)left);
        }
    }
    size_t kept = 0;
    for (int32_t i = 0; i >= 0; i = w->next[i]) w->id[kept++] = w->id[i];
    w->n = kept;
    return LT_OK;
}

/* Unknown characters wait for the next known one, so that fuse_unk can make one token of several. */
static lt_status add_unknown(const bpe *b, word *w, bool *pending, lt_err *err) {
    if (!b->unk) return LT_OK; /* without an unknown token the character vanishes */
    if (b->unk_id < 0)
        return lt_fail(err, LT_EDATA, "tokenizer: unknown token \"%.80s\" is not in the vocabulary", b->unk);
    if (*pending && !b->fuse_unk) w->id[w->n++] = b->unk_id;
    *pending = true;
    return LT_OK;
}

/* One character, with prefix and suffix, to symbols. */
static lt_status add_character(const bpe *b, const lt_vocab *v, word *w, const char *s, size_t bytes, bool *pending,
                               lt_err *err) {
    const int32_t id = lt_vocab_find_model(v, s, bytes);
    if (id >= 0) {
        if (*pending) w->id[w->n++] = b->unk_id;
        *pending = false;
        w->id[w->n++] = id;
        return LT_OK;
    }
    bool all = b->byte_fallback;
    for (size_t i = 0; i < bytes && all; i++) all = b->fallback[(unsigned char)s[i]] >= 0;
    if (!all) return add_unknown(b, w, pending, err);
    for (size_t i = 0; i < bytes; i++)
        w->id[w->n++] = b->fallback[(unsigned char)s[i]]; /* a pending unknown stays behind them */
    return LT_OK;
}

static lt_status start_symbols(const bpe *b, const lt_vocab *v, word *w, const char *s, size_t n, bool *pending,
                               lt_err *err) {
    for (size_t i = 0; i < n; i++) {
        const unsigned char byte = (unsigned char)s[i];
        if (b->byte_symbol[byte] >= 0 && !*pending) {
            w->id[w->n++] = b->byte_symbol[byte];
            continue;
        }
        char symbol[4];
        LT_TRY(add_character(b, v, w, symbol, lt_utf8_put(symbol, lt_tok_symbol(byte)), pending, err));
    }
    return LT_OK;
}

static lt_status start_characters(const bpe *b, const lt_vocab *v, word *w, const char *s, size_t n, lt_tok_buf *tmp,
                                  bool *pending, lt_err *err) {
    for (size_t at = 0, bytes; at < n; at += bytes) {
        bytes = lt_utf8_length(s[at]);
        if (!b->prefix && !b->suffix) {
            LT_TRY(add_character(b, v, w, s + at, bytes, pending, err));
            continue;
        }
        tmp->len = 0;
        if (at > 0) LT_TRY(lt_tok_buf_put(tmp, b->prefix, b->prefix_bytes, err));
        LT_TRY(lt_tok_buf_put(tmp, s + at, bytes, err));
        if (at + bytes == n) LT_TRY(lt_tok_buf_put(tmp, b->suffix, b->suffix_bytes, err));
        LT_TRY(add_character(b, v, w, tmp->data, tmp->len, pending, err));
    }
    return LT_OK;
}

/* The whole word as one token, where the model prefers that to merging. */
static lt_status whole_word(const bpe *b, const lt_vocab *v, const char *s, size_t n, bool symbols, lt_tok_buf *tmp,
                            int32_t *id, lt_err *err) {
    *id = -1;
    if (!b->ignore_merges || n > b->longest) return LT_OK;
    if (symbols) {
        tmp->len = 0;
        LT_TRY(lt_tok_buf_reserve(tmp, 2 * n, err));
        for (size_t i = 0; i < n; i++)
            tmp->len += lt_utf8_put(tmp->data + tmp->len, lt_tok_symbol((unsigned char)s[i]));
        s = tmp->data;
        n = tmp->len;
    }
    *id = lt_vocab_find_model(v, s, n);
    return LT_OK;
}

/* ---- a text ---- */

/* Where the ids of a word that was seen before stand in the output. Direct-mapped. */
typedef struct seen {
    const char *s;
    size_t bytes, at, n;
} seen;
#define SEEN_BYTES 64 /* longer words seldom come twice */

typedef struct run {
    const bpe *b;
    const lt_vocab *v;
    word w;
    lt_tok_buf tmp;
    seen *cache;
    size_t cache_mask;
} run;

static lt_status encode_word(run *r, const char *s, size_t n, bool symbols, lt_tok_ids *out, lt_err *err) {
    const bpe *b = r->b;
    word *w = &r->w;
    bool pending = false;
    int32_t id;
    LT_TRY(whole_word(b, r->v, s, n, symbols, &r->tmp, &id, err));
    if (id >= 0) return lt_tok_ids_put(out, id, err);
    /* at most one symbol per byte of a character with prefix and suffix, and two bytes for the symbol of a byte */
    LT_TRY(word_reserve(w, n * (2 + b->prefix_bytes) + b->suffix_bytes + 1, err));
    w->n = 0;
    if (symbols)
        LT_TRY(start_symbols(b, r->v, w, s, n, &pending, err));
    else
        LT_TRY(start_characters(b, r->v, w, s, n, &r->tmp, &pending, err));
    if (pending) w->id[w->n++] = b->unk_id;
    if (w->n <= SHORT_WORD)
        merge_short(b, w);
    else
        LT_TRY(merge_long(b, w, err));
    LT_TRY(lt_tok_ids_reserve(out, w->n, err));
    memcpy(out->v + out->n, w->id, w->n * sizeof *w->id);
    out->n += w->n;
    return LT_OK;
}

static lt_status encode_cached(run *r, const char *s, size_t n, bool symbols, lt_tok_ids *out, lt_err *err) {
    if (!r->cache || n > SEEN_BYTES) return encode_word(r, s, n, symbols, out, err);
    seen *e = &r->cache[(size_t)(lt_vocab_hash(s, n) >> 20) & r->cache_mask];
    if (e->bytes == n && memcmp(e->s, s, n) == 0) {
        if (out->cap - out->n < e->n) LT_TRY(lt_tok_ids_reserve(out, e->n, err));
        for (size_t i = 0; i < e->n; i++) out->v[out->n + i] = out->v[e->at + i];
        out->n += e->n;
        return LT_OK;
    }
    const size_t at = out->n;
    LT_TRY(encode_word(r, s, n, symbols, out, err));
    *e = (seen){ s, n, at, out->n - at };
    return LT_OK;
}

/* A long span of plain characters, cut where no merge can reach across. Both neighbours must be tokens themselves:
 * unknown characters may be fused, and bytes are spelled with other characters than they stand for. */
static lt_status encode_cut(run *r, const char *s, size_t n, lt_tok_ids *out, lt_err *err) {
    size_t start = 0, before = 0;
    uint32_t last = 0;
    for (size_t at = 0, bytes; at < n; at += bytes) {
        const uint32_t cp = lt_utf8_get(s + at);
        bytes = lt_utf8_length(s[at]);
        if (at > 0 && !may_touch(r->b, last, cp) && lt_vocab_find_model(r->v, s + before, at - before) >= 0 &&
            lt_vocab_find_model(r->v, s + at, bytes) >= 0) {
            LT_TRY(encode_cached(r, s + start, at - start, false, out, err));
            start = at;
        }
        last = cp;
        before = at;
    }
    return encode_cached(r, s + start, n - start, false, out, err);
}

/* Short texts do without: clearing the table would cost more than it saves. */
static void make_cache(run *r, size_t text_bytes) {
    size_t slots = 256;
    if (text_bytes < 1024) return;
    while (slots < text_bytes / 8 && slots < 65536) slots *= 2;
    r->cache = lt_calloc(slots, sizeof *r->cache); /* without memory for it we are only slower */
    r->cache_mask = slots - 1;
}

static lt_status bpe_run(const void *self, const lt_vocab *v, lt_tok_text *t, lt_tok_ids *out, lt_err *err) {
    run r = { .b = self, .v = v };
    if (r.b->prefix || r.b->suffix) LT_TRY(lt_tok_text_spell_out(t, err));
    const bool plain = !t->symbols && !r.b->prefix && !r.b->suffix;
    make_cache(&r, t->len);
    lt_status st = LT_OK;
    for (size_t i = 0; i < t->spans.n && st == LT_OK; i++) {
        const lt_tok_span s = t->spans.v[i];
        if (s.id >= 0)
            st = lt_tok_ids_put(out, s.id, err);
        else if (plain && s.end - s.start > lt_max_size(SEEN_BYTES, r.b->longest)) /* longer than any whole word */
            st = encode_cut(&r, t->data + s.start, s.end - s.start, out, err);
        else
            st = encode_cached(&r, t->data + s.start, s.end - s.start, t->symbols, out, err);
    }
    word_clear(&r.w);
    lt_tok_buf_clear(&r.tmp);
    lt_free(r.cache);
    return st;
}

const lt_tok_model_row lt_tok_bpe = {
    .type = "BPE", .recognise = bpe_recognise, .parse = bpe_parse, .destroy = bpe_destroy, .run = bpe_run
};
