/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/outdir.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "pipeline/args.h"
#include "pipeline/result.h"

static const char state_name[] = "unfinished.json";

/* ---- settings ---- */
static bool is_path(const lt_command *v, const char *name) {
    for (const lt_positional *p = v->positionals; p && p->name; p++)
        if (strcmp(p->name, name) == 0) return true;
    for (const lt_option *o = v->options; o && o->name; o++)
        if (strcmp(o->name, name) == 0) return o->type == LT_OPT_PATH;
    return false;
}

json_t *lt_settings_new(const lt_call_ctx *c) {
    char numbers[128];
    const char *name;
    json_t *v;
    lt_team_describe(c->team, numbers, sizeof numbers);
    char *threads = strrchr(numbers, ','); /* they do not matter */
    if (threads) *threads = 0;
    json_t *s = json_pack("{s:s, s:s, s:s}", "verb", c->verb, "version", lt_version(), "numbers", numbers);
    const lt_command *verb = lt_command_find(c->verb);
    json_object_foreach((json_t *)lt_args_json(c->args), name, v) {
        if (!s || is_path(verb, name)) continue;
        if (json_object_set(s, name, v) == 0) continue;
        json_decref(s);
        s = NULL;
    }
    return s;
}

static void value_text(const json_t *v, char *buf, size_t cap) {
    const size_t n = v ? json_dumpb(v, buf, cap - 1, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15)) : 0;
    if (v && n < cap)
        buf[n] = 0;
    else
        snprintf(buf, cap, v ? "something long" : "nothing");
}

static lt_status other_setting(const char *work, const char *name, const json_t *was, const json_t *is, lt_err *err) {
    char a[160], b[160];
    value_text(was, a, sizeof a);
    value_text(is, b, sizeof b);
    return lt_fail(err, LT_EUSAGE, "unfinished work has %s %s, this call %s: use that, or remove the folder (%s)", name,
                   a, b, work);
}

static lt_status same_settings(const char *work, const json_t *was, const json_t *is, lt_err *err) {
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)is, name, v) {
        const json_t *old = json_object_get(was, name);
        if (!json_equal(old, v)) return other_setting(work, name, old, v, err);
    }
    json_object_foreach((json_t *)was, name, v) {
        if (!json_object_get(is, name)) return other_setting(work, name, v, NULL, err);
    }
    return LT_OK;
}

/* ---- begin ---- */
lt_status lt_output_check(const lt_call_ctx *c, const char *path, lt_err *err) {
    if (!lt_path_exists(path) || lt_arg_flag(c->args, "overwrite")) return LT_OK;
    return lt_fail(err, LT_EUSAGE, "the output is there already; --overwrite replaces it (%s)", path);
}

lt_status lt_outdir_file(char **out, const lt_outdir *o, const char *name, lt_err *err) {
    *out = lt_path_join(o->work, name);
    return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "%s: out of memory", o->path);
}

static lt_status work_is(bool *yes, const lt_outdir *o, const char *name, lt_err *err) {
    char *path;
    LT_TRY(lt_outdir_file(&path, o, name, err));
    *yes = lt_path_exists(path);
    lt_free(path);
    return LT_OK;
}

static lt_status save_state(lt_outdir *o, lt_err *err) {
    char *path;
    LT_TRY(lt_outdir_file(&path, o, state_name, err));
    const lt_status st = lt_json_save(o->state, path, err);
    lt_free(path);
    return st;
}

static lt_status load_state(lt_outdir *o, const json_t *settings, lt_err *err) {
    char *path;
    LT_TRY(lt_outdir_file(&path, o, state_name, err));
    lt_status st = lt_json_load(&o->state, path, err);
    if (st == LT_OK && !json_is_object(json_object_get(o->state, "steps")))
        st = lt_fail(err, LT_EDATA, "not the state of unfinished work (%s)", path);
    if (st == LT_OK) st = same_settings(o->work, json_object_get(o->state, "settings"), settings, err);
    lt_free(path);
    return st;
}

/* Names that a killed process left: "x.123-0.tmp" of files, "x.tmp-..." of folders. */
static bool is_leftover(const char *name) {
    const size_t n = strlen(name);
    return (n > 4 && strcmp(name + n - 4, ".tmp") == 0) || strstr(name, ".tmp-");
}

/* All but what says that it was complete, which goes last: a kill in between leaves what is known. */
static bool is_content(const char *name) {
    return strcmp(name, "command.txt") != 0;
}

static bool is_mark(const char *name) {
    return !is_content(name);
}

static lt_status remove_those(const lt_outdir *o, bool (*which)(const char *name), lt_err *err) {
    char **names;
    size_t n;
    LT_TRY(lt_list_dir(&names, &n, o->work, err));
    lt_status st = LT_OK;
    for (size_t i = 0; i < n; i++) {
        char *path = NULL;
        if (which(names[i]) && st == LT_OK) st = lt_outdir_file(&path, o, names[i], err);
        if (path) st = lt_remove_tree(path, err);
        lt_free(path);
        lt_free(names[i]);
    }
    lt_free(names);
    return st;
}

static lt_status is_empty(bool *yes, const char *folder, lt_err *err) {
    char **names;
    size_t n;
    LT_TRY(lt_list_dir(&names, &n, folder, err));
    for (size_t i = 0; i < n; i++) lt_free(names[i]);
    lt_free(names);
    *yes = n == 0;
    return LT_OK;
}

/* What stands at DIR.partial, which the lock has made if need be: our unfinished work, nothing, or what a kill during
 * the last steps of a commit left (complete but not renamed, its state gone: made again). */
static lt_status enter(lt_outdir *o, const json_t *settings, lt_err *err) {
    bool unfinished, complete, empty;
    LT_TRY(remove_those(o, is_leftover, err));
    LT_TRY(work_is(&unfinished, o, state_name, err));
    LT_TRY(work_is(&complete, o, "command.txt", err));
    LT_TRY(is_empty(&empty, o->work, err));
    o->resumed = unfinished;
    if (unfinished) return load_state(o, settings, err);
    if (!complete && !empty)
        return lt_fail(err, LT_EUSAGE, "a folder that is no unfinished work of lathe is in the way (%s)", o->work);
    if (complete) { /* the folder itself is locked, and stays */
        LT_TRY(remove_those(o, is_content, err));
        LT_TRY(remove_those(o, is_mark, err));
    }
    o->state = json_pack("{s:O, s:{}}", "settings", (json_t *)settings, "steps");
    return o->state ? save_state(o, err) : lt_fail(err, LT_ENOMEM, "%s: out of memory", o->path);
}

static char *without_slash(const char *path) {
    char *copy = lt_strdup(path);
    for (size_t n = copy ? strlen(copy) : 0; n > 1 && copy[n - 1] == '/'; n--) copy[n - 1] = 0;
    return copy;
}

lt_status lt_outdir_begin(lt_outdir *o, const lt_call_ctx *c, const char *path, const json_t *settings, lt_err *err) {
    *o = (lt_outdir){ .lock = -1 };
    if (!settings) return lt_fail(err, LT_ENOMEM, "%s: out of memory", path);
    LT_TRY(lt_output_check(c, path, err));
    o->path = without_slash(path);
    o->work = o->path ? lt_asprintf("%s.partial", o->path) : NULL;
    lt_status st = o->work ? LT_OK : lt_fail(err, LT_ENOMEM, "%s: out of memory", path);
    if (st == LT_OK) st = lt_lock_acquire(&o->lock, o->work, err);
    if (st == LT_OK) st = enter(o, settings, err);
    if (st != LT_OK) {
        if (o->lock >= 0) (void)rmdir(o->work); /* made for the lock and still empty */
        lt_outdir_close(o);
    } else if (o->resumed)
        lt_log(c->ctx, LT_LOG_INFO, "going on with %s", o->work);
    return st;
}

/* ---- steps ---- */
const json_t *lt_outdir_step(const lt_outdir *o, const char *step) {
    return json_object_get(json_object_get(o->state, "steps"), step);
}

lt_status lt_outdir_mark(lt_outdir *o, const char *step, json_t *note, lt_err *err) {
    if (!note || json_object_set_new(json_object_get(o->state, "steps"), step, note) != 0)
        return lt_fail(err, LT_ENOMEM, "%s: out of memory", o->path);
    return save_state(o, err);
}

/* ---- commit ---- */
static lt_status write_command(const lt_outdir *o, const lt_call_ctx *c, lt_err *err) {
    char *path = NULL, *line = lt_args_command_line(c->args), *text = line ? lt_asprintf("%s\n", line) : NULL;
    lt_status st =
        text ? lt_outdir_file(&path, o, "command.txt", err) : lt_fail(err, LT_ENOMEM, "%s: out of memory", o->path);
    if (st == LT_OK) st = lt_file_write(path, text, strlen(text), err);
    lt_free(path);
    lt_free(line);
    lt_free(text);
    return st;
}

static lt_status write_result(const lt_outdir *o, const lt_call_ctx *c, json_t *result, double started, lt_err *err) {
    char *path;
    json_t *run = lt_run_info(c, started), *own = json_object_get(result, "run");
    if (own)
        json_object_update_missing(own, run); /* a verb may have begun it with timings of its own */
    else
        json_object_set(result, "run", run);
    json_decref(run);
    LT_TRY(lt_outdir_file(&path, o, "result.json", err));
    const lt_status st = lt_json_save(result, path, err);
    lt_free(path);
    return st;
}

lt_status lt_outdir_commit(lt_outdir *o, const lt_call_ctx *c, json_t *result, double started, lt_err *err) {
    char *state;
    LT_TRY(write_result(o, c, result, started, err));
    LT_TRY(write_command(o, c, err)); /* last: it says that the rest is there */
    LT_TRY(lt_outdir_file(&state, o, state_name, err));
    const lt_status st = lt_remove_tree(state, err);
    lt_free(state);
    LT_TRY(st);
    LT_TRY(lt_remove_tree(o->path, err));
    return lt_rename(o->work, o->path, err);
}

lt_status lt_outdir_give(json_t **result, lt_outdir *o, const lt_call_ctx *c, json_t *r, double started, lt_err *err) {
    const lt_status st = lt_outdir_commit(o, c, r, started, err);
    if (st == LT_OK)
        *result = r;
    else
        json_decref(r);
    return st;
}

/* Without words: the failure before is what is told. */
static void leave_nothing(const lt_outdir *o) {
    char **names, *path = NULL;
    size_t n;
    if (json_object_size(json_object_get(o->state, "steps")) || lt_list_dir(&names, &n, o->work, NULL) != LT_OK) return;
    const bool nothing = n == 1 && strcmp(names[0], state_name) == 0;
    for (size_t i = 0; i < n; i++) lt_free(names[i]);
    lt_free(names);
    if (!nothing || lt_outdir_file(&path, o, state_name, NULL) != LT_OK) return;
    (void)unlink(path);
    (void)rmdir(o->work);
    lt_free(path);
}

lt_status lt_outdir_kept(const lt_outdir *o, lt_status st, lt_err *err) {
    if (st != LT_OK && st != LT_EVERIFY && st != LT_EINTERRUPTED) leave_nothing(o);
    return st == LT_EVERIFY ? lt_context(err, st, "kept for inspection in %s", o->work) : st;
}

void lt_outdir_close(lt_outdir *o) {
    if (o->work) lt_lock_release(o->lock);
    json_decref(o->state);
    lt_free(o->path);
    lt_free(o->work);
    *o = (lt_outdir){ .lock = -1 };
}
