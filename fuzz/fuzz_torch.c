/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "io/torch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Every element of what the reader accepts is inside. */
static void use(const lt_tensor *t) {
    const size_t rows = lt_tensor_count(t) ? lt_tensor_rows(t) : 0, cols = lt_tensor_cols(t);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) {
            float v;
            lt_tensor_row_f32(&v, t, r, c, 1);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    lt_torch *t = NULL;
    if (lt_torch_from_memory(&t, data, bytes, "fuzz", &err) != LT_OK) {
        if (t || err.code == LT_OK || err.message[0] == 0) abort();
        return 0;
    }
    for (size_t i = 0; i < lt_torch_count(t); i++) use(&lt_torch_at(t, i)->tensor);
    lt_torch_close(t);
    return 0;
}
