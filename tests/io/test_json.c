/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <locale.h>
#include <string.h>

#include "io/json.h"

static json_t *parsed(const char *text) {
    lt_err err = { 0 };
    json_t *j = NULL;
    assert_ok(lt_json_parse(&j, text, strlen(text), "t.json", &err), &err);
    return j;
}

static void refused(const char *text, const char *why) {
    lt_err err = { 0 };
    json_t *j = NULL;
    assert_fails(lt_json_parse(&j, text, strlen(text), "t.json", &err), &err, LT_EDATA, "(t.json: line ");
    lt_json_parse(&j, text, strlen(text), "t.json", &err);
    assert_non_null(strstr(err.message, why));
    assert_null(j);
}

static void bad_text_is_refused_with_its_position(void **state) {
    (void)state;
    refused("{\"a\": 1,\n \"b\": }", "line 2");
    refused("{\"a\": 1, \"a\": 2}", "duplicate object key");
    refused("", "end of file");
    refused("{} x", "end of file expected");
    refused("\"\xff\"", "unable to decode byte 0xff");
    refused("1e999", "real number overflow");
    lt_err err = { 0 };
    json_t *j;
    assert_fails(lt_json_load(&j, test_path("none.json"), &err), &err, LT_EIO, "none.json");
}

static void integers_wider_than_int64_become_reals(void **state) {
    (void)state;
    json_t *j = parsed(
        "{\"s\": \"1000000000000000000000000000000\\\"\", \"max\": 1000000000000000019884624838656, \"low\": "
        "-9223372036854775809,"
        " \"edge\": 9223372036854775807, \"r\": 1.00000000000000000000000001, \"e\": 10000000000000000000000e-3}");
    assert_string_equal(json_string_value(json_object_get(j, "s")), "1000000000000000000000000000000\"");
    assert_true(json_real_value(json_object_get(j, "max")) == 1e30);
    assert_true(json_real_value(json_object_get(j, "low")) == -9223372036854775808.0);
    assert_true(json_integer_value(json_object_get(j, "edge")) == INT64_MAX);
    assert_true(json_real_value(json_object_get(j, "r")) == 1.0);
    assert_true(json_real_value(json_object_get(j, "e")) == 1e19);
    json_decref(j);
}

static void canonical_text_is_sorted_and_compact(void **state) {
    (void)state;
    json_t *j = parsed(
        "{\"b\": [1, 2.5, {\"y\": null, \"x\": true}], \"a\": 0.1, \"\\u00e9\": \"q\\\"\\\\\\n\\u0001\\u0000\"}");
    char *text = lt_json_canonical(j);
    assert_string_equal(text, "{\"a\":0.10000000000000001,\"b\":[1,2.5,{\"x\":true,\"y\":null}],"
                              "\"\xc3\xa9\":\"q\\\"\\\\\\n\\u0001\\u0000\"}");
    lt_free(text);
    json_decref(j);
}

static void saved_text_keeps_order_and_reads_back_equal(void **state) {
    (void)state;
    lt_err err = { 0 };
    json_t *j =
        parsed("{\"z\": 1e-05, \"empty\": {}, \"none\": [], \"cuts\": [{\"kind\": \"drop_layer\", \"layer\": 17}, "
               "{\"kind\": \"rank\"}],"
               "\"long\": [\"0123456789012345678901234567890123456789\", \"0123456789012345678901234567890123456789\","
               " \"0123456789012345678901234567890123456789\", {\"deep\": [1, 2]}], \"a\": 10.0}");
    assert_ok(lt_json_save(j, test_path("s.json"), &err), &err);
    char *text = test_read_file(test_path("s.json"), NULL);
    assert_string_equal(text, "{\n"
                              " \"z\": 1e-05,\n"
                              " \"empty\": {},\n"
                              " \"none\": [],\n"
                              " \"cuts\": [{\"kind\": \"drop_layer\", \"layer\": 17}, {\"kind\": \"rank\"}],\n"
                              " \"long\": [\n"
                              "  \"0123456789012345678901234567890123456789\",\n"
                              "  \"0123456789012345678901234567890123456789\",\n"
                              "  \"0123456789012345678901234567890123456789\",\n"
                              "  {\"deep\": [1, 2]}\n"
                              " ],\n"
                              " \"a\": 10.0\n"
                              "}\n");
    lt_free(text);
    json_t *again = NULL;
    assert_ok(lt_json_load(&again, test_path("s.json"), &err), &err);
    assert_true(json_equal(j, again));
    json_decref(again);
    json_decref(j);
}

static void reals_survive_both_texts(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_rng r = test_rng(0);
    json_t *list = json_array(), *again = NULL;
    static const double edges[] = { 0.0, -0.0, 1e300, 5e-324, 0.1, 1.0 / 3, 123456789012345678.0, -1e22 };
    for (size_t i = 0; i < LT_COUNTOF(edges); i++) json_array_append_new(list, json_real(edges[i]));
    for (int i = 0; i < 2000; i++) {
        const uint64_t bits = (uint64_t)lt_rng_u32(&r) << 32 | lt_rng_u32(&r);
        double x;
        memcpy(&x, &bits, sizeof x);
        json_t *value = json_real(x); /* NULL for NaN and infinities */
        if (value) json_array_append_new(list, value);
    }
    assert_ok(lt_json_save(list, test_path("r.json"), &err), &err);
    assert_ok(lt_json_load(&again, test_path("r.json"), &err), &err);
    assert_true(json_equal(list, again));
    json_decref(again);
    char *text = lt_json_canonical(list);
    again = parsed(text);
    assert_true(json_equal(list, again));
    lt_free(text);
    json_decref(again);
    json_decref(list);
}

static void a_comma_locale_does_not_reach_the_file(void **state) {
    (void)state;
    static const char *const names[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "de_DE.utf8", "de_DE" };
    bool set = false;
    for (size_t i = 0; i < LT_COUNTOF(names) && !set; i++) set = setlocale(LC_NUMERIC, names[i]) != NULL;
    if (!set) {
        print_message("skipped: no locale with a decimal comma is installed\n");
        skip();
    }
    json_t *j = parsed("[2.5]");
    char *text = lt_json_canonical(j);
    setlocale(LC_NUMERIC, "C");
    assert_string_equal(text, "[2.5]");
    lt_free(text);
    json_decref(j);
}

static void members_have_types_and_defaults(void **state) {
    (void)state;
    lt_err err = { 0 };
    json_t *o = parsed("{\"n\": 12, \"neg\": -1, \"real\": 2048.0, \"half\": 0.5, \"t\": true, \"s\": \"x\", \"nul\": "
                       "null, \"z\": \"a\\u0000b\"}");
    size_t n;
    double d;
    bool b;
    const char *s;
    json_t *j;
    assert_ok(lt_json_size(&n, o, "n", 7, "f", &err), &err);
    assert_int_equal(n, 12);
    assert_ok(lt_json_size(&n, o, "real", 7, "f", &err), &err);
    assert_int_equal(n, 2048);
    assert_ok(lt_json_size(&n, o, "nul", 7, "f", &err), &err);
    assert_int_equal(n, 7);
    assert_ok(lt_json_size(&n, NULL, "n", 8, "f", &err), &err);
    assert_int_equal(n, 8);
    assert_fails(lt_json_size(&n, o, "neg", 7, "f.json", &err), &err, LT_EDATA, "(f.json: neg: -1)");
    assert_fails(lt_json_size(&n, o, "half", 7, "f.json", &err), &err, LT_EDATA, "(f.json: half: 0.5)");
    assert_fails(lt_json_size(&n, o, "s", 7, "f.json", &err), &err, LT_EDATA, "(f.json: s: \"x\")");
    assert_ok(lt_json_double(&d, o, "n", 1, "f", &err), &err);
    assert_true(d == 12);
    assert_ok(lt_json_double(&d, o, "none", 1.5, "f", &err), &err);
    assert_true(d == 1.5);
    assert_fails(lt_json_double(&d, o, "t", 1, "f.json", &err), &err, LT_EDATA, "must be a number");
    assert_ok(lt_json_bool(&b, o, "t", false, "f", &err), &err);
    assert_true(b);
    assert_fails(lt_json_bool(&b, o, "n", false, "f.json", &err), &err, LT_EDATA, "true or false");
    assert_ok(lt_json_string(&s, o, "s", NULL, "f", &err), &err);
    assert_string_equal(s, "x");
    assert_ok(lt_json_string(&s, o, "none", NULL, "f", &err), &err);
    assert_null(s);
    assert_fails(lt_json_string(&s, o, "z", NULL, "f.json", &err), &err, LT_EDATA, "without NUL");
    assert_ok(lt_json_need(&j, o, "half", "f", &err), &err);
    assert_true(json_is_real(j));
    assert_fails(lt_json_need(&j, o, "nul", "f.json", &err), &err, LT_EDATA, "missing key (f.json: nul)");
    assert_fails(lt_json_need(&j, json_object_get(o, "n"), "k", "f.json", &err), &err, LT_EDATA, "not an object");
    json_decref(o);
}

static lt_status save_and_load(void *user, lt_err *err) {
    json_t *j;
    LT_TRY(lt_json_save(user, test_path("a.json"), err));
    LT_TRY(lt_json_load(&j, test_path("a.json"), err));
    json_decref(j);
    char *text = lt_json_canonical(user);
    if (!text) return lt_fail(err, LT_ENOMEM, "canonical");
    lt_free(text);
    return LT_OK;
}

static void failing_allocations_are_reported(void **state) {
    (void)state;
    json_t *j = parsed("{\"a\": {\"b\": [1, 2, 3]}, \"c\": 1000000000000000000000000}");
    test_every_allocation_fails(save_and_load, j);
    json_decref(j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_text_is_refused_with_its_position),
        cmocka_unit_test(integers_wider_than_int64_become_reals),
        cmocka_unit_test(canonical_text_is_sorted_and_compact),
        cmocka_unit_test(saved_text_keeps_order_and_reads_back_equal),
        cmocka_unit_test(reals_survive_both_texts),
        cmocka_unit_test(a_comma_locale_does_not_reach_the_file),
        cmocka_unit_test(members_have_types_and_defaults),
        cmocka_unit_test(failing_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
