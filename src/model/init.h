/* SPDX-License-Identifier: Apache-2.0 */
/* model/init.h - a fresh model from a config: the family's tensors with drawn values, as a folder.
 *
 *   matrices and tables N(0, initializer_range²), norms 1 (0 where the family adds 1), biases 0; where the family says
 *   so, what ends a residual branch is narrower by sqrt(2 n_layers). As transformers' _init_weights. */
#ifndef LT_MODEL_INIT_H
#define LT_MODEL_INIT_H

#include "model/model.h"

/* config: a folder with config.json. Writes folder/config.json (byte for byte) and folder/model.safetensors, f32. Draws
 * are keyed by seed, tensor and row. LT_EUNSUPPORTED: a factored model_type. */
lt_status lt_model_init(const char *config, const char *folder, uint64_t seed, const lt_ctx *ctx, lt_err *err);

#endif
