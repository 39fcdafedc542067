/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a fused matrix: views of its rows, linears of their own once one is replaced, and whole again. */
#include "model_test.h"

enum { T = 24 };
static const char *const folders[] = { "golden/models/gpt2", "golden/models/neox-parallel", "golden/models/phi3" };

typedef struct bench {
    lt_model *model;
    lt_overlay *o;
    lt_team *team;
    int32_t ids[T];
    lt_module whole, second; /* of layer 0 */
} bench;

static bool begin(bench *b, size_t i) {
    lt_err err = { 0 };
    const char *dir = test_shared(folders[i]);
    if (!dir) return false;
    b->model = tm_open(dir);
    b->team = tm_team(2);
    tm_ids(b->ids, T, b->model->config.vocab_size, 1);
    assert_ok(lt_overlay_create(&b->o, b->model, &err), &err);
    for (size_t k = 0; lt_model_module(b->model, k, &b->whole); k++)
        if (lt_module_part(&b->whole, 1, &b->second)) return true;
    fail_msg("%s has no fused matrix", folders[i]);
    return false;
}

static void end(bench *b) {
    lt_overlay_destroy(b->o);
    lt_model_destroy(b->model);
    lt_team_destroy(b->team);
}

static float entry(const lt_linear *l, size_t row, size_t col) {
    float v;
    const bool in_out = l->stage[0].in_out;
    lt_tensor_row_f32(&v, &l->stage[0].w.t, in_out ? col : row, in_out ? row : col, 1);
    return v;
}

static float bias_entry(const lt_linear *l, size_t row) {
    float v;
    lt_tensor_row_f32(&v, &l->bias.t, 0, row, 1);
    return v;
}

/* Row i of part p, by the definition of a layout: groups of runs, one of each part. */
static size_t row_in_whole(const lt_layout *layout, size_t p, size_t i) {
    size_t at = 0;
    const size_t each = layout->parts[p].rows / layout->groups;
    for (size_t g = 0; g < layout->groups; g++)
        for (size_t k = 0; k < layout->n_parts; k++) {
            if (g == i / each && k == p) return at + i % each;
            at += layout->parts[k].rows / layout->groups;
        }
    return SIZE_MAX;
}

static void test_parts_are_the_rows_of_the_whole(void **state) {
    (void)state;
    for (size_t f = 0; f < LT_COUNTOF(folders); f++) {
        bench b;
        lt_module part;
        size_t rows = 0;
        if (!begin(&b, f)) skip();
        const lt_linear *w = b.whole.linear;
        for (size_t p = 0; lt_module_part(&b.whole, p, &part); p++) {
            const lt_linear *l = part.linear;
            assert_int_equal(lt_linear_in(l), lt_linear_in(w));
            assert_true((l->bias.name != NULL) == (w->bias.name != NULL));
            for (size_t i = 0; i < lt_linear_out(l); i++) {
                const size_t r = row_in_whole(w->layout, p, i);
                for (size_t j = 0; j < lt_linear_in(l); j++) assert_true(entry(l, i, j) == entry(w, r, j));
                if (l->bias.name) assert_true(bias_entry(l, i) == bias_entry(w, r));
            }
            rows += lt_linear_out(l);
        }
        assert_int_equal(rows, lt_linear_out(w));
        end(&b);
    }
}

static void test_a_part_has_two_names_and_is_found_by_them(void **state) {
    (void)state;
    bench b;
    lt_module mod;
    lt_err err = { 0 };
    char address[96], path[96];
    if (!begin(&b, 1)) skip();
    snprintf(address, sizeof address, "%s#k", b.whole.linear->name);
    snprintf(path, sizeof path, "%s.k", b.whole.linear->name);
    assert_true(lt_model_find_module(b.model, address, &mod) && mod.slot == LT_SLOT_K && mod.linear->whole);
    assert_false(lt_model_find_module(b.model, path, &mod)); /* not yet a linear of its own */
    assert_false(lt_model_find_module(b.model, "gpt_neox.layers.0.attention#dense", &mod));
    assert_ok(lt_overlay_set_apart(b.o, address, &err), &err);
    const lt_model *m = lt_overlay_model(b.o);
    assert_true(lt_model_find_module(m, address, &mod) && !mod.linear->whole && lt_module_is_apart(&mod));
    assert_string_equal(mod.linear->name, path);
    assert_true(lt_model_find_module(m, path, &mod));
    assert_false(lt_model_find_module(m, b.whole.linear->name, &mod));
    assert_int_equal(lt_model_n_params(m), lt_model_n_params(b.model));
    assert_int_equal(lt_model_n_linear_params(m), lt_model_n_linear_params(b.model));
    end(&b);
}

/* At full rank, and apart, nothing changes but the rounding; restored, nothing at all. */
static void test_replacing_a_part_is_local_and_can_be_undone(void **state) {
    (void)state;
    for (size_t f = 0; f < LT_COUNTOF(folders); f++) {
        bench b;
        lt_err err = { 0 };
        if (!begin(&b, f)) skip();
        const char *name = b.second.linear->name;
        const size_t n = T * b.model->config.vocab_size, m = lt_linear_out(b.second.linear),
                     d = lt_linear_in(b.second.linear);
        float *before = tm_logits(b.model, b.team, b.ids, T);
        double *a = calloc(m * m, sizeof *a), *w = calloc(m * d, sizeof *w);
        for (size_t i = 0; i < m; i++) a[i * m + i] = 1.0;
        for (size_t i = 0; i < m * d; i++) w[i] = (double)entry(b.second.linear, i / d, i % d);
        assert_ok(lt_overlay_factor(b.o, name, m, a, w, NULL, LT_F32, &err), &err);
        float *after = tm_logits(lt_overlay_model(b.o), b.team, b.ids, T);
        assert_close(after, before, n, 1e-5, 1e-5);
        assert_fails(lt_overlay_factor(b.o, b.whole.linear->name, 1, a, w, NULL, LT_F32, &err), &err, LT_EUNSUPPORTED,
                     "parts of this matrix");
        err = (lt_err){ 0 };
        assert_ok(lt_overlay_restore(b.o, name, &err), &err);
        assert_true(lt_linear_present(&lt_overlay_model(b.o)->layer[0].linear[b.whole.slot]));
        float *again = tm_logits(lt_overlay_model(b.o), b.team, b.ids, T);
        assert_memory_equal(again, before, n * sizeof *again);
        free(after);
        /* the other way: a matrix that was replaced whole has no parts to replace */
        double *ones = calloc(lt_linear_out(b.whole.linear) + d, sizeof *ones);
        assert_ok(lt_overlay_factor(b.o, b.whole.linear->name, 1, ones, ones, NULL, LT_F32, &err), &err);
        assert_fails(lt_overlay_factor(b.o, name, 1, ones, ones, NULL, LT_F32, &err), &err, LT_EUNSUPPORTED,
                     "replaced as a whole");
        err = (lt_err){ 0 };
        free(ones);
        free(before);
        free(again);
        free(a);
        free(w);
        end(&b);
    }
}

/* What another weight in the place of the whole means for its parts: they are those of the new one. */
static void test_parts_follow_a_replaced_whole(void **state) {
    (void)state;
    bench b;
    lt_module part;
    lt_err err = { 0 };
    if (!begin(&b, 1)) skip();
    const lt_linear *l = b.whole.linear;
    const size_t m = lt_linear_out(l), d = lt_linear_in(l);
    double *w = calloc(m * d, sizeof *w);
    for (size_t i = 0; i < m * d; i++) w[i] = (double)i;
    assert_ok(lt_overlay_dense(b.o, l->name, w, LT_F32, &err), &err);
    assert_true(lt_model_find_module(lt_overlay_model(b.o), b.second.linear->name, &part));
    for (size_t i = 0; i < lt_linear_out(part.linear); i++)
        assert_true(entry(part.linear, i, 3) == (float)w[row_in_whole(l->layout, 1, i) * d + 3]);
    free(w);
    end(&b);
}

static const char *saved_apart(bench *b) {
    lt_err err = { 0 };
    const char *dir = test_path("apart");
    const lt_save_opts opts = { .form = LT_FORM_ABLINEAR, .dtype = LT_N_DTYPES };
    assert_ok(lt_overlay_set_apart(b->o, b->second.linear->name, &err), &err);
    assert_ok(lt_remove_tree(dir, &err), &err);
    assert_ok(lt_model_save(lt_overlay_model(b->o), dir, &opts, NULL, &err), &err);
    return dir;
}

static void test_what_is_saved_apart_opens_apart(void **state) {
    (void)state;
    for (size_t f = 0; f < LT_COUNTOF(folders); f++) {
        bench b;
        lt_module mod;
        if (!begin(&b, f)) skip();
        lt_model *m = tm_open(saved_apart(&b));
        assert_true(lt_model_find_module(m, b.second.linear->name, &mod) && lt_module_is_apart(&mod));
        assert_int_equal(mod.slot, b.second.slot);
        float *before = tm_logits(lt_overlay_model(b.o), b.team, b.ids, T), *after = tm_logits(m, b.team, b.ids, T);
        assert_close(after, before, T * m->config.vocab_size, 1e-6, 1e-6);
        free(before);
        free(after);
        lt_model_destroy(m);
        end(&b);
    }
}

/* The weights of a folder without those whose name ends so, and with a copy of one under another name. */
static void rewrite(const char *dir, const char *without, const char *copy, const char *as) {
    lt_err err = { 0 };
    lt_safetensors *st;
    lt_st_writer *w;
    char *path = lt_path_join(dir, "model.safetensors"), *fresh = lt_path_join(dir, "fresh.safetensors");
    assert_ok(lt_safetensors_open(&st, path, &err), &err);
    assert_ok(lt_st_writer_create(&w, fresh, &err), &err);
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) assert_ok(lt_st_writer_begin(w, &err), &err);
        for (size_t i = 0; i < lt_safetensors_count(st); i++) {
            const lt_st_entry *e = lt_safetensors_at(st, i);
            const lt_tensor *t = &e->tensor;
            const char *names[] = { without && strstr(e->name, without) ? NULL : e->name,
                                    copy && strstr(e->name, copy) ? as : NULL };
            for (size_t k = 0; k < 2; k++) {
                if (!names[k]) continue;
                if (pass == 0)
                    assert_ok(lt_st_writer_declare(w, names[k], t->dtype, t->rank, t->size, &err), &err);
                else
                    assert_ok(lt_st_writer_bytes(w, lt_host(t), lt_tensor_bytes(t), &err), &err);
            }
        }
    }
    assert_ok(lt_st_writer_commit(w, &err), &err);
    lt_safetensors_close(st);
    assert_ok(lt_rename(fresh, path, &err), &err);
    lt_free(path);
    lt_free(fresh);
}

static void test_a_missing_part_and_one_beside_the_whole_are_refused(void **state) {
    (void)state;
    bench b;
    lt_model *m;
    lt_err err = { 0 };
    if (!begin(&b, 1)) skip();
    rewrite(saved_apart(&b), "layers.0.attention.query_key_value.v.weight", NULL, NULL);
    assert_fails(lt_model_open(&m, test_path("apart"), &err), &err, LT_EDATA,
                 "gpt_neox.layers.0.attention.query_key_value.v.weight");
    err = (lt_err){ 0 };
    rewrite(saved_apart(&b), NULL, "layers.1.attention.query_key_value.weight",
            "gpt_neox.layers.1.attention.query_key_value.q.weight");
    assert_fails(lt_model_open(&m, test_path("apart"), &err), &err, LT_EDATA,
                 "gpt_neox.layers.1.attention.query_key_value.q.weight");
    end(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_are_the_rows_of_the_whole),
        cmocka_unit_test(test_a_part_has_two_names_and_is_found_by_them),
        cmocka_unit_test(test_replacing_a_part_is_local_and_can_be_undone),
        cmocka_unit_test(test_parts_follow_a_replaced_whole),
        cmocka_unit_test(test_what_is_saved_apart_opens_apart),
        cmocka_unit_test(test_a_missing_part_and_one_beside_the_whole_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
