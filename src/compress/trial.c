/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/trial.h"

#include <string.h>

#include "compress/module_weight.h"

/* Nested factors of one module: A [m, r], B [r, d], and what a new bias needs. */
typedef struct nested {
    size_t m, d, r;
    float *a, *b, *v;           /* v [r, d]: top inputs, where B is projected on as many of them; NULL: it is not */
    double *w_mu, *b_mu, *bias; /* W mu [m], B mu [r], the module's own bias [m]; NULL: the bias stays */
} nested;

struct lt_trial {
    const lt_plan_in *in;
    const lt_targets *targets;
    nested *of;
    size_t n, runs;
    size_t *last; /* the vector that was scored last */
    double last_nll;
    bool scored;
};

void lt_trial_destroy(lt_trial *t) {
    if (!t) return;
    for (size_t i = 0; t->of && i < t->n; i++) {
        nested *f = &t->of[i];
        lt_free(f->a), lt_free(f->b), lt_free(f->v), lt_free(f->w_mu), lt_free(f->b_mu), lt_free(f->bias);
    }
    lt_free(t->of);
    lt_free(t->last);
    lt_free(t);
}

static lt_status no_memory(const char *name, lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "no memory for factors to try (%s)", name);
}

static float *narrow(const double *x, size_t n) {
    float *y = lt_calloc(n ? n : 1, sizeof *y);
    for (size_t i = 0; y && i < n; i++) y[i] = (float)x[i];
    return y;
}

/* B mu, and W mu = delta + A (B mu), delta being the bias that the fit at the largest rank gained. */
static lt_status keep_bias(nested *f, const lt_lowrank_job *j, lt_err *err) {
    f->w_mu = lt_calloc(f->m, sizeof(double));
    f->b_mu = lt_calloc(f->r, sizeof(double));
    f->bias = lt_calloc(f->m, sizeof(double));
    if (!f->w_mu || !f->b_mu || !f->bias) return no_memory(j->linear->name, err);
    for (size_t k = 0; k < f->r; k++)
        for (size_t c = 0; c < f->d; c++) f->b_mu[k] += j->b[k * f->d + c] * j->form->mu[c];
    for (size_t i = 0; i < f->m; i++) {
        f->w_mu[i] = j->bias_delta[i];
        for (size_t k = 0; k < f->r; k++) f->w_mu[i] += j->a[i * f->r + k] * f->b_mu[k];
    }
    return lt_module_bias(f->bias, j->linear, err);
}

static lt_status keep_inputs(nested *f, const lt_lowrank_job *j, lt_err *err) {
    double *v = lt_calloc(f->r * f->d, sizeof *v);
    lt_status st = v ? lt_lowrank_top_inputs(v, f->r, j->form, err) : no_memory(j->linear->name, err);
    f->v = st == LT_OK ? narrow(v, f->r * f->d) : NULL;
    lt_free(v);
    return st == LT_OK && !f->v ? no_memory(j->linear->name, err) : st;
}

typedef struct collecting {
    bool project;
    lt_trial *t;
    const size_t *module; /* of each job */
    size_t n;
} collecting;

static lt_status keep_fit(collecting *c, const lt_lowrank_job *j, lt_err *err) {
    nested *f = &c->t->of[c->module[c->n++]];
    *f = (nested){ .m = lt_linear_out(j->linear), .d = lt_linear_in(j->linear), .r = j->rank };
    f->a = narrow(j->a, f->m * f->r);
    f->b = narrow(j->b, f->r * f->d);
    if (!f->a || !f->b) return no_memory(j->linear->name, err);
    if (c->project) LT_TRY(keep_inputs(f, j, err));
    return j->affine ? keep_bias(f, j, err) : LT_OK;
}

static lt_status keep_fits(void *user, const lt_lowrank_job *jobs, size_t n, lt_err *err) {
    for (size_t i = 0; i < n; i++) LT_TRY(keep_fit(user, &jobs[i], err));
    return LT_OK;
}

static lt_status decompose(lt_trial *t, const lt_lowrank_how *how, lt_affine affine, lt_err *err) {
    lt_lowrank_job *jobs = lt_calloc(t->n + 1, sizeof *jobs);
    size_t *module = lt_calloc(t->n + 1, sizeof *module), n = 0;
    const bool project = how->metric == LT_METRIC_PROJECTED; /* of the fit of "input": the same U */
    lt_lowrank_how as = *how;
    if (project) as.metric = LT_METRIC_INPUT;
    lt_status st = jobs && module ? LT_OK : lt_fail(err, LT_ENOMEM, "plan: no memory for %zu modules", t->n);
    for (size_t i = 0; st == LT_OK && i < t->n; i++) {
        const lt_linear *l = t->targets->module[i].linear;
        const size_t r = lt_break_even_rank(lt_linear_out(l), lt_linear_in(l));
        if (r == 0) continue;
        module[n] = i;
        jobs[n++] =
            (lt_lowrank_job){ .linear = l, .how = as, .affine = lt_affine_for(affine, l), .nested = true, .rank = r };
    }
    collecting c = { project, t, module, 0 };
    const lt_batch_in batch = { t->in->stats, t->in->team, t->in->ctx, "decompose", keep_fits, &c };
    if (st == LT_OK) st = lt_lowrank_batch(jobs, n, &batch, err);
    lt_free(jobs);
    lt_free(module);
    return st;
}

lt_status lt_trial_create(lt_trial **out, const lt_plan_in *in, const lt_targets *targets, const lt_lowrank_how *how,
                          lt_affine affine, lt_err *err) {
    if (!in->probe) return lt_fail(err, LT_EUSAGE, "ranks must be tried on text: give --probe-data FILE");
    lt_trial *t = lt_calloc(1, sizeof *t);
    if (!t) return lt_fail(err, LT_ENOMEM, "plan: out of memory");
    t->in = in;
    t->targets = targets;
    t->n = targets->n;
    t->of = lt_calloc(t->n + 1, sizeof *t->of);
    t->last = lt_calloc(t->n + 1, sizeof *t->last);
    const lt_status st =
        t->of && t->last ? decompose(t, how, affine, err) : lt_fail(err, LT_ENOMEM, "plan: out of memory");
    if (st == LT_OK)
        *out = t;
    else
        lt_trial_destroy(t);
    return st;
}

size_t lt_trial_largest(const lt_trial *t, size_t module) {
    return t->of[module].r;
}
size_t lt_trial_runs(const lt_trial *t) {
    return t->runs;
}

/* ---- a model with these ranks ---- */

static double *bias_at(const nested *f, size_t r) {
    double *b = lt_calloc(f->m, sizeof *b);
    for (size_t i = 0; b && i < f->m; i++) {
        b[i] = f->bias[i] + f->w_mu[i];
        for (size_t k = 0; k < r; k++) b[i] -= (double)f->a[i * f->r + k] * f->b_mu[k];
    }
    return b;
}

/* B's first r rows, on the first r inputs. */
static lt_status project(double *b, const nested *f, size_t r, lt_err *err) {
    double *v = lt_calloc(r * f->d, sizeof *v);
    if (!v) return lt_fail(err, LT_ENOMEM, "no memory for factors to try");
    for (size_t i = 0; i < r * f->d; i++) v[i] = (double)f->v[i];
    const lt_status st = lt_lowrank_project_inputs(b, r, f->d, v, err);
    lt_free(v);
    return st;
}

static lt_status put(lt_overlay *o, const nested *f, const char *module, size_t r, lt_err *err) {
    LT_REQUIRE(err, r <= f->r, "plan: rank %zu was not decomposed (%s)", r, module);
    double *a = lt_calloc(f->m * r, sizeof *a), *b = lt_calloc(r * f->d, sizeof *b),
           *bias = f->bias ? bias_at(f, r) : NULL;
    lt_status st = a && b && (bias || !f->bias) ? LT_OK : no_memory(module, err);
    for (size_t i = 0; st == LT_OK && i < f->m; i++)
        for (size_t k = 0; k < r; k++) a[i * r + k] = (double)f->a[i * f->r + k];
    for (size_t i = 0; st == LT_OK && i < r * f->d; i++) b[i] = (double)f->b[i];
    if (st == LT_OK && f->v) st = project(b, f, r, err);
    if (st == LT_OK) st = lt_overlay_factor(o, module, r, a, b, bias, LT_F32, err);
    lt_free(a);
    lt_free(b);
    lt_free(bias);
    return st;
}

static lt_status run(lt_trial *t, double *nll, const lt_overlay *o, lt_err *err) {
    t->runs++;
    return t->in->probe->score(t->in->probe->user, o ? lt_overlay_model(o) : t->in->model, nll, err);
}

lt_status lt_trial_score(lt_trial *t, double *nll, const size_t *rank, lt_err *err) {
    lt_overlay *o = NULL;
    if (t->scored && memcmp(t->last, rank, t->n * sizeof *rank) == 0) return *nll = t->last_nll, LT_OK;
    LT_TRY(lt_overlay_create(&o, t->in->model, err));
    lt_status st = LT_OK;
    for (size_t i = 0; st == LT_OK && i < t->n; i++)
        if (rank[i]) st = put(o, &t->of[i], t->targets->module[i].linear->name, rank[i], err);
    if (st == LT_OK) st = run(t, nll, o, err);
    lt_overlay_destroy(o);
    if (st != LT_OK) return st;
    memcpy(t->last, rank, t->n * sizeof *rank);
    t->last_nll = *nll;
    t->scored = true;
    return LT_OK;
}

lt_status lt_trial_score_dense(lt_trial *t, double *nll, size_t module, const double *w, lt_err *err) {
    lt_overlay *o = NULL;
    LT_TRY(lt_overlay_create(&o, t->in->model, err));
    lt_status st = lt_overlay_dense(o, t->targets->module[module].linear->name, w, LT_F32, err);
    if (st == LT_OK) st = run(t, nll, o, err);
    lt_overlay_destroy(o);
    return st;
}
