/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/stage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Every line of a merges.txt is a pair of texts, or the file is refused in one line. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    json_t *merges = NULL, *pair;
    size_t i;
    if (lt_tok_merges_parse(&merges, (const char *)data, bytes, "fuzz", &err) != LT_OK) {
        if (merges || err.message[0] == 0 || strchr(err.message, '\n')) abort();
        return 0;
    }
    json_array_foreach(merges, i, pair) {
        if (json_array_size(pair) != 2 || !json_string_length(json_array_get(pair, 0))) abort();
    }
    json_decref(merges);
    return 0;
}
