/* SPDX-License-Identifier: Apache-2.0 */
/* Float ops against their formulas in double. Bounds: a few eps (6e-8) of the largest terms for ops without sums; for
 * sums of k products of numbers near 1, 8 eps sqrt(k) absolute; logits that reach 20 carry 20 eps into a
 * log-likelihood. */
#include "nn/fixture.h"

static void begin(fixture *f, const size_t *lengths, uint32_t seed) {
    fix_open(f, 2, (lt_exec_opts){ 0 }, seed);
    fix_batch(f, lengths);
    lt_exec_begin(f->x, &f->batch);
}

static void check(fixture *f, lt_var out, const double *want, double atol, double rtol) {
    lt_err err = { 0 };
    assert_ok(lt_exec_status(f->x, &err), &err);
    const size_t n = lt_rows(f->x, out) * lt_cols(f->x, out);
    float *narrow = fix_zeros(f, n, sizeof *narrow);
    for (size_t i = 0; i < n; i++) narrow[i] = (float)want[i];
    assert_close(lt_data(f->x, out), narrow, n, atol, rtol);
    fix_close(f);
}

static lt_var input(fixture *f, const lt_real *v, size_t cols) {
    return lt_input(f->x, f->batch.n_rows, cols, v, false);
}

static float element(const lt_tensor *t, size_t r, size_t c) {
    float row[4200];
    lt_tensor_row_f32(row, t, r, 0, lt_tensor_cols(t));
    return row[c];
}

static const lt_dtype dtypes[] = { LT_F32, LT_BF16, LT_F16, LT_Q8_0 };

static void embed_takes_rows_of_any_dtype(void **state) {
    (void)state;
    for (size_t k = 0; k < LT_COUNTOF(dtypes); k++) {
        fixture f;
        begin(&f, LENGTHS(5, 1), (uint32_t)k);
        fix_ids(&f, 9);
        lt_param table = fix_param_as(&f, "table", dtypes[k], 9, 64, 1);
        double *want = fix_zeros(&f, 6 * 64, sizeof *want);
        for (size_t i = 0; i < 6 * 64; i++)
            want[i] = (double)(2.5f * element(&table.t, (size_t)f.batch.ids[i / 64], i % 64));
        check(&f, lt_embed(f.x, &table, 2.5), want, 0, 0);
    }
}

static void norms_follow_the_formula(void **state) {
    (void)state;
    static const struct {
        lt_norm_kind kind;
        size_t d, group;
        lt_dtype dt;
    } row[] = {
        { LT_NORM_RMS, 576, 0, LT_F32 },      { LT_NORM_RMS, 1, 0, LT_F32 },     { LT_NORM_RMS, 96, 32, LT_BF16 },
        { LT_NORM_RMS_PLUS1, 33, 0, LT_F32 }, { LT_NORM_LAYER, 127, 0, LT_F32 }, { LT_NORM_LAYER, 64, 64, LT_F16 },
    };
    for (size_t k = 0; k < LT_COUNTOF(row); k++) {
        fixture f;
        begin(&f, LENGTHS(7, 60), (uint32_t)k);
        const size_t d = row[k].d, g = row[k].group ? row[k].group : d, n = f.batch.n_rows;
        lt_norm_params p = { .kind = row[k].kind, .eps = 1e-5, .w = fix_param_as(&f, "w", row[k].dt, 0, g, 1) };
        if (p.kind == LT_NORM_LAYER) p.b = fix_param_as(&f, "b", row[k].dt, 0, g, 1);
        const lt_real *v = fix_normal(&f, n * d, 3);
        double *want = fix_zeros(&f, n * d, sizeof *want);
        for (size_t i = 0; i < n * d; i += g) {
            double mean = 0, power = 0;
            for (size_t c = 0; c < g; c++) mean += (double)v[i + c] / (double)g;
            if (p.kind != LT_NORM_LAYER) mean = 0;
            for (size_t c = 0; c < g; c++) power += (v[i + c] - mean) * (v[i + c] - mean) / (double)g;
            for (size_t c = 0; c < g; c++) {
                const double w = (p.kind == LT_NORM_RMS_PLUS1) + (double)element(&p.w.t, 0, c);
                want[i + c] =
                    w * (v[i + c] - mean) / sqrt(power + p.eps) + (p.b.name ? (double)element(&p.b.t, 0, c) : 0);
            }
        }
        check(&f, lt_norm(f.x, input(&f, v, d), &p, row[k].group), want, 1e-6, 1e-6);
    }
}

static double act_of(lt_act a, double x) {
    switch (a) {
    case LT_ACT_SILU:
        return x / (1 + exp(-x));
    case LT_ACT_GELU:
        return 0.5 * x * erfc(-x * sqrt(0.5));
    case LT_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    default:
        return x > 0 ? x : 0;
    }
}

/* far out as well: -100 .. 100, where exp leaves float */
static void activations_follow_the_formula(void **state) {
    (void)state;
    for (int a = 0; a < LT_N_ACTS; a++)
        for (int gated = 0; gated < 2; gated++) {
            fixture f;
            begin(&f, LENGTHS(3, 1), (uint32_t)a);
            const size_t n = f.batch.n_rows * 1001;
            lt_real *x = fix_normal(&f, n, 2), *u = fix_normal(&f, n, 1);
            for (size_t i = 0; i < 1001; i++) x[i] = (lt_real)(-100 + 0.2 * (double)i);
            double *want = fix_zeros(&f, n, sizeof *want);
            for (size_t i = 0; i < n; i++) want[i] = act_of((lt_act)a, x[i]) * (gated ? u[i] : 1);
            const lt_var in = input(&f, x, 1001);
            check(&f, gated ? lt_gated(f.x, in, input(&f, u, 1001), (lt_act)a) : lt_activate(f.x, in, (lt_act)a), want,
                  1e-7, 1e-6);
        }
}

static void rope_turns_by_position(void **state) {
    (void)state;
    static const double inv_freq[] = { 1, 0.17, 0.03, 0.002 };
    for (int k = 0; k < 4; k++) {
        const bool inter = k & 1;
        const size_t heads = 3, dim = 11, nf = k < 2 ? 4 : 2;
        fixture f;
        begin(&f, LENGTHS(40, 1, 3), (uint32_t)k);
        f.piece[1].pos0 = 100000;
        const size_t n = f.batch.n_rows;
        const lt_real *x = fix_normal(&f, n * heads * dim, 1);
        double *want = fix_zeros(&f, n * heads * dim, sizeof *want);
        for (size_t i = 0; i < n * heads * dim; i++) want[i] = x[i];
        for (size_t p = 0; p < f.batch.n_pieces; p++)
            for (size_t i = 0; i < f.piece[p].n * heads; i++)
                for (size_t c = 0; c < nf; c++) {
                    const double t = (double)(f.piece[p].pos0 + i / heads) * inv_freq[c];
                    const size_t at = (f.piece[p].row * heads + i) * dim, a = at + (inter ? 2 * c : c),
                                 b = at + (inter ? 2 * c + 1 : c + nf);
                    want[a] = 1.5 * (x[a] * cos(t) - x[b] * sin(t));
                    want[b] = 1.5 * (x[b] * cos(t) + x[a] * sin(t));
                }
        const lt_rope_table *t = lt_rope_prepare(f.x, inv_freq, nf, 1.5);
        assert_ptr_equal(t, lt_rope_prepare(f.x, inv_freq, nf, 1.5)); /* one table for all layers */
        check(&f, lt_rope(f.x, input(&f, x, heads * dim), t, heads, dim, inter), want, 1e-6, 0);
    }
}

static void add_and_take_are_exact(void **state) {
    (void)state;
    static const size_t index[] = { 3, 0, 3 };
    for (int k = 0; k < 3; k++) {
        fixture f;
        begin(&f, LENGTHS(4), (uint32_t)k);
        const lt_real *a = fix_normal(&f, 4 * 5000, 1), *b = fix_normal(&f, 4 * 5000, 1);
        double *want = fix_zeros(&f, 4 * 5000, sizeof *want);
        const lt_var va = input(&f, a, 5000), vb = input(&f, b, 5000);
        for (size_t i = 0; i < 4 * 5000; i++)
            want[i] = k == 0   ? (double)(a[i] + b[i])
                      : k == 1 ? a[index[i / 5000 % 3] * 5000 + i % 5000]
                               : a[i / 100 % 4 * 5000 + 4900 + i % 100];
        check(&f,
              k == 0   ? lt_add(f.x, va, vb)
              : k == 1 ? lt_take_rows(f.x, va, index, 3)
                       : lt_take_cols(f.x, va, 4900, 100),
              want, 0, 0);
    }
}

/* stage of a linear in double, from the stored numbers */
static double *naive_stage(fixture *f, const lt_stage *s, const double *x, size_t n) {
    const size_t rows = lt_tensor_rows(&s->w.t), cols = lt_tensor_cols(&s->w.t), in = s->in_out ? rows : cols,
                 out = s->in_out ? cols : rows;
    double *y = fix_zeros(f, n * out, sizeof *y), *w = fix_zeros(f, rows * cols, sizeof *w);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++) w[s->in_out ? c * in + r : r * in + c] = (double)element(&s->w.t, r, c);
    for (size_t a = 0; a < s->n_adapters; a++) {
        const lt_adapter *ad = &s->adapters[a];
        for (size_t o = 0; o < out; o++)
            for (size_t i = 0; i < in; i++)
                for (size_t q = 0; q < lt_tensor_rows(&ad->a.t); q++)
                    w[o * in + i] += ad->scale * (double)element(&ad->b.t, o, q) * (double)element(&ad->a.t, q, i);
    }
    for (size_t r = 0; r < n; r++)
        for (size_t o = 0; o < out; o++)
            for (size_t i = 0; i < in; i++) y[r * out + o] += x[r * in + i] * w[o * in + i];
    return y;
}

static double *naive_linear(fixture *f, const lt_linear *l, const lt_real *x, double scale) {
    const size_t n = f->batch.n_rows, out = lt_linear_out(l);
    double *y = fix_zeros(f, n * lt_linear_in(l), sizeof *y);
    for (size_t i = 0; i < n * lt_linear_in(l); i++) y[i] = x[i];
    for (int i = 0; i < l->n_stages; i++) y = naive_stage(f, &l->stage[i], y, n);
    for (size_t i = 0; i < n * out; i++)
        y[i] = scale * (y[i] + (l->bias.name ? (double)element(&l->bias.t, 0, i % out) : 0));
    return y;
}

static const struct {
    const char *what;
    size_t in, out, rank;
} linears[] = {
    { "b", 33, 65, 0 }, { "t", 64, 96, 0 }, { "2 b", 64, 70, 20 }, { "a b", 40, 30, 0 }, { "2 a t", 64, 40, 12 },
};

static void linears_follow_the_formula(void **state) {
    (void)state;
    const size_t *const counts[] = { LENGTHS(1), LENGTHS(8), LENGTHS(9), LENGTHS(20, 13) };
    for (size_t k = 0; k < LT_COUNTOF(linears); k++)
        for (size_t r = 0; r < LT_COUNTOF(counts); r++) {
            fixture f;
            begin(&f, counts[r], (uint32_t)(10 * k + r));
            const lt_linear l = fix_linear(&f, linears[k].what, linears[k].in, linears[k].out, linears[k].rank);
            assert_int_equal(lt_linear_in(&l), linears[k].in);
            assert_int_equal(lt_linear_out(&l), linears[k].out);
            assert_int_equal(lt_linear_rank(&l), linears[k].rank);
            const lt_real *x = fix_normal(&f, f.batch.n_rows * linears[k].in, 1);
            const double *want = naive_linear(&f, &l, x, r == 3 ? 0.25 : 1);
            const lt_var in = input(&f, x, linears[k].in);
            check(&f, r == 3 ? lt_logits(f.x, in, &l, 0.25) : lt_linear_fwd(f.x, in, &l), want, 1e-5, 1e-5);
        }
}

static void weights_may_be_of_any_dtype(void **state) {
    (void)state;
    const size_t *const counts[] = { LENGTHS(1), LENGTHS(40) };
    for (size_t k = 0; k < 4 * LT_COUNTOF(dtypes); k++) {
        fixture f;
        begin(&f, counts[k / 4 % 2], (uint32_t)k);
        lt_linear l = { .name = "l",
                        .n_stages = 1,
                        .stage = { { .in_out = k >= 8, .w = fix_param_as(&f, "w", dtypes[k % 4], 96, 64, 0.5) } } };
        const size_t in = lt_linear_in(&l);
        const lt_real *x = fix_normal(&f, f.batch.n_rows * in, 1);
        const double *want = naive_linear(&f, &l, x, 1);
        check(&f, lt_linear_fwd(f.x, input(&f, x, in), &l), want, 1e-5, 1e-5);
    }
}

/* vocabularies of one and of several tiles, tokens of one and of two chunks */
static void head_nll_is_the_log_softmax_of_the_logits(void **state) {
    (void)state;
    static const struct {
        const char *what;
        size_t n, in, vocab, rank;
        double scale;
    } row[] = {
        { "b", 1, 8, 7, 0, 1 },    { "", 5, 16, 4100, 0, 0.5 }, { "2 b", 9, 16, 2048, 6, 1 },
        { "t", 3, 8, 2049, 0, 1 }, { "a", 1030, 4, 5, 0, 2 },
    };
    for (size_t k = 0; k < LT_COUNTOF(row); k++) {
        fixture f;
        begin(&f, LENGTHS(row[k].n), (uint32_t)k);
        const lt_linear l = fix_linear(&f, row[k].what, row[k].in, row[k].vocab, row[k].rank);
        const lt_real *x = fix_normal(&f, row[k].n * row[k].in, 1);
        const double *logits = naive_linear(&f, &l, x, row[k].scale);
        int32_t *target = fix_zeros(&f, row[k].n, sizeof *target), *best = fix_zeros(&f, row[k].n, sizeof *best),
                *want_best = fix_zeros(&f, row[k].n, sizeof *best);
        double *want = fix_zeros(&f, row[k].n, sizeof *want);
        for (size_t i = 0; i < row[k].n; i++) {
            const double *v = logits + i * row[k].vocab;
            double z = 0;
            for (size_t c = 0; c < row[k].vocab; c++) {
                z += exp(v[c]);
                if (v[c] > v[want_best[i]]) want_best[i] = (int32_t)c;
            }
            target[i] = i % 4 == 2 ? -1 : (int32_t)lt_rng_below(&f.rng, row[k].vocab);
            want[i] = target[i] < 0 ? 0 : log(z) - v[target[i]];
        }
        const lt_var nll = lt_head_nll(f.x, input(&f, x, row[k].in), &l, row[k].scale, target, best);
        for (size_t i = 0; i < row[k].n; i++) assert_int_equal(best[i], want_best[i]);
        check(&f, nll, want, 1e-5, 1e-6);
    }
}

static void ties_go_to_the_smallest_id(void **state) {
    (void)state;
    fixture f;
    begin(&f, LENGTHS(1), 1);
    lt_linear l = fix_linear(&f, "", 4, 5000, 0);
    for (size_t i = 0; i < 4 * 5000; i++)
        fix_values(&l.stage[0].w)[i] = i / 4 == 2100 || i / 4 == 2101 || i / 4 == 4999 ? 1 : 0;
    const lt_real x[] = { 1, 1, 1, 1 };
    int32_t best = -1;
    const double want = log(3 * exp(4) + 4997) - 4;
    const lt_var nll = lt_head_nll(f.x, input(&f, x, 4), &l, 1, (const int32_t[]){ 4999 }, &best);
    assert_int_equal(best, 2100);
    check(&f, nll, &want, 1e-6, 1e-6);
}

static void a_logit_that_is_not_finite_gives_inf(void **state) {
    (void)state;
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t k = 0; k < 3; k++) {
        fixture f;
        begin(&f, LENGTHS(2), 1);
        lt_linear l = fix_linear(&f, "b", 4, 3000, 0);
        lt_real *x = fix_normal(&f, 8, 1);
        memset(x + 4, 0, 4 * sizeof *x);
        fix_values(&l.bias)[2500] = bad[k];
        const lt_var nll = lt_head_nll(f.x, input(&f, x, 4), &l, 1, (const int32_t[]){ 5, -1 }, NULL);
        const double want[] = { INFINITY, 0 };
        check(&f, nll, want, 0, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embed_takes_rows_of_any_dtype),  cmocka_unit_test(norms_follow_the_formula),
        cmocka_unit_test(activations_follow_the_formula), cmocka_unit_test(rope_turns_by_position),
        cmocka_unit_test(add_and_take_are_exact),         cmocka_unit_test(linears_follow_the_formula),
        cmocka_unit_test(weights_may_be_of_any_dtype),    cmocka_unit_test(head_nll_is_the_log_softmax_of_the_logits),
        cmocka_unit_test(ties_go_to_the_smallest_id),     cmocka_unit_test(a_logit_that_is_not_finite_gives_inf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
