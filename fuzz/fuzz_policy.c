/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "compress/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What is accepted gives a rank within its bounds for every role. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    lt_policy p;
    if (lt_policy_parse(&p, (const char *)data, bytes, "fuzz", &err) != LT_OK) {
        if (err.code == LT_OK || err.message[0] == 0) abort();
        return 0;
    }
    for (int role = 0; role < LT_N_LINEAR_SLOTS; role++) {
        const size_t r = lt_policy_rank(&p, (lt_slot)role, 64, 1.5, 100);
        if (r < lt_min_size(p.min_rank, 100) || r > 100) abort();
    }
    return 0;
}
