/* SPDX-License-Identifier: Apache-2.0 */
/* Mistral: LLaMA's block where every layer sees the last sliding_window keys (Jiang et al. 2023; transformers'
 * MistralForCausalLM). llama.cpp files it under "llama", q and k in
 * interleaved rotary order. */
#include "model/family_rows.h"

static const lt_map_row tensors[] = {
    LT_ROWS_EMBED,
    LT_ROW_NORM_MIXER,
    LT_ROW_Q(LT_NO_BIAS, .gguf_permuted = true),
    LT_ROW_K(LT_NO_BIAS, .gguf_permuted = true),
    LT_ROW_V(LT_NO_BIAS),
    LT_ROW_O(LT_NO_BIAS),
    LT_ROW_NORM_MLP,
    LT_ROWS_GATED(LT_NO_BIAS),
    LT_ROWS_END,
};

static const char *const model_types[] = { "mistral", NULL };
static const char *const gguf_archs[] = { "llama", NULL };

extern const lt_family lt_family_mistral;
const lt_family lt_family_mistral = {
    .name = "mistral",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .gguf_arch = "llama",
    .architecture = "MistralForCausalLM",
    .lowrank_model_type = "lowrank_mistral",
    .lowrank_architecture = "LowRankMistralForCausalLM",
    .lowrank_config = "LowRankMistralConfig",
    .prefix = "model.",
    .block = { .norm = LT_NORM_RMS, .place = LT_NORM_PRE, .gated_mlp = true },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { LT_CONFIG_NAMES, .missing_kv_heads = 8, .missing_eps = 1e-6, .missing_positions = 131072,
                .missing_bos = 1, .missing_eos = 2, .window = "sliding_window", .missing_window = 4096,
                .rule = LT_LAYERS_SLIDE },
};
