/* SPDX-License-Identifier: Apache-2.0 */
/* LLaMA 1-3: pre-norm RMS, rotary grouped-query attention, SiLU-gated MLP (Touvron et al. 2023; transformers'
 * LlamaForCausalLM; GGUF architecture "llama", whose q and k rows are in interleaved rotary order). */
#include "model/family_rows.h"

static const lt_map_row tensors[] = {
    LT_ROWS_EMBED,
    LT_ROW_NORM_MIXER,
    LT_ROW_Q(LT_BIAS_IF(LT_IF_ATTN_BIAS), .gguf_permuted = true),
    LT_ROW_K(LT_BIAS_IF(LT_IF_ATTN_BIAS), .gguf_permuted = true),
    LT_ROW_V(LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    LT_ROW_O(LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    LT_ROW_NORM_MLP,
    LT_ROWS_GATED(LT_BIAS_IF(LT_IF_MLP_BIAS)),
    LT_ROWS_END,
};

static const char *const model_types[] = { "llama", NULL };
static const char *const gguf_archs[] = { "llama", NULL };

extern const lt_family lt_family_llama;
const lt_family lt_family_llama = {
    .name = "llama",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .gguf_arch = "llama",
    .architecture = "LlamaForCausalLM",
    .lowrank_model_type = "lowrank_llama",
    .lowrank_architecture = "LowRankLlamaForCausalLM",
    .lowrank_config = "LowRankLlamaConfig",
    .prefix = "model.",
    .block = { .norm = LT_NORM_RMS, .place = LT_NORM_PRE, .gated_mlp = true },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { LT_CONFIG_NAMES, .attn_bias = "attention_bias", .mlp_bias = "mlp_bias", .missing_eps = 1e-6,
                .missing_positions = 2048, .missing_bos = 1, .missing_eos = 2 },
};
