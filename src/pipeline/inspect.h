/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/inspect.h - the tables of `inspect`, a function for each kind of thing that a path may be. */
#ifndef LT_PIPELINE_INSPECT_H
#define LT_PIPELINE_INSPECT_H

#include "pipeline/open_model.h"

typedef struct lt_inspect {
    lt_call_ctx *c;
    json_t *result;
    const char *path;
    bool all; /* every tensor, module, site, cut */
} lt_inspect;

lt_status lt_inspect_model(const lt_inspect *in, lt_err *err);   /* folder, output folder, GGUF of a supported family */
lt_status lt_inspect_adapter(const lt_inspect *in, lt_err *err); /* PEFT folder */
lt_status lt_inspect_tokenizer(const lt_inspect *in, lt_err *err); /* folder or tokenizer.json */
lt_status lt_inspect_gguf(const lt_inspect *in, lt_err *err);      /* metadata and tensors, whatever the architecture */
lt_status lt_inspect_safetensors(const lt_inspect *in, lt_err *err); /* stats, tokens, anything */
lt_status lt_inspect_json(const lt_inspect *in, lt_err *err);        /* plan, result */

/* Two-column table of properties, which are also members of an object of the result. */
typedef struct lt_props {
    json_t *object, *rows;
} lt_props;
lt_props lt_props_begin(json_t *result, const char *name);
void lt_prop(const lt_props *p, const char *name, json_t *value); /* steals value; "name|B": bytes */

void lt_inspect_tokenizer_table(json_t *result, const lt_tokenizer *tok);

#endif
