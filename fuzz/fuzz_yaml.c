/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "io/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What is accepted is whole JSON, what is refused says why. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    json_t *j = NULL;
    if (lt_yaml_parse(&j, (const char *)data, bytes, "fuzz", &err) != LT_OK) {
        if (j || err.code == LT_OK || err.message[0] == 0) abort();
        return 0;
    }
    char *text = json_dumps(j, JSON_ENCODE_ANY);
    if (!text) abort();
    free(text);
    json_decref(j);
    return 0;
}
