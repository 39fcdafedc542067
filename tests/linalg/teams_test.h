/* SPDX-License-Identifier: Apache-2.0 */
/* tests/linalg/teams_test.h - a group of tests with every table of kernels, on teams of 1, 2 and 3 threads. */
#ifndef LT_TESTS_TEAMS_TEST_H
#define LT_TESTS_TEAMS_TEST_H

#include <stdio.h>

#include "linalg/kernel.h"
#include "linalg/team.h"
#include "support/support.h"

static const char *isa;   /* the table under test */
static lt_team *teams[3]; /* of 1, 2, 3 threads */

static int set_up(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++)
        if (lt_team_create(&teams[i], i + 1, isa, NULL) != LT_OK) return -1;
    return 0;
}
static int tear_down(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) lt_team_destroy(teams[i]);
    return 0;
}

static inline float *normal(uint32_t index, size_t n) {
    float *x = lt_malloc(n * sizeof *x);
    assert_non_null(x);
    lt_rng r = test_rng(index);
    test_fill_normal(x, n, &r);
    return x;
}

/* Runs the group once a table and adds to failed how many tests did. */
#define RUN_ON_EVERY_TABLE(tests, failed)                                                                              \
    for (size_t table = 0; lt_kernels_at(table); table++) {                                                            \
        isa = lt_kernels_at(table)->name;                                                                              \
        printf("kernels %s\n", isa);                                                                                   \
        failed += cmocka_run_group_tests(tests, set_up, tear_down);                                                    \
    }

#endif
