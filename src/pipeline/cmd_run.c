/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_run.c - the steps of a recipe, each once, resumable. */
#include "pipeline/commands.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/yaml.h"
#include "pipeline/parallel.h"
#include "pipeline/recipe.h"
#include "pipeline/result.h"

/* What is known of a job: its record beside its output, {"format", "step", "cell", "axes", "verb", "key", "done"}; of
 * one that is done "result" and perhaps "discarded", of one that failed "failed": {"code", "message"}. LEFT: it needs
 * one that failed. */
typedef enum job_state { TO_DO, DONE_BEFORE, DONE_NOW, ELSEWHERE, FAILED, LEFT } job_state;
static const char *const state_names[] = { "to do", "done before", "done", "of another shard", "failed", "not run" };

typedef struct running {
    lt_call_ctx *c;
    lt_recipe r;
    job_state *state;
    json_t **failure; /* [jobs] {"code", "message"} of one that failed */
    const char *out;
    bool discard, dry;
} running;

static bool is_done(job_state s) {
    return s == DONE_BEFORE || s == DONE_NOW;
}

/* ---- records ---- */

static lt_status record_path(char **out, const lt_job *j, lt_err *err) {
    *out = lt_asprintf("%s" LT_RECORD_END, j->base);
    return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "run: out of memory");
}

/* *record NULL: there is none that can be read. */
static lt_status load_record(json_t **record, const lt_job *j, lt_err *err) {
    char *path;
    *record = NULL;
    LT_TRY(record_path(&path, j, err));
    if (lt_path_exists(path)) (void)lt_json_load(record, path, NULL); /* cut off or foreign: the job is done again */
    lt_free(path);
    return LT_OK;
}

/* Steals the record. */
static lt_status save_record(const lt_job *j, json_t *record, lt_err *err) {
    char *path = NULL;
    lt_status st = record ? record_path(&path, j, err) : lt_fail(err, LT_ENOMEM, "run: out of memory");
    if (st == LT_OK) st = lt_json_save(record, path, err);
    json_decref(record);
    lt_free(path);
    return st;
}

/* With what is to be said beyond whether it is done, or NULL; steals value. */
static json_t *record_new(const lt_job *j, bool done, const char *member, json_t *value) {
    json_t *record = json_pack("{s:s, s:s, s:s, s:O, s:s, s:s, s:b}", "format", "lathe-step/1", "step", j->step, "cell",
                               j->cell, "axes", j->axes, "verb", j->verb->name, "key", j->key, "done", (int)done);
    if (!member || (record && json_object_set(record, member, value) == 0)) {
        json_decref(value);
        return record;
    }
    json_decref(value);
    json_decref(record);
    return NULL;
}

static bool has_key(const json_t *record, const lt_job *j) {
    const char *key = json_string_value(json_object_get(record, "key"));
    return key && strcmp(key, j->key) == 0;
}

/* ---- what is done already ---- */

static bool users_are_done(const running *x, size_t index) {
    for (size_t i = index + 1; i < x->r.n; i++)
        for (size_t k = 0; k < x->r.job[i].n_needs; k++)
            if (x->r.job[i].needs[k] == index && x->r.job[i].wanted && !is_done(x->state[i])) return false;
    return true;
}

static lt_status look(running *x, size_t index, lt_err *err) {
    const lt_job *j = &x->r.job[index];
    json_t *record;
    LT_TRY(load_record(&record, j, err));
    const bool discarded = json_is_true(json_object_get(record, "discarded"));
    const bool there = discarded ? users_are_done(x, index) : !j->output || lt_path_exists(j->output);
    if (has_key(record, j) && json_is_true(json_object_get(record, "done")) && there) x->state[index] = DONE_BEFORE;
    if (!j->wanted) x->state[index] = ELSEWHERE;
    json_decref(record);
    return LT_OK;
}

/* ---- doing ---- */

static lt_status remove_output(const lt_job *j, lt_err *err) {
    if (!j->output) return LT_OK;
    char *partial = lt_asprintf("%s.partial", j->output);
    lt_status st = partial ? lt_remove_tree(j->output, err) : lt_fail(err, LT_ENOMEM, "run: out of memory");
    if (st == LT_OK) st = lt_remove_tree(partial, err);
    lt_free(partial);
    return st;
}

static lt_status call(json_t **result, const running *x, const lt_job *j, lt_err *err) {
    lt_ctx ctx = *x->c->ctx;
    char *text = NULL;
    json_t *options = json_copy(j->options);
    ctx.emit = NULL; /* text becomes part of the result */
    if (options && j->output && !(j->verb->without & LT_NO_OVERWRITE))
        json_object_set_new(options, "overwrite", json_true()); /* whole, but its record was not written */
    char *options_text = options ? lt_json_canonical(options) : NULL;
    json_decref(options);
    if (!options_text) return lt_fail(err, LT_ENOMEM, "run: out of memory");
    lt_status st = lt_call(&ctx, j->verb->name, options_text, &text, err);
    lt_free(options_text);
    if (st == LT_OK) st = lt_json_parse(result, text, strlen(text), j->verb->name, err);
    lt_result_free(text);
    return st;
}

/* Models are what takes the room; plans and results stay. */
static lt_status discard(const lt_job *j, lt_err *err) {
    static const char *const names[] = { "model", "model.gguf" };
    json_t *record;
    bool any = false;
    for (size_t i = 0; i < LT_COUNTOF(names); i++) {
        char *path = lt_path_join(j->output, names[i]);
        if (!path) return lt_fail(err, LT_ENOMEM, "run: out of memory");
        const bool there = lt_path_exists(path);
        any |= there;
        const lt_status st = there ? lt_remove_tree(path, err) : LT_OK;
        lt_free(path);
        LT_TRY(st);
    }
    if (!any) return LT_OK;
    LT_TRY(load_record(&record, j, err));
    if (record) json_object_set_new(record, "discarded", json_true());
    return save_record(j, record, err);
}

/* Is the job done, and every job that uses it, in this shard or another? */
static bool is_spent(const running *x, size_t index) {
    if (!is_done(x->state[index])) return false;
    for (size_t i = index + 1; i < x->r.n; i++)
        for (size_t k = 0; k < x->r.job[i].n_needs; k++)
            if (x->r.job[i].needs[k] == index && !is_done(x->state[i])) return false;
    return true;
}

static lt_status discard_spent(const running *x, lt_err *err) {
    for (size_t i = 0; i < x->r.n; i++)
        if (x->r.job[i].output && is_spent(x, i)) LT_TRY(discard(&x->r.job[i], err));
    return LT_OK;
}

/* Another shard may be at the same job: it is waited for. */
static lt_status wait_for_lock(int *fd, const running *x, const char *path, lt_err *err) {
    lt_err why;
    for (;;) {
        why = (lt_err){ 0 };
        const lt_status st = lt_lock_acquire(fd, path, &why);
        if (st == LT_OK) return LT_OK;
        if (!strstr(why.message, "in use")) return lt_fail(err, st, "%s", why.message);
        LT_TRY(lt_progress(x->c->ctx, err, "waiting for another run", 0, 0, ""));
        nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
    }
}

static lt_status do_locked(running *x, size_t index, lt_err *err) {
    const lt_job *j = &x->r.job[index];
    json_t *record, *result = NULL;
    LT_TRY(look(x, index, err));
    if (x->state[index] == DONE_BEFORE) return LT_OK;
    LT_TRY(load_record(&record, j, err));
    const bool goes_on = has_key(record, j) && !json_is_true(json_object_get(record, "discarded"));
    json_decref(record);
    if (!goes_on) LT_TRY(remove_output(j, err));
    LT_TRY(save_record(j, record_new(j, false, NULL, NULL), err));
    lt_log(x->c->ctx, LT_LOG_INFO, "run: %zu of %zu: %s %s", index + 1, x->r.n, j->step, j->cell);
    LT_TRY(call(&result, x, j, err));
    LT_TRY(save_record(j, record_new(j, true, "result", result), err));
    x->state[index] = DONE_NOW;
    return LT_OK;
}

/* The lock is a folder of its own: the output is one that is removed and made again. */
static lt_status do_alone(running *x, size_t index, const char *lock, lt_err *err) {
    int fd;
    LT_TRY(wait_for_lock(&fd, x, lock, err));
    const lt_status st = do_locked(x, index, err);
    (void)rmdir(lock);
    lt_lock_release(fd);
    return st;
}

static lt_status do_job(running *x, size_t index, lt_err *err) {
    const lt_job *j = &x->r.job[index];
    char *folder = lt_path_folder(j->base), *lock = lt_asprintf("%s.lock", j->base);
    lt_status st = folder && lock ? lt_make_dirs(folder, err) : lt_fail(err, LT_ENOMEM, "run: out of memory");
    if (st == LT_OK) st = do_alone(x, index, lock, err);
    lt_free(folder);
    lt_free(lock);
    return st == LT_OK && x->discard ? discard_spent(x, err) : st;
}

/* ---- failures ---- */

/* One cell that fails loses no other: only an interruption, and a record that cannot be written, end a run. */
static lt_status note_failure(running *x, size_t index, const lt_err *why, lt_err *err) {
    const lt_job *j = &x->r.job[index];
    if (why->code == LT_EINTERRUPTED)
        return lt_fail(err, LT_EINTERRUPTED, "step %s%s%s: %s", j->step, *j->cell ? " " : "", j->cell, why->message);
    lt_log(x->c->ctx, LT_LOG_WARN, "run: step %s%s%s failed: %s", j->step, *j->cell ? " " : "", j->cell, why->message);
    json_t *failed = json_pack("{s:i, s:s}", "code", (int)why->code, "message", why->message);
    if (!failed) return lt_fail(err, LT_ENOMEM, "run: out of memory");
    x->state[index] = FAILED;
    x->failure[index] = json_incref(failed);
    return save_record(j, record_new(j, false, "failed", failed), err);
}

/* Whether the job waits for one that will not be done; then it is left, too. */
static bool is_left(running *x, size_t index) {
    const lt_job *j = &x->r.job[index];
    for (size_t k = 0; k < j->n_needs; k++) {
        const job_state s = x->state[j->needs[k]];
        if (s == FAILED || s == LEFT) x->state[index] = LEFT;
    }
    return x->state[index] == LEFT;
}

static lt_status try_job(running *x, size_t index, lt_err *err) {
    lt_err why = { 0 };
    const lt_status st = do_job(x, index, &why);
    why.code = st;
    return st == LT_OK ? LT_OK : note_failure(x, index, &why, err);
}

/* The first failure in the order of the jobs, with the number of all. */
static lt_status summary(const running *x, lt_err *err) {
    size_t failed = 0, left = 0, first = 0;
    char more[64] = "";
    for (size_t i = x->r.n; i-- > 0;) {
        failed += x->state[i] == FAILED;
        left += x->state[i] == LEFT;
        if (x->state[i] == FAILED) first = i;
    }
    if (failed == 0) return LT_OK;
    if (left) snprintf(more, sizeof more, ", %zu that use %s were not run", left, failed > 1 ? "them" : "it");
    const json_t *f = x->failure[first];
    const lt_job *j = &x->r.job[first];
    return lt_fail(err, (lt_status)json_integer_value(json_object_get(f, "code")),
                   "run: %zu of %zu jobs failed%s; the first: step %s%s%s: %s", failed, x->r.n, more, j->step,
                   *j->cell ? " " : "", j->cell, json_string_value(json_object_get(f, "message")));
}

/* ---- side by side ---- */

static lt_job_ready ready(void *user, size_t index) {
    running *x = user;
    const lt_job *j = &x->r.job[index];
    if (x->state[index] != TO_DO || is_left(x, index)) return LT_JOB_DONE;
    for (size_t k = 0; k < j->n_needs; k++)
        if (x->state[j->needs[k]] == TO_DO) return LT_JOB_WAITS;
    return LT_JOB_READY;
}

/* What the verb itself says with --estimate. */
static lt_status estimate(size_t *bytes, void *user, size_t index, size_t share, lt_err *err) {
    const running *x = user;
    const lt_job *j = &x->r.job[index];
    lt_ctx ctx = *x->c->ctx;
    char *text = NULL;
    json_t *options = j->verb->without & LT_NO_ESTIMATE ? NULL : json_copy(j->options), *result = NULL;
    if (!options) return LT_OK;
    ctx.emit = NULL;
    ctx.max_memory = share;
    json_object_set_new(options, "estimate", json_true());
    char *options_text = lt_json_canonical(options);
    json_decref(options);
    if (!options_text) return lt_fail(err, LT_ENOMEM, "run: out of memory");
    lt_status st = lt_call(&ctx, j->verb->name, options_text, &text, err);
    lt_free(options_text);
    if (st == LT_OK) st = lt_json_parse(&result, text, strlen(text), j->verb->name, err);
    lt_result_free(text);
    const json_t *memory = json_object_get(json_object_get(result, "estimate"), "memory_bytes");
    *bytes = json_is_integer(memory) ? (size_t)json_integer_value(memory) : 0;
    json_decref(result);
    return st;
}

/* This recipe again, for one job. */
static lt_status command(char ***argv, void *user, size_t index, size_t max_memory, int threads, lt_err *err) {
    static const char *const passed[] = { "isa", "scratch" };
    const running *x = user;
    const lt_args *a = x->c->args;
    const char *path = lt_arg_string(a, "recipe");
    lt_log(x->c->ctx, LT_LOG_INFO, "run: %zu of %zu: %s %s", index + 1, x->r.n, x->r.job[index].step,
           x->r.job[index].cell);
    LT_TRY(lt_argv_add(argv, err, "lathe"));
    LT_TRY(lt_argv_add(argv, err, "run"));
    LT_TRY(lt_argv_add(argv, err, "%s%s", *path == '-' ? "./" : "", path));
    LT_TRY(lt_argv_add(argv, err, "--output=%s", x->out));
    for (size_t i = 0; i < lt_arg_count(a, "set"); i++)
        LT_TRY(lt_argv_add(argv, err, "--set=%s", lt_arg_at(a, "set", i)));
    for (size_t i = 0; i < LT_COUNTOF(passed); i++)
        if (lt_arg_given(a, passed[i]))
            LT_TRY(lt_argv_add(argv, err, "--%s=%s", passed[i], lt_arg_string(a, passed[i])));
    if (max_memory) LT_TRY(lt_argv_add(argv, err, "--max-memory=%zu", max_memory));
    LT_TRY(lt_argv_add(argv, err, "--threads=%d", threads));
    LT_TRY(lt_argv_add(argv, err, "--only=%zu", index + 1));
    return lt_argv_add(argv, err, "--quiet");
}

static lt_status finished(void *user, size_t index, lt_err *err) {
    running *x = user;
    LT_TRY(look(x, index, err));
    if (x->state[index] != DONE_BEFORE)
        return lt_fail(err, LT_EINTERNAL, "run: the step ended without its record (%s)", x->r.job[index].base);
    x->state[index] = DONE_NOW;
    return x->discard ? discard_spent(x, err) : LT_OK;
}

/* The process has told its failure in the record, unless it was killed. */
static lt_status not_finished(void *user, size_t index, const lt_err *why, lt_err *err) {
    running *x = user;
    json_t *record;
    lt_err told = *why;
    LT_TRY(load_record(&record, &x->r.job[index], err));
    const char *message = json_string_value(json_object_get(json_object_get(record, "failed"), "message"));
    if (message && has_key(record, &x->r.job[index])) snprintf(told.message, sizeof told.message, "%s", message);
    json_decref(record);
    return note_failure(x, index, &told, err);
}

static lt_status do_side_by_side(running *x, size_t at_once, lt_err *err) {
    const lt_parallel_in in = { .ctx = x->c->ctx,
                                .program = lt_arg_string(x->c->args, "program"),
                                .n = x->r.n,
                                .at_once = at_once,
                                .ready = ready,
                                .estimate = estimate,
                                .command = command,
                                .finished = finished,
                                .failed = not_finished,
                                .user = x };
    return lt_run_parallel(&in, err);
}

static lt_status do_only(running *x, size_t number, lt_err *err) {
    LT_REQUIRE(err, number <= x->r.n, "--only: there are %zu jobs", x->r.n);
    const lt_job *j = &x->r.job[number - 1];
    for (size_t k = 0; k < j->n_needs; k++)
        LT_REQUIRE(err, x->state[j->needs[k]] == DONE_BEFORE, "--only: what the job uses is not done: step %s %s",
                   x->r.job[j->needs[k]].step, x->r.job[j->needs[k]].cell);
    return x->state[number - 1] == TO_DO ? try_job(x, number - 1, err) : LT_OK;
}

static lt_status do_in_order(running *x, lt_err *err) {
    for (size_t i = 0; i < x->r.n; i++)
        if (x->state[i] == TO_DO && !is_left(x, i)) LT_TRY(try_job(x, i, err));
    return LT_OK;
}

static lt_status do_all(running *x, lt_err *err) {
    const size_t at_once = (size_t)lt_arg_int(x->c->args, "jobs");
    LT_TRY(at_once > 1 ? do_side_by_side(x, at_once, err) : do_in_order(x, err));
    return x->discard ? discard_spent(x, err) : LT_OK;
}

/* ---- the recipe beside its results ---- */

/* OUT/recipe.json: what this folder holds the results of, in order. */
static json_t *recipe_json(const running *x) {
    json_t *jobs = json_array();
    for (size_t i = 0; i < x->r.n; i++) {
        const lt_job *j = &x->r.job[i];
        const char *output = j->output ? j->output + strlen(x->out) + 1 : NULL;
        if (json_array_append_new(jobs, json_pack("{s:s, s:s, s:s, s:s?}", "step", j->step, "cell", j->cell, "key",
                                                  j->key, "output", output)) == 0)
            continue;
        json_decref(jobs);
        return NULL;
    }
    return json_pack("{s:s, s:O, s:o}", "format", "lathe-recipe/1", "recipe", x->r.root, "jobs", jobs);
}

/* Jobs of the recipe that was run here before and are none of this one. */
static size_t count_strangers(const running *x, const json_t *before) {
    size_t i, n = 0;
    json_t *old;
    json_array_foreach(json_object_get(before, "jobs"), i, old) {
        const char *step = json_string_value(json_object_get(old, "step"));
        const char *cell = json_string_value(json_object_get(old, "cell"));
        bool ours = !step || !cell;
        for (size_t k = 0; k < x->r.n && !ours; k++)
            ours = strcmp(x->r.job[k].step, step) == 0 && strcmp(x->r.job[k].cell, cell) == 0;
        n += !ours;
    }
    return n;
}

static lt_status save_recipe(const running *x, lt_err *err) {
    char *path = lt_path_join(x->out, LT_RECIPE_NAME);
    json_t *now = recipe_json(x), *before = NULL;
    lt_status st = path && now ? lt_make_dirs(x->out, err) : lt_fail(err, LT_ENOMEM, "run: out of memory");
    if (st == LT_OK && lt_path_exists(path)) (void)lt_json_load(&before, path, NULL); /* unreadable: written anew */
    const size_t strangers = count_strangers(x, before);
    if (strangers)
        lt_log(x->c->ctx, LT_LOG_WARN,
               "run: %zu jobs of the recipe that was run here before are not in this one: their results stay, report "
               "leaves them out (%s)",
               strangers, x->out);
    if (st == LT_OK && !json_equal(now, before)) st = lt_json_save(now, path, err);
    json_decref(now);
    json_decref(before);
    lt_free(path);
    return st;
}

/* ---- the verb ---- */

/* In the order of the jobs; where there are any also as a table. */
static json_t *failures_json(const running *x, json_t *result) {
    static const char *const columns[] = { "failed", "cell", "why" };
    json_t *list = json_array(), *rows = NULL;
    for (size_t i = 0; i < x->r.n; i++) {
        const lt_job *j = &x->r.job[i];
        if (x->state[i] != FAILED) continue;
        json_t *f = json_pack("{s:s, s:s}", "step", j->step, "cell", j->cell);
        json_object_update(f, x->failure[i]);
        if (!rows) rows = lt_result_table(result, "", columns, LT_COUNTOF(columns));
        lt_result_row(rows, "sss", j->step, j->cell, json_string_value(json_object_get(f, "message")));
        json_array_append_new(list, f);
    }
    return list;
}

static lt_status report(const running *x, json_t **result, lt_err *err) {
    static const char *const columns[] = { "step", "cell", "verb", "state", "output" };
    json_t *r = lt_result_new(x->c), *jobs = json_array();
    json_t *rows = lt_result_table(r, "", columns, LT_COUNTOF(columns));
    size_t count[LT_COUNTOF(state_names)] = { 0 };
    for (size_t i = 0; i < x->r.n; i++) {
        const lt_job *j = &x->r.job[i];
        const char *state = state_names[x->state[i]];
        count[x->state[i]]++;
        lt_result_row(rows, "sssss", j->step, j->cell, j->verb->name, state, j->output);
        json_array_append_new(jobs, json_pack("{s:s, s:O, s:s, s:s, s:s?}", "step", j->step, "axes", j->axes, "key",
                                              j->key, "state", state, "output", j->output));
    }
    json_object_set_new(r, "jobs", jobs);
    json_object_set_new(r, "done_now", json_integer((json_int_t)count[DONE_NOW]));
    json_object_set_new(r, "done_before", json_integer((json_int_t)count[DONE_BEFORE]));
    json_object_set_new(r, "failed", json_integer((json_int_t)count[FAILED]));
    json_object_set_new(r, "not_run", json_integer((json_int_t)count[LEFT]));
    json_object_set_new(r, "failures", failures_json(x, r));
    return lt_result_finish(result, r, err);
}

static lt_status run_jobs(running *x, json_t **result, lt_err *err) {
    LT_TRY(lt_recipe_keys(&x->r, err));
    x->state = lt_calloc(x->r.n, sizeof *x->state);
    x->failure = lt_calloc(x->r.n, sizeof *x->failure);
    if (!x->state || !x->failure) return lt_fail(err, LT_ENOMEM, "run: out of memory");
    for (size_t i = x->r.n; i-- > 0;) LT_TRY(look(x, i, err));
    if (!x->dry) LT_TRY(save_recipe(x, err));
    if (!x->dry && lt_arg_given(x->c->args, "only"))
        LT_TRY(do_only(x, (size_t)lt_arg_int(x->c->args, "only"), err));
    else if (!x->dry)
        LT_TRY(do_all(x, err));
    LT_TRY(report(x, result, err));
    return summary(x, err);
}

static lt_status parse_shard(size_t *shard, size_t *shards, const char *text, lt_err *err) {
    char after;
    *shard = *shards = 1;
    if (!text) return LT_OK;
    LT_REQUIRE(err, sscanf(text, "%zu/%zu%c", shard, shards, &after) == 2 && *shard >= 1 && *shard <= *shards,
               "--shard: \"%.40s\" is not I/N with 1 <= I <= N", text);
    return LT_OK;
}

static lt_status open_recipe(running *x, lt_err *err) {
    const lt_args *a = x->c->args;
    const char *path = lt_arg_string(a, "recipe"), *sets[64];
    json_t *root, *lines;
    lt_recipe_opts o = { .set = sets, .n_set = lt_arg_count(a, "set") };
    LT_REQUIRE(err, o.n_set <= LT_COUNTOF(sets), "--set: more than %zu", LT_COUNTOF(sets));
    for (size_t i = 0; i < o.n_set; i++) sets[i] = lt_arg_at(a, "set", i);
    LT_TRY(parse_shard(&o.shard, &o.shards, lt_arg_string(a, "shard"), err));
    LT_TRY(lt_yaml_load_lines(&root, &lines, path, err));
    x->r.root = root; /* cleared with it */
    o.lines = lines;
    o.out =
        lt_arg_string(a, "output") ? lt_arg_string(a, "output") : json_string_value(json_object_get(root, "output"));
    x->out = o.out;
    const lt_status st =
        o.out && *o.out ? lt_recipe_parse(&x->r, root, path, &o, err)
                        : lt_fail(err, LT_EUSAGE, "run: say where to: --output, or output in the recipe (%s)", path);
    json_decref(lines);
    return st;
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    running x = { .c = c, .discard = lt_arg_flag(c->args, "discard-models"), .dry = lt_arg_flag(c->args, "dry-run") };
    lt_status st = open_recipe(&x, err);
    if (st == LT_OK) st = run_jobs(&x, result, err);
    for (size_t i = 0; x.failure && i < x.r.n; i++) json_decref(x.failure[i]);
    lt_free(x.failure);
    lt_free(x.state);
    lt_recipe_clear(&x.r);
    return st;
}

static const lt_positional positionals[] = {
    { "recipe", 1, 1, "YAML file: steps and the matrix they are repeated over" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "output", LT_OPT_PATH, NULL, 0, 0, NULL, false, "DIR", "folder for everything; default: output of the recipe" },
    { "set", LT_OPT_STRING, NULL, 0, 0, NULL, true, "A.B=VALUE",
      "change the recipe: a member by its path, a step by its name (set.model=x, steps.small.with.keep=0.7)" },
    { "shard", LT_OPT_STRING, NULL, 0, 0, NULL, false, "I/N",
      "only every N-th combination of the matrix, from the I-th" },
    { "jobs", LT_OPT_INT, "1", 1, 256, NULL, false, "N",
      "as many steps at once, each a process with a share of the threads, as long as what they need (--estimate) fits "
      "into --max-memory" },
    { "program", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE",
      "the lathe program that steps of --jobs are run with; default: the running one" },
    { "only", LT_OPT_INT, NULL, 1, 0x1p30, NULL, false, "N",
      "only the N-th job in the order of --dry-run; what it uses must be done" },
    { "discard-models", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL,
      "remove a model once every step that uses it is done; plans and results stay" },
    { "dry-run", LT_OPT_FLAG, "false", 0, 0, NULL, false, NULL, "show what is done and what would be done" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_run = {
    .name = "run",
    .summary = "run the steps of a recipe, over all combinations of its matrix",
    .details = "A step whose verb, options and inputs have not changed is not run again; an interrupted one goes on. "
               "Steps are repeated only over the axes that they depend on. Results are kept beside the outputs as "
               "NAME.step.json, for `report`.\n"
               "A job that fails ends no other but those that use it; the exit code is that of the first.",
    .example = "lathe run recipe.yaml -o study",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE | LT_NO_OVERWRITE,
};
