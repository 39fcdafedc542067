/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/options.h"

#include <locale.h>
#include <string.h>

#include "support/support.h"

static const lt_option rows[] = {
    { "count", LT_OPT_INT, NULL, 1, 100, NULL, false, NULL, NULL },
    { "any-int", LT_OPT_INT, NULL, 0, 0, NULL, false, NULL, NULL },
    { "share", LT_OPT_REAL, NULL, 0, 1, NULL, false, NULL, NULL },
    { "any-real", LT_OPT_REAL, NULL, 0, 0, NULL, false, NULL, NULL },
    { "memory", LT_OPT_BYTES, NULL, 0, 0, NULL, false, NULL, NULL },
    { "flag", LT_OPT_FLAG, NULL, 0, 0, NULL, false, NULL, NULL },
    { "choice", LT_OPT_STRING, NULL, 0, 0, "uniform|global|heavier", false, NULL, NULL },
    { "path", LT_OPT_PATH, NULL, 0, 0, NULL, false, NULL, NULL },
    { "text", LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
    { "at-least", LT_OPT_REAL, NULL, 0.5, 0x1p60, NULL, false, NULL, NULL },
};

static const lt_option *row(const char *name) {
    for (size_t i = 0; i < LT_COUNTOF(rows); i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    fail_msg("no row %s", name);
    return NULL;
}

static void values_of_their_type_are_read(void **state) {
    static const struct {
        const char *name, *text;
        double want;
    } cases[] = {
        { "count", "1", 1 },
        { "count", "100", 100 },
        { "any-int", "-17", -17 },
        { "any-int", "+5", 5 },
        { "any-int", "-9007199254740992", -0x1p53 },
        { "share", "0", 0 },
        { "share", "1e0", 1 },
        { "share", ".25", 0.25 },
        { "any-real", "-2.5e-3", -2.5e-3 },
        { "memory", "0", 0 },
        { "memory", "123", 123 },
        { "memory", "4K", 4096 },
        { "memory", "512MiB", 512.0 * 1024 * 1024 },
        { "memory", "1G", 0x1p30 },
        { "memory", "1.5GiB", 1.5 * 0x1p30 },
        { "memory", "1.5GB", 1.5e9 },
        { "memory", "2T", 0x1p41 },
        { "memory", "3kB", 3000 },
        { "at-least", "0.5", 0.5 },
    };
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_err err = { 0 };
        lt_value v;
        assert_ok(lt_value_parse(&v, row(cases[i].name), cases[i].text, &err), &err);
        assert_true(v.d == cases[i].want);
        assert_string_equal(v.text, cases[i].text);
        lt_value_clear(&v);
    }
}

static void values_of_another_type_or_range_are_usage_errors_that_name_them(void **state) {
    static const struct {
        const char *name, *text, *says;
    } cases[] = {
        { "count", "0", "--count: 0 is outside 1 .. 100" },
        { "count", "101", "--count: 101 is outside 1 .. 100" },
        { "count", "", "\"\" is not a whole number" },
        { "count", "1.5", "\"1.5\" is not a whole number" },
        { "count", " 1", "not a whole number" },
        { "count", "1x", "not a whole number" },
        { "any-int", "99999999999999999999", "not a whole number" },
        { "share", "1.0001", "--share: 1.0001 is outside 0 .. 1" },
        { "share", "-0.1", "outside 0 .. 1" },
        { "any-real", "nan", "not a number" },
        { "any-real", "inf", "not a number" },
        { "any-real", "1e999", "not a number" },
        { "any-real", "1,5", "not a number" },
        { "any-real", "", "not a number" },
        { "memory", "-1", "is not a size" },
        { "memory", "1Q", "is not a size" },
        { "memory", "G", "is not a size" },
        { "memory", "1e30", "is not a size" },
        { "flag", "maybe", "neither true nor false" },
        { "path", "", "the path is empty" },
        { "at-least", "0.4", "is below 0.5" },
        { "choice", "globall", "is not one of uniform, global, heavier (did you mean global?)" },
        { "choice", "", "is not one of" },
        { "choice", "uniform|global", "is not one of" },
    };
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_err err = { 0 };
        lt_value v;
        assert_fails(lt_value_parse(&v, row(cases[i].name), cases[i].text, &err), &err, LT_EUSAGE, cases[i].says);
    }
}

static void flags_take_the_usual_words(void **state) {
    static const struct {
        const char *text;
        bool want;
    } cases[] = { { "true", true },   { "yes", true }, { "on", true },   { "1", true },
                  { "false", false }, { "no", false }, { "off", false }, { "0", false } };
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_value v;
        assert_ok(lt_value_parse(&v, row("flag"), cases[i].text, NULL), NULL);
        assert_int_equal(v.flag, cases[i].want);
        lt_value_clear(&v);
    }
}

/* A host program may have set a locale with a decimal comma; where none is installed the test says nothing. */
static void numbers_do_not_follow_the_locale(void **state) {
    static const char *const commas[] = { "de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "C.UTF-8" };
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(commas); i++)
        if (setlocale(LC_NUMERIC, commas[i])) break;
    lt_value v;
    assert_ok(lt_value_parse(&v, row("share"), "0.75", NULL), NULL);
    assert_true(v.d == 0.75);
    lt_value_clear(&v);
    setlocale(LC_NUMERIC, "C");
}

static void names_are_equal_with_dashes_or_underscores(void **state) {
    (void)state;
    assert_true(lt_name_equal("max-memory", "max_memory"));
    assert_true(lt_name_equal("a_b-c", "a-b_c"));
    assert_false(lt_name_equal("max-memory", "max-memor"));
    assert_false(lt_name_equal("max", "max-"));
    assert_true(lt_name_equal("", ""));
}

static void long_words_suggest_nothing(void **state) {
    char word[4096];
    (void)state;
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = 0;
    lt_err err = { 0 };
    lt_value v;
    assert_fails(lt_value_parse(&v, row("choice"), word, &err), &err, LT_EUSAGE, "is not one of uniform");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_their_type_are_read),
        cmocka_unit_test(values_of_another_type_or_range_are_usage_errors_that_name_them),
        cmocka_unit_test(flags_take_the_usual_words),
        cmocka_unit_test(numbers_do_not_follow_the_locale),
        cmocka_unit_test(names_are_equal_with_dashes_or_underscores),
        cmocka_unit_test(long_words_suggest_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
