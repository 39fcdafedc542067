/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/kl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/support.h"

static double lse(const float *z, size_t n) {
    double max = -INFINITY, sum = 0.0;
    for (size_t i = 0; i < n; i++) max = fmax(max, (double)z[i]);
    for (size_t i = 0; i < n; i++) sum += exp((double)z[i] - max);
    return max + log(sum);
}

static double slow(const float *a, const float *b, size_t n) {
    const double la = lse(a, n), lb = lse(b, n);
    double sum = 0.0;
    for (size_t v = 0; v < n; v++) sum += exp((double)a[v] - la) * (((double)a[v] - la) - ((double)b[v] - lb));
    return sum;
}

static lt_team *team_of(const char *isa, int threads) {
    lt_team *t;
    lt_err err = { 0 };
    assert_ok(lt_team_create(&t, threads, isa, &err), &err);
    return t;
}

/* Sizes around the runs of columns; rows near (as after quantising) and far. */
static void rows_match_doubles_for_every_kernel(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 2, 15, 1023, 1024, 1025, 5000 };
    for (size_t k = 0; lt_kernels_at(k); k++) {
        if (!lt_kernels_get(lt_kernels_at(k)->name)) continue;
        lt_team *team = team_of(lt_kernels_at(k)->name, 2);
        for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
            const size_t n = sizes[s], ld = n + 3;
            float *a = malloc(4 * ld * sizeof *a), *b = malloc(4 * ld * sizeof *b);
            lt_rng r = test_rng((uint32_t)s);
            test_fill_normal(a, 4 * ld, &r);
            test_fill_normal(b, 4 * ld, &r);
            for (size_t i = 0; i < 4 * ld; i++) {
                a[i] *= 6.0f;
                b[i] = i < 2 * ld ? a[i] + 0.01f * b[i] : 6.0f * b[i];
            }
            const int32_t target[] = { 0, (int32_t)(n / 2), (int32_t)n - 1, 0 };
            lt_kl_row out[4];
            lt_kl_rows(team, out, a, ld, b, ld, 4, n, target);
            for (size_t i = 0; i < 4; i++) {
                const float *pa = a + i * ld, *pb = b + i * ld;
                const double want = slow(pa, pb, n);
                assert_true(fabs(out[i].kl - want) <= 1e-6 + 1e-6 * want);
                assert_true(fabs(out[i].nll_a - (lse(pa, n) - pa[target[i]])) <= 1e-5);
                assert_true(fabs(out[i].nll_b - (lse(pb, n) - pb[target[i]])) <= 1e-5);
                assert_true(out[i].top_a >= 0 && (size_t)out[i].top_a < n);
                for (size_t v = 0; v < n; v++) assert_true(pa[v] <= pa[out[i].top_a] && pb[v] <= pb[out[i].top_b]);
            }
            free(a);
            free(b);
        }
        lt_team_destroy(team);
    }
}

static void equal_rows_are_exactly_nowhere(void **state) {
    (void)state;
    enum { N = 3000 };
    float a[N], b[N];
    lt_rng r = test_rng(9);
    lt_team *team = team_of(NULL, 1);
    test_fill_normal(a, N, &r);
    memcpy(b, a, sizeof a);
    lt_kl_row out;
    const int32_t target = 7;
    lt_kl_rows(team, &out, a, N, b, N, 1, N, &target);
    assert_true(out.kl == 0.0 && out.nll_a == out.nll_b && out.top_a == out.top_b);
    lt_team_destroy(team);
}

static void ties_go_to_the_smallest_index(void **state) {
    (void)state;
    const float a[] = { 1, 5, 5, 5 }, b[] = { 2, 2, 2, 2 };
    lt_team *team = team_of(NULL, 1);
    lt_kl_row out;
    const int32_t target = 0;
    lt_kl_rows(team, &out, a, 4, b, 4, 1, 4, &target);
    assert_int_equal(out.top_a, 1);
    assert_int_equal(out.top_b, 0);
    lt_team_destroy(team);
}

static void what_is_not_finite_is_infinite_on_its_side_only(void **state) {
    (void)state;
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    lt_team *team = team_of(NULL, 1);
    for (size_t i = 0; i < 3; i++) {
        float a[] = { 1, 2, 3 }, b[] = { 3, 2, 1 };
        const int32_t target = 0;
        lt_kl_row out;
        b[i] = bad[i];
        lt_kl_rows(team, &out, a, 3, b, 3, 1, 3, &target);
        assert_true(isinf(out.kl) && isinf(out.nll_b) && isfinite(out.nll_a));
        lt_kl_rows(team, &out, b, 3, a, 3, 1, 3, &target);
        assert_true(isinf(out.kl) && isinf(out.nll_a) && isfinite(out.nll_b));
    }
    lt_team_destroy(team);
}

static void threads_change_no_bit(void **state) {
    (void)state;
    enum { ROWS = 37, N = 700 };
    float *a = malloc(ROWS * N * sizeof *a), *b = malloc(ROWS * N * sizeof *b);
    int32_t target[ROWS] = { 0 };
    lt_kl_row one[ROWS], many[ROWS];
    lt_rng r = test_rng(11);
    test_fill_normal(a, ROWS * N, &r);
    test_fill_normal(b, ROWS * N, &r);
    lt_team *t1 = team_of(NULL, 1), *t5 = team_of(NULL, 5);
    memset(one, 0, sizeof one);
    memset(many, 0, sizeof many);
    lt_kl_rows(t1, one, a, N, b, N, ROWS, N, target);
    lt_kl_rows(t5, many, a, N, b, N, ROWS, N, target);
    assert_memory_equal(one, many, sizeof one);
    lt_team_destroy(t1);
    lt_team_destroy(t5);
    free(a);
    free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_match_doubles_for_every_kernel),
        cmocka_unit_test(equal_rows_are_exactly_nowhere),
        cmocka_unit_test(ties_go_to_the_smallest_index),
        cmocka_unit_test(what_is_not_finite_is_infinite_on_its_side_only),
        cmocka_unit_test(threads_change_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
