/* SPDX-License-Identifier: Apache-2.0 */
/* compress/drift_pass.h - two streams of hidden states through a model and its changed twin, side by side, and the sums
 * that fits of drifted inputs need; private to the room.
 *
 * h runs through the original, g through the twin, both start as embeddings. For a site with inputs x and x':
 *   C' = Σ x' x'ᵀ,  K = Σ x x'ᵀ,  R = Σ e x'ᵀ,  e = what the residual streams differ by where the linear's output is
 * added: h - g in front of the mixer's output, and with both mixers' outputs added in front of the MLP's. f32 products
 * over 512 rows, f64 sums. A pass stops each batch behind the last site it looks at. */
#ifndef LT_COMPRESS_DRIFT_PASS_H
#define LT_COMPRESS_DRIFT_PASS_H

#include "model/model.h"

typedef struct lt_drift_sums {
    lt_site site;
    size_t d, d2, d_model;
    double *c;           /* [d2(d2+1)/2] packed lower */
    double *k;           /* [d, d2] */
    double *r;           /* [d_model, d2]; NULL: not wanted */
    double *s, *s2, *sr; /* [d], [d2], [d_model]: column sums */
    double count;
} lt_drift_sums;
/* Zeroed; cleared by clear, also after a failure. */
lt_status lt_drift_sums_init(lt_drift_sums *s, lt_site site, size_t d, size_t d2, size_t d_model, bool residual,
                             lt_err *err);
void lt_drift_sums_clear(lt_drift_sums *s);
size_t lt_drift_sums_bytes(size_t d, size_t d2, size_t d_model, bool residual);

typedef struct lt_drift_streams lt_drift_streams;
typedef struct lt_drift_streams_in {
    const lt_model *original, *changed; /* changed may change between calls */
    const lt_batch *batches;
    size_t n_batches;
    size_t n_passes; /* calls of collect and advance that will be made: what progress counts */
    lt_team *team;
    const lt_ctx *ctx; /* progress; may be NULL */
} lt_drift_streams_in;
/* Both streams behind the embedding. Borrows everything. */
lt_status lt_drift_streams_create(lt_drift_streams **out, const lt_drift_streams_in *in, lt_err *err);
void lt_drift_streams_destroy(lt_drift_streams *s);
size_t lt_drift_streams_bytes(const lt_drift_streams_in *in, size_t widest); /* widest: of the sites looked at */

/* n passes will not be made after all: what they were for was found. */
void lt_drift_spare(lt_drift_streams *s, size_t n);

/* Adds to sums [n], sites in forward order. take_original: the original's stream goes on behind the layer. LT_EDATA: an
 * activation is not finite. */
lt_status lt_drift_collect(lt_drift_streams *s, size_t layer, lt_drift_sums *sums, size_t n, bool take_original,
                           lt_err *err);
/* Behind the layer: the original's stream, the twin's, or both. */
lt_status lt_drift_advance(lt_drift_streams *s, size_t layer, bool original, bool changed, lt_err *err);

#endif
