/* SPDX-License-Identifier: Apache-2.0 */
/* Allocators against brute force, their optimality conditions, and the reference's numbers (golden/compress). */
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/method.h"
#include "io/json.h"
#include "io/safetensors.h"

/* ---- problems ---- */

enum { MAX_LAYERS = 64 };
typedef struct problem {
    lt_curve curve[MAX_LAYERS];
    size_t n;
    double dense;
} problem;

static int falling(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static void add_curve(problem *p, const char *name, size_t m, size_t d, double *lambda, size_t n) {
    lt_curve *c = &p->curve[p->n++];
    *c = (lt_curve){
        .module = name, .m = m, .d = d, .n = n, .lambda = lambda, .r_max = lt_break_even_rank(m, d), .unit = 1.0
    };
    for (size_t i = 0; i < n; i++) c->total += lambda[i];
    p->dense += (double)m * (double)d;
}

static void add_random(problem *p, size_t m, size_t d, double decay, lt_rng *r) {
    const size_t n = lt_min_size(m, d);
    double *lambda = lt_calloc(n, sizeof *lambda);
    assert_non_null(lambda);
    for (size_t i = 0; i < n; i++) lambda[i] = fabs(lt_rng_normal(r)) * pow(decay, (double)i);
    qsort(lambda, n, sizeof *lambda, falling);
    add_curve(p, "layer", m, d, lambda, n);
}

static void problem_free(problem *p) {
    for (size_t i = 0; i < p->n; i++) lt_free(p->curve[i].lambda);
}

static lt_alloc_in input_of(const problem *p, double keep, const char *weights, double floor, bool dense) {
    return (lt_alloc_in){ .curve = p->curve,
                          .n = p->n,
                          .budget = (double)(size_t)(keep * p->dense + 1e-9),
                          .keep = keep,
                          .weights = weights,
                          .floor = floor,
                          .allow_dense = dense,
                          .align = 1 };
}

static void allocate(size_t *rank, const char *name, const lt_alloc_in *in, lt_alloc_trace *trace) {
    const lt_allocator *a;
    lt_err err = { 0 };
    assert_ok(lt_allocator_find(&a, name, &err), &err);
    assert_ok(a->allocate(rank, in, trace, &err), &err);
    assert_true(lt_alloc_cost(in, rank) <= in->budget);
}

static double weight_of(const lt_alloc_in *in, size_t i) {
    return strcmp(in->weights, "unit") == 0 ? 1.0 : 1.0 / in->curve[i].total;
}

static double error_at(const lt_curve *c, size_t rank) {
    double s = 0.0;
    for (size_t i = c->n; rank > 0 && i > rank; i--) s += c->lambda[i - 1];
    return s;
}

static double objective(const lt_alloc_in *in, const size_t *rank) {
    double s = 0.0;
    for (size_t i = 0; i < in->n; i++) s += weight_of(in, i) * error_at(&in->curve[i], rank[i]);
    return s;
}

/* All ranks of three layers (0: dense, when allowed). */
static double brute_force(const lt_alloc_in *in) {
    double best = INFINITY;
    size_t r[3];
    const size_t from = in->allow_dense ? 0 : 1;
    for (r[0] = from; r[0] <= in->curve[0].r_max; r[0]++)
        for (r[1] = from; r[1] <= in->curve[1].r_max; r[1]++)
            for (r[2] = from; r[2] <= in->curve[2].r_max; r[2]++)
                if (lt_alloc_cost(in, r) <= in->budget) best = fmin(best, objective(in, r));
    return best;
}

/* ---- check 17 ---- */

static void check_17_break_even(void **state) {
    (void)state;
    static const size_t cases[][3] = { { 2304, 768, 575 },  { 4096, 4096, 2047 }, { 11008, 4096, 2985 },
                                       { 1024, 4096, 819 }, { 768, 768, 383 },    { 3072, 768, 614 },
                                       { 1, 100, 0 },       { 1, 1, 0 },          { 2, 2, 0 },
                                       { 3, 3, 1 } };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++)
        assert_int_equal(lt_break_even_rank(cases[i][0], cases[i][1]), cases[i][2]);
    for (size_t m = 1; m < 40; m++)
        for (size_t d = 1; d < 40; d++) {
            const size_t r = lt_break_even_rank(m, d);
            assert_true(r * (m + d) < m * d && (r + 1) * (m + d) >= m * d);
        }
}

static void uniform_ranks_of_the_paper(void **state) {
    (void)state;
    assert_int_equal(lt_uniform_rank(4096, 4096, 0.8), 1638);
    assert_int_equal(lt_uniform_rank(11008, 4096, 0.8), 2388);
    assert_int_equal(lt_uniform_rank(1024, 4096, 0.8), 655);
    assert_int_equal(lt_uniform_rank(10, 10, 0.7), 3);
    assert_int_equal(lt_uniform_rank(4, 4, 0.01), 1);
}

/* ---- check 20 ---- */

static void check_20_equal_shapes_without_dense_is_optimal(void **state) {
    (void)state;
    for (uint32_t trial = 0; trial < 60; trial++) {
        lt_rng r = test_rng(trial);
        problem p = { 0 };
        for (size_t i = 0; i < 3; i++) add_random(&p, 24, 20, 0.6 + 0.35 * lt_rng_uniform(&r), &r);
        for (int unit = 0; unit < 2; unit++) {
            const lt_alloc_in in =
                input_of(&p, 0.25 + 0.6 * lt_rng_uniform(&r), unit ? "unit" : "relative", 0.0, false);
            size_t rank[3];
            allocate(rank, "global", &in, NULL);
            const double best = brute_force(&in), got = objective(&in, rank);
            assert_close_f64(&got, &best, 1, 1e-14, 1e-12);
        }
        problem_free(&p);
    }
}

static void check_20_mixed_shapes_stay_within_the_bound(void **state) {
    (void)state;
    static const size_t shapes[][2] = { { 24, 24 }, { 12, 24 }, { 30, 16 }, { 16, 40 } };
    for (uint32_t trial = 0; trial < 100; trial++) {
        lt_rng r = test_rng(trial);
        problem p = { 0 };
        for (size_t i = 0; i < 3; i++) {
            const size_t *s = shapes[lt_rng_below(&r, LT_COUNTOF(shapes))];
            add_random(&p, s[0], s[1], 0.6 + 0.35 * lt_rng_uniform(&r), &r);
        }
        const lt_alloc_in in = input_of(&p, 0.35 + 0.6 * lt_rng_uniform(&r), "relative", 0.0, trial % 2 == 0);
        size_t rank[3], before[3];
        lt_alloc_trace trace = { 0.0, before };
        allocate(rank, "global", &in, &trace);
        const double got = objective(&in, rank), best = brute_force(&in);
        /* the Lagrangian at mu bounds every choice from below */
        const double dual = objective(&in, before) + trace.mu * (lt_alloc_cost(&in, before) - in.budget);
        double largest = 0.0;
        for (size_t i = 0; i < 3; i++)
            largest = fmax(largest, weight_of(&in, i) * error_at(&in.curve[i], before[i] ? before[i] : 0));
        assert_true(best >= dual - 1e-12);
        assert_true(got >= best - 1e-12);
        assert_true(got <= best + largest + 1e-12);
        problem_free(&p);
    }
}

static void check_20_ranks_before_the_fill_are_stationary(void **state) {
    (void)state;
    for (uint32_t trial = 0; trial < 30; trial++) {
        lt_rng r = test_rng(trial);
        problem p = { 0 };
        for (size_t i = 0; i < 12; i++) add_random(&p, 20 + 4 * (i % 3), 24, 0.9, &r);
        const lt_alloc_in in = input_of(&p, 0.6, "relative", 0.5, true);
        size_t rank[12], before[12];
        lt_alloc_trace trace = { 0.0, before };
        allocate(rank, "global", &in, &trace);
        for (size_t i = 0; i < 12; i++) {
            const lt_curve *c = &p.curve[i];
            const size_t low = lt_max_size(1, (size_t)(0.5 * (double)lt_uniform_rank(c->m, c->d, 0.6)));
            if (before[i] == 0 || before[i] <= low || before[i] >= c->r_max) continue;
            const double cost = (double)(c->m + c->d), w = weight_of(&in, i);
            assert_true(w * c->lambda[before[i] - 1] / cost > trace.mu);
            assert_true(w * c->lambda[before[i]] / cost <= trace.mu);
            assert_true(rank[i] >= before[i]);
        }
        problem_free(&p);
    }
}

static void check_20_identical_layers_get_equal_ranks(void **state) {
    (void)state;
    lt_rng r = test_rng(1);
    problem p = { 0 };
    add_random(&p, 32, 48, 0.9, &r);
    for (size_t i = 0; i < 6; i++) {
        double *copy = lt_calloc(32, sizeof *copy);
        memcpy(copy, p.curve[0].lambda, 32 * sizeof *copy);
        add_curve(&p, "copy", 32, 48, copy, 32);
    }
    const lt_alloc_in in = input_of(&p, 0.55, "relative", 0.5, false);
    size_t rank[7], lo = SIZE_MAX, hi = 0;
    allocate(rank, "global", &in, NULL);
    for (size_t i = 0; i < 7; i++) lo = lt_min_size(lo, rank[i]), hi = lt_max_size(hi, rank[i]);
    assert_true(hi - lo <= 1);
    problem_free(&p);
}

/* ---- options ---- */

static void the_floor_holds_and_aligned_ranks_are_multiples(void **state) {
    (void)state;
    lt_rng r = test_rng(2);
    problem p = { 0 };
    for (size_t i = 0; i < 10; i++) add_random(&p, 64, 96, 0.5 + 0.045 * (double)i, &r);
    static const char *const names[] = { "global", "uniform" };
    for (size_t k = 0; k < LT_COUNTOF(names); k++) {
        lt_alloc_in in = input_of(&p, 0.6, "unit", 0.5, false);
        size_t rank[10];
        in.align = 8;
        allocate(rank, names[k], &in, NULL);
        for (size_t i = 0; i < 10; i++) {
            assert_int_equal(rank[i] % 8, 0);
            assert_true(rank[i] >= lt_uniform_rank(64, 96, 0.6) / 2 - 7 && rank[i] <= p.curve[i].r_max);
        }
    }
    problem_free(&p);
}

static void dead_modules_stay_dense_and_are_paid_for(void **state) {
    (void)state;
    lt_rng r = test_rng(3);
    problem p = { 0 };
    for (size_t i = 0; i < 4; i++) add_random(&p, 32, 32, 0.9, &r);
    memset(p.curve[2].lambda, 0, 32 * sizeof(double));
    p.curve[2].total = 0.0;
    const lt_alloc_in in = input_of(&p, 0.7, "relative", 0.5, true);
    size_t rank[4];
    allocate(rank, "global", &in, NULL);
    assert_int_equal(rank[2], 0);
    problem_free(&p);
}

static void units_weigh_the_cost(void **state) {
    (void)state;
    lt_rng r = test_rng(4);
    problem p = { 0 };
    for (size_t i = 0; i < 4; i++) add_random(&p, 32, 32, 0.9, &r);
    lt_alloc_in in = input_of(&p, 0.6, "relative", 0.5, true);
    size_t params[4], bytes[4];
    allocate(params, "global", &in, NULL);
    for (size_t i = 0; i < 4; i++) p.curve[i].unit = 2.0;
    in.budget *= 2.0;
    allocate(bytes, "global", &in, NULL);
    assert_memory_equal(params, bytes, sizeof params);
    problem_free(&p);
}

static void a_budget_below_the_floor_is_refused(void **state) {
    (void)state;
    lt_rng r = test_rng(5);
    problem p = { 0 };
    for (size_t i = 0; i < 3; i++) add_random(&p, 32, 32, 0.9, &r);
    lt_alloc_in in = input_of(&p, 0.6, "relative", 0.5, true);
    in.budget = 300.0;
    size_t rank[3];
    const lt_allocator *a;
    lt_err err = { 0 };
    for (size_t i = 0; lt_allocators[i]; i++) /* policies spend what their base costs; probes are tested elsewhere */
        if (!lt_allocators[i]->probe && !lt_allocators[i]->policy && strcmp(lt_allocators[i]->name, "policy") != 0)
            assert_fails(lt_allocators[i]->allocate(rank, &in, NULL, &err), &err, LT_ETARGET, "300");
    assert_fails(lt_allocator_find(&a, "globl", &err), &err, LT_EUSAGE, "did you mean global?");
    problem_free(&p);
}

static void everything_fits_means_nothing_is_cut(void **state) {
    (void)state;
    lt_rng r = test_rng(6);
    problem p = { 0 };
    for (size_t i = 0; i < 3; i++) add_random(&p, 32, 32, 0.9, &r);
    const lt_alloc_in in = input_of(&p, 1.0, "relative", 0.5, true);
    size_t rank[3];
    allocate(rank, "global", &in, NULL);
    for (size_t i = 0; i < 3; i++) assert_int_equal(rank[i], 0);
    problem_free(&p);
}

/* ---- goldens ---- */

static json_t *load_golden(const char *rel) {
    json_t *j = NULL;
    lt_err err = { 0 };
    assert_ok(lt_json_load(&j, TEST_NEED_SHARED(rel), &err), &err);
    return j;
}

static problem golden_problem(const json_t *order, const lt_safetensors *spectra) {
    problem p = { 0 };
    json_t *ranks = load_golden("golden/compress/ranks_tiny-llama.json");
    const json_t *layers = json_object_get(ranks, "layers");
    for (size_t i = 0; i < json_array_size(order); i++) {
        const char *name = json_string_value(json_array_get(order, i));
        const json_t *info = json_object_get(layers, name);
        const size_t m = (size_t)json_integer_value(json_object_get(info, "m")),
                     d = (size_t)json_integer_value(json_object_get(info, "d"));
        const size_t n = lt_min_size(m, d);
        char key[128];
        const lt_tensor *t;
        lt_err err = { 0 };
        snprintf(key, sizeof key, "%s.lambda", name);
        assert_ok(lt_safetensors_get(&t, spectra, key, LT_F64, 1, &err), &err);
        double *lambda = lt_calloc(n, sizeof *lambda);
        for (size_t k = 0; k < n; k++) lambda[k] = fmax(((const double *)lt_host(t))[k], 0.0);
        add_curve(&p, "golden", m, d, lambda, n);
    }
    json_decref(ranks);
    return p;
}

static void assert_ranks(const size_t *got, const json_t *want, const char *what) {
    for (size_t i = 0; i < json_array_size(want); i++) {
        const json_t *w = json_array_get(want, i);
        const size_t r = json_is_null(w) ? 0 : (size_t)json_integer_value(w);
        if (got[i] != r) fail_msg("%s: layer %zu has rank %zu, want %zu", what, i, got[i], r);
    }
}

static void check_golden_case(const problem *p, const char *name, const json_t *c) {
    const double keep = json_number_value(json_object_get(c, "keep")),
                 floor = json_number_value(json_object_get(c, "floor"));
    const lt_alloc_in in = input_of(p, keep, json_string_value(json_object_get(c, "weight")), floor,
                                    json_is_true(json_object_get(c, "dense_allowed")));
    assert_true(in.budget == json_number_value(json_object_get(c, "budget")));
    size_t rank[MAX_LAYERS], before[MAX_LAYERS];
    lt_alloc_trace trace = { 0.0, before };
    allocate(rank, "global", &in, &trace);
    assert_ranks(before, json_object_get(c, "ranks_before_fill"), name);
    assert_ranks(rank, json_object_get(c, "ranks"), name);
    assert_true(lt_alloc_cost(&in, rank) == json_number_value(json_object_get(c, "params")));
    const double got = objective(&in, rank), want = json_number_value(json_object_get(c, "objective"));
    assert_close_f64(&got, &want, 1, 0.0, 1e-9);
    assert_close_f64(&trace.mu, &(double){ json_number_value(json_object_get(c, "mu")) }, 1, 0.0, 1e-6);
}

static void golden_budgets_are_reproduced(void **state) {
    (void)state;
    json_t *budget = load_golden("golden/compress/budget.json");
    lt_safetensors *spectra;
    lt_err err = { 0 };
    assert_ok(lt_safetensors_open(&spectra, TEST_NEED_SHARED("golden/compress/spectra_tiny-llama.safetensors"), &err),
              &err);
    problem p = golden_problem(json_object_get(budget, "layer_order"), spectra);
    const char *name;
    json_t *c;
    size_t n = 0;
    json_object_foreach(json_object_get(budget, "cases"), name, c) {
        check_golden_case(&p, name, c);
        n++;
    }
    assert_int_equal(n, 16);
    problem_free(&p);
    lt_safetensors_close(spectra);
    json_decref(budget);
}

static void check_uniform(const char *file) {
    json_t *j = load_golden(file), *info;
    const json_t *keeps = json_object_get(j, "uniform_keep_ratios");
    const char *name;
    json_object_foreach(json_object_get(j, "layers"), name, info) {
        const size_t m = (size_t)json_integer_value(json_object_get(info, "m")),
                     d = (size_t)json_integer_value(json_object_get(info, "d"));
        assert_int_equal(lt_break_even_rank(m, d), json_integer_value(json_object_get(info, "r_max_breakeven")));
        for (size_t k = 0; k < json_array_size(keeps); k++)
            assert_int_equal(lt_uniform_rank(m, d, json_number_value(json_array_get(keeps, k))),
                             json_integer_value(json_array_get(json_object_get(info, "uniform"), k)));
    }
    json_decref(j);
}

static void golden_uniform_ranks_are_reproduced(void **state) {
    (void)state;
    check_uniform("golden/compress/ranks_tiny-llama.json");
    check_uniform("golden/compress/ranks_tiny-gpt2.json");
}

/* ---- budgets in words ---- */

static void budgets_say_of_what(void **state) {
    (void)state;
    static const struct {
        const char *text;
        lt_budget_of of;
        double fraction, absolute;
    } good[] = { { "0.8", LT_BUDGET_PARAMS, 0.8, 0 },
                 { "80%", LT_BUDGET_PARAMS, 0.8, 0 },
                 { "params=70%", LT_BUDGET_PARAMS, 0.7, 0 },
                 { "linears=0.8", LT_BUDGET_LINEARS, 0.8, 0 },
                 { "linears=1", LT_BUDGET_LINEARS, 1.0, 0 },
                 { "bytes=4.5G", LT_BUDGET_BYTES, 0, 4.5e9 },
                 { "bytes=4GiB", LT_BUDGET_BYTES, 0, 4294967296.0 },
                 { "params=100M", LT_BUDGET_PARAMS, 0, 1e8 },
                 { "params=1234567", LT_BUDGET_PARAMS, 0, 1234567 } };
    static const struct {
        const char *text, *says;
    } bad[] = { { "", "no number" },
                { "linears=", "no number" },
                { "0", "above 0" },
                { "0%", "above 0" },
                { "120%", "more than everything" },
                { "-0.5", "no number" },
                { "linears=80", "written 80% or 0.8" },
                { "linear=0.8", "did you mean linears?" },
                { "0.8x", "unknown unit" },
                { "d_ff=0.75,q_heads=0.5", "one budget at a time" },
                { "d_ff=0.75", "unknown budget" },
                { "nan", "no number" },
                { "1.2.3", "no number" },
                { "inf", "no number" } };
    lt_err err = { 0 };
    for (size_t i = 0; i < LT_COUNTOF(good); i++) {
        lt_budget b = { 0 };
        assert_ok(lt_budget_parse(&b, good[i].text, &err), &err);
        assert_int_equal(b.of, good[i].of);
        assert_close_f64(&b.fraction, &good[i].fraction, 1, 0.0, 1e-15);
        assert_close_f64(&b.absolute, &good[i].absolute, 1, 0.0, 1e-15);
    }
    for (size_t i = 0; i < LT_COUNTOF(bad); i++) {
        lt_budget b = { 0 };
        assert_fails(lt_budget_parse(&b, bad[i].text, &err), &err, LT_EUSAGE, bad[i].says);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_17_break_even),
        cmocka_unit_test(uniform_ranks_of_the_paper),
        cmocka_unit_test(check_20_equal_shapes_without_dense_is_optimal),
        cmocka_unit_test(check_20_mixed_shapes_stay_within_the_bound),
        cmocka_unit_test(check_20_ranks_before_the_fill_are_stationary),
        cmocka_unit_test(check_20_identical_layers_get_equal_ranks),
        cmocka_unit_test(the_floor_holds_and_aligned_ranks_are_multiples),
        cmocka_unit_test(dead_modules_stay_dense_and_are_paid_for),
        cmocka_unit_test(units_weigh_the_cost),
        cmocka_unit_test(a_budget_below_the_floor_is_refused),
        cmocka_unit_test(everything_fits_means_nothing_is_cut),
        cmocka_unit_test(golden_budgets_are_reproduced),
        cmocka_unit_test(golden_uniform_ranks_are_reproduced),
        cmocka_unit_test(budgets_say_of_what),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
