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
    assert_int_equal(test_every_allocation_fails(make, &threads), 5);
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

static void old_cores_are_left_for_what_the_processor_can_do(void **state) {
    (void)state;
    assert_string_equal(lt_blas_better_core("Prescott", "amx"), "SkylakeX");
    assert_string_equal(lt_blas_better_core("Prescott", "avx512"), "SkylakeX");
    assert_string_equal(lt_blas_better_core("Barcelona", "avx2"), "Haswell");
    assert_null(lt_blas_better_core("Prescott", "ref"));
    assert_null(lt_blas_better_core("Haswell", "avx512"));
    assert_null(lt_blas_better_core("SapphireRapids", "amx"));
    assert_null(lt_blas_better_core("NEOVERSEN1", "neon"));
}

/* A host program's settings stay what they were. */
static void blas_calls_leave_the_hosts_thread_count_alone(void **state) {
    (void)state;
    const int before = omp_get_max_threads();
    const lt_blas_call call = lt_blas_begin();
    lt_blas_end(call);
    assert_int_equal(omp_get_max_threads(), before);
}

/* ---- held threads ---- */

enum { ITEMS = 1000, CALLS = 300 };

typedef struct counting {
    lt_team *team;
    unsigned char done[ITEMS]; /* written by one thread each */
    size_t n, calls;
    double sum[ITEMS];
} counting;

static void count_item(void *arg, size_t i) {
    counting *c = arg;
    assert_true(lt_team_thread() < c->team->threads);
    c->done[i]++;
    for (size_t k = 0; k < i % 50; k++) c->sum[i] += (double)(i + k);
}

static void call_often(void *arg) {
    counting *c = arg;
    for (size_t k = 0; k < CALLS; k++) {
        c->n = k * 7 % (ITEMS + 1);
        memset(c->done, 0, sizeof c->done);
        lt_team_run(c->team, c->n, count_item, c);
        for (size_t i = 0; i < ITEMS; i++) assert_int_equal(c->done[i], i < c->n);
        c->calls++;
    }
}

static void call_held(void *arg) {
    const counting *c = arg;
    assert_true(lt_team_is_held(c->team) == (c->team->threads > 1));
    call_often(arg);
}

static void held_threads_do_every_item_once(void **state) {
    (void)state;
    static const int threads[] = { 1, 2, 3, 8 };
    counting *first = lt_calloc(1, sizeof *first), *c = lt_calloc(1, sizeof *c);
    lt_err err = { 0 };
    for (size_t t = 0; t < LT_COUNTOF(threads); t++) {
        counting *to = t ? c : first;
        memset(to, 0, sizeof *to);
        assert_ok(lt_team_create(&to->team, threads[t], NULL, &err), &err);
        for (size_t again = 0; again < 3; again++) lt_team_hold(to->team, call_held, to);
        assert_int_equal(to->calls, 3 * CALLS);
        assert_false(lt_team_is_held(to->team));
        call_often(to); /* and without being held */
        if (t) assert_memory_equal(c->sum, first->sum, sizeof c->sum);
        lt_team_destroy(to->team);
    }
    lt_free(first);
    lt_free(c);
}

static void hold_again(void *arg) {
    counting *c = arg;
    lt_team_hold(c->team, call_held, c);
}

static void holding_twice_or_inside_a_region_is_holding_once(void **state) {
    (void)state;
    counting *c = lt_calloc(1, sizeof *c);
    lt_err err = { 0 };
    assert_ok(lt_team_create(&c->team, 2, NULL, &err), &err);
    lt_team_hold(c->team, hold_again, c);
    assert_int_equal(c->calls, CALLS);
    lt_team_destroy(c->team);
    lt_free(c);
}

static lt_status run_inside(void *user, size_t i, lt_err *err) {
    counting *c = (counting *)user + i;
    (void)err;
    lt_team_run(c->team, ITEMS, count_item, c);
    return LT_OK;
}

static void a_run_inside_a_region_stays_on_its_thread(void **state) {
    (void)state;
    enum { REGIONS = 6 };
    counting *c = lt_calloc(REGIONS, sizeof *c);
    lt_team *team;
    lt_err err = { 0 };
    assert_ok(lt_team_create(&team, 3, NULL, &err), &err);
    for (size_t i = 0; i < REGIONS; i++) c[i].team = team;
    assert_ok(lt_team_for(team, REGIONS, run_inside, c, &err), &err);
    for (size_t i = 0; i < REGIONS; i++)
        for (size_t k = 0; k < ITEMS; k++) assert_int_equal(c[i].done[k], 1);
    lt_team_destroy(team);
    lt_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_has_aligned_scratch),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(description_names_library_kernels_threads),
        cmocka_unit_test(old_cores_are_left_for_what_the_processor_can_do),
        cmocka_unit_test(held_threads_do_every_item_once),
        cmocka_unit_test(holding_twice_or_inside_a_region_is_holding_once),
        cmocka_unit_test(a_run_inside_a_region_stays_on_its_thread),
        cmocka_unit_test(blas_calls_leave_the_hosts_thread_count_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
