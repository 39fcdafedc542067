/* SPDX-License-Identifier: Apache-2.0 */
/* Attention in double against the formula: 1e-12, some hundred rounding errors of numbers near 1. */
#include "nn/naive.h"

#define ATTN(hq, hk, dk, dv, cap, win)                                                                                 \
    { 5, hq, hk, dk, dv, 0.6, cap, win }

static void check(fixture *f, const lt_attn_params *p) {
    lt_err err = { 0 };
    const size_t n = f->batch.n_rows;
    lt_real *q = fix_normal(f, n * p->n_q_heads * p->qk_dim, 1), *k = fix_normal(f, n * p->n_kv_heads * p->qk_dim, 1),
            *v = fix_normal(f, n * p->n_kv_heads * p->v_dim, 1);
    lt_exec_begin(f->x, &f->batch);
    const lt_var out = lt_attention(f->x, lt_input(f->x, n, p->n_q_heads * p->qk_dim, q, false),
                                    lt_input(f->x, n, p->n_kv_heads * p->qk_dim, k, false),
                                    lt_input(f->x, n, p->n_kv_heads * p->v_dim, v, false), p);
    assert_ok(lt_exec_status(f->x, &err), &err);
    const double *want = naive_attention(f, p, q, k, v);
    assert_close_f64(lt_data(f->x, out), want, n * p->n_q_heads * p->v_dim, 1e-12, 1e-12);
}

static const lt_attn_params shapes[] = {
    ATTN(1, 1, 4, 4, 0, 0),   ATTN(6, 2, 5, 3, 0, 0),  ATTN(4, 1, 32, 32, 0, 7), ATTN(4, 4, 3, 2, 1.5, 0),
    ATTN(9, 3, 8, 8, 0, 130), ATTN(2, 1, 4, 2, 20, 3), ATTN(16, 1, 4, 4, 0, 0),
};

static void pieces(void **state) {
    (void)state;
    const size_t *const lengths[] = { LENGTHS(1), LENGTHS(2, 1, 0, 5), LENGTHS(130, 1, 3, 64), LENGTHS(700) };
    for (size_t i = 0; i < LT_COUNTOF(shapes); i++)
        for (size_t k = 0; k < LT_COUNTOF(lengths); k++) {
            fixture f;
            fix_open(&f, 2, (lt_exec_opts){ 0 }, (uint32_t)(10 * i + k));
            fix_batch(&f, lengths[k]);
            check(&f, &shapes[i]);
            fix_close(&f);
        }
}

/* a root with two children, one of which has children again: some long, some of a single row */
static void make_tree(fixture *f, size_t root_rows) {
    fix_batch(f, (const size_t[]){ root_rows, 2, 1, 70, 1, 3, SIZE_MAX });
    static const int32_t parent[] = { -1, 0, 1, 1, 3, -1 };
    for (size_t p = 0; p < f->batch.n_pieces; p++) {
        f->piece[p].parent = parent[p];
        f->piece[p].pos0 = parent[p] < 0 ? 4 : f->piece[parent[p]].pos0 + f->piece[parent[p]].n;
    }
}

static void pieces_with_parents(void **state) {
    (void)state;
    static const size_t root_rows[] = { 1, 40, 600 };
    for (size_t i = 0; i < LT_COUNTOF(shapes); i++)
        for (size_t k = 0; k < LT_COUNTOF(root_rows); k++) {
            fixture f;
            fix_open(&f, 2, (lt_exec_opts){ 0 }, (uint32_t)(100 + 10 * i + k));
            make_tree(&f, root_rows[k]);
            check(&f, &shapes[i]);
            fix_close(&f);
        }
}

/* Every kind of segment, long and short, in front of pieces of one row, a few and many; a child sees its root's past.
 */
static void pieces_with_pasts(void **state) {
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(shapes); i++) {
        const lt_attn_params *p = &shapes[i];
        const bool blocks = p->qk_dim % 32 == 0 && p->v_dim % 32 == 0;
        fixture f;
        fix_open(&f, 2, (lt_exec_opts){ 0 }, (uint32_t)(200 + i));
        toy_past long_past = { 0 }, short_past = { 0 };
        toy_append(&f, &long_past, p->n_kv_heads, LT_F32, 300, 0, p->qk_dim, p->v_dim, "");
        toy_append(&f, &long_past, p->n_kv_heads, LT_F16, 0, 300, p->qk_dim, p->v_dim, "");
        toy_append(&f, &long_past, p->n_kv_heads, LT_F16, 61, 300, p->qk_dim, p->v_dim, "b");
        toy_append(&f, &long_past, p->n_kv_heads, LT_BF16, 20, 361, p->qk_dim, p->v_dim, "p");
        toy_append(&f, &long_past, p->n_kv_heads, blocks ? LT_Q8_0 : LT_BF16, 333, 421, p->qk_dim, p->v_dim, "bp");
        toy_append(&f, &short_past, p->n_kv_heads, LT_F16, 9, 0, p->qk_dim, p->v_dim, "");
        make_tree(&f, 40);
        f.piece[0].pos0 = 1420;
        for (size_t k = 1; k < 5; k++) f.piece[k].pos0 = f.piece[f.piece[k].parent].pos0 + f.piece[f.piece[k].parent].n;
        f.piece[5].pos0 = 9;
        f.batch.past = (struct lt_past *const[]){ &long_past.base, NULL, NULL, NULL, NULL, &short_past.base };
        check(&f, p);
        fix_batch(&f, LENGTHS(1, 2, 1)); /* a decoding step of three sessions */
        for (size_t k = 0; k < 3; k++) f.piece[k].pos0 = k < 2 ? 1420 : 9;
        f.batch.past = (struct lt_past *const[]){ &long_past.base, &long_past.base, &short_past.base };
        check(&f, p);
        fix_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces),
        cmocka_unit_test(pieces_with_parents),
        cmocka_unit_test(pieces_with_pasts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
