/* SPDX-License-Identifier: Apache-2.0 */
/* Generation: a sequence is the same whatever is written beside it; sampling does what its options say. */
#include "model_test.h"

enum { N = 300 };

typedef struct bench {
    tm *m;
    lt_model *model;
    lt_team *team;
    lt_exec *x;
    int32_t ids[2 * N];
} bench;

static bench *bench_make(tm_spec s, uint32_t seed) {
    bench *b = calloc(1, sizeof *b);
    lt_err err = { 0 };
    b->m = tm_build(s, seed);
    b->model = tm_open(tm_write(b->m, "base", 1));
    b->team = tm_team(2);
    tm_ids(b->ids, 2 * N, s.vocab, seed + 1);
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

/* ---- many sequences ---- */

enum { PROMPTS = 9, SAMPLES = 3, NEW = 24 };

typedef struct collector {
    int32_t ids[PROMPTS * SAMPLES][NEW];
    size_t n[PROMPTS * SAMPLES], n_ended, stop_at, abort_at, seen;
    lt_finish why[PROMPTS * SAMPLES];
} collector;

static lt_token_reply collect(void *user, const lt_token *t) {
    collector *c = user;
    const size_t i = t->request * SAMPLES + t->sample;
    assert_int_equal(t->step, c->n[i]);
    c->ids[i][c->n[i]++] = t->id;
    if (++c->seen == c->abort_at) return LT_TOKEN_ABORT;
    return c->stop_at > 0 && c->n[i] == c->stop_at ? LT_TOKEN_STOP : LT_TOKEN_NEXT;
}

static lt_token_reply collect_end(void *user, size_t request, uint32_t sample, lt_finish why) {
    collector *c = user;
    c->why[request * SAMPLES + sample] = why;
    c->n_ended++;
    return LT_TOKEN_NEXT;
}

/* Prompts of 1 to 200 tokens, of different numbers of new ones. */
static lt_generate_many_out run_many(bench *b, collector *c, size_t batch, size_t kv_bytes, lt_sampler s, lt_dtype kv) {
    lt_request r[PROMPTS];
    for (size_t i = 0; i < PROMPTS; i++) r[i] = (lt_request){ b->ids + 7 * i, 1 + 25 * i, NEW - 2 * (i % 5), SAMPLES };
    const lt_generate_many_in in = { .model = b->model,
                                     .team = b->team,
                                     .requests = r,
                                     .n_requests = PROMPTS,
                                     .batch = batch,
                                     .kv_bytes = kv_bytes,
                                     .sampler = s,
                                     .kv_dtype = kv,
                                     .on_token = collect,
                                     .on_end = collect_end,
                                     .user = c };
    lt_generate_many_out out;
    lt_err err = { 0 };
    assert_ok(lt_generate_many(&out, &in, &err), &err);
    return out;
}

static void batches_of_any_size_write_the_same(void **state) {
    (void)state;
    static const size_t sizes[] = { 3, 40 };
    static const lt_sampler samplers[] = { { 0.0, 0, 1.0, 0.0, 0, 1.3 }, { 0.9, 20, 0.95, 0.02, 4, 1.2 } };
    tm_spec spec = TM_ODD;
    spec.head_dim = 32;
    bench *b = bench_make(spec, 11);
    b->model->config.eos[0] = 5;
    b->model->config.n_eos = 1;
    for (size_t k = 0; k < LT_COUNTOF(samplers); k++) {
        const lt_dtype kv = k ? LT_Q8_0 : LT_F32;
        collector *want = calloc(1, sizeof *want), *got = calloc(1, sizeof *got);
        run_many(b, want, 1, 0, samplers[k], kv);
        for (size_t i = 0; i < LT_COUNTOF(sizes); i++) {
            memset(got, 0, sizeof *got);
            const lt_generate_many_out out = run_many(b, got, sizes[i], 0, samplers[k], kv);
            assert_memory_equal(got->ids, want->ids, sizeof want->ids);
            assert_memory_equal(got->n, want->n, sizeof want->n);
            assert_memory_equal(got->why, want->why, sizeof want->why);
            assert_int_equal(got->n_ended, PROMPTS * SAMPLES);
            assert_true(out.n_new == want->seen && out.n_steps < want->seen);
        }
        free(want);
        free(got);
    }
    bench_free(b);
}

/* Sequences wait until there is room for all that they may become. */
static void a_limit_on_the_cache_is_kept(void **state) {
    (void)state;
    const lt_sampler s = { 0.9, 20, 0.95, 0.02, 4, 1.0 };
    bench *b = bench_make(TM_ODD, 12);
    collector *want = calloc(1, sizeof *want), *got = calloc(1, sizeof *got);
    const lt_generate_many_out all = run_many(b, want, 16, 0, s, LT_F32);
    const size_t limit = 3 * lt_session_predict(b->model, LT_F32, 25 * (PROMPTS - 1) + 1 + NEW);
    assert_true(all.kv_bytes > limit);
    const lt_generate_many_out few = run_many(b, got, 16, limit, s, LT_F32);
    assert_true(few.kv_bytes <= limit);
    assert_memory_equal(got->ids, want->ids, sizeof want->ids);
    memset(got, 0, sizeof *got);
    assert_true(run_many(b, got, 16, 1, s, LT_F32).n_new == all.n_new); /* one alone always runs */
    free(want);
    free(got);
    bench_free(b);
}

static void a_caller_can_stop_a_sequence_or_all(void **state) {
    (void)state;
    bench *b = bench_make(TM_ODD, 13);
    collector *c = calloc(1, sizeof *c);
    c->stop_at = 3;
    run_many(b, c, 4, 0, LT_SAMPLER_GREEDY, LT_F32);
    for (size_t i = 0; i < PROMPTS * SAMPLES; i++) assert_true(c->n[i] == 3 && c->why[i] == LT_FINISH_STOP);
    memset(c, 0, sizeof *c);
    c->abort_at = 30;
    assert_true(run_many(b, c, 4, 0, LT_SAMPLER_GREEDY, LT_F32).aborted);
    assert_int_equal(c->seen, 30);
    free(c);
    bench_free(b);
}

static void samples_differ_and_share_the_prompt(void **state) {
    (void)state;
    bench *b = bench_make(TM_ODD, 14);
    collector *c = calloc(1, sizeof *c);
    const lt_generate_many_out out = run_many(b, c, 3, 0, (lt_sampler){ 1.0, 0, 1.0, 0.0, 1, 1.0 }, LT_F32);
    size_t n_prompt = 0;
    for (size_t i = 0; i < PROMPTS; i++) {
        n_prompt += 1 + 25 * i;
        assert_memory_not_equal(c->ids[i * SAMPLES], c->ids[i * SAMPLES + 1], sizeof c->ids[0]);
    }
    assert_int_equal(out.n_prompt, n_prompt); /* read once each */
    free(c);
    bench_free(b);
}

static void end_of_text_waits_for_min_new(void **state) {
    (void)state;
    bench *b = bench_make(TM_ODD, 15);
    lt_err err = { 0 };
    lt_generate_out out;
    lt_generate_in in = { .model = b->model,
                          .team = b->team,
                          .prompt = b->ids,
                          .n_prompt = 10,
                          .max_new = 12,
                          .kv_dtype = LT_F32,
                          .sampler = { 1.0, 0, 1.0, 0.0, 1, 1.0 } };
    b->model->config.n_eos = 8; /* eight of 61 end the text: soon one is drawn */
    for (int32_t i = 0; i < 8; i++) b->model->config.eos[i] = 7 * i;
    in.sampler.temperature = 50.0;
    assert_ok(lt_generate(&out, &in, &err), &err);
    size_t longest = out.n_new;
    for (in.sampler.seed = 2; in.sampler.seed < 12; in.sampler.seed++) {
        assert_ok(lt_generate(&out, &in, &err), &err);
        assert_true(out.finish == LT_FINISH_EOS || out.n_new == 12);
        in.min_new = 9;
        assert_ok(lt_generate(&out, &in, &err), &err);
        assert_true(out.n_new >= 9);
        longest = lt_max_size(longest, out.n_new);
        in.min_new = 0;
    }
    bench_free(b);
}

static void generation_stops_where_it_should(void **state) {
    (void)state;
    bench *b = bench_make(TM_ODD, 7);
    lt_err err = { 0 };
    lt_generate_out out;
    lt_generate_in in = { .model = b->model,
                          .team = b->team,
                          .prompt = b->ids,
                          .n_prompt = 10,
                          .max_new = 40,
                          .kv_dtype = LT_F32,
                          .ignore_eos = true,
                          .sampler = LT_SAMPLER_GREEDY };
    assert_ok(lt_generate(&out, &in, &err), &err);
    assert_true(out.n_new == 40 && out.finish == LT_FINISH_LENGTH && out.kv_bytes > 0);
    in.max_new = 0;
    assert_ok(lt_generate(&out, &in, &err), &err);
    assert_int_equal(out.n_new, 0);
    in.n_prompt = 0;
    assert_fails(lt_generate(&out, &in, &err), &err, LT_EUSAGE, "empty");
    bench_free(b);
}

/* ---- sampling ---- */

static int32_t draw(const float *l, size_t n, lt_sampler s, uint32_t step) {
    int32_t id = -1;
    lt_err err = { 0 };
    assert_ok(lt_sample(&id, l, n, &s, step, 0, &err), &err);
    return id;
}

static void greedy_takes_the_first_of_the_largest(void **state) {
    (void)state;
    const float l[5] = { 0.0f, 3.0f, -1.0f, 3.0f, 2.0f };
    assert_int_equal(draw(l, 5, LT_SAMPLER_GREEDY, 0), 1);
    lt_sampler s = { .temperature = 1.0, .top_k = 1, .top_p = 1.0 };
    for (uint32_t i = 0; i < 20; i++) assert_int_equal(draw(l, 5, s, i), 1);
}

/* 40000 draws against exp(l/T): within 5 standard deviations. */
static void frequencies_follow_the_softmax(void **state) {
    (void)state;
    const float l[4] = { 1.0f, 0.0f, 2.0f, -1.0f };
    const lt_sampler s = { .temperature = 0.7, .top_p = 1.0, .seed = 5 };
    double z = 0.0;
    size_t count[4] = { 0 }, n = 40000;
    for (size_t i = 0; i < 4; i++) z += exp((double)l[i] / 0.7);
    for (uint32_t i = 0; i < n; i++) count[draw(l, 4, s, i)]++;
    for (size_t i = 0; i < 4; i++) {
        const double p = exp((double)l[i] / 0.7) / z, sd = sqrt(p * (1.0 - p) * (double)n);
        assert_true(fabs((double)count[i] - p * (double)n) < 5.0 * sd);
    }
}

static void filters_leave_only_what_they_say(void **state) {
    (void)state;
    const float l[6] = { logf(0.4f), logf(0.05f), logf(0.3f), logf(0.05f), logf(0.1f), logf(0.1f) };
    static const struct {
        lt_sampler s;
        unsigned allowed;
    } cases[] = {
        { { 1.0, 2, 1.0, 0.0, 1, 1.0 }, 0x05 },  { { 1.0, 0, 0.69, 0.0, 2, 1.0 }, 0x05 },
        { { 1.0, 0, 0.71, 0.0, 3, 1.0 }, 0x15 }, { { 1.0, 0, 1.0, 0.2, 4, 1.0 }, 0x35 },
        { { 1.0, 4, 0.5, 0.0, 5, 1.0 }, 0x05 },  { { 1.0, 0, 0.0, 0.0, 6, 1.0 }, 0x01 },
        { { 1.0, 0, 1.0, 1.0, 7, 1.0 }, 0x01 },
    };
    for (size_t c = 0; c < LT_COUNTOF(cases); c++) {
        unsigned seen = 0;
        for (uint32_t i = 0; i < 400; i++) seen |= 1u << draw(l, 6, cases[c].s, i);
        assert_int_equal(seen, cases[c].allowed);
    }
}

static void draws_are_keyed_by_seed_sample_and_step(void **state) {
    (void)state;
    float l[50] = { 0 };
    const lt_sampler s = { .temperature = 1.0, .top_p = 1.0, .seed = 9 },
                     other = { .temperature = 1.0, .top_p = 1.0, .seed = 10 };
    size_t differ = 0;
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(draw(l, 50, s, i), draw(l, 50, s, i));
        differ += draw(l, 50, s, i) != draw(l, 50, other, i);
    }
    assert_true(differ > 30);
    int32_t id;
    lt_err err = { 0 };
    l[7] = NAN;
    assert_fails(lt_sample(&id, l, 50, &s, 0, 0, &err), &err, LT_EDATA, "token 7");
    l[7] = INFINITY;
    assert_int_equal(draw(l, 50, s, 0), 7);
}

/* transformers' RepetitionPenaltyLogitsProcessor: positive logits are divided, negative ones multiplied, once an id. */
static void a_penalty_moves_seen_ids_away_once(void **state) {
    (void)state;
    const float from[5] = { 2.0f, -2.0f, 0.0f, 3.0f, -1.0f };
    const int32_t ids[7] = { 0, 1, 0, 2, 99, -1, 1 };
    float to[5];
    memcpy(to, from, sizeof to);
    lt_penalise(to, from, 5, 1.25, ids, 7);
    const float want[5] = { 1.6f, -2.5f, 0.0f, 3.0f, -1.0f };
    assert_memory_equal(to, want, sizeof want);
    lt_penalise(to, from, 5, 0.5, ids, 1);
    assert_true(to[0] == 4.0f);
}

/* Against the plain algorithm: everything sorted. */
static int falling(const void *a, const void *b) {
    const float *x = *(const float *const *)a, *y = *(const float *const *)b;
    if (*x != *y) return *x > *y ? -1 : 1;
    return x < y ? -1 : 1;
}

static void draws_are_those_of_the_sorted_vocabulary(void **state) {
    (void)state;
    enum { V = 997 };
    static float p[V], l[V];
    static const float *order[V];
    lt_rng r = test_rng(77);
    for (size_t i = 0; i < V; i++) l[i] = (float)(4.0 * lt_rng_normal(&r));
    for (size_t i = 0; i < V; i += 7) l[i] = l[i / 2]; /* ties */
    size_t best = 0;
    for (size_t i = 1; i < V; i++) best = l[i] > l[best] ? i : best;
    for (size_t i = 0; i < V; i++) {
        p[i] = expf((float)(((double)l[i] - (double)l[best]) / 1.7));
        order[i] = &p[i];
    }
    qsort(order, V, sizeof(const float *), falling);
    static const lt_sampler cases[] = { { 1.7, 0, 1.0, 0.0, 1, 1.0 },   { 1.7, 40, 1.0, 0.0, 2, 1.0 },
                                        { 1.7, 0, 0.9, 0.0, 3, 1.0 },   { 1.7, 300, 0.9, 0.0, 4, 1.0 },
                                        { 1.7, 0, 0.98, 0.05, 5, 1.0 }, { 1.7, 90, 0.98, 0.01, 6, 1.0 } };
    for (size_t c = 0; c < LT_COUNTOF(cases); c++) {
        const lt_sampler *s = &cases[c];
        size_t n = s->top_k ? s->top_k : V, k = 0;
        double total = 0.0, sum = 0.0;
        for (size_t i = 0; i < n; i++) total += (double)*order[i];
        while (s->top_p < 1.0 && sum < s->top_p * total) sum += (double)*order[k++];
        n = s->top_p < 1.0 ? k : n;
        for (k = 0; k < n && (double)*order[k] >= s->min_p; k++) {
        }
        n = k;
        total = 0.0;
        for (size_t i = 0; i < n; i++) total += (double)*order[i];
        for (uint32_t step = 0; step < 200; step++) {
            lt_rng u = lt_rng_at(s->seed, LT_RNG_SAMPLE, step, 0);
            const double target = lt_rng_uniform(&u) * total;
            sum = 0.0;
            size_t i = 0;
            while (i + 1 < n && target >= (sum += (double)*order[i])) i++;
            assert_int_equal(draw(l, V, *s, step), order[i] - p);
        }
    }
}

/* ---- faults ---- */

static lt_status generate_some(void *user, lt_err *err) {
    const bench *b = user;
    lt_generate_out out;
    const lt_generate_in in = { .model = b->model,
                                .team = b->team,
                                .prompt = b->ids,
                                .n_prompt = 5,
                                .max_new = 2,
                                .ignore_eos = true,
                                .kv_dtype = LT_F32,
                                .sampler = { 0.8, 5, 0.9, 0.0, 1, 1.1 } };
    LT_TRY(lt_generate(&out, &in, err));
    const lt_request r[2] = { { b->ids, 5, 2, 2 }, { b->ids + 5, 3, 3, 1 } };
    const lt_generate_many_in many = { .model = b->model,
                                       .team = b->team,
                                       .requests = r,
                                       .n_requests = 2,
                                       .batch = 3,
                                       .ignore_eos = true,
                                       .kv_dtype = LT_F32,
                                       .sampler = in.sampler };
    lt_generate_many_out all;
    return lt_generate_many(&all, &many, err);
}

static void running_out_of_memory_is_an_error_without_leaks(void **state) {
    (void)state;
    bench *b = bench_make(TM_ODD, 8);
    assert_true(test_every_allocation_fails(generate_some, b) > 10);
    bench_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_of_any_size_write_the_same),
        cmocka_unit_test(a_limit_on_the_cache_is_kept),
        cmocka_unit_test(a_caller_can_stop_a_sequence_or_all),
        cmocka_unit_test(samples_differ_and_share_the_prompt),
        cmocka_unit_test(end_of_text_waits_for_min_new),
        cmocka_unit_test(generation_stops_where_it_should),
        cmocka_unit_test(greedy_takes_the_first_of_the_largest),
        cmocka_unit_test(frequencies_follow_the_softmax),
        cmocka_unit_test(filters_leave_only_what_they_say),
        cmocka_unit_test(a_penalty_moves_seen_ids_away_once),
        cmocka_unit_test(draws_are_those_of_the_sorted_vocabulary),
        cmocka_unit_test(draws_are_keyed_by_seed_sample_and_step),
        cmocka_unit_test(running_out_of_memory_is_an_error_without_leaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
