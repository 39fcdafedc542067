/* SPDX-License-Identifier: Apache-2.0 */
/* train/trainer.h - one step: gradients of the mean loss over all targets of the step's rows, clipping, the update.
 *
 *   loss = sum nll / targets of the step;  g *= min(1, clip / (|g| + 1e-6));  AdamW at lr(n), n = 0, 1, ...
 * Rows go through the model in batches of `micro` rows; their gradients add up, so that loss and gradient do not depend
 * on how a step is cut but for rounding. */
#ifndef LT_TRAIN_TRAINER_H
#define LT_TRAIN_TRAINER_H

#include "train/rows.h"
#include "train/schedule.h"
#include "train/trainee.h"

typedef struct lt_trainer_opts {
    lt_adamw adamw;
    lt_schedule schedule;
    double clip; /* 0: none */
    bool recompute;
    uint64_t seed; /* of dropout */
} lt_trainer_opts;
typedef struct lt_step {
    double loss, grad_norm, lr; /* norm before clipping */
    size_t targets, tokens;
} lt_step;

typedef struct lt_trainer lt_trainer;
lt_status lt_trainer_create(lt_trainer **out, lt_trainee *t, lt_team *team, const lt_trainer_opts *o, lt_err *err);
void lt_trainer_destroy(lt_trainer *t);
void lt_trainer_set_schedule(lt_trainer *t, const lt_schedule *s);
/* Loss and gradients of rows which[0..n), then the update of step n_step. A loss or norm that is not finite is LT_EDATA
 * naming the step, and nothing is updated. */
lt_status lt_trainer_step(lt_step *out, lt_trainer *t, const lt_train_rows *rows, const size_t *which, size_t n,
                          size_t micro, size_t n_step, lt_err *err);
/* The same work without the update; gradients are dropped. */
lt_status lt_trainer_rehearse(lt_trainer *t, const lt_train_rows *rows, const size_t *which, size_t n, size_t micro,
                              lt_err *err);
/* Sum of nll (nats) over the rows' targets, without gradients or dropout. */
lt_status lt_evaluate_rows(double *nll, size_t *targets, const lt_model *m, lt_team *team, const lt_train_rows *rows,
                           const size_t *which, size_t n, lt_err *err);
/* Bytes of values that a batch keeps for backward: memory prediction. */
size_t lt_trainer_exec_bytes(const lt_model *m, size_t tokens, bool recompute);

#endif
