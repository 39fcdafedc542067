/* nn/ops.h - typed wrappers of the op rows: shapes first, then the formula. n = rows of the batch.
 *
 * Every wrapper returns a new value; LT_NO_VAR after a failure. Positions, document borders and pasts come from the
 * batch. */
#ifndef LT_NN_OPS_H
#define LT_NN_OPS_H

#include "nn/linear.h"

/* [n, d]: row ids[i] of table [vocab, d] times scale; an id outside the table is LT_EDATA. */
lt_var lt_embed(lt_exec *x, lt_param *table, double scale);

/* [n, d]: in plus row (position + offset) of table: learned positions. A position outside the table is LT_EDATA. */
lt_var lt_add_positions(lt_exec *x, lt_var in, lt_param *table, size_t offset);

typedef enum lt_norm_kind { LT_NORM_RMS, LT_NORM_RMS_PLUS1, LT_NORM_LAYER } lt_norm_kind;
typedef struct lt_norm_params {
    lt_norm_kind kind;
    double eps;
    lt_param w, b;
} lt_norm_params; /* b.name NULL: none */
/* rms: y = w * x / sqrt(mean x² + eps) (Zhang & Sennrich 2019); plus1: (1 + w); layer: (x - mean)/sqrt(var + eps) * w +
 * b. group > 0: normalise each run of `group` columns alone (w [group] shared): per-head q/k norm. */
lt_var lt_norm(lt_exec *x, lt_var in, const lt_norm_params *p, size_t group);

lt_var lt_add(lt_exec *x, lt_var a, lt_var b); /* [n, d] each */

typedef enum lt_act { LT_ACT_SILU, LT_ACT_GELU, LT_ACT_GELU_TANH, LT_ACT_RELU, LT_N_ACTS } lt_act;
const char *lt_act_name(lt_act a);
lt_var lt_gated(lt_exec *x, lt_var gate, lt_var up, lt_act act); /* act(gate) * up */
lt_var lt_activate(lt_exec *x, lt_var in, lt_act act);

/* Rotation tables for the batch's positions, made once per forward and shared by all layers of one rope row:
 * angle(pos, i) = pos * inv_freq[i], in double; cos and sin times `factor` (YaRN's attention factor). */
typedef struct lt_rope_table lt_rope_table;
const lt_rope_table *lt_rope_prepare(lt_exec *x, const double *inv_freq, size_t n_freq,
                                     double factor); /* owned by the exec until begin */
/* Each head of head_dim columns: its first 2*n_freq columns rotate, half-split (i, i + n_freq) or interleaved (2i,
 * 2i+1). */
lt_var lt_rope(lt_exec *x, lt_var in, const lt_rope_table *t, size_t n_heads, size_t head_dim, bool interleaved);

typedef struct lt_attn_params {
    int layer; /* for the pasts */
    size_t n_q_heads, n_kv_heads, qk_dim, v_dim;
    double scale;   /* of q·k */
    double softcap; /* 0: none; cap * tanh(s / cap) */
    size_t window;  /* keys visible, the query's own included; 0: all before */
} lt_attn_params;
/* Causal softmax attention within each piece, its ancestors and its past. q [n, Hq*dk], k [n, Hkv*dk], v [n, Hkv*dv];
 * out [n, Hq*dv]. Query head h reads kv head h / (Hq/Hkv). A past holds what lies before the piece: its rows are
 * appended to the session after this op; a piece with a parent has the past of its root. Tiled online softmax: no [n,
 * n] matrix. Backward recomputes the tiles from the saved (m, Z); it refuses pieces with parents or pasts
 * (LT_EUNSUPPORTED). Results per piece do not depend on the other pieces. */
lt_var lt_attention(lt_exec *x, lt_var q, lt_var k, lt_var v, const lt_attn_params *p);

/* Rows of `in` by index: [n_index, d]. */
lt_var lt_take_rows(lt_exec *x, lt_var in, const size_t *index, size_t n_index);

/* Column block [c0, c0 + n) of a fused output. */
lt_var lt_take_cols(lt_exec *x, lt_var in, size_t c0, size_t n);
/* Part of a fused output by the layout of its matrix: [n, rows of the part]. */
lt_var lt_take_part(lt_exec *x, lt_var in, const lt_layout *layout, size_t part);

/* [n, vocab] logits = scale * head(in): only where a user asks for logits. */
lt_var lt_logits(lt_exec *x, lt_var in, const lt_linear *head, double scale);
/* [n, 1] negative log-likelihood of target[i] (nats); target -1: 0 and no gradient. Fused: works through vocabulary and
 * token chunks, [n, vocab] never exists; f64 log-sum-exp totals. argmax: NULL or [n] int32 out (ties to the smallest
 * id). A non-finite logit gives +inf. A target outside the vocabulary is LT_EDATA. targets are copied. */
lt_var lt_head_nll(lt_exec *x, lt_var in, const lt_linear *head, double scale, const int32_t *target, int32_t *argmax);

/* ---- distillation: per-token losses like head_nll, fused in the same way (spec minitron 5.1, 5.2) ---- */
typedef enum lt_kd_kind {
    LT_KD_FORWARD,        /* KL(teacher | student) over the vocabulary */
    LT_KD_REVERSE,        /* KL(student | teacher) */
    LT_KD_JSD,            /* beta KL(p|m) + (1 - beta) KL(q|m), m = beta p + (1 - beta) q */
    LT_KD_TRUNC,          /* teacher normalised over its top K, student over the vocabulary */
    LT_KD_RENORM,         /* both normalised over the top K */
    LT_KD_TAIL,           /* top K and one bucket for the rest */
    LT_KD_REVERSE_BUCKET, /* the reverse of that */
} lt_kd_kind;
typedef struct lt_kd_params {
    lt_kd_kind kind;
    double tau;      /* both sides' logits are divided by it; the tail kinds: 1 */
    bool tau_square; /* times tau² */
    double beta;     /* of LT_KD_JSD */
    double alpha_ce; /* (1 - alpha_ce) kd + alpha_ce cross entropy */
} lt_kd_params;
typedef struct lt_kd_teacher {
    lt_var in; /* [n, its width] before its head; no gradient goes there */
    const lt_linear *head;
    double scale;
} lt_kd_teacher;
/* [n, 1]; a target of -1: 0 and no gradient. Kinds FORWARD to JSD. A non-finite logit gives +inf. Targets are copied.
 */
lt_var lt_head_kd(lt_exec *x, lt_var in, const lt_linear *head, double scale, const lt_kd_teacher *teacher,
                  const int32_t *target, const lt_kd_params *p);
typedef struct lt_kd_topk {
    size_t k;
    const int32_t *ids;       /* [n, k], all different in a row */
    const lt_real *logp;      /* [n, k] over the vocabulary, at tau 1 */
    const lt_real *tail_logp; /* [n] log of what is left; -INFINITY: nothing; NULL: not needed (TRUNC, RENORM) */
} lt_kd_topk;
/* Kinds TRUNC to REVERSE_BUCKET; all arrays are copied. An id outside the vocabulary or a log-probability above 0 is
 * LT_EDATA. */
lt_var lt_head_kd_topk(lt_exec *x, lt_var in, const lt_linear *head, double scale, const lt_kd_topk *t,
                       const int32_t *target, const lt_kd_params *p);

#endif
