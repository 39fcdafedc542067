/* SPDX-License-Identifier: Apache-2.0 */
/* Learning rates against the formulas of docs/training.md, at steps where they are plain numbers. */
#include "support/support.h"

#include <math.h>

#include "train/schedule.h"

static lt_schedule make(const char *shape, size_t steps, size_t warmup) {
    lt_schedule s = { .lr = 2e-3, .steps = steps, .warmup = warmup };
    lt_err err = { 0 };
    assert_ok(lt_schedule_find(&s.row, shape, &err), &err);
    return s;
}

static void near(const lt_schedule *s, size_t n, double want) {
    assert_true(fabs(lt_schedule_lr(s, n) - want) <= 1e-15);
}

static void warm_up_rises_to_the_rate_in_its_last_step(void **state) {
    (void)state;
    for (size_t i = 0; lt_schedules[i]; i++) {
        const lt_schedule s = make(lt_schedules[i]->name, 100, 4);
        near(&s, 0, 0.5e-3);
        near(&s, 1, 1.0e-3);
        near(&s, 3, 2.0e-3);
        near(&s, 4, 2.0e-3);
    }
}

static void shapes_are_at_half_where_they_should_be(void **state) {
    (void)state;
    const lt_schedule cosine = make("cosine", 110, 10), linear = make("linear", 110, 10),
                      constant = make("constant", 110, 10);
    near(&cosine, 60, 1.0e-3);
    near(&cosine, 35, 2e-3 * (0.5 + 0.25 * sqrt(2.0)));
    near(&linear, 60, 1.0e-3);
    near(&linear, 85, 0.5e-3);
    near(&constant, 109, 2.0e-3);
    lt_schedule wsd = make("wsd", 110, 10);
    wsd.decay = 20;
    near(&wsd, 89, 2.0e-3);
    near(&wsd, 90, 2.0e-3);
    near(&wsd, 100, 1.0e-3);
    near(&wsd, 109, 2e-3 * 0.05);
}

/* The larger of an absolute floor and a share of the rate; never above the rate. */
static void both_floors_hold(void **state) {
    (void)state;
    lt_schedule s = make("linear", 100, 0);
    s.floor_share = 0.1;
    near(&s, 50, 0.2e-3 + 0.5 * 1.8e-3);
    s.floor = 1e-3;
    near(&s, 50, 1e-3 + 0.5 * 1e-3);
    for (size_t n = 0; n < 100; n++) assert_true(lt_schedule_lr(&s, n) >= 1e-3);
    s.floor = 1.0;
    near(&s, 50, 2e-3);
}

static void rates_never_rise_after_the_warm_up(void **state) {
    (void)state;
    for (size_t i = 0; lt_schedules[i]; i++) {
        lt_schedule s = make(lt_schedules[i]->name, 57, 5);
        s.decay = 13;
        for (size_t n = 5; n + 1 < 57; n++) assert_true(lt_schedule_lr(&s, n + 1) <= lt_schedule_lr(&s, n));
    }
}

/* Fewer steps than the warm-up asks for, and a decay longer than what is left. */
static void short_runs_have_finite_rates(void **state) {
    (void)state;
    for (size_t i = 0; lt_schedules[i]; i++) {
        lt_schedule s = make(lt_schedules[i]->name, 3, 3);
        s.decay = 50;
        for (size_t n = 0; n < 3; n++) assert_true(lt_schedule_lr(&s, n) > 0.0 && lt_schedule_lr(&s, n) <= 2e-3);
    }
}

static void an_unknown_shape_is_named_with_those_there_are(void **state) {
    (void)state;
    const lt_schedule_row *row;
    lt_err err = { 0 };
    assert_fails(lt_schedule_find(&row, "step", &err), &err, LT_EUSAGE, "wsd");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up_rises_to_the_rate_in_its_last_step),
        cmocka_unit_test(shapes_are_at_half_where_they_should_be),
        cmocka_unit_test(both_floors_hold),
        cmocka_unit_test(rates_never_rise_after_the_warm_up),
        cmocka_unit_test(short_runs_have_finite_rates),
        cmocka_unit_test(an_unknown_shape_is_named_with_those_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
