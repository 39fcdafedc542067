/* SPDX-License-Identifier: Apache-2.0 */
#include "train/preset.h"

#include <stdio.h>
#include <string.h>

static const lt_train_recipe usual = { .lr = 2e-4,
                                       .beta1 = 0.9,
                                       .beta2 = 0.999,
                                       .decay = 0.01,
                                       .warmup_share = 0.1,
                                       .schedule = "cosine",
                                       .epochs = 2,
                                       .batch = 4,
                                       .accumulate = 4,
                                       .seq_len = 512 },
                             stock = { .lr = 5e-5,
                                       .beta1 = 0.9,
                                       .beta2 = 0.999,
                                       .warmup_steps = 500,
                                       .schedule = "linear",
                                       .epochs = 2,
                                       .batch = 4,
                                       .accumulate = 1,
                                       .seq_len = 512 },
                             fresh = { .lr = 6e-4,
                                       .beta1 = 0.9,
                                       .beta2 = 0.95,
                                       .decay = 0.1,
                                       .warmup_share = 0.1,
                                       .floor_share = 0.1,
                                       .schedule = "cosine",
                                       .epochs = 1,
                                       .batch = 8,
                                       .accumulate = 1,
                                       .seq_len = 512 };

static const lt_preset lora = { "lora", "LoRA on the linears of the layers, on both factors of factored ones",
                                LT_TRAIN_NONE, true, &usual },
                       full = { "full", "every parameter: factors, dense linears, norms, embedding", LT_TRAIN_ALL,
                                false, &usual },
                       freeze = { "freeze", "the norms, the final one too, and the head where it is not tied",
                                  LT_TRAIN_NORMS_HEAD, false, &usual },
                       simple = { "simple",
                                  "every parameter, as a stock trainer does it: 5e-5, linear, 500 warm-up steps",
                                  LT_TRAIN_ALL, false, &stock },
                       scratch = { "scratch", "every parameter of a fresh model: 6e-4, cosine to a tenth, decay 0.1",
                                   LT_TRAIN_ALL, false, &fresh };
const lt_preset *const lt_presets[] = { &lora, &full, &freeze, &simple, &scratch, NULL };

lt_status lt_preset_find(const lt_preset **out, const char *name, lt_err *err) {
    char list[128] = "";
    size_t used = 0;
    for (size_t i = 0; lt_presets[i]; i++) {
        *out = lt_presets[i];
        if (strcmp((*out)->name, name) == 0) return LT_OK;
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", (*out)->name);
    }
    return lt_fail(err, LT_EUSAGE, "unknown preset \"%s\" (there are: %s)", name, list);
}
