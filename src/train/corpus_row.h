/* SPDX-License-Identifier: Apache-2.0 */
/* train/corpus_row.h - one row of JSON lines as ids; private to the room. */
#ifndef LT_TRAIN_CORPUS_ROW_H
#define LT_TRAIN_CORPUS_ROW_H

#include "calib/recipe.h"
#include "io/json.h"
#include "train/corpus.h"

/* A document's ids; those of prompts carry LT_NOT_A_TARGET. Empty: an empty "text". name: the file, for messages. */
lt_status lt_corpus_row(lt_ids *out, const lt_corpus_in *in, const json_t *row, const char *name, lt_err *err);
/* "messages" by the chat template: what assistants say, and what ends it, are the targets. */
lt_status lt_corpus_messages(lt_ids *out, const lt_corpus_in *in, const json_t *row, const char *name, lt_err *err);
/* Appends text; special: the tokenizer's own beginning and end too. */
lt_status lt_corpus_text(lt_ids *out, const lt_corpus_in *in, const char *text, size_t bytes, bool special,
                         lt_err *err);
/* The end-of-text id, unless it is there already. */
lt_status lt_corpus_end(lt_ids *out, const lt_corpus_in *in, lt_err *err);

#endif
