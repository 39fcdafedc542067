/* SPDX-License-Identifier: Apache-2.0 */
/* train/run.h - training from the first step to the last, in a folder that the same call can go on with.
 *
 *   FOLDER/checkpoint-*    train/checkpoint.h
 *   FOLDER/metrics.jsonl   a line per step and per validation: the same bytes however often it was interrupted
 *   FOLDER/speed.jsonl     seconds, tokens per second and memory per step: this machine's, these hours'
 *   FOLDER/events.out.tfevents.0.lathe    the numbers of metrics.jsonl for TensorBoard; wall times are those of this
 * run FOLDER/budget.json     steps that a time budget was worth, when it was measured Rows come epoch after epoch in
 * the order of (seed, epoch); step n takes rows [n S, (n + 1) S), S = batch x accumulate, of that stream. Every draw is
 * keyed by seed and step, so a step depends on the checkpoint before it alone. */
#ifndef LT_TRAIN_RUN_H
#define LT_TRAIN_RUN_H

#include "train/trainer.h"

typedef enum lt_budget_by { LT_BY_EPOCHS, LT_BY_STEPS, LT_BY_TOKENS, LT_BY_SECONDS } lt_budget_by;
typedef struct lt_train_budget {
    lt_budget_by by;
    double amount;
} lt_train_budget;
/* A list of rows. */
typedef struct lt_row_set {
    const lt_train_rows *rows;
    const size_t *index; /* [n], borrowed */
    size_t n;
} lt_row_set;

typedef struct lt_run_train {
    lt_trainee *trainee;
    lt_team *team;
    const lt_ctx *ctx;
    const char *folder;
    lt_row_set train, valid; /* valid.n 0: no validation */
    size_t batch, accumulate;
    bool shuffle;
    uint64_t seed;
    lt_train_budget budget;
    lt_trainer_opts trainer; /* schedule.steps and .warmup are set here */
    double warmup_share;     /* of the steps, when trainer.schedule.warmup is 0 */
    double decay_share;      /* wsd: of the steps, when trainer.schedule.decay is 0 */
    size_t eval_every;       /* steps; 0: ten times over the run */
    size_t save_every;       /* steps; 0: only every save_seconds */
    double save_seconds;     /* at most so long between checkpoints; no byte of the outcome depends on it */
    size_t keep;             /* checkpoints besides the best one */
    bool take_best;          /* end with the weights of the least validation loss */
} lt_run_train;
typedef struct lt_run_done {
    size_t steps, targets, tokens, n_spikes, best_step;
    double first_loss, last_loss;                 /* of steps: nats per target */
    double valid_before, valid_after, valid_best; /* nats per target; NAN: no validation */
    bool resumed;
    size_t resumed_step;
} lt_run_done;
/* LT_EDATA: a loss or gradient that is not finite, naming step and last checkpoint. LT_EINTERRUPTED: a checkpoint of
 * the last finished step has been written. */
lt_status lt_run_train_all(lt_run_done *out, const lt_run_train *in, lt_err *err);

/* Steps of a budget that is not in seconds. */
lt_status lt_budget_steps(size_t *steps, size_t *rows, const lt_run_train *in, lt_err *err);
/* A share of the rows, at least one, drawn by seed: *valid first, *train the rest, each ascending. LT_EDATA: one of
 * them would be empty. index: [n] room for both. */
lt_status lt_split_rows(size_t *index, size_t n, size_t n_valid, uint64_t seed, lt_err *err);

#endif
