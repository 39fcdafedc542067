/* SPDX-License-Identifier: Apache-2.0 */
/* eval/windows.h - what the measures over windows share. */
#ifndef LT_EVAL_WINDOWS_H
#define LT_EVAL_WINDOWS_H

#include "calib/tokens.h"

enum { LT_EVAL_BATCH_TOKENS = 2048 }; /* enough rows for full-speed products; more would only take memory */
/* LT_EDATA unless there is a window and each has two tokens. */
lt_status lt_eval_check(const lt_tokens *t, lt_err *err);
/* target [b->n_rows]: the token after each row; -1 for the last row of a window, which predicts nothing. */
void lt_eval_targets(int32_t *target, const lt_batch *b);
/* Rows of the largest batch. */
size_t lt_eval_most_rows(const lt_batch *b, size_t n);

#endif
