/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/team.h"

#include <omp.h>
#include <stdint.h>
#include <string.h>

#include "linalg/blas.h"
#include "support/support.h"

static lt_status make(void *user, lt_err *err) {
    lt_team *t = NULL;
    const lt_status st = lt_team_create(&t, *(int *)user, NULL, err);
    if (st == LT_OK) lt_team_destroy(t);
    return st;
}

static void every_thread_has_aligned_scratch(void **state) {
    (void)state;
    lt_team *t;
    lt_err err = { 0 };
    assert_ok(lt_team_create(&t, 3, NULL, &err), &err);
    assert_int_equal(t->threads, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal((uintptr_t)t->scratch[i] % 64, 0);
        memset(t->scratch[i], i, 4096);
    }
    assert_int_equal(t->scratch_bytes, LT_TEAM_SCRATCH);
    lt_team_destroy(t);
    lt_team_destroy(NULL);
}

static void bad_requests_are_refused(void **state) {
    (void)state;
    lt_team *t;
    lt_err err = { 0 };
    assert_fails(lt_team_create(&t, 0, NULL, &err), &err, LT_EUSAGE, "threads");
    assert_fails(lt_team_create(&t, 2, "abacus", &err), &err, LT_EUNSUPPORTED, "abacus");
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    int threads = 2;
    assert_int_equal(test_every_allocation_fails(make, &threads), 4);
}

static void description_names_library_kernels_threads(void **state) {
    (void)state;
    lt_team *t;
    lt_err err = { 0 };
    char text[256];
    assert_ok(lt_team_create(&t, 2, "ref", &err), &err);
    lt_team_describe(t, text, sizeof text);
    assert_non_null(strstr(text, "OpenBLAS"));
    assert_non_null(strstr(text, openblas_get_corename()));
    assert_non_null(strstr(text, "kernels ref, 2 threads"));
    lt_team_destroy(t);
}

/* A host program's settings stay what they were. */
static void blas_calls_leave_the_hosts_thread_count_alone(void **state) {
    (void)state;
    const int before = omp_get_max_threads();
    const lt_blas_call call = lt_blas_begin();
    lt_blas_end(call);
    assert_int_equal(omp_get_max_threads(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_has_aligned_scratch),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(description_names_library_kernels_threads),
        cmocka_unit_test(blas_calls_leave_the_hosts_thread_count_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
