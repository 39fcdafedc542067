/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/kernel/body.h - the fast kernels, written once on vec.h; each isa_*.c includes it last and gets its table.
 *
 * Storage becomes lanes by unit: W elements of a plain type, one block of a block type. Widening gives exactly the
 * bits of the dtype row's to_f32. A dot product adds vector v of a row to accumulator v % 4, and the four in pairs at
 * the end: the order depends on W alone, not on the dtype or on how many rows share x or the weights. `fused` leaves no
 * choice to the compiler, which may not contract alike in two copies of the same loop. */
#include <math.h>

/* bytes: weights come from memory in order and are asked for into the L2 cache (docs/performance.md) */
enum { AHEAD = 4096 };
enum { TOGETHER = TILE_ROWS == 8 ? 4 : 2 }; /* stored rows whose sums fit the registers */
enum { CHUNK = 1024 }; /* floats of a widened piece that stays in the L1 cache; a multiple of every unit */

/* ---- one unit of storage into registers; leading halves: scale, minimum ---- */

INLINE vf to_vf(vu u) {
    return __builtin_convertvector((vi)u, vf); /* values below 2^31 */
}
INLINE vu lanes(void) {
    vu v;
    for (uint32_t l = 0; l < W; l++) v[l] = l;
    return v;
}

INLINE void unit_f32(vf *out, const uint8_t *b) {
    out[0] = load(b);
}
INLINE void unit_f16(vf *out, const uint8_t *b) {
    out[0] = load_f16(b);
}
INLINE void unit_bf16(vf *out, const uint8_t *b) {
    out[0] = (vf)(load_u16(b) << 16);
}

INLINE void unit_q8_0(vf *out, const uint8_t *b) {
    for (size_t i = 0; i < 32 / W; i++) out[i] = __builtin_convertvector(load_i8(b + 2 + i * W), vf) * half_splat(b);
}

/* 16 bytes hold elements 0-15 in their low and 16-31 in their high halves */
#ifdef LOOKUP
/* the sixteen values that a run can have, then one permutation per vector; look16 reads four bits of the index */
INLINE void look_halves(vf *out, const uint8_t *b, vf table) {
    const vu u = load_u8(b);
    out[0] = look16(table, u);
    out[1] = look16(table, u >> 4);
}
INLINE void unit_q4_0(vf *out, const uint8_t *b) {
    look_halves(out, b + 2, (to_vf(lanes()) - 8.0f) * half_splat(b));
}
INLINE void unit_q4_1(vf *out, const uint8_t *b) {
    look_halves(out, b + 4, rounded(to_vf(lanes()) * half_splat(b)) + half_splat(b + 2));
}
#else
INLINE void unit_q4_0(vf *out, const uint8_t *b) {
    for (size_t i = 0; i < 16 / W; i++) {
        const vu u = load_u8(b + 2 + i * W);
        out[i] = (to_vf(u & 15) - 8.0f) * half_splat(b);
        out[i + 16 / W] = (to_vf(u >> 4) - 8.0f) * half_splat(b);
    }
}
INLINE void unit_q4_1(vf *out, const uint8_t *b) {
    for (size_t i = 0; i < 16 / W; i++) {
        const vu u = load_u8(b + 4 + i * W);
        out[i] = rounded(to_vf(u & 15) * half_splat(b)) + half_splat(b + 2);
        out[i + 16 / W] = rounded(to_vf(u >> 4) * half_splat(b)) + half_splat(b + 2);
    }
}
#endif

/* The 32 integers of a five-bit block: fifth bits in a u32, halves after it. */
INLINE void fives(vu *out, const uint8_t *b) {
    uint32_t fifth;
    memcpy(&fifth, b, sizeof fifth);
    for (size_t i = 0; i < 16 / W; i++) {
        const vu u = load_u8(b + 4 + i * W), low = fifth >> (lanes() + (uint32_t)(i * W)),
                 high = fifth >> (lanes() + (uint32_t)(16 + i * W));
        out[i] = (u & 15) | (low & 1) << 4;
        out[i + 16 / W] = u >> 4 | (high & 1) << 4;
    }
}
INLINE void unit_q5_0(vf *out, const uint8_t *b) {
    vu q[32 / W];
    fives(q, b + 2);
    for (size_t i = 0; i < 32 / W; i++) out[i] = (to_vf(q[i]) - 16.0f) * half_splat(b);
}
INLINE void unit_q5_1(vf *out, const uint8_t *b) {
    vu q[32 / W];
    fives(q, b + 4);
    for (size_t i = 0; i < 32 / W; i++) out[i] = rounded(to_vf(q[i]) * half_splat(b)) + half_splat(b + 2);
}

/* d times the eight 6-bit scales, then dmin times the eight minima, of the 12 bytes at b; see core/quant.h */
INLINE void pairs(float out[16], const uint8_t *b, vf d, vf dmin) {
    uint32_t u[3];
    memcpy(u, b, sizeof u);
    const uint32_t six[4] = { u[0] & 0x3f3f3f3f, (u[2] & 0x0f0f0f0f) | (u[0] >> 6 & 0x03030303) << 4, u[1] & 0x3f3f3f3f,
                              (u[2] >> 4 & 0x0f0f0f0f) | (u[1] >> 6 & 0x03030303) << 4 };
    for (size_t i = 0; i < 16; i += W) {
        const vu scale = (vu)(lanes() + (uint32_t)i < 8);
        const vf factor = (vf)(((vu)d & scale) | ((vu)dmin & ~scale));
        store(out + i, to_vf(load_u8((const uint8_t *)six + i)) * factor);
    }
}
/* fifth NULL: q4_k. Run k of 32 lies in the low (k even) or high halves of 32 bytes, its fifth bits at bit k. */
INLINE void unit_k(vf *out, const uint8_t *b, const uint8_t *fifth, const uint8_t *halves) {
    float p[16];
    pairs(p, b + 4, half_splat(b), half_splat(b + 2));
    for (size_t k = 0; k < 8; k++)
        for (size_t i = 0; i < 32 / W; i++) {
            vu q = load_u8(halves + k / 2 * 32 + i * W) >> (uint32_t)(k % 2 * 4) & 15;
            if (fifth) q |= (load_u8(fifth + i * W) >> (uint32_t)k & 1) << 4;
            out[k * (32 / W) + i] = rounded(to_vf(q) * p[k]) - p[8 + k];
        }
}
INLINE void unit_q4_k(vf *out, const uint8_t *b) {
    unit_k(out, b, NULL, b + 16);
}
INLINE void unit_q5_k(vf *out, const uint8_t *b) {
    unit_k(out, b, b + 16, b + 48);
}
INLINE void unit_q6_k(vf *out, const uint8_t *b) {
    float scale[16];
    for (size_t i = 0; i < 16; i += W)
        store(scale + i, __builtin_convertvector(load_i8(b + 192 + i), vf) * half_splat(b + 208));
    for (size_t e = 0; e < 256; e += W) { /* as the rows of core/quant.c: half, run of 32, place */
        const size_t half = e / 128, run = e % 128 / 32, j = e % 32;
        const vu low = load_u8(b + half * 64 + run % 2 * 32 + j) >> (uint32_t)(run / 2 * 4) & 15,
                 top = load_u8(b + 128 + half * 32 + j) >> (uint32_t)(run * 2) & 3;
        out[e / W] = (to_vf(low | top << 4) - 32.0f) * scale[e / 16];
    }
}

/* ---- rows of storage ---- */

INLINE float finish(const vf acc[4]) {
    return lane_sum((acc[0] + acc[1]) + (acc[2] + acc[3]));
}

/* STEP units make at least four vectors, so that the accumulator v % 4 of vector v is a constant. A few stored rows
 * take turns: what a row costs beside its bytes is shared by them. Lines are asked for in the order of memory, as many
 * as a step reads, those that are left at the end: rows are often too short, and begin in the middle of a line. */
#define STORED(type, UNIT, BYTES)                                                                                      \
    static void widen_##type(float *restrict dst, const uint8_t *b, size_t units) {                                    \
        for (size_t u = 0; u < units; u++, b += (BYTES), dst += (UNIT)) {                                              \
            vf w[(UNIT) / W];                                                                                          \
            unit_##type(w, b);                                                                                         \
            for (size_t i = 0; i < (UNIT) / W; i++) store(dst + i * W, w[i]);                                          \
        }                                                                                                              \
    }                                                                                                                  \
    INLINE void add_##type(vf *acc, const float *x, const uint8_t *b, size_t v) {                                      \
        vf w[(UNIT) / W];                                                                                              \
        unit_##type(w, b);                                                                                             \
        for (size_t i = 0; i < (UNIT) / W; i++) acc[(v + i) % 4] = fused(w[i], load(x + i * W), acc[(v + i) % 4]);     \
    }                                                                                                                  \
    INLINE void sums_##type(float *y, const float *x, const uint8_t *b, size_t stride, size_t rows, size_t units,      \
                            size_t rest) {                                                                             \
        enum { N = (UNIT) / W, STEP = N < 4 ? 4 / N : 1 };                                                             \
        const uint8_t *ask = b + rows * stride + AHEAD, *last_ask = ask + rows * stride;                               \
        vf acc[TOGETHER][4];                                                                                           \
        for (size_t r = 0; r < rows; r++)                                                                              \
            for (size_t i = 0; i < 4; i++) acc[r][i] = splat(0.0f);                                                    \
        for (; units >= STEP; units -= STEP, b += STEP * (BYTES), x += STEP * (UNIT)) {                                \
            for (size_t o = 0; o + 64 <= rows * STEP * (BYTES); o += 64, ask += 64) __builtin_prefetch(ask, 0, 2);     \
            for (size_t r = 0; r < rows; r++)                                                                          \
                for (size_t k = 0; k < STEP; k++)                                                                      \
                    add_##type(acc[r], x + k * (UNIT), b + r * stride + k * (BYTES), k * N);                           \
        }                                                                                                              \
        for (; ask < last_ask; ask += 64) __builtin_prefetch(ask, 0, 2);                                               \
        for (size_t k = 0; k + 1 < STEP && k < units; k++)                                                             \
            for (size_t r = 0; r < rows; r++) add_##type(acc[r], x + k * (UNIT), b + r * stride + k * (BYTES), k * N); \
        if ((UNIT) == W && rest > 0) {                                                                                 \
            float last[2][W];                                                                                          \
            copy_part(last[0], x + units * (UNIT), rest * sizeof *x);                                                  \
            for (size_t r = 0; r < rows; r++) {                                                                        \
                copy_part(last[1], b + r * stride + units * (BYTES), rest * ((BYTES) / (UNIT)));                       \
                for (size_t k = 0; k < STEP; k++)                                                                      \
                    if (k == units) add_##type(acc[r], last[0], (const uint8_t *)last[1], k *N);                       \
            }                                                                                                          \
        }                                                                                                              \
        for (size_t r = 0; r < rows; r++) y[r] = finish(acc[r]);                                                       \
    }                                                                                                                  \
    static void dot_##type(float *y, const float *x, const uint8_t *b, size_t stride, size_t rows, size_t units,       \
                           size_t rest) {                                                                              \
        size_t r = 0;                                                                                                  \
        for (; r + TOGETHER <= rows; r += TOGETHER)                                                                    \
            sums_##type(y + r, x, b + r * stride, stride, TOGETHER, units, rest);                                      \
        for (; r < rows; r++) sums_##type(y + r, x, b + r * stride, stride, 1, units, rest);                           \
    }
STORED(f32, W, 4 * W)
STORED(f16, W, 2 * W)
STORED(bf16, W, 2 * W)
STORED(q8_0, 32, 34)
STORED(q4_0, 32, 18)
STORED(q4_1, 32, 20)
STORED(q5_0, 32, 22)
STORED(q5_1, 32, 24)
STORED(q4_k, 256, 144)
STORED(q5_k, 256, 176)
STORED(q6_k, 256, 210)

/* acc[v % 4] += x[v] w[v] over n widened weights; zeros stand after the last */
static void dot_more(vf acc[4], const float *x, const float *w, size_t n) {
    size_t i = 0, v = 0;
    for (; i + 4 * W <= n; i += 4 * W)
        for (size_t k = 0; k < 4; k++) acc[k] = fused(load(w + i + k * W), load(x + i + k * W), acc[k]);
    for (; i + W <= n; i += W, v++) acc[v] = fused(load(w + i), load(x + i), acc[v]);
    if (i < n) acc[v] = fused(load_part(w + i, n - i), load_part(x + i, n - i), acc[v]);
}

/* Four rows of x against widened weights: the weights are loaded once. */
static void dot_four(vf acc[4][4], const float *x, size_t ldx, const float *w, size_t vectors) {
    for (size_t v = 0; v + 4 <= vectors; v += 4)
        for (size_t i = 0; i < 4; i++) {
            const vf a = load(w + (v + i) * W);
            for (size_t r = 0; r < 4; r++) acc[r][i] = fused(a, load(x + r * ldx + (v + i) * W), acc[r][i]);
        }
}

typedef struct stored {
    size_t unit; /* elements of one, a power of two; 0: a dtype without fast code */
    void (*widen)(float *restrict dst, const uint8_t *b, size_t units);
    /* rest: elements, of a plain type */
    void (*dot)(float *y, const float *x, const uint8_t *b, size_t stride, size_t rows, size_t units, size_t rest);
} stored;
static const stored storage[LT_N_DTYPES] = {
    [LT_F32] = { W, widen_f32, dot_f32 },      [LT_F16] = { W, widen_f16, dot_f16 },
    [LT_BF16] = { W, widen_bf16, dot_bf16 },   [LT_Q8_0] = { 32, widen_q8_0, dot_q8_0 },
    [LT_Q4_0] = { 32, widen_q4_0, dot_q4_0 },  [LT_Q4_1] = { 32, widen_q4_1, dot_q4_1 },
    [LT_Q5_0] = { 32, widen_q5_0, dot_q5_0 },  [LT_Q5_1] = { 32, widen_q5_1, dot_q5_1 },
    [LT_Q4_K] = { 256, widen_q4_k, dot_q4_k }, [LT_Q5_K] = { 256, widen_q5_k, dot_q5_k },
    [LT_Q6_K] = { 256, widen_q6_k, dot_q6_k },
};

static const uint8_t *element(lt_dtype t, const void *w, size_t i) {
    const lt_dtype_row *row = lt_dtype_get(t);
    return (const uint8_t *)w + i / row->block * row->bytes;
}

static void widen(float *restrict dst, lt_dtype t, const void *src, size_t n) {
    const stored *s = &storage[t];
    const size_t whole = s->unit ? n / s->unit * s->unit : 0;
    if (whole) s->widen(dst, src, whole / s->unit);
    if (whole < n) lt_dtype_get(t)->to_f32(dst + whole, element(t, src, whole), n - whole);
}

/* n widened weights, the first of them at a multiple of 4 W of their row, against all rows of x. */
static void dot_piece(vf (*acc)[4], const float *x, size_t ldx, size_t rows, const float *w, size_t n) {
    const size_t whole = n / (4 * W) * 4 * W;
    size_t j = 0;
    for (; j + 4 <= rows; j += 4) {
        dot_four(acc + j, x + j * ldx, ldx, w, whole / W);
        for (size_t r = j; r < j + 4; r++) dot_more(acc[r], x + r * ldx + whole, w + whole, n - whole);
    }
    for (; j < rows; j++) dot_more(acc[j], x + j * ldx, w, n);
}

static void dot_rows(float *y, size_t ldy, const float *x, size_t ldx, size_t rows, lt_dtype t, const void *w,
                     size_t n) {
    const stored *s = &storage[t];
    if (rows == 1 && s->unit) {
        s->dot(y, x, w, (size_t)(element(t, w, n) - (const uint8_t *)w), 1, n / s->unit, n & (s->unit - 1));
        return;
    }
    vf acc[8][4];
    for (size_t j = 0; j < rows; j++)
        for (size_t i = 0; i < 4; i++) acc[j][i] = splat(0.0f);
    float part[CHUNK];
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = lt_min_size(CHUNK, n - i);
        const uint8_t *from = element(t, w, i), *end = element(t, w, i + m);
        for (const uint8_t *p = from; p < end; p += 64) __builtin_prefetch(p + AHEAD, 0, 2);
        widen(part, t, from, m);
        dot_piece(acc, x + i, ldx, rows, part, m);
    }
    for (size_t j = 0; j < rows; j++) y[j * ldy] = finish(acc[j]);
}

static void dot_stored(float *y, const float *x, lt_dtype t, const void *w, size_t stride, size_t rows, size_t n) {
    const stored *s = &storage[t];
    if (s->unit)
        s->dot(y, x, w, stride, rows, n / s->unit, n & (s->unit - 1));
    else
        for (size_t r = 0; r < rows; r++) dot_rows(y + r, 1, x, 0, 1, t, (const uint8_t *)w + r * stride, n);
}

static void axpy_f32(float *y, float a, const float *w, size_t n) {
    size_t i = 0;
    for (; i + W <= n; i += W) store(y + i, load(y + i) + a * load(w + i));
    if (i < n) store_part(y + i, load_part(y + i, n - i) + a * load_part(w + i, n - i), n - i);
}

static void axpy(float *y, float a, lt_dtype t, const void *w, size_t n) {
    if (t == LT_F32) {
        axpy_f32(y, a, w, n);
        return;
    }
    float part[CHUNK];
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t m = lt_min_size(CHUNK, n - i);
        widen(part, t, element(t, w, i), m);
        axpy_f32(y + i, a, part, m);
    }
}

/* ---- exp ---- */

/* exp(x) = 2^k e^r, k = round(x / ln 2), |r| <= ln(2)/2: e^r = 1 + r + r^2 p(r), Cephes' expf (Moshier 1992).
 * k is read off the low bits of x / ln 2 + 1.5 * 2^23; 2^k is two factors, so that it may under- or overflow. */
INLINE vf vexp(vf x) {
    x = vmax(splat(-104.0f), vmin(splat(89.0f), x)); /* beyond these: 0 and infinity; NaN stays */
    const vf magic = splat(12582912.0f), t = x * 1.44269504f + magic, k = t - magic;
    const vf r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
#ifdef POWER
    return times_power(p, k);
#else
    const vi n = (vi)((vu)t - (vu)magic), half = n >> 1, rest = (vi)((vu)n - (vu)half);
    return p * (vf)(((vu)half + 127) << 23) * (vf)(((vu)rest + 127) << 23);
#endif
}

static void exp_rows(float *y, const float *x, size_t n) {
    size_t i = 0;
    for (; i + W <= n; i += W) store(y + i, vexp(load(x + i)));
    if (i < n) store_part(y + i, vexp(load_part(x + i, n - i)), n - i);
}

static float exp_sum(float *y, const float *x, float scale, float m, size_t n) {
    vf sum[2] = { { 0.0f }, { 0.0f } };
    size_t i = 0;
    for (; i + 2 * W <= n; i += 2 * W)
        for (size_t k = 0; k < 2; k++) {
            const vf e = vexp(load(x + i + k * W) * scale - m);
            store(y + i + k * W, e);
            sum[k] += e;
        }
    for (; i < n; i += W) {
        const size_t part = lt_min_size(W, n - i);
        store_part(y + i, vexp(load_part(x + i, part) * scale - m), part);
        sum[0] += load_part(y + i, part);
    }
    return lane_sum(sum[0] + sum[1]);
}

static void silu_mul(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i += W) {
        const size_t part = lt_min_size(W, n - i);
        const vf a = part == W ? load(g + i) : load_part(g + i, part);
        vf r = a / (1.0f + vexp(-a));
        if (u) r *= part == W ? load(u + i) : load_part(u + i, part);
        if (part == W)
            store(y + i, r);
        else
            store_part(y + i, r, part);
    }
}

/* ---- plain loops; y may be any of the inputs ---- */

static float max(const float *x, size_t n) {
    vf m[2] = { splat(-INFINITY), splat(-INFINITY) };
    size_t i = 0;
    for (; i + 2 * W <= n; i += 2 * W)
        for (size_t k = 0; k < 2; k++) m[k] = vmax(m[k], load(x + i + k * W));
    float most = lane_max(vmax(m[0], m[1]));
    for (; i < n; i++) most = x[i] > most ? x[i] : most;
    return most;
}

static double sumsq(const float *x, size_t n) {
    enum { H = W / 2 };
    vd s[4] = { { 0.0 }, { 0.0 }, { 0.0 }, { 0.0 } };
    size_t i = 0;
    for (; i + 4 * H <= n; i += 4 * H)
        for (size_t k = 0; k < 4; k++) {
            const vd v = load_f64(x + i + k * H);
            s[k] += v * v;
        }
    s[0] = (s[0] + s[1]) + (s[2] + s[3]);
    double sum = 0.0;
    for (size_t l = 0; l < H; l++) sum += s[0][l];
    for (; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

static void scale(float *y, const float *x, float a, size_t n) {
    size_t i = 0;
    for (; i + W <= n; i += W) store(y + i, load(x + i) * a);
    for (; i < n; i++) y[i] = a * x[i];
}

static void mul(float *y, const float *x, const float *w, float a, size_t n) {
    size_t i = 0;
    for (; i + W <= n; i += W) store(y + i, load(x + i) * a * load(w + i));
    for (; i < n; i++) y[i] = a * x[i] * w[i];
}

static void add(float *y, const float *a, const float *b, size_t n) {
    size_t i = 0;
    for (; i + W <= n; i += W) store(y + i, load(a + i) + load(b + i));
    for (; i < n; i++) y[i] = a[i] + b[i];
}

static void rope(float *y, const float *x, const float *cs, const float *sn, size_t r) {
    const size_t half = r / 2;
    size_t i = 0;
    for (; i + W <= half; i += W) {
        const vf a = load(x + i), b = load(x + i + half), c = load(cs + i), s = load(sn + i);
        store(y + i, a * c - b * s);
        store(y + i + half, b * c + a * s);
    }
    for (; i < half; i++) {
        const float a = x[i], b = x[i + half];
        y[i] = a * cs[i] - b * sn[i];
        y[i + half] = b * cs[i] + a * sn[i];
    }
}

/* a range of the last W lanes or fewer */
INLINE vf take(const float *p, size_t n) {
    return n == W ? load(p) : load_part(p, n);
}
INLINE void put(float *p, vf v, size_t n) {
    if (n == W)
        store(p, v);
    else
        store_part(p, v, n);
}

/* exp of less than -87 has no reciprocal: the slope there is 0 */
static void silu_back(float *dg, float *du, const float *dy, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i += W) {
        const size_t part = lt_min_size(W, n - i);
        const vf x = vmax(splat(-87.0f), take(g + i, part)), d = take(dy + i, part), s = 1.0f / (1.0f + vexp(-x));
        const vf up = take(u + i, part);
        put(dg + i, d * up * (s * (1.0f + x * (1.0f - s))), part);
        put(du + i, d * (x * s), part);
    }
}

static double dot3(const float *a, const float *b, const float *c, size_t n) {
    enum { H = W / 2 };
    vd s[2] = { { 0.0 }, { 0.0 } };
    size_t i = 0;
    for (; i + 2 * H <= n; i += 2 * H)
        for (size_t k = 0; k < 2; k++) {
            const vd t = load_f64(a + i + k * H) * load_f64(b + i + k * H);
            s[k] += c ? t * load_f64(c + i + k * H) : t;
        }
    s[0] += s[1];
    double sum = 0.0;
    for (size_t l = 0; l < H; l++) sum += s[0][l];
    for (; i < n; i++) sum += (double)a[i] * b[i] * (c ? (double)c[i] : 1.0);
    return sum;
}

static void norm_back(float *dx, const float *dy, const float *w, const float *x, const float abc[3], float mean,
                      bool add, size_t n) {
    for (size_t i = 0; i < n; i += W) {
        const size_t part = lt_min_size(W, n - i);
        const vf v = abc[0] * take(dy + i, part) * take(w + i, part) + abc[1] * (take(x + i, part) - mean) + abc[2];
        put(dx + i, add ? take(dx + i, part) + v : v, part);
    }
}

/* sums of m vectors of doubles stay in registers over all rows */
INLINE void add_columns(double *acc, const float *x, size_t ldx, size_t rows, size_t m) {
    vd v[4];
    memcpy(v, acc, m * sizeof *v);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < m; i++) v[i] += load_f64(x + r * ldx + i * (W / 2));
    memcpy(acc, v, m * sizeof *v);
}

static void add_f64(double *acc, const float *x, size_t ldx, size_t rows, size_t n) {
    enum { H = W / 2 };
    size_t i = 0;
    for (; i + 4 * H <= n; i += 4 * H) add_columns(acc + i, x + i, ldx, rows, 4);
    for (; i + H <= n; i += H) add_columns(acc + i, x + i, ldx, rows, 1);
    for (; i < n; i++)
        for (size_t r = 0; r < rows; r++) acc[i] += (double)x[r * ldx + i];
}

/* ---- dropout ---- */

/* Philox 4x32-10 (core/rng.c) of W blocks, one a lane. */
INLINE void philox(vu c[4], uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        vu low0, low1;
        const vu high0 = multiply_wide(c[0], 0xD2511F53u, &low0), high1 = multiply_wide(c[2], 0xCD9E8D57u, &low1);
        c[0] = high1 ^ c[1] ^ k0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ k1;
        c[3] = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* the eight bits of W blocks from `block` on */
INLINE void draw_bytes(uint8_t *mask, const lt_rng *r, uint32_t block, uint32_t below) {
    typedef uint8_t bytes __attribute__((vector_size(W)));
    vu c[4], bits = { 0 };
    for (int k = 0; k < 4; k++) c[k] = r->counter[k] - (vu){ 0 };
    c[0] += block + lanes();
    philox(c, r->key[0], r->key[1]);
    for (uint32_t k = 0; k < 4; k++) {
        bits |= (vu)((c[k] & 0xFFFF) >= below) & (1u << 2 * k);
        bits |= (vu)((c[k] >> 16) >= below) & (2u << 2 * k);
    }
    const bytes out = __builtin_convertvector(bits, bytes);
    memcpy(mask, &out, sizeof out);
}

static void mask_draw(uint8_t *mask, const lt_rng *stream, uint32_t below, size_t n) {
    const size_t n_bytes = (n + 7) / 8;
    uint8_t rest[W];
    size_t i = 0;
    for (; i + W <= n_bytes; i += W) draw_bytes(mask + i, stream, (uint32_t)i, below);
    if (i == n_bytes) return;
    draw_bytes(rest, stream, (uint32_t)i, below);
    memcpy(mask + i, rest, n_bytes - i);
}

/* v where bit i + lane of the mask is set, else 0 */
INLINE vf kept_or_zero(vf v, const uint8_t *mask, size_t i) {
    uint32_t bits = 0;
    memcpy(&bits, mask + i / 8, W / 8 + (W < 8));
    const vu lane = 1u << lanes();
    const vi kept = (vi)(((bits >> i % 8) & lane) != 0);
    return (vf)((vi)v & kept);
}

static void mask_mul(float *y, const float *x, const uint8_t *mask, float a, size_t n) {
    size_t i = 0;
    for (; i + W <= n; i += W) store(y + i, kept_or_zero(load(x + i) * a, mask, i));
    for (; i < n; i++) y[i] = mask[i / 8] >> i % 8 & 1 ? a * x[i] : 0.0f;
}

static void mask_add(float *y, const float *x, const uint8_t *mask, float a, size_t n) {
    size_t i = 0;
    for (; i + W <= n; i += W) store(y + i, load(y + i) + kept_or_zero(load(x + i) * a, mask, i));
    for (; i < n; i++) y[i] += mask[i / 8] >> i % 8 & 1 ? a * x[i] : 0.0f;
}

const lt_kernels TABLE = { TABLE_NAME, widen,     dot_rows,     dot_stored, axpy,      exp_rows, exp_sum,
                           max,        sumsq,     scale,        mul,        add,       silu_mul, silu_back,
                           dot3,       norm_back, rope,         add_f64,    mask_draw, mask_mul, mask_add,
                           W,          TILE_ROWS, TILE_VECTORS, tile,       pack,      UNIT };
