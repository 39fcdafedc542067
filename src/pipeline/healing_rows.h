/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/healing_rows.h - option rows that `heal` and `train` share; healing.h reads them. */
#ifndef LT_PIPELINE_HEALING_ROWS_H
#define LT_PIPELINE_HEALING_ROWS_H

#include "pipeline/command.h"

#define LT_TRAINING_OPTIONS                                                                                                 \
    { "data",                                                                                                               \
      LT_OPT_PATH,                                                                                                          \
      lt_required,                                                                                                          \
      0,                                                                                                                    \
      0,                                                                                                                    \
      NULL,                                                                                                                 \
      true,                                                                                                                 \
      "FILE",                                                                                                               \
      "what to train on: text, JSON lines (text, messages, or instruction and output), gzip or zstd of them; or a "         \
      "token "                                                                                                              \
      "file" },                                                                                                             \
        { "validation-data",                                                                                                \
          LT_OPT_PATH,                                                                                                      \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0,                                                                                                                \
          NULL,                                                                                                             \
          true,                                                                                                             \
          "FILE",                                                                                                           \
          "what to validate on; default: a share of the rows of --data, which are not trained on" },                        \
        { "validation-share", LT_OPT_REAL, "0.05", 0, 0.9, NULL, false, "SHARE", "of the rows kept apart; 0: none" },       \
        { "epochs", LT_OPT_REAL, NULL, 1e-6, 1e6, NULL, false, "E", "budget: passes over the rows" },                       \
        { "steps", LT_OPT_INT, NULL, 1, 0x1p40, NULL, false, "N", "budget: updates" },                                      \
        { "train-tokens",                                                                                                   \
          LT_OPT_INT,                                                                                                       \
          NULL,                                                                                                             \
          1,                                                                                                                \
          0x1p50,                                                                                                           \
          NULL,                                                                                                             \
          false,                                                                                                            \
          "N",                                                                                                              \
          "budget: targets (prompts and padding do not count), up to the end of a step" },                                  \
        { "time",                                                                                                           \
          LT_OPT_STRING,                                                                                                    \
          NULL,                                                                                                             \
          0,                                                                                                                \
          0,                                                                                                                \
          NULL,                                                                                                             \
          false,                                                                                                            \
          "TIME",                                                                                                           \
          "budget: 90s, 30m, 2h; becomes a number of steps by measuring one" },                                             \
        { "batch", LT_OPT_INT, NULL, 1, 1 << 20, NULL, false, "ROWS", "rows that go through the model at once" },           \
        { "accumulate", LT_OPT_INT, NULL, 1, 1 << 20, NULL, false, "N", "batches per update" },                             \
        { "seq-len", LT_OPT_INT, NULL,                                                                                      \
          2,         1 << 24,    NULL,                                                                                      \
          false,     "N",        "tokens per row; default: the preset's, or the model's positions where fewer" },           \
        { "isolate", LT_OPT_FLAG, "true",                                                                                   \
          0,         0,           NULL,                                                                                     \
          false,     NULL,        "documents in a row do not see each other; false: they do" },                             \
        { "shuffle", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL, "rows in an order drawn by --seed for each epoch" },     \
        { "seed", LT_OPT_INT, "42", 0, 0x1p53, NULL, false, "N", "of everything that is drawn" },                           \
        { "lr", LT_OPT_REAL, NULL, 0, 10, NULL, false, "RATE", "highest learning rate" },                                   \
        { "schedule", LT_OPT_STRING, NULL, 0, 0, "cosine|linear|constant|wsd", false, NULL, "shape of the learning rate" }, \
        { "warmup-steps", LT_OPT_INT, NULL, 0, 0x1p40, NULL, false, "N", "steps of rising rate" },                          \
        { "warmup-share", LT_OPT_REAL, NULL, 0, 1, NULL, false, "SHARE", "the same as a share of all steps" },              \
        { "decay-steps",                                                                                                    \
          LT_OPT_INT,                                                                                                       \
          NULL,                                                                                                             \
          1,                                                                                                                \
          0x1p40,                                                                                                           \
          NULL,                                                                                                             \
          false,                                                                                                            \
          "N",                                                                                                              \
          "wsd: last steps, in which the rate falls; default: a fifth" },                                                   \
        { "min-lr", LT_OPT_REAL, "0", 0, 10, NULL, false, "RATE", "the rate falls no lower" },                              \
        { "min-lr-share", LT_OPT_REAL, NULL, 0, 1, NULL, false, "SHARE", "the same as a share of --lr" },                   \
        { "weight-decay", LT_OPT_REAL, NULL, 0, 100, NULL, false, "D", "AdamW's" },                                         \
        { "decay",                                                                                                          \
          LT_OPT_STRING,                                                                                                    \
          "matrices",                                                                                                       \
          0,                                                                                                                \
          0,                                                                                                                \
          "matrices|all",                                                                                                   \
          false,                                                                                                            \
          NULL,                                                                                                             \
          "what decays: the matrices of linears, or norms, biases and the embedding too" },                                 \
        { "beta1", LT_OPT_REAL, NULL, 0, 0.999999, NULL, false, "B", "AdamW's first moment" },                              \
        { "beta2", LT_OPT_REAL, NULL, 0, 0.999999, NULL, false, "B", "AdamW's second moment" },                             \
        { "eps", LT_OPT_REAL, "1e-8", 0, 1, NULL, false, "E", "AdamW's" },                                                  \
        { "clip", LT_OPT_REAL, "1", 0, 1e9, NULL, false, "NORM", "longest gradient; 0: as it is" },                         \
        { "freeze", LT_OPT_STRING, NULL, 0, 0, NULL, true, "REGEX", "tensors whose name matches do not train" },            \
        { "train-only", LT_OPT_STRING, NULL, 0, 0, NULL, true, "REGEX", "only tensors whose name matches train" },          \
        { "recompute",                                                                                                      \
          LT_OPT_FLAG,                                                                                                      \
          "true",                                                                                                           \
          0,                                                                                                                \
          0,                                                                                                                \
          NULL,                                                                                                             \
          false,                                                                                                            \
          NULL,                                                                                                             \
          "layers keep their input only and run again for gradients: less memory, a third more time" },                     \
        { "eval-every", LT_OPT_INT, "0", 0, 0x1p40, NULL, false, "N", "steps between validations; 0: ten over the run" },   \
        { "save-every",                                                                                                     \
          LT_OPT_INT,                                                                                                       \
          "0",                                                                                                              \
          0,                                                                                                                \
          0x1p40,                                                                                                           \
          NULL,                                                                                                             \
          false,                                                                                                            \
          "N",                                                                                                              \
          "steps between checkpoints; 0: every ten minutes only. The outcome does not depend on it" },                      \
        { "keep-checkpoints",                                                                                               \
          LT_OPT_INT,                                                                                                       \
          "2",                                                                                                              \
          1,                                                                                                                \
          1000,                                                                                                             \
          NULL,                                                                                                             \
          false,                                                                                                            \
          "K",                                                                                                              \
          "newest checkpoints kept, besides the best one" },                                                                \
    {                                                                                                                       \
        "take", LT_OPT_STRING, "last", 0, 0, "last|best", false, NULL,                                                      \
            "weights to end with: those of the last step, or of the least validation loss"                                  \
    }

#endif
