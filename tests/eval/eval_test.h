/* SPDX-License-Identifier: Apache-2.0 */
/* tests/eval/eval_test.h - random windows, tiny random models, and the long way to what the measures say. */
#ifndef LT_TESTS_EVAL_TEST_H
#define LT_TESTS_EVAL_TEST_H

#include "model/model_test.h"

#include "calib/tokens.h"

#define EVAL_SPEC                                                                                                      \
    ((tm_spec){ .vocab = 67,                                                                                           \
                .d = 24,                                                                                               \
                .layers = 2,                                                                                           \
                .heads = 4,                                                                                            \
                .kv = 2,                                                                                               \
                .head_dim = 6,                                                                                         \
                .ff = 40,                                                                                              \
                .positions = 512,                                                                                      \
                .tied = true })

/* Owns nothing that lt_tokens_clear would not free. */
static inline lt_tokens ev_tokens(size_t rows, size_t len, size_t vocab, uint32_t seed) {
    lt_tokens t = { .n_ids = rows * len, .n_rows = rows };
    t.ids = lt_malloc(lt_max_size(rows * len, 1) * sizeof *t.ids);
    t.row_start = lt_malloc((rows + 1) * sizeof *t.row_start);
    t.content_id = lt_calloc(rows + 1, sizeof *t.content_id);
    t.source = lt_strdup("test");
    assert_true(t.ids && t.row_start && t.content_id && t.source);
    tm_ids(t.ids, rows * len, vocab, seed);
    for (size_t i = 0; i <= rows; i++) t.row_start[i] = i * len;
    return t;
}

/* Logits of one window; free() */
static inline float *ev_logits(const lt_model *m, lt_team *team, const lt_tokens *t, size_t w) {
    const size_t n = t->row_start[w + 1] - t->row_start[w];
    const lt_piece p = { .n = n, .parent = -1 };
    const lt_batch b = { .n_rows = n, .n_pieces = 1, .ids = t->ids + t->row_start[w], .piece = &p };
    return tm_logits_of(m, team, &b);
}

static inline double ev_lse(const float *z, size_t n) {
    double max = -INFINITY, sum = 0.0;
    for (size_t i = 0; i < n; i++) max = fmax(max, (double)z[i]);
    for (size_t i = 0; i < n; i++) sum += exp((double)z[i] - max);
    return max + log(sum);
}

#endif
