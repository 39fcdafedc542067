/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/vocab.h - strings to ids and back. Ids may have holes; no two entries share an id or a string. */
#ifndef LT_TOKENIZER_VOCAB_H
#define LT_TOKENIZER_VOCAB_H

#include "io/json.h"

enum {
    LT_VOCAB_PRESENT = 1, /* the id is taken */
    LT_VOCAB_MODEL = 2,   /* belongs to the model's own vocabulary: the model may produce it */
    LT_VOCAB_SPECIAL = 4,
    LT_VOCAB_ADDED = 8
}; /* is in the list of added tokens */

typedef struct lt_vocab_entry {
    size_t start;
    uint32_t bytes, flags;
} lt_vocab_entry;
typedef struct lt_vocab {
    lt_vocab_entry *entry; /* [size] by id */
    size_t size, cap;      /* size = 1 + largest id */
    size_t count;
    char *text; /* all strings, each NUL-terminated */
    size_t text_len, text_cap;
    int32_t *slot; /* hash table of ids, -1 is free; a power of two, at most half full */
    size_t n_slots;
} lt_vocab;

/* Largest id that a file may use: keeps a hostile id from asking for gigabytes. */
#define LT_VOCAB_MAX_ID ((1 << 22) - 1)

/* Copies the string. LT_EDATA (naming `where`): id out of range or taken, string taken. */
lt_status lt_vocab_add(lt_vocab *v, int64_t id, const char *s, size_t bytes, unsigned flags, const char *where,
                       lt_err *err);
/* Every token of the object "vocab" {token: id} of a model in tokenizer.json. */
lt_status lt_vocab_parse(lt_vocab *v, const json_t *model, const char *where, lt_err *err);
void lt_vocab_clear(lt_vocab *v);
int32_t lt_vocab_find(const lt_vocab *v, const char *s, size_t bytes);       /* -1: absent */
int32_t lt_vocab_find_model(const lt_vocab *v, const char *s, size_t bytes); /* only what the model may produce */
/* NULL: no such id. NUL-terminated. */
const char *lt_vocab_get(const lt_vocab *v, int64_t id, size_t *bytes);
static inline bool lt_vocab_has(const lt_vocab *v, int64_t id, unsigned flags) {
    return id >= 0 && (uint64_t)id < v->size && (v->entry[id].flags & flags) == flags;
}

/* For tables keyed by bytes: fast, not for hostile keys. */
uint64_t lt_vocab_hash(const char *s, size_t bytes);

#endif
