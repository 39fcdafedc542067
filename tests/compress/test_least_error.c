/* SPDX-License-Identifier: Apache-2.0 */
/* The theorem behind the low-rank modes (spec utilized-rank §0), on the models of every family: of all matrices of a
 * rank, whitened changes the outputs on the calibration tokens least. So no method may be below it, in any module, for
 * any text. */
#include "compress/compress_test.h"

#include <dirent.h>

#include "compress/lowrank.h"
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

static void take_text(bench *b, size_t which) {
    static const char *const gram[] = { "gram" };
    lt_err err = { 0 };
    b->text = ct_random_tokens(texts[which].rows, ROW, b->m->config.vocab_size, (uint32_t)(40 + which));
    lt_calibrate_in in = ct_in(b->m, &b->text, b->team, test_path("least.stats"));
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
static bool error_of(double *e, double *total, const bench *b, const lt_model *small, const char *module) {
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
            if (!error_of(&e, &total, b, lt_overlay_model(o), module)) continue;
            if (!error_of(&least, &total, b, lt_overlay_model(best), module)) continue; /* dead: left dense */
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
        take_text(&b, t);
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

static bool is_model(const char *folder) {
    char *rel = lt_asprintf(MODELS "/%s/config.json", folder);
    const bool yes = folder[0] != '.' && test_shared(rel);
    lt_free(rel);
    return yes;
}

int main(void) {
    static char names[64][64];
    struct CMUnitTest tests[LT_COUNTOF(names)];
    size_t n = 0;
    DIR *d = test_shared(MODELS) ? opendir(test_shared(MODELS)) : NULL;
    if (!d) {
        printf("skipped: no %s\n", MODELS);
        return 0;
    }
    for (struct dirent *e; (e = readdir(d)) && n < LT_COUNTOF(names);) {
        if (!is_model(e->d_name) || strlen(e->d_name) >= sizeof names[0]) continue;
        memcpy(names[n], e->d_name, strlen(e->d_name) + 1);
        tests[n] = (struct CMUnitTest){ names[n], no_method_is_below_whitened, NULL, NULL, names[n] };
        n++;
    }
    closedir(d);
    return _cmocka_run_group_tests("least_error", tests, n, NULL, NULL);
}
