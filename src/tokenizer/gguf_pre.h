/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/gguf_pre.h - what a GGUF says of a tokenizer by name or number alone; private to the tokenizer room.
 *
 * tokenizer.ggml.pre names the pipeline of a byte-level BPE: one row per name, read in both directions. Names and what
 * they stand for: llama.cpp, src/llama-vocab.cpp. */
#ifndef LT_TOKENIZER_GGUF_PRE_H
#define LT_TOKENIZER_GGUF_PRE_H

#include "io/json.h"

typedef struct lt_gguf_pre {
    const char *name[4];                    /* values of tokenizer.ggml.pre; the first is written */
    const char *normalizer, *pre_tokenizer; /* as in tokenizer.json */
    bool ignore_merges, add_bos;            /* add_bos: where the file does not say */
} lt_gguf_pre;

const lt_gguf_pre *lt_gguf_pre_find(const char *name); /* NULL: unknown */
/* LT_EUNSUPPORTED that lists the known names. */
lt_status lt_gguf_pre_unknown(const char *name, const char *where, lt_err *err);
/* The row whose pipeline is that of the tokenizer.json root; *out NULL: none. */
lt_status lt_gguf_pre_of(const lt_gguf_pre **out, const json_t *root, lt_err *err);

/* Values of tokenizer.ggml.token_type. */
enum {
    LT_GGUF_TOKEN_NORMAL = 1,
    LT_GGUF_TOKEN_UNKNOWN = 2,
    LT_GGUF_TOKEN_CONTROL = 3,
    LT_GGUF_TOKEN_USER = 4,
    LT_GGUF_TOKEN_UNUSED = 5,
    LT_GGUF_TOKEN_BYTE = 6
};

#endif
