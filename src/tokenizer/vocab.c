/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/vocab.h"

#include <string.h>

uint64_t lt_vocab_hash(const char *s, size_t bytes) {
    const uint64_t odd = 0x9E3779B97F4A7C15u;
    uint64_t h = bytes * odd, word;
    for (; bytes >= 8; bytes -= 8, s += 8) {
        memcpy(&word, s, 8);
        h = (h ^ word) * odd;
        h ^= h >> 32;
    }
    if (bytes > 0) {
        word = 0;
        for (size_t i = 0; i < bytes; i++) word = word << 8 | (unsigned char)s[i];
        h = (h ^ word) * odd;
        h ^= h >> 32;
    }
    return h * odd;
}

static bool same(const lt_vocab *v, int32_t id, const char *s, size_t bytes) {
    const lt_vocab_entry *e = &v->entry[id];
    return e->bytes == bytes && memcmp(v->text + e->start, s, bytes) == 0;
}

/* The slot that holds the string, or the free one where it would go. */
static size_t slot_of(const lt_vocab *v, const char *s, size_t bytes) {
    const size_t mask = v->n_slots - 1;
    size_t i = (size_t)(lt_vocab_hash(s, bytes) >> 20) & mask;
    while (v->slot[i] >= 0 && !same(v, v->slot[i], s, bytes)) i = (i + 1) & mask;
    return i;
}

static lt_status rehash(lt_vocab *v, lt_err *err) {
    const size_t n = v->n_slots ? v->n_slots * 2 : 1024;
    int32_t *slot = lt_malloc(n * sizeof *slot);
    if (!slot) return lt_fail(err, LT_ENOMEM, "vocabulary: no memory for %zu slots", n);
    for (size_t i = 0; i < n; i++) slot[i] = -1;
    lt_free(v->slot);
    v->slot = slot;
    v->n_slots = n;
    for (size_t id = 0; id < v->size; id++)
        if (v->entry[id].flags) slot[slot_of(v, v->text + v->entry[id].start, v->entry[id].bytes)] = (int32_t)id;
    return LT_OK;
}

static lt_status grow_entries(lt_vocab *v, size_t id, lt_err *err) {
    const size_t cap = lt_max_size(1024, lt_max_size(id + 1, v->cap * 2));
    lt_vocab_entry *entry = lt_realloc(v->entry, cap * sizeof *entry);
    if (!entry) return lt_fail(err, LT_ENOMEM, "vocabulary: no memory for %zu entries", cap);
    memset(entry + v->cap, 0, (cap - v->cap) * sizeof *entry);
    v->entry = entry;
    v->cap = cap;
    return LT_OK;
}

static lt_status grow_text(lt_vocab *v, size_t bytes, lt_err *err) {
    const size_t cap = lt_max_size(16384, lt_max_size(v->text_len + bytes, v->text_cap * 2));
    char *text = lt_realloc(v->text, cap);
    if (!text) return lt_fail(err, LT_ENOMEM, "vocabulary: no memory for %zu bytes", cap);
    v->text = text;
    v->text_cap = cap;
    return LT_OK;
}

lt_status lt_vocab_add(lt_vocab *v, int64_t id, const char *s, size_t bytes, unsigned flags, const char *where,
                       lt_err *err) {
    if (id < 0 || id > LT_VOCAB_MAX_ID)
        return lt_fail(err, LT_EDATA, "token id out of range (%s: \"%.80s\": %lld)", where, s, (long long)id);
    if (bytes > UINT32_MAX / 2)
        return lt_fail(err, LT_EDATA, "token too long (%s: id %lld: %zu bytes)", where, (long long)id, bytes);
    if (lt_vocab_has(v, id, LT_VOCAB_PRESENT))
        return lt_fail(err, LT_EDATA, "token id used twice (%s: \"%.80s\" and \"%.80s\": %lld)", where,
                       v->text + v->entry[id].start, s, (long long)id);
    if (2 * (v->count + 1) > v->n_slots) LT_TRY(rehash(v, err));
    const size_t at = slot_of(v, s, bytes);
    if (v->slot[at] >= 0)
        return lt_fail(err, LT_EDATA, "token in the vocabulary twice (%s: \"%.80s\": ids %d and %lld)", where, s,
                       v->slot[at], (long long)id);
    if ((size_t)id >= v->cap) LT_TRY(grow_entries(v, (size_t)id, err));
    if (bytes + 1 > v->text_cap - v->text_len) LT_TRY(grow_text(v, bytes + 1, err));
    v->entry[id] = (lt_vocab_entry){ v->text_len, (uint32_t)bytes, flags | LT_VOCAB_PRESENT };
    memcpy(v->text + v->text_len, s, bytes);
    v->text[v->text_len + bytes] = '\0';
    v->text_len += bytes + 1;
    v->slot[at] = (int32_t)id;
    v->size = lt_max_size(v->size, (size_t)id + 1);
    v->count++;
    return LT_OK;
}

void lt_vocab_clear(lt_vocab *v) {
    lt_free(v->entry);
    lt_free(v->text);
    lt_free(v->slot);
    *v = (lt_vocab){ 0 };
}

int32_t lt_vocab_find(const lt_vocab *v, const char *s, size_t bytes) {
    return v->n_slots ? v->slot[slot_of(v, s, bytes)] : -1;
}

int32_t lt_vocab_find_model(const lt_vocab *v, const char *s, size_t bytes) {
    const int32_t id = lt_vocab_find(v, s, bytes);
    return lt_vocab_has(v, id, LT_VOCAB_MODEL) ? id : -1;
}

const char *lt_vocab_get(const lt_vocab *v, int64_t id, size_t *bytes) {
    if (!lt_vocab_has(v, id, LT_VOCAB_PRESENT)) return NULL;
    if (bytes) *bytes = v->entry[id].bytes;
    return v->text + v->entry[id].start;
}

lt_status lt_vocab_parse(lt_vocab *v, const json_t *model, const char *where, lt_err *err) {
    json_t *vocab = NULL, *id;
    const char *token;
    LT_TRY(lt_json_need(&vocab, model, "vocab", where, err));
    if (!json_is_object(vocab)) return lt_fail(err, LT_EDATA, "not an object (%s: model.vocab)", where);
    json_object_foreach(vocab, token, id) {
        if (!json_is_integer(id))
            return lt_fail(err, LT_EDATA, "token id is not an integer (%s: model.vocab: \"%.80s\")", where, token);
        LT_TRY(lt_vocab_add(v, json_integer_value(id), token, strlen(token), LT_VOCAB_MODEL, where, err));
    }
    return LT_OK;
}
