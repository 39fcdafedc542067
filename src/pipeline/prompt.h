/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/prompt.h - the prompts of a verb that writes on: one as --prompt TEXT, --prompt-file FILE or --prompt-ids
 * 1,2,3, or many as --prompts FILE.
 *
 * A file of prompts is text, one a line (blank lines are passed over), or JSON lines: {"prompt": TEXT} or
 * {"prompt_ids": [...]}, with an "id" of any kind that comes back with the answer (default: the number of the prompt,
 * from 0).
 *
 * With a chat template a prompt is what the user says, after --system; a JSON line may have "messages" instead. */
#ifndef LT_PIPELINE_PROMPT_H
#define LT_PIPELINE_PROMPT_H

#include "chat/chat.h"
#include "pipeline/command.h"
#include "tokenizer/tokenizer.h"

typedef struct lt_prompt {
    int32_t *ids;
    size_t n;     /* >= 1 */
    json_t *id;   /* NULL for the one of the command line */
    json_t *text; /* as it was given; NULL: ids */
} lt_prompt;
typedef struct lt_prompts {
    lt_prompt *at;
    size_t n, cap; /* n >= 1 */
} lt_prompts;
/* Exactly one of the four options must be given; tok may be NULL for ids. max_positions: a longer prompt is LT_EDATA
 * naming both numbers and the line. chat: NULL for plain prompts. Clear also after a failure. */
lt_status lt_prompts_read(lt_prompts *p, const lt_args *args, const lt_tokenizer *tok, const lt_chat *chat,
                          size_t max_positions, lt_err *err);
void lt_prompts_clear(lt_prompts *p);

#endif
