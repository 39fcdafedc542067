/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/healing.h - training as `heal`, `train` and `compress` ask for it: options to what train/ runs on. */
#ifndef LT_PIPELINE_HEALING_H
#define LT_PIPELINE_HEALING_H

#include "pipeline/estimate.h"
#include "pipeline/outdir.h"
#include "pipeline/subject.h"
#include "train/corpus.h"
#include "train/preset.h"
#include "train/run.h"

typedef struct lt_heal_opts {
    const lt_preset *preset;
    lt_train_budget budget;
    lt_trainer_opts trainer;
    double warmup_share, decay_share, valid_share, save_seconds;
    size_t batch, accumulate, seq_len, eval_every, save_every, keep;
    lt_train_lora lora;
    lt_decay_what decay;
    const char **freeze, **only; /* NULL-terminated, owned */
    const char **data, **valid_data;
    const char *template_file; /* chat template; NULL: the model's */
    bool isolate, shuffle, take_best;
    uint64_t seed;
} lt_heal_opts;
/* The options of heal and train (healing_rows.h; LoRA's of heal alone), whose texts are borrowed. What is not given and
 * has no default there comes from the preset. LT_EUSAGE: more than one budget, a time that is none. */
lt_status lt_heal_options(lt_heal_opts *o, const lt_args *a, const lt_model *m, lt_err *err);
void lt_heal_opts_clear(lt_heal_opts *o);
/* What of that no model is needed for; for lt_command.check. */
lt_status lt_heal_options_check(const lt_args *a, lt_err *err);

/* "90", "90s", "30m", "1.5h", "2d": seconds */
bool lt_seconds_parse(double *out, const char *text);

typedef struct lt_heal_in {
    const lt_call_ctx *c;
    lt_outdir *out; /* its folder holds the work; steps "data" and "validation data" are marked in it */
    const lt_model *model;
    const lt_tokenizer *tokenizer;
    const lt_heal_opts *o;
    bool merge; /* adapters will be merged: what cannot be is refused before it trains */
} lt_heal_in;
typedef struct lt_healed {
    lt_trainee *trainee;
    lt_run_done done;
    /* the rows are open, so that what was made of it can be measured */
    lt_corpus corpus, valid_corpus;
    lt_train_rows rows, valid_rows;
    size_t *index;
    lt_row_set train, valid;
} lt_healed;
/* Adds the hashes of the data files to settings (which the outdir is begun with). */
lt_status lt_heal_settings(json_t *settings, const lt_heal_opts *o, lt_err *err);
lt_status lt_heal(lt_healed *h, const lt_heal_in *in, lt_err *err);
/* What trained becomes the model's weights, in f32, as lt_merge_within has it. */
lt_status lt_heal_merge(lt_healed *h, const lt_call_ctx *c, lt_err *err);
void lt_healed_clear(lt_healed *h);
/* {"preset", "steps", ...}: what was done, without times. New reference, NULL: out of memory. */
json_t *lt_heal_json(const lt_healed *h, const lt_heal_opts *o);
/* Perplexity of a model on the validation rows; NAN: there are none. */
lt_status lt_heal_measure(double *ppl, const lt_healed *h, const lt_model *m, lt_team *team, lt_err *err);
/* Removes what only training needed: checkpoints, ids. */
lt_status lt_heal_sweep(const lt_outdir *out, lt_err *err);
void lt_heal_estimate(lt_estimate *e, const lt_heal_opts *o, const lt_model *m);

#endif
