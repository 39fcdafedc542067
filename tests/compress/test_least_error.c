/* SPDX-License-Identifier: Apache-2.0 */
/* The theorem behind the low-rank modes (spec utilized-rank §0), on the models of every family: of all matrices of a
 * rank, whitened changes the outputs on the calibration tokens least. So no method may be below it, in any module, for
 * any text. And what a plan predicts is what its fit leaves, new biases and positions that are kept apart included. */
#include "compress/compress_test.h"

#include <dirent.h>

#include "compress/lowrank_test.h"
#include "compress/module_weight.h"

#define MODELS "golden/models"

#ifdef __SANITIZE_ADDRESS__
enum { TEXTS = 1 };
#else
enum { TEXTS = 3 };
#endif
/* The last text has fewer tokens than inputs. Its Grams, summed from f32 products, are then zero only to 1e-7 where
 * they should be zero, and not always above it: no matrix is best to more than that. */
static const struct {
    size_t rows;
    double slack; /* of tr(W C Wᵀ) */
} texts[] = { { 24, 1e-12 }, { 24, 1e-12 }, { 1, 1e-7 } };
enum { ROW = 32 };

/* ---- one model ---- */

typedef struct bench {
    lt_model *m;
    lt_team *team;
    lt_tokens text;
    lt_stats *s;
    double slack;
    const char *name;
} bench;

static bool open_bench(bench *b, const char *name) {
    lt_err err = { 0 };
    char *path = lt_asprintf(MODELS "/%s", name);
    *b = (bench){ .name = name };
    const lt_status st = lt_model_open(&b->m, test_shared(path), &err);
    lt_free(path);
    if (st != LT_OK) assert_int_equal(st, LT_EUNSUPPORTED); /* a family that is not there yet */
    return st == LT_OK;
}

static void take_text(bench *b, size_t which, size_t first_rows) {
    static const char *const gram[] = { "gram" };
    lt_err err = { 0 };
    b->text = ct_random_tokens(texts[which].rows, ROW, b->m->config.vocab_size, (uint32_t)(40 + which));
    lt_calibrate_in in = ct_in(b->m, &b->text, b->team, test_path("least.stats"));
    in.first_rows = first_rows;
    assert_ok(lt_stat_set_parse(&in.grads, gram, 1, &err), &err);
    b->s = ct_calibrate(&in);
    b->slack = texts[which].slack;
}

static void drop_text(bench *b) {
    lt_stats_close(b->s);
    lt_tokens_clear(&b->text);
}

/* ---- errors ---- */

static double *widened(const lt_tensor *t) {
    const size_t rows = lt_tensor_rows(t), cols = lt_tensor_cols(t);
    double *out = lt_calloc(rows * cols, sizeof *out);
    float *row = lt_calloc(cols, sizeof *row);
    assert_true(out && row);
    for (size_t i = 0; i < rows; i++) {
        lt_tensor_row_f32(row, t, i, 0, cols);
        for (size_t j = 0; j < cols; j++) out[i * cols + j] = row[j];
    }
    lt_free(row);
    return out;
}

/* tr(Δ C Δᵀ) of a module whose factors fit its shape, and tr(W C Wᵀ); false: it is no such module. */
static bool module_error(double *e, double *total, const bench *b, const lt_model *small, const char *module) {
    lt_module was, is;
    lt_stats_site site;
    lt_err err = { 0 };
    assert_true(lt_model_find_module(b->m, module, &was) && lt_model_find_module(small, module, &is));
    const size_t m = lt_linear_out(was.linear), d = lt_linear_in(was.linear);
    if (is.linear->n_stages != 2 || lt_linear_out(is.linear) != m || lt_linear_in(is.linear) != d) return false;
    assert_true(lt_stats_site_of(b->s, module, &site));
    double *w = lt_calloc(m * d, sizeof *w), *lambda = lt_calloc(m + d, sizeof *lambda),
           *c = widened(&is.linear->stage[0].w.t), *a = widened(&is.linear->stage[1].w.t);
    assert_ok(lt_module_weight(w, was.linear, &err), &err);
    const lt_lowrank_in in = { .m = m, .d = d, .w = w, .c = ct_values(b->s, site.name, "gram") };
    assert_ok(lt_lowrank_error(e, &in, lt_linear_rank(is.linear), a, c, &err), &err);
    assert_ok(lt_lowrank_spectrum(lambda, total, &in, &err), &err);
    lt_free(w), lt_free(lambda), lt_free(a), lt_free(c);
    return true;
}

/* ---- methods ---- */

static bool has_param(const lt_method *m, const char *name) {
    for (const lt_method_param *p = m->params; p && p->name; p++)
        if (strcmp(p->name, name) == 0) return true;
    return false;
}

static lt_plan plan_by(const bench *b, const lt_method *m, const json_t *ranks) {
    lt_plan_in in = cp_in(b->m, b->s, b->team, "linears=0.5");
    json_t *params = json_object();
    if (has_param(m, "affine")) json_object_set_new(params, "affine", json_string("off"));
    if (has_param(m, "energy")) json_object_set_new(params, "energy", json_integer(0)); /* by the budget */
    in.params = params;
    in.allocate = "uniform";
    if (ranks) in.ranks = ranks, in.budget = (lt_budget){ 0 }, in.allocate = NULL;
    lt_plan p = cp_plan(m->name, &in);
    json_decref(params);
    return p;
}

static lt_overlay *apply(const bench *b, const lt_plan *p) {
    lt_overlay *o;
    lt_err err = { 0 };
    const lt_apply_in in = { .model = b->m, .stats = b->s, .team = b->team, .tokens = &b->text, .dtype = LT_F32 };
    assert_ok(lt_overlay_create(&o, b->m, &err), &err);
    assert_ok(lt_plan_apply(o, p, &in, &err), &err);
    return o;
}

static json_t *ranks_of(const lt_plan *p) {
    json_t *ranks = json_object();
    for (size_t i = 0; i < p->n_cuts; i++) {
        const json_t *j = p->cuts[i].json, *module = json_object_get(j, "module");
        if (module) json_object_set(ranks, json_string_value(module), json_object_get(j, "rank"));
    }
    return ranks;
}

/* Modules that were compared; *excess: the method's errors over those of whitened, summed over modules. */
static size_t compare(double *excess, const bench *b, const lt_method *m, const lt_method *whitened) {
    lt_plan p = plan_by(b, m, NULL);
    json_t *ranks = ranks_of(&p);
    size_t n = 0;
    *excess = 0.0;
    if (json_object_size(ranks)) {
        lt_plan q = plan_by(b, whitened, ranks);
        lt_overlay *o = apply(b, &p), *best = apply(b, &q);
        const char *module;
        json_t *rank;
        json_object_foreach(ranks, module, rank) {
            double e, least, total;
            if (!module_error(&e, &total, b, lt_overlay_model(o), module)) continue;
            if (!module_error(&least, &total, b, lt_overlay_model(best), module)) continue; /* dead: left dense */
            if (!(least <= e * (1.0 + 1e-9) + b->slack * total))
                fail_msg("%s: %s: %s has error %.9g, whitened %.9g of %.9g", b->name, module, m->name, e, least, total);
            *excess += (e - least) / total;
            n++;
        }
        lt_overlay_destroy(o), lt_overlay_destroy(best);
        lt_plan_clear(&q);
    }
    json_decref(ranks);
    lt_plan_clear(&p);
    return n;
}

/* ---- what a plan predicts ---- */

/* [n] sums over all rows of a module's inputs, those that the stats keep apart among them. */
static double *sums_of_all_rows(const bench *b, const lt_linear *l, const char *stat, size_t n) {
    lt_stats_site rest, first;
    bool whole;
    double *sum = test_doubles(n);
    assert_true(lt_stats_of_linear(b->s, LT_STATS_INPUT, l, &rest, &whole));
    memcpy(sum, ct_values(b->s, rest.name, stat), n * sizeof *sum);
    if (lt_stats_of_linear(b->s, LT_STATS_FIRST, l, &first, &whole))
        for (size_t i = 0; i < n; i++) sum[i] += ct_values(b->s, first.name, stat)[i];
    return sum;
}

static double *bias_of(const lt_linear *l) {
    lt_err err = { 0 };
    double *bias = test_doubles(lt_linear_out(l));
    assert_ok(lt_module_bias(bias, l, &err), &err);
    return bias;
}

/* Σ ‖Δx - δ‖² / Σ ‖Wx‖², δ what the bias gained. */
static double left_by_fit(const bench *b, const lt_linear *was, const lt_linear *is) {
    const size_t m = lt_linear_out(was), d = lt_linear_in(was);
    lt_err err = { 0 };
    double *w = test_doubles(m * d), *gain = bias_of(is), *before = bias_of(was), *gram, *sum, *count, e, total;
    assert_ok(lt_module_weight(w, was, &err), &err);
    for (size_t i = 0; i < m; i++) gain[i] -= before[i];
    gram = sums_of_all_rows(b, was, "gram", d * (d + 1) / 2);
    sum = sums_of_all_rows(b, was, "sum", d);
    count = sums_of_all_rows(b, was, "count", 1);
    const lt_lowrank_in in = { .m = m, .d = d, .w = w, .c = gram, .sum = sum, .count = *count };
    double *first = widened(&is->stage[0].w.t), *second = widened(&is->stage[1].w.t);
    assert_ok(lt_lowrank_affine_error(&e, &in, lt_linear_rank(is), second, first, gain, &err), &err);
    assert_ok(lt_lowrank_error(&total, &in, 0, NULL, NULL, &err), &err);
    lt_free(w), lt_free(gain), lt_free(before), lt_free(gram), lt_free(sum), lt_free(count);
    lt_free(first), lt_free(second);
    return e / total;
}

static bool is_fitted_here(const lt_cut *c) {
    const char *target = json_string_value(json_object_get(c->json, "target"));
    return json_object_get(c->json, "module") && target && strcmp(target, "original") == 0;
}

static size_t check_prediction(const bench *b, const lt_method *m) {
    json_t *params = has_param(m, "energy") ? json_pack("{s:i}", "energy", 0) : json_object();
    lt_plan_in in = cp_in(b->m, b->s, b->team, "linears=0.5");
    in.params = params;
    lt_plan p = cp_plan(m->name, &in);
    lt_overlay *o = apply(b, &p);
    size_t n = 0;
    for (size_t i = 0; i < p.n_cuts; i++) {
        if (!is_fitted_here(&p.cuts[i])) continue;
        const char *module = json_string_value(json_object_get(p.cuts[i].json, "module"));
        lt_module was, is;
        assert_true(lt_model_find_module(b->m, module, &was) && lt_model_find_module(lt_overlay_model(o), module, &is));
        const double want = left_by_fit(b, was.linear, is.linear), got = cp_rel_error(&p, module);
        if (!(fabs(got - want) <= 1e-4 * want + 1e-10))
            fail_msg("%s: %s: %s predicts %.9g, its fit leaves %.9g", b->name, module, m->name, got, want);
        n++;
    }
    lt_overlay_destroy(o);
    lt_plan_clear(&p);
    json_decref(params);
    return n;
}

/* Those whose ranks come from a probe, and those that fit measured outputs (test_modes.c), are not asked here. */
static bool is_asked(const lt_method *m) {
    return !m->needs.probe && strcmp(m->name, "output_gram") != 0;
}

static void no_method_is_below_whitened(void **state) {
    const char *name = *state;
    const lt_method *whitened, *plain;
    lt_err err = { 0 };
    bench b;
    assert_ok(lt_method_find(&whitened, "whitened", &err), &err);
    assert_ok(lt_method_find(&plain, "weight_svd", &err), &err);
    if (!open_bench(&b, name)) {
        print_message("skipped: %s is of a family that is not supported\n", name);
        skip();
    }
    b.team = tm_team(1);
    for (size_t t = 0; t < TEXTS; t++) {
        size_t asked = 0;
        take_text(&b, t, 0);
        for (size_t i = 0; lt_methods[i]; i++) {
            double excess;
            if (!is_asked(lt_methods[i])) continue;
            const size_t n = compare(&excess, &b, lt_methods[i], whitened);
            asked += n > 0;
            /* and the text is worth something: the weights alone do much worse */
            if (lt_methods[i] == plain) assert_true(n > 0 && excess > 0.01 * (double)n);
        }
        assert_true(asked >= 8);
        drop_text(&b);
    }
    lt_team_destroy(b.team);
    lt_model_destroy(b.m);
}

static void plans_predict_what_their_fit_leaves(void **state) {
    bench b;
    if (!open_bench(&b, *state)) skip();
    b.team = tm_team(1);
    for (size_t first_rows = 0; first_rows <= 2; first_rows += 2) {
        size_t n = 0;
        take_text(&b, 0, first_rows);
        for (size_t i = 0; lt_methods[i]; i++)
            if (is_asked(lt_methods[i])) n += check_prediction(&b, lt_methods[i]);
        assert_true(n > 0);
        drop_text(&b);
    }
    lt_team_destroy(b.team);
    lt_model_destroy(b.m);
}

static bool is_model(const char *folder) {
    char *rel = lt_asprintf(MODELS "/%s/config.json", folder);
    const bool yes = folder[0] != '.' && test_shared(rel);
    lt_free(rel);
    return yes;
}

int main(void) {
    static char names[64][64];
    struct CMUnitTest tests[2 * LT_COUNTOF(names)];
    size_t n = 0;
    DIR *d = test_shared(MODELS) ? opendir(test_shared(MODELS)) : NULL;
    if (!d) {
        printf("skipped: no %s\n", MODELS);
        return 0;
    }
    for (struct dirent *e; (e = readdir(d)) && n < LT_COUNTOF(names);) {
        if (!is_model(e->d_name) || strlen(e->d_name) >= sizeof names[0]) continue;
        memcpy(names[n], e->d_name, strlen(e->d_name) + 1);
        tests[2 * n] = (struct CMUnitTest){ names[n], no_method_is_below_whitened, NULL, NULL, names[n] };
        tests[2 * n + 1] = (struct CMUnitTest){ names[n], plans_predict_what_their_fit_leaves, NULL, NULL, names[n] };
        n++;
    }
    closedir(d);
    return _cmocka_run_group_tests("least_error", tests, 2 * n, NULL, NULL);
}
