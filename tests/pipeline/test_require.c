/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/require.h"

#include <string.h>

#include "pipeline/args.h"
#include "support/support.h"

static const char *const names[] = { "ppl", "kld.mean", "top1", NULL };

static lt_args *args_of(const char *condition) {
    lt_err err = { 0 };
    lt_args *a;
    json_t *o = json_pack("{s:s, s:s, s:[s]}", "base", "b", "data", "d", "require", condition);
    assert_ok(lt_args_create(&a, lt_command_find("compare"), o, &err), &err);
    json_decref(o);
    return a;
}

static lt_status check(const char *condition, lt_err *err) {
    lt_args *a = args_of(condition);
    const lt_status st = lt_requires_check(a, names, err);
    lt_args_destroy(a);
    return st;
}

static lt_status met(const char *condition, lt_err *err) {
    json_t *record = json_pack("{s:f, s:{s:f}, s:s}", "ppl", 20.0, "kld", "mean", 0.05, "top1", "nan");
    lt_args *a = args_of(condition);
    const lt_status st = lt_requires_met(a, "small", record, err);
    lt_args_destroy(a);
    json_decref(record);
    return st;
}

static void conditions_are_read_before_any_work(void **state) {
    (void)state;
    lt_err err = { 0 };
    assert_ok(check("ppl<20", &err), &err);
    assert_ok(check("kld.mean >= 0.05", &err), &err);
    assert_fails(check("ppl", &err), &err, LT_EUSAGE, "NAME<NUMBER");
    assert_fails(check("<3", &err), &err, LT_EUSAGE, "NAME<NUMBER");
    assert_fails(check("ppl==3", &err), &err, LT_EUSAGE, "NAME<NUMBER");
    assert_fails(check("ppl<", &err), &err, LT_EUSAGE, "not a number");
    assert_fails(check("ppl<3x", &err), &err, LT_EUSAGE, "not a number");
    assert_fails(check("ppll<3", &err), &err, LT_EUSAGE, "did you mean ppl?");
}

static void a_condition_holds_or_is_a_missed_target(void **state) {
    (void)state;
    lt_err err = { 0 };
    assert_ok(met("ppl<20.5", &err), &err);
    assert_ok(met("ppl<=20", &err), &err);
    assert_ok(met("ppl>=20", &err), &err);
    assert_ok(met("kld.mean<0.06", &err), &err);
    assert_fails(met("ppl<20", &err), &err, LT_ETARGET, "small: --require ppl<20 is not met: 20");
    assert_fails(met("ppl>20", &err), &err, LT_ETARGET, "not met");
    assert_fails(met("kld.mean>0.05", &err), &err, LT_ETARGET, "0.05");
    /* a number that is none meets nothing */
    assert_fails(met("top1<1", &err), &err, LT_ETARGET, "nan");
    assert_fails(met("top1>0", &err), &err, LT_ETARGET, "nan");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditions_are_read_before_any_work),
        cmocka_unit_test(a_condition_holds_or_is_a_missed_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
