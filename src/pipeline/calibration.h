/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/calibration.h - a calibration pass as `calibrate` and `compress` ask for it. */
#ifndef LT_PIPELINE_CALIBRATION_H
#define LT_PIPELINE_CALIBRATION_H

#include "calib/calibrate.h"
#include "pipeline/estimate.h"
#include "pipeline/subject.h"

/* Option rows of verbs that make rows of tokens from --data, then of those that collect sums of them; getters below
 * read them. */
#define LT_TEXT_OPTIONS                                                                                                     \
    { "seq-len", LT_OPT_INT, NULL,                                                                                          \
      2,         1 << 24,    NULL,                                                                                          \
      false,     "N",        "tokens per row; default: 512, or the model's positions where fewer" },                        \
        { "max-rows", LT_OPT_INT, "0", 0, 0x1p40, NULL, false, "N", "rows at most; 0: all (svdllm: 256, minitron: 1024)" }, \
        { "recipe",                                                                                                         \
          LT_OPT_STRING,                                                                                                    \
          "plain",                                                                                                          \
          0,                                                                                                                \
          0,                                                                                                                \
          NULL,                                                                                                             \
          false,                                                                                                            \
          "NAME",                                                                                                           \
          "how text becomes rows: plain, svdllm (random excerpts), wikitext, minitron, rows" },                             \
    {                                                                                                                       \
        "seed", LT_OPT_INT, "3", 0, 0x1p53, NULL, false, "N", "of recipes that draw at random"                              \
    }
#define LT_CALIBRATION_OPTIONS                                                                                         \
    LT_TEXT_OPTIONS,                                                                                                   \
        { "skip-first",                                                                                                \
          LT_OPT_INT,                                                                                                  \
          "0",                                                                                                         \
          0,                                                                                                           \
          1 << 20,                                                                                                     \
          NULL,                                                                                                        \
          false,                                                                                                       \
          "K",                                                                                                         \
          "leave the first K positions of each row out of the sums: attention sinks" },                                \
        { "sink-rows",                                                                                                 \
          LT_OPT_INT,                                                                                                  \
          "0",                                                                                                         \
          0,                                                                                                           \
          1 << 20,                                                                                                     \
          NULL,                                                                                                        \
          false,                                                                                                       \
          "K",                                                                                                         \
          "keep the sums of the first K positions of each row apart: planning may leave them out of the ranks" },      \
        { "store", LT_OPT_STRING, "f64", 0, 0, "f64|f32", false, NULL, "number type of the stored sums" }, {           \
        "include-head", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL,                                                 \
            "also the output head (not when it is tied to the embedding)"                                              \
    }

/* rows 0: --max-rows */
lt_status lt_calibration_tokens(lt_tokens *out, const lt_call_ctx *c, const lt_subject *s, size_t rows, lt_err *err);
/* Sums of inputs, and of the gradients of outputs. */
typedef struct lt_stat_needs {
    lt_stat_set inputs, grads;
} lt_stat_needs;
/* Comma-separated names; sums of gradients are "grad.NAME". */
lt_status lt_stats_of_methods(lt_stat_needs *out, const char *methods, lt_err *err);
lt_status lt_stats_of_names(lt_stat_needs *out, const char *names, lt_err *err);
/* Fills in; *settings (lt_free) is what it borrows. */
lt_status lt_calibration_in(lt_calibrate_in *in, char **settings, const lt_call_ctx *c, const lt_subject *s,
                            const lt_tokens *t, lt_stat_needs stats, const char *out_path, lt_err *err);
lt_status lt_calibration_estimate(lt_estimate *e, const lt_calibrate_in *in, lt_err *err);

#endif
