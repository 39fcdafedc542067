/* model/family.h - a model family as data: the names it answers to, its config.json, its tensor map with axis labels,
 * and its block. One reader and writer (config_read.c, config_write.c, config_gguf.c) and one generic block function
 * (block.c) interpret the row. Adding a family: one file family_<name>.c and one line in families.c. */
#ifndef LT_MODEL_FAMILY_H
#define LT_MODEL_FAMILY_H

#include "io/gguf.h"
#include "model/config.h"

/* Where a tensor goes in the generic block. */
typedef enum lt_slot {
    /* linears of a layer */
    LT_SLOT_Q,
    LT_SLOT_K,
    LT_SLOT_V,
    LT_SLOT_QKV,
    LT_SLOT_O,
    LT_SLOT_GATE,
    LT_SLOT_UP,
    LT_SLOT_GATE_UP,
    LT_SLOT_DOWN,
    LT_N_LINEAR_SLOTS,
    /* norms of a layer */
    LT_SLOT_NORM_MIXER = LT_N_LINEAR_SLOTS,
    LT_SLOT_NORM_MIXER_POST,
    LT_SLOT_NORM_MLP,
    LT_SLOT_NORM_MLP_POST,
    LT_SLOT_NORM_Q,
    LT_SLOT_NORM_K,
    LT_END_NORM_SLOTS,
    /* outside the layers */
    LT_SLOT_EMBED = LT_END_NORM_SLOTS,
    LT_SLOT_POSITIONS,  /* learned, added to the embedding */
    LT_SLOT_PROJECT_IN, /* from the table's width to d_model, and back before the head */
    LT_SLOT_PROJECT_OUT,
    LT_SLOT_FINAL_NORM,
    LT_SLOT_HEAD,
    LT_N_SLOTS
} lt_slot;
enum { LT_N_NORM_SLOTS = LT_END_NORM_SLOTS - LT_N_LINEAR_SLOTS };
const char *lt_slot_role(lt_slot s); /* "q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down", "norm", "embed",
                                        "positions", "project", "head" */

/* What a dimension counts. One slicer, parameter counter, shape check and config writer derive from these labels. */
typedef enum lt_axis {
    LT_AXIS_NONE,
    LT_AXIS_VOCAB,
    LT_AXIS_D_MODEL,
    LT_AXIS_D_FF,
    LT_AXIS_Q_HEADS_QK,
    LT_AXIS_K_HEADS_QK,
    LT_AXIS_V_HEADS_V,
    LT_AXIS_Q_HEADS_V,
    LT_AXIS_QK_DIM,
    LT_AXIS_2_D_FF,
    LT_AXIS_QKV,
    LT_AXIS_D_EMBED,
    LT_AXIS_POSITIONS,
    LT_N_AXES
} lt_axis; /* QKV, 2_D_FF: the parts of the row's lt_fused, one after another or interleaved */
const char *lt_axis_name(lt_axis a);
/* size of axis a in layer l (NULL for axes outside layers) */
size_t lt_axis_size(lt_axis a, const lt_config *c, const lt_layer_config *l);

/* The parts of a fused matrix: what each is called (module#part), what its rows count, and where it goes when it stands
 * for itself. */
typedef struct lt_fused_part {
    const char *name;
    lt_axis rows;
    lt_slot slot;
} lt_fused_part;
typedef struct lt_fused {
    lt_fused_part part[3];
    size_t n_parts;
    bool by_head; /* the parts alternate for each key-value head (GPT-NeoX) */
} lt_fused;
extern const lt_fused lt_fused_qkv, lt_fused_qkv_by_head, lt_fused_gate_up;

typedef enum lt_when {
    LT_ALWAYS,
    LT_IF_ATTN_BIAS,
    LT_IF_MLP_BIAS,
    LT_IF_UNTIED,
    LT_IF_FINAL_NORM,
    LT_IF_PROJECTED
} lt_when;
typedef struct lt_map_row {
    lt_slot slot;
    const char
        *hf; /* module path, "%zu" for the layer: "model.layers.%zu.self_attn.q_proj"; ".weight"/".bias" follow */
    const char *gguf;      /* "blk.%zu.attn_q"; NULL: not in GGUF */
    lt_axis out, in;       /* of the weight; norms: out only */
    lt_when when;          /* is the tensor there */
    bool has_bias;         /* has it a bias ... */
    lt_when bias;          /* ... and when */
    bool gguf_permuted;    /* rows stored in interleaved rotary order */
    bool in_out;           /* Conv1D */
    const lt_fused *fused; /* NULL: one matrix */
} lt_map_row;

/* config.json as data: how a family calls what all have, and what a missing member means (transformers' own default).
 * A name NULL: the family has no such member. */
typedef enum lt_layer_rule {
    LT_LAYERS_FULL,
    LT_LAYERS_SLIDE,
    LT_LAYERS_SLIDE_LATE,
    LT_LAYERS_SLIDE_BUT_NTH
} lt_layer_rule;
typedef struct lt_config_row {
    const char *d_model, *d_ff, *n_layers, *n_heads, *n_kv_heads, *head_dim, *max_positions; /* widths */
    const char *norm_eps, *act, *attn_bias, *mlp_bias;
    size_t missing_kv_heads, missing_head_dim, missing_positions; /* 0: n_heads, d_model / n_heads, required */
    size_t missing_ff;                                            /* d_ff is so many times d_model; 0: required */
    double missing_eps;
    const char *missing_act;
    bool missing_tied, missing_attn_bias, missing_mlp_bias;
    int32_t missing_bos, missing_eos; /* -1: none */
    const char *theta;                /* NULL: nothing rotates */
    double missing_theta;
    const char *rotary_part; /* of each head that rotates; a family without it has 1 */
    double missing_part;
    bool rotary_plain; /* no scaling rule: only the default kind */
    /* sliding layers: by layer_types (where typed), else by rule; they see `window` keys where its switch is on */
    const char *window, *window_switch, *nth;
    size_t missing_window, missing_nth;
    lt_layer_rule rule;
    bool typed;
    bool local_rope;         /* sliding layers rotate by a default row of their own */
    const char *local_theta; /* its base; NULL: that of the full layers */
    double missing_local_theta;
    const char *logit_softcap;  /* logits are cap tanh(l / cap) where it is there and not 0; NULL: never */
    const char *const *refused; /* NULL-terminated: members that must be missing, null or false */
} lt_config_row;

typedef struct lt_family {
    const char *name;                                      /* "llama" */
    const char *const *model_types;                        /* NULL-terminated: config.json model_type */
    const char *const *gguf_archs;                         /* NULL-terminated; NULL: llama.cpp has none that we read */
    const char *gguf_arch;                                 /* what it is written as (save_gguf.c); NULL: not written */
    const char *architecture;                              /* "LlamaForCausalLM": what a stock loader builds */
    const char *lowrank_model_type, *lowrank_architecture; /* "lowrank_llama", "LowRankLlamaForCausalLM" */
    const char *lowrank_config;   /* its configuration class in share/modeling: "LowRankLlamaConfig" */
    const char *prefix;           /* that checkpoints of the bare model leave off ("transformer."); NULL: none */
    const char *const *leftovers; /* NULL-terminated ends of names of buffers that nothing reads; NULL: none */
    bool residual_init; /* fresh matrices that end a residual branch are 1 / sqrt(2 n_layers) as wide (Radford 2019) */
    lt_block_row block;
    const lt_map_row *tensors;
    size_t n_tensors;
    lt_config_row config;
    /* What config.json says beyond the row: called when everything else is set. NULL: nothing. */
    lt_status (*read_rest)(lt_config *c, const json_t *config, const char *where, lt_err *err);
    /* Members that read_rest needs, from GGUF metadata into the config made of it. NULL: none. */
    lt_status (*gguf_rest)(json_t *config, const lt_config *c, const lt_gguf *g, lt_err *err);
} lt_family;

/* Fills c (already zeroed; c->raw set) from config.json / from GGUF metadata (which also makes c->raw). Contradictions
 * are LT_EDATA, unknown rope types, activations and kinds of layers LT_EUNSUPPORTED naming the field. */
lt_status lt_family_read_config(const lt_family *f, lt_config *c, const json_t *config, const char *where, lt_err *err);
lt_status lt_family_read_gguf(const lt_family *f, lt_config *c, const lt_gguf *g, lt_err *err);
/* config.json of the (possibly changed) c: a new object that starts from c->raw */
lt_status lt_family_write_config(const lt_family *f, json_t **out, const lt_config *c, lt_err *err);

/* What both readers share. Heads and rotating columns that attention can be built from; the layer records, all full;
 * one of them made to slide. */
lt_status lt_family_make_layers(const lt_family *f, lt_config *c, lt_layer_config *l, const char *where, lt_err *err);
void lt_family_slide(const lt_family *f, lt_config *c, size_t layer, size_t window);
bool lt_family_slides_by_rule(const lt_family *f, size_t layer, size_t nth); /* where nothing else says it */

/* The row of a slot; NULL: the family has none. */
const lt_map_row *lt_family_row(const lt_family *f, lt_slot slot);
/* Is the tensor of a row there, by the config? */
bool lt_when_holds(lt_when w, const lt_config *c);
/* Writes a map name with the layer put in for "%zu" into buf; false when it does not fit. */
bool lt_map_name(char *buf, size_t cap, const char *pattern, size_t layer);
static inline bool lt_slot_is_linear(lt_slot s) {
    return s < LT_N_LINEAR_SLOTS || s == LT_SLOT_HEAD;
}
static inline bool lt_slot_in_layer(lt_slot s) {
    return s < LT_SLOT_EMBED;
}

extern const lt_family *const lt_families[]; /* NULL-terminated */
/* LT_EUNSUPPORTED lists the supported ones. */
lt_status lt_family_find(const lt_family **out, const char *model_type, lt_err *err);
/* Two families may share an architecture (llama.cpp files Mistral under "llama"): slides says which is meant. */
lt_status lt_family_find_gguf(const lt_family **out, const char *arch, bool slides, lt_err *err);

#endif
