/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "io/gguf.h"
#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A tokenizer made of a GGUF's metadata can encode, and decode what it gave. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static const char text[] = "a b  ab<s> 12\xC3\xA9\n";
    lt_err err = { 0 };
    lt_gguf *g = NULL;
    lt_tokenizer *t = NULL;
    if (lt_gguf_from_memory(&g, data, bytes, "fuzz", &err) != LT_OK) return 0;
    const lt_status st = lt_tokenizer_from_gguf(&t, g, &err);
    if (st != LT_OK && (t || err.message[0] == 0 || strchr(err.message, '\n'))) abort();
    int32_t *ids = NULL;
    size_t n = 0;
    char *back = NULL;
    if (st == LT_OK && lt_tokenizer_encode(t, text, sizeof text - 1, true, &ids, &n, NULL) == LT_OK) {
        if (lt_tokenizer_decode(t, ids, n, false, &back, &n, NULL) != LT_OK) abort();
        lt_free(back);
        lt_free(ids);
    }
    lt_tokenizer_destroy(t);
    lt_gguf_close(g);
    return 0;
}
