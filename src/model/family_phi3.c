/* SPDX-License-Identifier: Apache-2.0 */
/* Phi-3 and Phi-4 (dense): LLaMA's block with q, k, v in one matrix and gate, up in another; a part of each head may
 * rotate (Abdin et al. 2024; transformers' Phi3ForCausalLM; GGUF architecture "phi3"). longrope is refused. */
#include "model/family_rows.h"

static const lt_map_row tensors[] = {
    LT_ROWS_EMBED,
    LT_ROW_NORM_MIXER,
    LT_LAYER_ROW(LT_SLOT_QKV, "self_attn.qkv_proj", "attn_qkv", LT_AXIS_QKV, LT_AXIS_D_MODEL, .fused = &lt_fused_qkv),
    LT_ROW_O(LT_NO_BIAS),
    LT_ROW_NORM_MLP,
    LT_LAYER_ROW(LT_SLOT_GATE_UP, "mlp.gate_up_proj", "ffn_up", LT_AXIS_2_D_FF, LT_AXIS_D_MODEL,
                 .fused = &lt_fused_gate_up),
    LT_ROW_DOWN(LT_NO_BIAS),
    LT_ROWS_END,
};

static const char *const model_types[] = { "phi3", NULL };
static const char *const gguf_archs[] = { "phi3", NULL };

extern const lt_family lt_family_phi3;
const lt_family lt_family_phi3 = {
    .name = "phi3",
    .model_types = model_types,
    .gguf_archs = gguf_archs,
    .architecture = "Phi3ForCausalLM",
    .lowrank_model_type = "lowrank_phi3",
    .lowrank_architecture = "LowRankPhi3ForCausalLM",
    .lowrank_config = "LowRankPhi3Config",
    .prefix = "model.",
    .block = { .norm = LT_NORM_RMS, .place = LT_NORM_PRE, .gated_mlp = true },
    .tensors = tensors,
    .n_tensors = LT_COUNTOF(tensors),
    .config = { LT_CONFIG_NAMES, .missing_eps = 1e-5, .missing_positions = 4096, .missing_bos = 1, .missing_eos = 32000,
                .rotary_part = "partial_rotary_factor", .missing_part = 1.0, .rotary_plain = true,
                .window = "sliding_window", .rule = LT_LAYERS_SLIDE },
};
