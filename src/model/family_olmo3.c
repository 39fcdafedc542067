/* SPDX-License-Identifier: Apache-2.0 */
/* OLMo 3: OLMo 2's block; three of four layers slide and rotate by the plain rule, whatever scaling (YaRN) the full
 * layers have (OLMo team 2025; transformers' Olmo3ForCausalLM; llama.cpp files it under "olmo2"). */
#include "model/family_rows.h"

static const lt_map_row tensors[] = { LT_ROWS_OLMO };

static const char *const model_types[] = { "olmo3", NULL };
static const char *const gguf_archs[] = { "olmo2", NULL };

extern const lt_family lt_family_olmo3;
const lt_family lt_family_olmo3 = {
    .name = "olmo3",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .architecture = "Olmo3ForCausalLM",
    .lowrank_model_type = "lowrank_olmo3",
    .lowrank_architecture = "LowRankOlmo3ForCausalLM",
    .lowrank_config = "LowRankOlmo3Config",
    .prefix = "model.",
    .block = { .norm = LT_NORM_RMS, .place = LT_NORM_POST, .gated_mlp = true, .qk_norm = LT_QK_NORM_WHOLE },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { LT_CONFIG_NAMES, .attn_bias = "attention_bias", .missing_eps = 1e-5, .missing_positions = 2048,
                .missing_bos = -1, .missing_eos = 50279, .window = "sliding_window", .missing_window = 4096,
                .missing_nth = 4, .rule = LT_LAYERS_SLIDE_BUT_NTH, .typed = true, .local_rope = true },
};
