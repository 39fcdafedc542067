/* SPDX-License-Identifier: Apache-2.0 */
/* tests/calib/calib_test.h - token sets and calibrations in one call. */
#ifndef LT_TESTS_CALIB_TEST_H
#define LT_TESTS_CALIB_TEST_H

#include "model/model_test.h"

#include "calib/calibrate.h"
#include "calib/recipe.h"

/* Rows of len ids each, of somebody else's making; copies. */
static inline lt_tokens ct_tokens(const int32_t *ids, size_t n_rows, size_t len) {
    lt_tokens t = { .n_ids = n_rows * len, .n_rows = n_rows, .isolated = true };
    lt_err err = { 0 };
    t.ids = lt_calloc(t.n_ids + 1, sizeof *t.ids);
    t.row_start = lt_calloc(n_rows + 1, sizeof *t.row_start);
    t.source = lt_strdup("test");
    t.recipe = lt_strdup("test");
    memcpy(t.ids, ids, t.n_ids * sizeof *ids);
    for (size_t i = 0; i <= n_rows; i++) t.row_start[i] = i * len;
    strcpy(t.tokenizer_hash, "tokenizer");
    assert_ok(lt_tokens_seal(&t, &err), &err);
    return t;
}

static inline lt_tokens ct_random_tokens(size_t n_rows, size_t len, size_t vocab, uint32_t seed) {
    int32_t *ids = calloc(n_rows * len + 1, sizeof *ids);
    tm_ids(ids, n_rows * len, vocab, seed);
    lt_tokens t = ct_tokens(ids, n_rows, len);
    free(ids);
    return t;
}

/* One matrix of the golden token file. */
static inline lt_tokens ct_golden_tokens(const char *name) {
    lt_safetensors *f;
    const lt_tensor *ids;
    lt_err err = { 0 };
    assert_ok(lt_safetensors_open(&f, TEST_NEED_SHARED("golden/compress/tokens.safetensors"), &err), &err);
    assert_ok(lt_safetensors_get(&ids, f, name, LT_I32, 2, &err), &err);
    lt_tokens t = ct_tokens(lt_host(ids), ids->size[0], ids->size[1]);
    lt_safetensors_close(f);
    return t;
}

static inline lt_stat_set ct_all_stats(void) {
    static const char *const names[] = { "count", "sum", "abssum", "sumsq", "gram" };
    lt_stat_set set;
    assert_int_equal(lt_stat_set_parse(&set, names, LT_COUNTOF(names), NULL), LT_OK);
    return set;
}

static inline lt_calibrate_in ct_in(const lt_model *m, const lt_tokens *t, lt_team *team, const char *out) {
    return (lt_calibrate_in){ .model = m,
                              .model_hash = "model",
                              .tokens = t,
                              .stats = ct_all_stats(),
                              .team = team,
                              .out_path = out,
                              .settings = "{\"seq_len\": 7}" };
}

static inline lt_stats *ct_open(const char *path) {
    lt_stats *s;
    lt_err err = { 0 };
    assert_ok(lt_stats_open(&s, path, NULL, &err), &err);
    return s;
}

static inline lt_stats *ct_calibrate(const lt_calibrate_in *in) {
    lt_calibrate_out out;
    lt_err err = { 0 };
    assert_ok(lt_calibrate(&out, in, &err), &err);
    return ct_open(in->out_path);
}

static inline const double *ct_values(const lt_stats *s, const char *site, const char *stat) {
    const double *v;
    lt_err err = { 0 };
    assert_ok(lt_stats_values(&v, s, site, stat, &err), &err);
    return v;
}

static inline void ct_assert_same_file(const char *a, const char *b) {
    size_t n, m;
    char *x = test_read_file(a, &n), *y = test_read_file(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    lt_free(x);
    lt_free(y);
}

/* Largest difference over all sums of two files with the same sites, relative to the largest value of each tensor. */
static inline double ct_difference(const lt_stats *a, const lt_stats *b) {
    double worst = 0.0;
    assert_int_equal(lt_stats_n_sites(a), lt_stats_n_sites(b));
    for (size_t i = 0; i < lt_stats_n_sites(a); i++) {
        const lt_stats_site site = lt_stats_site_at(a, i);
        for (size_t k = 0; k < LT_N_STATS; k++) {
            if (!lt_stats_have(b, site.name, lt_stat_rows[k]->name)) continue;
            const size_t n = lt_stat_rows[k]->doubles(site.cols);
            const double *x = ct_values(a, site.name, lt_stat_rows[k]->name),
                         *y = ct_values(b, site.name, lt_stat_rows[k]->name);
            double largest = 0.0;
            for (size_t j = 0; j < n; j++) largest = fmax(largest, fabs(y[j]));
            worst = fmax(worst, test_max_abs_diff_f64(x, y, n) / fmax(largest, 1e-300));
        }
    }
    return worst;
}

#endif
