/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <string.h>

#include "core/core.h"

static void the_first_message_stays(void **state) {
    (void)state;
    lt_err err = { 0 };
    assert_int_equal(lt_fail(&err, LT_EDATA, "bad %s (%s: %d)", "size", "f", 3), LT_EDATA);
    assert_int_equal(lt_fail(&err, LT_EIO, "later"), LT_EIO);
    assert_int_equal(err.code, LT_EDATA);
    assert_string_equal(err.message, "bad size (f: 3)");
    assert_int_equal(lt_fail(NULL, LT_EIO, "nobody listens"), LT_EIO);
}

static void context_goes_before_the_message(void **state) {
    (void)state;
    lt_err err = { 0 };
    assert_int_equal(lt_context(&err, LT_EDATA, "x"), LT_EDATA);
    assert_int_equal(err.code, LT_OK);
    lt_fail(&err, LT_EDATA, "bad");
    assert_int_equal(lt_context(&err, LT_EDATA, "layer %d", 12), LT_EDATA);
    assert_string_equal(err.message, "layer 12: bad");
    lt_context(NULL, LT_EDATA, "x");
}

static void a_message_is_one_line_that_fits(void **state) {
    (void)state;
    char longer[3000];
    lt_err err = { 0 };
    lt_fail(&err, LT_EDATA, "%s", "a\nb\x1b[31m\x7f");
    assert_string_equal(err.message, "a?b?[31m?");
    err = (lt_err){ 0 };
    lt_fail(&err, LT_EDATA, "%s", "\xc3\xa9\xf0\x9f\x99\x82 \xff \xc0\x80 \xed\xa0\x80 \xe2\x82");
    assert_string_equal(err.message, "\xc3\xa9\xf0\x9f\x99\x82 ? ?? ??? ??");
    for (size_t shift = 0; shift < 3; shift++) { /* e-acute is two bytes: no half of it may end the text */
        memset(longer, 'x', shift);
        for (size_t i = shift; i + 2 < sizeof longer; i += 2) memcpy(longer + i, "\xc3\xa9", 3);
        err = (lt_err){ 0 };
        lt_fail(&err, LT_EDATA, "%s", longer);
        const size_t n = strlen(err.message);
        assert_int_equal(n, sizeof err.message - 1);
        for (size_t i = 0, step; i < n; i += step) assert_int_not_equal(step = lt_utf8_step(err.message + i, n - i), 0);
        lt_context(&err, LT_EDATA, "%s", longer);
        assert_true(strlen(err.message) < sizeof err.message);
    }
}

static int stop_at_half(void *user, const char *stage, double done, double total, const char *unit) {
    (void)stage, (void)unit;
    ++*(int *)user;
    return done / total >= 0.5;
}

static void keep_line(void *user, lt_log_level level, const char *line) {
    (void)level;
    strcpy(user, line);
}

static void progress_can_ask_to_stop(void **state) {
    (void)state;
    lt_err err = { 0 };
    int calls = 0;
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    assert_int_equal(lt_progress(NULL, NULL, "s", 1, 2, "t"), LT_OK);
    assert_int_equal(lt_progress(&ctx, &err, "s", 1, 2, "t"), LT_OK);
    ctx.progress = stop_at_half;
    ctx.user = &calls;
    assert_int_equal(lt_progress(&ctx, &err, "calibrate", 1, 4, "tokens"), LT_OK);
    assert_fails(lt_progress(&ctx, &err, "calibrate", 2, 4, "tokens"), &err, LT_EINTERRUPTED, "calibrate");
    assert_int_equal(calls, 2);
}

static void a_fresh_context_knows_the_machine_and_is_silent(void **state) {
    (void)state;
    char line[2048] = "";
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    assert_int_equal(ctx.threads, lt_machine_cpus());
    assert_true(ctx.max_memory > 0);
    lt_log(&ctx, LT_LOG_INFO, "unheard");
    ctx.log = keep_line;
    ctx.user = line;
    lt_log(&ctx, LT_LOG_INFO, "layer %d", 3);
    assert_string_equal(line, "layer 3");
    assert_string_equal(lt_version(), LT_VERSION);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_message_stays),
        cmocka_unit_test(context_goes_before_the_message),
        cmocka_unit_test(a_message_is_one_line_that_fits),
        cmocka_unit_test(progress_can_ask_to_stop),
        cmocka_unit_test(a_fresh_context_knows_the_machine_and_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
