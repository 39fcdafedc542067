/* SPDX-License-Identifier: Apache-2.0 */
/* tests/compress/compress_test.h - plans and applied plans in one call, over the helpers of calib. */
#ifndef LT_TESTS_COMPRESS_TEST_H
#define LT_TESTS_COMPRESS_TEST_H

#include "calib/calib_test.h"
#include "compress/method.h"

static inline lt_plan_in cp_in(const lt_model *m, const lt_stats *s, lt_team *team, const char *budget) {
    lt_plan_in in = { .model = m,
                      .model_hash = "model",
                      .stats = s,
                      .allocate = "global",
                      .weights = "relative",
                      .floor = 0.5,
                      .allow_dense = true,
                      .align = 1,
                      .team = team };
    lt_err err = { 0 };
    assert_ok(lt_budget_parse(&in.budget, budget, &err), &err);
    return in;
}

static inline lt_plan cp_plan(const char *method, const lt_plan_in *in) {
    lt_plan p = { 0 };
    lt_err err = { 0 };
    assert_ok(lt_make_plan(&p, method, in, &err), &err);
    return p;
}

static inline lt_overlay *cp_apply(const lt_plan *p, const lt_model *m, const lt_stats *s, lt_team *team) {
    lt_overlay *o;
    lt_err err = { 0 };
    const lt_apply_in in = { .model = m, .stats = s, .team = team, .dtype = LT_N_DTYPES };
    assert_ok(lt_overlay_create(&o, m, &err), &err);
    assert_ok(lt_plan_apply(o, p, &in, &err), &err);
    return o;
}

/* Names, and bit for bit what is stored. */
static inline void cp_assert_same_weights(const lt_model *a, const lt_model *b) {
    lt_param_info p, q;
    size_t i = 0;
    for (; lt_model_param(a, i, &p); i++) {
        assert_true(lt_model_param(b, i, &q));
        assert_string_equal(p.param->name, q.param->name);
        assert_int_equal(lt_tensor_bytes(&p.param->t), lt_tensor_bytes(&q.param->t));
        assert_memory_equal(lt_host(&p.param->t), lt_host(&q.param->t), lt_tensor_bytes(&p.param->t));
    }
    assert_false(lt_model_param(b, i, &q));
}

static inline size_t cp_rank(const lt_plan *p, const char *module) { /* 0: no cut */
    for (size_t i = 0; i < p->n_cuts; i++)
        if (strcmp(json_string_value(json_object_get(p->cuts[i].json, "module")), module) == 0)
            return (size_t)json_integer_value(json_object_get(p->cuts[i].json, "rank"));
    return 0;
}

static inline double cp_rel_error(const lt_plan *p, const char *module) {
    for (size_t i = 0; i < p->n_cuts; i++)
        if (strcmp(json_string_value(json_object_get(p->cuts[i].json, "module")), module) == 0)
            return json_real_value(json_object_get(p->cuts[i].json, "rel_error"));
    return 0.0;
}

/* Mean over the first n_windows windows of the mean NLL of their predictions (spec evaluation §10); each window's in
 * nll when given. */
static inline double cp_mean_nll(lt_team *team, const lt_model *m, const lt_tokens *t, size_t n_windows, double *nll) {
    lt_batch *b;
    size_t n;
    lt_exec *x;
    double sum = 0.0;
    lt_err err = { 0 };
    assert_ok(lt_tokens_batches(&b, &n, t, 1, &err), &err);
    assert_ok(lt_exec_create(&x, team, &(lt_exec_opts){ 0 }, &err), &err);
    for (size_t i = 0; i < n_windows; i++) {
        int32_t target[512];
        const size_t rows = b[i].n_rows;
        memcpy(target, b[i].ids + 1, (rows - 1) * sizeof *target);
        target[rows - 1] = -1;
        lt_exec_begin(x, &b[i]);
        const lt_var v = lt_model_nll(x, m, lt_model_hidden(x, m), target, NULL);
        assert_ok(lt_exec_status(x, &err), &err);
        double window = 0.0;
        for (size_t r = 0; r < rows; r++) window += (double)lt_data(x, v)[r];
        window /= (double)(rows - 1);
        if (nll) nll[i] = window;
        sum += window;
    }
    lt_exec_destroy(x);
    lt_batches_free(b, n);
    return sum / (double)n_windows;
}

/* Any plan from text. */
static inline lt_status cp_parse(lt_plan *p, const char *text, lt_err *err) {
    return lt_plan_parse(p, text, strlen(text), "plan.json", err);
}

#endif
