/* SPDX-License-Identifier: Apache-2.0 */
/* The execution context: handles, the sticky error, blocks, memory that comes back, refusals of every op. */
#include "nn/exec_impl.h"
#include "nn/fixture.h"

static void open_with(fixture *f, lt_exec_opts opts) {
    fix_open(f, 1, opts, 1);
    fix_batch(f, LENGTHS(3, 1));
    fix_ids(f, 5);
    lt_exec_begin(f->x, &f->batch);
}

static lt_var ones(fixture *f, size_t rows, size_t cols) {
    lt_real *v = fix_zeros(f, rows * cols, sizeof *v);
    for (size_t i = 0; i < rows * cols; i++) v[i] = 1;
    return lt_input(f->x, rows, cols, v, true);
}

#define assert_sticky(f, code, text)                                                                                   \
    do {                                                                                                               \
        lt_err err_ = { 0 };                                                                                           \
        assert_fails(lt_exec_status((f)->x, &err_), &err_, code, text);                                                \
        lt_exec_begin((f)->x, &(f)->batch);                                                                            \
    } while (0)

static void values_are_what_was_put_in(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ 0 });
    const lt_real v[] = { 1, 2, 3, 4, 5, 6 };
    const lt_var a = lt_input(f.x, 2, 3, v, true);
    assert_int_equal(lt_rows(f.x, a), 2);
    assert_int_equal(lt_cols(f.x, a), 3);
    assert_memory_equal(lt_data(f.x, a), v, sizeof v);
    assert_false(lt_needs_grad(f.x, a)); /* nothing is recorded */
    assert_ptr_equal(lt_exec_batch(f.x), &f.batch);
    assert_ptr_equal(lt_exec_team(f.x), f.team);
    assert_int_equal(lt_exec_mode(f.x), LT_INFER);
    assert_false(lt_exec_silent(f.x));
    fix_close(&f);
}

static void a_stale_handle_is_an_error_and_never_memory(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ 0 });
    const lt_var old = ones(&f, 4, 2);
    lt_exec_begin(f.x, &f.batch);
    const lt_var now = ones(&f, 4, 2); /* the same slot */
    assert_int_equal(old.slot, now.slot);
    assert_int_equal(lt_rows(f.x, old), 0);
    assert_null(lt_data(f.x, old));
    assert_null(lt_data(f.x, now)); /* after a failure nothing is given out */
    assert_false(lt_is_var(lt_add(f.x, now, now)));
    assert_sticky(&f, LT_EINTERNAL, "stale");
    assert_false(lt_is_var(lt_add(f.x, ones(&f, 4, 2), old)));
    assert_sticky(&f, LT_EINTERNAL, "add: stale");
    assert_null(lt_data(f.x, (lt_var){ 12345, 0 }));
    assert_sticky(&f, LT_EINTERNAL, "stale");
    assert_null(lt_data(f.x, LT_NO_VAR));
    assert_sticky(&f, LT_EINTERNAL, "stale");
    fix_close(&f);
}

static void the_first_error_stays(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ .mode = LT_RECORD });
    const lt_var a = ones(&f, 4, 2);
    lt_exec_fail(f.x, LT_EDATA, "first %d", 1);
    lt_exec_fail(f.x, LT_EIO, "second");
    lt_linear l = { .n_stages = 0 };
    assert_false(lt_is_var(lt_add(f.x, a, a)));
    assert_false(lt_is_var(lt_input(f.x, 1, 1, (lt_real[]){ 0 }, false)));
    assert_false(lt_is_var(lt_linear_fwd(f.x, a, &l)));
    assert_null(lt_exec_scratch(f.x, 8));
    assert_null(lt_rope_prepare(f.x, (double[]){ 1 }, 1, 1));
    lt_tap(f.x, LT_SITE_STATE, 0, 0, a);
    lt_backward(f.x, a, NULL);
    assert_sticky(&f, LT_EDATA, "first 1");
    assert_int_equal(lt_exec_status(f.x, NULL), LT_OK); /* begin clears it */
    fix_close(&f);
}

static void batches_are_checked(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ 0 });
    f.piece[1].row = 2;
    lt_exec_begin(f.x, &f.batch);
    f.piece[1].row = 3;
    assert_sticky(&f, LT_EUSAGE, "piece 1 has rows 2 + 1");
    f.piece[1].n = 2;
    lt_exec_begin(f.x, &f.batch);
    f.piece[1].n = 0;
    assert_sticky(&f, LT_EUSAGE, "piece 1");
    assert_int_equal(lt_exec_status(f.x, NULL), LT_EUSAGE); /* pieces cover 3 of 4 */
    f.piece[1].n = 1;
    f.piece[1].parent = 1;
    lt_exec_begin(f.x, &f.batch);
    f.piece[1].parent = 0;
    assert_sticky(&f, LT_EUSAGE, "parent 1");
    assert_int_equal(lt_exec_status(f.x, NULL), LT_OK);
    fix_close(&f);
}

/* ---- refusals ---- */

static void ids_and_targets_outside_the_vocabulary_are_named(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ 0 });
    lt_param table = fix_param(&f, "model.embed", 5, 4, 1, false);
    lt_linear head = fix_linear(&f, "", 4, 5, 0);
    f.batch.ids = (const int32_t[]){ 0, 4, 5, 0 };
    assert_false(lt_is_var(lt_embed(f.x, &table, 1)));
    assert_sticky(&f, LT_EDATA, "id 5 at row 2 is outside the vocabulary of 5 (model.embed)");
    f.batch.ids = (const int32_t[]){ 0, -1, 0, 0 };
    lt_embed(f.x, &table, 1);
    assert_sticky(&f, LT_EDATA, "id -1 at row 1");
    f.batch.ids = NULL;
    lt_embed(f.x, &table, 1);
    assert_sticky(&f, LT_EUSAGE, "no ids");
    lt_head_nll(f.x, ones(&f, 4, 4), &head, 1, (const int32_t[]){ 0, 1, 2, 5 }, NULL);
    assert_sticky(&f, LT_EDATA, "target 5 at row 3");
    lt_head_nll(f.x, ones(&f, 4, 4), &head, 1, (const int32_t[]){ 0, -2, 2, 1 }, NULL);
    assert_sticky(&f, LT_EDATA, "target -2 at row 1");
    fix_close(&f);
}

static void shapes_that_do_not_fit_are_named(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ 0 });
    const lt_norm_params norm = { .w = fix_param(&f, "norm.weight", 0, 4, 1, false) };
    lt_linear l = fix_linear(&f, "b", 4, 6, 0), two = fix_linear(&f, "2", 4, 6, 3),
              adapted = fix_linear(&f, "a", 4, 6, 0);
    const lt_rope_table *t = lt_rope_prepare(f.x, (double[]){ 1, 2 }, 2, 1);
    lt_norm(f.x, ones(&f, 4, 5), &norm, 0);
    assert_sticky(&f, LT_EUSAGE, "norm.weight has 4 entries, expected 5");
    lt_norm(f.x, ones(&f, 4, 6), &norm, 4);
    assert_sticky(&f, LT_EUSAGE, "6 columns in groups of 4");
    lt_add(f.x, ones(&f, 4, 5), ones(&f, 4, 6));
    assert_sticky(&f, LT_EUSAGE, "input 1 is 4 x 6, expected 4 x 5");
    lt_gated(f.x, ones(&f, 4, 5), ones(&f, 3, 5), LT_ACT_SILU);
    assert_sticky(&f, LT_EUSAGE, "gated: input 1");
    lt_activate(f.x, ones(&f, 4, 5), LT_N_ACTS);
    assert_sticky(&f, LT_EUSAGE, "activation");
    lt_linear_fwd(f.x, ones(&f, 4, 5), &l);
    assert_sticky(&f, LT_EUSAGE, "module.weight takes 4 columns, given 5");
    l.bias.t.size[0] = 5;
    lt_linear_fwd(f.x, ones(&f, 4, 4), &l);
    assert_sticky(&f, LT_EUSAGE, "module.bias has 5 entries, expected 6");
    two.stage[1].w.t.size[1] = 2;
    lt_linear_fwd(f.x, ones(&f, 4, 4), &two);
    assert_sticky(&f, LT_EUSAGE, "takes 2 columns, given 3");
    adapted.stage[0].adapters[1].b.t.size[0] = 5;
    lt_linear_fwd(f.x, ones(&f, 4, 4), &adapted);
    assert_sticky(&f, LT_EUSAGE, "adapter lora_a");
    lt_linear_fwd(f.x, ones(&f, 4, 4), &(lt_linear){ .name = "absent" });
    assert_sticky(&f, LT_EUSAGE, "absent has 0 stages");
    lt_rope(f.x, ones(&f, 4, 4), NULL, 1, 4, false);
    assert_sticky(&f, LT_EUSAGE, "no table");
    t = lt_rope_prepare(f.x, (double[]){ 1, 2 }, 2, 1);
    lt_rope(f.x, ones(&f, 4, 6), t, 2, 3, false);
    assert_sticky(&f, LT_EUSAGE, "2 frequencies for heads of 3");
    t = lt_rope_prepare(f.x, (double[]){ 1, 2 }, 2, 1);
    lt_rope(f.x, ones(&f, 3, 4), t, 1, 4, false);
    assert_sticky(&f, LT_EUSAGE, "input 0 is 3 x 4, expected 4 x 4");
    lt_take_rows(f.x, ones(&f, 4, 2), (const size_t[]){ 0, 4 }, 2);
    assert_sticky(&f, LT_EUSAGE, "row 4 of 4");
    lt_take_cols(f.x, ones(&f, 4, 5), 3, 3);
    assert_sticky(&f, LT_EUSAGE, "columns 3 + 3 of 5");
    lt_take_cols(f.x, ones(&f, 4, 5), 3, SIZE_MAX);
    assert_sticky(&f, LT_EUSAGE, "take_cols");
    fix_close(&f);
}

static void attention_names_what_it_refuses(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ .mode = LT_RECORD });
    lt_attn_params p = { 0, 4, 3, 2, 2, 1, 0, 0 };
    lt_attention(f.x, ones(&f, 4, 8), ones(&f, 4, 6), ones(&f, 4, 6), &p);
    assert_sticky(&f, LT_EUSAGE, "4 query heads on 3 kv heads");
    p.n_kv_heads = 2;
    lt_attention(f.x, ones(&f, 4, 8), ones(&f, 4, 6), ones(&f, 4, 4), &p);
    assert_sticky(&f, LT_EUSAGE, "input 1 is 4 x 6, expected 4 x 4");
    p.scale = -1;
    lt_attention(f.x, ones(&f, 4, 8), ones(&f, 4, 4), ones(&f, 4, 4), &p);
    assert_sticky(&f, LT_EUSAGE, "scale -1");
    p = (lt_attn_params){ 0, 1, 1, 100000, 1, 1, 0, 0 };
    lt_attention(f.x, ones(&f, 4, 100000), ones(&f, 4, 100000), ones(&f, 4, 1), &p);
    assert_sticky(&f, LT_EUNSUPPORTED, "bytes of scratch");
    p = (lt_attn_params){ 0, 1, 1, 2, 2, 1, 0, 0 };
    f.piece[1].parent = 0;
    lt_attention(f.x, ones(&f, 4, 2), ones(&f, 4, 2), ones(&f, 4, 2), &p);
    assert_sticky(&f, LT_EUNSUPPORTED, "gradients of piece 1");
    fix_close(&f);
}

static void weights_that_are_not_numbers_are_unsupported(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ 0 });
    lt_param table = fix_param(&f, "table", 5, 4, 1, false);
    lt_linear l = { .name = "l", .n_stages = 1, .stage = { { .w = table } } };
    lt_norm_params norm = { .w = fix_param(&f, "norm", 0, 4, 1, false) };
    table.t.dtype = l.stage[0].w.t.dtype = norm.w.t.dtype = LT_I32;
    lt_embed(f.x, &table, 1);
    assert_sticky(&f, LT_EUNSUPPORTED, "table is i32");
    lt_linear_fwd(f.x, ones(&f, 4, 4), &l);
    assert_sticky(&f, LT_EUNSUPPORTED, "table is i32");
    lt_norm(f.x, ones(&f, 4, 4), &norm, 0);
    assert_sticky(&f, LT_EUNSUPPORTED, "norm is i32");
    lt_buffer device = { 0 };
    l.stage[0].w.t.dtype = LT_F32;
    l.stage[0].w.t.buffer = &device;
    lt_linear_fwd(f.x, ones(&f, 4, 4), &l);
    assert_sticky(&f, LT_EUNSUPPORTED, "not on the host");
    fix_close(&f);
}

/* ---- blocks without a tape ---- */

static lt_var double_it(lt_exec *x, lt_var in, const void *arg) {
    (void)arg;
    lt_var h = in;
    for (int i = 0; i < 50; i++) h = lt_add(x, in, lt_add(x, h, h)); /* leaves much behind */
    return lt_add(x, in, in);
}
static lt_var narrower(lt_exec *x, lt_var in, const void *arg) {
    (void)arg;
    return lt_take_cols(x, lt_add(x, in, in), 1, 2);
}
static lt_var same(lt_exec *x, lt_var in, const void *arg) {
    (void)x, (void)arg;
    return in;
}
static lt_var failing(lt_exec *x, lt_var in, const void *arg) {
    (void)arg;
    lt_exec_fail(x, LT_EDATA, "inside");
    return in;
}

static void a_block_frees_what_it_made_and_takes_the_place_of_its_input(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ 0 });
    const lt_var in = ones(&f, 4, 1000);
    lt_real *place = lt_data(f.x, in);
    lt_var h = in;
    size_t first_peak = 0;
    for (int i = 0; i < 10; i++) {
        h = lt_block(f.x, double_it, NULL, h);
        if (i == 0) first_peak = lt_exec_peak_bytes(f.x);
    }
    assert_int_equal(lt_exec_peak_bytes(f.x), first_peak);
    assert_ptr_equal(lt_data(f.x, h), place);
    assert_true(lt_data(f.x, h)[3999] == 1024);
    assert_int_equal(lt_exec_status(f.x, NULL), LT_OK);
    assert_int_equal(lt_rows(f.x, in), 0); /* the handle went stale */
    h = lt_block(f.x, narrower, NULL, lt_block(f.x, same, NULL, h));
    assert_int_equal(lt_cols(f.x, h), 2);
    assert_true(lt_data(f.x, h)[7] == 2048);
    assert_false(lt_is_var(lt_block(f.x, failing, NULL, h)));
    assert_sticky(&f, LT_EDATA, "inside");
    fix_close(&f);
}

static void a_replayed_block_may_change_the_shape(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ .mode = LT_RECORD, .recompute = true });
    const lt_var in = ones(&f, 4, 5), out = lt_block(f.x, narrower, NULL, lt_block(f.x, same, NULL, in));
    lt_backward(f.x, out, NULL);
    assert_int_equal(lt_exec_status(f.x, NULL), LT_OK);
    for (size_t i = 0; i < 20; i++) assert_true(lt_grad(f.x, in)[i] == (i % 5 == 1 || i % 5 == 2 ? 2 : 0));
    assert_false(lt_is_var(lt_block(f.x, failing, NULL, out)));
    assert_sticky(&f, LT_EDATA, "inside");
    fix_close(&f);
}

/* ---- gradients ---- */

static void backward_needs_a_tape_and_spends_it(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ 0 });
    lt_backward(f.x, ones(&f, 4, 1), NULL);
    assert_sticky(&f, LT_EUSAGE, "nothing is recorded");
    assert_null(lt_grad(f.x, ones(&f, 4, 1)));
    assert_sticky(&f, LT_EINTERNAL, "nothing is recorded");
    fix_close(&f);
    open_with(&f, (lt_exec_opts){ .mode = LT_RECORD });
    const lt_var a = ones(&f, 4, 1), frozen = lt_input(f.x, 4, 1, (const lt_real[4]){ 0 }, false),
                 b = lt_add(f.x, a, frozen);
    lt_backward(f.x, b, (const lt_real[]){ 1, 2, 3, 4 });
    lt_backward(f.x, b, NULL); /* seeds again, but there is nothing to walk */
    assert_int_equal(lt_exec_status(f.x, NULL), LT_OK);
    assert_true(lt_grad(f.x, a)[3] == 4);
    assert_false(lt_needs_grad(f.x, frozen));
    lt_backward(f.x, frozen, NULL); /* nothing trains: nothing happens */
    assert_int_equal(lt_exec_status(f.x, NULL), LT_OK);
    fix_close(&f);
}

static bool wants_all(void *user, lt_site site, int layer, int sub, bool grad) {
    (void)user, (void)layer, (void)sub;
    return site == LT_SITE_STATE && !grad;
}
static lt_status refuses(void *user, const lt_obs *obs, lt_err *err) {
    ++*(int *)user;
    assert_int_equal(obs->layer, 7);
    assert_int_equal(obs->sub, 2);
    assert_int_equal(lt_tensor_rows(&obs->rows), 4);
    assert_int_equal(obs->rows.dtype, LT_REAL_DTYPE);
    return lt_fail(err, LT_EDATA, "not what the observer hoped for");
}

static void an_observers_error_is_sticky(void **state) {
    (void)state;
    int calls = 0;
    const lt_observer o[] = { { wants_all, refuses, &calls, false }, { wants_all, refuses, &calls, false } };
    fixture f;
    open_with(&f, (lt_exec_opts){ .observers = o, .n_observers = 2 });
    lt_tap(f.x, LT_SITE_BLOCK_IN, 7, 2, ones(&f, 4, 3));
    assert_int_equal(calls, 0);
    lt_tap(f.x, LT_SITE_STATE, 7, 2, ones(&f, 4, 3));
    assert_int_equal(calls, 1);
    assert_sticky(&f, LT_EDATA, "hoped for");
    for (int s = 0; s < LT_N_SITES; s++) assert_non_null(lt_site_name((lt_site)s));
    assert_string_equal(lt_site_name(LT_SITE_MIXER_IN), "mixer_in");
    fix_close(&f);
}

/* ---- a backend without the op ---- */

static void add_elsewhere(lt_exec *x, const lt_node *node) {
    lt_data(x, node->out)[0] = 42;
}

static void a_missing_op_of_a_backend_is_named(void **state) {
    (void)state;
    static const lt_backend_op ops[] = { { "add", add_elsewhere, NULL } };
    static const lt_backend toy = { .name = "toy", .ops = ops, .n_ops = 1 };
    fixture f;
    open_with(&f, (lt_exec_opts){ .backend = &toy, .mode = LT_RECORD });
    const lt_var a = ones(&f, 1, 1), b = lt_add(f.x, a, a);
    assert_true(lt_data(f.x, b)[0] == 42);
    lt_backward(f.x, b, NULL);
    assert_sticky(&f, LT_EUNSUPPORTED, "add: backend toy has no backward");
    lt_activate(f.x, ones(&f, 1, 1), LT_ACT_RELU);
    assert_sticky(&f, LT_EUNSUPPORTED, "activate: backend toy has no such op");
    fix_close(&f);
}

/* ---- memory ---- */

typedef struct step {
    lt_team *team;
    fixture *f;
    lt_linear *l;
    lt_norm_params *norm;
} step;

static lt_var step_block(lt_exec *x, lt_var in, const void *arg) {
    const step *s = arg;
    const lt_attn_params p = { 0, 2, 1, 4, 8, 0.5, 0, 0 };
    const lt_rope_table *t = lt_rope_prepare(x, (double[]){ 1, 0.1 }, 2, 1);
    const lt_var h = lt_norm(x, in, s->norm, 0), q = lt_rope(x, lt_take_cols(x, h, 0, 8), t, 2, 4, false);
    const lt_var o = lt_attention(x, q, lt_take_cols(x, h, 4, 4), lt_take_cols(x, h, 0, 8), &p);
    return lt_add(x, in, lt_linear_fwd(x, o, s->l));
}

static lt_status run_step(lt_exec *x, step *s) {
    static const lt_real zero[100 * 16];
    lt_exec_begin(x, &s->f->batch);
    const lt_var h = lt_block(x, step_block, s, lt_input(x, s->f->batch.n_rows, 16, zero, true));
    lt_backward(x, h, NULL);
    return lt_exec_status(x, NULL);
}

static lt_status create_and_step(void *user, lt_err *err) {
    step *s = user;
    lt_exec *x = NULL;
    LT_TRY(lt_exec_create(&x, s->team, &(lt_exec_opts){ .mode = LT_RECORD, .recompute = true }, err));
    run_step(x, s);
    const lt_status st = lt_exec_status(x, err);
    lt_exec_destroy(x);
    return st;
}

static void every_failing_allocation_is_out_of_memory(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ 0 });
    lt_linear l = fix_linear(&f, "b", 16, 16, 0);
    lt_norm_params norm = { .eps = 1e-5, .w = fix_param(&f, "norm", 0, 16, 1, true) };
    step s = { f.team, &f, &l, &norm };
    assert_true(test_every_allocation_fails(create_and_step, &s) > 4);
    fix_close(&f);
}

/* After the first step everything is reused: with every allocation failing, steps still work. */
static void later_steps_allocate_nothing(void **state) {
    (void)state;
    fixture f;
    open_with(&f, (lt_exec_opts){ .mode = LT_RECORD, .recompute = true });
    lt_linear l = fix_linear(&f, "b", 16, 16, 0);
    lt_norm_params norm = { .eps = 1e-5, .w = fix_param(&f, "norm", 0, 16, 1, true) };
    step s = { f.team, &f, &l, &norm };
    assert_int_equal(run_step(f.x, &s), LT_OK);
    lt_alloc_fail_after(0);
    const lt_status again = run_step(f.x, &s);
    lt_alloc_fail_after(SIZE_MAX);
    assert_int_equal(again, LT_OK);
    fix_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_what_was_put_in),
        cmocka_unit_test(a_stale_handle_is_an_error_and_never_memory),
        cmocka_unit_test(the_first_error_stays),
        cmocka_unit_test(batches_are_checked),
        cmocka_unit_test(ids_and_targets_outside_the_vocabulary_are_named),
        cmocka_unit_test(shapes_that_do_not_fit_are_named),
        cmocka_unit_test(attention_names_what_it_refuses),
        cmocka_unit_test(weights_that_are_not_numbers_are_unsupported),
        cmocka_unit_test(a_block_frees_what_it_made_and_takes_the_place_of_its_input),
        cmocka_unit_test(a_replayed_block_may_change_the_shape),
        cmocka_unit_test(backward_needs_a_tape_and_spends_it),
        cmocka_unit_test(an_observers_error_is_sticky),
        cmocka_unit_test(a_missing_op_of_a_backend_is_named),
        cmocka_unit_test(every_failing_allocation_is_out_of_memory),
        cmocka_unit_test(later_steps_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
