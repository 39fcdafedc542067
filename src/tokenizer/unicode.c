/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/unicode.h"

#include <string.h>

#include "core/core.h"
#include "tokenizer/unicode_tables.h"

static const char category_name[LT_UNI_N_CATEGORIES][3] = {
    "Cn", "Cc", "Cf", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu", "Mc", "Me", "Mn", "Nd", "Nl",
    "No", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs",
};

unsigned lt_uni_props(uint32_t cp) {
    size_t low = 0, high = LT_COUNTOF(run_first); /* the run is in [low, high) */
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (run_first[middle] <= cp)
            low = middle;
        else
            high = middle;
    }
    return run_props[low];
}

uint32_t lt_uni_lower(uint32_t cp) {
    size_t low = 0, high = LT_COUNTOF(lower_runs);
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if ((uint32_t)lower_runs[middle][0] <= cp)
            low = middle;
        else
            high = middle;
    }
    const int32_t *run = lower_runs[low], c = (int32_t)cp;
    return c <= run[1] && (c - run[0]) % run[2] == 0 ? (uint32_t)(c + run[3]) : cp;
}

uint32_t lt_uni_categories(const char *name, size_t bytes) {
    uint32_t mask = 0;
    if (bytes != 1 && bytes != 2) return 0;
    for (unsigned i = 0; i < LT_UNI_N_CATEGORIES; i++)
        if (memcmp(category_name[i], name, bytes) == 0) mask |= 1u << i;
    return mask;
}

size_t lt_uni_n_runs(void) {
    return LT_COUNTOF(run_first);
}

lt_uni_run lt_uni_run_at(size_t i) {
    const uint32_t next = i + 1 < LT_COUNTOF(run_first) ? run_first[i + 1] : 0x110000;
    return (lt_uni_run){ run_first[i], next - 1, run_props[i] };
}
