/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass on top of sessions. */
#include "model/session.h"

#include <string.h>

typedef struct forwarding {
    lt_exec *x;
    const lt_model *m;
    const lt_batch *batch;
    const size_t *last; /* [n] rows; n the whole batch: not read */
    size_t n;
    float *to; /* [n, vocab]; NULL: only the cache is wanted */
} forwarding;

/* Hidden states of the batch to logits of its last rows. */
static void run_layers(void *arg) {
    const forwarding *f = arg;
    lt_exec *x = f->x;
    const lt_model *m = f->m;
    lt_exec_begin(x, f->batch);
    lt_var h = lt_model_embed(x, m);
    for (size_t layer = 0; layer < m->config.n_layers; layer++) h = lt_model_layer(x, m, layer, h);
    if (!f->to) return;
    if (f->n < f->batch->n_rows) h = lt_take_rows(x, h, f->last, f->n);
    const lt_var y = lt_model_logits(x, m, lt_model_final(x, m, h));
    const lt_real *p = lt_data(x, y);
    if (p) memcpy(f->to, p, f->n * m->config.vocab_size * sizeof *f->to);
}

static lt_status forward(forwarding f, lt_err *err) {
    if (f.batch->n_rows == f.batch->n_pieces) /* a decoding step: many small products */
        lt_team_hold(lt_exec_team(f.x), run_layers, &f);
    else
        run_layers(&f);
    const lt_status st = lt_exec_status(f.x, err);
    lt_exec_begin(f.x, NULL); /* batch and pieces end here */
    return st;
}

static lt_status check_positions(const lt_session *s, size_t n, const lt_model *m, lt_err *err) {
    const size_t have = lt_session_positions(s), max = m->config.max_positions;
    if (have > max || n > max - have)
        return lt_fail(err, LT_EDATA, "%zu positions asked of a model that has %zu (%s)", have + n, max, m->path);
    return LT_OK;
}

lt_status lt_session_feed(lt_session *s, lt_exec *x, const lt_model *m, const int32_t *ids, size_t n, size_t chunk,
                          float *logits, lt_err *err) {
    LT_REQUIRE(err, n >= 1, "session: nothing to feed");
    LT_REQUIRE(err, lt_exec_mode(x) == LT_INFER, "session: the execution context records");
    LT_TRY(check_positions(s, n, m, err));
    if (chunk == 0) chunk = LT_FEED_ROWS;
    for (size_t i = 0; i < n; i += chunk) {
        const size_t rows = lt_min_size(chunk, n - i), last = rows - 1;
        const lt_piece piece = { .n = rows, .pos0 = lt_session_positions(s), .parent = -1 };
        lt_past *const past = lt_session_past(s);
        const lt_batch batch = { .n_rows = rows, .n_pieces = 1, .ids = ids + i, .piece = &piece, .past = &past };
        LT_TRY(forward((forwarding){ x, m, &batch, &last, 1, i + rows == n ? logits : NULL }, err));
    }
    return LT_OK;
}

lt_status lt_session_step(lt_session *const *s, size_t n, lt_exec *x, const lt_model *m, const int32_t *ids,
                          float *logits, lt_err *err) {
    LT_REQUIRE(err, n >= 1, "session: nothing to feed");
    LT_REQUIRE(err, lt_exec_mode(x) == LT_INFER, "session: the execution context records");
    lt_piece *piece = lt_calloc(n, sizeof *piece);
    lt_past **past = lt_calloc(n, sizeof(lt_past *));
    lt_status st = piece && past ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (step of %zu sequences)", n);
    for (size_t i = 0; st == LT_OK && i < n; i++) {
        st = check_positions(s[i], 1, m, err);
        piece[i] = (lt_piece){ .row = i, .n = 1, .pos0 = lt_session_positions(s[i]), .parent = -1, .seq = (uint32_t)i };
        past[i] = lt_session_past(s[i]);
    }
    const lt_batch batch = { .n_rows = n, .n_pieces = n, .ids = ids, .piece = piece, .past = past };
    if (st == LT_OK) st = forward((forwarding){ x, m, &batch, NULL, n, logits }, err);
    lt_free(piece);
    lt_free(past);
    return st;
}
