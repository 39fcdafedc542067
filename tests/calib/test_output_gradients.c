/* SPDX-License-Identifier: Apache-2.0 */
/* The backward pass of a calibration: sums over the gradients of every linear's outputs. */
#include "calib/calib_test.h"

enum { ROWS = 3, LEN = 11 };

typedef struct scene {
    tm *spec;
    lt_model *m;
    lt_team *team;
    lt_tokens tokens;
} scene;

static scene begin(void) {
    scene s = { .spec = tm_build(TM_BIAS, 1), .team = tm_team(2) };
    s.m = tm_open(tm_write(s.spec, "grads", 1));
    s.tokens = ct_random_tokens(ROWS, LEN, s.m->config.vocab_size, 9);
    return s;
}

static void end(scene *s) {
    lt_tokens_clear(&s->tokens);
    lt_team_destroy(s->team);
    lt_model_destroy(s->m);
    tm_free(s->spec);
}

static lt_calibrate_in with_grads(const scene *s, const char *name) {
    static const char *const names[] = { "sum", "gram", "trace" };
    lt_calibrate_in in = ct_in(s->m, &s->tokens, s->team, test_path(name));
    lt_err err = { 0 };
    assert_ok(lt_stat_set_parse(&in.grads, names, LT_COUNTOF(names), &err), &err);
    return in;
}

/* Gradients of the biases by plain training: ∂ℓ/∂b is the sum of ∂ℓ/∂y over all rows. */
static void train_once(const scene *s) {
    lt_batch *b;
    size_t n;
    lt_exec *x;
    lt_err err = { 0 };
    assert_ok(lt_model_make_trainable(s->m, &err), &err);
    assert_ok(lt_tokens_batches(&b, &n, &s->tokens, SIZE_MAX, &err), &err);
    assert_int_equal(n, 1);
    assert_ok(lt_exec_create(&x, s->team, &(lt_exec_opts){ .mode = LT_RECORD }, &err), &err);
    int32_t target[ROWS * LEN];
    float seed[ROWS * LEN];
    for (size_t i = 0; i < ROWS * LEN; i++) {
        const bool last = i % LEN == LEN - 1;
        target[i] = last ? -1 : b->ids[i + 1];
        seed[i] = last ? 0.0f : 1.0f;
    }
    lt_exec_begin(x, b);
    lt_backward(x, lt_model_nll(x, s->m, lt_model_hidden(x, s->m), target, NULL), seed);
    assert_ok(lt_exec_status(x, &err), &err);
    lt_exec_destroy(x);
    lt_batches_free(b, n);
}

static void sums_of_gradients_are_those_of_the_biases(void **state) {
    (void)state;
    scene s = begin();
    const lt_calibrate_in in = with_grads(&s, "grads.stats");
    lt_stats *stats = ct_calibrate(&in);
    lt_module mod;
    lt_stats_site site;
    size_t n = 0;
    train_once(&s);
    for (size_t i = 0; lt_model_module(s.m, i, &mod) && mod.layer >= 0; i++, n++) {
        assert_true(lt_stats_find(stats, LT_STATS_GRAD, mod.linear->name, &site));
        assert_int_equal(site.cols, lt_linear_out(mod.linear));
        assert_true(lt_stats_count(stats, site.name) == (double)(ROWS * LEN));
        const double *sum = ct_values(stats, site.name, "sum"), *gram = ct_values(stats, site.name, "gram");
        double largest = 0.0, trace = 0.0;
        for (size_t j = 0; j < site.cols; j++) largest = fmax(largest, fabs((double)mod.linear->bias.grad[j]));
        for (size_t j = 0; j < site.cols; j++) {
            assert_true(fabs(sum[j] - (double)mod.linear->bias.grad[j]) <= 1e-4 * largest);
            trace += gram[j * (j + 1) / 2 + j];
        }
        assert_true(fabs(trace - *ct_values(stats, site.name, "trace")) <= 1e-5 * trace && trace > 0.0);
    }
    assert_true(n > 0);
    lt_stats_close(stats);
    end(&s);
}

/* The backward pass changes no byte of the inputs' sums, and batches may be cut anywhere. */
static void batches_and_gradients_change_no_other_sum(void **state) {
    (void)state;
    scene s = begin();
    lt_calibrate_in in = with_grads(&s, "whole.stats"), cut = with_grads(&s, "cut.stats");
    cut.batch_tokens = LEN;
    lt_stats *a = ct_calibrate(&in), *b = ct_calibrate(&cut);
    assert_true(ct_difference(a, b) <= 1e-4);
    lt_stats_close(a);
    lt_stats_close(b);
    end(&s);
}

/* First positions apart, and the rest: together they are everything (check 4 for rows of a window). */
static void the_first_rows_and_the_rest_are_all(void **state) {
    (void)state;
    scene s = begin();
    lt_calibrate_in in = ct_in(s.m, &s.tokens, s.team, test_path("all.stats")), apart = in;
    apart.out_path = test_path("apart.stats");
    apart.first_rows = 2;
    lt_stats *all = ct_calibrate(&in), *split = ct_calibrate(&apart);
    assert_true(lt_stats_have_kind(split, LT_STATS_FIRST) && !lt_stats_have_kind(all, LT_STATS_FIRST));
    for (size_t i = 0; i < lt_stats_n_sites(all); i++) {
        const lt_stats_site site = lt_stats_site_at(all, i);
        lt_stats_site first;
        assert_true(lt_stats_find(split, LT_STATS_FIRST, site.modules[0], &first));
        assert_true(lt_stats_count(split, first.name) == 2.0 * ROWS);
        assert_true(lt_stats_count(split, site.name) == (double)(LEN - 2) * ROWS);
        const double *g = ct_values(all, site.name, "gram"), *f = ct_values(split, first.name, "gram"),
                     *r = ct_values(split, site.name, "gram");
        const size_t n = site.cols * (site.cols + 1) / 2;
        for (size_t k = 0; k < n; k++) assert_true(fabs(f[k] + r[k] - g[k]) <= 1e-5 * fabs(g[0]) + 1e-5 * fabs(g[k]));
    }
    lt_stats_close(all);
    lt_stats_close(split);
    end(&s);
}

/* f32 storage halves the file, keeps seven digits, merges with its like only. */
static void sums_may_be_stored_as_f32(void **state) {
    (void)state;
    scene s = begin();
    lt_calibrate_in in = with_grads(&s, "f64.stats"), small = with_grads(&s, "f32.stats");
    small.f32 = true;
    lt_stats *a = ct_calibrate(&in), *b = ct_calibrate(&small), *merged;
    lt_err err = { 0 };
    assert_true(lt_stats_is_f32(b) && !lt_stats_is_f32(a));
    for (size_t i = 0; i < lt_stats_n_sites(a); i++) {
        const lt_stats_site site = lt_stats_site_at(a, i);
        double *x, *y;
        assert_ok(lt_stats_load(&x, a, site.name, "gram", &err), &err);
        assert_ok(lt_stats_load(&y, b, site.name, "gram", &err), &err);
        for (size_t k = 0; k < site.cols * (site.cols + 1) / 2; k++) assert_true(y[k] == (double)(float)x[k]);
        lt_free(x), lt_free(y);
    }
    const char *twice[] = { in.out_path, in.out_path }, *f32[] = { small.out_path, small.out_path },
               *mixed[] = { in.out_path, small.out_path };
    assert_ok(lt_stats_merge(test_path("twice.stats"), twice, 2, NULL, &err), &err);
    merged = ct_open(test_path("twice.stats"));
    lt_stats_site grad;
    assert_true(lt_stats_find(merged, LT_STATS_GRAD, s.m->layer[0].linear[LT_SLOT_DOWN].name, &grad));
    assert_true(lt_stats_count(merged, grad.name) == 2.0 * ROWS * LEN);
    lt_stats_close(merged);
    assert_ok(lt_stats_merge(test_path("small.stats"), f32, 2, NULL, &err), &err);
    merged = ct_open(test_path("small.stats"));
    assert_true(lt_stats_is_f32(merged));
    lt_stats_close(merged);
    assert_fails(lt_stats_merge(test_path("no.stats"), mixed, 2, NULL, &err), &err, LT_EDATA, "cannot merge");
    lt_stats_close(a);
    lt_stats_close(b);
    end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_of_gradients_are_those_of_the_biases),
        cmocka_unit_test(batches_and_gradients_change_no_other_sum),
        cmocka_unit_test(the_first_rows_and_the_rest_are_all),
        cmocka_unit_test(sums_may_be_stored_as_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
