/* SPDX-License-Identifier: Apache-2.0 */
/* train/checkpoint.h - where training stands, on disk (docs/formats/checkpoint.md): complete at any instant.
 *
 *   FOLDER/checkpoint-00000120/  weights.safetensors    values that train
 *                                optimizer.safetensors  m.<name>, v.<name>
 *                                state.json             last written: steps done, lengths of logs, losses
 * Made under another name and renamed; given up by a rename first. */
#ifndef LT_TRAIN_CHECKPOINT_H
#define LT_TRAIN_CHECKPOINT_H

#include "io/json.h"
#include "train/trainee.h"

/* state: any object with "step"; borrowed. A failed write leaves the older ones as they are. */
lt_status lt_checkpoint_save(const lt_trainee *t, const char *folder, size_t step, const json_t *state, lt_err *err);
/* Values, moments and state; LT_EDATA when the files do not fit what trains. weights_only: no moments. */
lt_status lt_checkpoint_load(lt_trainee *t, const char *folder, size_t step, bool weights_only, json_t **state,
                             lt_err *err);
/* Steps of the checkpoints in folder, ascending; lt_free. */
lt_status lt_checkpoint_list(size_t **steps, size_t *n, const char *folder, lt_err *err);
lt_status lt_checkpoint_remove(const char *folder, size_t step, lt_err *err);
/* All but the newest `keep` and the one of *best go; best NULL: there is none. */
lt_status lt_checkpoint_prune(const char *folder, size_t keep, const size_t *best, lt_err *err);

#endif
