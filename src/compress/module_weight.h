/* SPDX-License-Identifier: Apache-2.0 */
/* compress/module_weight.h - the dense weight of a linear as every formula wants it: [out, in], f64; private to the
 * room. */
#ifndef LT_COMPRESS_MODULE_WEIGHT_H
#define LT_COMPRESS_MODULE_WEIGHT_H

#include "calib/stats.h"
#include "model/model.h"

/* The linear of that name, which may be a part of a fused matrix ("…c_attn#q"); else LT_EDATA. where: "plan", "rank
 * file". */
lt_status lt_find_linear(lt_module *out, const lt_model *m, const char *name, const char *where, lt_err *err);
/* Is that what a cut of `name` changes: the module itself, or the fused matrix of which it is a part? */
bool lt_module_named(const lt_module *m, const char *name);
/* Row i of a part of a fused matrix, in the whole. */
size_t lt_part_row(const lt_linear *part, size_t i);
/* What the stats say of a linear, or of the fused matrix of which it is a part (*whole: the latter, whose rows the part
 * has some of). Inputs are those of both. */
bool lt_stats_of_linear(const lt_stats *s, lt_stats_kind kind, const lt_linear *l, lt_stats_site *out, bool *whole);
/* Dense and without adapters; else LT_EUNSUPPORTED naming it. */
lt_status lt_check_dense(const lt_linear *l, lt_err *err);
/* w [out * in]; Conv1D is transposed. Mapped pages of the tensor are given back. */
lt_status lt_module_weight(double *w, const lt_linear *l, lt_err *err);
lt_status lt_module_bias(double *b, const lt_linear *l, lt_err *err); /* [out], zeros when there is none */
bool lt_has_bias(const lt_linear *l);
/* Which modules get the bias that is best for the cut. */
typedef enum lt_affine { LT_AFFINE_OFF, LT_AFFINE_BIASED, LT_AFFINE_ALL } lt_affine;
bool lt_affine_for(lt_affine a, const lt_linear *l);
/* What new weights of the module are stored as: its own dtype, bf16 for block types. */
lt_dtype lt_factor_dtype(const lt_linear *l);

#endif
