/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/bench.h"

#include <stdlib.h>

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

lt_times lt_times_of(double *seconds, size_t n) {
    qsort(seconds, n, sizeof *seconds, ascending);
    const double median = n % 2 ? seconds[n / 2] : 0.5 * (seconds[n / 2 - 1] + seconds[n / 2]);
    return (lt_times){ .median = median, .best = seconds[0], .worst = seconds[n - 1] };
}

int32_t *lt_bench_ids(size_t n, size_t vocab_size, uint64_t seed) {
    int32_t *ids = lt_malloc(n * sizeof *ids);
    lt_rng rng = lt_rng_at(seed, LT_RNG_DATA, 0, 0);
    for (size_t i = 0; ids && i < n; i++) ids[i] = (int32_t)lt_rng_below(&rng, vocab_size);
    return ids;
}

lt_status lt_bench_check_positions(const lt_model *m, size_t n, lt_err *err) {
    const size_t most = m->config.max_positions;
    if (most == 0 || n <= most) return LT_OK;
    return lt_fail(err, LT_EUSAGE, "%zu tokens asked of a model that has %zu positions (%s)", n, most, m->path);
}
