/* SPDX-License-Identifier: Apache-2.0 */
/* Fits from stats that an unfinished call has kept: the next one fits the others only, to the same bytes. */
#include "compress/compress_test.h"

#include <dirent.h>

#include "io/file.h"

#define MODELS "golden/models"

typedef struct work {
    const lt_model *m;
    const lt_stats *s;
    lt_team *team;
    lt_plan plan;
    const char *folder;
    size_t fitted; /* by the last call */
} work;

static int count_fits(void *user, const char *stage, double done, double total, const char *unit) {
    (void)done, (void)unit;
    if (strcmp(stage, "apply") == 0) ((work *)user)->fitted = (size_t)total;
    return 0;
}

static lt_overlay *apply(lt_fit_errors *e, work *w, const char *journal, double seconds) {
    lt_ctx ctx;
    lt_overlay *o;
    lt_err err = { 0 };
    lt_ctx_init(&ctx);
    ctx.progress = count_fits;
    ctx.user = w;
    *e = (lt_fit_errors){ 0 };
    w->fitted = 0;
    const lt_apply_in in = { .model = w->m,
                             .stats = w->s,
                             .team = w->team,
                             .ctx = &ctx,
                             .dtype = LT_N_DTYPES,
                             .errors = e,
                             .journal = journal,
                             .journal_seconds = seconds };
    assert_ok(lt_overlay_create(&o, w->m, &err), &err);
    assert_ok(lt_plan_apply(o, &w->plan, &in, &err), &err);
    return o;
}

static char *path_of(const work *w, size_t cut) {
    char *path = lt_asprintf("%s/rank-%05zu.safetensors", w->folder, cut);
    assert_non_null(path);
    return path;
}

/* Every third record is lost, and the first that is there is damaged. How many are left whole. */
static size_t lose_some(const work *w) {
    size_t left = 0, bytes;
    lt_err err = { 0 };
    for (size_t i = 0; i < w->plan.n_cuts; i++) {
        char *path = path_of(w, i);
        assert_true(lt_path_exists(path));
        if (i % 3 == 0) assert_ok(lt_remove_tree(path, &err), &err);
        if (i == 1) {
            char *data = test_read_file(path, &bytes);
            data[bytes - 3] ^= 4;
            test_write_file(path, data, bytes);
            lt_free(data);
        }
        left += i % 3 != 0 && i != 1;
        lt_free(path);
    }
    return left;
}

static void goes_on(work *w) {
    lt_fit_errors whole, part;
    lt_err err = { 0 };
    const size_t n = w->plan.n_cuts;
    w->folder = test_path("kept");
    assert_ok(lt_remove_tree(w->folder, &err), &err);
    lt_overlay *want = apply(&whole, w, NULL, 0.0), *o = apply(&part, w, w->folder, 1e9);
    assert_int_equal(w->fitted, n);
    assert_false(lt_path_exists(w->folder)); /* over before a record is due */
    lt_overlay_destroy(o);
    lt_overlay_destroy(apply(&part, w, w->folder, 0.0));
    for (size_t left = lose_some(w), again = 0; again < 2; left = n, again++) {
        o = apply(&part, w, w->folder, 0.0);
        assert_int_equal(w->fitted, n - left);
        cp_assert_same_weights(lt_overlay_model(want), lt_overlay_model(o));
        assert_true(part.n == whole.n && part.sum == whole.sum);
        lt_overlay_destroy(o);
    }
    lt_overlay_destroy(want);
}

static void with_model(const lt_model *m, bool head) {
    static const char *const methods[] = { "whitened", "weight_svd" };
    lt_tokens text = ct_random_tokens(12, 32, m->config.vocab_size, 5);
    work w = { .m = m, .team = tm_team(2) };
    lt_calibrate_in in = ct_in(m, &text, w.team, test_path("kept.stats"));
    in.include_head = head;
    lt_stats *s = ct_calibrate(&in);
    w.s = s;
    for (size_t i = 0; i < LT_COUNTOF(methods); i++) {
        lt_plan_in how = cp_in(m, s, w.team, "linears=0.5");
        how.include_head = head;
        how.allocate = "uniform";
        w.plan = cp_plan(methods[i], &how);
        assert_true(w.plan.n_cuts > 3);
        goes_on(&w);
        lt_plan_clear(&w.plan);
    }
    lt_stats_close(s);
    lt_tokens_clear(&text);
    lt_team_destroy(w.team);
}

static void small(const tm_spec spec, uint32_t seed, bool head) {
    tm *t = tm_build(spec, seed);
    lt_model *m = tm_open(tm_write(t, "kept-model", 1));
    with_model(m, head);
    lt_model_destroy(m);
    tm_free(t);
}

static void kept_fits_are_not_made_again(void **state) {
    (void)state;
    small(TM_ODD, 1, false);
}

static void biases_and_the_head_are_kept(void **state) {
    (void)state;
    small(TM_BIAS, 2, true);
}

/* Fused matrices and Conv1D among them. */
static void models_of_every_family_go_on(void **state) {
    (void)state;
    const struct dirent *e;
    DIR *d = opendir(TEST_NEED_SHARED(MODELS));
    assert_non_null(d);
    while ((e = readdir(d))) {
        lt_model *m;
        lt_err err = { 0 };
        char *config = lt_asprintf(MODELS "/%s/config.json", e->d_name), *path = lt_asprintf(MODELS "/%s", e->d_name);
        if (e->d_name[0] != '.' && test_shared(config)) {
            const lt_status st = lt_model_open(&m, test_shared(path), &err);
            assert_true(st == LT_OK || st == LT_EUNSUPPORTED);
            if (st == LT_OK) with_model(m, false);
            if (st == LT_OK) lt_model_destroy(m);
        }
        lt_free(config), lt_free(path);
    }
    closedir(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_fits_are_not_made_again),
        cmocka_unit_test(biases_and_the_head_are_kept),
        cmocka_unit_test(models_of_every_family_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
