/* SPDX-License-Identifier: Apache-2.0 */
/* The generic block, beyond what the golden models show (test_model_golden.c). */
#include "model_test.h"

/* A layer that is dropped passes the hidden state on. */
static void absent_layers_pass_the_state_through(void **state) {
    (void)state;
    tm *m = tm_build(TM_ODD, 40);
    lt_model *whole = tm_open(tm_write(m, "whole", 1));
    lt_team *team = tm_team(1);
    const int32_t ids[4] = { 1, 2, 3, 4 };
    float *with = tm_logits(whole, team, ids, 4);
    whole->config.layer[1].present = false;
    float *without = tm_logits(whole, team, ids, 4);
    tm_spec s = TM_ODD;
    s.layers = 2;
    tm *two = tm_build(s, 40); /* the same first draws: table and layer 0 agree; layer 1 is taken from layer 2 */
    for (size_t i = 0; i < two->n; i++) {
        char name[192];
        snprintf(name, sizeof name, "%s", two->t[i].name);
        char *at = strstr(name, "layers.1");
        if (at) at[7] = '2';
        memcpy(two->t[i].data, tm_find(m, name)->data,
               two->t[i].size[0] * (two->t[i].rank == 2 ? two->t[i].size[1] : 1) * sizeof(float));
    }
    lt_model *small = tm_open(tm_write(two, "two", 1));
    float *want = tm_logits(small, team, ids, 4);
    assert_memory_equal(without, want, 4 * 61 * sizeof *want);
    assert_true(test_max_abs_diff(with, want, 4 * 61) > 1e-3);
    free(with);
    free(without);
    free(want);
    lt_model_destroy(whole);
    lt_model_destroy(small);
    tm_free(m);
    tm_free(two);
    lt_team_destroy(team);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_layers_pass_the_state_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
