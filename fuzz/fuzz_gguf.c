/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "io/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void use_key(const lt_gguf *g, size_t i) {
    const char *key = lt_gguf_key(g, i);
    char text[128];
    uint64_t u;
    int64_t s;
    double d;
    bool b;
    size_t n;
    lt_gguf_type type;
    if (!lt_gguf_has(g, key) || strlen(lt_gguf_value_text(g, i, text, sizeof text)) >= sizeof text) abort();
    lt_gguf_u64(g, key, &u);
    lt_gguf_f64(g, key, &d);
    lt_gguf_bool(g, key, &b);
    const char *string = lt_gguf_string(g, key, &n);
    if (string && string[n] != 0) abort();
    if (!lt_gguf_array(g, key, &type, &n)) return;
    for (size_t k = 0, bytes; k < n; k++) {
        lt_gguf_array_f64(g, key, k, &d);
        lt_gguf_array_i64(g, key, k, &s);
        string = lt_gguf_array_string(g, key, k, &bytes);
        if (string && string[bytes] != 0) abort();
    }
    if (lt_gguf_array_f64(g, key, n, &d) || lt_gguf_array_string(g, key, n, NULL)) abort();
}

static size_t use_tensor(const lt_gguf *g, size_t i) {
    const lt_gguf_entry *e = lt_gguf_at(g, i);
    const lt_tensor *t = lt_gguf_find(g, e->name);
    if (t != &e->tensor) abort();
    if (lt_tensor_count(t) == 0) return 0;
    const size_t block = lt_dtype_get(t->dtype)->block;
    float values[256];
    lt_tensor_row_f32(values, t, 0, 0, block);
    lt_tensor_row_f32(values, t, lt_tensor_rows(t) - 1, lt_tensor_cols(t) - block, block);
    return lt_tensor_bytes(t);
}

/* What the reader accepts can be used: keys and names find what they name, every byte of it is inside. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    lt_gguf *g = NULL;
    if (lt_gguf_from_memory(&g, data, bytes, "fuzz", &err) != LT_OK) {
        if (g || err.code == LT_OK || err.message[0] == 0) abort();
        return 0;
    }
    size_t total = 0;
    for (size_t i = 0; i < lt_gguf_n_keys(g); i++) use_key(g, i);
    for (size_t i = 0; i < lt_gguf_count(g); i++) total += use_tensor(g, i);
    if (total > bytes) abort();
    lt_gguf_close(g);
    return 0;
}
