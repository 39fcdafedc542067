/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions: however the tokens come in, the logits are those of one pass; forks share what they had and part where they
 * differ. */
#include "model_test.h"

enum { N = 300, LONG = 620 }; /* more than a page, more than two */

typedef struct bench {
    tm *m;
    lt_model *model;
    lt_team *team;
    lt_exec *x;
    int32_t ids[LONG];
} bench;

static bench *bench_make(tm_spec s, uint32_t seed) {
    bench *b = calloc(1, sizeof *b);
    lt_err err = { 0 };
    b->m = tm_build(s, seed);
    b->model = tm_open(tm_write(b->m, "base", 1));
    b->team = tm_team(2);
    tm_ids(b->ids, LONG, s.vocab, seed + 1);
    assert_ok(lt_exec_create(&b->x, b->team, NULL, &err), &err);
    return b;
}

static void bench_free(bench *b) {
    lt_exec_destroy(b->x);
    lt_model_destroy(b->model);
    lt_team_destroy(b->team);
    tm_free(b->m);
    free(b);
}

static lt_session *session(const bench *b, lt_dtype t) {
    lt_session *s;
    lt_err err = { 0 };
    assert_ok(lt_session_create(&s, b->model, t, &err), &err);
    return s;
}

static void feed(bench *b, lt_session *s, size_t from, size_t n, size_t chunk, float *logits) {
    lt_err err = { 0 };
    assert_ok(lt_session_feed(s, b->x, b->model, b->ids + from, n, chunk, logits, &err), &err);
}

static void chunks_of_any_size_equal_one_pass(void **state) {
    (void)state;
    bench *b = bench_make(TM_ODD, 1);
    float *want = tm_logits(b->model, b->team, b->ids, N), got[61];
    static const size_t chunks[] = { 1, 7, 256, 257, N };
    for (size_t i = 0; i < LT_COUNTOF(chunks); i++) {
        lt_session *s = session(b, LT_F32);
        feed(b, s, 0, N, chunks[i], got);
        assert_close(got, want + (N - 1) * 61, 61, 2e-5, 2e-5);
        assert_int_equal(lt_session_positions(s), N);
        lt_session_destroy(s);
    }
    free(want);
    bench_free(b);
}

/* Windows that end inside a page, at its end, and in pages that a step no longer sees; a full layer between them. */
static void windows_see_the_same_through_the_cache(void **state) {
    (void)state;
    static const size_t windows[] = { 1, 37, 256 }, chunks[] = { 1, 64, 300, LONG };
    bench *b = bench_make(TM_ODD, 21);
    const size_t full = lt_session_predict(b->model, LT_F32, LONG);
    for (size_t w = 0; w < LT_COUNTOF(windows); w++) {
        b->model->config.layer[0].window = b->model->config.layer[2].window = windows[w];
        float *want = tm_logits(b->model, b->team, b->ids, LONG), got[61], forked[61];
        for (size_t i = 0; i < LT_COUNTOF(chunks); i++) {
            lt_session *s = session(b, LT_F32), *f;
            lt_err err = { 0 };
            feed(b, s, 0, LONG - 1, chunks[i], got);
            assert_ok(lt_session_fork(&f, s, &err), &err);
            feed(b, s, LONG - 1, 1, 0, got);
            feed(b, f, LONG - 1, 1, 0, forked);
            assert_close(got, want + (LONG - 1) * 61, 61, 2e-5, 2e-5);
            assert_memory_equal(got, forked, sizeof got);
            assert_true(lt_session_bytes(s) <= lt_session_predict(b->model, LT_F32, LONG));
            if (chunks[i] == 1) { /* one page, or two, of three in two of three layers */
                assert_true(lt_session_bytes(s) <= full - full / 9 * (windows[w] < 100 ? 4 : 2));
                assert_int_equal(lt_session_bytes(s), lt_session_bytes(f));
            }
            lt_session_destroy(s);
            lt_session_destroy(f);
        }
        free(want);
    }
    bench_free(b);
}

static void smaller_cache_dtypes_stay_near(void **state) {
    (void)state;
    tm_spec s = TM_ODD;
    s.head_dim = 32;
    bench *b = bench_make(s, 2);
    float *want = tm_logits(b->model, b->team, b->ids, N), got[61];
    static const struct {
        lt_dtype t;
        double bound;
    } cases[] = { { LT_F32, 2e-5 }, { LT_F16, 0.02 }, { LT_BF16, 0.1 }, { LT_Q8_0, 0.1 } };
    size_t bytes = SIZE_MAX;
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_session *k = session(b, cases[i].t);
        feed(b, k, 0, N, 64, got);
        assert_close(got, want + (N - 1) * 61, 61, cases[i].bound, cases[i].bound);
        assert_true(lt_session_bytes(k) <= bytes);
        bytes = lt_session_bytes(k);
        lt_session_destroy(k);
    }
    free(want);
    lt_session *k;
    lt_err err = { 0 };
    assert_fails(lt_session_create(&k, b->model, LT_Q4_0, &err), &err, LT_EUNSUPPORTED, "q4_0");
    bench_free(b);
    b = bench_make(TM_ODD, 2);
    assert_fails(lt_session_create(&k, b->model, LT_Q8_0, &err), &err, LT_EUNSUPPORTED, "head_dim");
    bench_free(b);
}

static void forks_share_pages_until_they_part(void **state) {
    (void)state;
    bench *b = bench_make(TM_ODD, 3);
    lt_session *a = session(b, LT_F32), *f;
    lt_err err = { 0 };
    float one[61], two[61], again[61];
    feed(b, a, 0, N, 0, one);
    assert_ok(lt_session_fork(&f, a, &err), &err);
    const lt_past *pa = lt_session_past(a), *pf = lt_session_past(f);
    for (size_t i = 0; i < pa->n_segments(pa, 0, 1); i++)
        assert_ptr_equal(pa->segment(pa, 0, 1, i).k, pf->segment(pf, 0, 1, i).k);
    feed(b, a, N, 5, 0, one);
    feed(b, f, N + 5, 5, 0, two);                                                 /* other tokens on the fork */
    assert_ptr_equal(pa->segment(pa, 2, 1, 0).v, pf->segment(pf, 2, 1, 0).v);     /* full pages stay common */
    assert_ptr_not_equal(pa->segment(pa, 2, 1, 1).v, pf->segment(pf, 2, 1, 1).v); /* the open one was copied */
    assert_true(test_max_abs_diff(one, two, 61) > 1e-3);
    lt_session *fresh = session(b, LT_F32);
    feed(b, fresh, 0, N, 0, again);
    feed(b, fresh, N, 5, 0, again);
    assert_memory_equal(one, again, sizeof one);
    lt_session_destroy(fresh);
    lt_session_destroy(a);
    memcpy(b->ids + N, b->ids + N + 5, 5 * sizeof *b->ids);
    fresh = session(b, LT_F32);
    feed(b, fresh, 0, N, 0, again);
    feed(b, fresh, N, 5, 0, again);
    assert_memory_equal(two, again, sizeof two); /* the parent's later tokens and its end left the fork alone */
    lt_session_destroy(fresh);
    lt_session_destroy(f);
    bench_free(b);
}

/* Several sessions in one batch, of different lengths, beside a document without a past. */
static void sessions_in_one_batch_do_not_meet(void **state) {
    (void)state;
    bench *b = bench_make(TM_ODD, 4);
    lt_session *s[2] = { session(b, LT_F32), session(b, LT_F32) };
    float got[61], want[3][61];
    feed(b, s[0], 0, 40, 0, got);
    feed(b, s[1], 100, 17, 0, got);
    const lt_piece piece[3] = { { .row = 0, .n = 3, .pos0 = 40, .parent = -1 },
                                { .row = 3, .n = 4, .parent = -1 },
                                { .row = 7, .n = 2, .pos0 = 17, .parent = -1 } };
    lt_past *const past[3] = { lt_session_past(s[0]), NULL, lt_session_past(s[1]) };
    int32_t ids[9];
    memcpy(ids, b->ids + 40, 3 * sizeof *ids);
    memcpy(ids + 3, b->ids + 200, 4 * sizeof *ids);
    memcpy(ids + 7, b->ids + 117, 2 * sizeof *ids);
    const lt_batch batch = { .n_rows = 9, .n_pieces = 3, .ids = ids, .piece = piece, .past = past };
    float *y = tm_logits_of(b->model, b->team, &batch);
    assert_true(lt_session_positions(s[0]) == 43 && lt_session_positions(s[1]) == 19);
    float *p = tm_logits(b->model, b->team, b->ids, 43), *q = tm_logits(b->model, b->team, b->ids + 200, 4),
          *r = tm_logits(b->model, b->team, b->ids + 100, 19);
    memcpy(want[0], p + 42 * 61, sizeof want[0]);
    memcpy(want[1], q + 3 * 61, sizeof want[1]);
    memcpy(want[2], r + 18 * 61, sizeof want[2]);
    const size_t last[3] = { 2, 6, 8 };
    for (size_t i = 0; i < 3; i++) assert_close(y + last[i] * 61, want[i], 61, 2e-5, 2e-5);
    free(p);
    free(q);
    free(r);
    free(y);
    for (size_t i = 0; i < 2; i++) lt_session_destroy(s[i]);
    bench_free(b);
}

/* A token that is no token fails the step and leaves the session as it was. */
static void a_failed_step_can_be_repeated(void **state) {
    (void)state;
    bench *b = bench_make(TM_ODD, 5);
    lt_session *s = session(b, LT_F32);
    float got[61];
    feed(b, s, 0, 30, 0, got);
    const int32_t bad[2] = { 3, 61 };
    lt_err err = { 0 };
    assert_fails(lt_session_feed(s, b->x, b->model, bad, 2, 0, got, &err), &err, LT_EDATA, "61");
    assert_int_equal(lt_session_positions(s), 30);
    feed(b, s, 30, 10, 3, got);
    float *want = tm_logits(b->model, b->team, b->ids, 40);
    assert_close(got, want + 39 * 61, 61, 2e-5, 2e-5);
    free(want);
    lt_session_destroy(s);
    bench_free(b);
}

/* One row each, whatever the batch: the same bits, also past the rows that one pass over the weights takes. */
static void steps_are_the_same_bits_in_any_company(void **state) {
    (void)state;
    enum { MANY = 19 };
    static const lt_dtype kinds[] = { LT_F32, LT_BF16 };
    bench *b = bench_make(TM_ODD, 9);
    float want[MANY][61], got[MANY * 61];
    for (size_t k = 0; k < LT_COUNTOF(kinds); k++) {
        lt_session *alone[MANY], *fork[MANY];
        lt_err err = { 0 };
        for (size_t i = 0; i < MANY; i++) {
            alone[i] = session(b, kinds[k]);
            feed(b, alone[i], i, 1 + 17 * i, 0, got);
            assert_ok(lt_session_fork(&fork[i], alone[i], &err), &err);
            feed(b, alone[i], N + i, 1, 0, want[i]);
        }
        assert_ok(lt_session_step(fork, MANY, b->x, b->model, b->ids + N, got, &err), &err);
        for (size_t i = 0; i < MANY; i++) {
            assert_memory_equal(got + i * 61, want[i], sizeof want[i]);
            assert_int_equal(lt_session_positions(fork[i]), lt_session_positions(alone[i]));
            assert_int_equal(lt_session_bytes(fork[i]),
                             lt_session_predict(b->model, kinds[k], lt_session_positions(fork[i])));
            lt_session_destroy(alone[i]);
            lt_session_destroy(fork[i]);
        }
    }
    bench_free(b);
}

static void more_positions_than_the_model_has_are_refused(void **state) {
    (void)state;
    tm_spec spec = TM_ODD;
    spec.positions = 20;
    bench *b = bench_make(spec, 6);
    lt_session *s = session(b, LT_F32);
    float got[61];
    lt_err err = { 0 };
    feed(b, s, 0, 20, 0, got);
    assert_fails(lt_session_feed(s, b->x, b->model, b->ids, 1, 0, got, &err), &err, LT_EDATA, "21 positions");
    lt_generate_out out;
    const lt_generate_in in = { .model = b->model,
                                .team = b->team,
                                .prompt = b->ids,
                                .n_prompt = 10,
                                .max_new = 12,
                                .kv_dtype = LT_F32,
                                .sampler = LT_SAMPLER_GREEDY };
    assert_fails(lt_generate(&out, &in, &err), &err, LT_EDATA, "20 positions");
    lt_session_destroy(s);
    bench_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_of_any_size_equal_one_pass),
        cmocka_unit_test(windows_see_the_same_through_the_cache),
        cmocka_unit_test(smaller_cache_dtypes_stay_near),
        cmocka_unit_test(forks_share_pages_until_they_part),
        cmocka_unit_test(sessions_in_one_batch_do_not_meet),
        cmocka_unit_test(a_failed_step_can_be_repeated),
        cmocka_unit_test(steps_are_the_same_bits_in_any_company),
        cmocka_unit_test(more_positions_than_the_model_has_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
