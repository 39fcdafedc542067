/* SPDX-License-Identifier: Apache-2.0 */
#include "eval/kld.h"

#include "eval/eval_test.h"

enum { VOCAB = 67 };

static lt_model *model(const char *name, uint32_t seed) {
    tm *b = tm_build(EVAL_SPEC, seed);
    lt_model *m = tm_open(tm_write(b, name, 1));
    tm_free(b);
    return m;
}

static void compare(lt_kld_out *out, const lt_model *base, const lt_model *const *models, size_t n, const lt_tokens *t,
                    int threads) {
    lt_err err = { 0 };
    lt_team *team = tm_team(threads);
    const lt_kld_in in = { .base = base, .models = models, .n_models = n, .tokens = t, .team = team };
    assert_ok(lt_kld(out, &in, &err), &err);
    lt_team_destroy(team);
}

static void a_model_is_nowhere_from_itself(void **state) {
    (void)state;
    lt_model *m = model("self", 1);
    const lt_model *same = m;
    lt_tokens t = ev_tokens(3, 200, VOCAB, 2);
    lt_kld_out o;
    compare(&o, m, &same, 1, &t, 2);
    assert_true(o.mean == 0.0 && o.max == 0.0 && o.p99 == 0.0);
    assert_true(o.top1 == 1.0);
    assert_true(o.ppl_base == o.ppl_model);
    assert_int_equal(o.tokens, 3 * 199);
    assert_int_equal(o.windows, 3);
    lt_tokens_clear(&t);
    lt_model_destroy(m);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* In double, from whole logits. */
static double slow_kl(const float *a, const float *b) {
    const double la = ev_lse(a, VOCAB), lb = ev_lse(b, VOCAB);
    double sum = 0.0;
    for (size_t v = 0; v < VOCAB; v++) sum += exp((double)a[v] - la) * (((double)a[v] - la) - ((double)b[v] - lb));
    return sum;
}

static void values_are_those_of_the_long_way(void **state) {
    (void)state;
    enum { W = 2, L = 150, N = W * (L - 1) };
    lt_model *a = model("base", 3), *b = model("other", 4);
    const lt_model *other = b;
    lt_team *team = tm_team(1);
    lt_tokens t = ev_tokens(W, L, VOCAB, 5);
    double kl[N], mean = 0.0, nll_a = 0.0, nll_b = 0.0;
    size_t n = 0;
    for (size_t w = 0; w < W; w++) {
        float *za = ev_logits(a, team, &t, w), *zb = ev_logits(b, team, &t, w);
        for (size_t i = 0; i + 1 < L; i++, n++) {
            const float *pa = za + i * VOCAB, *pb = zb + i * VOCAB;
            kl[n] = slow_kl(pa, pb);
            mean += kl[n] / N;
            nll_a += (ev_lse(pa, VOCAB) - pa[t.ids[w * L + i + 1]]) / N;
            nll_b += (ev_lse(pb, VOCAB) - pb[t.ids[w * L + i + 1]]) / N;
        }
        free(za);
        free(zb);
    }
    qsort(kl, N, sizeof *kl, by_value);
    lt_kld_out o;
    compare(&o, a, &other, 1, &t, 2);
    assert_true(mean > 0.1); /* the models do differ */
    assert_true(fabs(o.mean - mean) < 1e-5 * mean);
    assert_true(fabs(o.max - kl[N - 1]) < 1e-5 * kl[N - 1]);
    assert_true(fabs(o.median - (kl[N / 2 - 1] + kl[N / 2]) / 2) < 1e-5 * o.median);
    assert_true(o.median <= o.p99 && o.p99 <= o.max);
    assert_true(fabs(log(o.ppl_base) - nll_a) < 1e-6 * nll_a && fabs(log(o.ppl_model) - nll_b) < 1e-6 * nll_b);
    lt_tokens_clear(&t);
    lt_team_destroy(team);
    lt_model_destroy(a);
    lt_model_destroy(b);
}

static void many_models_in_one_call_are_each_alone(void **state) {
    (void)state;
    lt_model *a = model("m0", 6), *b = model("m1", 7), *c = model("m2", 8);
    const lt_model *both[] = { b, c };
    lt_tokens t = ev_tokens(2, 140, VOCAB, 9);
    lt_kld_out together[2], alone;
    compare(together, a, both, 2, &t, 1);
    for (size_t i = 0; i < 2; i++) {
        compare(&alone, a, &both[i], 1, &t, 3); /* and threads change no bit */
        together[i].seconds = alone.seconds = 0;
        assert_memory_equal(&together[i], &alone, sizeof alone);
    }
    lt_tokens_clear(&t);
    lt_model_destroy(a);
    lt_model_destroy(b);
    lt_model_destroy(c);
}

static void a_broken_model_is_infinitely_far(void **state) {
    (void)state;
    tm *broken = tm_build(EVAL_SPEC, 10);
    tm_find(broken, "model.norm.weight")->data[0] = NAN;
    lt_model *a = model("whole", 10), *b = tm_open(tm_write(broken, "broken", 1));
    const lt_model *other = b;
    lt_tokens t = ev_tokens(1, 10, VOCAB, 11);
    lt_kld_out o;
    compare(&o, a, &other, 1, &t, 1);
    assert_true(isinf(o.mean) && isinf(o.ppl_model) && isfinite(o.ppl_base));
    lt_tokens_clear(&t);
    lt_model_destroy(a);
    lt_model_destroy(b);
    tm_free(broken);
}

static void other_vocabularies_and_no_text_are_refused(void **state) {
    (void)state;
    lt_err err = { 0 };
    tm_spec spec = EVAL_SPEC;
    spec.vocab = 68;
    tm *wider = tm_build(spec, 12);
    lt_model *a = model("narrow", 12), *b = tm_open(tm_write(wider, "wide", 1));
    const lt_model *other = b;
    lt_team *team = tm_team(1);
    lt_tokens t = ev_tokens(1, 10, VOCAB, 13), none = ev_tokens(0, 0, VOCAB, 13);
    lt_kld_in in = { .base = a, .models = &other, .n_models = 1, .tokens = &t, .team = team };
    lt_kld_out o;
    assert_fails(lt_kld(&o, &in, &err), &err, LT_EDATA, "68");
    other = a;
    in.tokens = &none;
    assert_fails(lt_kld(&o, &in, &err), &err, LT_EDATA, "no whole window");
    lt_tokens_clear(&t);
    lt_tokens_clear(&none);
    lt_team_destroy(team);
    lt_model_destroy(a);
    lt_model_destroy(b);
    tm_free(wider);
}

typedef struct alloc_case {
    const lt_model *a, *b;
    lt_tokens *t;
    lt_team *team;
} alloc_case;

static lt_status once(void *user, lt_err *err) {
    const alloc_case *c = user;
    const lt_kld_in in = { .base = c->a, .models = &c->b, .n_models = 1, .tokens = c->t, .team = c->team };
    lt_kld_out o;
    return lt_kld(&o, &in, err);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    lt_model *a = model("alloc0", 14), *b = model("alloc1", 15);
    lt_tokens t = ev_tokens(2, 6, VOCAB, 16);
    alloc_case c = { a, b, &t, tm_team(1) };
    assert_true(test_every_allocation_fails(once, &c) > 5);
    lt_team_destroy(c.team);
    lt_tokens_clear(&t);
    lt_model_destroy(a);
    lt_model_destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_nowhere_from_itself),
        cmocka_unit_test(values_are_those_of_the_long_way),
        cmocka_unit_test(many_models_in_one_call_are_each_alone),
        cmocka_unit_test(a_broken_model_is_infinitely_far),
        cmocka_unit_test(other_vocabularies_and_no_text_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
