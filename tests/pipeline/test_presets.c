/* SPDX-License-Identifier: Apache-2.0 */
/* Presets give what was not given, and say where a call departs from the paper. */
#include "pipeline/presets.h"

#include <string.h>

#include "compress/method.h"
#include "pipeline/args.h"
#include "support/support.h"

static json_t *object(const char *text) {
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    return j;
}

static const char *text_of(const json_t *options, const char *name) {
    return json_string_value(json_object_get(options, name));
}

static bool has_param(const json_t *options, const char *text) {
    const json_t *list = json_object_get(options, "param");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), text) == 0) return true;
    return false;
}

/* Every value of every preset is one that some verb takes, and is accepted by it. */
static void every_value_is_an_option_of_a_verb(void **state) {
    (void)state;
    static const char *const verbs[][2] = { { "calibrate", "{\"model\": \"m\", \"data\": \"d\", \"output\": \"o\"" },
                                            { "plan", "{\"model\": \"m\", \"output\": \"o\"" },
                                            { "compress", "{\"model\": \"m\", \"output\": \"o\"" } };
    lt_err err = { 0 };
    for (const lt_method_preset *p = lt_method_presets; p->name; p++) {
        size_t seen = 0, n = 0;
        while (p->values[n].option) n++;
        assert_true(p->summary && p->source && p->deviations && n <= 64);
        uint64_t taken = 0;
        for (size_t v = 0; v < LT_COUNTOF(verbs); v++) {
            const lt_command *c = lt_command_find(verbs[v][0]);
            char text[256];
            lt_args *a;
            snprintf(text, sizeof text, "%s, \"preset\": \"%s\"}", verbs[v][1], p->name);
            json_t *options = object(text);
            assert_true(c->presets);
            assert_ok(lt_presets_merge(options, c, &err), &err);
            assert_ok(lt_args_create(&a, c, options, &err), &err);
            for (size_t i = 0; i < n; i++)
                for (const lt_option *o = c->options; o->name; o++)
                    if (strcmp(o->name, p->values[i].option) == 0) taken |= 1ull << i;
            json_t *report = lt_presets_report(a, c);
            assert_string_equal(json_string_value(json_object_get(report, "name")), p->name);
            const json_t *list = json_object_get(report, "deviations");
            for (size_t i = 0; i < json_array_size(list); i++) assert_true(json_is_string(json_array_get(list, i)));
            json_decref(report);
            lt_args_destroy(a);
            json_decref(options);
        }
        for (size_t i = 0; i < n; i++) seen += taken >> i & 1;
        assert_int_equal(seen, n);
    }
}

/* The methods, allocators and parameters that presets name are there. */
static void presets_name_what_is_built_in(void **state) {
    (void)state;
    lt_err err = { 0 };
    for (const lt_method_preset *p = lt_method_presets; p->name; p++) {
        const lt_method *m = NULL;
        const lt_allocator *a;
        for (const lt_preset_value *v = p->values; v->option; v++) {
            if (strcmp(v->option, "method") == 0) assert_ok(lt_method_find(&m, v->value, &err), &err);
            if (strcmp(v->option, "allocate") == 0) assert_ok(lt_allocator_find(&a, v->value, &err), &err);
            if (strcmp(v->option, "param") != 0) continue;
            const size_t n = strcspn(v->value, "=");
            const lt_method_param *q = m->params;
            while (q->name && (strlen(q->name) != n || strncmp(q->name, v->value, n) != 0)) q++;
            assert_non_null(q->name);
        }
    }
}

static void what_was_given_stays_and_is_a_deviation(void **state) {
    (void)state;
    const lt_command *c = lt_command_find("plan");
    json_t *options = object("{\"model\": \"m\", \"output\": \"o\", \"preset\": \"svd_llm\", \"allocate\": \"global\", "
                             "\"keep\": \"linears=0.8\", \"param\": [\"affine=auto\"]}");
    lt_args *a;
    lt_err err = { 0 };
    assert_ok(lt_presets_merge(options, c, &err), &err);
    assert_string_equal(text_of(options, "allocate"), "global");
    assert_string_equal(text_of(options, "method"), "whitened");
    assert_null(json_object_get(options, "recipe")); /* not an option of plan */
    assert_true(has_param(options, "affine=auto") && has_param(options, "balance=balanced") &&
                !has_param(options, "affine=off"));
    assert_ok(lt_args_create(&a, c, options, &err), &err);
    json_t *report = lt_presets_report(a, c);
    const json_t *list = json_object_get(report, "deviations");
    size_t departures = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *d = json_array_get(list, i);
        if (!json_is_object(d)) continue;
        departures++;
        const char *option = text_of(d, "option");
        assert_true(strcmp(option, "allocate") == 0 || strcmp(option, "param") == 0);
        assert_string_equal(text_of(d, "used"), strcmp(option, "param") == 0 ? "auto" : "global");
    }
    assert_int_equal(departures, 2);
    json_decref(report);
    lt_args_destroy(a);
    json_decref(options);
}

/* A budget that was given is not contradicted by the preset's energy. */
static void a_budget_replaces_the_presets_energy(void **state) {
    (void)state;
    json_t *with = object("{\"preset\": \"utilized_rank\", \"keep\": \"0.8\"}"),
           *without = object("{\"preset\": \"utilized_rank\"}");
    lt_err err = { 0 };
    assert_ok(lt_presets_merge(with, lt_command_find("plan"), &err), &err);
    assert_ok(lt_presets_merge(without, lt_command_find("plan"), &err), &err);
    assert_true(!has_param(with, "energy=0.99") && has_param(without, "energy=0.99"));
    json_decref(with);
    json_decref(without);
}

static void unknown_presets_are_refused_with_a_suggestion(void **state) {
    (void)state;
    json_t *options = object("{\"preset\": \"svd_lm\"}");
    lt_err err = { 0 };
    assert_fails(lt_presets_merge(options, lt_command_find("plan"), &err), &err, LT_EUSAGE, "svd_llm");
    assert_ok(lt_presets_merge(options, lt_command_find("apply"), &err), &err); /* takes none: its rows refuse it */
    json_decref(options);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_is_an_option_of_a_verb),
        cmocka_unit_test(presets_name_what_is_built_in),
        cmocka_unit_test(what_was_given_stays_and_is_a_deviation),
        cmocka_unit_test(a_budget_replaces_the_presets_energy),
        cmocka_unit_test(unknown_presets_are_refused_with_a_suggestion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
