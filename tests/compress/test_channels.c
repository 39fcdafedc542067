/* SPDX-License-Identifier: Apache-2.0 */
/* Which channels go: against every choice there is, and against what must not go. */
#include "compress/lowrank_test.h"

#include "compress/channels.h"

static double *gram_of(const double *x, size_t n, size_t d) {
    double *full = test_doubles(d * d), *packed = test_doubles(d * (d + 1) / 2);
    lt_gemm_f64_serial(true, false, d, d, n, 1.0, x, d, x, d, 0.0, full, d);
    lt_pack_lower(packed, full, d);
    lt_free(full);
    return packed;
}

/* What is left of tr(W C Wᵀ) when only the channels of index stay, refitted. */
static double least_error(const double *w, const double *c, size_t m, size_t n, const size_t *index, size_t keep) {
    double *full = test_doubles(n * n), *l = test_doubles(keep * keep), *wc = test_doubles(m * n),
           *t = test_doubles(keep * m), all = 0.0;
    int info;
    lt_unpack_lower(full, c, n);
    lt_gemm_f64_serial(false, false, m, n, n, 1.0, w, n, full, n, 0.0, wc, n);
    for (size_t i = 0; i < m * n; i++) all += wc[i] * w[i];
    for (size_t a = 0; a < keep; a++) {
        for (size_t b = 0; b < keep; b++) l[a * keep + b] = full[index[a] * n + index[b]];
        for (size_t i = 0; i < m; i++) t[a * m + i] = wc[i * n + index[a]];
    }
    lt_chol_serial(keep, l, &info);
    assert_int_equal(info, 0);
    lt_trsm_serial(keep, m, l, false, t);
    const double e = (all - test_norm2(t, keep * m)) / all;
    lt_free(full), lt_free(l), lt_free(wc), lt_free(t);
    return e;
}

/* 3 of 8: of the 56 sets, the one found costs little more than the best, and far less than the mean. */
static void the_choice_is_near_the_best(void **state) {
    (void)state;
    for (uint32_t seed = 0; seed < 6; seed++) {
        lt_rng r = test_rng(seed);
        layer l = layer_make(6, 8, 200, true, &r);
        double best = INFINITY, mean = 0.0, rel;
        size_t index[3], n = 0;
        lt_err err = { 0 };
        for (size_t a = 0; a < 8; a++)
            for (size_t b = a + 1; b < 8; b++)
                for (size_t c = b + 1; c < 8; c++, n++) {
                    const double e = least_error(l.w, l.c, 6, 8, (size_t[]){ a, b, c }, 3);
                    best = fmin(best, e), mean += e / 56.0;
                }
        assert_ok(lt_channels_select(index, &rel, 3, 6, 8, l.w, l.c, &err), &err);
        assert_true(index[0] < index[1] && index[1] < index[2] && index[2] < 8);
        const double found = least_error(l.w, l.c, 6, 8, index, 3);
        assert_true(found <= 2.0 * best + 1e-3 && found < 0.5 * mean);
        assert_true(rel >= found - 1e-9 && rel <= found + 1e-2); /* the ridge's part */
        layer_free(&l);
    }
}

/* Channels that repeat others, or that nothing reads, are free. */
static void what_others_say_already_goes_first(void **state) {
    (void)state;
    enum { M = 10, N = 24, ROWS = 300 };
    lt_rng r = test_rng(9);
    double *x = test_doubles(ROWS * N), *w = test_doubles(M * N), rel;
    size_t index[N];
    lt_err err = { 0 };
    test_fill_normal_f64(x, ROWS * N, &r);
    test_fill_normal_f64(w, M * N, &r);
    for (size_t t = 0; t < ROWS; t++) x[t * N + 7] = 2.0 * x[t * N + 3] - x[t * N + 11]; /* 3, 7, 11: one too many */
    for (size_t i = 0; i < M; i++) w[i * N + 20] = 0.0;
    double *c = gram_of(x, ROWS, N);
    assert_ok(lt_channels_select(index, &rel, N - 2, M, N, w, c, &err), &err);
    assert_true(rel <= 1e-4);
    bool there[N] = { false };
    for (size_t i = 0; i < N - 2; i++) there[index[i]] = true;
    assert_false(there[20]);
    assert_int_equal(there[3] + there[7] + there[11], 2);
    lt_free(x), lt_free(w), lt_free(c);
}

static void all_and_one_are_answers(void **state) {
    (void)state;
    lt_rng r = test_rng(2);
    layer l = layer_make(6, 8, 200, true, &r);
    size_t index[8];
    double rel;
    lt_err err = { 0 };
    assert_ok(lt_channels_select(index, &rel, 8, 6, 8, l.w, l.c, &err), &err);
    for (size_t i = 0; i < 8; i++) assert_int_equal(index[i], i);
    assert_true(rel == 0.0);
    assert_ok(lt_channels_select(index, &rel, 1, 6, 8, l.w, l.c, &err), &err);
    memset(l.c, 0, 36 * sizeof(double)); /* nothing was ever active */
    assert_ok(lt_channels_select(index, &rel, 4, 6, 8, l.w, l.c, &err), &err);
    assert_true(rel == 0.0);
    layer_free(&l);
}

static void bad_numbers_are_refused(void **state) {
    (void)state;
    lt_rng r = test_rng(3);
    layer l = layer_make(6, 8, 200, true, &r);
    size_t index[8];
    double rel;
    lt_err err = { 0 };
    assert_int_equal(lt_channels_select(index, &rel, 9, 6, 8, l.w, l.c, &err), LT_EUSAGE);
    err = (lt_err){ 0 };
    assert_int_equal(lt_channels_select(index, &rel, 0, 6, 8, l.w, l.c, &err), LT_EUSAGE);
    l.c[5] = NAN;
    err = (lt_err){ 0 };
    assert_int_equal(lt_channels_select(index, &rel, 4, 6, 8, l.w, l.c, &err), LT_EDATA);
    l.c[5] = -1e9; /* indefinite */
    err = (lt_err){ 0 };
    assert_int_equal(lt_channels_select(index, &rel, 4, 6, 8, l.w, l.c, &err), LT_EDATA);
    layer_free(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_choice_is_near_the_best),
        cmocka_unit_test(what_others_say_already_goes_first),
        cmocka_unit_test(all_and_one_are_answers),
        cmocka_unit_test(bad_numbers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
