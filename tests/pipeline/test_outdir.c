/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/outdir.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "pipeline/args.h"
#include "support/support.h"

typedef struct call {
    lt_ctx ctx;
    lt_call_ctx c;
    lt_args *args;
} call;

/* A call of `apply` with these options. */
static void begin_call(call *k, const char *options) {
    lt_err err = { 0 };
    json_t *j = NULL;
    lt_ctx_init(&k->ctx);
    assert_ok(lt_json_parse(&j, options, strlen(options), "options", &err), &err);
    assert_ok(lt_args_create(&k->args, lt_command_find("apply"), j, &err), &err);
    json_decref(j);
    k->c = (lt_call_ctx){ .ctx = &k->ctx, .verb = "apply", .args = k->args };
    assert_ok(lt_team_create(&k->c.team, 1, NULL, &err), &err);
}

static void end_call(call *k) {
    lt_team_destroy(k->c.team);
    lt_args_destroy(k->args);
}

#define PLAIN "{\"model\": \"m\", \"plan\": \"p\", \"output\": \"o\"}"

static json_t *settings(const char *hash) {
    return json_pack("{s:s, s:s}", "verb", "apply", "model_hash", hash);
}

static void touch(const char *folder, const char *name) {
    char *path = lt_path_join(folder, name);
    test_write_file(path, "x", 1);
    lt_free(path);
}

static bool has(const char *folder, const char *name) {
    char *path = lt_path_join(folder, name);
    const bool yes = lt_path_exists(path);
    lt_free(path);
    return yes;
}

static void finish(lt_outdir *o, call *k) {
    lt_err err = { 0 };
    json_t *r = json_pack("{s:s}", "format", "lathe-result/1");
    assert_ok(lt_outdir_commit(o, &k->c, r, 0, &err), &err);
    json_decref(r);
    lt_outdir_close(o);
}

static void the_folder_is_there_when_all_of_it_is(void **state) {
    (void)state;
    call k;
    begin_call(&k, PLAIN);
    lt_err err = { 0 };
    lt_outdir o;
    json_t *s = settings("aa");
    const char *dir = test_path("a/b/out");
    assert_ok(lt_outdir_begin(&o, &k.c, dir, s, &err), &err);
    assert_false(o.resumed);
    touch(o.work, "model.bin");
    assert_false(lt_path_exists(dir));
    finish(&o, &k);
    assert_true(has(dir, "model.bin") && has(dir, "result.json") && has(dir, "command.txt"));
    assert_int_equal(test_count_dir(dir), 3);
    assert_int_equal(test_count_dir(test_path("a/b")), 1); /* no lock, no partial */
    json_decref(s);
    end_call(&k);
}

static void work_goes_on_with_its_steps(void **state) {
    (void)state;
    call k;
    begin_call(&k, PLAIN);
    lt_err err = { 0 };
    lt_outdir o;
    json_t *s = settings("aa");
    const char *dir = test_path("resume");
    assert_ok(lt_outdir_begin(&o, &k.c, dir, s, &err), &err);
    assert_null(lt_outdir_step(&o, "apply"));
    assert_ok(lt_outdir_mark(&o, "apply", json_pack("{s:i}", "x", 7), &err), &err);
    touch(o.work, "kept");
    touch(o.work, "model.123-0.tmp"); /* what a killed process leaves */
    assert_ok(lt_make_dirs(test_path("resume.partial/model.tmp-9"), &err), &err);
    lt_outdir_close(&o);
    assert_ok(lt_outdir_begin(&o, &k.c, dir, s, &err), &err);
    assert_true(o.resumed);
    assert_int_equal(json_integer_value(json_object_get(lt_outdir_step(&o, "apply"), "x")), 7);
    assert_true(has(o.work, "kept") && !has(o.work, "model.123-0.tmp") && !has(o.work, "model.tmp-9"));
    finish(&o, &k);
    json_decref(s);
    end_call(&k);
}

static void changed_settings_are_refused_by_name(void **state) {
    (void)state;
    call k;
    begin_call(&k, PLAIN);
    lt_err err = { 0 };
    lt_outdir o;
    json_t *a = settings("aa"), *b = settings("bb"), *more = settings("aa");
    json_object_set_new(more, "dtype", json_string("bf16"));
    const char *dir = test_path("changed");
    assert_ok(lt_outdir_begin(&o, &k.c, dir, a, &err), &err);
    lt_outdir_close(&o);
    assert_fails(lt_outdir_begin(&o, &k.c, dir, b, &err), &err, LT_EUSAGE, "model_hash \"aa\", this call \"bb\"");
    assert_fails(lt_outdir_begin(&o, &k.c, dir, more, &err), &err, LT_EUSAGE, "dtype nothing, this call \"bf16\"");
    assert_ok(lt_outdir_begin(&o, &k.c, dir, a, &err), &err); /* nothing was lost */
    lt_outdir_close(&o);
    json_decref(a);
    json_decref(b);
    json_decref(more);
    end_call(&k);
}

static void a_second_process_is_kept_out(void **state) {
    (void)state;
    call k;
    begin_call(&k, PLAIN);
    lt_err err = { 0 };
    lt_outdir o, other;
    json_t *s = settings("aa");
    const char *dir = test_path("locked");
    assert_ok(lt_outdir_begin(&o, &k.c, dir, s, &err), &err);
    assert_fails(lt_outdir_begin(&other, &k.c, dir, s, &err), &err, LT_EIO, "in use");
    lt_outdir_close(&o);
    json_decref(s);
    end_call(&k);
}

static void what_is_there_is_not_overwritten_unasked(void **state) {
    (void)state;
    call k, force;
    begin_call(&k, PLAIN);
    begin_call(&force, "{\"model\": \"m\", \"plan\": \"p\", \"output\": \"o\", \"overwrite\": true}");
    lt_err err = { 0 };
    lt_outdir o;
    json_t *s = settings("aa");
    const char *dir = test_path("there");
    assert_ok(lt_make_dirs(dir, &err), &err);
    touch(dir, "precious");
    assert_fails(lt_outdir_begin(&o, &k.c, dir, s, &err), &err, LT_EUSAGE, "--overwrite");
    assert_ok(lt_outdir_begin(&o, &force.c, dir, s, &err), &err);
    assert_true(has(dir, "precious")); /* until the new one is whole */
    finish(&o, &force);
    assert_true(has(dir, "result.json") && !has(dir, "precious"));
    json_decref(s);
    end_call(&k);
    end_call(&force);
}

/* Refused before anything was made: no folder is in the way of the next call. What was made stays. */
static void refused_input_leaves_no_empty_work(void **state) {
    (void)state;
    static const struct {
        lt_status st;
        bool made, marked, stays;
    } cases[] = { { LT_EDATA, false, false, false },
                  { LT_EUNSUPPORTED, false, false, false },
                  { LT_EDATA, true, false, true },
                  { LT_EUSAGE, false, true, true },
                  { LT_EINTERRUPTED, false, false, true } };
    call k;
    begin_call(&k, PLAIN);
    json_t *s = settings("aa");
    const char *work = test_path("refused.partial");
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_err err = { 0 };
        lt_outdir o;
        assert_ok(lt_outdir_begin(&o, &k.c, test_path("refused"), s, &err), &err);
        if (cases[i].made) touch(o.work, "data.ids");
        if (cases[i].marked) assert_ok(lt_outdir_mark(&o, "data", json_true(), &err), &err);
        assert_int_equal(lt_outdir_kept(&o, cases[i].st, &err), cases[i].st);
        lt_outdir_close(&o);
        assert_int_equal(lt_path_exists(work), cases[i].stays);
        assert_ok(lt_remove_tree(work, &err), &err);
    }
    json_decref(s);
    end_call(&k);
}

static void a_foreign_partial_folder_is_left_alone(void **state) {
    (void)state;
    call k;
    begin_call(&k, PLAIN);
    lt_err err = { 0 };
    lt_outdir o;
    json_t *s = settings("aa");
    assert_ok(lt_make_dirs(test_path("foreign.partial"), &err), &err);
    touch(test_path("foreign.partial"), "thesis.doc");
    assert_fails(lt_outdir_begin(&o, &k.c, test_path("foreign"), s, &err), &err, LT_EUSAGE, "no unfinished work");
    assert_true(has(test_path("foreign.partial"), "thesis.doc"));
    test_write_file(test_path("foreign.partial/unfinished.json"), "[1]", 3);
    assert_fails(lt_outdir_begin(&o, &k.c, test_path("foreign"), s, &err), &err, LT_EDATA, "unfinished.json");
    json_decref(s);
    end_call(&k);
}

static void a_kill_just_before_the_rename_costs_nothing(void **state) {
    (void)state;
    call k;
    begin_call(&k, PLAIN);
    lt_err err = { 0 };
    lt_outdir o;
    json_t *s = settings("aa");
    const char *work = test_path("late.partial");
    assert_ok(lt_make_dirs(work, &err), &err);
    touch(work, "result.json");
    touch(work, "command.txt"); /* complete: the state is gone, the rename was still to come */
    assert_ok(lt_outdir_begin(&o, &k.c, test_path("late"), s, &err), &err);
    assert_false(o.resumed);
    assert_false(has(work, "command.txt"));
    finish(&o, &k);
    json_decref(s);
    end_call(&k);
}

static void settings_are_what_decides_bytes(void **state) {
    (void)state;
    call a, b, c;
    begin_call(&a, "{\"model\": \"x\", \"plan\": \"p\", \"output\": \"o\", \"threads\": 1}");
    begin_call(&b, "{\"model\": \"y\", \"plan\": \"q\", \"output\": \"u\", \"threads\": 2, \"stats\": \"s\"}");
    begin_call(&c, "{\"model\": \"x\", \"plan\": \"p\", \"output\": \"o\", \"dtype\": \"bf16\"}");
    json_t *sa = lt_settings_new(&a.c), *sb = lt_settings_new(&b.c), *sc = lt_settings_new(&c.c);
    assert_true(json_equal(sa, sb)); /* paths and threads are not */
    assert_false(json_equal(sa, sc));
    assert_non_null(json_object_get(sa, "numbers"));
    json_decref(sa);
    json_decref(sb);
    json_decref(sc);
    end_call(&a);
    end_call(&b);
    end_call(&c);
}

static void a_folder_that_cannot_be_made_is_reported(void **state) {
    (void)state;
    call k;
    begin_call(&k, PLAIN);
    lt_err err = { 0 };
    lt_outdir o;
    json_t *s = settings("aa");
    touch(test_dir(), "file");
    assert_int_equal(lt_outdir_begin(&o, &k.c, test_path("file/out"), s, &err), LT_EIO);
    json_decref(s);
    end_call(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_folder_is_there_when_all_of_it_is),
        cmocka_unit_test(work_goes_on_with_its_steps),
        cmocka_unit_test(changed_settings_are_refused_by_name),
        cmocka_unit_test(a_second_process_is_kept_out),
        cmocka_unit_test(what_is_there_is_not_overwritten_unasked),
        cmocka_unit_test(refused_input_leaves_no_empty_work),
        cmocka_unit_test(a_foreign_partial_folder_is_left_alone),
        cmocka_unit_test(a_kill_just_before_the_rename_costs_nothing),
        cmocka_unit_test(settings_are_what_decides_bytes),
        cmocka_unit_test(a_folder_that_cannot_be_made_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
