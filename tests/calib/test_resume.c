/* SPDX-License-Identifier: Apache-2.0 */
/* A calibration that is killed, interrupted or starved of disk goes on where it was and ends with the same bytes. */
#include "calib/calib_test.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 6, LEN = 20 };

static const char *folder;
static lt_tokens tokens;
static int steps_left;
static bool every_layer; /* the state file follows every layer, or stays behind */

static int stop_at(void *user, const char *stage, double done, double total, const char *unit) {
    (void)user, (void)stage, (void)done, (void)total, (void)unit;
    return --steps_left < 0;
}

static int die_at(void *user, const char *stage, double done, double total, const char *unit) {
    if (stop_at(user, stage, done, total, unit)) raise(SIGKILL);
    return 0;
}

/* progress may end the run, or the process */
static lt_status run(lt_calibrate_out *out, int (*progress)(void *, const char *, double, double, const char *),
                     int steps, lt_err *err) {
    lt_model *m = tm_open(folder);
    lt_team *team = tm_team(1);
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    ctx.progress = progress;
    steps_left = steps;
    lt_calibrate_in in = ct_in(m, &tokens, team, test_path("resumed.stats"));
    in.ctx = &ctx;
    in.include_head = true;
    in.batch_tokens = 2 * LEN;
    in.state_every_layer = every_layer;
    const lt_status st = lt_calibrate(out, &in, err);
    lt_team_destroy(team);
    lt_model_destroy(m);
    return st;
}

static void finish_and_compare(void) {
    lt_calibrate_out out;
    lt_err err = { 0 };
    assert_ok(run(&out, NULL, 0, &err), &err);
    ct_assert_same_file(test_path("resumed.stats"), test_path("straight.stats"));
    assert_false(lt_path_exists(test_path("resumed.stats.partial")));
    assert_false(lt_path_exists(test_path("resumed.stats.partial.lock")));
    assert_int_equal(unlink(test_path("resumed.stats")), 0);
}

static int set_up(void **state) {
    (void)state;
    tm *spec = tm_build(TM_ODD, 1);
    folder = tm_write(spec, "odd", 1);
    tm_free(spec);
    tokens = ct_random_tokens(ROWS, LEN, TM_ODD.vocab, 2);
    lt_calibrate_out out;
    lt_err err = { 0 };
    if (run(&out, NULL, 0, &err) != LT_OK) return -1;
    return rename(test_path("resumed.stats"), test_path("straight.stats"));
}

static int tear_down(void **state) {
    (void)state;
    lt_tokens_clear(&tokens);
    return 0;
}

/* The child reports through its exit status: killed, or done. */
static bool child_is_killed(int steps) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        lt_calibrate_out out;
        _exit(run(&out, die_at, steps, NULL) == LT_OK ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return WIFSIGNALED(status);
}

static void killed_at_every_step_it_ends_with_the_same_bytes(void **state) {
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        int steps = 0;
        every_layer = mode == 0;
        while (child_is_killed(steps)) {
            finish_and_compare();
            steps++;
        }
        assert_true(steps >= 9); /* three layers of three batches */
        finish_and_compare();
    }
}

static void killed_again_and_again_it_gets_there(void **state) {
    (void)state;
    int kills = 0;
    every_layer = true;
    while (child_is_killed(4)) assert_true(++kills < 20); /* a layer has three steps, so each life finishes one */
    assert_true(kills >= 2);
    ct_assert_same_file(test_path("resumed.stats"), test_path("straight.stats"));
    finish_and_compare();
}

static void killed_at_any_moment_it_ends_with_the_same_bytes(void **state) {
    (void)state;
    lt_rng r = test_rng(9);
    for (int trial = 0; trial < 12; trial++) {
        every_layer = trial % 2 == 0;
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            lt_calibrate_out out;
            _exit(run(&out, NULL, 0, NULL) == LT_OK ? 0 : 1);
        }
        usleep((useconds_t)lt_rng_below(&r, 30000));
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        finish_and_compare();
    }
}

static void interrupted_it_says_so_and_goes_on(void **state) {
    (void)state;
    lt_calibrate_out out;
    lt_err err = { 0 };
    assert_fails(run(&out, stop_at, 5, &err), &err, LT_EINTERRUPTED, "interrupted");
    assert_true(lt_path_exists(test_path("resumed.stats.partial")));
    assert_ok(run(&out, NULL, 0, &err), &err);
    assert_true(out.resumed);
    assert_int_equal(out.resumed_layer, 1);
    ct_assert_same_file(test_path("resumed.stats"), test_path("straight.stats"));
}

/* Where a tensor begins in the finished file, and so in the unfinished one. */
static size_t place_of(const char *tensor) {
    lt_safetensors *f;
    lt_err err = { 0 };
    size_t n;
    assert_ok(lt_safetensors_open(&f, test_path("straight.stats"), &err), &err);
    char *whole = test_read_file(test_path("straight.stats"), &n);
    const lt_tensor *t = lt_safetensors_find(f, tensor);
    const char *values = memmem(whole, n, lt_host(t), lt_tensor_bytes(t));
    assert_non_null(values);
    const size_t place = (size_t)(values - whole);
    lt_free(whole);
    lt_safetensors_close(f);
    return place;
}

static void flip_bit(const char *path, size_t at) {
    size_t n;
    char *text = test_read_file(path, &n);
    assert_true(at < n);
    text[at] ^= 1;
    test_write_file(path, text, n);
    lt_free(text);
}

/* Sums, and the record of what they are; a file that ends too early is what a power cut may leave. */
static void damaged_layers_are_done_again(void **state) {
    (void)state;
    every_layer = true;
    for (int damage = 0; damage < 4; damage++) {
        lt_calibrate_out out;
        lt_err err = { 0 };
        const char *sums = test_path("resumed.stats.partial/stats.safetensors"),
                   *record = test_path("resumed.stats.partial/layer-00001.json");
        assert_fails(run(&out, stop_at, 7, &err), &err, LT_EINTERRUPTED, "interrupted");
        if (damage == 0) flip_bit(sums, place_of("model.layers.1.mlp_in.gram") + 9);
        if (damage == 1) assert_int_equal(truncate(sums, (off_t)place_of("model.layers.1.mlp_in.gram") + 9), 0);
        if (damage == 2) flip_bit(record, 2);
        if (damage == 3) assert_int_equal(truncate(record, 0), 0);
        assert_int_equal(unlink(test_path("resumed.stats.partial/state.safetensors")), 0);
        assert_ok(run(&out, NULL, 0, &err), &err);
        assert_int_equal(out.resumed_layer, 1);
        ct_assert_same_file(test_path("resumed.stats"), test_path("straight.stats"));
        assert_int_equal(unlink(test_path("resumed.stats")), 0);
    }
}

static void a_changed_setting_is_refused_by_name(void **state) {
    (void)state;
    lt_calibrate_out out;
    lt_err err = { 0 };
    assert_fails(run(&out, stop_at, 5, &err), &err, LT_EINTERRUPTED, "interrupted");
    lt_model *m = tm_open(folder);
    lt_team *team = tm_team(1);
    lt_tokens other = ct_random_tokens(ROWS, LEN, TM_ODD.vocab, 3);
    lt_calibrate_in in = ct_in(m, &tokens, team, test_path("resumed.stats"));
    in.include_head = true;
    in.batch_tokens = 2 * LEN;
    lt_calibrate_in changed = in;
    changed.settings = "{\"seq_len\": 8}";
    assert_fails(lt_calibrate(&out, &changed, &err), &err, LT_EUSAGE, "seq_len was 7, now 8");
    changed = in, changed.skip_first = 2;
    assert_fails(lt_calibrate(&out, &changed, &err), &err, LT_EUSAGE, "skip_first was 0, now 2");
    changed = in, changed.tokens = &other;
    assert_fails(lt_calibrate(&out, &changed, &err), &err, LT_EUSAGE, "tokens_hash");
    changed = in, changed.stats = 3;
    assert_fails(lt_calibrate(&out, &changed, &err), &err, LT_EUSAGE, "stats was");
    changed = in, changed.batch_tokens = LEN;
    assert_fails(lt_calibrate(&out, &changed, &err), &err, LT_EUSAGE, "batch_tokens was 40, now 20");
    changed = in, changed.include_head = false;
    assert_fails(lt_calibrate(&out, &changed, &err), &err, LT_EUSAGE, "include_head");
    changed = in, changed.model_hash = "other";
    assert_fails(lt_calibrate(&out, &changed, &err), &err, LT_EUSAGE, "model_hash");
    assert_ok(lt_calibrate(&out, &in, &err), &err);
    ct_assert_same_file(test_path("resumed.stats"), test_path("straight.stats"));
    lt_tokens_clear(&other);
    lt_team_destroy(team);
    lt_model_destroy(m);
}

/* Files beyond the limit cannot grow: an error that names the file, and afterwards the same bytes. */
static void a_full_disk_is_an_error_and_can_be_resumed(void **state) {
    (void)state;
    struct rlimit old, tight;
    lt_calibrate_out out;
    lt_err err = { 0 };
    (void)unlink(test_path("resumed.stats"));
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = 9000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const lt_status st = run(&out, NULL, 0, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(st, LT_EIO);
    assert_non_null(strstr(err.message, "resumed.stats.partial"));
    finish_and_compare();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_every_step_it_ends_with_the_same_bytes),
        cmocka_unit_test(killed_again_and_again_it_gets_there),
        cmocka_unit_test(killed_at_any_moment_it_ends_with_the_same_bytes),
        cmocka_unit_test(interrupted_it_says_so_and_goes_on),
        cmocka_unit_test(damaged_layers_are_done_again),
        cmocka_unit_test(a_changed_setting_is_refused_by_name),
        cmocka_unit_test(a_full_disk_is_an_error_and_can_be_resumed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
