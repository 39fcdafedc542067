/* SPDX-License-Identifier: Apache-2.0 */
/* Thin products against plain sums in double, with and without dropped entries; the same bytes for 1, 2, 3 threads. */
#include "linalg/thin.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "linalg/teams_test.h"

typedef struct operands {
    lt_thin s;
    float *x, *v, *t; /* [n, d] [q, d] [n, q] */
    uint8_t *mask;
} operands;

static void make(operands *o, size_t n, size_t d, size_t q, bool drops) {
    o->s = (lt_thin){ n, d, q, NULL, (d + 7) / 8 + 1, 0.75 };
    o->x = normal(1, n * d);
    o->v = normal(2, q * d);
    o->t = normal(3, n * q);
    o->mask = lt_malloc(n * o->s.mask_ld);
    lt_rng r = test_rng(4);
    for (size_t i = 0; i < n * o->s.mask_ld; i++) o->mask[i] = (uint8_t)lt_rng_u32(&r);
    if (drops) o->s.mask = o->mask;
}
static void drop(operands *o) {
    lt_free(o->x);
    lt_free(o->v);
    lt_free(o->t);
    lt_free(o->mask);
}

static double kept(const lt_thin *s, size_t i, size_t c) {
    return !s->mask || (s->mask[i * s->mask_ld + c / 8] >> c % 8 & 1) ? 1.0 : 0.0;
}

/* One entry of the result and the size of its terms, in double. */
typedef double entry_fn(const operands *o, size_t i, size_t j, double *size);
static double project_entry(const operands *o, size_t i, size_t j, double *size) {
    double sum = 0.0;
    for (size_t c = 0; c < o->s.d; c++) {
        const double term = kept(&o->s, i, c) * o->x[i * o->s.d + c] * o->v[j * o->s.d + c];
        sum += term;
        *size += fabs(term);
    }
    return o->s.alpha * sum;
}
static double expand_entry(const operands *o, size_t i, size_t c, double *size) {
    double sum = 0.0;
    for (size_t j = 0; j < o->s.q; j++) {
        const double term = kept(&o->s, i, c) * o->t[i * o->s.q + j] * o->v[j * o->s.d + c];
        sum += term;
        *size += fabs(term);
    }
    return o->x[i * o->s.d + c] + o->s.alpha * sum;
}
static double outer_entry(const operands *o, size_t j, size_t c, double *size) {
    double sum = 0.0;
    for (size_t i = 0; i < o->s.n; i++) {
        const double term = kept(&o->s, i, c) * o->t[i * o->s.q + j] * o->x[i * o->s.d + c];
        sum += term;
        *size += fabs(term);
    }
    return o->v[j * o->s.d + c] + o->s.alpha * sum;
}

static void check(const operands *o, const float *got, size_t rows, size_t cols, size_t depth, entry_fn *entry) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) {
            double size = 1.0;
            const double want = entry(o, i, j, &size);
            if (!(fabs(got[i * cols + j] - want) <= FLT_EPSILON * (4.0 + sqrt((double)depth)) * (size + fabs(want))))
                fail_msg("n %zu d %zu q %zu at %zu, %zu: %g, not %g", o->s.n, o->s.d, o->s.q, i, j,
                         (double)got[i * cols + j], want);
        }
}

typedef void run_fn(lt_team *team, float *out, const operands *o);
static void run_project(lt_team *team, float *out, const operands *o) {
    lt_thin_project(team, out, o->x, o->v, &o->s);
}
static void run_expand(lt_team *team, float *out, const operands *o) {
    lt_thin_expand(team, out, o->t, o->v, &o->s);
}
static void run_outer(lt_team *team, float *out, const operands *o) {
    lt_thin_outer(team, out, o->t, o->x, &o->s);
}

/* from: what the result is added to, and whose bytes it starts with */
static void one(const operands *o, const float *from, size_t rows, size_t cols, size_t depth, run_fn *run,
                entry_fn *entry) {
    const size_t bytes = rows * cols * sizeof(float);
    float *first = lt_malloc(bytes), *more = lt_malloc(bytes);
    memcpy(first, from, bytes);
    run(teams[0], first, o);
    check(o, first, rows, cols, depth, entry);
    for (int i = 1; i < 3; i++) {
        memcpy(more, from, bytes);
        run(teams[i], more, o);
        assert_memory_equal(first, more, bytes);
    }
    lt_free(first);
    lt_free(more);
}

static const size_t shapes[][3] = { { 9, 1, 1 },    { 9, 8, 1 },    { 10, 17, 3 },  { 16, 48, 8 },   { 31, 96, 7 },
                                    { 33, 97, 16 }, { 70, 257, 9 }, { 65, 576, 8 }, { 120, 300, 32 } };

static void all_shapes(bool drops) {
    for (size_t k = 0; k < LT_COUNTOF(shapes); k++) {
        operands o;
        make(&o, shapes[k][0], shapes[k][1], shapes[k][2], drops);
        one(&o, o.t, o.s.n, o.s.q, o.s.d, run_project, project_entry);
        one(&o, o.x, o.s.n, o.s.d, o.s.q, run_expand, expand_entry);
        one(&o, o.v, o.s.q, o.s.d, o.s.n, run_outer, outer_entry);
        drop(&o);
    }
}

static void thin_products_match_plain_sums(void **state) {
    (void)state;
    all_shapes(false);
}

static void dropped_entries_are_left_out(void **state) {
    (void)state;
    all_shapes(true);
}

static void a_dropped_entry_may_be_anything(void **state) {
    (void)state;
    operands o;
    make(&o, 20, 40, 4, true);
    float *before = lt_malloc(20 * 4 * sizeof *before), *after = lt_malloc(20 * 4 * sizeof *after);
    lt_thin_project(teams[1], before, o.x, o.v, &o.s);
    for (size_t i = 0; i < o.s.n; i++)
        for (size_t c = 0; c < o.s.d; c++)
            if (kept(&o.s, i, c) == 0.0) o.x[i * o.s.d + c] = INFINITY;
    lt_thin_project(teams[1], after, o.x, o.v, &o.s);
    assert_memory_equal(before, after, 20 * 4 * sizeof *before);
    lt_free(before);
    lt_free(after);
    drop(&o);
}

static void what_does_not_fit_the_scratch_is_refused(void **state) {
    (void)state;
    assert_true(lt_thin_fits(1024, 32768, 32));
    assert_false(lt_thin_fits(1024, 32769, 8));
    assert_false(lt_thin_fits(1024, 576, 33));
    assert_false(lt_thin_fits(8, 576, 8));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thin_products_match_plain_sums),
        cmocka_unit_test(dropped_entries_are_left_out),
        cmocka_unit_test(a_dropped_entry_may_be_anything),
        cmocka_unit_test(what_does_not_fit_the_scratch_is_refused),
    };
    int failed = 0;
    RUN_ON_EVERY_TABLE(tests, failed)
    return failed;
}
