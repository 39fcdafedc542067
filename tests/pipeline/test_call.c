/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/command.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "pipeline/args.h"
#include "pipeline/options.h"
#include "pipeline/result.h"
#include "support/support.h"

#define TINY LT_TESTS_DIR "/../share/models/tiny-llama"

/* ---- contracts of the rows ---- */
static void check_option(const lt_command *c, const lt_option *o) {
    lt_value v;
    lt_err err = { 0 };
    assert_true(o->help && *o->help);
    assert_null(strchr(o->name, '_'));
    assert_true(strncmp(o->name, "no-", 3) != 0); /* --no-x is x switched off */
    if (o->type == LT_OPT_FLAG) assert_non_null(o->dflt);
    if (!o->dflt || o->dflt == lt_required) return;
    if (lt_value_parse(&v, o, o->dflt, &err) != LT_OK)
        fail_msg("%s: default of --%s: %s", c ? c->name : "global", o->name, err.message);
    lt_value_clear(&v);
}

static bool has_option(const lt_command *c, const char *name) {
    for (const lt_option *o = c->options; o && o->name; o++)
        if (strcmp(o->name, name) == 0) return true;
    for (const lt_option *o = lt_global_options; o->name; o++)
        if (strcmp(o->name, name) == 0) return true;
    return false;
}

/* Every "--name" of an example is an option of its verb. */
static void check_example(const lt_command *c) {
    assert_non_null(c->example);
    assert_true(strncmp(c->example, "lathe ", 6) == 0);
    assert_true(strncmp(c->example + 6, c->name, strlen(c->name)) == 0);
    for (const char *at = c->example; (at = strstr(at, " --"));) {
        char name[64];
        at += 3;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, " ="), at);
        if (!has_option(c, name)) fail_msg("%s: its example has --%s", c->name, name);
    }
}

static void rows_of_verbs_are_sound(void **state) {
    (void)state;
    for (const lt_command *const *c = lt_commands; *c; c++) {
        if (c[1]) assert_true(strcmp((*c)->name, c[1]->name) < 0); /* sorted, so unique */
        assert_ptr_equal(lt_command_find((*c)->name), *c);
        assert_true((*c)->summary && *(*c)->summary && (*c)->run);
        check_example(*c);
        for (const lt_option *o = (*c)->options; o && o->name; o++) {
            check_option(*c, o);
            for (const lt_option *other = o + 1; other->name; other++) assert_string_not_equal(o->name, other->name);
            for (const lt_option *g = lt_global_options; g->name; g++) assert_string_not_equal(o->name, g->name);
        }
    }
    for (const lt_option *o = lt_global_options; o->name; o++) check_option(NULL, o);
}

static void the_description_covers_every_row(void **state) {
    (void)state;
    char *text = lt_describe();
    json_t *all = json_loads(text, 0, NULL);
    const json_t *commands = json_object_get(all, "commands");
    size_t i = 0;
    for (const lt_command *const *c = lt_commands; *c; c++, i++) {
        const json_t *row = json_array_get(commands, i);
        size_t n = 0;
        for (const lt_option *o = (*c)->options; o && o->name; o++) n++;
        assert_string_equal(json_string_value(json_object_get(row, "name")), (*c)->name);
        assert_int_equal(json_array_size(json_object_get(row, "options")), n);
        assert_true(json_array_size(json_object_get(row, "global_options")) >= 4);
    }
    assert_int_equal(json_array_size(commands), i);
    json_decref(all);
    lt_result_free(text);
}

/* ---- calls ---- */
static json_t *good_call(const char *verb, const char *options) {
    lt_ctx ctx;
    lt_err err = { 0 };
    char *text = NULL;
    lt_ctx_init(&ctx);
    assert_ok(lt_call(&ctx, verb, options, &text, &err), &err);
    json_t *result = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_non_null(result);
    lt_result_free(text);
    return result;
}

static void a_result_has_the_documented_members(void **state) {
    static const char *const run[] = { "command", "version", "threads",        "kernels", "blas",
                                       "machine", "seconds", "peak_rss_bytes", "started" };
    (void)state;
    json_t *r = good_call("list", "{\"topic\": \"dtypes\", \"threads\": 1}");
    assert_string_equal(json_string_value(json_object_get(r, "format")), "lathe-result/1");
    assert_string_equal(json_string_value(json_object_get(r, "verb")), "list");
    assert_true(lt_result_is_whole(r));
    for (size_t i = 0; i < LT_COUNTOF(run); i++) assert_non_null(json_object_get(json_object_get(r, "run"), run[i]));
    assert_string_equal(json_string_value(json_object_get(json_object_get(r, "run"), "command")),
                        "lathe list dtypes --threads 1");
    json_decref(r);
}

static void wrong_calls_say_why_and_give_no_result(void **state) {
    static const struct {
        const char *verb, *options;
        lt_status code;
        const char *says;
    } cases[] = {
        { "lst", "{}", LT_EUSAGE, "unknown verb \"lst\" (did you mean list?)" },
        { "", "{}", LT_EUSAGE, "unknown verb" },
        { "list", "{", LT_EUSAGE, "options" },
        { "list", "[]", LT_EUSAGE, "not a JSON object" },
        { "list", "{\"topik\": \"dtypes\"}", LT_EUSAGE, "unknown option --topik" },
        { "list", "{\"threads\": 0}", LT_EUSAGE, "--threads: 0 is outside 1 .. 1024" },
        { "list", "{\"isa\": \"sse\"}", LT_EUSAGE, "--isa" },
        { "inspect", "{\"path\": \"/no/such/path\"}", LT_EIO, "/no/such/path" },
        { "inspect", NULL, LT_EUSAGE, "path is missing" },
    };
    (void)state;
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_err err = { 0 };
        char *text = (char *)"not touched";
        assert_fails(lt_call(&ctx, cases[i].verb, cases[i].options, &text, &err), &err, cases[i].code, cases[i].says);
        assert_null(text);
    }
    assert_int_equal(lt_call(&ctx, "list", "{", NULL, NULL), LT_EUSAGE);
    assert_int_equal(lt_call(&ctx, "list", NULL, NULL, NULL), LT_OK);
    assert_int_equal(lt_call(NULL, "list", NULL, NULL, NULL), LT_EUSAGE);
}

static void numbers_that_json_lacks_are_words(void **state) {
    (void)state;
    json_t *r = json_object();
    json_t *rows = lt_result_table(r, "t", (const char *const[]){ "a", "b", "c", "d|B" }, 4);
    lt_result_row(rows, "dddz", INFINITY, -INFINITY, NAN, (size_t)7);
    lt_result_row(rows, "ssbi", NULL, "\xff", 1, (int64_t)-3);
    assert_true(lt_result_is_whole(r));
    char *text = lt_result_text(rows);
    json_t *back = json_loads(text, 0, NULL),
           *want = json_loads("[[\"inf\", \"-inf\", \"nan\", 7], [\"\", \"?\", true, -3]]", 0, NULL);
    assert_true(json_equal(back, want));
    lt_result_row(rows, "s", "short");
    assert_false(lt_result_is_whole(r));
    lt_err err = { 0 };
    json_t *out;
    assert_fails(lt_result_finish(&out, r, &err), &err, LT_ENOMEM, "result");
    json_decref(back);
    json_decref(want);
    lt_free(text);
}

/* ---- streaming, stopping, two contexts ---- */
typedef struct seen {
    char text[4096];
    size_t n;
    int stop_after, calls;
} seen;

static void on_emit(void *user, const char *text, size_t bytes) {
    seen *s = user;
    if (s->n + bytes < sizeof s->text) memcpy(s->text + s->n, text, bytes);
    s->n += bytes;
}

static int on_progress(void *user, const char *stage, double done, double total, const char *unit) {
    seen *s = user;
    assert_true(stage && unit && done >= 0 && total >= 0);
    return ++s->calls > s->stop_after;
}

static void generated_text_streams_and_stands_in_the_result(void **state) {
    static const char options[] =
        "{\"model\": \"" TINY "\", \"prompt\": \"The\", \"max_new\": 12, \"ignore_eos\": true, \"threads\": 1}";
    (void)state;
    json_t *r = good_call("generate", options);
    seen s = { .stop_after = 1000 };
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    ctx.emit = on_emit;
    ctx.progress = on_progress;
    ctx.user = &s;
    assert_ok(lt_call(&ctx, "generate", options, NULL, NULL), NULL);
    const char *text = json_string_value(json_object_get(r, "text"));
    assert_int_equal(s.n, strlen(text) + 1); /* the newline that ends it */
    assert_memory_equal(s.text, text, strlen(text));
    assert_true(s.calls >= 12);
    json_decref(r);
}

static void a_progress_callback_stops_a_verb(void **state) {
    static const char options[] =
        "{\"model\": \"" TINY "\", \"prompt\": \"The\", \"max_new\": 200, \"ignore_eos\": true, \"threads\": 1}";
    (void)state;
    seen s = { .stop_after = 3 };
    lt_ctx ctx;
    lt_err err = { 0 };
    lt_ctx_init(&ctx);
    ctx.progress = on_progress;
    ctx.user = &s;
    assert_fails(lt_call(&ctx, "generate", options, NULL, &err), &err, LT_EINTERRUPTED, "interrupted");
    assert_int_equal(s.calls, 4);
}

static void *generate_in_a_thread(void *arg) {
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    char *text = NULL;
    const lt_status st = lt_call(&ctx, "generate", arg, &text, NULL);
    json_t *r = st == LT_OK ? json_loads(text, JSON_ALLOW_NUL, NULL) : NULL;
    lt_result_free(text);
    return r;
}

static void two_contexts_in_two_threads_do_not_meet(void **state) {
    static char options[] =
        "{\"model\": \"" TINY "\", \"prompt\": \"It was\", \"max_new\": 16, \"ignore_eos\": true, \"threads\": 2}";
    (void)state;
    pthread_t thread[2];
    json_t *result[2];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&thread[i], NULL, generate_in_a_thread, options), 0);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], (void **)&result[i]);
    assert_non_null(result[0]);
    assert_true(json_equal(json_object_get(result[0], "ids"), json_object_get(result[1], "ids")));
    json_decref(result[0]);
    json_decref(result[1]);
}

static lt_status list_with_failing_allocations(void *user, lt_err *err) {
    lt_ctx ctx;
    char *text = NULL;
    (void)user;
    lt_ctx_init(&ctx);
    ctx.threads = 1;
    const lt_status st = lt_call(&ctx, "list", "{\"topic\": \"dtypes\"}", &text, err);
    lt_result_free(text);
    return st;
}

static void a_call_survives_every_failing_allocation(void **state) {
    (void)state;
    assert_true(test_every_allocation_fails(list_with_failing_allocations, NULL) > 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_verbs_are_sound),
        cmocka_unit_test(the_description_covers_every_row),
        cmocka_unit_test(a_result_has_the_documented_members),
        cmocka_unit_test(wrong_calls_say_why_and_give_no_result),
        cmocka_unit_test(numbers_that_json_lacks_are_words),
        cmocka_unit_test(generated_text_streams_and_stands_in_the_result),
        cmocka_unit_test(a_progress_callback_stops_a_verb),
        cmocka_unit_test(two_contexts_in_two_threads_do_not_meet),
        cmocka_unit_test(a_call_survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
