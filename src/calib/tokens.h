/* SPDX-License-Identifier: Apache-2.0 */
/* calib/tokens.h - token files, and text made into them (docs/formats/tokens.md, "lathe-tokens/1").
 *
 * A token set is rows of ids: row i holds ids[row_start[i] .. row_start[i+1]). Rows are what the model sees at once;
 * when `isolated`, documents never share a row. Texts: plain text, JSONL ("text", Alpaca, "messages" rendered by the
 * model's chat template), gzip and zstd of them (by magic), token files, and safetensors with one integer matrix [rows,
 * len]. */
#ifndef LT_CALIB_TOKENS_H
#define LT_CALIB_TOKENS_H

#include "chat/chat.h"
#include "core/hash.h"
#include "nn/exec.h"
#include "tokenizer/tokenizer.h"

typedef struct lt_tokens {
    int32_t *ids;
    size_t n_ids;
    size_t *row_start; /* [n_rows + 1] */
    size_t n_rows;
    uint64_t *content_id; /* [n_rows]: first 8 bytes of SHA-256 over the row's ids as little-endian u32 */
    bool isolated;
    char tokenizer_hash[LT_HASH_HEX];
    char *source, *recipe;  /* file name (no folders); "plain", "svdllm" ... */
    char hash[LT_HASH_HEX]; /* over ids, row starts, isolation */
} lt_tokens;
void lt_tokens_clear(lt_tokens *t);
lt_status lt_tokens_save(const lt_tokens *t, const char *path, lt_err *err);
lt_status lt_tokens_load(lt_tokens *t, const char *path, lt_err *err);

/* How text becomes rows (docs/formats/tokens.md).
 *   plain     every document tokenised alone, one after the other, cut into rows of seq_len; the tail is dropped
 *   minitron  the same with an end-of-text id after each
 *   svdllm    spec utilized-rank §1.4: rows at random character offsets of the joined text (seed)
 *   wikitext  spec evaluation §10: lines joined by "\n\n", one tokenisation, floor(n / seq_len) rows
 *   rows      spec utilized-rank §8.1: every line alone, cut to seq_len: rows differ in length */
typedef struct lt_tokens_opts {
    const char *recipe;       /* a row of the recipe table */
    size_t seq_len, max_rows; /* max_rows 0: all */
    uint64_t seed;
    const lt_chat *chat;   /* for rows of "messages"; NULL: such rows are refused */
    const lt_err *no_chat; /* why chat is NULL; NULL or code 0: the model has no template */
} lt_tokens_opts;
/* path: text, JSONL, compressed text or token file (then only checked: tokenizer hash, ids below vocab_size). Too
 * little text for one row: LT_EDATA with counts. */
lt_status lt_tokens_from_data(lt_tokens *out, const char *path, const lt_tokenizer *tok, size_t vocab_size,
                              const lt_tokens_opts *o, lt_err *err);
bool lt_is_token_file(const char *path); /* safetensors, by its first bytes */
/* Reads a whole text file, undoing gzip or zstd. lt_free. */
lt_status lt_text_read(char **text, size_t *bytes, const char *path, lt_err *err);
/* One lt_batch per group of rows with about max_rows_per_batch tokens (a row is never cut): pieces with pos0 0. Borrows
 * t; lt_batches_free. */
lt_status lt_tokens_batches(lt_batch **out, size_t *n, const lt_tokens *t, size_t max_tokens_per_batch, lt_err *err);
void lt_batches_free(lt_batch *b, size_t n);

#endif
