/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/kernel/tile.h - the register tile of a product, and the transposition that packs stored rows for it.
 *
 *   c[r, j] = alpha sum_q a[r rs + q cs] b[q ldb + j] + beta c[r, j],  r < rows <= TILE_ROWS, j < vectors W
 * One accumulator per entry, q in order: an entry's bits do not depend on the tile it falls into. The shape follows
 * Goto & van de Geijn (2008), "Anatomy of high-performance matrix multiplication": accumulators fill the register file.
 */

/* A function for each count of rows and vectors, so that accumulators are registers. */
#define TILE(R, V)                                                                                                     \
    static void tile_##R##_##V(float *c, size_t ldc, float alpha, float beta, const float *a, size_t rs, size_t cs,    \
                               const float *b, size_t ldb, size_t k) {                                                 \
        vf acc[R][V];                                                                                                  \
        const float *row[R];                                                                                           \
        for (size_t r = 0; r < R; r++) row[r] = a + r * rs;                                                            \
        for (size_t r = 0; r < R; r++)                                                                                 \
            for (size_t v = 0; v < V; v++) acc[r][v] = splat(0.0f);                                                    \
        for (size_t q = 0; q < k; q++, b += ldb) {                                                                     \
            vf column[V];                                                                                              \
            for (size_t v = 0; v < V; v++) column[v] = load(b + v * W);                                                \
            for (size_t r = 0; r < R; r++) {                                                                           \
                const vf x = splat(row[r][q * cs]);                                                                    \
                for (size_t v = 0; v < V; v++) acc[r][v] += x * column[v];                                             \
            }                                                                                                          \
        }                                                                                                              \
        for (size_t r = 0; r < R; r++)                                                                                 \
            for (size_t v = 0; v < V; v++) {                                                                           \
                float *to = c + r * ldc + v * W;                                                                       \
                store(to, beta == 0.0f ? acc[r][v] * alpha : acc[r][v] * alpha + load(to) * beta);                     \
            }                                                                                                          \
    }
#define TILES(V) TILE(1, V) TILE(2, V) TILE(3, V) TILE(4, V) TILE(5, V) TILE(6, V)
/* clang-format off */
TILES(1) TILES(2)
#if TILE_ROWS == 8
TILE(7, 1) TILE(8, 1) TILE(7, 2) TILE(8, 2) TILES(3) TILE(7, 3) TILE(8, 3)
#endif

typedef void tile_function(float *c, size_t ldc, float alpha, float beta, const float *a, size_t rs, size_t cs,
                           const float *b, size_t ldb, size_t k);
/* clang-format on */
static tile_function *const tiles[TILE_VECTORS][TILE_ROWS] = {
#if TILE_ROWS == 8
    { tile_1_1, tile_2_1, tile_3_1, tile_4_1, tile_5_1, tile_6_1, tile_7_1, tile_8_1 },
    { tile_1_2, tile_2_2, tile_3_2, tile_4_2, tile_5_2, tile_6_2, tile_7_2, tile_8_2 },
    { tile_1_3, tile_2_3, tile_3_3, tile_4_3, tile_5_3, tile_6_3, tile_7_3, tile_8_3 },
#else
    { tile_1_1, tile_2_1, tile_3_1, tile_4_1, tile_5_1, tile_6_1 },
    { tile_1_2, tile_2_2, tile_3_2, tile_4_2, tile_5_2, tile_6_2 },
#endif
};

static void tile(float *c, size_t ldc, float alpha, float beta, const float *a, size_t rs, size_t cs, const float *b,
                 size_t ldb, size_t k, size_t rows, size_t vectors) {
    tiles[vectors - 1][rows - 1](c, ldc, alpha, beta, a, rs, cs, b, ldb, k);
}

/* Zipping row i with row i + W/2 rotates the bits of the index (row, lane) by one: log2 W times exchange the two. */
INLINE void transpose(vf r[W]) {
    for (size_t stage = 1; stage < W; stage *= 2) {
        vf t[W];
        for (size_t i = 0; i < W / 2; i++) {
            t[2 * i] = zip_low(r[i], r[i + W / 2]);
            t[2 * i + 1] = zip_high(r[i], r[i + W / 2]);
        }
        memcpy(r, t, sizeof t);
    }
}

/* dst[q ldd + j] = src[j lds + q], j < W, q < n; rows at and past `rows` are zeros */
static void pack(float *dst, size_t ldd, const float *src, size_t lds, size_t rows, size_t n) {
    size_t q = 0;
    for (; q + W <= n && rows == W; q += W) {
        vf r[W];
        for (size_t j = 0; j < W; j++) r[j] = load(src + j * lds + q);
        transpose(r);
        for (size_t j = 0; j < W; j++) store(dst + (q + j) * ldd, r[j]);
    }
    for (; q < n; q++)
        for (size_t j = 0; j < W; j++) dst[q * ldd + j] = j < rows ? src[j * lds + q] : 0.0f;
}
