/* SPDX-License-Identifier: Apache-2.0 */
#include "train/run.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/tfevents.h"
#include "train/checkpoint.h"

enum { RECENT = 20 }; /* losses that a spike is measured against */

typedef struct log_file {
    FILE *f;
    char *path;
    size_t bytes;
} log_file;

typedef struct running {
    const lt_run_train *in;
    lt_trainer *trainer;
    size_t steps, rows, per_step, eval_every, step; /* step: those done */
    size_t *order, epoch;                           /* of the epoch in order; SIZE_MAX: none yet */
    size_t *which;                                  /* [per_step] */
    log_file metrics, speed;
    lt_tfevents *events;
    double recent[RECENT];
    size_t n_recent;
    double saved_at, started;
    size_t first_step; /* of this process */
    lt_run_done done;
} running;

/* ---- logs ---- */

static lt_status write_failed(const log_file *l, lt_err *err) {
    return lt_fail(err, LT_EIO, "cannot write (%s: %s)", l->path, strerror(errno));
}

/* Opened at the length that the checkpoint knows of: what a killed process wrote after it is made again. */
static lt_status log_open(log_file *l, const char *folder, const char *name, size_t bytes, lt_err *err) {
    l->path = lt_path_join(folder, name);
    l->bytes = bytes;
    if (!l->path) return lt_fail(err, LT_ENOMEM, "train: out of memory");
    l->f = fopen(l->path, bytes ? "r+b" : "wb");
    if (!l->f || ftruncate(fileno(l->f), (off_t)bytes) != 0 || fseek(l->f, 0, SEEK_END) != 0)
        return write_failed(l, err);
    return LT_OK;
}

/* Takes line. */
static lt_status log_line(log_file *l, json_t *line, lt_err *err) {
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(line);
    if (!text) return lt_fail(err, LT_ENOMEM, "train: out of memory");
    const size_t n = strlen(text);
    const bool written = fwrite(text, 1, n, l->f) == n && fputc('\n', l->f) != EOF && fflush(l->f) == 0;
    free(text);
    if (!written) return write_failed(l, err);
    l->bytes += n + 1;
    return LT_OK;
}

static void log_close(log_file *l) {
    if (l->f) fclose(l->f);
    lt_free(l->path);
}

/* ---- events ---- */

static const char events_name[] = "events.out.tfevents.0.lathe";

static double wall_time(void) {
    struct timespec t;
    return clock_gettime(CLOCK_REALTIME, &t) == 0 ? (double)t.tv_sec + 1e-9 * (double)t.tv_nsec : 0;
}

/* Events of step s are written before the checkpoint of s is: a resumed run keeps those up to it. */
static lt_status events_open(running *r, lt_err *err) {
    char *path = lt_path_join(r->in->folder, events_name);
    if (!path) return lt_fail(err, LT_ENOMEM, "train: out of memory");
    lt_status st = r->done.resumed ? LT_OK : lt_remove_tree(path, err);
    if (st == LT_OK) st = lt_tfevents_open(&r->events, path, (int64_t)r->step + 1, wall_time(), err);
    lt_free(path);
    return st;
}

static lt_status event(running *r, const char *tag, double value, lt_err *err) {
    return lt_tfevents_append(r->events, tag, (int64_t)r->step, wall_time(), value, err);
}

static json_t *real(double v) {
    return isfinite(v) ? json_real(v) : json_null();
}

/* ---- checkpoints ---- */

static json_t *state_json(const running *r) {
    json_t *recent = json_array();
    for (size_t i = 0; i < lt_min_size(r->n_recent, RECENT); i++)
        json_array_append_new(recent, json_real(r->recent[i]));
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:I}", "format",
                     "lathe-checkpoint/1", "step", (json_int_t)r->step, "metrics_bytes", (json_int_t)r->metrics.bytes,
                     "speed_bytes", (json_int_t)r->speed.bytes, "targets", (json_int_t)r->done.targets, "tokens",
                     (json_int_t)r->done.tokens, "losses_seen", (json_int_t)r->n_recent, "spikes",
                     (json_int_t)r->done.n_spikes, "recent", recent, "first_loss", real(r->done.first_loss),
                     "last_loss", real(r->done.last_loss), "valid_before", real(r->done.valid_before), "valid_best",
                     real(r->done.valid_best), "best_step", (json_int_t)r->done.best_step);
}

static double number(const json_t *j, const char *key) {
    const json_t *v = json_object_get(j, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static lt_status read_state(running *r, const json_t *j, size_t *metrics, size_t *speed, const char *where,
                            lt_err *err) {
    const json_t *recent = json_object_get(j, "recent");
    LT_TRY(lt_json_size(metrics, j, "metrics_bytes", 0, where, err));
    LT_TRY(lt_json_size(speed, j, "speed_bytes", 0, where, err));
    LT_TRY(lt_json_size(&r->done.targets, j, "targets", 0, where, err));
    LT_TRY(lt_json_size(&r->done.tokens, j, "tokens", 0, where, err));
    LT_TRY(lt_json_size(&r->n_recent, j, "losses_seen", 0, where, err));
    LT_TRY(lt_json_size(&r->done.n_spikes, j, "spikes", 0, where, err));
    LT_TRY(lt_json_size(&r->done.best_step, j, "best_step", 0, where, err));
    for (size_t i = 0; i < RECENT && i < json_array_size(recent); i++)
        r->recent[i] = json_number_value(json_array_get(recent, i));
    r->done.first_loss = number(j, "first_loss");
    r->done.last_loss = number(j, "last_loss");
    r->done.valid_before = number(j, "valid_before");
    r->done.valid_best = number(j, "valid_best");
    return LT_OK;
}

static bool has_best(const running *r) {
    return !isnan(r->done.valid_best);
}

static lt_status save(running *r, lt_err *err) {
    json_t *state = state_json(r);
    if (!state) return lt_fail(err, LT_ENOMEM, "train: out of memory");
    const lt_status st = lt_checkpoint_save(r->in->trainee, r->in->folder, r->step, state, err);
    json_decref(state);
    LT_TRY(st);
    r->saved_at = lt_seconds();
    return lt_checkpoint_prune(r->in->folder, r->in->keep, has_best(r) ? &r->done.best_step : NULL, err);
}

/* The newest checkpoint, or the beginning. */
static lt_status resume(running *r, lt_err *err) {
    size_t *steps, n, metrics = 0, speed = 0;
    json_t *state = NULL;
    LT_TRY(lt_checkpoint_list(&steps, &n, r->in->folder, err));
    const size_t newest = n ? steps[n - 1] : 0;
    lt_free(steps);
    lt_status st = LT_OK;
    if (n) {
        st = lt_checkpoint_load(r->in->trainee, r->in->folder, newest, false, &state, err);
        if (st == LT_OK) st = read_state(r, state, &metrics, &speed, r->in->folder, err);
        json_decref(state);
        if (st == LT_EDATA)
            st = lt_context(err, st, "remove %s/checkpoint-%08zu to go on from before it", r->in->folder, newest);
        r->step = newest;
        r->done.resumed = true;
        r->done.resumed_step = newest;
    }
    r->first_step = r->step;
    if (st == LT_OK) st = log_open(&r->metrics, r->in->folder, "metrics.jsonl", metrics, err);
    if (st == LT_OK) st = log_open(&r->speed, r->in->folder, "speed.jsonl", speed, err);
    return st == LT_OK ? events_open(r, err) : st;
}

/* ---- rows of a step ---- */

/* Rows [first, first + n) of the stream. */
static void take_rows(running *r, size_t first, size_t n) {
    const lt_row_set *set = &r->in->train;
    for (size_t i = 0; i < n; i++) {
        const size_t epoch = (first + i) / set->n;
        if (epoch != r->epoch) lt_train_rows_order(r->order, set->n, r->in->seed, (uint32_t)epoch, r->in->shuffle);
        r->epoch = epoch;
        r->which[i] = set->index[r->order[(first + i) % set->n]];
    }
}

static size_t step_rows(const running *r, size_t step) {
    const size_t first = step * r->per_step;
    return lt_min_size(r->per_step, r->rows - first);
}

/* ---- a time budget ---- */

static lt_status read_budget(running *r, const char *path, lt_err *err) {
    json_t *j = NULL;
    LT_TRY(lt_json_load(&j, path, err));
    const lt_status st = lt_json_size(&r->steps, j, "steps", 0, path, err);
    json_decref(j);
    return st == LT_OK && r->steps == 0 ? lt_fail(err, LT_EDATA, "no number of steps (%s)", path) : st;
}

/* One step's gradients, twice: the second time memory is warm. Then so many steps as fit beside the validations. */
static lt_status measure_budget(running *r, const char *path, lt_err *err) {
    const lt_run_train *in = r->in;
    const double begin = lt_seconds();
    double seconds = 0, nll;
    size_t targets;
    take_rows(r, 0, r->per_step);
    for (int i = 0; i < 2; i++) {
        const double t = lt_seconds();
        LT_TRY(lt_progress(in->ctx, err, "measure a step", i, 2, "steps"));
        LT_TRY(lt_trainer_rehearse(r->trainer, in->train.rows, r->which, r->per_step, in->batch, err));
        seconds = lt_seconds() - t;
    }
    const double t = lt_seconds();
    LT_TRY(lt_evaluate_rows(&nll, &targets, &in->trainee->model, in->team, in->valid.rows, in->valid.index, in->valid.n,
                            err));
    const double evals = (in->eval_every ? 2 : 11) * (lt_seconds() - t);
    const double left = in->budget.amount - (lt_seconds() - begin) - evals;
    r->steps = (size_t)fmax(1.0, floor(left / seconds));
    json_t *j = json_pack("{s:I}", "steps", (json_int_t)r->steps);
    const lt_status st = j ? lt_json_save(j, path, err) : lt_fail(err, LT_ENOMEM, "train: out of memory");
    json_decref(j);
    return st;
}

static lt_status time_budget(running *r, lt_err *err) {
    char *path = lt_path_join(r->in->folder, "budget.json");
    if (!path) return lt_fail(err, LT_ENOMEM, "train: out of memory");
    const lt_status st = lt_path_exists(path) ? read_budget(r, path, err) : measure_budget(r, path, err);
    lt_free(path);
    if (st == LT_OK) r->rows = r->steps * r->per_step;
    return st;
}

static lt_status set_schedule(running *r, lt_err *err) {
    lt_schedule s = r->in->trainer.schedule;
    if (r->in->budget.by == LT_BY_SECONDS)
        LT_TRY(time_budget(r, err));
    else
        LT_TRY(lt_budget_steps(&r->steps, &r->rows, r->in, err));
    s.steps = r->steps;
    if (s.warmup == 0) s.warmup = (size_t)ceil(r->in->warmup_share * (double)r->steps - 1e-9);
    if (s.decay == 0) s.decay = (size_t)ceil(r->in->decay_share * (double)r->steps - 1e-9);
    lt_trainer_set_schedule(r->trainer, &s);
    r->eval_every = r->in->eval_every ? r->in->eval_every : lt_max_size(1, r->steps / 10);
    return LT_OK;
}

/* ---- steps ---- */

/* Above the mean of the last losses by six deviations and a fifth: what a bad row or too high a rate does. */
static bool is_spike(const running *r, double loss) {
    const size_t n = lt_min_size(r->n_recent, RECENT);
    double mean = 0, var = 0;
    if (n < RECENT) return false;
    for (size_t i = 0; i < n; i++) mean += r->recent[i] / (double)n;
    for (size_t i = 0; i < n; i++) var += (r->recent[i] - mean) * (r->recent[i] - mean) / (double)n;
    return loss > 1.2 * mean && loss > mean + 6 * sqrt(var);
}

static void watch(running *r, double loss) {
    if (is_spike(r, loss)) {
        r->done.n_spikes++;
        lt_log(r->in->ctx, LT_LOG_WARN, "loss spike at step %zu: %.4f", r->step, loss);
    }
    r->recent[r->n_recent++ % RECENT] = loss;
}

static lt_status report_step(running *r, const lt_step *s, double seconds, lt_err *err) {
    const double epoch = (double)lt_min_size(r->step * r->per_step, r->rows) / (double)r->in->train.n;
    LT_TRY(log_line(&r->metrics,
                    json_pack("{s:I, s:f, s:f, s:f, s:I, s:I, s:f}", "step", (json_int_t)r->step, "loss", s->loss, "lr",
                              s->lr, "grad_norm", s->grad_norm, "targets", (json_int_t)s->targets, "tokens",
                              (json_int_t)s->tokens, "epoch", epoch),
                    err));
    const double rate = (double)s->tokens / seconds;
    const size_t rss = lt_current_rss_bytes();
    LT_TRY(event(r, "train/loss", s->loss, err));
    LT_TRY(event(r, "train/lr", s->lr, err));
    LT_TRY(event(r, "train/grad_norm", s->grad_norm, err));
    LT_TRY(event(r, "speed/tokens_per_s", rate, err));
    LT_TRY(event(r, "speed/rss_bytes", (double)rss, err));
    return log_line(&r->speed,
                    json_pack("{s:I, s:f, s:f, s:I, s:I}", "step", (json_int_t)r->step, "seconds", seconds,
                              "tokens_per_s", rate, "rss_bytes", (json_int_t)rss, "peak_rss_bytes",
                              (json_int_t)lt_peak_rss_bytes()),
                    err);
}

/* Training stops: where it can go on from. */
static lt_status name_checkpoint(const running *r, lt_status st, lt_err *err) {
    size_t *steps = NULL, n = 0;
    (void)lt_checkpoint_list(&steps, &n, r->in->folder, NULL); /* the failure before is what is told */
    const size_t last = n ? steps[n - 1] : 0;
    lt_free(steps);
    if (n == 0) return lt_context(err, st, "no checkpoint was written yet (%s)", r->in->folder);
    return lt_context(err, st, "the last good checkpoint is %s/checkpoint-%08zu", r->in->folder, last);
}

static lt_status one_step(running *r, lt_err *err) {
    const size_t n = step_rows(r, r->step);
    const double begin = lt_seconds();
    lt_step s;
    take_rows(r, r->step * r->per_step, n);
    const lt_status st = lt_trainer_step(&s, r->trainer, r->in->train.rows, r->which, n, r->in->batch, r->step, err);
    if (st == LT_EDATA && !isfinite(s.loss + s.grad_norm)) return name_checkpoint(r, st, err);
    LT_TRY(st);
    r->step++;
    r->done.targets += s.targets;
    r->done.tokens += s.tokens;
    if (r->step == 1) r->done.first_loss = s.loss;
    r->done.last_loss = s.loss;
    watch(r, s.loss);
    return report_step(r, &s, lt_seconds() - begin, err);
}

static lt_status validate(running *r, lt_err *err) {
    const lt_run_train *in = r->in;
    double nll;
    size_t targets;
    LT_TRY(lt_evaluate_rows(&nll, &targets, &in->trainee->model, in->team, in->valid.rows, in->valid.index, in->valid.n,
                            err));
    const double loss = nll / (double)targets;
    if (r->step == 0) r->done.valid_before = loss;
    r->done.valid_after = loss;
    LT_TRY(log_line(&r->metrics,
                    json_pack("{s:I, s:o, s:o}", "step", (json_int_t)r->step, "valid_loss", real(loss), "valid_ppl",
                              real(exp(loss))),
                    err));
    LT_TRY(event(r, "validation/loss", loss, err));
    LT_TRY(event(r, "validation/ppl", exp(loss), err));
    lt_log(in->ctx, LT_LOG_INFO, "step %zu: validation perplexity %.4f", r->step, exp(loss));
    if (has_best(r) && !(loss < r->done.valid_best)) return LT_OK;
    r->done.valid_best = loss;
    r->done.best_step = r->step;
    return save(r, err);
}

static bool save_is_due(const running *r) {
    return (r->in->save_every && r->step % r->in->save_every == 0) || lt_seconds() - r->saved_at > r->in->save_seconds;
}

/* Asks to go on; before it stops, what is done is saved. */
static lt_status show_progress(running *r, lt_err *err) {
    const lt_status st = lt_progress(r->in->ctx, err, "train", (double)r->step, (double)r->steps, "steps");
    if (st != LT_EINTERRUPTED || r->step == r->first_step) return st;
    const lt_status saved = save(r, NULL);
    if (saved != LT_OK) lt_log(r->in->ctx, LT_LOG_WARN, "step %zu could not be saved", r->step);
    return st;
}

static lt_status all_steps(running *r, lt_err *err) {
    const bool valid = r->in->valid.n > 0;
    if (valid && isnan(r->done.valid_before)) LT_TRY(validate(r, err));
    while (r->step < r->steps) {
        LT_TRY(show_progress(r, err));
        LT_TRY(one_step(r, err));
        if (valid && (r->step % r->eval_every == 0 || r->step == r->steps)) LT_TRY(validate(r, err));
        if (r->step < r->steps && save_is_due(r)) LT_TRY(save(r, err));
    }
    return lt_progress(r->in->ctx, err, "train", (double)r->step, (double)r->steps, "steps");
}

/* ---- the whole ---- */

/* A call that finds all steps done still has to say what validation gave. */
static lt_status end_with(running *r, lt_err *err) {
    const lt_run_train *in = r->in;
    double nll;
    size_t targets;
    if (in->take_best && has_best(r) && r->done.best_step != r->step) {
        LT_TRY(lt_checkpoint_load(in->trainee, in->folder, r->done.best_step, true, NULL, err));
        r->done.valid_after = r->done.valid_best;
    }
    if (in->valid.n == 0 || !isnan(r->done.valid_after)) return LT_OK;
    LT_TRY(lt_evaluate_rows(&nll, &targets, &in->trainee->model, in->team, in->valid.rows, in->valid.index, in->valid.n,
                            err));
    r->done.valid_after = nll / (double)targets;
    return LT_OK;
}

static lt_status run(running *r, lt_err *err) {
    const lt_run_train *in = r->in;
    r->order = lt_malloc(in->train.n * sizeof *r->order);
    r->which = lt_malloc(r->per_step * sizeof *r->which);
    if (!r->order || !r->which) return lt_fail(err, LT_ENOMEM, "train: out of memory");
    LT_TRY(lt_trainer_create(&r->trainer, in->trainee, in->team, &in->trainer, err));
    LT_TRY(resume(r, err));
    LT_TRY(set_schedule(r, err));
    LT_TRY(all_steps(r, err));
    return end_with(r, err);
}

lt_status lt_run_train_all(lt_run_done *out, const lt_run_train *in, lt_err *err) {
    size_t per_step;
    LT_REQUIRE(err, lt_mul_size(in->batch, in->accumulate, &per_step) && per_step > 0,
               "train: a step of %zu x %zu rows", in->batch, in->accumulate);
    running r = {
        .in = in,
        .per_step = per_step,
        .epoch = SIZE_MAX,
        .saved_at = lt_seconds(),
        .done = { .first_loss = NAN, .last_loss = NAN, .valid_before = NAN, .valid_after = NAN, .valid_best = NAN }
    };
    const lt_status st = run(&r, err);
    r.done.steps = r.step;
    *out = r.done;
    log_close(&r.metrics);
    log_close(&r.speed);
    lt_tfevents_close(r.events);
    lt_trainer_destroy(r.trainer);
    lt_free(r.order);
    lt_free(r.which);
    return st;
}
