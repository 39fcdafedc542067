/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "io/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What is accepted names tensors that lie within their storage; anything else is refused in words. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    lt_pickle_tensor *t = NULL;
    size_t n = 0;
    lt_arena *a = lt_arena_create(4096);
    if (!a) abort();
    if (lt_pickle_tensors(&t, &n, a, data, bytes, "fuzz", &err) != LT_OK) {
        if (err.code == LT_OK || err.message[0] == 0) abort();
        n = 0;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t last = t[i].offset;
        bool empty = false;
        for (int d = 0; d < t[i].rank; d++) {
            if (t[i].size[d] == 0)
                empty = true;
            else
                last += (t[i].size[d] - 1) * t[i].stride[d];
        }
        if (!t[i].name[0] || (!empty && last >= t[i].storage_count)) abort();
    }
    lt_arena_destroy(a);
    return 0;
}
