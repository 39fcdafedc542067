/* SPDX-License-Identifier: Apache-2.0 */
/* The same bytes for 1, 2 and 3 threads: values, gradients of inputs and of parameters, of every op at sizes that are
 * cut. */
#include "nn/fixture.h"

enum { D = 96, HEADS = 6, KV = 2, DIM = 16, D_FF = 200, VOCAB = 4500, ROWS = 700 };

typedef struct net {
    lt_param table;
    lt_norm_params norm, head_norm;
    lt_linear q, k, v, o, up, gate, down, head;
} net;

static lt_var layer(lt_exec *x, lt_var in, const void *arg) {
    const net *n = arg;
    static const double inv_freq[] = { 1, 0.3, 0.1, 0.01 };
    const lt_attn_params p = { 0, HEADS, KV, DIM, DIM, 0.25, 30, 400 };
    const lt_rope_table *t = lt_rope_prepare(x, inv_freq, 4, 1);
    lt_var h = lt_norm(x, in, &n->norm, 0);
    const lt_var q = lt_rope(x, lt_norm(x, lt_linear_fwd(x, h, &n->q), &n->head_norm, DIM), t, HEADS, DIM, false);
    const lt_var k = lt_rope(x, lt_linear_fwd(x, h, &n->k), t, KV, DIM, true);
    h = lt_add(x, in, lt_linear_fwd(x, lt_attention(x, q, k, lt_linear_fwd(x, h, &n->v), &p), &n->o));
    const lt_var g = lt_gated(x, lt_linear_fwd(x, h, &n->gate), lt_linear_fwd(x, h, &n->up), LT_ACT_SILU);
    return lt_add(x, h, lt_activate(x, lt_linear_fwd(x, g, &n->down), LT_ACT_GELU_TANH));
}

typedef struct bytes {
    size_t n;
    char *data;
} bytes;

static void keep(fixture *f, bytes *b, const void *from, size_t n) {
    (void)f;
    memcpy(b->data + b->n, from, n);
    b->n += n;
}

static void keep_grad(fixture *f, bytes *b, const lt_param *p) {
    keep(f, b, p->grad, lt_tensor_count(&p->t) * sizeof *p->grad);
}

static bytes step(fixture *f, int threads, lt_mode mode, const size_t *lengths) {
    fix_open(f, threads, (lt_exec_opts){ .mode = mode }, 3);
    fix_batch(f, lengths);
    fix_ids(f, VOCAB);
    net n = { .table = fix_param(f, "table", VOCAB, D, 1, true),
              .norm = { .kind = LT_NORM_LAYER,
                        .eps = 1e-5,
                        .w = fix_param(f, "w", 0, D, 1, true),
                        .b = fix_param(f, "b", 0, D, 1, true) },
              .head_norm = { .eps = 1e-5, .w = fix_param(f, "hw", 0, DIM, 1, true) },
              .q = fix_linear(f, "a", D, HEADS * DIM, 0),
              .k = fix_linear(f, "b", D, KV * DIM, 0),
              .v = fix_linear(f, "2", D, KV * DIM, 20),
              .o = fix_linear(f, "t", HEADS * DIM, D, 0),
              .up = fix_linear(f, "", D, D_FF, 0),
              .gate = fix_linear(f, "2 a", D, D_FF, 30),
              .down = fix_linear(f, "", D_FF, D, 0) };
    n.head = (lt_linear){ .name = "head", .n_stages = 1, .stage = { { .w = n.table } } };
    int32_t *target = fix_zeros(f, f->batch.n_rows, sizeof *target),
            *best = fix_zeros(f, f->batch.n_rows, sizeof *best);
    for (size_t i = 0; i < f->batch.n_rows; i++) target[i] = (int32_t)lt_rng_below(&f->rng, VOCAB);
    lt_exec_begin(f->x, &f->batch);
    const lt_var e = lt_embed(f->x, &n.table, 1), h = layer(f->x, layer(f->x, e, &n), &n),
                 nll = lt_head_nll(f->x, h, &n.head, 1, target, best);
    if (mode == LT_RECORD) lt_backward(f->x, nll, NULL);
    lt_err err = { 0 };
    assert_ok(lt_exec_status(f->x, &err), &err);
    bytes b = { .data = fix_zeros(f, 8 << 20, 1) };
    keep(f, &b, lt_data(f->x, nll), f->batch.n_rows * sizeof(lt_real));
    keep(f, &b, lt_data(f->x, h), f->batch.n_rows * D * sizeof(lt_real));
    keep(f, &b, best, f->batch.n_rows * sizeof *best);
    if (mode != LT_RECORD) return b;
    const lt_param *params[] = { &n.table,
                                 &n.norm.w,
                                 &n.norm.b,
                                 &n.head_norm.w,
                                 &n.q.stage[0].w,
                                 &n.q.stage[0].adapters[0].a,
                                 &n.q.stage[0].adapters[1].b,
                                 &n.k.stage[0].w,
                                 &n.k.bias,
                                 &n.v.stage[0].w,
                                 &n.v.stage[1].w,
                                 &n.o.stage[0].w,
                                 &n.up.stage[0].w,
                                 &n.gate.stage[1].w,
                                 &n.gate.stage[0].adapters[0].a,
                                 &n.down.stage[0].w };
    for (size_t i = 0; i < LT_COUNTOF(params); i++) keep_grad(f, &b, params[i]);
    return b;
}

static void bytes_do_not_depend_on_the_number_of_threads(void **state) {
    (void)state;
    const size_t *const lengths[] = { LENGTHS(ROWS, 1, 40), LENGTHS(1), LENGTHS(2, 1, 2) };
    for (size_t k = 0; k < 2 * LT_COUNTOF(lengths); k++) {
        fixture one, more;
        const bytes want = step(&one, 1, k % 2 ? LT_RECORD : LT_INFER, lengths[k / 2]);
        for (int threads = 2; threads <= 3; threads++) {
            const bytes got = step(&more, threads, k % 2 ? LT_RECORD : LT_INFER, lengths[k / 2]);
            assert_int_equal(got.n, want.n);
            assert_memory_equal(got.data, want.data, want.n);
            fix_close(&more);
        }
        fix_close(&one);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(bytes_do_not_depend_on_the_number_of_threads) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
