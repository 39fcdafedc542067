/* SPDX-License-Identifier: Apache-2.0 */
/* Where the loss looks: utilized-rank §11, check 24. Rows of different lengths are packed, so what padding would be is
 * the last position of a row, with nothing behind it. */
#include "support/support.h"

#include <string.h>

#include "model/model.h"
#include "train/rows.h"

#define PROMPT(id) ((id) | LT_NOT_A_TARGET)
enum { EOS = 2, WIDTH = 256 };

/* Two answers, each ended by EOS, and a row of nothing but text. */
static const int32_t ids[] = { PROMPT(10), PROMPT(11), PROMPT(12), 13, 14, EOS, PROMPT(20), 21, EOS, 30, 31, 32 };
static const uint64_t starts[] = { 0, 6, 9, 12 };

static bool row_is_zero(const float *row, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (row[i] != 0.0f) return false;
    return true;
}

static void gradients_are_zero_but_for_answers_and_what_ends_them(void **state) {
    (void)state;
    /* position i learns when the id behind it, in its row, is a target */
    static const bool learns[] = { 0, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 0 };
    const size_t which[] = { 0, 1, 2 }, n = LT_COUNTOF(ids);
    const lt_exec_opts opts = { .mode = LT_RECORD };
    lt_err err = { 0 };
    lt_team *team;
    lt_model *m;
    lt_exec *x;
    lt_train_rows rows;
    lt_micro micro = { 0 };
    float seed[LT_COUNTOF(ids)], values[LT_COUNTOF(ids) * WIDTH];
    assert_ok(lt_team_create(&team, 1, NULL, &err), &err);
    assert_ok(lt_model_open(&m, LT_TESTS_DIR "/../share/models/tiny-llama", &err), &err);
    assert_ok(lt_train_rows_given(&rows, ids, NULL, starts, 3, &err), &err);
    assert_ok(lt_micro_fill(&micro, &rows, which, 3, &err), &err);
    assert_int_equal(micro.n_targets, 7);
    assert_ok(lt_exec_create(&x, team, &opts, &err), &err);
    lt_exec_begin(x, &micro.batch);

    const size_t width = m->config.d_model;
    assert_true(width <= WIDTH);
    const float *hidden = lt_data(x, lt_model_hidden(x, m));
    assert_non_null(hidden);
    memcpy(values, hidden, n * width * sizeof *values);
    for (size_t i = 0; i < n; i++) seed[i] = 1.0f / 7;
    const lt_var leaf = lt_input(x, n, width, values, true);
    lt_backward(x, lt_model_nll(x, m, leaf, micro.target, NULL), seed);
    assert_ok(lt_exec_status(x, &err), &err);
    const float *grad = lt_grad(x, leaf);
    for (size_t i = 0; i < n; i++) assert_int_equal(!row_is_zero(grad + i * width, width), learns[i]);

    lt_exec_destroy(x);
    lt_micro_clear(&micro);
    lt_train_rows_clear(&rows);
    lt_model_destroy(m);
    lt_team_destroy(team);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(gradients_are_zero_but_for_answers_and_what_ends_them) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
