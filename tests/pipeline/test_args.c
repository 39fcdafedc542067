/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/args.h"

#include <string.h>

#include "support/support.h"

static const lt_positional positionals[] = {
    { "base", 1, 1, "the first" },
    { "new", 2, SIZE_MAX, "the others" },
    { NULL, 0, 0, NULL },
};
static const lt_option options[] = {
    { "input", LT_OPT_PATH, lt_required, 0, 0, NULL, false, NULL, NULL },
    { "seq-len", LT_OPT_INT, "2048", 1, 1 << 20, NULL, false, NULL, NULL },
    { "keep", LT_OPT_REAL, NULL, 0, 1, NULL, false, NULL, NULL },
    { "shard", LT_OPT_BYTES, "5GB", 0, 0, NULL, false, NULL, NULL },
    { "head", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, NULL },
    { "tied", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL, NULL },
    { "include", LT_OPT_STRING, NULL, 0, 0, NULL, true, NULL, NULL },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};
static const lt_command command = { .name = "try", .positionals = positionals, .options = options };
static const lt_command short_command = { .name = "look", .without = LT_NO_ESTIMATE | LT_NO_OVERWRITE };

static lt_status make(lt_args **out, const lt_command *c, const char *text, lt_err *err) {
    json_t *j = json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    assert_non_null(j);
    const lt_status st = lt_args_create(out, c, j, err);
    json_decref(j);
    return st;
}

#define LEAST "\"base\": \"a\", \"new\": [\"b\", \"c\"], \"input\": \"in\""

static void given_values_and_defaults_are_got(void **state) {
    lt_args *a;
    (void)state;
    assert_ok(make(&a, &command,
                   "{" LEAST ", \"keep\": 0.5, \"head\": true, \"include\": [\"x\", \"y\", \"z\"], \"threads\": 3}",
                   NULL),
              NULL);
    assert_string_equal(lt_arg_string(a, "base"), "a");
    assert_int_equal(lt_arg_count(a, "new"), 2);
    assert_string_equal(lt_arg_at(a, "new", 1), "c");
    assert_null(lt_arg_at(a, "new", 2));
    assert_int_equal(lt_arg_int(a, "seq-len"), 2048);
    assert_false(lt_arg_given(a, "seq-len"));
    assert_true(lt_arg_given(a, "keep"));
    assert_true(lt_arg_real(a, "keep") == 0.5);
    assert_int_equal(lt_arg_bytes(a, "shard"), 5000000000u);
    assert_true(lt_arg_flag(a, "head"));
    assert_true(lt_arg_flag(a, "tied"));
    assert_int_equal(lt_arg_count(a, "include"), 3);
    assert_int_equal(lt_arg_int(a, "threads"), 3);
    assert_false(lt_arg_flag(a, "estimate"));
    assert_null(lt_arg_string(a, "scratch"));
    assert_null(lt_args_misused(a));
    lt_args_destroy(a);
}

static void text_values_underscores_and_nulls_are_fine(void **state) {
    lt_args *a;
    (void)state;
    assert_ok(make(&a, &command,
                   "{" LEAST ", \"seq_len\": \"512\", \"keep\": \"0.25\", \"shard\": \"1G\", \"tied\": \"no\", "
                   "\"include\": \"one\", \"scratch\": null}",
                   NULL),
              NULL);
    assert_int_equal(lt_arg_int(a, "seq-len"), 512);
    assert_true(lt_arg_real(a, "keep") == 0.25);
    assert_int_equal(lt_arg_bytes(a, "shard"), (size_t)1 << 30);
    assert_false(lt_arg_flag(a, "tied"));
    assert_int_equal(lt_arg_count(a, "include"), 1);
    assert_false(lt_arg_given(a, "scratch"));
    lt_args_destroy(a);
}

static void wrong_options_are_usage_errors(void **state) {
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "[]", "not a JSON object" },
        { "{}", "try: base is missing" },
        { "{\"base\": \"a\"}", "try: new is missing" },
        { "{\"base\": \"a\", \"new\": [\"b\"], \"input\": \"in\"}", "more than one is needed" },
        { "{\"base\": \"a\", \"new\": [\"b\", \"c\"]}", "try: --input is missing" },
        { "{" LEAST ", \"seq_lne\": 1}", "unknown option --seq-lne (did you mean --seq-len?)" },
        { "{" LEAST ", \"quux\": 1}", "try: unknown option --quux" },
        { "{" LEAST ", \"seq-len\": 0}", "--seq-len: 0 is outside" },
        { "{" LEAST ", \"seq-len\": 1.5}", "is not a whole number" },
        { "{" LEAST ", \"seq-len\": true}", "JSON type does not fit" },
        { "{" LEAST ", \"seq-len\": {}}", "JSON type does not fit" },
        { "{" LEAST ", \"seq-len\": [1, 2]}", "given more than once" },
        { "{" LEAST ", \"seq-len\": 1, \"seq_len\": 2}", "given more than once" },
        { "{" LEAST ", \"head\": 1}", "JSON type does not fit" },
        { "{" LEAST ", \"keep\": \"a\\u0000b\"}", "NUL" },
        { "{\"base\": 5, \"new\": [\"b\", \"c\"], \"input\": \"in\"}", "JSON type does not fit" },
    };
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_err err = { 0 };
        lt_args *a = NULL;
        assert_fails(make(&a, &command, cases[i].text, &err), &err, LT_EUSAGE, cases[i].says);
        assert_null(a);
    }
}

static void a_verb_refuses_globals_that_mean_nothing_to_it(void **state) {
    lt_args *a;
    lt_err err = { 0 };
    (void)state;
    assert_fails(make(&a, &short_command, "{\"estimate\": true}", &err), &err, LT_EUSAGE,
                 "look: --estimate means nothing here");
    assert_fails(make(&a, &short_command, "{\"overwrite\": true}", &err), &err, LT_EUSAGE,
                 "--overwrite means nothing here");
    assert_ok(make(&a, &short_command, "{\"threads\": 1}", &err), &err);
    lt_args_destroy(a);
}

static void a_getter_without_a_row_is_remembered(void **state) {
    lt_args *a;
    (void)state;
    assert_ok(make(&a, &command, "{" LEAST "}", NULL), NULL);
    lt_arg_int(a, "seq-len");
    assert_null(lt_args_misused(a));
    lt_arg_real(a, "seq-len");
    lt_arg_flag(a, "no-such");
    assert_string_equal(lt_args_misused(a), "seq-len");
    lt_args_destroy(a);
}

static void canonical_options_hold_what_decides_a_result(void **state) {
    lt_args *a, *b;
    (void)state;
    assert_ok(make(&a, &command,
                   "{" LEAST ", \"threads\": 1, \"max_memory\": \"1G\", \"isa\": \"ref\", \"seq_len\": 2048}", NULL),
              NULL);
    assert_ok(make(&b, &command,
                   "{\"isa\": \"ref\", \"input\": \"in\", \"new\": [\"b\", \"c\"], \"base\": \"a\", \"threads\": 7}",
                   NULL),
              NULL);
    assert_true(json_equal(lt_args_json(a), lt_args_json(b)));
    assert_null(json_object_get(lt_args_json(a), "threads"));
    assert_null(json_object_get(lt_args_json(a), "max-memory"));
    assert_string_equal(json_string_value(json_object_get(lt_args_json(a), "isa")), "ref");
    assert_int_equal(json_integer_value(json_object_get(lt_args_json(a), "seq-len")), 2048);
    lt_args_destroy(a);
    lt_args_destroy(b);
}

static void the_command_line_can_be_typed_again(void **state) {
    lt_args *a;
    (void)state;
    assert_ok(make(&a, &command,
                   "{\"base\": \"a b\", \"new\": [\"b\", \"c\"], \"input\": \"it's\", \"tied\": false, \"head\": true, "
                   "\"keep\": 0.5}",
                   NULL),
              NULL);
    char *line = lt_args_command_line(a);
    assert_string_equal(line, "lathe try 'a b' b c --input 'it'\\''s' --keep 0.5 --head --no-tied");
    lt_free(line);
    lt_args_destroy(a);
}

static lt_status with_failing_allocations(void *user, lt_err *err) {
    lt_args *a = NULL;
    const lt_status st = lt_args_create(&a, &command, user, err);
    lt_args_destroy(a);
    return st;
}

static void no_allocation_failure_leaks(void **state) {
    json_t *j = json_loads("{" LEAST ", \"include\": [\"x\", \"y\"], \"keep\": 0.5}", 0, NULL);
    (void)state;
    assert_true(test_every_allocation_fails(with_failing_allocations, j) > 5);
    json_decref(j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(given_values_and_defaults_are_got),
        cmocka_unit_test(text_values_underscores_and_nulls_are_fine),
        cmocka_unit_test(wrong_options_are_usage_errors),
        cmocka_unit_test(a_verb_refuses_globals_that_mean_nothing_to_it),
        cmocka_unit_test(a_getter_without_a_row_is_remembered),
        cmocka_unit_test(canonical_options_hold_what_decides_a_result),
        cmocka_unit_test(the_command_line_can_be_typed_again),
        cmocka_unit_test(no_allocation_failure_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
