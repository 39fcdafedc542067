/* model/config.h - what a model is: one global part and one record per layer; a uniform model is the special case. */
#ifndef LT_MODEL_CONFIG_H
#define LT_MODEL_CONFIG_H

#include "io/json.h"
#include "nn/ops.h"

typedef enum lt_mixer_kind { LT_MIXER_SOFTMAX, LT_MIXER_DELTA, LT_MIXER_GATED_DELTA } lt_mixer_kind;
typedef enum lt_rope_kind { LT_ROPE_DEFAULT, LT_ROPE_LINEAR, LT_ROPE_LLAMA3, LT_N_ROPE_KINDS } lt_rope_kind; /* rows in model/rope.c */

typedef struct lt_rope_config {
    lt_rope_kind kind;
    double theta;
    size_t dim;               /* rotating columns of each head, even */
    bool interleaved;
    double factor, low_freq_factor, high_freq_factor, original_max_positions; /* as the kind needs */
} lt_rope_config;

typedef struct lt_layer_config {
    lt_mixer_kind mixer;
    bool present;             /* false: dropped; hidden state passes through */
    size_t parent;            /* layer index in the parent model */
    size_t n_q_heads, n_k_heads, n_v_heads, qk_dim, v_dim;
    double qk_scale;          /* usually 1/sqrt(qk_dim of the parent) */
    size_t d_ff;
    size_t window;            /* 0: full */
    int rope;                 /* row of lt_config.rope; -1: none */
    size_t conv_width;        /* 0: none */
    double mixer_norm_eps;
    int kv_source;            /* layer whose K/V are used; itself */
} lt_layer_config;

enum { LT_MAX_ROPES = 4 };
typedef struct lt_config {
    char model_type[64];      /* as in the file */
    size_t n_layers, d_model, vocab_size, max_positions;
    double norm_eps;
    lt_act act;
    bool tied;                /* the head is the embedding table */
    bool attn_bias, mlp_bias; /* which optional biases the tensor map has */
    double embed_scale, logit_scale;
    int32_t bos, eos[8];      /* -1: none */
    size_t n_eos;
    lt_rope_config rope[LT_MAX_ROPES];
    size_t n_ropes;
    lt_layer_config *layer;   /* [n_layers], owned */
    json_t *raw;              /* config.json as read (or made from GGUF), owned; writers start from it */
} lt_config;
void lt_config_clear(lt_config *c);
/* inv_freq [dim/2] of a rope row in double; the llama3 and linear rules of transformers' modeling_rope_utils. */
void lt_rope_frequencies(double *inv_freq, const lt_rope_config *r);

#endif
