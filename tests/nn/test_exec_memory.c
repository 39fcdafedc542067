/* SPDX-License-Identifier: Apache-2.0 */
/* Every op, forward and backward, with every allocation failing in turn: the arenas are made so small that nearly each
 * value, list and scratch is an allocation of its own. */
#include "nn/exec_impl.h"
#include "nn/fixture.h"
#include "nn/naive.h"

enum { D = 16, HEADS = 4, KV = 2, DIM = 4, VOCAB = 2060 };

typedef struct net {
    fixture *f;
    lt_mode mode;
    bool recompute;
    lt_param table;
    lt_norm_params norm;
    lt_linear q, k, v, o, head, probe;
    const int32_t *target;
} net;

static lt_var layer(lt_exec *x, lt_var in, const void *arg) {
    const net *n = arg;
    static const double inv_freq[] = { 1, 0.3 };
    const lt_attn_params p = { 0, HEADS, KV, DIM, DIM, 0.5, 3, 12 };
    const lt_rope_table *t = lt_rope_prepare(x, inv_freq, 2, 1);
    const lt_var h = lt_norm(x, in, &n->norm, 8);
    const lt_var q = lt_rope(x, lt_linear_fwd(x, h, &n->q), t, HEADS, DIM, false);
    const lt_var k = lt_rope(x, lt_linear_fwd(x, h, &n->k), t, KV, DIM, true);
    const lt_var o = lt_attention(x, q, k, lt_take_cols(x, lt_linear_fwd(x, h, &n->v), 1, KV * DIM), &p);
    const lt_var g = lt_gated(x, lt_linear_fwd(x, o, &n->o), lt_activate(x, h, LT_ACT_GELU), LT_ACT_GELU_TANH);
    return lt_add(x, in, g);
}

static void run(lt_exec *x, const net *n) {
    static const size_t index[] = { 3, 0, 3, 1 };
    lt_exec_begin(x, &n->f->batch);
    const lt_var h = lt_block(x, layer, n, lt_block(x, layer, n, lt_embed(x, (lt_param *)&n->table, 1)));
    const lt_var rows = lt_take_rows(x, h, index, 4);
    const lt_var some = lt_logits(x, rows, &n->probe, 0.5);
    const lt_var nll = lt_head_nll(x, rows, &n->head, 2, n->target, NULL);
    if (n->mode != LT_RECORD) return;
    lt_backward(x, lt_add(x, nll, lt_take_cols(x, some, 2, 1)), NULL);
}

static lt_status step(void *user, lt_err *err) {
    const net *n = user;
    const lt_exec_opts opts = { .mode = n->mode, .recompute = n->recompute };
    lt_exec *x = NULL;
    LT_TRY(lt_exec_create(&x, n->f->team, &opts, err));
    lt_arena_destroy(x->values);
    lt_arena_destroy(x->kept);
    x->values = lt_arena_create(1);
    x->kept = lt_arena_create(1);
    lt_status st = x->values && x->kept ? LT_OK : lt_fail(err, LT_ENOMEM, "arenas of the test");
    if (st == LT_OK) {
        run(x, n);
        st = lt_exec_status(x, err);
    }
    lt_exec_destroy(x);
    return st;
}

static void make(net *n, fixture *f) {
    *n = (net){ .f = f,
                .table = fix_param(f, "table", 50, D, 1, true),
                .norm = { .kind = LT_NORM_LAYER, .eps = 1e-5, .w = fix_param(f, "w", 0, 8, 1, true) },
                .q = fix_linear(f, "2 a b", D, HEADS * DIM, 5),
                .k = fix_linear(f, "t b", D, KV * DIM, 0),
                .v = fix_linear(f, "a f", D, KV * DIM + 2, 0),
                .o = fix_linear(f, "2", HEADS * DIM, D, 3),
                .head = fix_linear(f, "2 a b", D, VOCAB, 3),
                .probe = fix_linear(f, "a b", D, 40, 0) };
    n->norm.b = fix_param(f, "b", 0, 8, 1, true);
    static const int32_t target[] = { 5, 2059, -1, 0 };
    n->target = target;
}

static void training_survives_every_failing_allocation(void **state) {
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        fixture f;
        net n;
        fix_open(&f, 2, (lt_exec_opts){ 0 }, 1);
        fix_batch(&f, LENGTHS(140, 1, 3));
        fix_ids(&f, 50);
        make(&n, &f);
        n.mode = LT_RECORD;
        n.recompute = recompute;
        const size_t allocations = test_every_allocation_fails(step, &n);
        assert_true(allocations > 60);
        fix_close(&f);
    }
}

static void inference_survives_every_failing_allocation(void **state) {
    (void)state;
    fixture f;
    net n;
    toy_past past = { 0 };
    fix_open(&f, 2, (lt_exec_opts){ 0 }, 1);
    fix_batch(&f, LENGTHS(140, 1, 3, 2));
    toy_append(&f, &past, KV, LT_F16, 20, 0, DIM, DIM, "b");
    toy_append(&f, &past, KV, LT_F32, 9, 20, DIM, DIM, "");
    f.piece[2].parent = 0;
    f.piece[3].parent = 2;
    f.batch.past = (struct lt_past *const[]){ &past.base, &past.base, NULL, NULL };
    fix_ids(&f, 50);
    make(&n, &f);
    const size_t allocations = test_every_allocation_fails(step, &n);
    assert_true(allocations > 20);
    fix_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(training_survives_every_failing_allocation),
        cmocka_unit_test(inference_survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
