/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/open_model.h - what a user names when a verb asks for a model or a tokenizer.
 *
 *   model:     a Hugging Face folder, a .gguf file, an output folder (DIR/model or DIR/model.gguf)
 *   tokenizer: any of these, a folder that holds tokenizer.json alone, or a tokenizer.json by name
 * What is no path is looked for in the cache of the hub (hub/hub.h): ORG/NAME[@REVISION][/FILE]. */
#ifndef LT_PIPELINE_OPEN_MODEL_H
#define LT_PIPELINE_OPEN_MODEL_H

#include "chat/chat.h"
#include "model/adapter.h"
#include "pipeline/command.h"
#include "tokenizer/tokenizer.h"

typedef struct lt_opened {
    lt_model *model;
    lt_adapters *adapters;   /* of --adapter; NULL: none */
    lt_tokenizer *tokenizer; /* NULL: not asked for, or not there */
} lt_opened;
typedef enum lt_with_tokenizer { LT_TOKENIZER_NO, LT_TOKENIZER_IF_THERE, LT_TOKENIZER_NEEDED } lt_with_tokenizer;
/* A path that is not there is LT_EIO; a folder that holds no model LT_EDATA saying what was looked for. */
lt_status lt_open_model(lt_opened *out, const char *name, lt_with_tokenizer with, lt_err *err);
void lt_opened_clear(lt_opened *o);

/* Row of every verb that runs or reads a model; on a model that other verbs compare with it has no effect. */
#define LT_ADAPTER_OPTION                                                                                              \
    { "adapter", LT_OPT_PATH, NULL, 0, 0, NULL, false, "DIR", "LoRA adapter (PEFT folder) that the model gets" }
/* Verbs that run the model leave the adapter beside its weights; verbs that read weights merge it in memory, rounded
 * as the weights are stored. */
typedef enum lt_adapt { LT_ADAPT_NO, LT_ADAPT_RUN, LT_ADAPT_MERGE } lt_adapt;
/* Nothing when --adapter is not given. On failure o is cleared. */
lt_status lt_opened_adapt(lt_opened *o, const lt_call_ctx *c, lt_adapt how, lt_err *err);
lt_status lt_open_tokenizer(lt_tokenizer **out, const char *name, lt_err *err);

/* The chat template of a model or of what lt_open_tokenizer takes, or of `file` where it is not NULL; *out NULL: there
 * is none. */
lt_status lt_model_chat(lt_chat **out, const lt_model *m, const lt_tokenizer *tok, const char *file, lt_err *err);
lt_status lt_open_chat(lt_chat **out, const char *name, const lt_tokenizer *tok, const char *file, lt_err *err);
/* The option that names such a file. */
#define LT_TEMPLATE_OPTION(use)                                                                                        \
    {                                                                                                                  \
        "template", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE",                                                      \
            use " (docs/formats/chat.md); default: the model's own"                                                    \
    }

/* Of an opened model: the tokenizer of its folder or GGUF; *out NULL when it has none. */
lt_status lt_model_tokenizer(lt_tokenizer **out, const lt_model *m, lt_err *err);

/* Before a merge: a quarter of --max-memory is for merged weights, the others lie in spill files. */
lt_status lt_merge_within(const lt_call_ctx *c, lt_adapters *a, lt_err *err);

/* LT_ENOMEM naming the shortfall when bytes are more than the context allows. */
lt_status lt_need_memory(const lt_call_ctx *c, size_t bytes, lt_err *err);

#endif
