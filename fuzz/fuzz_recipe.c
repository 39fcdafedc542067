/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "io/yaml.h"
#include "pipeline/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A recipe is refused with a message, or every job has a verb and needs only jobs before it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    json_t *root = NULL, *lines = NULL;
    if (lt_yaml_parse_lines(&root, &lines, (const char *)data, bytes, "fuzz", &err) != LT_OK) return 0;
    const lt_recipe_opts opts = { .out = "out", .shard = 1, .shards = 1, .lines = lines };
    lt_recipe r = { 0 };
    if (lt_recipe_parse(&r, root, "fuzz", &opts, &err) == LT_OK) {
        for (size_t i = 0; i < r.n; i++) {
            if (!r.job[i].verb || !r.job[i].options) abort();
            for (size_t j = 0; j < r.job[i].n_needs; j++)
                if (r.job[i].needs[j] >= i) abort();
        }
    } else if (err.code == LT_OK || err.message[0] == 0)
        abort();
    lt_recipe_clear(&r);
    json_decref(lines);
    return 0;
}
