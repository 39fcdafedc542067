/* SPDX-License-Identifier: Apache-2.0 */
/* calib/journal.h - finished layers of an unfinished calibration, in OUT.partial/; private to the room.
 *
 *   OUT.partial/settings.json      what must not change
 *   OUT.partial/stats.safetensors  the file to be: sums go to their places as layers are finished, its header comes
 * last OUT.partial/layer-00012.json   SHA-256 of each tensor of a finished layer ("head.json", "grads.json": of the
 * head, of the backward pass) OUT.partial/state.safetensors  hidden states at the border reached (model/runner.h) The
 * sums are written before their digests, and only the whole file is waited for until it is on disk: a kill loses
 * nothing that was written, and what a power cut damages differs from its digest and is done again. A lock keeps other
 * processes out. */
#ifndef LT_CALIB_JOURNAL_H
#define LT_CALIB_JOURNAL_H

#include "calib/observe.h"
#include "calib/stats_file.h"

typedef struct lt_journal {
    char *folder, *state_path;
    lt_stats_parts *parts;
    json_t *digests; /* of the layers that are done, {"<site>.<stat>": hex, ...} */
    int lock;
    bool locked;
    size_t n_layers_done; /* consecutive, from 0, whole */
    bool head_done, grads_done;
    bool found; /* there was unfinished work */
} lt_journal;

/* Opens or starts the folder. LT_EUSAGE naming the first of settings that differs from the unfinished work's;
 * "settings" members one by one. head: of the file to be; must stay. */
lt_status lt_journal_open(lt_journal *j, const char *out_path, const json_t *settings, const lt_calib_sites *sites,
                          const lt_stats_head *head, lt_err *err);
void lt_journal_close(lt_journal *j);                    /* leaves the work */
lt_status lt_journal_remove(lt_journal *j, lt_err *err); /* the folder, when its result is safe */
/* Writes the accumulators of a layer (-1: the head, -2: gradients). */
lt_status lt_journal_put(lt_journal *j, const lt_calib_sites *sites, int layer, lt_team *team, lt_err *err);
/* All sums are there: they become the stats file at path. */
lt_status lt_journal_finish(lt_journal *j, const char *path, lt_err *err);

#endif
