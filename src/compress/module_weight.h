/* SPDX-License-Identifier: Apache-2.0 */
/* compress/module_weight.h - the dense weight of a linear as every formula wants it: [out, in], f64; private to the
 * room. */
#ifndef LT_COMPRESS_MODULE_WEIGHT_H
#define LT_COMPRESS_MODULE_WEIGHT_H

#include "model/model.h"

/* The linear of that name; else LT_EDATA, or LT_EUNSUPPORTED for a part of a fused matrix ("…c_attn#q"): its rows share
 * one weight, which is stored, and so factored, whole. where: "plan", "rank file". */
lt_status lt_find_linear(lt_module *out, const lt_model *m, const char *name, const char *where, lt_err *err);
/* Dense and without adapters; else LT_EUNSUPPORTED naming it. */
lt_status lt_check_dense(const lt_linear *l, lt_err *err);
/* w [out * in]; Conv1D is transposed. Mapped pages of the tensor are given back. */
lt_status lt_module_weight(double *w, const lt_linear *l, lt_err *err);
lt_status lt_module_bias(double *b, const lt_linear *l, lt_err *err); /* [out], zeros when there is none */
bool lt_has_bias(const lt_linear *l);
/* What new weights of the module are stored as: its own dtype, bf16 for block types. */
lt_dtype lt_factor_dtype(const lt_linear *l);

#endif
