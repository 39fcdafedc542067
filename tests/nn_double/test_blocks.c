/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that are replayed give what a kept tape gives, bit for bit; observers see each value once. */
#include "nn/fixture.h"

enum { D = 12, HEADS = 2, HEAD_DIM = 6, D_FF = 20, LAYERS = 3, VOCAB = 17, SEEN = 64 };

typedef struct layer {
    lt_norm_params norm;
    lt_linear q, k, v, o, gate, up, down;
    int index;
    struct model *m;
} layer;
typedef struct model {
    lt_param table;
    layer layer[LAYERS];
    lt_linear head;
    int fails_at; /* layer whose block fails when it is replayed; -1: none */
} model;

/* what an observer saw, in order */
typedef struct diary {
    size_t n;
    struct {
        lt_site site;
        int at;
        bool grad;
        double sum;
    } seen[SEEN];
    bool grads;
} diary;

static bool wants(void *user, lt_site site, int at, int sub, bool grad) {
    (void)site, (void)at, (void)sub;
    return !grad || ((diary *)user)->grads;
}

static lt_status note(void *user, const lt_obs *obs, lt_err *err) {
    diary *d = user;
    if (d->n == SEEN) return lt_fail(err, LT_EINTERNAL, "the diary is full");
    double sum = 0;
    const lt_real *v = lt_host(&obs->rows);
    for (size_t i = 0; i < lt_tensor_count(&obs->rows); i++) sum += (double)(i % 7 + 1) * v[i];
    d->seen[d->n].site = obs->site;
    d->seen[d->n].at = obs->layer;
    d->seen[d->n].grad = obs->is_grad;
    d->seen[d->n++].sum = sum;
    return LT_OK;
}

static void make_model(fixture *f, model *m, const char *what) {
    memset(m, 0, sizeof *m);
    m->fails_at = -1;
    m->table = fix_param(f, "table", VOCAB, D, 1, !strchr(what, 'f'));
    for (int i = 0; i < LAYERS; i++) {
        layer *l = &m->layer[i];
        *l = (layer){ .index = i,
                      .m = m,
                      .q = fix_linear(f, what, D, D, 4),
                      .k = fix_linear(f, what, D, HEAD_DIM, 4),
                      .v = fix_linear(f, what, D, HEAD_DIM, 4),
                      .o = fix_linear(f, what, D, D, 4),
                      .gate = fix_linear(f, what, D, D_FF, 5),
                      .up = fix_linear(f, what, D, D_FF, 5),
                      .down = fix_linear(f, what, D_FF, D, 5) };
        l->norm = (lt_norm_params){ .eps = 1e-5, .w = fix_param(f, "norm", 0, D, 1, !strchr(what, 'f')) };
    }
    m->head = (lt_linear){ .name = "head", .n_stages = 1, .stage = { { .w = m->table } } };
}

static lt_var block(lt_exec *x, lt_var in, const void *arg) {
    const layer *l = arg;
    const lt_attn_params p = { l->index, HEADS, 1, HEAD_DIM, HEAD_DIM, 0.4, 0, 0 };
    const double inv_freq[] = { 1, 0.1 };
    if (lt_exec_silent(x) && l->m->fails_at == l->index) lt_exec_fail(x, LT_EDATA, "layer %d fails", l->index);
    lt_tap(x, LT_SITE_BLOCK_IN, l->index, 0, in);
    const lt_rope_table *t = lt_rope_prepare(x, inv_freq, 2, 1);
    lt_var h = lt_norm(x, in, &l->norm, 0);
    lt_tap(x, LT_SITE_MIXER_IN, l->index, 0, h);
    const lt_var q = lt_rope(x, lt_linear_fwd(x, h, &l->q), t, HEADS, HEAD_DIM, false);
    const lt_var k = lt_rope(x, lt_linear_fwd(x, h, &l->k), t, 1, HEAD_DIM, false);
    h = lt_attention(x, q, k, lt_linear_fwd(x, h, &l->v), &p);
    h = lt_add(x, in, lt_linear_fwd(x, h, &l->o));
    const lt_var g = lt_gated(x, lt_linear_fwd(x, h, &l->gate), lt_linear_fwd(x, h, &l->up), LT_ACT_SILU);
    lt_tap(x, LT_SITE_MLP_ACT, l->index, 0, g);
    return lt_add(x, h, lt_linear_fwd(x, g, &l->down));
}

/* two layers in one block: a block within a block */
static lt_var pair(lt_exec *x, lt_var in, const void *arg) {
    const layer *l = arg;
    return lt_block(x, block, l + 1, lt_block(x, block, l, in));
}

/* an absent layer */
static lt_var nothing(lt_exec *x, lt_var in, const void *arg) {
    (void)x, (void)arg;
    return in;
}

static double train_step(fixture *f, model *m, const int32_t *target) {
    lt_exec *x = f->x;
    lt_exec_begin(x, &f->batch);
    lt_var h = lt_embed(x, &m->table, 1);
    h = lt_block(x, nothing, NULL, lt_block(x, pair, &m->layer[0], h));
    h = lt_block(x, block, &m->layer[2], h);
    m->head.stage[0].w = m->table; /* tied: gradients of both uses meet */
    const lt_var loss = lt_head_nll(x, h, &m->head, 1, target, NULL);
    double sum = 0;
    const lt_real *nll = lt_data(x, loss);
    for (size_t i = 0; nll && i < f->batch.n_rows; i++) sum += nll[i];
    lt_backward(x, loss, NULL);
    return sum;
}

static size_t all_gradients(model *m, lt_real *out) {
    size_t n = 0;
    const lt_param *list[256];
    size_t count = 0;
    list[count++] = &m->table;
    for (int i = 0; i < LAYERS; i++) {
        list[count++] = &m->layer[i].norm.w;
        const lt_linear *linears[] = { &m->layer[i].q,    &m->layer[i].k,  &m->layer[i].v,   &m->layer[i].o,
                                       &m->layer[i].gate, &m->layer[i].up, &m->layer[i].down };
        for (size_t k = 0; k < LT_COUNTOF(linears); k++)
            for (int s = 0; s < linears[k]->n_stages; s++) {
                const lt_stage *stage = &linears[k]->stage[s];
                list[count++] = &stage->w;
                for (size_t a = 0; a < stage->n_adapters; a++)
                    list[count++] = &stage->adapters[a].a, list[count++] = &stage->adapters[a].b;
            }
    }
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; list[i]->grad && k < lt_tensor_count(&list[i]->t); k++) out[n++] = list[i]->grad[k];
    return n;
}

typedef struct outcome {
    double loss;
    lt_real grad[40000];
    size_t n, peak;
    diary d;
} outcome;

static void run(outcome *o, const char *what, bool recompute, bool grads, int fails_at) {
    fixture f;
    model m;
    memset(o, 0, sizeof *o);
    o->d.grads = grads;
    const lt_observer observer = { wants, note, &o->d, false };
    fix_open(&f, 2,
             (lt_exec_opts){ .mode = LT_RECORD, .recompute = recompute, .observers = &observer, .n_observers = 1 }, 7);
    fix_batch(&f, LENGTHS(5, 1, 4));
    fix_ids(&f, VOCAB);
    make_model(&f, &m, what);
    m.fails_at = fails_at;
    int32_t target[10];
    for (size_t i = 0; i < 10; i++) target[i] = (int32_t)(i % VOCAB);
    o->loss = train_step(&f, &m, target);
    o->n = all_gradients(&m, o->grad);
    o->peak = lt_exec_peak_bytes(f.x);
    lt_err err = { 0 };
    if (fails_at < 0)
        assert_ok(lt_exec_status(f.x, &err), &err);
    else
        assert_fails(lt_exec_status(f.x, &err), &err, LT_EDATA, "fails");
    fix_close(&f);
}

static outcome kept, replayed;

static void a_replayed_block_gives_the_gradients_of_a_kept_one(void **state) {
    (void)state;
    static const char *const what[] = { "", "2 a", "a f" };
    for (size_t i = 0; i < LT_COUNTOF(what); i++) {
        run(&kept, what[i], false, false, -1);
        run(&replayed, what[i], true, false, -1);
        assert_true(kept.loss == replayed.loss && kept.n == replayed.n && kept.n > 0);
        assert_memory_equal(kept.grad, replayed.grad, kept.n * sizeof kept.grad[0]);
        assert_true(replayed.peak < kept.peak);
    }
}

static void taps_fire_once_forward_and_once_backward(void **state) {
    (void)state;
    run(&kept, "", false, true, -1);
    run(&replayed, "", true, true, -1);
    assert_int_equal(kept.d.n, 2 * 3 * LAYERS);
    assert_int_equal(replayed.d.n, kept.d.n);
    for (size_t i = 0; i < kept.d.n; i++) {
        assert_int_equal(kept.d.seen[i].site, replayed.d.seen[i].site);
        assert_int_equal(kept.d.seen[i].at, replayed.d.seen[i].at);
        assert_int_equal(kept.d.seen[i].grad, i >= 3 * LAYERS);
        assert_true(kept.d.seen[i].sum == replayed.d.seen[i].sum);
    }
}

/* Nothing trains, but gradients of values are asked for: they are those of the run where everything trains. */
static void wanted_gradients_need_no_trainable_parameter(void **state) {
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        run(&kept, "", recompute, true, -1);
        run(&replayed, "f", recompute, true, -1);
        assert_int_equal(replayed.n, 0);
        assert_int_equal(replayed.d.n, kept.d.n);
        for (size_t i = 0; i < kept.d.n; i++) assert_true(kept.d.seen[i].sum == replayed.d.seen[i].sum);
    }
}

static void a_failure_in_a_replay_is_the_sticky_error(void **state) {
    (void)state;
    run(&replayed, "", true, false, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replayed_block_gives_the_gradients_of_a_kept_one),
        cmocka_unit_test(taps_fire_once_forward_and_once_backward),
        cmocka_unit_test(wanted_gradients_need_no_trainable_parameter),
        cmocka_unit_test(a_failure_in_a_replay_is_the_sticky_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
