/* nn/head_tile.h - an output head in tiles of tokens and vocabulary, for losses that never hold [tokens, vocab].
 *
 *   l = scale head(x), and cap tanh(l / cap) where the head has a soft-cap: fill makes the logits of one tile; after a
 * loss has turned them into gradients, back carries these through the last stage. The first stage of a two-stage head
 * runs once per chunk of tokens. */
#ifndef LT_NN_HEAD_TILE_H
#define LT_NN_HEAD_TILE_H

#include <math.h>

#include "nn/stage.h"

enum { LT_HEAD_TOKENS = 1024, LT_HEAD_VOCAB = 2048 }; /* LT_HEAD_VOCAB: a multiple of every block size */

typedef struct lt_head_tile {
    const lt_linear *head;
    const lt_stage *last;
    const lt_real *in, *last_in; /* of the chunk: inputs of the first and of the last stage */
    lt_real *inner;
    size_t row, n; /* the chunk: tokens [row, row + n) */
    size_t vocab;
    double scale;
    lt_real *tile;  /* [n, span.n]; NULL after a failure */
    lt_real *slope; /* of the soft-cap, while a tile goes backward; NULL: none */
} lt_head_tile;

/* Scratch for chunks of n tokens. */
lt_head_tile lt_head_tile_begin(lt_exec *x, const lt_linear *head, double scale, size_t n);
/* Moves to tokens [row, row + n) of in [all, d]. */
void lt_head_tile_rows(lt_exec *x, lt_head_tile *c, const lt_real *in, size_t row, size_t n);
void lt_head_tile_fill(lt_exec *x, const lt_head_tile *c, lt_span span);

/* The soft-cap of n logits in place, and its slope 1 - (l / cap)^2 from the capped ones. */
void lt_softcap(lt_real *l, double cap, size_t n);
void lt_softcap_slope(lt_real *slope, const lt_real *l, double cap, size_t n);

/* What a loss does with a tile: forward, looks at it; backward, turns logits into their gradients, in place (scale is
 * its own affair). */
typedef void (*lt_head_tile_fn)(lt_exec *x, const lt_head_tile *c, lt_span span, void *arg);
/* All tiles of in [n, d], by chunks of tokens, then along the vocabulary. */
void lt_head_tiles(lt_exec *x, lt_head_tile *c, const lt_real *in, size_t n, lt_head_tile_fn see, void *arg);
/* The same with gradients: to what trains in the head and to dx [n, d] (NULL: not wanted). */
void lt_head_tiles_back(lt_exec *x, lt_head_tile *c, const lt_real *in, lt_real *dx, size_t n, lt_head_tile_fn gradient,
                        void *arg);

/* Softmax over one token's logits, tile by tile: running maximum and sum of exp(l - m). */
typedef struct lt_online {
    double m, z;
} lt_online;
#define LT_ONLINE ((lt_online){ -INFINITY, 0 })
static inline double lt_online_log(lt_online s) {
    return s.z > 0 ? s.m + log(s.z) : -INFINITY;
}

#endif
