/* SPDX-License-Identifier: Apache-2.0 */
/* YAML becomes JSON values, or says where it is wrong. */
#include "support/support.h"

#include <string.h>

#include "io/yaml.h"

static lt_status parse(json_t **out, const char *text, lt_err *err) {
    *out = NULL;
    return lt_yaml_parse(out, text, strlen(text), "a.yaml", err);
}

static void scalars_are_what_they_look_like(void **state) {
    (void)state;
    static const struct {
        const char *yaml, *json;
    } cases[] = {
        { "7", "7" },
        { "-3", "-3" },
        { "+3", "3" },
        { "007", "7" },
        { "1.25", "1.25" },
        { ".5", "0.5" },
        { "5.", "5.0" },
        { "-.5e2", "-50.0" },
        { "1e3", "1000.0" },
        { "true", "true" },
        { "False", "false" },
        { "~", "null" },
        { "null", "null" },
        { "yes", "\"yes\"" },
        { "0x10", "\"0x10\"" },
        { "'7'", "\"7\"" },
        { "\"true\"", "\"true\"" },
        { "1:30", "\"1:30\"" },
        { "1.2.3", "\"1.2.3\"" },
        { "-", "[null]" },
        { "e5", "\"e5\"" },
        { "a b", "\"a b\"" },
        { "[]", "[]" },
        { "{}", "{}" },
        { "a: 1\nb: [x, 2]\n", "{\"a\": 1, \"b\": [\"x\", 2]}" },
        { "a: &x {q: 1}\nb: *x\n", "{\"a\": {\"q\": 1}, \"b\": {\"q\": 1}}" },
        { "a: |\n  two\n  lines\n", "{\"a\": \"two\\nlines\\n\"}" },
        { "# only\na:\n", "{\"a\": null}" },
    };
    lt_err err = { 0 };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        json_t *got, *want;
        assert_ok(parse(&got, cases[i].yaml, &err), &err);
        assert_ok(lt_json_parse(&want, cases[i].json, strlen(cases[i].json), "want", &err), &err);
        if (!json_equal(got, want)) fail_msg("%s", cases[i].yaml);
        json_decref(got);
        json_decref(want);
    }
}

static void what_is_wrong_is_refused_with_its_line(void **state) {
    (void)state;
    static const struct {
        const char *yaml, *says;
    } bad[] = {
        { "", "holds nothing" },
        { "a: [1, 2\n", "not valid YAML" },
        { "a: 1\na: 2\n", "there twice (a.yaml: line 2)" },
        { "? [1]\n: 2\n", "a key is not text" },
        { "a: !mine 3\n", "tags are not supported" },
        { "---\na\n---\nb\n", "more than one document" },
        { "a: &a [*a]\n", "nested too deeply" },
        { "\xff\xfe\xff", "not valid YAML" },
        { "a: *b\n", "not valid YAML" },
    };
    lt_err err = { 0 };
    json_t *j;
    for (size_t i = 0; i < LT_COUNTOF(bad); i++)
        assert_fails(parse(&j, bad[i].yaml, &err), &err, LT_EDATA, bad[i].says);
}

/* Nine levels of nine aliases each would be 387 million nodes. */
static void aliases_do_not_explode(void **state) {
    (void)state;
    char text[2048] = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n";
    json_t *j;
    lt_err err = { 0 };
    for (int i = 1; i < 9; i++) {
        char line[160];
        snprintf(line, sizeof line, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1,
                 i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
        strcat(text, line);
    }
    assert_fails(parse(&j, text, &err), &err, LT_EDATA, "too many nodes");
}

/* Members by the line of their name, items by their own. */
static void lines_are_known_by_path(void **state) {
    (void)state;
    static const char text[] = "a: 1\nb:\n  - x\n  - c: 2\n    d: {e: 3}\n";
    static const struct {
        const char *path;
        int line;
    } cases[] = { { "/a", 1 },     { "/b", 2 },     { "/b/0", 3 },     { "/b/1", 4 },
                  { "/b/1/c", 4 }, { "/b/1/d", 5 }, { "/b/1/d/e", 5 }, { "/b/2", 0 } };
    json_t *root, *lines;
    lt_err err = { 0 };
    assert_ok(lt_yaml_parse_lines(&root, &lines, text, strlen(text), "a.yaml", &err), &err);
    for (size_t i = 0; i < LT_COUNTOF(cases); i++)
        assert_int_equal(json_integer_value(json_object_get(lines, cases[i].path)), cases[i].line);
    json_decref(root);
    json_decref(lines);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_are_what_they_look_like),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_line),
        cmocka_unit_test(aliases_do_not_explode),
        cmocka_unit_test(lines_are_known_by_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
