/* SPDX-License-Identifier: Apache-2.0 */
/* train/corpus.h - data files as ids on disk: made once, mapped ever after, so that neither text nor ids need fit into
 * memory.
 *
 * Text and JSON lines become documents, each ended by the model's end-of-text id. A row of JSON lines has "text", or
 * "instruction" (, "input") and "output" (Stanford's template), or "messages" (the model's chat template): prompts are
 * marked as no targets, answers and what ends them are targets. Empty texts are left out and counted. A token file
 * brings rows of its own. The files: int32 ids with LT_NOT_A_TARGET, and u64 starts of documents with the end behind.
 */
#ifndef LT_TRAIN_CORPUS_H
#define LT_TRAIN_CORPUS_H

#include "chat/chat.h"
#include "train/rows.h"

typedef struct lt_corpus_in {
    const char *const *files; /* [n] text, JSON lines, gzip or zstd of them; or one token file */
    size_t n;
    const lt_tokenizer *tok; /* NULL: token files only */
    const lt_chat *chat;     /* for "messages"; NULL: there is none, and why_no_chat says why */
    const char *why_no_chat;
    size_t vocab_size;
    int32_t eos; /* -1: none */
    const char *ids_path, *docs_path;
    const lt_ctx *ctx; /* progress; may be NULL */
} lt_corpus_in;
typedef struct lt_corpus_note {
    size_t n_ids, n_docs, n_empty;
    bool given, isolated; /* a token file: its documents are its rows */
} lt_corpus_note;
/* Writes both files. LT_EDATA names file and line: no known field, an instruction without "output", no assistant's
 * answer among messages; nothing at all. */
lt_status lt_corpus_make(lt_corpus_note *out, const lt_corpus_in *in, lt_err *err);

typedef struct lt_corpus {
    lt_buffer ids_map, docs_map;
    const int32_t *ids;
    const uint64_t *doc; /* [n_docs + 1] */
    lt_corpus_note note;
} lt_corpus;
lt_status lt_corpus_open(lt_corpus *out, const char *ids_path, const char *docs_path, const lt_corpus_note *note,
                         lt_err *err);
void lt_corpus_close(lt_corpus *c);
/* Windows of seq_len over all documents, or the token file's rows (seq_len must hold the longest: LT_EDATA). */
lt_status lt_corpus_rows(lt_train_rows *out, const lt_corpus *c, size_t seq_len, bool isolated, lt_err *err);

#endif
