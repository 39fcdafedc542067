/* SPDX-License-Identifier: Apache-2.0 */
/* The runner: the same bytes for any grouping, spilled or not, interrupted anywhere or not. */
#include "model_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/hash.h"

enum { N_BATCHES = 4, LAYERS = 5, MAX_ROWS = 64 };

typedef struct bench {
    tm *m;
    lt_model *model;
    lt_team *team;
    int32_t ids[N_BATCHES][MAX_ROWS];
    lt_piece piece[N_BATCHES][3];
    lt_batch batch[N_BATCHES];
} bench;

static bench *bench_make(uint32_t seed) {
    static const size_t n[N_BATCHES][3] = { { 5, 11, 0 }, { 37, 0, 0 }, { 1, 2, 3 }, { 16, 16, 16 } };
    bench *b = calloc(1, sizeof *b);
    tm_spec s = TM_ODD;
    s.layers = LAYERS;
    b->m = tm_build(s, seed);
    b->model = tm_open(tm_write(b->m, "base", 1));
    b->team = tm_team(1);
    for (size_t i = 0; i < N_BATCHES; i++) {
        size_t rows = 0, pieces = 0;
        for (; pieces < 3 && n[i][pieces]; rows += n[i][pieces++])
            b->piece[i][pieces] = (lt_piece){ .row = rows, .n = n[i][pieces], .parent = -1, .seq = (uint32_t)pieces };
        tm_ids(b->ids[i], rows, s.vocab, seed + 10 + (uint32_t)i);
        b->batch[i] = (lt_batch){ .n_rows = rows, .n_pieces = pieces, .ids = b->ids[i], .piece = b->piece[i] };
    }
    return b;
}

static void bench_free(bench *b) {
    lt_model_destroy(b->model);
    lt_team_destroy(b->team);
    tm_free(b->m);
    free(b);
}

/* ---- what a run leaves: a digest per (layer, site) in order, and one of the final states ---- */

typedef struct record {
    lt_hash *final;
    char layer[LAYERS][LT_HASH_HEX]; /* of mixer_in of all batches, in order */
    lt_hash *open[LAYERS];
    size_t groups, last_group, stop_after; /* stop_after: group_done fails then (0: never) */
    size_t batches;
} record;

static bool wants(void *user, lt_site site, int layer, int sub, bool grad) {
    (void)user, (void)sub, (void)layer;
    return !grad && site == LT_SITE_MIXER_IN;
}

static lt_status observe(void *user, const lt_obs *obs, lt_err *err) {
    record *r = user;
    (void)err;
    if (!r->open[obs->layer]) r->open[obs->layer] = lt_hash_create();
    lt_hash_update(r->open[obs->layer], lt_host(&obs->rows), lt_tensor_bytes(&obs->rows));
    return LT_OK;
}

static lt_status group_done(void *user, size_t first, size_t n, lt_err *err) {
    record *r = user;
    for (size_t l = first; l < first + n; l++) {
        lt_hash_finish(r->open[l], r->layer[l]);
        r->open[l] = NULL;
    }
    r->groups++;
    r->last_group = first + n;
    return r->stop_after && r->groups == r->stop_after ? lt_fail(err, LT_EINTERRUPTED, "stopped here") : LT_OK;
}

static lt_status batch_done(void *user, size_t batch, lt_exec *x, lt_var final, lt_err *err) {
    record *r = user;
    (void)err;
    assert_int_equal(batch, r->batches++);
    lt_hash_update(r->final, lt_data(x, final), lt_rows(x, final) * lt_cols(x, final) * sizeof(lt_real));
    return LT_OK;
}

static lt_status run(bench *b, record *r, lt_run_plan plan, const char *state, size_t first, char final[LT_HASH_HEX],
                     lt_err *err) {
    const lt_observer look = { wants, observe, r, false };
    const lt_run_in in = { .model = b->model,
                           .team = b->team,
                           .batches = b->batch,
                           .n_batches = N_BATCHES,
                           .observers = &look,
                           .n_observers = 1,
                           .first_layer = first,
                           .state_path = state,
                           .plan = plan,
                           .group_done = group_done,
                           .batch_done = batch_done,
                           .check_finite = true,
                           .user = r };
    r->final = lt_hash_create();
    r->groups = r->batches = 0;
    const lt_status st = lt_run(&in, err);
    lt_hash_finish(r->final, final);
    for (size_t l = 0; l < LAYERS; l++) {
        char unused[LT_HASH_HEX];
        if (r->open[l]) lt_hash_finish(r->open[l], unused);
        r->open[l] = NULL;
    }
    return st;
}

static void groups_and_spilling_do_not_change_a_byte(void **state) {
    (void)state;
    bench *b = bench_make(1);
    lt_err err = { 0 };
    record base = { 0 };
    char want[LT_HASH_HEX], got[LT_HASH_HEX];
    assert_ok(run(b, &base, (lt_run_plan){ .group = LAYERS }, NULL, 0, want, &err), &err);
    assert_true(base.groups == 1 && base.batches == N_BATCHES);
    static const lt_run_plan plans[] = { { 1, false, false, 0 },
                                         { 1, true, true, 0 },
                                         { 2, true, false, 0 },
                                         { 3, false, true, 0 },
                                         { 9, true, false, 0 } };
    for (size_t i = 0; i < LT_COUNTOF(plans); i++)
        for (int with_state = 0; with_state <= 1; with_state++) {
            record r = { 0 };
            const char *path = with_state ? test_path("state.safetensors") : NULL;
            assert_ok(run(b, &r, plans[i], path, 0, got, &err), &err);
            assert_string_equal(got, want);
            assert_memory_equal(r.layer, base.layer, sizeof r.layer);
        }
    /* and the same as a plain pass */
    lt_hash *h = lt_hash_create();
    for (size_t i = 0; i < N_BATCHES; i++) {
        lt_exec *x;
        assert_ok(lt_exec_create(&x, b->team, NULL, &err), &err);
        lt_exec_begin(x, &b->batch[i]);
        const lt_var v = lt_model_hidden(x, b->model);
        lt_hash_update(h, lt_data(x, v), lt_rows(x, v) * lt_cols(x, v) * sizeof(lt_real));
        lt_exec_destroy(x);
    }
    lt_hash_finish(h, got);
    assert_string_equal(got, want);
    bench_free(b);
}

/* Stopped in group_done, the state is still the one before: the journal is a layer ahead, and that layer is run again
 * unwatched. */
static void a_stopped_run_goes_on_where_the_results_end(void **state) {
    (void)state;
    bench *b = bench_make(2);
    lt_err err = { 0 };
    record base = { 0 };
    char want[LT_HASH_HEX], got[LT_HASH_HEX];
    assert_ok(run(b, &base, (lt_run_plan){ .group = 1 }, NULL, 0, want, &err), &err);
    for (int spill = 0; spill <= 1; spill++)
        for (size_t stop = 1; stop <= LAYERS; stop++) {
            const lt_run_plan plan = { .group = 1, .spill = spill };
            const char *path = test_path("resume.safetensors");
            (void)unlink(path);
            record r = { .stop_after = stop };
            assert_fails(run(b, &r, plan, path, 0, got, &err), &err, LT_EINTERRUPTED, "stopped here");
            assert_int_equal(r.last_group, stop);
            r.stop_after = 0;
            assert_ok(run(b, &r, plan, path, stop, got, &err), &err);
            assert_int_equal(r.groups, LAYERS - stop);
            assert_string_equal(got, want);
            assert_memory_equal(r.layer, base.layer, sizeof r.layer);
        }
    bench_free(b);
}

static lt_status kill_self(void *user, size_t first, size_t n, lt_err *err) {
    const size_t at = *(const size_t *)user;
    (void)err;
    if (first + n == at) raise(SIGKILL);
    return LT_OK;
}

static int count_then_kill(void *user, const char *stage, double done, double total, const char *unit) {
    size_t *left = user;
    (void)stage, (void)done, (void)total, (void)unit;
    if ((*left)-- == 0) raise(SIGKILL);
    return 0;
}

/* A child dies by SIGKILL at many points; what it leaves is a whole state or none, and the run that goes on ends with
 * the same bytes. */
static void a_killed_run_leaves_a_whole_state(void **state) {
    (void)state;
    bench *b = bench_make(3);
    lt_err err = { 0 };
    record base = { 0 };
    char want[LT_HASH_HEX], got[LT_HASH_HEX];
    assert_ok(run(b, &base, (lt_run_plan){ .group = 1 }, NULL, 0, want, &err), &err);
    const char *path = test_path("killed.safetensors");
    for (size_t point = 0; point < 12; point++) {
        (void)unlink(path);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            size_t at = point / 4 + 1, left = 3 * point;
            lt_ctx ctx;
            lt_ctx_init(&ctx);
            ctx.progress = count_then_kill;
            ctx.user = &left;
            const lt_run_in in = { .model = b->model,
                                   .team = b->team,
                                   .ctx = point % 2 ? &ctx : NULL,
                                   .batches = b->batch,
                                   .n_batches = N_BATCHES,
                                   .state_path = path,
                                   .plan = { .group = 1, .spill = point % 4 >= 2 },
                                   .group_done = kill_self,
                                   .user = &at };
            lt_run(&in, NULL);
            _exit(3);
        }
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
        size_t next = 0; /* what the state says; the caller's journal would say the same or one more */
        if (lt_path_exists(path)) {
            lt_safetensors *st;
            assert_ok(lt_safetensors_open(&st, path, &err), &err);
            next = (size_t)strtoull(lt_safetensors_meta(st, "next_layer"), NULL, 10);
            lt_safetensors_close(st);
        }
        record r = base;
        assert_ok(run(b, &r, (lt_run_plan){ .group = 1 }, path, lt_min_size(LAYERS, next + 1), got, &err), &err);
        assert_string_equal(got, want);
        assert_memory_equal(r.layer, base.layer, sizeof r.layer);
    }
    bench_free(b);
}

static void a_damaged_or_foreign_state_is_refused(void **state) {
    (void)state;
    bench *b = bench_make(4);
    lt_err err = { 0 };
    record r = { .stop_after = 3 };
    char got[LT_HASH_HEX];
    const char *path = test_path("damaged.safetensors");
    const lt_run_plan plan = { .group = 1 };
    assert_fails(run(b, &r, plan, path, 0, got, &err), &err, LT_EINTERRUPTED, "");
    r.stop_after = 0;
    size_t bytes;
    char *data = test_read_file(path, &bytes);
    data[bytes / 2] ^= 4;
    test_write_file(path, data, bytes);
    assert_fails(run(b, &r, plan, path, 3, got, &err), &err, LT_EDATA, "damaged");
    test_write_file(path, data, bytes - 9);
    assert_fails(run(b, &r, plan, path, 3, got, &err), &err, LT_EDATA, "damaged.safetensors");
    data[bytes / 2] ^= 4;
    test_write_file(path, data, bytes);
    assert_fails(run(b, &r, plan, path, 1, got, &err), &err, LT_EDATA, "ahead");
    b->ids[2][1]++;
    b->ids[2][1] %= 61;
    assert_fails(run(b, &r, plan, path, 3, got, &err), &err, LT_EDATA, "other batches");
    lt_free(data);
    bench_free(b);
}

static void a_value_that_is_not_finite_is_named_with_layer_and_site(void **state) {
    (void)state;
    static const struct {
        const char *tensor;
        float value;
        const char *word;
    } cases[] = {
        { "model.layers.2.mlp.gate_proj.weight", NAN, "layer 2: mlp_proj" },
        { "model.layers.3.self_attn.v_proj.weight", INFINITY, "layer 3: v_proj" },
        { "model.layers.4.input_layernorm.weight", NAN, "layer 4: mixer_in" },
        { "model.embed_tokens.weight", NAN, "layer 0: block_in" },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++)
        for (size_t group = 1; group <= LAYERS; group += 2) {
            bench *b = bench_make(5);
            lt_err err = { 0 };
            record r = { 0 };
            char got[LT_HASH_HEX];
            tm_tensor *t = tm_find(b->m, cases[i].tensor);
            for (size_t k = 0; k < t->size[0] * (t->rank == 2 ? t->size[1] : 1); k += 7) t->data[k] = cases[i].value;
            lt_model_destroy(b->model);
            b->model = tm_open(tm_write(b->m, "nan", 1));
            assert_fails(run(b, &r, (lt_run_plan){ .group = group }, NULL, 0, got, &err), &err, LT_EDATA,
                         cases[i].word);
            bench_free(b);
        }
}

static int stop_at_once(void *user, const char *stage, double done, double total, const char *unit) {
    (void)user, (void)stage, (void)unit;
    assert_true(done <= total + 1e-9);
    return 1;
}

static void the_caller_can_stop_a_run(void **state) {
    (void)state;
    bench *b = bench_make(6);
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    ctx.progress = stop_at_once;
    lt_err err = { 0 };
    const lt_run_in in = { .model = b->model,
                           .team = b->team,
                           .ctx = &ctx,
                           .batches = b->batch,
                           .n_batches = N_BATCHES,
                           .plan = { .group = 2 } };
    assert_fails(lt_run(&in, &err), &err, LT_EINTERRUPTED, "");
    bench_free(b);
}

/* ---- plans ---- */

static void plans_shrink_with_the_limit_and_refuse_below_it(void **state) {
    (void)state;
    bench *b = bench_make(7);
    lt_err err = { 0 };
    lt_run_plan free_plan, p;
    const size_t big = (size_t)300 << 20;
    assert_ok(lt_run_make_plan(&free_plan, b->model, b->batch, N_BATCHES, 0, 0, big, 0, false, &err), &err);
    assert_true(free_plan.group == LAYERS && !free_plan.drop_weights && !free_plan.spill);
    size_t last = LAYERS + 1;
    for (size_t limit = free_plan.predicted_bytes; last > 1; limit -= big / 2) {
        const lt_status st = lt_run_make_plan(&p, b->model, b->batch, N_BATCHES, limit, 0, big, 0, false, &err);
        if (st != LT_OK) break;
        assert_true(p.predicted_bytes <= limit && p.group <= last);
        last = p.group;
    }
    assert_int_equal(last, 1);
    assert_fails(lt_run_make_plan(&p, b->model, b->batch, N_BATCHES, 1 << 20, 0, 0, 0, false, &err), &err, LT_ENOMEM,
                 "short");
    err = (lt_err){ 0 };
    assert_ok(lt_run_make_plan(&p, b->model, b->batch, N_BATCHES, 0, 0, 0, 4, true, &err), &err);
    assert_int_equal(p.group, 1);
    bench_free(b);
}

static void flops_count_what_a_forward_multiplies(void **state) {
    (void)state;
    bench *b = bench_make(8);
    const lt_batch *t = &b->batch[0]; /* documents of 5 and 11 rows */
    const double pairs = 5 * 6 / 2 + 11 * 12 / 2, linear = 2.0 * 16 * (double)lt_model_n_linear_params(b->model);
    const double want = linear + LAYERS * 2.0 * 6 * (10 + 10) * pairs + 2.0 * 61 * 22 * 3;
    assert_close_f64(&(double){ lt_model_flops(b->model, t, 3) }, &want, 1, 0.0, 1e-12);
    bench_free(b);
}

/* The values of a forward pass fit into what is predicted, and the prediction is not wild. */
static void predicted_values_cover_the_real_ones(void **state) {
    (void)state;
    bench *b = bench_make(9);
    lt_err err = { 0 };
    int32_t ids[600];
    tm_ids(ids, 600, 61, 90);
    const lt_piece piece = { .n = 600, .parent = -1 };
    const lt_batch batch = { .n_rows = 600, .n_pieces = 1, .ids = ids, .piece = &piece };
    lt_exec *x;
    assert_ok(lt_exec_create(&x, b->team, NULL, &err), &err);
    lt_exec_begin(x, &batch);
    lt_model_hidden(x, b->model);
    assert_ok(lt_exec_status(x, &err), &err);
    const double real = (double)lt_exec_peak_bytes(x), predicted = (double)lt_model_exec_bytes(b->model, 600);
    assert_true(real <= 1.05 * predicted + 65536 && predicted <= 1.3 * real);
    lt_exec_destroy(x);
    bench_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_and_spilling_do_not_change_a_byte),
        cmocka_unit_test(a_stopped_run_goes_on_where_the_results_end),
        cmocka_unit_test(a_killed_run_leaves_a_whole_state),
        cmocka_unit_test(a_damaged_or_foreign_state_is_refused),
        cmocka_unit_test(a_value_that_is_not_finite_is_named_with_layer_and_site),
        cmocka_unit_test(the_caller_can_stop_a_run),
        cmocka_unit_test(plans_shrink_with_the_limit_and_refuse_below_it),
        cmocka_unit_test(flops_count_what_a_forward_multiplies),
        cmocka_unit_test(predicted_values_cover_the_real_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
