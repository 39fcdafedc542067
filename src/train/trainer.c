/* SPDX-License-Identifier: Apache-2.0 */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

struct lt_trainer {
    lt_trainee *trainee;
    lt_team *team;
    lt_trainer_opts o;
    lt_optim *optim;
    lt_exec *x;
    lt_micro micro;
};

lt_status lt_trainer_create(lt_trainer **out, lt_trainee *t, lt_team *team, const lt_trainer_opts *o, lt_err *err) {
    const lt_exec_opts opts = { .mode = LT_RECORD, .recompute = o->recompute };
    lt_trainer *r = lt_calloc(1, sizeof *r);
    if (!r) return lt_fail(err, LT_ENOMEM, "no memory for a trainer");
    *r = (lt_trainer){ .trainee = t, .team = team, .o = *o };
    lt_status st = lt_optim_create(&r->optim, t->slice, t->n, err);
    if (st == LT_OK) st = lt_exec_create(&r->x, team, &opts, err);
    if (st == LT_OK)
        *out = r;
    else
        lt_trainer_destroy(r);
    return st;
}

void lt_trainer_destroy(lt_trainer *t) {
    if (!t) return;
    lt_exec_destroy(t->x);
    lt_optim_destroy(t->optim);
    lt_micro_clear(&t->micro);
    lt_free(t);
}

void lt_trainer_set_schedule(lt_trainer *t, const lt_schedule *s) {
    t->o.schedule = *s;
}

static double sum_values(const float *v, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; v && i < n; i++) sum += (double)v[i];
    return sum;
}

/* Adds the gradient of sum nll / all to what trains. */
static lt_status run_micro(double *nll, lt_trainer *t, size_t all, uint32_t noise, lt_err *err) {
    lt_exec *x = t->x;
    const lt_model *m = &t->trainee->model;
    const size_t n = t->micro.batch.n_rows;
    lt_exec_begin(x, &t->micro.batch);
    if (t->trainee->adapters) lt_adapters_set_masks(t->trainee->adapters, t->o.seed, noise);
    const lt_var loss = lt_model_nll(x, m, lt_model_hidden(x, m), t->micro.target, NULL);
    float *seed = lt_exec_scratch(x, n * sizeof *seed);
    *nll += sum_values(lt_data(x, loss), n);
    for (size_t i = 0; seed && i < n; i++) seed[i] = (float)(1.0 / (double)all);
    if (seed) lt_backward(x, loss, seed);
    const lt_status st = lt_exec_status(x, err);
    lt_exec_begin(x, NULL); /* the batch ends here */
    return st;
}

static lt_status gradients(lt_step *out, lt_trainer *t, const lt_train_rows *rows, const size_t *which, size_t n,
                           size_t micro, size_t n_step, lt_err *err) {
    const size_t micros = (n + micro - 1) / micro;
    double nll = 0.0;
    *out = (lt_step){ 0 };
    for (size_t i = 0; i < n; i++) {
        out->targets += rows->targets[which[i]];
        out->tokens += rows->length[which[i]];
    }
    for (size_t i = 0; i < micros; i++) {
        const size_t first = i * micro;
        LT_TRY(lt_micro_fill(&t->micro, rows, which + first, lt_min_size(micro, n - first), err));
        LT_TRY(run_micro(&nll, t, out->targets, (uint32_t)(n_step * micros + i), err));
    }
    out->loss = nll / (double)out->targets;
    out->grad_norm = lt_optim_norm(t->optim, t->team);
    return LT_OK;
}

static void drop_gradients(lt_trainer *t) {
    for (size_t i = 0; i < t->trainee->n; i++)
        memset(t->trainee->slice[i].grad, 0, t->trainee->slice[i].n * sizeof(float));
}

/* With one batch a step, the layers' inputs that replays need and the gradients that are written last are never needed
 * at once. */
static void rest(lt_trainer *t, bool one_batch) {
    const lt_config *c = &t->trainee->model.config;
    if (t->o.recompute && one_batch)
        lt_trainee_rest(t->trainee, c->n_layers * t->micro.batch.n_rows * c->d_model * sizeof(float));
}

lt_status lt_trainer_step(lt_step *out, lt_trainer *t, const lt_train_rows *rows, const size_t *which, size_t n,
                          size_t micro, size_t n_step, lt_err *err) {
    LT_REQUIRE(err, n > 0 && micro > 0, "train: a step of %zu rows by %zu", n, micro);
    LT_TRY(gradients(out, t, rows, which, n, micro, n_step, err));
    out->lr = lt_schedule_lr(&t->o.schedule, n_step);
    if (!isfinite(out->loss))
        return lt_fail(err, LT_EDATA, "the loss of step %zu is not finite (%g)", n_step + 1, out->loss);
    if (!isfinite(out->grad_norm))
        return lt_fail(err, LT_EDATA, "the gradient of step %zu is not finite (norm %g, loss %g)", n_step + 1,
                       out->grad_norm, out->loss);
    const double scale = t->o.clip > 0 ? fmin(1.0, t->o.clip / (out->grad_norm + 1e-6)) : 1.0;
    lt_optim_step(t->optim, t->team, &t->o.adamw, out->lr, scale, n_step + 1);
    rest(t, n <= micro);
    return LT_OK;
}

lt_status lt_trainer_rehearse(lt_trainer *t, const lt_train_rows *rows, const size_t *which, size_t n, size_t micro,
                              lt_err *err) {
    lt_step step;
    const lt_status st = gradients(&step, t, rows, which, n, micro, 0, err);
    drop_gradients(t);
    return st;
}

/* ---- evaluation ---- */

static lt_status evaluate_row(double *nll, lt_exec *x, const lt_model *m, const lt_micro *micro, lt_err *err) {
    lt_exec_begin(x, &micro->batch);
    const lt_var loss = lt_model_nll(x, m, lt_model_hidden(x, m), micro->target, NULL);
    *nll += sum_values(lt_data(x, loss), micro->batch.n_rows);
    const lt_status st = lt_exec_status(x, err);
    lt_exec_begin(x, NULL);
    return st;
}

lt_status lt_evaluate_rows(double *nll, size_t *targets, const lt_model *m, lt_team *team, const lt_train_rows *rows,
                           const size_t *which, size_t n, lt_err *err) {
    lt_exec *x;
    lt_micro micro = { 0 };
    LT_TRY(lt_exec_create(&x, team, NULL, err));
    lt_status st = LT_OK;
    *nll = 0.0;
    *targets = 0;
    for (size_t i = 0; st == LT_OK && i < n; i++) {
        st = lt_micro_fill(&micro, rows, which + i, 1, err);
        if (st == LT_OK) st = evaluate_row(nll, x, m, &micro, err);
        *targets += micro.n_targets;
    }
    lt_micro_clear(&micro);
    lt_exec_destroy(x);
    return st;
}

/* A recorded block keeps its values and their gradients; with recompute one block at a time does, and every layer keeps
 * its input. */
size_t lt_trainer_exec_bytes(const lt_model *m, size_t tokens, bool recompute) {
    const size_t block = 2 * lt_model_exec_bytes(m, tokens), layers = m->config.n_layers;
    return recompute ? block + layers * tokens * m->config.d_model * sizeof(float) : block * layers;
}
