/* SPDX-License-Identifier: Apache-2.0 */
/* 30 steps of golden/compress/train_*.json: full, freeze, LoRA on dense and on factored linears. Losses to 2e-6, norms
 * to 5e-6 (ten times what float32 gave there), weights to 3e-5, logits to 2e-5 of the largest. */
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "train/trainer.h"

/* Sanitizers make this ten times slower: they see the first steps, and the ends of the curves are left to the other
 * builds. */
#ifdef __SANITIZE_ADDRESS__
enum { STEPS = 3 };
#else
enum { STEPS = 30 };
#endif

typedef struct bench {
    const char *dir;
    lt_team *team;
    lt_model *model;
    lt_safetensors *tokens, *answers;
    json_t *run;        /* train_*.json */
    const json_t *kind; /* its "full", "dense" ... */
    int32_t *ids;
    uint64_t start[121];
    lt_train_rows rows;
} bench;

static void open_bench(bench *b, const char *model, const char *run, const char *kind) {
    char name[64];
    lt_err err = { 0 };
    const lt_tensor *t;
    *b = (bench){ .dir = TEST_NEED_SHARED("golden/compress") };
    char *path = lt_path_join(b->dir, model), *tokens = lt_path_join(b->dir, "tokens.safetensors");
    assert_ok(lt_team_create(&b->team, 2, NULL, &err), &err);
    assert_ok(lt_model_open(&b->model, path, &err), &err);
    assert_ok(lt_safetensors_open(&b->tokens, tokens, &err), &err);
    lt_free(path);
    lt_free(tokens);
    snprintf(name, sizeof name, "%s.json", run);
    path = lt_path_join(b->dir, name);
    assert_ok(lt_json_load(&b->run, path, &err), &err);
    lt_free(path);
    snprintf(name, sizeof name, "%s.safetensors", run);
    path = lt_path_join(b->dir, name);
    assert_ok(lt_safetensors_open(&b->answers, path, &err), &err);
    lt_free(path);
    b->kind = json_object_get(b->run, kind);
    assert_non_null(b->kind);
    assert_ok(lt_safetensors_get(&t, b->tokens, "train", LT_I32, 3, &err), &err);
    b->ids = (int32_t *)lt_host(t);
    for (size_t i = 0; i <= 120; i++) b->start[i] = i * 128;
    assert_ok(lt_train_rows_given(&b->rows, b->ids, NULL, b->start, 120, &err), &err);
}

static void close_bench(bench *b) {
    lt_train_rows_clear(&b->rows);
    json_decref(b->run);
    lt_safetensors_close(b->answers);
    lt_safetensors_close(b->tokens);
    lt_model_destroy(b->model);
    lt_team_destroy(b->team);
}

static double number(const json_t *list, size_t i) {
    return json_number_value(json_array_get(list, i));
}

static void near(double got, double want, double rel, const char *what, size_t step) {
    if (fabs(got - want) > rel * fmax(1.0, fabs(want)))
        fail_msg("step %zu: %s is %.9g, golden %.9g", step, what, got, want);
}

static lt_trainer_opts options(const bench *b, size_t warmup, double decay) {
    const lt_schedule_row *cosine;
    lt_err err = { 0 };
    const json_t *betas = json_object_get(b->run, "betas");
    assert_ok(lt_schedule_find(&cosine, "cosine", &err), &err);
    return (lt_trainer_opts){
        .adamw = { number(betas, 0), number(betas, 1), 1e-8, decay },
        .schedule = { .row = cosine,
                      .lr = json_number_value(json_object_get(b->run, "lr0")),
                      .steps = 30,
                      .warmup = warmup },
        .clip = 1.0,
        .recompute = true,
    };
}

/* sums of a tensor as the golden files have them */
static void check_sums(const lt_param *p, const json_t *want, size_t step) {
    const float *v = lt_host(&p->t);
    double sum = 0, sq = 0, weighted = 0, size = 0;
    const size_t n = lt_tensor_count(&p->t);
    for (size_t i = 0; i < n; i++) {
        sum += v[i];
        sq += (double)v[i] * v[i];
        weighted += v[i] * sin((double)(i + 1));
        size += fabs(v[i]);
    }
    const double norm = json_number_value(json_object_get(want, "norm"));
    near(sqrt(sq), norm, 3e-5, p->name, step);
    /* sums of signs that cancel: errors add up over the entries */
    assert_true(fabs(sum - json_number_value(json_object_get(want, "sum"))) <= 3e-5 * fmax(1.0, size));
    assert_true(fabs(weighted - json_number_value(json_object_get(want, "weighted"))) <= 3e-5 * fmax(1.0, size));
}

static void check_tensors(const lt_trainee *t, const json_t *table, size_t step) {
    for (size_t i = 0; table && i < t->n; i++) {
        const json_t *want = json_object_get(table, t->param[i]->name);
        if (!want) fail_msg("golden has no %s", t->param[i]->name);
        check_sums(t->param[i], want, step);
    }
}

static void check_logits(const bench *b, const lt_model *m, const char *name) {
    const lt_tensor *want, *ids;
    lt_err err = { 0 };
    lt_exec *x;
    assert_ok(lt_safetensors_get(&want, b->answers, name, LT_F32, 3, &err), &err);
    assert_ok(lt_safetensors_get(&ids, b->tokens, "logit_batch", LT_I32, 2, &err), &err);
    const lt_piece pieces[] = { { .row = 0, .n = 32, .parent = -1 }, { .row = 32, .n = 32, .parent = -1 } };
    const lt_batch batch = { .n_rows = 64, .n_pieces = 2, .ids = lt_host(ids), .piece = pieces };
    assert_ok(lt_exec_create(&x, b->team, NULL, &err), &err);
    lt_exec_begin(x, &batch);
    const float *got = lt_data(x, lt_model_logits(x, m, lt_model_hidden(x, m))), *w = lt_host(want);
    assert_non_null(got);
    const size_t n = lt_tensor_count(want);
    double largest = 0;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)w[i]));
    assert_true(test_max_abs_diff(got, w, n) <= 2e-5 * largest);
    lt_exec_destroy(x);
}

static void check_named(const bench *b, const lt_trainee *t, const char *key, const char *name) {
    char full[160];
    lt_err err = { 0 };
    const lt_tensor *want;
    snprintf(full, sizeof full, "%s.%s", key, name);
    assert_ok(lt_safetensors_get(&want, b->answers, full, LT_F64, -1, &err), &err);
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->param[i]->name, name) != 0) continue;
        const float *got = lt_host(&t->param[i]->t);
        const double *w = lt_host(want);
        for (size_t k = 0; k < lt_tensor_count(want); k++) assert_true(fabs(got[k] - w[k]) <= 3e-5);
        return;
    }
    fail_msg("%s does not train", name);
}

static void run_curve(const bench *b, lt_trainee *t, const lt_trainer_opts *o, const char *step1) {
    lt_trainer *r;
    lt_err err = { 0 };
    assert_ok(lt_trainer_create(&r, t, b->team, o, &err), &err);
    for (size_t n = 0; n < STEPS; n++) {
        const size_t which[] = { 4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3 };
        lt_step s;
        assert_ok(lt_trainer_step(&s, r, &b->rows, which, 4, n % 2 ? 2 : 4, n, &err), &err);
        near(s.loss, number(json_object_get(b->kind, "loss"), n), 2e-6, "loss", n);
        near(s.grad_norm, number(json_object_get(b->kind, "grad_norm"), n), 5e-6, "norm", n);
        near(s.lr, number(json_object_get(b->kind, "lr"), n), 1e-12, "lr", n);
        assert_int_equal(s.targets, 4 * 127);
        if (n == 0 && step1) check_named(b, t, step1, "model.norm.weight");
    }
    lt_trainer_destroy(r);
    if (STEPS == 30) check_tensors(t, json_object_get(b->kind, "final"), STEPS);
}

static void check_end(const bench *b, const lt_trainee *t, const char *kind) {
    char name[64];
    snprintf(name, sizeof name, "%s.final", kind);
    check_named(b, t, name, "model.norm.weight");
    snprintf(name, sizeof name, "%s.final.logits", kind);
    check_logits(b, &t->model, name);
}

static void run_preset(const char *kind, lt_train_base base) {
    bench b;
    lt_trainee *t;
    lt_err err = { 0 };
    char name[64];
    open_bench(&b, "tiny-llama", "train_full", kind);
    const lt_trainee_opts what = { .base = base };
    const lt_trainer_opts o = options(&b, 5, 0.1);
    snprintf(name, sizeof name, "%s.step1", kind);
    assert_ok(lt_trainee_create(&t, b.model, &what, &err), &err);
    run_curve(&b, t, &o, name);
    if (STEPS == 30) check_end(&b, t, kind);
    lt_trainee_destroy(t);
    close_bench(&b);
}

static void full_training_follows_the_golden_curve(void **state) {
    (void)state;
    run_preset("full", LT_TRAIN_ALL);
}

static void training_norms_follows_the_golden_curve(void **state) {
    (void)state;
    run_preset("freeze", LT_TRAIN_NORMS_HEAD);
}

/* ---- LoRA, from the stored start ---- */

static void run_lora(const char *kind, const char *model, const char *start) {
    bench b;
    lt_trainee *t;
    lt_err err = { 0 };
    char name[64];
    open_bench(&b, model, "train_lora", kind);
    char *path = lt_path_join(b.dir, start);
    const lt_train_lora lora = { .from = path };
    const lt_trainee_opts what = { .lora = &lora };
    const lt_trainer_opts o = options(&b, 3, 0.01);
    assert_ok(lt_trainee_create(&t, b.model, &what, &err), &err);
    lt_free(path);
    run_curve(&b, t, &o, NULL);
    snprintf(name, sizeof name, "%s.logits", kind);
    if (STEPS == 30) check_logits(&b, &t->model, name);
    assert_ok(lt_trainee_merge(t, LT_N_DTYPES, b.team, &err), &err);
    if (STEPS == 30) check_logits(&b, &t->model, name);
    lt_trainee_destroy(t);
    close_bench(&b);
}

static void lora_on_dense_linears_follows_the_golden_curve(void **state) {
    (void)state;
    run_lora("dense", "tiny-llama", "lora_dense_init");
}

static void lora_on_both_factors_follows_the_golden_curve(void **state) {
    (void)state;
    run_lora("factored", "tiny-llama-w60", "lora_factored_init");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_training_follows_the_golden_curve),
        cmocka_unit_test(training_norms_follows_the_golden_curve),
        cmocka_unit_test(lora_on_dense_linears_follows_the_golden_curve),
        cmocka_unit_test(lora_on_both_factors_follows_the_golden_curve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
