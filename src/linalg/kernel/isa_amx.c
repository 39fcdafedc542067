/* SPDX-License-Identifier: Apache-2.0 */
/* AVX-512 and the matrix unit of Intel AMX: TDPBF16PS multiplies 16 x 32 by 32 x 16 of bf16 into 16 x 16 sums of f32
 * (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2). Three bf16 parts stand for an f32 as in
 * Henry, Tang & Heinecke (2019), "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
 * computations". */
#include "linalg/kernel/tables.h"

static const lt_matrix_unit unit;
#define TABLE lt_kernels_amx
#define TABLE_NAME "amx"
#define UNIT &unit
#include "linalg/kernel/avx512.h"

enum { TILE = 512, HALF = 16, LEFT_STEP = LT_UNIT_PARTS * LT_UNIT_STEP }; /* in bf16 */

/* Every tile is 16 rows of 64 bytes. Constant, because gcc 12 knows of 8 bytes only that the instruction reads. */
static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config = { .palette = 1,
                  .row_bytes = { 64, 64, 64, 64, 64, 64, 64, 64 },
                  .rows = { HALF, HALF, HALF, HALF, HALF, HALF, HALF, HALF } };

static void enter(void) {
    _tile_loadconfig(&tile_config);
}

static void leave(void) {
    _tile_release();
}

/* ---- parts ---- */

INLINE __m512 bf16_low(__m512i parts) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(parts)), 16));
}
INLINE __m512 bf16_high(__m512i parts) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(parts, 1)), 16));
}
/* The next part of 32 floats; what is left of them stays. */
INLINE __m512i next_part(__m512 *low, __m512 *high) {
    const __m512i part = (__m512i)_mm512_cvtne2ps_pbh(*high, *low);
    *low = _mm512_sub_ps(*low, bf16_low(part));
    *high = _mm512_sub_ps(*high, bf16_high(part));
    return part;
}
/* lanes that hold one of n values, from `at` on */
INLINE __mmask16 lanes_in(size_t at, size_t n) {
    return at >= n ? 0 : n - at >= 16 ? 0xffff : (__mmask16)((1u << (n - at)) - 1);
}
INLINE __m512 load_lanes(const float *p, size_t at, size_t n) {
    const __mmask16 m = lanes_in(at, n);
    return m ? _mm512_maskz_loadu_ps(m, p + at) : _mm512_setzero_ps();
}

/* 32 inner indices of one row into the step's tiles */
INLINE void put_left(uint16_t *step, size_t row, __m512 low, __m512 high) {
    for (size_t p = 0; p < LT_UNIT_PARTS; p++)
        _mm512_storeu_si512(step + (2 * p + row / HALF) * TILE + row % HALF * LT_UNIT, next_part(&low, &high));
}

/* 16 rows of a stored transposed: two squares of 16 x 16 */
static void left_across(uint16_t *step, size_t row, const float *a, size_t ld, size_t rows, size_t n) {
    __m512 low[W], high[W];
    for (size_t q = 0; q < W; q++) {
        low[q] = q < n ? load_lanes(a + q * ld, 0, rows) : _mm512_setzero_ps();
        high[q] = q + W < n ? load_lanes(a + (q + W) * ld, 0, rows) : _mm512_setzero_ps();
    }
    transpose((vf *)low);
    transpose((vf *)high);
    for (size_t r = 0; r < W; r++) put_left(step, row + r, low[r], high[r]);
}

static void left(uint16_t *dst, const float *a, size_t rs, size_t cs, size_t rows, size_t n) {
    for (size_t q = 0; q < n; q += LT_UNIT, dst += LEFT_STEP) {
        if (cs != 1) {
            for (size_t row = 0; row < LT_UNIT; row += HALF)
                left_across(dst, row, a + q * cs + row, cs, rows > row ? lt_min_size(rows - row, HALF) : 0, n - q);
            continue;
        }
        for (size_t row = 0; row < LT_UNIT; row++)
            if (row < rows)
                put_left(dst, row, load_lanes(a + row * rs + q, 0, n - q), load_lanes(a + row * rs + q, W, n - q));
            else
                put_left(dst, row, _mm512_setzero_ps(), _mm512_setzero_ps());
    }
}

static void store_square(uint16_t *tile, __m512i square[HALF]) {
    transpose((vf *)square);
    for (size_t r = 0; r < HALF; r++) _mm512_storeu_si512(tile + r * LT_UNIT, square[r]);
}

/* bits that are not a sign: is there anything in this part? */
INLINE __m512i magnitude(__m512i part) {
    return _mm512_and_si512(part, _mm512_set1_epi16(0x7fff));
}

static size_t parts_seen(const __m512i seen[LT_UNIT_PARTS]) {
    size_t parts = LT_UNIT_PARTS;
    while (parts > 1 && _mm512_test_epi64_mask(seen[parts - 1], seen[parts - 1]) == 0) parts--;
    return parts;
}

static size_t right_rows(uint16_t *dst, size_t part_stride, const float *b, size_t ldb, size_t cols, size_t n) {
    __m512i seen[LT_UNIT_PARTS] = { 0 }, square[LT_UNIT_PARTS][HALF];
    for (size_t q = 0; q < n; q += LT_UNIT)
        for (size_t col = 0; col < LT_UNIT; col += HALF, dst += TILE) {
            for (size_t j = 0; j < HALF; j++) {
                const bool in = col + j < cols;
                const float *row = b + (col + j) * ldb + q;
                __m512 low = in ? load_lanes(row, 0, n - q) : _mm512_setzero_ps(),
                       high = in ? load_lanes(row, W, n - q) : _mm512_setzero_ps();
                for (size_t p = 0; p < LT_UNIT_PARTS; p++) {
                    square[p][j] = next_part(&low, &high);
                    seen[p] = _mm512_or_si512(seen[p], magnitude(square[p][j]));
                }
            }
            for (size_t p = 0; p < LT_UNIT_PARTS; p++) store_square(dst + p * part_stride, square[p]);
        }
    return parts_seen(seen);
}

static void right_bf16(uint16_t *dst, const uint16_t *b, size_t ldb, size_t cols, size_t n) {
    __m512i square[HALF];
    for (size_t q = 0; q < n; q += LT_UNIT)
        for (size_t col = 0; col < LT_UNIT; col += HALF, dst += TILE) {
            const __mmask32 in = n - q >= LT_UNIT ? 0xffffffffu : (1u << (n - q)) - 1;
            for (size_t j = 0; j < HALF; j++)
                square[j] =
                    col + j < cols ? _mm512_maskz_loadu_epi16(in, b + (col + j) * ldb + q) : _mm512_setzero_si512();
            store_square(dst, square);
        }
}

/* the halves of a register in turn: a0 b0 a1 b1 ... */
INLINE __m512i in_turn(__m512i ab) {
    static const uint16_t order[32] = { 0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31 };
    return _mm512_permutexvar_epi16(_mm512_loadu_si512(order), ab);
}

static size_t right_columns(uint16_t *dst, size_t part_stride, const float *b, size_t ldb, size_t cols, size_t n) {
    __m512i seen[LT_UNIT_PARTS] = { 0 };
    for (size_t q = 0; q < n; q += LT_UNIT)
        for (size_t col = 0; col < LT_UNIT; col += HALF, dst += TILE)
            for (size_t pair = 0; pair < HALF; pair++) {
                const size_t at = q + 2 * pair;
                __m512 even = at < n ? load_lanes(b + at * ldb, col, cols) : _mm512_setzero_ps(),
                       odd = at + 1 < n ? load_lanes(b + (at + 1) * ldb, col, cols) : _mm512_setzero_ps();
                for (size_t p = 0; p < LT_UNIT_PARTS; p++) {
                    const __m512i part = next_part(&even, &odd);
                    seen[p] = _mm512_or_si512(seen[p], magnitude(part));
                    _mm512_storeu_si512(dst + p * part_stride + pair * LT_UNIT, in_turn(part));
                }
            }
    return parts_seen(seen);
}

/* XᵀX needs the same numbers on both sides: pairs of a left tile are rows of a right one. */
static void right_of_left(uint16_t *dst, size_t part_stride, const uint16_t *from, size_t steps) {
    __m512i square[HALF];
    for (size_t s = 0; s < steps; s++, dst += LT_UNIT_STEP, from += LEFT_STEP)
        for (size_t p = 0; p < LT_UNIT_PARTS; p++)
            for (size_t half = 0; half < 2; half++) {
                for (size_t j = 0; j < HALF; j++)
                    square[j] = _mm512_loadu_si512(from + (2 * p + half) * TILE + j * LT_UNIT);
                store_square(dst + p * part_stride + half * TILE, square);
            }
}

/* ---- products: tiles 0-3 sum, 4 and 5 are rows 0-15 and 16-31 of the left, 6 and 7 columns of the right ---- */

/* one block: both halves of its rows (tall), of its columns (wide)? */
typedef struct extent {
    bool tall, wide;
} extent;

INLINE void load_left(const uint16_t *l, size_t p, extent e) {
    _tile_loadd(4, l + 2 * p * TILE, 64);
    if (e.tall) _tile_loadd(5, l + (2 * p + 1) * TILE, 64);
}
INLINE void load_right(const uint16_t *r, extent e) {
    _tile_loadd(6, r, 64);
    if (e.wide) _tile_loadd(7, r + TILE, 64);
}
INLINE void multiply_tiles(extent e) {
    _tile_dpbf16ps(0, 4, 6);
    if (e.wide) _tile_dpbf16ps(1, 4, 7);
    if (e.tall) _tile_dpbf16ps(2, 5, 6);
    if (e.tall && e.wide) _tile_dpbf16ps(3, 5, 7);
}
INLINE void times_left(const uint16_t *l, size_t p, extent e) {
    load_left(l, p, e);
    multiply_tiles(e);
}

/* One step; small parts first, and a tile that is loaded already is not loaded again. */
INLINE void step(const uint16_t *l, const uint16_t *r, size_t part_stride, size_t parts, extent e) {
    if (parts == 1) {
        load_right(r, e);
        times_left(l, 2, e);
        times_left(l, 1, e);
        times_left(l, 0, e);
    } else if (parts == 2) {
        load_right(r + part_stride, e);
        times_left(l, 1, e);
        times_left(l, 0, e);
        load_right(r, e);
        multiply_tiles(e);
        times_left(l, 1, e);
        times_left(l, 2, e);
    } else {
        load_right(r + 2 * part_stride, e);
        times_left(l, 0, e);
        load_right(r + part_stride, e);
        multiply_tiles(e);
        times_left(l, 1, e);
        load_right(r, e);
        multiply_tiles(e);
        times_left(l, 2, e);
        times_left(l, 0, e);
    }
}

/* A tile store that follows about a hundred tile loads without a store between them stands still for some 900 cycles,
 * whichever tile it stores; a store now and then in between costs 10. So each few steps store an operand to nowhere
 * (one core, three products of 32 x 576 x 32: 850 GFLOP/s become 1050). */
INLINE void sum_steps(const uint16_t *l, const uint16_t *r, size_t part_stride, size_t parts, size_t steps, extent e) {
    const size_t run = parts == 1 ? 6 : parts == 2 ? 4 : 3;
    _Alignas(64) uint16_t nowhere[TILE];
    for (size_t s = 0; s < steps; s++, l += LEFT_STEP, r += LT_UNIT_STEP) {
        if (s > 0 && s % run == 0) _tile_stored(4, nowhere, 64);
        step(l, r, part_stride, parts, e);
    }
}

INLINE void sum_parts(const uint16_t *l, const uint16_t *r, size_t part_stride, size_t parts, size_t steps, extent e) {
    if (parts == 1)
        sum_steps(l, r, part_stride, 1, steps, e);
    else if (parts == 2)
        sum_steps(l, r, part_stride, 2, steps, e);
    else
        sum_steps(l, r, part_stride, 3, steps, e);
}

static void sum_block(const uint16_t *l, const uint16_t *r, size_t part_stride, size_t parts, size_t steps, extent e) {
    if (e.tall && e.wide)
        sum_parts(l, r, part_stride, parts, steps, (extent){ true, true });
    else if (e.tall)
        sum_parts(l, r, part_stride, parts, steps, (extent){ true, false });
    else if (e.wide)
        sum_parts(l, r, part_stride, parts, steps, (extent){ false, true });
    else
        sum_parts(l, r, part_stride, parts, steps, (extent){ false, false });
}

static void load_sums(const float *c, size_t ldc, extent e) {
    _tile_loadd(0, c, ldc * sizeof *c);
    if (e.wide) _tile_loadd(1, c + HALF, ldc * sizeof *c);
    if (e.tall) _tile_loadd(2, c + HALF * ldc, ldc * sizeof *c);
    if (e.tall && e.wide) _tile_loadd(3, c + HALF * ldc + HALF, ldc * sizeof *c);
}

static void store_sums(float *c, size_t ldc, extent e) {
    _tile_stored(0, c, ldc * sizeof *c);
    if (e.wide) _tile_stored(1, c + HALF, ldc * sizeof *c);
    if (e.tall) _tile_stored(2, c + HALF * ldc, ldc * sizeof *c);
    if (e.tall && e.wide) _tile_stored(3, c + HALF * ldc + HALF, ldc * sizeof *c);
}

static void zero_sums(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* one row of at most 32 sums */
INLINE void put_row(float *c, const float *sum, float alpha, float beta, size_t n) {
    for (size_t at = 0; at < n; at += W) {
        const __mmask16 m = lanes_in(at, n);
        __m512 v = _mm512_mul_ps(_mm512_load_ps(sum + at), _mm512_set1_ps(alpha));
        if (beta != 0.0f) v = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, c + at), _mm512_set1_ps(beta), v);
        _mm512_mask_storeu_ps(c + at, m, v);
    }
}

/* Sums begin with c where it is added as it is; blocks that lie whole in c are not copied. Both only save time or copy
 * bits: an entry has the same ones at an edge. */
static void multiply(float *c, size_t ldc, float alpha, float beta, const uint16_t *l, const uint16_t *r,
                     size_t part_stride, size_t parts, size_t steps, size_t rows, size_t cols) {
    _Alignas(64) float sum[LT_UNIT * LT_UNIT];
    const extent e = { rows > HALF, cols > HALF };
    const bool plain = alpha == 1.0f && (beta == 0.0f || beta == 1.0f),
               whole = plain && rows % HALF == 0 && cols % HALF == 0;
    float *to = whole ? c : sum;
    const size_t ldt = whole ? ldc : LT_UNIT;
    for (size_t i = 0; i < rows; i++)
        for (size_t at = 0; at < cols; at += W) __builtin_prefetch(c + i * ldc + at, 1, 3);
    for (size_t i = 0; i < rows && plain && !whole && beta == 1.0f; i++)
        for (size_t at = 0; at < LT_UNIT; at += W)
            _mm512_store_ps(sum + i * LT_UNIT + at, load_lanes(c + i * ldc, at, cols));
    if (plain && beta == 1.0f)
        load_sums(to, ldt, e);
    else
        zero_sums();
    sum_block(l, r, part_stride, parts, steps, e);
    store_sums(to, ldt, e);
    for (size_t i = 0; i < rows && !whole; i++)
        put_row(c + i * ldc, sum + i * LT_UNIT, alpha, plain ? 0.0f : beta, cols);
}

static const lt_matrix_unit unit = {
    enter, leave, left, right_rows, right_columns, right_bf16, right_of_left, multiply
};
