/* nn/linear.h - a linear in memory is a linear in the file: one stage (dense W) or two (A·B), adapters, bias last.
 *
 *   y = stage[n-1](... stage[0](x)) + bias,  stage(x) = x Wᵀ + sum_a scale_a (x A_aᵀ) B_aᵀ
 * A factored linear has stage[0] = B (r x in) and stage[1] = A (out x r). Backward: spec utilized-rank §7.2. */
#ifndef LT_NN_LINEAR_H
#define LT_NN_LINEAR_H

#include "nn/exec.h"

typedef struct lt_adapter {
    lt_param a, b;
    double scale;
    double dropout; /* LT_RECORD: the part of x that A does not see; the rest is divided by 1 - dropout */
    uint64_t seed;  /* ... drawn from (seed, step, row) */
    uint32_t step;
} lt_adapter; /* LoRA: a [q, in], b [out, q] */
typedef struct lt_stage {
    lt_param w; /* [out, in] or, when in_out (Conv1D), [in, out] */
    bool in_out;
    lt_adapter *adapters;
    size_t n_adapters;
} lt_stage;
/* Row blocks of a fused matrix, in order: all "q" rows, all "k" rows ... With groups > 1 the matrix is `groups` equal
 * runs of rows, and each run holds 1/groups of every part, in order (GPT-NeoX: one group per head). */
typedef struct lt_layout_part {
    const char *name;
    size_t rows;
} lt_layout_part;
typedef struct lt_layout {
    const lt_layout_part *parts;
    size_t n_parts, groups; /* groups >= 1 divides the rows of every part */
    const struct lt_linear
        *part; /* [n_parts] each as a linear of its own, a view (model/parts.h); NULL: there are none */
} lt_layout;
typedef struct lt_linear {
    const char *name; /* module: "model.layers.3.mlp.up_proj" */
    lt_stage stage[2];
    int n_stages;                  /* 0: absent */
    lt_param bias;                 /* bias.name NULL: none */
    const lt_layout *layout;       /* NULL: not fused */
    const struct lt_linear *whole; /* of a view of some rows: the fused matrix they lie in; NULL: no view */
    double softcap; /* of an output head: logits are cap tanh(l / cap); 0: none. lt_linear_fwd leaves it out */
} lt_linear;
size_t lt_linear_in(const lt_linear *l);
size_t lt_linear_out(const lt_linear *l);
size_t lt_linear_rank(const lt_linear *l); /* inner width; 0 when dense */
static inline bool lt_linear_present(const lt_linear *l) {
    return l->n_stages > 0;
}

lt_var lt_linear_fwd(lt_exec *x, lt_var in, const lt_linear *l);
/* The same where only the gradient of the result is asked for when a block is replayed: its values are zeros then. */
lt_var lt_linear_fwd_unread(lt_exec *x, lt_var in, const lt_linear *l);
/* out[i] = linear l[i] of in, n of them: the values of n calls; LT_INFER and no adapters: in one go, which is faster */
void lt_linear_fwd_each(lt_exec *x, lt_var in, const lt_linear *const *l, size_t n, lt_var *out);

#endif
