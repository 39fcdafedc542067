/* SPDX-License-Identifier: Apache-2.0 */
#include "eval/windows.h"

lt_status lt_eval_check(const lt_tokens *t, lt_err *err) {
    const char *source = t->source ? t->source : "tokens";
    if (t->n_rows == 0) return lt_fail(err, LT_EDATA, "no whole window of text to score (%s)", source);
    for (size_t w = 0; w < t->n_rows; w++) {
        const size_t n = t->row_start[w + 1] - t->row_start[w];
        if (n < 2) return lt_fail(err, LT_EDATA, "a window of %zu tokens predicts nothing (%s: row %zu)", n, source, w);
    }
    return LT_OK;
}

void lt_eval_targets(int32_t *target, const lt_batch *b) {
    for (size_t p = 0; p < b->n_pieces; p++) {
        const size_t end = b->piece[p].row + b->piece[p].n;
        for (size_t i = b->piece[p].row; i + 1 < end; i++) target[i] = b->ids[i + 1];
        target[end - 1] = -1;
    }
}

size_t lt_eval_most_rows(const lt_batch *b, size_t n) {
    size_t most = 0;
    for (size_t i = 0; i < n; i++) most = lt_max_size(most, b[i].n_rows);
    return most;
}
