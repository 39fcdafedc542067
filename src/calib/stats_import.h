/* SPDX-License-Identifier: Apache-2.0 */
/* calib/stats_import.h - output Grams that other programs measured, as stats (docs/formats/stats.md).
 *
 * A safetensors file, or a dict that torch.save wrote, with one [m, m] tensor per module, named "<module>" or
 * "<module>.out_gram" (f64, f32, bf16, f16);
 * "<module>.out_sum" [m] and "<module>.count" [1] where they were kept. The utilized-rank code measures outputs with
 * their bias: G_b. With sum s and count N the bias b is taken out, G = G_b - s bᵀ - b sᵀ + N b bᵀ; without them the
 * Gram of a module with a bias stays biased, and only a method that says so reads it. */
#ifndef LT_CALIB_STATS_IMPORT_H
#define LT_CALIB_STATS_IMPORT_H

#include "calib/stats.h"

typedef struct lt_import_in {
    const char *path, *out_path;
    const lt_model *model;
    const char *model_hash;
    bool bias_included; /* what was measured has the bias in it */
    double count;       /* tokens, where the file does not say; 0: unknown */
} lt_import_in;
typedef struct lt_import_out {
    size_t modules, biased;
} lt_import_out; /* biased: that stay so */
/* LT_EDATA naming the tensor: no module of the model, a size that is not its outputs' (an input Gram is named as such),
 * not symmetric, a negative diagonal, or not finite. */
lt_status lt_stats_import(lt_import_out *out, const lt_import_in *in, lt_err *err);

#endif
