/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "pipeline/forward_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What is accepted is a batch that can run: ids within the vocabulary, pieces that cover the rows once. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    enum { VOCAB = 64 };
    lt_err err = { 0 };
    lt_safetensors *st = NULL;
    if (lt_safetensors_from_memory(&st, data, bytes, "fuzz", &err) != LT_OK) return 0;
    lt_forward_input in = { 0 };
    if (lt_forward_input_load(&in, st, VOCAB, 16, &err) == LT_OK) {
        size_t rows = 0;
        for (size_t i = 0; i < in.n_rows; i++)
            if (in.ids[i] < 0 || in.ids[i] >= VOCAB || in.place[i] >= in.B * in.T) abort();
        for (size_t i = 0; i < in.n_pieces; i++) rows += in.piece[i].n;
        if (rows != in.n_rows) abort();
    } else if (err.code == LT_OK || err.message[0] == 0)
        abort();
    lt_forward_input_clear(&in);
    lt_safetensors_close(st);
    return 0;
}
