/* SPDX-License-Identifier: Apache-2.0 */
/* Products against plain sums in double; the same bytes for 1, 2, 3 threads. */
#include "linalg/gemm.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linalg/teams_test.h"

/* ---- plain products ---- */

typedef struct shape {
    size_t m, n, k;
} shape;
static const shape shapes[] = { { 1, 1, 1 },   { 3, 5, 7 },     { 17, 1, 33 },    { 1, 40, 9 },     { 64, 64, 64 },
                                { 65, 31, 2 }, { 130, 97, 50 }, { 600, 70, 300 }, { 520, 576, 192 } };

static void check_f32(lt_team *team, shape s, bool ta, bool tb, float alpha, float beta, float *c) {
    const size_t lda = (ta ? s.m : s.k) + 3, ldb = (tb ? s.k : s.n) + 1, ldc = s.n + 2;
    float *a = normal(1, (ta ? s.k : s.m) * lda), *b = normal(2, (tb ? s.n : s.k) * ldb), *c0 = normal(3, s.m * ldc);
    memcpy(c, c0, s.m * ldc * sizeof *c);
    lt_gemm_f32(team, ta, tb, s.m, s.n, s.k, alpha, a, lda, b, ldb, beta, c, ldc);
    for (size_t i = 0; i < s.m; i++)
        for (size_t j = 0; j < ldc; j++) {
            double sum = 0.0, size = 0.0;
            for (size_t q = 0; q < s.k && j < s.n; q++) {
                const double t =
                    (double)(ta ? a[q * lda + i] : a[i * lda + q]) * (tb ? b[j * ldb + q] : b[q * ldb + j]);
                sum += t;
                size += fabs(t);
            }
            const double old = c0[i * ldc + j], want = j < s.n ? alpha * sum + beta * old : old;
            if (fabs(c[i * ldc + j] - want) > FLT_EPSILON * ((4.0 + sqrt((double)s.k)) * size + fabs(old)))
                fail_msg("%zu x %zu x %zu ta %d tb %d at %zu, %zu: %g, not %g", s.m, s.n, s.k, ta, tb, i, j,
                         (double)c[i * ldc + j], want);
        }
    lt_free(a);
    lt_free(b);
    lt_free(c0);
}

static void products_match_plain_sums(void **state) {
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(shapes); i++)
        for (int form = 0; form < 4; form++) {
            float *c = lt_malloc(shapes[i].m * (shapes[i].n + 2) * sizeof *c);
            check_f32(teams[1], shapes[i], form & 1, form & 2, 1.0f, 0.0f, c);
            check_f32(teams[1], shapes[i], form & 1, form & 2, -0.5f, 2.0f, c);
            lt_free(c);
        }
}

static void products_are_the_same_bytes_for_any_threads(void **state) {
    (void)state;
    const size_t m = 700, n = 1100, k = 300;
    float *a = normal(4, m * k), *b = normal(5, n * k), *c[3];
    for (int t = 0; t < 3; t++) {
        c[t] = lt_calloc(m * n, sizeof(float));
        lt_gemm_f32(teams[t], false, true, m, n, k, 1.0f, a, k, b, k, 0.0f, c[t], n);
        assert_memory_equal(c[t], c[0], m * n * sizeof(float));
    }
    for (int t = 0; t < 3; t++) lt_free(c[t]);
    lt_free(a);
    lt_free(b);
}

/* The form for parallel regions: few rows, ragged columns, long inner dimensions. */
static void serial_products_match_plain_sums(void **state) {
    (void)state;
    static const shape small[] = { { 1, 1, 1 },    { 2, 64, 64 },    { 7, 17, 300 },
                                   { 64, 96, 64 }, { 33, 100, 600 }, { 192, 70, 65 } };
    for (size_t i = 0; i < LT_COUNTOF(small); i++)
        for (int form = 0; form < 4; form++) {
            const bool ta = form & 1, tb = form & 2;
            const size_t m = small[i].m, n = small[i].n, k = small[i].k, lda = ta ? m : k, ldb = tb ? k : n,
                         ldc = n + 1;
            float *a = normal(1, m * k), *b = normal(2, n * k), *c = normal(3, m * ldc), *d = normal(3, m * ldc);
            lt_gemm_f32_serial(ta, tb, m, n, k, 1.5f, a, lda, b, ldb, 0.5f, c, ldc);
            for (size_t r = 0; r < m; r++)
                for (size_t j = 0; j < ldc; j++) {
                    double sum = 0.0, size = 0.0;
                    for (size_t q = 0; q < k && j < n; q++) {
                        const double t =
                            1.5 * (ta ? a[q * lda + r] : a[r * lda + q]) * (tb ? b[j * ldb + q] : b[q * ldb + j]);
                        sum += t;
                        size += fabs(t);
                    }
                    const double old = d[r * ldc + j], want = j < n ? sum + 0.5 * old : old;
                    assert_true(fabs(c[r * ldc + j] - want) <=
                                FLT_EPSILON * ((4.0 + sqrt((double)k)) * size + fabs(old)));
                }
            lt_free(a);
            lt_free(b);
            lt_free(c);
            lt_free(d);
        }
}

/* With register tiles a row's result does not depend on the rows beside it, as long as they are many. */
static void rows_do_not_depend_on_their_company(void **state) {
    (void)state;
    const size_t n = 300, size[2] = { 130, 900 };
    if (!teams[0]->k->tile) return;
    lt_buffer b = { .bytes = size[0] * size[1] * 2 };
    float *wide = normal(9, size[0] * size[1]), *x = normal(10, n * size[1]), *all = normal(11, n * size[0]),
          *some = normal(12, n * size[0]);
    b.data = lt_malloc(b.bytes);
    lt_dtype_get(LT_BF16)->from_f32(b.data, wide, size[0] * size[1]);
    const lt_tensor w = lt_tensor_dense(LT_BF16, 2, size, &b, 0);
    lt_matmul_wt(teams[1], all, size[0], x, size[1], n, &w, false, false);
    lt_matmul_wt(teams[1], some, size[0], x + 13 * size[1], size[1], 21, &w, false, false);
    assert_memory_equal(some, all + 13 * size[0], 21 * size[0] * sizeof *all);
    lt_free(b.data);
    lt_free(wide);
    lt_free(x);
    lt_free(all);
    lt_free(some);
}

static void f64_products_match_plain_sums(void **state) {
    (void)state;
    const size_t m = 90, n = 70, k = 80;
    double *a = lt_malloc(m * k * sizeof *a), *b = lt_malloc(n * k * sizeof *b), *c = lt_calloc(m * n, sizeof *c);
    lt_rng r = test_rng(6);
    test_fill_normal_f64(a, m * k, &r);
    test_fill_normal_f64(b, n * k, &r);
    for (int form = 0; form < 4; form++) {
        const bool ta = form & 1, tb = form & 2;
        lt_gemm_f64(teams[2], ta, tb, m, n, k, 2.0, a, ta ? m : k, b, tb ? k : n, 0.0, c, n);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0.0;
                for (size_t q = 0; q < k; q++)
                    sum += 2.0 * (ta ? a[q * m + i] : a[i * k + q]) * (tb ? b[j * k + q] : b[q * n + j]);
                assert_true(fabs(c[i * n + j] - sum) <= 1e-12);
            }
    }
    lt_free(a);
    lt_free(b);
    lt_free(c);
}

static void empty_products_touch_nothing(void **state) {
    (void)state;
    float c[4] = { 1, 2, 3, 4 };
    lt_gemm_f32(teams[1], false, false, 0, 2, 2, 1.0f, c, 2, c, 2, 0.0f, c, 2);
    lt_gemm_f32(teams[1], false, false, 2, 0, 2, 1.0f, c, 2, c, 2, 0.0f, c, 2);
    assert_true(c[0] == 1 && c[3] == 4);
    const float x[2] = { 5, 6 };
    lt_gemm_f32(teams[1], false, false, 2, 2, 0, 1.0f, x, 1, x, 2, 0.0f, c, 2); /* an empty sum */
    assert_true(c[0] == 0 && c[3] == 0);
}

/* ---- stored weights ---- */

/* rows x cols of type t; blocks of types nobody writes get random bytes under small scales */
static lt_buffer stored(lt_dtype t, size_t count, uint32_t index) {
    const lt_dtype_row *row = lt_dtype_get(t);
    lt_buffer b = { .bytes = count / row->block * row->bytes };
    uint8_t *w = b.data = lt_malloc(b.bytes);
    assert_non_null(w);
    lt_rng r = test_rng(index);
    if (row->from_f32) {
        float *x = normal(index, count);
        row->from_f32(w, x, count);
        lt_free(x);
        return b;
    }
    for (size_t i = 0; i < b.bytes; i++) w[i] = (uint8_t)lt_rng_u32(&r);
    const uint16_t d = lt_f32_to_f16(0.004f), m = lt_f32_to_f16(-0.1f);
    for (size_t i = 0; i < b.bytes; i += row->bytes) {
        memcpy(w + i + (t == LT_Q6_K ? 208 : 0), &d, 2);
        if (t == LT_Q4_1 || t == LT_Q5_1 || t == LT_Q4_K || t == LT_Q5_K) memcpy(w + i + 2, &m, 2);
    }
    return b;
}

typedef void matmul(lt_team *, float *, size_t, const float *, size_t, size_t, const lt_tensor *, bool, bool);

/* One product for all teams against plain sums. transposed: each row of w is an output. */
static void check_stored(matmul *f, const lt_tensor *w, bool flag, bool by_rows, size_t n, bool add) {
    const size_t rows = lt_tensor_rows(w), cols = lt_tensor_cols(w), out = by_rows ? rows : cols,
                 in = by_rows ? cols : rows;
    const size_t ldx = in + 5, ldy = out + 2;
    float *x = normal(7, n * ldx), *y0 = normal(8, n * ldy), *first = NULL,
          *wide = lt_malloc(rows * cols * sizeof *wide);
    for (size_t r = 0; r < rows; r++) lt_tensor_row_f32(wide + r * cols, w, r, 0, cols);
    for (int t = 0; t < 3; t++) {
        float *y = lt_malloc(n * ldy * sizeof *y);
        memcpy(y, y0, n * ldy * sizeof *y);
        f(teams[t], y, ldy, x, ldx, n, w, flag, add);
        if (first) assert_memory_equal(y, first, n * ldy * sizeof *y);
        for (size_t i = 0; i < n && !first; i++)
            for (size_t o = 0; o < ldy; o++) {
                double sum = 0.0, size = 0.0;
                for (size_t q = 0; q < in && o < out; q++) {
                    const double p = (double)x[i * ldx + q] * (by_rows ? wide[o * cols + q] : wide[q * cols + o]);
                    sum += p;
                    size += fabs(p);
                }
                const double old = y0[i * ldy + o], want = o >= out ? old : add ? old + sum : sum;
                if (fabs(y[i * ldy + o] - want) > FLT_EPSILON * ((4.0 + sqrt((double)in)) * size + fabs(old)))
                    fail_msg("%s n %zu at %zu, %zu: %g, not %g", lt_dtype_get(w->dtype)->name, n, i, o,
                             (double)y[i * ldy + o], want);
            }
        if (first)
            lt_free(y);
        else
            first = y;
    }
    lt_free(first);
    lt_free(x);
    lt_free(y0);
    lt_free(wide);
}

static const size_t row_counts[] = { 1, 3, 8, 9, 40 };

static void weights_of_every_dtype_multiply(void **state) {
    (void)state;
    for (int t = 0; t < LT_N_DTYPES; t++) {
        const size_t size[2] = { 67, 512 };
        if (!lt_dtype_get((lt_dtype)t)->is_float) continue;
        lt_buffer b = stored((lt_dtype)t, size[0] * size[1], 20 + (uint32_t)t);
        const lt_tensor w = lt_tensor_dense((lt_dtype)t, 2, size, &b, 0);
        for (size_t i = 0; i < LT_COUNTOF(row_counts); i++) {
            check_stored(lt_matmul_wt, &w, false, true, row_counts[i], i % 2);
            check_stored(lt_matmul_wt, &w, true, false, row_counts[i], i % 2);
            check_stored(lt_matmul_w, &w, false, false, row_counts[i], false);
            check_stored(lt_matmul_w, &w, true, true, row_counts[i], true);
        }
        lt_free(b.data);
    }
}

static void ragged_shapes_multiply(void **state) {
    (void)state;
    static const size_t ragged[][2] = { { 1, 1 }, { 3, 5 }, { 33, 17 }, { 1, 700 }, { 700, 1 }, { 300, 130 } };
    for (size_t s = 0; s < LT_COUNTOF(ragged); s++) {
        lt_buffer b = stored(LT_BF16, ragged[s][0] * ragged[s][1], 50);
        const lt_tensor w = lt_tensor_dense(LT_BF16, 2, ragged[s], &b, 0);
        for (size_t i = 0; i < LT_COUNTOF(row_counts); i++) {
            check_stored(lt_matmul_wt, &w, false, true, row_counts[i], false);
            check_stored(lt_matmul_wt, &w, true, false, row_counts[i], false);
        }
        lt_free(b.data);
    }
}

/* Rows of a GGUF's rotary order: stored [heads, half, 2, in], seen as [heads, 2, half, in]. */
static void permuted_rows_multiply(void **state) {
    (void)state;
    static const lt_dtype types[] = { LT_F32, LT_BF16, LT_Q8_0 };
    for (size_t k = 0; k < LT_COUNTOF(types); k++) {
        const size_t heads = 3, half = 8, in = 64, size[4] = { heads, 2, half, in };
        lt_buffer b = stored(types[k], heads * 2 * half * in, 60);
        lt_tensor w = lt_tensor_dense(types[k], 4, size, &b, 0);
        w.stride[1] = in;
        w.stride[2] = 2 * in;
        for (size_t i = 0; i < LT_COUNTOF(row_counts); i++) {
            check_stored(lt_matmul_wt, &w, false, true, row_counts[i], false);
            check_stored(lt_matmul_w, &w, false, false, row_counts[i], true);
        }
        lt_free(b.data);
    }
}

/* A column slice of a wider matrix, rows a fixed distance apart. */
static void slices_multiply(void **state) {
    (void)state;
    const size_t size[2] = { 40, 300 };
    lt_buffer b = stored(LT_F32, 40 * 300, 70);
    lt_tensor w = lt_tensor_dense(LT_F32, 2, size, &b, 0);
    w.size[1] = 200;
    w.offset = 64 * sizeof(float);
    for (size_t i = 0; i < LT_COUNTOF(row_counts); i++)
        check_stored(lt_matmul_wt, &w, false, true, row_counts[i], true);
    lt_free(b.data);
}

/* More weights than fit a thread's scratch: the inner dimension goes in steps. */
static void long_inner_dimensions_multiply(void **state) {
    (void)state;
    const size_t size[2] = { 40, 70000 };
    lt_buffer b = stored(LT_BF16, size[0] * size[1], 71);
    const lt_tensor w = lt_tensor_dense(LT_BF16, 2, size, &b, 0);
    check_stored(lt_matmul_wt, &w, false, true, 12, true);
    check_stored(lt_matmul_w, &w, false, false, 12, false);
    lt_free(b.data);
    const size_t tall[2] = { 70000, 40 };
    b = stored(LT_BF16, size[0] * size[1], 72);
    const lt_tensor v = lt_tensor_dense(LT_BF16, 2, tall, &b, 0);
    check_stored(lt_matmul_w, &v, false, false, 12, false);
    lt_free(b.data);
}

/* ---- statistics ---- */

static void gram_is_the_sum_of_outer_products(void **state) {
    (void)state;
    static const size_t sizes[][2] = { { 1, 1 }, { 5, 3 }, { 700, 40 }, { 1100, 193 }, { 130, 577 }, { 9, 3100 } };
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
        const size_t n = sizes[s][0], d = sizes[s][1], ldx = d + 3, count = d * (d + 1) / 2;
        float *x = normal(80, n * ldx);
        double *acc[3];
        for (int t = 0; t < 3; t++) {
            acc[t] = lt_malloc(count * sizeof(double));
            for (size_t i = 0; i < count; i++) acc[t][i] = 0.5;
            lt_gram_add(teams[t], acc[t], x, ldx, n, d);
            assert_memory_equal(acc[t], acc[0], count * sizeof(double));
        }
        for (size_t i = 0, at = 0; i < d; i++)
            for (size_t j = 0; j <= i; j++, at++) {
                double sum = 0.5, size = 0.0;
                for (size_t r = 0; r < n; r++) {
                    sum += (double)x[r * ldx + i] * x[r * ldx + j];
                    size += fabs((double)x[r * ldx + i] * x[r * ldx + j]);
                }
                assert_true(fabs(acc[0][at] - sum) <= FLT_EPSILON * 24.0 * size + 1e-15);
            }
        for (int t = 0; t < 3; t++) lt_free(acc[t]);
        lt_free(x);
    }
}

static void column_sums_are_f64_in_row_order(void **state) {
    (void)state;
    const size_t n = 300, d = 700, ldx = 703;
    float *x = normal(81, n * ldx);
    double *sum = lt_calloc(d, sizeof *sum), *abs = lt_calloc(d, sizeof *abs), *square = lt_calloc(d, sizeof *square);
    lt_column_sums_add(teams[1], sum, abs, NULL, x, ldx, n, d);
    lt_column_sums_add(teams[2], sum, NULL, square, x, ldx, n, d);
    for (size_t j = 0; j < d; j++) {
        double s = 0.0, a = 0.0, q = 0.0;
        for (size_t pass = 0; pass < 2; pass++)
            for (size_t i = 0; i < n; i++) {
                const double v = x[i * ldx + j];
                s += v;
                a += pass ? 0.0 : fabs(v);
                q += pass ? v * v : 0.0;
            }
        assert_true(sum[j] == s && abs[j] == a && square[j] == q);
    }
    lt_free(x);
    lt_free(sum);
    lt_free(abs);
    lt_free(square);
}

static void packing_round_trips(void **state) {
    (void)state;
    static const size_t sizes[] = { 1, 4, 31, 32, 33, 77, 128 };
    for (size_t k = 0; k < LT_COUNTOF(sizes); k++) {
        const size_t n = sizes[k], packed_n = n * (n + 1) / 2;
        double *packed = lt_calloc(packed_n, sizeof *packed), *full = lt_calloc(n * n, sizeof *full),
               *again = lt_calloc(packed_n, sizeof *again);
        for (size_t i = 0; i < packed_n; i++) packed[i] = (double)i + 1.0;
        lt_unpack_lower(full, packed, n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j <= i; j++)
                assert_true(full[i * n + j] == packed[i * (i + 1) / 2 + j] && full[j * n + i] == full[i * n + j]);
        lt_pack_lower(again, full, n);
        assert_memory_equal(packed, again, packed_n * sizeof *packed);
        lt_free(packed);
        lt_free(full);
        lt_free(again);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_plain_sums),
        cmocka_unit_test(products_are_the_same_bytes_for_any_threads),
        cmocka_unit_test(serial_products_match_plain_sums),
        cmocka_unit_test(rows_do_not_depend_on_their_company),
        cmocka_unit_test(f64_products_match_plain_sums),
        cmocka_unit_test(empty_products_touch_nothing),
        cmocka_unit_test(weights_of_every_dtype_multiply),
        cmocka_unit_test(ragged_shapes_multiply),
        cmocka_unit_test(permuted_rows_multiply),
        cmocka_unit_test(slices_multiply),
        cmocka_unit_test(long_inner_dimensions_multiply),
        cmocka_unit_test(gram_is_the_sum_of_outer_products),
        cmocka_unit_test(column_sums_are_f64_in_row_order),
        cmocka_unit_test(packing_round_trips),
    };
    int failed = 0;
    RUN_ON_EVERY_TABLE(tests, failed)
    return failed;
}
