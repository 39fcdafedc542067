/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/forward_input.h - a padded [B, T] batch, as Hugging Face code passes it, turned into packed rows and pieces.
 *
 *   input_ids      [B, T] integers
 *   attention_mask [B, T] non-zero: a token; zeros at either end are padding and are taken out, a hole between is
 * refused position_ids   [B, T] or [1, T]; without it positions count from 0 in each piece cu_seqlens     [n + 1]
 * borders of documents in the flattened batch, 0 first, B*T last Without cu_seqlens a position that does not continue
 * the one before starts a new piece. */
#ifndef LT_PIPELINE_FORWARD_INPUT_H
#define LT_PIPELINE_FORWARD_INPUT_H

#include "io/safetensors.h"
#include "nn/exec.h"

typedef struct lt_forward_input {
    size_t B, T;
    size_t n_rows;    /* tokens that are not padding */
    int32_t *ids;     /* [n_rows] */
    size_t *place;    /* [n_rows] b * T + t */
    int32_t *target;  /* [n_rows] the next id of the same piece, or -1 */
    size_t n_targets; /* of them that are there */
    lt_piece *piece;  /* rows count within their batch */
    size_t n_pieces;
    lt_batch *batch;   /* about max_tokens rows each; a piece is never cut */
    size_t *batch_row; /* [n_batches] first packed row */
    size_t n_batches;
} lt_forward_input;
lt_status lt_forward_input_load(lt_forward_input *out, const lt_safetensors *st, size_t vocab_size, size_t max_tokens,
                                lt_err *err);
void lt_forward_input_clear(lt_forward_input *in);

#endif
