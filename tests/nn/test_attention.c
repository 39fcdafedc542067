/* SPDX-License-Identifier: Apache-2.0 */
/* Float attention: near the formula, and indifferent to how its rows were cut, packed, shared or stored.
 * Bound 5e-6: scores near 3 carry some eps (6e-8), exp passes them on, sums of products of weights add sqrt(n) eps. */
#include "nn/naive.h"

static const double bound = 5e-6;

typedef struct tensors {
    lt_real *q, *k, *v;
} tensors;

static tensors random_tensors(fixture *f, const lt_attn_params *p, size_t n) {
    return (tensors){ fix_normal(f, n * p->n_q_heads * p->qk_dim, 1), fix_normal(f, n * p->n_kv_heads * p->qk_dim, 1),
                      fix_normal(f, n * p->n_kv_heads * p->v_dim, 1) };
}

/* rows [r0, r0 + n) of t as the batch of f; the result lives until the next call */
static const lt_real *attend(fixture *f, const lt_attn_params *p, tensors t, size_t r0) {
    lt_err err = { 0 };
    const size_t n = f->batch.n_rows, dq = p->n_q_heads * p->qk_dim, dk = p->n_kv_heads * p->qk_dim,
                 dv = p->n_kv_heads * p->v_dim;
    lt_exec_begin(f->x, &f->batch);
    const lt_var out =
        lt_attention(f->x, lt_input(f->x, n, dq, t.q + r0 * dq, false), lt_input(f->x, n, dk, t.k + r0 * dk, false),
                     lt_input(f->x, n, dv, t.v + r0 * dv, false), p);
    assert_ok(lt_exec_status(f->x, &err), &err);
    return lt_data(f->x, out);
}

static void check(const lt_real *got, const double *want, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= bound))
            fail_msg("[%zu]: %.9g, by the formula %.9g", i, (double)got[i], want[i]);
}

static const lt_attn_params shapes[] = {
    { 2, 9, 3, 64, 64, 0.125, 0, 0 },  { 2, 4, 4, 16, 16, 0.25, 0, 100 }, { 2, 8, 1, 32, 32, 0.2, 20, 0 },
    { 2, 14, 2, 64, 32, 0.125, 0, 0 }, { 2, 2, 2, 128, 64, 0.1, 5, 300 },
};

static void follows_the_formula(void **state) {
    (void)state;
    const size_t *const lengths[] = { LENGTHS(1), LENGTHS(2, 130, 1, 17), LENGTHS(700) };
    for (size_t i = 0; i < LT_COUNTOF(shapes); i++)
        for (size_t k = 0; k < LT_COUNTOF(lengths); k++) {
            fixture f;
            fix_open(&f, 2, (lt_exec_opts){ 0 }, (uint32_t)(10 * i + k));
            fix_batch(&f, lengths[k]);
            const tensors t = random_tensors(&f, &shapes[i], f.batch.n_rows);
            check(attend(&f, &shapes[i], t, 0), naive_attention(&f, &shapes[i], t.q, t.k, t.v),
                  f.batch.n_rows * shapes[i].n_q_heads * shapes[i].v_dim);
            fix_close(&f);
        }
}

static void a_piece_gives_the_same_bytes_alone_and_packed(void **state) {
    (void)state;
    const size_t *lengths = LENGTHS(3, 200, 1, 90, 2);
    for (size_t i = 0; i < LT_COUNTOF(shapes); i++) {
        const lt_attn_params *p = &shapes[i];
        fixture f;
        fix_open(&f, 2, (lt_exec_opts){ 0 }, (uint32_t)i);
        fix_batch(&f, lengths);
        const size_t n = f.batch.n_rows, d = p->n_q_heads * p->v_dim;
        const tensors t = random_tensors(&f, p, n);
        lt_real *packed = fix_zeros(&f, n * d, sizeof *packed);
        memcpy(packed, attend(&f, p, t, 0), n * d * sizeof *packed);
        size_t row = 0;
        for (size_t k = 0; lengths[k] != SIZE_MAX; row += lengths[k++]) {
            fix_batch(&f, (const size_t[]){ lengths[k], SIZE_MAX });
            assert_memory_equal(attend(&f, p, t, row), packed + row * d, lengths[k] * d * sizeof *packed);
        }
        fix_close(&f);
    }
}

/* the rows before as one segment of dtype dt, page by page */
static void store_past(fixture *f, toy_past *past, const lt_attn_params *p, tensors t, size_t n, size_t page,
                       lt_dtype dt) {
    const lt_dtype_row *row = lt_dtype_get(dt);
    *past = (toy_past){ .base = { toy_n_segments, toy_segment } };
    for (size_t r0 = 0; r0 < n; r0 += page, past->n_segments++)
        for (size_t h = 0; h < p->n_kv_heads; h++) {
            lt_kv_segment s = { .n = lt_min_size(page, n - r0),
                                .dtype = dt,
                                .pos0 = r0,
                                .k_stride = p->qk_dim / row->block * row->bytes,
                                .v_stride = p->v_dim / row->block * row->bytes };
            char *k = fix_zeros(f, s.n, s.k_stride), *v = fix_zeros(f, s.n, s.v_stride);
            for (size_t j = 0; j < s.n; j++) {
                row->from_f32(k + j * s.k_stride, t.k + ((r0 + j) * p->n_kv_heads + h) * p->qk_dim, p->qk_dim);
                row->from_f32(v + j * s.v_stride, t.v + ((r0 + j) * p->n_kv_heads + h) * p->v_dim, p->v_dim);
            }
            s.k = k;
            s.v = v;
            past->segment[h][past->n_segments] = s;
        }
}

/* 600 rows at once, and in chunks on top of a past, the last of one and two rows as in decoding. Stored dtypes carry
 * their own rounding: half an ulp of values up to 4, of keys times queries over sqrt(dim) numbers, softened; q8_0 1/254
 * of the largest. */
static void chunks_on_a_past_equal_one_pass(void **state) {
    (void)state;
    static const struct {
        lt_dtype dt;
        double tol;
    } stores[] = { { LT_F32, 5e-6 }, { LT_F16, 2e-3 }, { LT_BF16, 2e-2 }, { LT_Q8_0, 4e-2 } };
    static const size_t cuts[][2] = { { 100, 300 }, { 400, 599 }, { 599, 600 }, { 300, 302 } };
    const lt_attn_params p = { 2, 4, 2, 32, 32, 0.2, 0, 350 };
    for (size_t k = 0; k < LT_COUNTOF(stores) * LT_COUNTOF(cuts); k++) {
        const size_t from = cuts[k % 4][0], n = cuts[k % 4][1] - from, d = p.n_q_heads * p.v_dim;
        fixture f;
        fix_open(&f, 2, (lt_exec_opts){ 0 }, (uint32_t)k);
        fix_batch(&f, LENGTHS(600));
        f.piece[0].pos0 = 0;
        const tensors t = random_tensors(&f, &p, 600);
        lt_real *all = fix_zeros(&f, 600 * d, sizeof *all);
        memcpy(all, attend(&f, &p, t, 0), 600 * d * sizeof *all);
        toy_past past;
        store_past(&f, &past, &p, t, from, 128, stores[k / 4].dt);
        fix_batch(&f, (const size_t[]){ n, SIZE_MAX });
        f.piece[0].pos0 = from;
        f.batch.past = (struct lt_past *const[]){ &past.base };
        assert_close(attend(&f, &p, t, from), all + from * d, n * d, stores[k / 4].tol, 0);
        fix_close(&f);
    }
}

/* A trie of three texts with a common beginning against the texts one by one. */
static void pieces_with_parents_equal_the_unrolled_texts(void **state) {
    (void)state;
    /* pieces: 0 root, 1 and 2 its children, 3 child of 2: texts are 0 1, 0 2, 0 2 3 */
    static const struct { size_t pieces[3], n; } texts[] = { { { 0, 1 }, 2 }, { { 0, 2 }, 2 }, { { 0, 2, 3 }, 3 } };
    static const int32_t parent[] = { -1, 0, 0, 2 };
    static const size_t roots[] = { 5, 300, 520 };
    for (size_t i = 0; i < LT_COUNTOF(shapes); i++)
        for (size_t k = 0; k < LT_COUNTOF(roots); k++) {
            const lt_attn_params *p = &shapes[i];
            const size_t rows[] = { roots[k], 1, 20, 2, SIZE_MAX }, dq = p->n_q_heads * p->qk_dim,
                         dk = p->n_kv_heads * p->qk_dim, dv = p->n_kv_heads * p->v_dim, d = p->n_q_heads * p->v_dim;
            fixture f;
            fix_open(&f, 2, (lt_exec_opts){ 0 }, (uint32_t)(10 * i + k));
            fix_batch(&f, rows);
            lt_piece piece[4];
            for (size_t c = 0; c < 4; c++) {
                f.piece[c].parent = parent[c];
                f.piece[c].pos0 = parent[c] < 0 ? 0 : f.piece[parent[c]].pos0 + f.piece[parent[c]].n;
                piece[c] = f.piece[c];
            }
            const tensors t = random_tensors(&f, p, f.batch.n_rows);
            lt_real *tree = fix_zeros(&f, f.batch.n_rows * d, sizeof *tree);
            memcpy(tree, attend(&f, p, t, 0), f.batch.n_rows * d * sizeof *tree);
            for (size_t c = 0; c < LT_COUNTOF(texts); c++) {
                tensors text = random_tensors(&f, p, 600);
                size_t n = 0, last = 0;
                for (size_t j = 0; j < texts[c].n; j++, n += piece[last].n) {
                    last = texts[c].pieces[j];
                    memcpy(text.q + n * dq, t.q + piece[last].row * dq, piece[last].n * dq * sizeof *t.q);
                    memcpy(text.k + n * dk, t.k + piece[last].row * dk, piece[last].n * dk * sizeof *t.k);
                    memcpy(text.v + n * dv, t.v + piece[last].row * dv, piece[last].n * dv * sizeof *t.v);
                }
                fix_batch(&f, (const size_t[]){ n, SIZE_MAX });
                f.piece[0].pos0 = 0;
                const lt_real *flat = attend(&f, p, text, 0);
                assert_close(tree + piece[last].row * d, flat + (n - piece[last].n) * d, piece[last].n * d, bound, 0);
            }
            fix_close(&f);
        }
}

/* The uniform mean of equal keys; a window of one sees only itself. */
static void known_answers(void **state) {
    (void)state;
    fixture f;
    fix_open(&f, 1, (lt_exec_opts){ 0 }, 0);
    fix_batch(&f, LENGTHS(20));
    lt_attn_params p = { 0, 2, 1, 4, 1, 1, 0, 0 };
    tensors t = random_tensors(&f, &p, 20);
    memset(t.k, 0, 20 * 4 * sizeof *t.k);
    for (size_t i = 0; i < 20; i++) t.v[i] = (lt_real)i;
    const lt_real *out = attend(&f, &p, t, 0);
    for (size_t i = 0; i < 40; i++) assert_true(fabs((double)out[i] - (double)(i / 2) / 2) < 1e-5);
    p.window = 1;
    out = attend(&f, &p, t, 0);
    for (size_t i = 0; i < 40; i++) assert_true(out[i] == (lt_real)(i / 2));
    fix_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_the_formula),
        cmocka_unit_test(a_piece_gives_the_same_bytes_alone_and_packed),
        cmocka_unit_test(chunks_on_a_past_equal_one_pass),
        cmocka_unit_test(pieces_with_parents_equal_the_unrolled_texts),
        cmocka_unit_test(known_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
