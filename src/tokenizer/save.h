/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/save.h - the tokenizer of a GGUF as the files that Hugging Face loaders read. */
#ifndef LT_TOKENIZER_SAVE_H
#define LT_TOKENIZER_SAVE_H

#include "tokenizer/tokenizer.h"

/* Writes folder/tokenizer.json and folder/tokenizer_config.json (special tokens, chat template). The `tokenizers`
 * library and lt_tokenizer_open give the ids that lt_tokenizer_from_gguf gives. What lt_tokenizer_from_gguf refuses is
 * refused. */
lt_status lt_tokenizer_save_gguf(const struct lt_gguf *g, const char *folder, lt_err *err);

#endif
