/* SPDX-License-Identifier: Apache-2.0 */
/* OLMo 2: norms behind attention and MLP, none in front; RMS norms of q and k over their whole projections (OLMo team
 * 2025; transformers' Olmo2ForCausalLM; GGUF architecture "olmo2"). */
#include "model/family_rows.h"

static const lt_map_row tensors[] = { LT_ROWS_OLMO };

static const char *const model_types[] = { "olmo2", NULL };
static const char *const gguf_archs[] = { "olmo2", NULL };

extern const lt_family lt_family_olmo2;
const lt_family lt_family_olmo2 = {
    .name = "olmo2",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .architecture = "Olmo2ForCausalLM",
    .lowrank_model_type = "lowrank_olmo2",
    .lowrank_architecture = "LowRankOlmo2ForCausalLM",
    .lowrank_config = "LowRankOlmo2Config",
    .prefix = "model.",
    .block = { .norm = LT_NORM_RMS, .place = LT_NORM_POST, .gated_mlp = true, .qk_norm = LT_QK_NORM_WHOLE },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { LT_CONFIG_NAMES, .attn_bias = "attention_bias", .missing_eps = 1e-5, .missing_positions = 2048,
                .missing_bos = -1, .missing_eos = 50279 },
};
