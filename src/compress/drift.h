/* SPDX-License-Identifier: Apache-2.0 */
/* compress/drift.h - modules fitted one site after another, each to the inputs that the model changed so far gives it;
 * private to the room (docs/methods/drift.md).
 *
 *   for each layer:  for each site with modules to fit, in forward order:
 *       one pass of the text through the layer in both models -> C', K, R (drift_pass.h)
 *       T = W K (+ R),  the fit of drift_fit.h,  into the overlay
 *   both streams go on behind the layer
 * block: all sites of a layer are looked at in one pass, before any of it is fitted.
 *
 * journal: a folder that holds each finished layer's new weights; the same call goes on behind the last whole one and
 * ends with the same bytes. */
#ifndef LT_COMPRESS_DRIFT_H
#define LT_COMPRESS_DRIFT_H

#include "calib/stats.h"
#include "compress/drift_fit.h"
#include "model/overlay.h"

typedef struct lt_drift_item {
    lt_module module; /* of the original */
    size_t rank;      /* 0: stays one matrix, least squares */
    bool residual;    /* its output is added to a residual stream: make up for what that has lost as well */
    bool affine;      /* rank > 0 only: the optimal bias too */
    bool block;       /* see above; true for one module of a layer: for all of the layer */
    double ridge;
    const char *balance; /* NULL: by dtype */
} lt_drift_item;

typedef struct lt_drift_run {
    lt_overlay *overlay; /* may hold changes already */
    const lt_model *original;
    const lt_tokens *tokens;
    size_t batch_tokens; /* 0: 2048 */
    const char *journal; /* folder, made when missing; NULL: none */
    lt_dtype dtype;      /* LT_N_DTYPES: the module's own */
    lt_team *team;
    const lt_ctx *ctx; /* max_memory is kept: LT_ENOMEM names the shortfall; may be NULL */
} lt_drift_run;
/* items in any order, each module once. Errors name the module. */
lt_status lt_drift_run_all(const lt_drift_item *items, size_t n, const lt_drift_run *in, lt_err *err);

#endif
