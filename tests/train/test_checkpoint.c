/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints as files: what was saved comes back, what is kept, and what is refused by name (run.c's use of them, and
 * kills: tests/cli/heal.sh). */
#include "support/support.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file.h"
#include "train/checkpoint.h"

static lt_model *model;

static int open_model(void **state) {
    (void)state;
    lt_err err = { 0 };
    assert_ok(lt_model_open(&model, LT_TESTS_DIR "/../share/models/tiny-llama", &err), &err);
    return 0;
}

static int close_model(void **state) {
    (void)state;
    lt_model_destroy(model);
    return 0;
}

static lt_trainee *trainee_of(const char *targets, size_t rank) {
    const lt_train_lora lora = { .opts = { .rank = rank, .alpha = 1 }, .targets = targets, .seed = 3 };
    const lt_trainee_opts opts = { .base = LT_TRAIN_NORMS_HEAD, .lora = &lora };
    lt_err err = { 0 };
    lt_trainee *t;
    assert_ok(lt_trainee_create(&t, model, &opts, &err), &err);
    return t;
}

/* Values and moments that no other step and no other place has. */
static void fill(lt_trainee *t, size_t step) {
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < t->slice[i].n; k++) {
            t->slice[i].value[k] = (float)(step + i) + (float)k;
            t->slice[i].m[k] = -t->slice[i].value[k];
            t->slice[i].v[k] = 2 * t->slice[i].value[k];
        }
}

static void assert_filled(const lt_trainee *t, size_t step, bool moments) {
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < t->slice[i].n; k++) {
            const float value = (float)(step + i) + (float)k;
            assert_true(t->slice[i].value[k] == value);
            assert_true(t->slice[i].m[k] == (moments ? -value : 0));
            assert_true(t->slice[i].v[k] == (moments ? 2 * value : 0));
        }
}

static lt_status save(const lt_trainee *t, const char *folder, size_t step, lt_err *err) {
    json_t *state = json_pack("{s:I, s:s}", "step", (json_int_t)step, "more", "kept");
    const lt_status st = lt_checkpoint_save(t, folder, step, state, err);
    json_decref(state);
    return st;
}

static const char *folder_with(const char *name, const lt_trainee *t, size_t step) {
    const char *folder = test_path(name);
    lt_err err = { 0 };
    assert_ok(lt_make_dirs(folder, &err), &err);
    assert_ok(save(t, folder, step, &err), &err);
    return folder;
}

static void assert_steps(const char *folder, const size_t *want, size_t n_want) {
    lt_err err = { 0 };
    size_t *steps, n;
    assert_ok(lt_checkpoint_list(&steps, &n, folder, &err), &err);
    assert_int_equal(n, n_want);
    assert_memory_equal(steps, want, n * sizeof *steps);
    lt_free(steps);
}

static void what_was_saved_comes_back(void **state) {
    (void)state;
    lt_trainee *t = trainee_of("q_proj,down_proj", 3), *again;
    lt_err err = { 0 };
    fill(t, 7);
    const char *folder = folder_with("back", t, 7);
    for (int weights_only = 0; weights_only < 2; weights_only++) {
        json_t *j = NULL;
        again = trainee_of("q_proj,down_proj", 3);
        assert_ok(lt_checkpoint_load(again, folder, 7, weights_only, &j, &err), &err);
        assert_filled(again, 7, !weights_only);
        assert_string_equal(json_string_value(json_object_get(j, "more")), "kept");
        json_decref(j);
        lt_trainee_destroy(again);
    }
    lt_trainee_destroy(t);
}

static void the_newest_and_the_best_are_kept(void **state) {
    (void)state;
    lt_trainee *t = trainee_of("q_proj", 2);
    lt_err err = { 0 };
    const char *folder = folder_with("keep", t, 2);
    const size_t all[] = { 2, 9, 10, 99999999, 100000000 }, best = 9;
    for (size_t i = 1; i < LT_COUNTOF(all); i++) assert_ok(save(t, folder, all[i], &err), &err);
    assert_ok(lt_make_dirs(test_path("keep/checkpoint-00000011.tmp-"), &err), &err); /* of a killed process */
    assert_ok(lt_make_dirs(test_path("keep/checkpoint-"), &err), &err);
    assert_ok(lt_make_dirs(test_path("keep/checkpoint-11"), &err), &err);
    assert_steps(folder, all, LT_COUNTOF(all));
    assert_ok(lt_checkpoint_prune(folder, 2, &best, &err), &err);
    assert_steps(folder, (const size_t[]){ 9, 99999999, 100000000 }, 3);
    assert_ok(lt_checkpoint_prune(folder, 2, &(const size_t){ 100000000 }, &err), &err);
    assert_steps(folder, all + 3, 2);
    assert_ok(lt_checkpoint_prune(folder, 7, NULL, &err), &err);
    assert_steps(folder, all + 3, 2);
    assert_ok(lt_checkpoint_prune(folder, 1, NULL, &err), &err);
    assert_steps(folder, all + 4, 1);
    lt_trainee_destroy(t);
}

/* Half a folder is what a kill leaves: the next save of that step begins again, and one that is whole is not touched.
 */
static void a_save_takes_the_place_of_an_unfinished_one(void **state) {
    (void)state;
    lt_trainee *t = trainee_of("q_proj", 2);
    lt_err err = { 0 };
    const char *folder = test_path("half");
    assert_ok(lt_make_dirs(test_path("half/checkpoint-00000004.tmp-"), &err), &err);
    test_write_file(test_path("half/checkpoint-00000004.tmp-/weights.safetensors"), "half", 4);
    assert_ok(save(t, folder, 4, &err), &err);
    assert_int_equal(test_count_dir(folder), 1);
    fill(t, 1);
    assert_ok(save(t, folder, 4, &err), &err);
    lt_trainee *again = trainee_of("q_proj", 2);
    assert_ok(lt_checkpoint_load(again, folder, 4, false, NULL, &err), &err);
    assert_true(again->slice[0].value[1] != t->slice[0].value[1]);
    lt_trainee_destroy(again);
    lt_trainee_destroy(t);
}

static void truncated_files_are_refused_by_name(void **state) {
    (void)state;
    static const char *const names[] = { "weights.safetensors", "optimizer.safetensors", "state.json" };
    lt_trainee *t = trainee_of("q_proj", 2);
    lt_err err = { 0 };
    fill(t, 5);
    const char *folder = folder_with("cut", t, 5);
    for (size_t i = 0; i < LT_COUNTOF(names); i++) {
        char *path = lt_asprintf("%s/checkpoint-00000005/%s", folder, names[i]);
        size_t bytes;
        char *whole = test_read_file(path, &bytes);
        for (size_t k = 0; k < 9; k++) {
            test_write_file(path, whole, k * (bytes - 2) / 8); /* state.json ends with a line feed that may go */
            assert_fails(lt_checkpoint_load(t, folder, 5, false, NULL, &err), &err, LT_EDATA, names[i]);
        }
        assert_int_equal(unlink(path), 0);
        assert_fails(lt_checkpoint_load(t, folder, 5, false, NULL, &err), &err, LT_EIO, names[i]);
        test_write_file(path, whole, bytes);
        lt_free(whole);
        lt_free(path);
    }
    assert_ok(lt_checkpoint_load(t, folder, 5, false, NULL, &err), &err);
    lt_trainee_destroy(t);
}

static void what_is_of_another_training_or_step_is_refused(void **state) {
    (void)state;
    lt_trainee *t = trainee_of("q_proj", 2), *wider = trainee_of("q_proj", 3), *more = trainee_of("q_proj,v_proj", 2),
               *other = trainee_of("k_proj", 2);
    lt_err err = { 0 };
    const char *folder = folder_with("other", t, 5);
    assert_fails(lt_checkpoint_load(wider, folder, 5, false, NULL, &err), &err, LT_EDATA, "lora_A.weight");
    assert_fails(lt_checkpoint_load(more, folder, 5, false, NULL, &err), &err, LT_EDATA, "tensors, training has");
    assert_fails(lt_checkpoint_load(other, folder, 5, false, NULL, &err), &err, LT_EDATA, "k_proj.lora_A.weight");
    char *from = lt_path_join(folder, "checkpoint-00000005"), *to = lt_path_join(folder, "checkpoint-00000006");
    assert_ok(lt_rename(from, to, &err), &err);
    assert_fails(lt_checkpoint_load(t, folder, 6, false, NULL, &err), &err, LT_EDATA, "checkpoint is of step 5");
    test_write_file(test_path("other/checkpoint-00000006/state.json"), "[6]", 3);
    assert_fails(lt_checkpoint_load(t, folder, 6, false, NULL, &err), &err, LT_EDATA, "state.json");
    lt_free(from);
    lt_free(to);
    lt_trainee_destroy(t);
    lt_trainee_destroy(wider);
    lt_trainee_destroy(more);
    lt_trainee_destroy(other);
}

/* In a child, whose files may not grow past what a checkpoint needs. */
static void a_full_disk_leaves_the_older_ones(void **state) {
    (void)state;
    lt_trainee *t = trainee_of("q_proj", 2);
    const char *folder = folder_with("full", t, 1);
    const pid_t child = fork();
    if (child == 0) {
        lt_err err = { 0 };
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 4096, 4096 });
        _exit(save(t, folder, 2, &err) == LT_EIO && strstr(err.message, "checkpoint-00000002") ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(test_count_dir(folder), 1);
    assert_steps(folder, (const size_t[]){ 1 }, 1);
    lt_trainee_destroy(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_saved_comes_back),
        cmocka_unit_test(the_newest_and_the_best_are_kept),
        cmocka_unit_test(a_save_takes_the_place_of_an_unfinished_one),
        cmocka_unit_test(truncated_files_are_refused_by_name),
        cmocka_unit_test(what_is_of_another_training_or_step_is_refused),
        cmocka_unit_test(a_full_disk_leaves_the_older_ones),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
