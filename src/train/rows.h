/* SPDX-License-Identifier: Apache-2.0 */
/* train/rows.h - what is trained on: rows of ids with the documents and targets in them, and batches made of rows.
 *
 * A row is what the model sees at once. When the set is isolated, each document (or part of one) in a row is a piece of
 * its own: attention and positions start anew there and nothing is predicted across. In the open form a row is one
 * piece. The id after a token is its target unless that id carries LT_NOT_A_TARGET (a prompt). */
#ifndef LT_TRAIN_ROWS_H
#define LT_TRAIN_ROWS_H

#include "nn/exec.h"

enum { LT_NOT_A_TARGET = 0x40000000 };
static inline int32_t lt_plain_id(int32_t id) {
    return id & ~LT_NOT_A_TARGET;
}

typedef struct lt_train_rows {
    const int32_t *ids;   /* borrowed */
    const lt_buffer *map; /* of ids that lie in a file: its pages are given back when they are read; NULL: memory */
    const uint64_t *doc;  /* [n_docs] where documents start in ids, ascending, doc[0] == 0; borrowed */
    size_t n_ids, n_docs;
    bool isolated;
    size_t n;          /* rows, each with at least one target */
    size_t *begin;     /* [n] in ids */
    uint32_t *length;  /* [n] */
    uint32_t *targets; /* [n] */
    uint64_t n_targets;
    size_t n_dropped; /* rows that had no target */
} lt_train_rows;
/* Cuts all ids into windows of seq_len; the last may be shorter. */
lt_status lt_train_rows_cut(lt_train_rows *out, const int32_t *ids, const lt_buffer *map, size_t n_ids,
                            const uint64_t *doc, size_t n_docs, size_t seq_len, bool isolated, lt_err *err);
/* Rows as given: row i is ids[start[i] .. start[i + 1]). A row without a target is LT_EDATA naming it. doc == start. */
lt_status lt_train_rows_given(lt_train_rows *out, const int32_t *ids, const lt_buffer *map, const uint64_t *start,
                              size_t n_rows, lt_err *err);
void lt_train_rows_clear(lt_train_rows *r);

/* A batch and its targets, with room that grows. */
typedef struct lt_micro {
    lt_batch batch;
    int32_t *ids, *target; /* target -1: none */
    lt_piece *piece;
    size_t cap_ids, cap_pieces, n_targets;
} lt_micro;
lt_status lt_micro_fill(lt_micro *m, const lt_train_rows *r, const size_t *which, size_t n, lt_err *err);
void lt_micro_clear(lt_micro *m);

/* The order of epoch e: a permutation of 0 .. n-1 drawn from (seed, e); shuffle false: as they are. */
void lt_train_rows_order(size_t *order, size_t n, uint64_t seed, uint32_t epoch, bool shuffle);

#endif
