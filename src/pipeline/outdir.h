/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/outdir.h - an output folder that is whole or not there.
 *
 *   DIR.partial/                  work in progress
 *   DIR.partial/unfinished.json   {"settings": {...}, "steps": {"NAME": note}}: whose work it is, what of it is done
 *   DIR/                          the same folder, renamed when everything in it is written
 *
 * The same call goes on with DIR.partial and ends with the same bytes, wherever the call before was killed; other
 * settings are refused by name. A lock keeps a second process out. */
#ifndef LT_PIPELINE_OUTDIR_H
#define LT_PIPELINE_OUTDIR_H

#include "pipeline/command.h"

/* What decides the bytes of an output and is not a file: {"verb", "version", "numbers" (BLAS, kernels), and every
 * option that is no path}. Hashes of inputs are added by the verb. NULL: out of memory. */
json_t *lt_settings_new(const lt_call_ctx *c);

/* An output that is there already is LT_EUSAGE unless --overwrite was given. */
lt_status lt_output_check(const lt_call_ctx *c, const char *path, lt_err *err);

typedef struct lt_outdir {
    char *path, *work; /* DIR, DIR.partial */
    json_t *state;
    int lock;
    bool resumed;
} lt_outdir;
/* Borrows settings. LT_EUSAGE: DIR is there and --overwrite is not given; DIR.partial is of other settings (the first
 * that differs is named) or not of lathe. Temporary files of a killed process are removed. */
lt_status lt_outdir_begin(lt_outdir *o, const lt_call_ctx *c, const char *path, const json_t *settings, lt_err *err);
/* Note of a finished step (borrowed); NULL: not done. */
const json_t *lt_outdir_step(const lt_outdir *o, const char *step);
/* Steals note. What the step made must be on disk. */
lt_status lt_outdir_mark(lt_outdir *o, const char *step, json_t *note, lt_err *err);
/* "DIR.partial/name" into memory of its own (lt_free). */
lt_status lt_outdir_file(char **out, const lt_outdir *o, const char *name, lt_err *err);
/* Writes result.json (with its "run") and command.txt, then DIR.partial becomes DIR. */
lt_status lt_outdir_commit(lt_outdir *o, const lt_call_ctx *c, json_t *result, double started, lt_err *err);
/* Commits r (taken) and, where that works, gives it to *result. */
lt_status lt_outdir_give(json_t **result, lt_outdir *o, const lt_call_ctx *c, json_t *r, double started, lt_err *err);
/* What a verb ends with: LT_EVERIFY says where its work is kept. What failed before anything was made leaves no folder:
 * the next call comes with other input, or more memory. */
lt_status lt_outdir_kept(const lt_outdir *o, lt_status st, lt_err *err);
void lt_outdir_close(lt_outdir *o); /* unfinished work stays; zeroed memory is fine */

#endif
