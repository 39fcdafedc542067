/* SPDX-License-Identifier: Apache-2.0 */
/* export/export.h - a model in the form that another loader opens, and the check that it does. A target is a row of
 * targets.c. */
#ifndef LT_EXPORT_EXPORT_H
#define LT_EXPORT_EXPORT_H

#include "model/save.h"

typedef struct lt_export_target {
    const char *name, *summary; /* "hf-dense", "ablinear" */
    lt_save_form form;
    double max_logit_gap; /* of the reopened model, relative to the largest logit; 0: bit-exact for the same dtype */
} lt_export_target;
extern const lt_export_target *const lt_export_targets[];
lt_status lt_export_find(const lt_export_target **out, const char *name, lt_err *err);
/* Reopens folder strictly and compares with the source model: every tensor (bit-exact where the form and dtype keep it)
 * and the logits of a fixed probe batch. LT_EVERIFY names what differs. *gap: largest logit difference / largest logit.
 */
lt_status lt_verify_model(double *gap, const lt_model *source, const char *folder, double max_gap, lt_team *team,
                          lt_err *err);

#endif
