/* SPDX-License-Identifier: Apache-2.0 */
/* tests/nn/fixture.h - what tests of nn/ stand on, in both number types: one arena, teams, batches, parameters.
 *
 * Functions are static so that the same file serves the float and the double build. */
#ifndef LT_TESTS_NN_FIXTURE_H
#define LT_TESTS_NN_FIXTURE_H

#include <math.h>
#include <string.h>

#include "nn/ops.h"
#include "support/support.h"

enum { FIX_PIECES = 16 };

typedef struct fixture {
    lt_arena *mem;
    lt_team *team;
    lt_exec *x;
    lt_rng rng;
    lt_batch batch;
    lt_piece piece[FIX_PIECES];
} fixture;

__attribute__((unused)) static void *fix_zeros(fixture *f, size_t count, size_t size) {
    void *p = lt_arena_array(f->mem, count, size);
    assert_non_null(p);
    if (count * size > 0) memset(p, 0, count * size);
    return p;
}

__attribute__((unused)) static void fix_open(fixture *f, int threads, lt_exec_opts opts, uint32_t seed) {
    lt_err err = { 0 };
    memset(f, 0, sizeof *f);
    f->mem = lt_arena_create(1 << 20);
    f->rng = test_rng(seed);
    assert_ok(lt_team_create(&f->team, threads, NULL, &err), &err);
    assert_ok(lt_exec_create(&f->x, f->team, &opts, &err), &err);
}

__attribute__((unused)) static void fix_close(fixture *f) {
    lt_exec_destroy(f->x);
    lt_team_destroy(f->team);
    lt_arena_destroy(f->mem);
}

/* pieces of the given lengths (ended by SIZE_MAX), at positions 3, 10, 17, ...; roots all */
__attribute__((unused)) static void fix_batch(fixture *f, const size_t *lengths) {
    size_t row = 0, n = 0;
    for (; lengths[n] != SIZE_MAX; n++) {
        f->piece[n] = (lt_piece){ .row = row, .n = lengths[n], .pos0 = 3 + 7 * n, .parent = -1 };
        row += lengths[n];
    }
    f->batch = (lt_batch){ .n_rows = row, .n_pieces = n, .piece = f->piece };
}
#define LENGTHS(...) ((const size_t[]){ __VA_ARGS__, SIZE_MAX })

__attribute__((unused)) static void fix_ids(fixture *f, size_t vocab) {
    int32_t *ids = fix_zeros(f, f->batch.n_rows, sizeof *ids);
    for (size_t i = 0; i < f->batch.n_rows; i++) ids[i] = (int32_t)lt_rng_below(&f->rng, vocab);
    f->batch.ids = ids;
}

__attribute__((unused)) static lt_real *fix_normal(fixture *f, size_t n, double scale) {
    lt_real *v = fix_zeros(f, n, sizeof *v);
    for (size_t i = 0; i < n; i++) v[i] = (lt_real)(scale * lt_rng_normal(&f->rng));
    return v;
}

/* rank 1 when rows is 0 */
__attribute__((unused)) static lt_param fix_param(fixture *f, const char *name, size_t rows, size_t cols, double scale,
                                                  bool trains) {
    const size_t n = rows > 0 ? rows * cols : cols;
    lt_buffer *buffer = fix_zeros(f, 1, sizeof *buffer);
    *buffer = (lt_buffer){ .data = fix_normal(f, n, scale), .bytes = n * sizeof(lt_real) };
    const size_t size[] = { rows > 0 ? rows : cols, cols };
    return (lt_param){ .name = name,
                       .t = lt_tensor_dense(LT_REAL_DTYPE, rows > 0 ? 2 : 1, size, buffer, 0),
                       .grad = trains ? fix_zeros(f, n, sizeof(lt_real)) : NULL };
}

__attribute__((unused)) static lt_real *fix_values(const lt_param *p) {
    return (lt_real *)(uintptr_t)lt_host(&p->t);
}

/* the same numbers in another dtype, frozen */
__attribute__((unused)) static lt_param fix_param_as(fixture *f, const char *name, lt_dtype dt, size_t rows,
                                                     size_t cols, double scale) {
    const lt_param p = fix_param(f, name, rows, cols, scale, false);
    const lt_dtype_row *row = lt_dtype_get(dt);
    const size_t n = lt_tensor_count(&p.t), bytes = n / row->block * row->bytes;
    lt_buffer *buffer = fix_zeros(f, 1, sizeof *buffer);
    *buffer = (lt_buffer){ .data = fix_zeros(f, 1, bytes), .bytes = bytes };
    float *values = fix_zeros(f, n, sizeof *values);
    for (size_t i = 0; i < n; i++) values[i] = (float)((const lt_real *)lt_host(&p.t))[i];
    row->from_f32(buffer->data, values, n);
    return (lt_param){ .name = name, .t = lt_tensor_dense(dt, p.t.rank, p.t.size, buffer, 0) };
}

/* what: any of "2" two stages of rank r, "b" bias, "a" adapters of rank 2, "d" with dropout, "t" stored [in, out], "f"
 * weights frozen */
__attribute__((unused)) static lt_linear fix_linear(fixture *f, const char *what, size_t in, size_t out, size_t r) {
    const bool two = strchr(what, '2') != NULL, in_out = strchr(what, 't') != NULL, trains = !strchr(what, 'f');
    lt_linear l = { .name = "module", .n_stages = two ? 2 : 1 };
    for (int i = 0; i < l.n_stages; i++) {
        const size_t a = two && i == 1 ? r : in, b = two && i == 0 ? r : out;
        lt_stage *s = &l.stage[i];
        s->in_out = in_out;
        s->w = fix_param(f, "module.weight", in_out ? a : b, in_out ? b : a, 0.5, trains);
        if (!strchr(what, 'a')) continue;
        s->n_adapters = 2;
        s->adapters = fix_zeros(f, s->n_adapters, sizeof *s->adapters);
        for (size_t k = 0; k < s->n_adapters; k++)
            s->adapters[k] = (lt_adapter){ .a = fix_param(f, "lora_a", 2, a, 0.5, true),
                                           .b = fix_param(f, "lora_b", b, 2, 0.5, true),
                                           .scale = 0.75,
                                           .dropout = strchr(what, 'd') ? 0.3 : 0,
                                           .seed = k,
                                           .step = 5 };
    }
    if (strchr(what, 'b')) l.bias = fix_param(f, "module.bias", 0, out, 0.5, trains);
    return l;
}

#endif
