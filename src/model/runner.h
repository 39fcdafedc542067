/* model/runner.h - many batches through all layers within a memory limit.
 *
 * Loops over groups of layers, then batches, then the layers of the group. Group 1 is layer-major (calibration, models
 * larger than memory), group n_layers is batch-major. Results do not depend on the group. Between groups the hidden
 * states of all batches are kept (in memory, or in a spill file beside the output); a finished group is a resume point.
 * With drop_weights each layer's mapped pages are given back when its group is done with it, so that resident memory
 * holds. */
#ifndef LT_MODEL_RUNNER_H
#define LT_MODEL_RUNNER_H

#include "model/model.h"

typedef struct lt_run_plan {
    size_t group;
    bool drop_weights, spill;
    size_t predicted_bytes;
} lt_run_plan;
typedef struct lt_run_in {
    const lt_model *model;
    lt_team *team;
    const lt_ctx *ctx; /* progress, memory; may be NULL */
    const lt_batch *batches;
    size_t n_batches;
    const lt_observer *observers;
    size_t n_observers;
    size_t first_layer;     /* resume: layers before it are done */
    const char *state_path; /* hidden states at group borders (safetensors, atomic); NULL: memory only, no resume */
    double state_seconds;   /* states kept in memory go to the file at most this often; 0: at every border */
    lt_run_plan plan;       /* from lt_run_make_plan, or set by hand */
    /* A group is complete: what was observed may be written. Called before the state file moves on. */
    lt_status (*group_done)(void *user, size_t first_layer, size_t n_layers, lt_err *err);
    /* Hidden state of a finished batch, after the final norm: [n_rows, d_embed] values of x; NULL: the final norm is
     * not run. */
    lt_status (*batch_done)(void *user, size_t batch, lt_exec *x, lt_var final, lt_err *err);
    bool check_finite; /* NaN/Inf in a hidden state: LT_EDATA "layer 12: block_out: row 3: nan" */
    void *user;
} lt_run_in;

/* Chooses group, spill and dropping so that the prediction stays within max_memory (0: no limit); extra_bytes is what
 * the caller holds beside the runner for one layer at a time, extra_layer_bytes for each layer of a group. layer_major:
 * force group 1 (resume points). LT_ENOMEM names the shortfall. */
lt_status lt_run_make_plan(lt_run_plan *out, const lt_model *m, const lt_batch *batches, size_t n_batches,
                           size_t max_memory, size_t extra_bytes, size_t extra_layer_bytes, size_t head_rows,
                           bool layer_major, lt_err *err);
lt_status lt_run(const lt_run_in *in, lt_err *err);

#endif
