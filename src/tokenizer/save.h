/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/save.h - a tokenizer in the other container: that of a GGUF as the files that Hugging Face loaders read,
 * that of a folder as the keys of a GGUF. */
#ifndef LT_TOKENIZER_SAVE_H
#define LT_TOKENIZER_SAVE_H

#include "io/gguf_writer.h"
#include "io/json.h"
#include "tokenizer/tokenizer.h"

/* Writes folder/tokenizer.json and folder/tokenizer_config.json (special tokens, chat template). The `tokenizers`
 * library and lt_tokenizer_open give the ids that lt_tokenizer_from_gguf gives. What lt_tokenizer_from_gguf refuses is
 * refused. */
lt_status lt_tokenizer_save_gguf(const struct lt_gguf *g, const char *folder, lt_err *err);

/* The keys "tokenizer.*" of a GGUF: model, pipeline by name, tokens with scores or merges, special ids, chat template,
 * of the tokenizer in folder for a model of vocab_size rows (ids without a token become unused ones). bos, eos: where
 * the folder names none; -1: none. *n_plain: added tokens whose lstrip, rstrip or single_word is lost; NULL: not asked.
 * LT_EUNSUPPORTED names the part that a GGUF cannot say. */
lt_status lt_tokenizer_put_gguf(lt_gguf_writer *w, const char *folder, size_t vocab_size, int32_t bos, int32_t eos,
                                size_t *n_plain, lt_err *err);

#endif
