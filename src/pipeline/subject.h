/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/subject.h - what the measuring and compressing verbs open: a model with its name and hash, and text as its
 * tokens. */
#ifndef LT_PIPELINE_SUBJECT_H
#define LT_PIPELINE_SUBJECT_H

#include "calib/tokens.h"
#include "pipeline/open_model.h"

typedef struct lt_subject {
    lt_opened o;
    char *id; /* manifest.h */
    char hash[LT_HASH_HEX];
    json_t *adapter; /* {"id", "hash"} of --adapter; NULL: none */
} lt_subject;
/* how: what --adapter does to it; the hash, and the id, are then of both. */
lt_status lt_subject_open(lt_subject *s, const lt_call_ctx *c, const char *path, lt_adapt how, lt_err *err);
void lt_subject_clear(lt_subject *s);

/* Text, JSONL or a token file as rows for the model. A token file needs no tokenizer. The log gets one decoded sample.
 */
lt_status lt_subject_tokens(lt_tokens *out, const lt_subject *s, const lt_call_ctx *c, const char *data,
                            const lt_tokens_opts *o, lt_err *err);

/* Window of an evaluation: --window, or when it is not given the least of 2048 and the models' positions. A window
 * beyond a model's positions is LT_EUSAGE. */
lt_status lt_window_choose(size_t *window, const lt_call_ctx *c, const lt_subject *const *s, size_t n, lt_err *err);

/* FLOPs of running every row through m; heads: also logits of every row. */
lt_status lt_tokens_flops(double *flops, const lt_model *m, const lt_tokens *t, bool heads, lt_err *err);

/* {"name": "block", "label": "ppl_block_2048", "recipe", "window", "windows", "tokens", "data", "tokens_hash"} */
json_t *lt_protocol_json(const char *name, const lt_tokens *t, size_t window);

#endif
