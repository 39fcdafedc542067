/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/speed.h - how fast a model reads and writes, and how much memory that takes.
 *
 * A child process does it: its peak resident memory is this model's alone, whatever was open before. Greedy generation
 * of a fixed number of tokens, after a short run that brings the weights into memory; the best of up to three runs. */
#ifndef LT_PIPELINE_SPEED_H
#define LT_PIPELINE_SPEED_H

#include "model/generate.h"
#include "pipeline/command.h"

typedef struct lt_speed {
    double prefill_tok_s, decode_tok_s;
    size_t prompt, new_tokens;
    size_t peak_bytes; /* resident, of the child */
} lt_speed;
typedef struct lt_speed_in {
    const lt_call_ctx *c;
    const lt_model *model;
    const int32_t
        *ids; /* [prompt] what is read; shortened, as is new_tokens (>= 2), to what the model has positions for */
    size_t prompt, new_tokens;
    size_t at, of; /* for progress: which of how many models this is */
} lt_speed_in;
lt_status lt_speed_measure(lt_speed *out, const lt_speed_in *in, lt_err *err);

#endif
