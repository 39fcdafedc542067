/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs as processes: what runs beside what, within which memory, and what an end of one does to the others. The program
 * is the shell, and jobs write down when they begin and end. */
#include "support/support.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pipeline/parallel.h"

enum { MOST = 16 };
#define GB ((size_t)1 << 30)

typedef struct work {
    lt_parallel_in in;
    lt_ctx ctx;
    size_t needs[MOST], memory[MOST]; /* needs: job + 1 that must be done before; 0: none */
    const char *script[MOST];         /* after "begin"; NULL: a moment of sleep */
    bool done[MOST];
    size_t limit[MOST];
    int threads[MOST], finished;
    bool stop;     /* asked for once anything runs */
    bool goes_on;  /* after a failure */
    size_t failed; /* job + 1 */
    lt_err why;
} work;

static lt_job_ready ready(void *user, size_t i) {
    const work *w = user;
    if (w->done[i]) return LT_JOB_DONE;
    return w->needs[i] && !w->done[w->needs[i] - 1] ? LT_JOB_WAITS : LT_JOB_READY;
}

static lt_status estimate(size_t *bytes, void *user, size_t i, size_t share, lt_err *err) {
    const work *w = user;
    (void)share, (void)err;
    *bytes = w->memory[i];
    return LT_OK;
}

static lt_status command(char ***argv, void *user, size_t i, size_t max_memory, int threads, lt_err *err) {
    work *w = user;
    w->limit[i] = max_memory;
    w->threads[i] = threads;
    LT_TRY(lt_argv_add(argv, err, "sh"));
    LT_TRY(lt_argv_add(argv, err, "-c"));
    return lt_argv_add(argv, err, "echo begin %zu >>%s; %s; echo end %zu >>%s", i, test_path("log"),
                       w->script[i] ? w->script[i] : "sleep 0.15", i, test_path("log"));
}

static lt_status finished(void *user, size_t i, lt_err *err) {
    work *w = user;
    (void)err;
    assert_false(w->done[i]);
    w->done[i] = true;
    w->finished++;
    return LT_OK;
}

static lt_status failed(void *user, size_t i, const lt_err *why, lt_err *err) {
    work *w = user;
    w->failed = i + 1;
    w->why = *why;
    if (!w->goes_on) return lt_fail(err, why->code, "%s", why->message);
    w->done[i] = true; /* not to be done again */
    return LT_OK;
}

static int progress(void *user, const char *stage, double done, double total, const char *unit) {
    const work *w = user;
    size_t n = 0;
    (void)stage, (void)done, (void)total, (void)unit;
    if (!w->stop || access(test_path("pid"), R_OK) != 0) return 0;
    char *pid = test_read_file(test_path("pid"), &n);
    lt_free(pid);
    return n > 0;
}

static work make(size_t n, size_t at_once, size_t memory) {
    work w = { .in = { .n = n,
                       .at_once = at_once,
                       .ready = ready,
                       .estimate = estimate,
                       .command = command,
                       .finished = finished,
                       .failed = failed } };
    unlink(test_path("log"));
    w.ctx = (lt_ctx){ .threads = 8, .max_memory = memory, .progress = progress };
    w.in.program = "/bin/sh";
    return w;
}

static lt_status run(work *w, lt_err *err) {
    w->in.ctx = &w->ctx;
    w->in.user = w;
    w->ctx.user = w;
    return lt_run_parallel(&w->in, err);
}

/* Follows the log: most jobs and most memory at one time; begin and end of each. */
typedef struct seen {
    size_t jobs, memory, begins[MOST], ends[MOST]; /* positions in the log, from 1; 0: never */
} seen;

static seen read_log(const work *w) {
    seen s = { 0 };
    size_t n, running = 0, memory = 0, at = 0, job;
    char word[8], *text = test_read_file(test_path("log"), &n);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        assert_int_equal(sscanf(line, "%7s %zu", word, &job), 2);
        assert_true(job < MOST);
        const bool begins = strcmp(word, "begin") == 0;
        running += begins ? 1 : (size_t)-1;
        memory += begins ? w->limit[job] : -w->limit[job];
        *(begins ? &s.begins[job] : &s.ends[job]) = ++at;
        s.jobs = lt_max_size(s.jobs, running);
        s.memory = lt_max_size(s.memory, memory);
    }
    lt_free(text);
    return s;
}

static void every_job_runs_once_behind_those_it_needs(void **state) {
    (void)state;
    lt_err err = { 0 };
    for (size_t at_once = 1; at_once <= 4; at_once++) {
        work w = make(9, at_once, 0);
        for (size_t i = 1; i < 9; i++) w.needs[i] = i == 8 ? 8 : (i + 1) / 2; /* a tree, and one behind a leaf */
        assert_ok(run(&w, &err), &err);
        assert_int_equal(w.finished, 9);
        const seen s = read_log(&w);
        assert_true(s.jobs <= at_once && (at_once == 1 || s.jobs > 1));
        for (size_t i = 0; i < 9; i++) {
            assert_true(s.begins[i] && s.ends[i] > s.begins[i]);
            if (w.needs[i]) assert_true(s.begins[i] > s.ends[w.needs[i] - 1]);
            assert_true(w.threads[i] >= 8 / (int)at_once && w.threads[i] <= 8);
            assert_int_equal(w.limit[i], 0);
        }
        assert_int_equal(w.threads[0], 8); /* alone */
    }
}

/* Limits that were given out never sum to more than there is; who needs more than a share waits for room. */
static void what_runs_together_fits_into_the_memory(void **state) {
    (void)state;
    static const size_t need[] = { 1, 60, 3, 30, 2, 45, 5, 90, 1, 20 };
    lt_err err = { 0 };
    work w = make(10, 4, 100 * GB);
    for (size_t i = 0; i < 10; i++) w.memory[i] = need[i] * GB;
    assert_ok(run(&w, &err), &err);
    const seen s = read_log(&w);
    assert_true(s.memory <= 100 * GB && s.jobs > 1);
    for (size_t i = 0; i < 10; i++) {
        assert_true(w.limit[i] >= need[i] * GB && w.limit[i] > 20 * GB);
        if (need[i] < 20) assert_true(w.limit[i] <= 25 * GB);
    }
}

/* More than there is: alone, with all of it; so is one that needed more than it had said. */
static void what_does_not_fit_runs_alone(void **state) {
    (void)state;
    lt_err err = { 0 };
    work w = make(4, 2, 100 * GB);
    char script[256];
    w.memory[1] = 500 * GB;
    snprintf(script, sizeof script, "test -e %s || { touch %s; exit 5; }", test_path("tried"), test_path("tried"));
    w.script[2] = script;
    assert_ok(run(&w, &err), &err);
    assert_int_equal(w.finished, 4);
    assert_true(w.limit[1] > 99 * GB && w.limit[2] > 99 * GB && w.limit[0] < 51 * GB);
}

static void a_failure_is_passed_on_and_ends_the_others(void **state) {
    (void)state;
    static const struct {
        const char *script, *says;
        lt_status code;
    } cases[] = { { "echo 'lathe: error: step x: bad (file)' >&2; exit 3", "step x: bad (file)", LT_EDATA },
                  { "exit 99", "status 99", LT_EINTERNAL },
                  { "kill -9 $$", "signal 9", LT_EINTERNAL },
                  { "exit 130", "", LT_EINTERRUPTED } };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_err err = { 0 };
        work w = make(4, 3, 0);
        w.script[0] = "trap 'exit 130' TERM; sleep 20 & wait";
        w.script[1] = cases[i].script;
        w.needs[3] = 2;
        const double started = lt_seconds();
        assert_fails(run(&w, &err), &err, cases[i].code, cases[i].says);
        assert_true(lt_seconds() - started < 10.0);
        const seen s = read_log(&w);
        assert_true(!s.ends[0] && !s.begins[3]);
    }
}

static void the_others_go_on_where_a_failure_is_taken(void **state) {
    (void)state;
    lt_err err = { 0 };
    work w = make(5, 2, 0);
    w.goes_on = true;
    w.script[1] = "echo 'lathe: error: step x: bad (file)' >&2; exit 3";
    assert_ok(run(&w, &err), &err);
    assert_int_equal(w.finished, 4);
    assert_int_equal(w.failed, 2);
    assert_int_equal(w.why.code, LT_EDATA);
    assert_string_equal(w.why.message, "step x: bad (file)");
}

/* Asked to stop, every process is asked, and is gone when the call comes back. */
static void stopping_stops_all(void **state) {
    (void)state;
    lt_err err = { 0 };
    char script[256];
    size_t n;
    work w = make(3, 2, 0);
    snprintf(script, sizeof script, "echo $$ >%s; trap 'exit 130' TERM; sleep 20 & wait", test_path("pid"));
    w.script[0] = w.script[1] = script;
    w.stop = true;
    assert_fails(run(&w, &err), &err, LT_EINTERRUPTED, "");
    assert_int_equal(w.finished, 0);
    char *pid = test_read_file(test_path("pid"), &n);
    assert_true(kill((pid_t)atoi(pid), 0) == -1 && errno == ESRCH);
    lt_free(pid);
}

static void a_program_is_needed(void **state) {
    (void)state;
    lt_err err = { 0 };
    work w = make(2, 2, 0);
    w.in.program = NULL;
    assert_fails(run(&w, &err), &err, LT_EUSAGE, "--program");
    w.in.program = "/no/such/program";
    assert_fails(run(&w, &err), &err, LT_EIO, "cannot be started");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_runs_once_behind_those_it_needs),
        cmocka_unit_test(what_runs_together_fits_into_the_memory),
        cmocka_unit_test(what_does_not_fit_runs_alone),
        cmocka_unit_test(a_failure_is_passed_on_and_ends_the_others),
        cmocka_unit_test(the_others_go_on_where_a_failure_is_taken),
        cmocka_unit_test(stopping_stops_all),
        cmocka_unit_test(a_program_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
