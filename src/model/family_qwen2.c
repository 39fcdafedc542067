/* SPDX-License-Identifier: Apache-2.0 */
/* Qwen 2 and 2.5: LLaMA's block with biases on q, k and v; layers from max_window_layers on may slide (Yang et al.
 * 2024; transformers' Qwen2ForCausalLM; GGUF architecture "qwen2"). */
#include "model/family_rows.h"

static const lt_map_row tensors[] = {
    LT_ROWS_EMBED,
    LT_ROW_NORM_MIXER,
    LT_ROW_Q(LT_BIAS_IF(LT_ALWAYS)),
    LT_ROW_K(LT_BIAS_IF(LT_ALWAYS)),
    LT_ROW_V(LT_BIAS_IF(LT_ALWAYS)),
    LT_ROW_O(LT_NO_BIAS),
    LT_ROW_NORM_MLP,
    LT_ROWS_GATED(LT_NO_BIAS),
    LT_ROWS_END,
};

static const char *const model_types[] = { "qwen2", NULL };
static const char *const gguf_archs[] = { "qwen2", NULL };

extern const lt_family lt_family_qwen2;
const lt_family lt_family_qwen2 = {
    .name = "qwen2",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .gguf_arch = "qwen2",
    .architecture = "Qwen2ForCausalLM",
    .lowrank_model_type = "lowrank_qwen2",
    .lowrank_architecture = "LowRankQwen2ForCausalLM",
    .lowrank_config = "LowRankQwen2Config",
    .prefix = "model.",
    .block = { .norm = LT_NORM_RMS, .place = LT_NORM_PRE, .gated_mlp = true },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { LT_CONFIG_NAMES, .missing_kv_heads = 32, .missing_eps = 1e-6, .missing_positions = 32768,
                .missing_bos = -1, .missing_eos = -1, .window = "sliding_window", .missing_window = 4096,
                .window_switch = "use_sliding_window", .nth = "max_window_layers", .missing_nth = 28,
                .rule = LT_LAYERS_SLIDE_LATE, .typed = true },
};
