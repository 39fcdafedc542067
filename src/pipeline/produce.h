/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/produce.h - from a model in memory to a verified folder or file: weights, the parent's files, lathe.json,
 * README.md.
 */
#ifndef LT_PIPELINE_PRODUCE_H
#define LT_PIPELINE_PRODUCE_H

#include "export/export.h"
#include "pipeline/manifest.h"

typedef struct lt_produced {
    lt_model *model; /* the folder, opened again */
    char hash[LT_HASH_HEX];
    double gap;           /* largest logit difference from what was saved, over the largest logit */
    lt_fit_errors errors; /* of fits, where a plan was applied */
} lt_produced;
/* path, a folder or (target->is_file) a file, is made anew; lathe.json and README.md go into the folder, or beside the
 * file. Verified before lathe.json is written: LT_EVERIFY leaves what was written there, and no manifest. */
lt_status lt_produce(lt_produced *out, const lt_lineage *l, const lt_model *made, const lt_export_target *target,
                     lt_dtype dtype, const char *path, lt_err *err);
/* The plan of l fitted to its parent (stats where its cuts need them), then lt_produce. NaN or Inf among the parent's
 * weights is LT_EDATA naming the tensor. */
/* tokens, journal: where cuts need them (compress/plan.h). */
lt_status lt_produce_cut(lt_produced *out, const lt_lineage *l, lt_dtype dtype, const char *folder,
                         const lt_tokens *tokens, const char *journal, lt_err *err);
/* lt_model_check_finite of all layers, some at a time, with progress under stage. */
lt_status lt_check_weights(const lt_call_ctx *c, const lt_model *m, const char *stage, lt_err *err);
void lt_produced_clear(lt_produced *p);
/* The folder as lt_produce left it, when that was done before. */
lt_status lt_produced_open(lt_produced *out, const lt_call_ctx *c, double gap, const char *folder, lt_err *err);

/* What one rounding of every weight to t may move the logits by, relative to the largest. The bounds are generous on
 * purpose: stored numbers are compared one by one, and a wrong config or name is off by far more. */
double lt_rounding_gap(lt_dtype t);

/* What weights may be written as. */
#define LT_DTYPE_CHOICES "bf16|f16|f32"
lt_dtype lt_dtype_option(const lt_args *a); /* LT_N_DTYPES: not given */

#endif
