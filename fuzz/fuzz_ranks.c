/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "compress/ranks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What is accepted is whole numbers by module. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    json_t *ranks = NULL, *value;
    const char *module;
    char model[LT_HASH_HEX];
    if (lt_ranks_parse(&ranks, model, (const char *)data, bytes, "fuzz", &err) != LT_OK) {
        if (ranks || err.code == LT_OK || err.message[0] == 0) abort();
        return 0;
    }
    json_object_foreach(ranks, module, value) {
        if (!json_is_integer(value) || json_integer_value(value) < 0) abort();
    }
    json_decref(ranks);
    return 0;
}
