/* SPDX-License-Identifier: Apache-2.0 */
/* What the line of a stage says, and when a stage begins. */
#include "support/support.h"

#include "cli/cli.h"

static void says(const char *want, cli_stage s) {
    char text[256];
    cli_stage_text(text, sizeof text, &s);
    assert_string_equal(text, want);
}

static void rates_and_what_is_left_are_of_what_was_done_here(void **state) {
    (void)state;
    says("drift: 20k/80k tokens, 2000/s, ETA 0:30", (cli_stage){ "drift", "tokens", 0, 20000, 80000, 10 });
    says("train: 60/100 steps, 1/s, ETA 0:40", (cli_stage){ "train", "steps", 50, 60, 100, 10 });
    says("train: 52/100 steps, 5.0 s each, ETA 4:00", (cli_stage){ "train", "steps", 50, 52, 100, 10 });
}

static void nothing_is_said_of_what_is_not_known(void **state) {
    (void)state;
    says("train: 50/100 steps", (cli_stage){ "train", "steps", 50, 50, 100, 3 });
    says("tokenise: 30 bytes, 10/s", (cli_stage){ "tokenise", "bytes", 0, 30, 0, 3 });
    says("drift: 80/80 tokens, 8/s", (cli_stage){ "drift", "tokens", 0, 80, 80, 10 });
}

static void a_stage_begins_with_its_name_or_from_the_start(void **state) {
    (void)state;
    cli_progress p = { 0 };
    cli_progress_show(&p, "train", 50, 100, "steps");
    assert_true(p.stage_from == 50);
    cli_progress_show(&p, "train", 51, 100, "steps");
    assert_true(p.stage_from == 50);
    cli_progress_show(&p, "train", 20, 100, "steps");
    assert_true(p.stage_from == 20);
    cli_progress_show(&p, "verify", 30, 100, "tensors");
    assert_true(p.stage_from == 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_and_what_is_left_are_of_what_was_done_here),
        cmocka_unit_test(nothing_is_said_of_what_is_not_known),
        cmocka_unit_test(a_stage_begins_with_its_name_or_from_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
