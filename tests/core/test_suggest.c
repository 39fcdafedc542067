/* SPDX-License-Identifier: Apache-2.0 */
#include "core/suggest.h"

#include <string.h>

#include "core/core.h"
#include "support/support.h"

static void edits_are_counted(void **state) {
    (void)state;
    char longest[65];
    memset(longest, 'x', 64);
    longest[64] = 0;
    assert_int_equal(lt_edit_distance("kitten", "sitting"), 3);
    assert_int_equal(lt_edit_distance("", "abc"), 3);
    assert_int_equal(lt_edit_distance("form", "from"), 1);
    assert_int_equal(lt_edit_distance("ca", "abc"), 3); /* no place is edited twice */
    assert_int_equal(lt_edit_distance(longest + 1, ""), 63);
    assert_true(lt_edit_distance(longest, "") == SIZE_MAX);
}

static void what_is_near_is_suggested(void **state) {
    static const char *const words[] = { "tokenize",   "detokenize", "generate", "evaluate perplexity",
                                         "max-memory", "plan" };
    static const struct {
        const char *word, *want;
    } cases[] = {
        { "tokenise", "tokenize" },
        { "toknize", "tokenize" },
        { "detokenise", "detokenize" },
        { "evaluate", "evaluate perplexity" },
        { "gen", "generate" },
        { "max-memroy", "max-memory" },
        { "paln", "plan" },
        { "xyzzy", NULL },
        { "", NULL },
    };
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_suggestion s = { .word = cases[i].word };
        for (size_t k = 0; k < LT_COUNTOF(words); k++) lt_suggest(&s, words[k]);
        if (cases[i].want)
            assert_string_equal(s.best, cases[i].want);
        else
            assert_null(s.best);
    }
}

static void suggestions_are_said(void **state) {
    (void)state;
    char buf[32];
    lt_suggestion s = { .word = "paln" };
    assert_string_equal(lt_suggest_text(&s, "--", buf, sizeof buf), "");
    lt_suggest(&s, "plan");
    assert_string_equal(lt_suggest_text(&s, "--", buf, sizeof buf), " (did you mean --plan?)");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edits_are_counted),
        cmocka_unit_test(what_is_near_is_suggested),
        cmocka_unit_test(suggestions_are_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
