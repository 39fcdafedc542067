/* SPDX-License-Identifier: Apache-2.0 */
/* Qwen 3 (dense): Qwen 2's block without its biases, with RMS norms of each head of q and k (Yang et al. 2025;
 * transformers' Qwen3ForCausalLM; GGUF architecture "qwen3"). */
#include "model/family_rows.h"

static const lt_map_row tensors[] = {
    LT_ROWS_EMBED,
    LT_ROW_NORM_MIXER,
    LT_ROW_Q(LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    LT_ROW_K(LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    LT_ROW_V(LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    LT_ROWS_QK_NORM(LT_AXIS_QK_DIM, LT_AXIS_QK_DIM),
    LT_ROW_O(LT_BIAS_IF(LT_IF_ATTN_BIAS)),
    LT_ROW_NORM_MLP,
    LT_ROWS_GATED(LT_NO_BIAS),
    LT_ROWS_END,
};

static const char *const model_types[] = { "qwen3", NULL };
static const char *const gguf_archs[] = { "qwen3", NULL };

extern const lt_family lt_family_qwen3;
const lt_family lt_family_qwen3 = {
    .name = "qwen3",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .gguf_arch = "qwen3",
    .architecture = "Qwen3ForCausalLM",
    .lowrank_model_type = "lowrank_qwen3",
    .lowrank_architecture = "LowRankQwen3ForCausalLM",
    .lowrank_config = "LowRankQwen3Config",
    .prefix = "model.",
    .block = { .norm = LT_NORM_RMS, .place = LT_NORM_PRE, .gated_mlp = true, .qk_norm = LT_QK_NORM_HEAD },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { LT_CONFIG_NAMES, .attn_bias = "attention_bias", .missing_kv_heads = 32, .missing_head_dim = 128,
                .missing_eps = 1e-6, .missing_positions = 32768, .missing_bos = -1, .missing_eos = -1,
                .window = "sliding_window", .missing_window = 4096, .window_switch = "use_sliding_window",
                .nth = "max_window_layers", .missing_nth = 28, .rule = LT_LAYERS_SLIDE_LATE, .typed = true },
};
