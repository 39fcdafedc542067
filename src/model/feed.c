/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass on top of a session. */
#include "model/session.h"

#include <string.h>

enum { FEED_ROWS = 512 };

/* One chunk on top of the session; logits NULL: only the cache is wanted. */
static lt_status feed_chunk(lt_session *s, lt_exec *x, const lt_model *m, const int32_t *ids, size_t n, float *logits,
                            lt_err *err) {
    const lt_piece piece = { .row = 0, .n = n, .pos0 = lt_session_positions(s), .parent = -1 };
    lt_past *const past = lt_session_past(s);
    const lt_batch batch = { .n_rows = n, .n_pieces = 1, .ids = ids, .piece = &piece, .past = &past };
    const size_t last = n - 1;
    lt_exec_begin(x, &batch);
    lt_var h = lt_model_embed(x, m);
    for (size_t layer = 0; layer < m->config.n_layers; layer++) h = lt_model_layer(x, m, layer, h);
    if (logits) {
        if (n > 1) h = lt_take_rows(x, h, &last, 1);
        const lt_var y = lt_model_logits(x, m, lt_model_final(x, m, h));
        const lt_real *p = lt_data(x, y);
        if (p) memcpy(logits, p, m->config.vocab_size * sizeof *logits);
    }
    const lt_status st = lt_exec_status(x, err);
    lt_exec_begin(x, NULL); /* batch and piece end here */
    return st;
}

lt_status lt_session_feed(lt_session *s, lt_exec *x, const lt_model *m, const int32_t *ids, size_t n, size_t chunk,
                          float *logits, lt_err *err) {
    LT_REQUIRE(err, n >= 1, "session: nothing to feed");
    LT_REQUIRE(err, lt_exec_mode(x) == LT_INFER, "session: the execution context records");
    const size_t have = lt_session_positions(s), max = m->config.max_positions;
    if (have > max || n > max - have)
        return lt_fail(err, LT_EDATA, "%zu positions asked of a model that has %zu (%s)", have + n, max, m->path);
    if (chunk == 0) chunk = FEED_ROWS;
    for (size_t i = 0; i < n; i += chunk) {
        const size_t rows = lt_min_size(chunk, n - i);
        LT_TRY(feed_chunk(s, x, m, ids + i, rows, i + rows == n ? logits : NULL, err));
    }
    return LT_OK;
}
