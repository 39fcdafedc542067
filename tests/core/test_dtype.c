/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/tensor.h"

static void every_half_survives_the_way_through_f32(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = lt_f16_to_f32((uint16_t)h), b = lt_bf16_to_f32((uint16_t)h);
        if (isnan(f))
            assert_true(isnan(lt_f16_to_f32(lt_f32_to_f16(f))));
        else
            assert_int_equal(lt_f32_to_f16(f), h);
        if (isnan(b))
            assert_true(isnan(lt_bf16_to_f32(lt_f32_to_bf16(b))));
        else
            assert_int_equal(lt_f32_to_bf16(b), h);
    }
}

static void f16_values_follow_ieee(void **state) {
    (void)state;
    static const struct {
        uint16_t h;
        float f;
    } known[] = { { 0x3c00, 1.0f },         { 0xc000, -2.0f },    { 0x7bff, 65504.0f }, { 0x0001, 0x1p-24f },
                  { 0x03ff, 0x1.ff8p-15f }, { 0x0400, 0x1p-14f }, { 0x7c00, INFINITY }, { 0x3555, 0x1.554p-2f } };
    for (size_t i = 0; i < LT_COUNTOF(known); i++) {
        assert_true(lt_f16_to_f32(known[i].h) == known[i].f);
        assert_int_equal(lt_f32_to_f16(known[i].f), known[i].h);
    }
}

/* Between neighbours h and h + 1 the middle goes to the even one, and a step off the middle to the nearer. */
static void narrowing_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        const float lo = lt_f16_to_f32((uint16_t)h), hi = lt_f16_to_f32((uint16_t)(h + 1)), mid = lo + (hi - lo) / 2;
        const uint32_t even = h + (h & 1);
        assert_int_equal(lt_f32_to_f16(mid), even);
        assert_int_equal(lt_f32_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(lt_f32_to_f16(nextafterf(mid, INFINITY)), h + 1);
        assert_int_equal(lt_f32_to_f16(-mid), 0x8000 | even);
    }
    for (uint32_t h = 0; h < 0x7f7f; h++) {
        const float lo = lt_bf16_to_f32((uint16_t)h), hi = lt_bf16_to_f32((uint16_t)(h + 1)), mid = lo + (hi - lo) / 2;
        assert_int_equal(lt_f32_to_bf16(mid), h + (h & 1));
        assert_int_equal(lt_f32_to_bf16(nextafterf(mid, 0)), h);
        assert_int_equal(lt_f32_to_bf16(nextafterf(mid, INFINITY)), h + 1);
    }
    assert_int_equal(lt_f32_to_f16(65519.996f), 0x7bff); /* 65520 is the tie with infinity */
    assert_int_equal(lt_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(lt_f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(lt_f32_to_bf16(3.4e38f), 0x7f80);
}

static void rows_have_unique_names_and_whole_functions(void **state) {
    (void)state;
    for (int t = 0; t < LT_N_DTYPES; t++) {
        const lt_dtype_row *row = lt_dtype_get((lt_dtype)t);
        lt_dtype found;
        assert_true(row->block > 0 && row->bytes > 0 && row->to_f32);
        assert_true(lt_dtype_find(row->name, &found) && (int)found == t);
        if (row->safetensors) assert_true(lt_dtype_find(row->safetensors, &found) && (int)found == t);
        if (row->gguf >= 0) assert_true(lt_dtype_find_gguf((uint32_t)row->gguf, &found) && (int)found == t);
    }
    lt_dtype none = LT_I8;
    assert_false(lt_dtype_find("f8", &none) || lt_dtype_find_gguf(16, &none) || lt_dtype_find_gguf(~0u, &none));
    assert_int_equal(none, LT_I8);
}

/* Sources at odd addresses: files promise no alignment. */
static void plain_types_widen_from_any_address(void **state) {
    (void)state;
    char bytes[64];
    float got[2];
#define CHECK(dtype, type, ...)                                                                                        \
    do {                                                                                                               \
        const type v[2] = { __VA_ARGS__ };                                                                             \
        memcpy(bytes + 1, v, sizeof v);                                                                                \
        lt_dtype_get(dtype)->to_f32(got, bytes + 1, 2);                                                                \
        assert_true(got[0] == (float)v[0] && got[1] == (float)v[1]);                                                   \
    } while (0)
    CHECK(LT_F64, double, 0.1, -1e300);
    CHECK(LT_F32, float, 0.1f, -3e38f);
    CHECK(LT_I64, int64_t, INT64_MIN, 7);
    CHECK(LT_I32, int32_t, INT32_MIN, 7);
    CHECK(LT_U32, uint32_t, UINT32_MAX, 7);
    CHECK(LT_U16, uint16_t, 65535, 7);
    CHECK(LT_I8, int8_t, -128, 127);
    CHECK(LT_U8, uint8_t, 255, 1);
    CHECK(LT_BOOL, uint8_t, 0, 1);
}

/* Golden bytes: tools/make_quant_golden.py, gguf-py 0.19.0. */
static void block_formats_widen_to_the_bits_of_gguf_py(void **state) {
    (void)state;
    for (int t = LT_Q8_0; t <= LT_Q6_K; t++) {
        const lt_dtype_row *row = lt_dtype_get((lt_dtype)t);
        char name[64];
        size_t bytes, want_bytes;
        snprintf(name, sizeof name, "quant/%s.blocks", row->name);
        char *blocks = test_read_file(test_golden(name), &bytes);
        snprintf(name, sizeof name, "quant/%s.f32", row->name);
        char *want = test_read_file(test_golden(name), &want_bytes);
        const size_t n = bytes / row->bytes * row->block;
        assert_int_equal(want_bytes, n * sizeof(float));
        float *got = lt_malloc(n * sizeof *got);
        row->to_f32(got, blocks, n);
        assert_memory_equal(got, want, n * sizeof *got);
        lt_free(got);
        lt_free(blocks);
        lt_free(want);
    }
}

static void quantisers_write_the_bytes_of_gguf_py(void **state) {
    (void)state;
    size_t bytes, want_bytes;
    char *x = test_read_file(test_golden("quant/quantize.f32"), &bytes);
    const size_t n = bytes / sizeof(float);
    static const lt_dtype types[] = { LT_Q8_0, LT_Q4_0 };
    for (size_t i = 0; i < LT_COUNTOF(types); i++) {
        const lt_dtype_row *row = lt_dtype_get(types[i]);
        char name[64];
        snprintf(name, sizeof name, "quant/%s.quantized", row->name);
        char *want = test_read_file(test_golden(name), &want_bytes);
        assert_int_equal(want_bytes, n / row->block * row->bytes);
        char *got = lt_malloc(want_bytes);
        row->from_f32(got, (const float *)(const void *)x, n);
        assert_memory_equal(got, want, want_bytes);
        lt_free(got);
        lt_free(want);
    }
    lt_free(x);
}

/* |x - q| <= d / 2 for q8_0, and d for q4_0 (its top code is 7, not 8), plus the rounding of d to f16. */
static void quantised_values_stay_within_a_step(void **state) {
    (void)state;
    enum { N = 32 * 64 };
    static float x[N], q8[N], q4[N];
    static unsigned char blocks[N / 32 * 34];
    lt_rng r = test_rng(0);
    test_fill_normal(x, N, &r);
    lt_dtype_get(LT_Q8_0)->from_f32(blocks, x, N);
    lt_dtype_get(LT_Q8_0)->to_f32(q8, blocks, N);
    lt_dtype_get(LT_Q4_0)->from_f32(blocks, x, N);
    lt_dtype_get(LT_Q4_0)->to_f32(q4, blocks, N);
    for (size_t i = 0; i < N; i += 32) {
        float most = 0;
        for (size_t j = 0; j < 32; j++) most = fmaxf(most, fabsf(x[i + j]));
        for (size_t j = 0; j < 32; j++) {
            assert_true(fabsf(x[i + j] - q8[i + j]) <= most / 127 * 0.5f + most * 0x1p-11f + 1e-7f);
            assert_true(fabsf(x[i + j] - q4[i + j]) <= most / 8 + most * 0x1p-11f + 1e-7f);
        }
    }
}

/* Infinities and NaN must not be undefined behaviour (the sanitizer watches). */
static void quantisers_accept_any_floats(void **state) {
    (void)state;
    float x[32] = { NAN, INFINITY, -INFINITY, 1e-41f, 3e38f };
    unsigned char b[34];
    lt_dtype_get(LT_Q8_0)->from_f32(b, x, 32);
    lt_dtype_get(LT_Q4_0)->from_f32(b, x, 32);
    for (int i = 0; i < 32; i++) x[i] = 1e-41f;
    lt_dtype_get(LT_Q8_0)->from_f32(b, x, 32);
    lt_dtype_get(LT_Q4_0)->from_f32(b, x, 32);
    lt_dtype_get(LT_Q4_0)->to_f32(x, b, 32);
    for (int i = 0; i < 32; i++) assert_true(x[i] == 0.0f);
}

/* Wherever it stands, vectors and rests alike. */
static void what_is_not_finite_is_seen_anywhere(void **state) {
    (void)state;
    enum { N = 67 };
    const float bad[] = { INFINITY, -INFINITY, NAN, -NAN },
                fine[] = { 0x1.fffffep127f, -0x1.fffffep127f, 0x1p-149f, 0.0f };
    float x[N];
    for (size_t i = 0; i < N; i++) x[i] = fine[i % LT_COUNTOF(fine)];
    assert_true(lt_all_finite(x, 0));
    for (size_t n = 1; n <= N; n++) {
        assert_true(lt_all_finite(x, n));
        for (size_t i = 0; i < n; i++) {
            const float was = x[i];
            x[i] = bad[(n + i) % LT_COUNTOF(bad)];
            assert_false(lt_all_finite(x, n));
            assert_true(lt_all_finite(x, i));
            x[i] = was;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_finite_is_seen_anywhere),
        cmocka_unit_test(every_half_survives_the_way_through_f32),
        cmocka_unit_test(f16_values_follow_ieee),
        cmocka_unit_test(narrowing_rounds_to_nearest_even),
        cmocka_unit_test(rows_have_unique_names_and_whole_functions),
        cmocka_unit_test(plain_types_widen_from_any_address),
        cmocka_unit_test(block_formats_widen_to_the_bits_of_gguf_py),
        cmocka_unit_test(quantisers_write_the_bytes_of_gguf_py),
        cmocka_unit_test(quantised_values_stay_within_a_step),
        cmocka_unit_test(quantisers_accept_any_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
