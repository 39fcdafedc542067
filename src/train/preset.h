/* SPDX-License-Identifier: Apache-2.0 */
/* train/preset.h - what trains and how, as published recipes have it; every value of a recipe is the default of an
 * option that has none of its own.
 * Source: spec utilized-rank §7.1 (the presets of its reference code, with their faults mended). */
#ifndef LT_TRAIN_PRESET_H
#define LT_TRAIN_PRESET_H

#include "train/trainee.h"

typedef struct lt_train_recipe {
    double lr, beta1, beta2, decay, warmup_share, floor_share;
    size_t warmup_steps; /* 0: the share */
    const char *schedule;
    double epochs;
    size_t batch, accumulate, seq_len;
} lt_train_recipe;
typedef struct lt_preset {
    const char *name, *summary;
    lt_train_base base;
    bool lora;
    const lt_train_recipe *recipe;
} lt_preset;
extern const lt_preset *const lt_presets[]; /* NULL-terminated */
/* LT_EUSAGE lists the rows. */
lt_status lt_preset_find(const lt_preset **out, const char *name, lt_err *err);

#endif
