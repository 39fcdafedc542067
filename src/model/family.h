/* model/family.h - a model family as data: the names it answers to, its config reader and writer, its tensor map with
 * axis labels, and its block. One generic block function (model/block.c) interprets the row. Adding a family: one file
 * family_<name>.c and one line in families.c. */
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
    LT_SLOT_FINAL_NORM,
    LT_SLOT_HEAD,
    LT_N_SLOTS
} lt_slot;
enum { LT_N_NORM_SLOTS = LT_END_NORM_SLOTS - LT_N_LINEAR_SLOTS };
const char *
lt_slot_role(lt_slot s); /* "q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down", "norm", "embed", "head" */

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
    LT_N_AXES
} lt_axis; /* QKV: all q, all k, all v rows, fused */
const char *lt_axis_name(lt_axis a);
/* size of axis a in layer l (NULL for axes outside layers) */
size_t lt_axis_size(lt_axis a, const lt_config *c, const lt_layer_config *l);

typedef enum lt_when { LT_ALWAYS, LT_IF_ATTN_BIAS, LT_IF_MLP_BIAS, LT_IF_UNTIED } lt_when;
typedef struct lt_map_row {
    lt_slot slot;
    const char
        *hf; /* module path, "%zu" for the layer: "model.layers.%zu.self_attn.q_proj"; ".weight"/".bias" follow */
    const char *gguf;   /* "blk.%zu.attn_q"; NULL: not in GGUF */
    lt_axis out, in;    /* of the weight; norms: out only */
    lt_when when;       /* is the tensor there */
    bool has_bias;      /* has it a bias ... */
    lt_when bias;       /* ... and when */
    bool gguf_permuted; /* rows stored in interleaved rotary order */
    bool in_out;        /* Conv1D */
    const lt_layout *layout;
} lt_map_row;

typedef enum lt_norm_place { LT_NORM_PRE, LT_NORM_POST, LT_NORM_SANDWICH } lt_norm_place;
typedef struct lt_block_row {
    lt_norm_kind norm;
    lt_norm_place place;
    bool parallel; /* parallel residual */
    enum { LT_QK_NORM_NONE, LT_QK_NORM_HEAD, LT_QK_NORM_WHOLE } qk_norm;
    bool gated_mlp;
    double softcap; /* attention; 0 none */
} lt_block_row;

typedef struct lt_family {
    const char *name;                                      /* "llama" */
    const char *const *model_types;                        /* NULL-terminated: config.json model_type */
    const char *const *gguf_archs;                         /* NULL-terminated */
    const char *gguf_arch;                                 /* what it is written as (save_gguf.c); NULL: not written */
    const char *architecture;                              /* "LlamaForCausalLM": what a stock loader builds */
    const char *lowrank_model_type, *lowrank_architecture; /* "lowrank_llama", "LowRankLlamaForCausalLM" */
    lt_block_row block;
    const lt_map_row *tensors;
    size_t n_tensors;
    /* fills c (already zeroed; c->raw set) from config.json / from GGUF metadata (which also makes c->raw).
     * Contradictions are LT_EDATA, unknown rope types or activations LT_EUNSUPPORTED naming the field. */
    lt_status (*read_config)(lt_config *c, const json_t *config, const char *where, lt_err *err);
    lt_status (*read_gguf)(lt_config *c, const lt_gguf *g, lt_err *err);
    /* config.json of the (possibly changed) c: a new object that starts from c->raw */
    lt_status (*write_config)(json_t **out, const lt_config *c, lt_err *err);
} lt_family;

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
lt_status lt_family_find_gguf(const lt_family **out, const char *arch, lt_err *err);

#endif
