/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "calib/stats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static size_t use_site(const lt_stats *s, lt_stats_site site) {
    lt_stats_site found;
    size_t doubles = 0;
    for (size_t i = 0; i < site.n_modules; i++)
        if (!lt_stats_find(s, site.kind, site.modules[i], &found) || found.name != site.name) abort();
    for (size_t k = 0; k < LT_N_STATS; k++) {
        const double *v;
        if (lt_stats_values(&v, s, site.name, lt_stat_rows[k]->name, NULL) != LT_OK) continue;
        const size_t n = lt_stat_rows[k]->doubles(site.cols);
        double first, last;
        memcpy(&first, v, sizeof first);
        memcpy(&last, v + n - 1, sizeof last);
        doubles += n;
    }
    lt_stats_drop(s, site.name);
    if (!(lt_stats_count(s, site.name) >= 0.0)) abort();
    return doubles;
}

/* What the reader accepts can be used: modules find their site, sums lie inside the file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    lt_stats *s = NULL;
    if (lt_stats_from_memory(&s, data, bytes, "fuzz", &err) != LT_OK) {
        if (s || err.code == LT_OK || err.message[0] == 0) abort();
        return 0;
    }
    size_t doubles = 0;
    for (size_t i = 0; i < lt_stats_n_sites(s); i++) doubles += use_site(s, lt_stats_site_at(s, i));
    if (doubles * sizeof(double) > bytes || strlen(lt_stats_hash(s)) != 64 || !lt_stats_meta(s, "model_hash")) abort();
    lt_stats_close(s);
    return 0;
}
