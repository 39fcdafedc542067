/* SPDX-License-Identifier: Apache-2.0 */
#include "model/family.h"

#include <stdio.h>
#include <string.h>

extern const lt_family lt_family_llama, lt_family_mistral, lt_family_qwen2, lt_family_qwen3, lt_family_gpt2,
    lt_family_opt, lt_family_neox, lt_family_olmo2, lt_family_olmo3, lt_family_phi3, lt_family_gemma3;
const lt_family *const lt_families[] = { &lt_family_llama, &lt_family_mistral, &lt_family_qwen2,  &lt_family_qwen3,
                                         &lt_family_gpt2,  &lt_family_opt,     &lt_family_neox,   &lt_family_olmo2,
                                         &lt_family_olmo3, &lt_family_phi3,    &lt_family_gemma3, NULL };

const lt_fused lt_fused_qkv = { .part = { { "q", LT_AXIS_Q_HEADS_QK, LT_SLOT_Q },
                                          { "k", LT_AXIS_K_HEADS_QK, LT_SLOT_K },
                                          { "v", LT_AXIS_V_HEADS_V, LT_SLOT_V } },
                                .n_parts = 3 };
const lt_fused lt_fused_qkv_by_head = { .part = { { "q", LT_AXIS_Q_HEADS_QK, LT_SLOT_Q },
                                                  { "k", LT_AXIS_K_HEADS_QK, LT_SLOT_K },
                                                  { "v", LT_AXIS_V_HEADS_V, LT_SLOT_V } },
                                        .n_parts = 3,
                                        .by_head = true };
const lt_fused lt_fused_gate_up = {
    .part = { { "gate", LT_AXIS_D_FF, LT_SLOT_GATE }, { "up", LT_AXIS_D_FF, LT_SLOT_UP } }, .n_parts = 2
};

const lt_map_row *lt_family_row(const lt_family *f, lt_slot slot) {
    for (size_t i = 0; i < f->n_tensors; i++)
        if (f->tensors[i].slot == slot) return &f->tensors[i];
    return NULL;
}

const char *lt_slot_role(lt_slot s) {
    static const char *const linear[LT_N_LINEAR_SLOTS] = { "q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down" };
    if (s < LT_N_LINEAR_SLOTS) return linear[s];
    switch (s) {
    case LT_SLOT_EMBED:
        return "embed";
    case LT_SLOT_POSITIONS:
        return "positions";
    case LT_SLOT_PROJECT_IN:
    case LT_SLOT_PROJECT_OUT:
        return "project";
    case LT_SLOT_HEAD:
        return "head";
    default:
        return "norm";
    }
}

const char *lt_axis_name(lt_axis a) {
    static const char *const names[LT_N_AXES] = { "none",
                                                  "vocab",
                                                  "d_model",
                                                  "d_ff",
                                                  "q_heads x qk_dim",
                                                  "k_heads x qk_dim",
                                                  "v_heads x v_dim",
                                                  "q_heads x v_dim",
                                                  "qk_dim",
                                                  "2 x d_ff",
                                                  "qkv",
                                                  "d_embed",
                                                  "positions" };
    return names[a];
}

size_t lt_axis_size(lt_axis a, const lt_config *c, const lt_layer_config *l) {
    switch (a) {
    case LT_AXIS_NONE:
        return 1;
    case LT_AXIS_VOCAB:
        return c->vocab_size;
    case LT_AXIS_D_MODEL:
        return c->d_model;
    case LT_AXIS_D_FF:
        return l->d_ff;
    case LT_AXIS_Q_HEADS_QK:
        return l->n_q_heads * l->qk_dim;
    case LT_AXIS_K_HEADS_QK:
        return l->n_k_heads * l->qk_dim;
    case LT_AXIS_V_HEADS_V:
        return l->n_v_heads * l->v_dim;
    case LT_AXIS_Q_HEADS_V:
        return l->n_q_heads * l->v_dim;
    case LT_AXIS_QK_DIM:
        return l->qk_dim;
    case LT_AXIS_2_D_FF:
        return 2 * l->d_ff;
    case LT_AXIS_QKV:
        return (l->n_q_heads + l->n_k_heads) * l->qk_dim + l->n_v_heads * l->v_dim;
    case LT_AXIS_D_EMBED:
        return c->d_embed;
    case LT_AXIS_POSITIONS:
        return c->max_positions + c->pos_offset;
    case LT_N_AXES:
        break;
    }
    return 0;
}

bool lt_when_holds(lt_when w, const lt_config *c) {
    switch (w) {
    case LT_ALWAYS:
        return true;
    case LT_IF_ATTN_BIAS:
        return c->attn_bias;
    case LT_IF_MLP_BIAS:
        return c->mlp_bias;
    case LT_IF_UNTIED:
        return !c->tied;
    case LT_IF_FINAL_NORM:
        return c->final_norm;
    case LT_IF_PROJECTED:
        return c->d_embed != c->d_model;
    }
    return false;
}

bool lt_map_name(char *buf, size_t cap, const char *pattern, size_t layer) {
    const char *at = strstr(pattern, "%zu");
    const int n = at ? snprintf(buf, cap, "%.*s%zu%s", (int)(at - pattern), pattern, layer, at + 3)
                     : snprintf(buf, cap, "%s", pattern);
    return n >= 0 && (size_t)n < cap;
}

static bool answers(const char *const *names, const char *name) {
    for (; names && *names; names++)
        if (strcmp(*names, name) == 0) return true;
    return false;
}

/* "llama, mistral": what could have been named, each once, for the message. */
static const char *list_names(char *buf, size_t cap, bool gguf) {
    size_t used = 0;
    buf[0] = '\0';
    for (const lt_family *const *f = lt_families; *f; f++) {
        for (const char *const *n = gguf ? (*f)->gguf_archs : (*f)->model_types; n && *n && used < cap; n++) {
            const lt_family *const *first = lt_families;
            while (!answers(gguf ? (*first)->gguf_archs : (*first)->model_types, *n)) first++;
            if (first == f) used += (size_t)snprintf(buf + used, cap - used, "%s%s", used ? ", " : "", *n);
        }
    }
    return buf;
}

lt_status lt_family_find(const lt_family **out, const char *model_type, lt_err *err) {
    char buf[256];
    for (const lt_family *const *f = lt_families; *f; f++) {
        if (!answers((*f)->model_types, model_type) &&
            (!(*f)->lowrank_model_type || strcmp((*f)->lowrank_model_type, model_type) != 0))
            continue;
        *out = *f;
        return LT_OK;
    }
    return lt_fail(err, LT_EUNSUPPORTED, "model_type is not supported; supported: %s (%s)",
                   list_names(buf, sizeof buf, false), model_type);
}

lt_status lt_family_find_gguf(const lt_family **out, const char *arch, bool slides, lt_err *err) {
    char buf[256];
    *out = NULL;
    for (const lt_family *const *f = lt_families; *f; f++) {
        if (!answers((*f)->gguf_archs, arch)) continue;
        if (!*out || (slides && !(*out)->config.window)) *out = *f;
    }
    if (*out) return LT_OK;
    return lt_fail(err, LT_EUNSUPPORTED, "general.architecture is not supported; supported: %s (%s)",
                   list_names(buf, sizeof buf, true), arch);
}
