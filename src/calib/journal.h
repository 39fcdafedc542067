/* SPDX-License-Identifier: Apache-2.0 */
/* calib/journal.h - finished layers of an unfinished calibration, in OUT.partial/; private to the room.
 *
 *   OUT.partial/settings.json           what must not change
 *   OUT.partial/layer-00012.safetensors the sums of a finished layer, with a checksum ("head.safetensors": the head's;
 *                                       "grads.safetensors": those of the backward pass)
 *   OUT.partial/state.safetensors       hidden states at the border reached (model/runner.h)
 * Every file appears whole or not at all. A lock keeps other processes out. */
#ifndef LT_CALIB_JOURNAL_H
#define LT_CALIB_JOURNAL_H

#include "calib/observe.h"
#include "calib/stats_file.h"

typedef struct lt_journal {
    char *folder, *state_path, *lock_path;
    int lock;
    bool locked;
    size_t n_layers_done; /* consecutive, from 0, whole */
    bool head_done, grads_done;
    bool found; /* there was unfinished work */
} lt_journal;

/* Opens or starts the folder. LT_EUSAGE naming the first of settings that differs from the unfinished work's;
 * "settings" members one by one. */
lt_status lt_journal_open(lt_journal *j, const char *out_path, const json_t *settings, const lt_calib_sites *sites,
                          lt_err *err);
void lt_journal_close(lt_journal *j);                    /* leaves the work */
lt_status lt_journal_remove(lt_journal *j, lt_err *err); /* the folder, when its result is safe */
/* Writes the accumulators of a layer (-1: the head, -2: gradients). */
lt_status lt_journal_put(const lt_journal *j, const lt_calib_sites *sites, int layer, lt_err *err);
/* Puts the journaled sums of all sites together as a stats file. */
lt_status lt_journal_assemble(const lt_journal *j, const lt_calib_sites *sites, const char *path,
                              const lt_stats_head *head, lt_err *err);

#endif
