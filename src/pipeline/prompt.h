/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/prompt.h - the prompt of a verb that writes on: --prompt TEXT, --prompt-file FILE or --prompt-ids 1,2,3. */
#ifndef LT_PIPELINE_PROMPT_H
#define LT_PIPELINE_PROMPT_H

#include "pipeline/command.h"
#include "tokenizer/tokenizer.h"

/* Exactly one of the three options must be given; tok may be NULL for ids. *ids: lt_free; at least one. */
lt_status lt_prompt_read(int32_t **ids, size_t *n, const lt_args *args, const lt_tokenizer *tok, lt_err *err);

#endif
