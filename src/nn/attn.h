/* nn/attn.h - what the two directions of attention share: one call, tiles of query rows, online softmax.
 *
 * A tile stacks the query heads of one kv head: row i * group + h is query i, head h, so that one product with a block
 * of keys serves the whole group. Tiles are cut by shapes only. */
#ifndef LT_NN_ATTN_H
#define LT_NN_ATTN_H

#include "nn/op.h"

enum {
    LT_ATTN_ROWS = 192,    /* query rows of a tile, about: a tile of scores stays in the second cache */
    LT_ATTN_QUERIES = 128, /* at most so many queries: what a tile computes past the diagonal is lost */
    LT_ATTN_KEYS = 512,    /* keys of a block */
};

/* running maximum and sum of exp(score - m) of one query row */
typedef struct lt_attn_stat {
    lt_real m;
    double z;
} lt_attn_stat;

typedef struct lt_attn {
    lt_attn_params p;
    lt_team *team;
    const lt_batch *batch;
    size_t group, ldq, ldk, ldv, ldo;
    const lt_real *q, *k, *v;
    lt_real *out;
    lt_attn_stat *stat; /* [n, Hq] kept for backward, or NULL */
} lt_attn;

lt_attn lt_attn_of(lt_exec *x, const lt_node *node);
static inline size_t lt_attn_block(const lt_attn *a) { /* queries of a tile */
    return lt_max_size(1, lt_min_size(LT_ATTN_QUERIES, LT_ATTN_ROWS / a->group));
}
/* rows of q, out or their gradients [n, Hq * d]: queries [row, row + n) of kv head h, stacked into [n * group, d] */
void lt_attn_stack(const lt_attn *a, lt_real *dst, const lt_real *src, size_t row, size_t n, size_t h, size_t d);
/* Keys of a block that a query at position qpos sees: [*lo, *hi) of n whose positions are pos0, pos0 + 1, ... */
void lt_attn_visible(const lt_attn *a, size_t pos0, size_t n, bool causal, size_t qpos, size_t *lo, size_t *hi);
/* Products -> scores: scale, soft-cap, bias (NULL: none). In place. */
void lt_attn_scores(const lt_attn *a, lt_real *s, const float *bias, size_t n);
void lt_attn_backward(lt_exec *x, const lt_node *node);
size_t lt_attn_backward_scratch(const lt_attn *a); /* bytes per thread */

#endif
