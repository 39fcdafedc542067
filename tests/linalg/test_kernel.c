/* SPDX-License-Identifier: Apache-2.0 */
/* Every table this CPU can run against ref: ragged sizes, unaligned pointers, every storage dtype. */
#include "linalg/kernel.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/support.h"

enum { MOST = 2048 + 256, ROWS = 8 };
static const size_t sizes[] = { 0,  1,  2,   3,   4,   5,   7,   8,   9,   15,  16,  17,  31,   32,   33,   63,
                                64, 65, 127, 192, 255, 256, 257, 511, 512, 513, 576, 768, 1000, 1536, 2048, 2065 };

static const lt_kernels *ref(void) {
    return lt_kernels_get("ref");
}

/* A test body for each fast table. */
static void each_table(void (*body)(const lt_kernels *k)) {
    const lt_kernels *k;
    for (size_t i = 0; (k = lt_kernels_at(i)); i++) body(k);
}

static float *normal(uint32_t index, size_t n) { /* starts one float past an aligned address; freed by done() */
    float *base = lt_malloc((n + 1) * sizeof *base);
    assert_non_null(base);
    lt_rng r = test_rng(index);
    test_fill_normal(base + 1, n, &r);
    return base + 1;
}
static void done(float *x) {
    lt_free(x - 1);
}

/* n stored elements of type t at an odd address. Block scales are small finite halves, the rest random bytes. */
static uint8_t *stored(lt_dtype t, size_t n, uint32_t index) {
    const lt_dtype_row *row = lt_dtype_get(t);
    const size_t bytes = n / row->block * row->bytes;
    uint8_t *base = lt_malloc(bytes + 1), *w = base + 1;
    assert_non_null(base);
    lt_rng r = test_rng(index);
    if (row->from_f32) {
        float *x = normal(index, n);
        row->from_f32(w, x, n);
        done(x);
        return w;
    }
    for (size_t i = 0; i < bytes; i++) w[i] = (uint8_t)lt_rng_u32(&r);
    for (size_t b = 0; b + row->bytes <= bytes && row->block > 1; b += row->bytes) {
        const uint16_t d = lt_f32_to_f16((float)lt_rng_uniform(&r) * 0.01f),
                       m = lt_f32_to_f16((float)lt_rng_uniform(&r) - 0.5f);
        if (t == LT_Q6_K)
            memcpy(w + b + 208, &d, 2);
        else
            memcpy(w + b, &d, 2);
        if (t == LT_Q4_1 || t == LT_Q5_1 || t == LT_Q4_K || t == LT_Q5_K) memcpy(w + b + 2, &m, 2);
    }
    return w;
}

/* Calls body for each dtype with its sizes: all of them for plain types, whole blocks for the others. */
static void each_storage(const lt_kernels *k,
                         void (*body)(const lt_kernels *k, lt_dtype t, const uint8_t *w, size_t n)) {
    for (int t = 0; t < LT_N_DTYPES; t++) {
        uint8_t *w = stored((lt_dtype)t, MOST, 100 + (uint32_t)t);
        for (size_t s = 0; s < LT_COUNTOF(sizes); s++)
            if (sizes[s] % lt_dtype_get((lt_dtype)t)->block == 0) body(k, (lt_dtype)t, w, sizes[s]);
        lt_free(w - 1);
    }
}

static void widens_to_the_same_bits(const lt_kernels *k, lt_dtype t, const uint8_t *w, size_t n) {
    float *a = normal(1, n + 1), *b = normal(1, n + 1);
    k->widen(a, t, w, n);
    lt_dtype_get(t)->to_f32(b, w, n);
    assert_memory_equal(a, b, (n + 1) * sizeof *a); /* the float after the end included */
    done(a);
    done(b);
}
static void widen_table(const lt_kernels *k) {
    each_storage(k, widens_to_the_same_bits);
}
static void widening_gives_the_bits_of_the_dtype_row(void **state) {
    (void)state;
    each_table(widen_table);
}

static double dot_bound(const float *x, const float *w, size_t n) { /* of n f32 roundings */
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += fabs((double)x[i] * w[i]);
    return sum * FLT_EPSILON * (8.0 + sqrt((double)n));
}

static void dots_near_the_exact_sum(const lt_kernels *k, lt_dtype t, const uint8_t *w, size_t n) {
    enum { LDX = MOST + 3, LDY = 3 };
    static float wide[MOST];
    float *x = normal(2, ROWS * LDX), y[ROWS * LDY], one;
    lt_dtype_get(t)->to_f32(wide, w, n);
    for (size_t rows = 1; rows <= ROWS; rows += rows == 1 ? 1 : 3) {
        for (size_t i = 0; i < ROWS * LDY; i++) y[i] = -7.0f;
        k->dot_rows(y, LDY, x, LDX, rows, t, w, n);
        for (size_t j = 0; j < rows; j++) {
            double sum = 0.0;
            for (size_t i = 0; i < n; i++) sum += (double)x[j * LDX + i] * wide[i];
            if (fabs(y[j * LDY] - sum) > dot_bound(x + j * LDX, wide, n))
                fail_msg("%s %s n %zu row %zu: %g, not %g", k->name, lt_dtype_get(t)->name, n, j, (double)y[j * LDY],
                         sum);
            k->dot_rows(&one, 1, x + j * LDX, LDX, 1, t, w, n); /* alone or in company: the same bits */
            assert_memory_equal(&one, &y[j * LDY], sizeof one);
        }
        for (size_t i = 0; i < ROWS * LDY; i++)
            if (i % LDY || i / LDY >= rows) assert_true(y[i] == -7.0f);
    }
    done(x);
}
static void dot_table(const lt_kernels *k) {
    each_storage(k, dots_near_the_exact_sum);
}
static void dot_products_are_near_the_exact_sum_for_any_rows(void **state) {
    (void)state;
    each_table(dot_table);
}

/* rows that do not begin at a line, with a gap after each, by any number of them */
static void stored_rows_are_as_alone(const lt_kernels *k, lt_dtype t, const uint8_t *w, size_t n) {
    enum { MANY = 9 };
    const lt_dtype_row *row = lt_dtype_get(t);
    const size_t stride = n / row->block * row->bytes + row->bytes;
    uint8_t *rows = stored(t, MANY * (n + row->block), 200 + (uint32_t)t);
    float *x = normal(2, n), y[MANY + 1], one;
    (void)w;
    for (size_t many = 0; many <= MANY; many++) {
        for (size_t r = 0; r <= MANY; r++) y[r] = -7.0f;
        k->dot_stored(y, x, t, rows, stride, many, n);
        for (size_t r = 0; r < many; r++) {
            k->dot_rows(&one, 1, x, n, 1, t, rows + r * stride, n);
            assert_memory_equal(&one, &y[r], sizeof one);
        }
        for (size_t r = many; r <= MANY; r++) assert_true(y[r] == -7.0f);
    }
    done(x);
    lt_free(rows - 1);
}
static void stored_rows_table(const lt_kernels *k) {
    each_storage(k, stored_rows_are_as_alone);
}
static void stored_rows_in_company_give_the_bits_of_one(void **state) {
    (void)state;
    each_table(stored_rows_table);
}

static void axpy_near(const lt_kernels *k, lt_dtype t, const uint8_t *w, size_t n) {
    float *y = normal(3, n + 1), *z = normal(3, n + 1), *wide = normal(4, n);
    lt_dtype_get(t)->to_f32(wide, w, n);
    k->axpy(y, 0.75f, t, w, n);
    for (size_t i = 0; i < n; i++) {
        const double exact = (double)z[i] + 0.75 * wide[i];
        assert_true(fabs(y[i] - exact) <= 2.0 * FLT_EPSILON * (fabs((double)z[i]) + fabs(0.75 * wide[i])));
    }
    assert_true(y[n] == z[n]);
    done(y);
    done(z);
    done(wide);
}
static void axpy_table(const lt_kernels *k) {
    each_storage(k, axpy_near);
}
static void axpy_adds_a_stored_row(void **state) {
    (void)state;
    each_table(axpy_table);
}

/* distance in units of the last place of the exact value */
static double ulps(float got, double exact) {
    const float near = (float)exact;
    const double ulp = nextafterf(fabsf(near), INFINITY) - fabsf(near);
    return fabs((double)got - exact) / ulp;
}

static void exp_table(const lt_kernels *k) {
    enum { N = 200003 };
    float *x = normal(5, N), *y = normal(5, N);
    for (size_t i = 0; i < N; i++) x[i] = -87.0f + 175.0f * (float)i / N;
    x[0] = 0.0f;
    k->exp_rows(y, x, N);
    assert_true(y[0] == 1.0f);
    double worst = 0.0;
    for (size_t i = 0; i < N; i++) worst = fmax(worst, ulps(y[i], exp((double)x[i])));
    if (worst > 2.0) fail_msg("%s: exp is %g ulp off", k->name, worst);
    float edge[5] = { -INFINITY, INFINITY, NAN, -104.5f, 89.5f };
    k->exp_rows(edge, edge, 5); /* in place */
    assert_true(edge[0] == 0.0f && isinf(edge[1]) && isnan(edge[2]) && edge[3] == 0.0f && isinf(edge[4]));
    float low = -95.0f; /* a denormal result */
    k->exp_rows(&low, &low, 1);
    assert_true(fabs(low - exp(-95.0)) <= 3e-45);
    done(x);
    done(y);
}
static void exp_is_two_ulp_and_keeps_the_edges(void **state) {
    (void)state;
    each_table(exp_table);
}

static void exp_sum_table(const lt_kernels *k) {
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
        const size_t n = sizes[s];
        float *x = normal(6, n), *y = normal(7, n + 1);
        const float after = y[n], m = 2.5f;
        if (n > 4) x[4] = -INFINITY;
        const float sum = k->exp_sum(y, x, 0.125f, m, n);
        double exact = 0.0;
        for (size_t i = 0; i < n; i++) {
            const double e = exp((double)x[i] * 0.125 - m);
            exact += e;
            assert_true(fabs(y[i] - e) <= 1e-6 * e);
        }
        assert_true(fabs(sum - exact) <= 1e-6 * exact);
        assert_true(y[n] == after);
        done(x);
        done(y);
    }
}
static void exp_sum_is_the_sum_of_what_it_writes(void **state) {
    (void)state;
    each_table(exp_sum_table);
}

static void reductions_table(const lt_kernels *k) {
    assert_true(k->max(NULL, 0) == -INFINITY);
    assert_true(k->sumsq(NULL, 0) == 0.0);
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
        const size_t n = sizes[s];
        float *x = normal(8, n);
        assert_true(k->max(x, n) == ref()->max(x, n));
        assert_true(fabs(k->sumsq(x, n) - ref()->sumsq(x, n)) <= 1e-13 * ref()->sumsq(x, n));
        if (n) {
            x[n - 1] = 3e30f; /* its square has no float */
            assert_true(k->max(x, n) == 3e30f);
            assert_true(fabs(k->sumsq(x, n) / 9e60 - 1.0) < 1e-6);
        }
        done(x);
    }
}
static void reductions_match_ref(void **state) {
    (void)state;
    each_table(reductions_table);
}

/* the elementwise kernels into out, which may be a */
static void run_maps(const lt_kernels *k, int which, float *out, const float *a, const float *b, size_t n) {
    switch (which) {
    case 0:
        k->scale(out, a, 1.7f, n);
        break;
    case 1:
        k->mul(out, a, b, 0.3f, n);
        break;
    case 2:
        k->add(out, a, b, n);
        break;
    case 3:
        k->silu_mul(out, a, b, n);
        break;
    case 4:
        k->silu_mul(out, a, NULL, n);
        break;
    default:
        k->rope(out, a, b, b + n / 2, n);
        break;
    }
}
static void maps_table(const lt_kernels *k) {
    for (int which = 0; which < 6; which++)
        for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
            const size_t n = which == 5 ? sizes[s] / 2 * 2 : sizes[s];
            float *a = normal(9, n), *b = normal(10, n), *y = normal(11, n + 1), *z = normal(11, n + 1);
            run_maps(k, which, y, a, b, n);
            run_maps(ref(), which, z, a, b, n);
            assert_close(y, z, n, 1e-6, 1e-6);
            assert_true(y[n] == z[n]);
            run_maps(k, which, a, a, b, n); /* in place: the same bits */
            assert_memory_equal(a, y, n * sizeof *a);
            done(a);
            done(b);
            done(y);
            done(z);
        }
}
static void elementwise_kernels_match_ref_and_work_in_place(void **state) {
    (void)state;
    each_table(maps_table);
}

static void silu_table(const lt_kernels *k) {
    float x[4] = { -200.0f, 200.0f, 0.0f, -INFINITY };
    k->silu_mul(x, x, NULL, 3);
    assert_true(fabsf(x[0]) == 0.0f && x[1] == 200.0f && x[2] == 0.0f);
}
static void silu_saturates(void **state) {
    (void)state;
    each_table(silu_table);
}

static void add_f64_table(const lt_kernels *k) {
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
        const size_t n = sizes[s];
        const size_t rows = 1 + s % 5, ldx = n + s % 3;
        float *x = normal(12, rows * ldx);
        double *a = lt_malloc((n + 1) * sizeof *a), *b = lt_malloc((n + 1) * sizeof *b);
        for (size_t i = 0; i <= n; i++) a[i] = b[i] = 1e-3 * (double)i;
        k->add_f64(a, x, ldx, rows, n);
        ref()->add_f64(b, x, ldx, rows, n);
        assert_memory_equal(a, b, (n + 1) * sizeof *a);
        lt_free(a);
        lt_free(b);
        done(x);
    }
}
static void f64_sums_are_exact(void **state) {
    (void)state;
    each_table(add_f64_table);
}

static void back_table(const lt_kernels *k) {
    const float abc[] = { 0.8f, -0.3f, 0.05f };
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
        const size_t n = sizes[s];
        float *dy = normal(20, n), *g = normal(21, n), *u = normal(22, n);
        float *a[4], *b[4];
        for (uint32_t i = 0; i < 4; i++) a[i] = normal(23 + i, n + 1), b[i] = normal(23 + i, n + 1);
        k->silu_back(a[0], a[1], dy, g, u, n);
        ref()->silu_back(b[0], b[1], dy, g, u, n);
        k->norm_back(a[2], dy, g, u, abc, 0.2f, true, n);
        ref()->norm_back(b[2], dy, g, u, abc, 0.2f, true, n);
        k->norm_back(a[3], dy, g, u, abc, 0.2f, false, n);
        ref()->norm_back(b[3], dy, g, u, abc, 0.2f, false, n);
        for (int i = 0; i < 4; i++) {
            assert_close(a[i], b[i], n, 1e-6, 1e-6);
            assert_true(a[i][n] == b[i][n]);
            done(a[i]);
            done(b[i]);
        }
        assert_true(fabs(k->dot3(dy, g, u, n) - ref()->dot3(dy, g, u, n)) <= 1e-12 * (double)(n + 1));
        assert_true(fabs(k->dot3(dy, g, NULL, n) - ref()->dot3(dy, g, NULL, n)) <= 1e-12 * (double)(n + 1));
        done(dy);
        done(g);
        done(u);
    }
}
static void the_way_back_matches_ref(void **state) {
    (void)state;
    each_table(back_table);
}

static void silu_back_table(const lt_kernels *k) {
    const float g[4] = { -200.0f, 200.0f, 0.0f, -90.0f }, ones[4] = { 1.0f, 1.0f, 1.0f, 1.0f };
    float dg[4], du[4];
    k->silu_back(dg, du, ones, g, ones, 4);
    assert_true(fabsf(dg[0]) < 1e-30f && dg[1] == 1.0f && dg[2] == 0.5f && fabsf(dg[3]) < 1e-30f);
    assert_true(fabsf(du[0]) < 1e-30f && du[1] == 200.0f && du[2] == 0.0f);
}
static void the_slope_of_silu_saturates(void **state) {
    (void)state;
    each_table(silu_back_table);
}

static void masks_table(const lt_kernels *k) {
    const lt_rng stream = lt_rng_at(5, LT_RNG_TEST, 6, 7);
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
        const size_t n = sizes[s], bytes = (n + 7) / 8;
        uint8_t *a = lt_calloc(bytes + 1, 1), *b = lt_calloc(bytes + 1, 1);
        float *x = normal(14, n), *y = normal(15, n + 1), *z = normal(15, n + 1);
        k->mask_draw(a, &stream, 20000, n);
        ref()->mask_draw(b, &stream, 20000, n);
        assert_memory_equal(a, b, bytes + 1);
        k->mask_add(y, x, a, 1.25f, n);
        ref()->mask_add(z, x, a, 1.25f, n);
        assert_close(y, z, n + 1, 1e-6, 1e-6);
        k->mask_mul(y, x, a, 1.25f, n);
        for (size_t i = 0; i < n; i++) assert_true(y[i] == (a[i / 8] >> i % 8 & 1 ? 1.25f * x[i] : 0.0f));
        assert_true(y[n] == z[n]);
        lt_free(a);
        lt_free(b);
        done(x);
        done(y);
        done(z);
    }
}
static void dropout_masks_are_the_bits_of_the_stream(void **state) {
    (void)state;
    each_table(masks_table);
}

static void a_mask_keeps_numbers_that_are_not_below(void **state) {
    (void)state;
    enum { N = 1000 };
    uint8_t mask[N / 8];
    lt_rng r = lt_rng_at(8, LT_RNG_TEST, 0, 0);
    lt_kernels_get(NULL)->mask_draw(mask, &r, 0x8000, N);
    for (size_t i = 0; i < N / 2; i++) {
        const uint32_t word = lt_rng_u32(&r);
        assert_int_equal(mask[i / 4] >> i % 4 * 2 & 1, (word & 0xFFFF) >= 0x8000);
        assert_int_equal(mask[i / 4] >> (i % 4 * 2 + 1) & 1, word >> 16 >= 0x8000);
    }
}

/* Every shape of a register tile; entries beyond it stay as they were. */
static void tile_table(const lt_kernels *k) {
    enum { K = 37, LDB = 50, LDC = 51 };
    if (!k->tile) return;
    assert_true(k->tile_rows <= 8 && k->tile_vectors * k->lanes <= 48 && k->lanes <= 16);
    float *a = normal(13, 8 * K), *b = normal(14, K * LDB), *c0 = normal(15, 8 * LDC), c[8 * LDC];
    for (size_t rows = 1; rows <= k->tile_rows; rows++)
        for (size_t v = 1; v <= k->tile_vectors; v++)
            for (int form = 0; form < 4; form++) {
                const size_t rs = form & 1 ? 1 : K, cs = form & 1 ? 8 : 1;
                const float beta = form & 2 ? 0.5f : 0.0f;
                memcpy(c, c0, sizeof c);
                for (size_t i = 0; beta == 0.0f && i < rows; i++)
                    for (size_t j = 0; j < v * k->lanes; j++) c[i * LDC + j] = NAN; /* beta 0 does not read */
                k->tile(c, LDC, 2.0f, beta, a, rs, cs, b, LDB, K, rows, v);
                for (size_t i = 0; i < 8; i++)
                    for (size_t j = 0; j < LDC; j++) {
                        double sum = beta * c0[i * LDC + j];
                        for (size_t q = 0; q < K && i < rows && j < v * k->lanes; q++)
                            sum += 2.0 * a[i * rs + q * cs] * b[q * LDB + j];
                        assert_true(i < rows && j < v * k->lanes ? fabs(c[i * LDC + j] - sum) <= 1e-4
                                                                 : c[i * LDC + j] == c0[i * LDC + j]);
                    }
            }
    done(a);
    done(b);
    done(c0);
}
static void register_tiles_of_every_shape(void **state) {
    (void)state;
    each_table(tile_table);
}

static void pack_table(const lt_kernels *k) {
    enum { LDS = 70, LDD = 20 };
    if (!k->pack) return;
    float *src = normal(16, 16 * LDS), *dst = normal(17, LDS * LDD), *old = normal(17, LDS * LDD);
    for (size_t rows = 1; rows <= k->lanes; rows++)
        for (size_t n = 1; n < LDS; n += 13) {
            memcpy(dst, old, LDS * LDD * sizeof *dst);
            k->pack(dst, LDD, src, LDS, rows, n);
            for (size_t q = 0; q < LDS; q++)
                for (size_t j = 0; j < LDD; j++)
                    assert_true(dst[q * LDD + j] ==
                                (q < n && j < k->lanes ? j < rows ? src[j * LDS + q] : 0.0f : old[q * LDD + j]));
        }
    done(src);
    done(dst);
    done(old);
}
static void packing_transposes(void **state) {
    (void)state;
    each_table(pack_table);
}

static void tables_have_names(void **state) {
    (void)state;
    const lt_kernels *k;
    for (size_t i = 0; (k = lt_kernels_at(i)); i++) assert_ptr_equal(lt_kernels_get(k->name), k);
    assert_ptr_equal(lt_kernels_get(NULL), lt_kernels_at(0));
    assert_null(lt_kernels_get("abacus"));
    assert_non_null(ref());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_have_names),
        cmocka_unit_test(widening_gives_the_bits_of_the_dtype_row),
        cmocka_unit_test(dot_products_are_near_the_exact_sum_for_any_rows),
        cmocka_unit_test(stored_rows_in_company_give_the_bits_of_one),
        cmocka_unit_test(axpy_adds_a_stored_row),
        cmocka_unit_test(exp_is_two_ulp_and_keeps_the_edges),
        cmocka_unit_test(exp_sum_is_the_sum_of_what_it_writes),
        cmocka_unit_test(reductions_match_ref),
        cmocka_unit_test(elementwise_kernels_match_ref_and_work_in_place),
        cmocka_unit_test(silu_saturates),
        cmocka_unit_test(f64_sums_are_exact),
        cmocka_unit_test(the_way_back_matches_ref),
        cmocka_unit_test(the_slope_of_silu_saturates),
        cmocka_unit_test(dropout_masks_are_the_bits_of_the_stream),
        cmocka_unit_test(a_mask_keeps_numbers_that_are_not_below),
        cmocka_unit_test(register_tiles_of_every_shape),
        cmocka_unit_test(packing_transposes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
