/* SPDX-License-Identifier: Apache-2.0 */
/* export/export.h - a model in the form that another loader opens, and the check that it does. A target is a row of
 * targets.c. */
#ifndef LT_EXPORT_EXPORT_H
#define LT_EXPORT_EXPORT_H

#include "model/save.h"

typedef struct lt_export_target {
    const char *name, *summary; /* "hf-dense", "ablinear", "gguf" */
    const char *output;         /* its name in the output folder: "model", "model.gguf" */
    const char *dtypes;         /* what weights may be written as: "bf16|f16|f32" */
    bool is_file;               /* one file, with the tokenizer in it */
    bool blocks;                /* block types stay as they are where no dtype is asked for; else they become bf16 */
    lt_save_form form;
    double max_logit_gap; /* of the reopened model, relative to the largest logit; 0: bit-exact for the same dtype */
    lt_status (*write)(const lt_model *m, const char *path, const lt_save_opts *o, const lt_ctx *ctx, lt_err *err);
    /* What lt_verify_model does not look at, the tokenizer of a file; NULL: nothing. LT_EVERIFY. */
    lt_status (*check)(const lt_model *source, const char *path, lt_err *err);
} lt_export_target;
extern const lt_export_target *const lt_export_targets[];
lt_status lt_export_find(const lt_export_target **out, const char *name, lt_err *err);
/* Largest difference of the two models' logits over a fixed batch, over a's largest. LT_EVERIFY beyond max_gap. */
lt_status lt_verify_logits(double *gap, const lt_model *a, const lt_model *b, double max_gap, lt_team *team,
                           lt_err *err);
/* The dtype that a weight stored as stored gets; asked LT_N_DTYPES: none. */
lt_dtype lt_export_dtype(const lt_export_target *t, lt_dtype stored, lt_dtype asked);
/* LT_EUSAGE when the target does not write that dtype. */
lt_status lt_export_check_dtype(const lt_export_target *t, lt_dtype asked, lt_err *err);

/* Reopens path strictly and compares with the source model: every tensor (bit-exact where the form and dtype keep it)
 * and the logits of a fixed probe batch. LT_EVERIFY names what differs. *gap: largest logit difference / largest logit.
 */
lt_status lt_verify_model(double *gap, const lt_model *source, const char *path, double max_gap, lt_team *team,
                          lt_err *err);

/* One stored tensor against its source: same dtype, same bytes; another, each number rounded once. LT_EVERIFY names it.
 */
lt_status lt_verify_values(const lt_param *source, const lt_param *made, lt_err *err);

/* ---- the row "gguf" (gguf.c) ---- */
/* The model with its tokenizer: the folder's, or the keys of the GGUF it was read from; without one the file says so.
 */
lt_status lt_export_gguf(const lt_model *m, const char *path, const lt_save_opts *o, const lt_ctx *ctx, lt_err *err);
/* The file's tokenizer gives the ids of the source's. */
lt_status lt_export_gguf_check(const lt_model *source, const char *path, lt_err *err);

#endif
