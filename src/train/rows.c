/* SPDX-License-Identifier: Apache-2.0 */
#include "train/rows.h"

#include <string.h>

enum { AT_ONCE = 1 << 20 }; /* ids of a file that stay resident while all are looked at */

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "no memory for rows to train on");
}

void lt_train_rows_clear(lt_train_rows *r) {
    lt_free(r->begin);
    lt_free(r->length);
    lt_free(r->targets);
    *r = (lt_train_rows){ 0 };
}

static lt_status reserve(lt_train_rows *r, size_t n, lt_err *err) {
    r->begin = lt_calloc(n + 1, sizeof *r->begin);
    r->length = lt_calloc(n + 1, sizeof *r->length);
    r->targets = lt_calloc(n + 1, sizeof *r->targets);
    return r->begin && r->length && r->targets ? LT_OK : no_memory(err);
}

/* First document that starts after at. */
static size_t next_doc(const lt_train_rows *r, size_t at) {
    size_t lo = 0, hi = r->n_docs;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (r->doc[mid] > at)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* End of a piece before document doc, in a row that ends at `end`. */
static size_t piece_end(const lt_train_rows *r, size_t end, size_t doc) {
    return r->isolated && doc < r->n_docs ? lt_min_size(end, r->doc[doc]) : end;
}

static uint32_t count_targets(const lt_train_rows *r, size_t begin, size_t n) {
    uint32_t count = 0;
    for (size_t at = begin, doc = next_doc(r, begin); at < begin + n; doc++) {
        const size_t end = piece_end(r, begin + n, doc);
        for (size_t i = at + 1; i < end; i++) count += !(r->ids[i] & LT_NOT_A_TARGET);
        at = end;
    }
    return count;
}

static bool add_row(lt_train_rows *r, size_t begin, size_t n) {
    const uint32_t targets = count_targets(r, begin, n);
    if (targets == 0) return false;
    r->begin[r->n] = begin;
    r->length[r->n] = (uint32_t)n;
    r->targets[r->n++] = targets;
    r->n_targets += targets;
    return true;
}

/* ids [begin, end) were read */
static void give_back(const lt_train_rows *r, size_t begin, size_t end) {
    if (!r->map) return;
    const lt_tensor t =
        lt_tensor_dense(LT_I32, 1, (size_t[]){ end - begin }, (lt_buffer *)r->map, begin * sizeof *r->ids);
    lt_tensor_drop(&t);
}

lt_status lt_train_rows_cut(lt_train_rows *out, const int32_t *ids, const lt_buffer *map, size_t n_ids,
                            const uint64_t *doc, size_t n_docs, size_t seq_len, bool isolated, lt_err *err) {
    lt_train_rows r = { .ids = ids, .map = map, .doc = doc, .n_ids = n_ids, .n_docs = n_docs, .isolated = isolated };
    size_t kept = 0; /* ids before it were given back */
    LT_REQUIRE(err, seq_len >= 2 && seq_len < UINT32_MAX, "rows of %zu tokens", seq_len);
    const lt_status st = reserve(&r, n_ids / seq_len + 1, err);
    if (st != LT_OK) return lt_train_rows_clear(&r), st;
    for (size_t at = 0; at < n_ids; at += seq_len) {
        r.n_dropped += !add_row(&r, at, lt_min_size(seq_len, n_ids - at));
        if (at - kept < AT_ONCE) continue;
        give_back(&r, kept, at);
        kept = at;
    }
    *out = r;
    return LT_OK;
}

lt_status lt_train_rows_given(lt_train_rows *out, const int32_t *ids, const lt_buffer *map, const uint64_t *start,
                              size_t n_rows, lt_err *err) {
    lt_train_rows r = {
        .ids = ids, .map = map, .doc = start, .n_ids = start[n_rows], .n_docs = n_rows, .isolated = true
    };
    lt_status st = reserve(&r, n_rows, err);
    for (size_t i = 0; st == LT_OK && i < n_rows; i++)
        if (start[i + 1] - start[i] > UINT32_MAX || !add_row(&r, start[i], start[i + 1] - start[i]))
            st = lt_fail(err, LT_EDATA, "row %zu of %zu tokens has no target to train on", i,
                         (size_t)(start[i + 1] - start[i]));
    if (st != LT_OK) return lt_train_rows_clear(&r), st;
    *out = r;
    return LT_OK;
}

/* ---- batches ---- */

void lt_micro_clear(lt_micro *m) {
    lt_free(m->ids);
    lt_free(m->target);
    lt_free(m->piece);
    *m = (lt_micro){ 0 };
}

static lt_status grow_ids(lt_micro *m, size_t n, lt_err *err) {
    if (n <= m->cap_ids) return LT_OK;
    int32_t *ids = lt_realloc(m->ids, n * sizeof *ids);
    if (!ids) return no_memory(err);
    m->ids = ids;
    int32_t *target = lt_realloc(m->target, n * sizeof *target);
    if (!target) return no_memory(err);
    m->target = target;
    m->cap_ids = n;
    return LT_OK;
}

static lt_status add_piece(lt_micro *m, size_t row, size_t n, lt_err *err) {
    if (m->batch.n_pieces == m->cap_pieces) {
        const size_t cap = m->cap_pieces ? 2 * m->cap_pieces : 64;
        lt_piece *piece = lt_realloc(m->piece, cap * sizeof *piece);
        if (!piece) return no_memory(err);
        m->piece = piece;
        m->cap_pieces = cap;
    }
    m->piece[m->batch.n_pieces] = (lt_piece){ .row = row, .n = n, .parent = -1, .seq = (uint32_t)m->batch.n_pieces };
    m->batch.n_pieces++;
    return LT_OK;
}

static lt_status fill_row(lt_micro *m, const lt_train_rows *r, size_t row, lt_err *err) {
    const size_t begin = r->begin[row], end = begin + r->length[row], to = m->batch.n_rows;
    for (size_t at = begin, doc = next_doc(r, begin); at < end; doc++) {
        const size_t stop = piece_end(r, end, doc);
        if (stop == at) continue; /* an empty document */
        LT_TRY(add_piece(m, to + at - begin, stop - at, err));
        for (size_t i = at; i < stop; i++) {
            const bool predicts = i + 1 < stop && !(r->ids[i + 1] & LT_NOT_A_TARGET);
            m->ids[to + i - begin] = lt_plain_id(r->ids[i]);
            m->target[to + i - begin] = predicts ? r->ids[i + 1] : -1;
        }
        at = stop;
    }
    m->batch.n_rows += end - begin;
    m->n_targets += r->targets[row];
    return LT_OK;
}

lt_status lt_micro_fill(lt_micro *m, const lt_train_rows *r, const size_t *which, size_t n, lt_err *err) {
    size_t tokens = 0;
    for (size_t i = 0; i < n; i++) tokens += r->length[which[i]];
    LT_TRY(grow_ids(m, tokens, err));
    m->batch = (lt_batch){ 0 };
    m->n_targets = 0;
    for (size_t i = 0; i < n; i++) LT_TRY(fill_row(m, r, which[i], err));
    give_back(r, 0, r->n_ids); /* what was mapped around a row is more than the row */
    m->batch.ids = m->ids;
    m->batch.piece = m->piece;
    return LT_OK;
}

/* ---- order ---- */

void lt_train_rows_order(size_t *order, size_t n, uint64_t seed, uint32_t epoch, bool shuffle) {
    lt_rng rng = lt_rng_at(seed, LT_RNG_DATA, epoch, 0);
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t i = n; shuffle && i > 1; i--) { /* Fisher & Yates */
        const size_t k = (size_t)lt_rng_below(&rng, i), t = order[i - 1];
        order[i - 1] = order[k];
        order[k] = t;
    }
}
