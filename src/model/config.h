/* model/config.h - what a model is: one global part and one record per layer; a uniform model is the special case. */
#ifndef LT_MODEL_CONFIG_H
#define LT_MODEL_CONFIG_H

#include "io/json.h"
#include "nn/ops.h"

typedef enum lt_mixer_kind { LT_MIXER_SOFTMAX, LT_MIXER_DELTA, LT_MIXER_GATED_DELTA } lt_mixer_kind;
typedef enum lt_rope_kind {
    LT_ROPE_DEFAULT,
    LT_ROPE_LINEAR,
    LT_ROPE_LLAMA3,
    LT_ROPE_YARN,
    LT_N_ROPE_KINDS
} lt_rope_kind; /* rows in model/rope_kinds.c */

typedef struct lt_rope_config {
    lt_rope_kind kind;
    double theta;
    size_t dim; /* rotating columns of each head, even */
    bool interleaved;
    double factor, low_freq_factor, high_freq_factor, original_max_positions; /* as the kind needs */
    double beta_fast, beta_slow, attention_factor; /* yarn; attention_factor: on cos and sin, 1 for the other kinds */
    bool truncate;
} lt_rope_config;

/* ---- the block as data: a family's row, with what its config may still choose ---- */
typedef enum lt_norm_place { LT_NORM_PRE, LT_NORM_POST, LT_NORM_POST_SUM, LT_NORM_SANDWICH } lt_norm_place;
typedef enum lt_qk_norm { LT_QK_NORM_NONE, LT_QK_NORM_HEAD, LT_QK_NORM_WHOLE } lt_qk_norm;
typedef struct lt_block_row {
    lt_norm_kind norm;
    lt_norm_place place;
    bool parallel; /* parallel residual */
    lt_qk_norm qk_norm;
    bool gated_mlp;
    double softcap; /* attention; 0 none */
} lt_block_row;

typedef struct lt_layer_config {
    lt_mixer_kind mixer;
    bool present;  /* false: dropped; hidden state passes through */
    size_t parent; /* layer index in the parent model */
    size_t n_q_heads, n_k_heads, n_v_heads, qk_dim, v_dim;
    double qk_scale; /* usually 1/sqrt(qk_dim of the parent) */
    size_t d_ff;
    size_t window;     /* 0: full */
    int rope;          /* row of lt_config.rope; -1: none */
    size_t conv_width; /* 0: none */
    double mixer_norm_eps;
    int kv_source; /* layer whose K/V are used; itself */
} lt_layer_config;

enum { LT_MAX_ROPES = 4 };
typedef struct lt_config {
    char model_type[64]; /* as in the file */
    size_t n_layers, d_model, vocab_size, max_positions;
    size_t d_embed;    /* width of the embedding table and of what the head reads; d_model but for OPT-350m */
    size_t pos_offset; /* learned positions: row of position 0 */
    lt_block_row block;
    bool final_norm;
    double norm_eps;
    lt_act act;
    bool tied;                                      /* the head is the embedding table */
    bool attn_bias, mlp_bias;                       /* which optional biases the tensor map has */
    double embed_scale, logit_scale, logit_softcap; /* softcap 0: none */
    int32_t bos, eos[8];                            /* -1: none */
    size_t n_eos;
    lt_rope_config rope[LT_MAX_ROPES];
    size_t n_ropes;
    lt_layer_config *layer; /* [n_layers], owned */
    json_t *raw;            /* config.json as read (or made from GGUF), owned; writers start from it */
} lt_config;
void lt_config_clear(lt_config *c);
/* c->layer: n_layers copies of *like, each its own parent and kv_source. n_layers is range-checked: LT_EDATA naming
 * where. */
lt_status lt_config_make_layers(lt_config *c, const lt_layer_config *like, const char *where, lt_err *err);
/* bos and eos from bos_token_id and eos_token_id (a number, a list or null) where o has them; others keep their value.
 */
lt_status lt_config_read_stops(lt_config *c, const json_t *o, const char *where, lt_err *err);
/* A width: 1 .. 2^31 - 1, so that products of two fit; missing or null gives dflt (0: required). */
lt_status lt_config_width(size_t *out, const json_t *o, const char *key, size_t dflt, const char *where, lt_err *err);
bool lt_act_find(const char *hf_name, lt_act *out); /* the names of transformers' hidden_act: "silu", "gelu_new" ... */
const char *lt_act_hf_name(lt_act act);             /* the first of them */

const char *lt_rope_kind_name(lt_rope_kind k); /* transformers' rope_type */
bool lt_rope_kind_find(const char *name, lt_rope_kind *out);
/* inv_freq [dim/2] of a rope row in double; the linear, llama3 and yarn rules of transformers' modeling_rope_utils. */
void lt_rope_frequencies(double *inv_freq, const lt_rope_config *r);
/* Fills r (dim, interleaved are the family's) from the member theta_key (missing: theta_dflt) and rope_scaling, or the
 * newer rope_parameters. Unknown types are LT_EUNSUPPORTED; missing or contradictory members LT_EDATA naming where. */
lt_status lt_rope_read(lt_rope_config *r, const json_t *config, const char *theta_key, double theta_dflt,
                       const char *where, lt_err *err);
/* rope_scaling as transformers writes it: null for the default kind; NULL: out of memory. New reference. */
json_t *lt_rope_write(const lt_rope_config *r);
/* A GGUF keeps llama3 scaling as one divisor per frequency: finds the llama3 parameters that give factor[n] (dim = 2n,
 * theta set) to 1e-4; false when none do. All ones is the default kind. */
bool lt_rope_fit_llama3(lt_rope_config *r, const float *factor, size_t n);

#endif
