/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What the reader accepts can be used: tensors lie where it says, names find them, metadata are strings. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    lt_safetensors *st = NULL;
    if (lt_safetensors_from_memory(&st, data, bytes, "fuzz", &err) != LT_OK) {
        if (st || err.code == LT_OK || err.message[0] == 0) abort();
        return 0;
    }
    size_t total = 0;
    for (size_t i = 0; i < lt_safetensors_count(st); i++) {
        const lt_st_entry *e = lt_safetensors_at(st, i);
        const lt_tensor *t = lt_safetensors_find(st, e->name);
        char text[64];
        if (t != &e->tensor || strlen(lt_tensor_describe(t, text, sizeof text)) >= sizeof text) abort();
        total += lt_tensor_bytes(t);
        if (lt_tensor_count(t) == 0) continue;
        float first, last;
        lt_tensor_row_f32(&first, t, 0, 0, 1);
        lt_tensor_row_f32(&last, t, lt_tensor_rows(t) - 1, lt_tensor_cols(t) - 1, 1);
    }
    if (total > bytes) abort();
    lt_safetensors_meta(st, "format");
    lt_safetensors_close(st);
    return 0;
}
