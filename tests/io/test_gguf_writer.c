/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <math.h>
#include <string.h>

#include "io/file.h"
#include "io/gguf_writer.h"

static lt_gguf_writer *create(const char *path) {
    lt_err err = { 0 };
    lt_gguf_writer *w;
    assert_ok(lt_gguf_writer_create(&w, path, &err), &err);
    return w;
}

static lt_gguf *open_file(const char *path) {
    lt_err err = { 0 };
    lt_gguf *g;
    assert_ok(lt_gguf_open(&g, path, &err), &err);
    return g;
}

static void put_keys(lt_gguf_writer *w) {
    lt_gguf_put_text(w, "general.architecture", "llama");
    lt_gguf_put_u32(w, "n", 4000000000u);
    lt_gguf_put_f32(w, "f", -0.1f);
    lt_gguf_put_bool(w, "b", true);
    lt_gguf_put_string(w, "nul", "a\0b", 3);
    lt_gguf_put_array(w, "tokens", LT_GGUF_STRING, 2);
    lt_gguf_add_string(w, "", 0);
    lt_gguf_add_string(w, "xyz", 3);
    lt_gguf_put_array(w, "scores", LT_GGUF_F32, 1);
    lt_gguf_add_f32(w, -INFINITY);
    lt_gguf_put_array(w, "types", LT_GGUF_I32, 2);
    lt_gguf_add_i32(w, -7);
    lt_gguf_add_i32(w, 6);
    lt_gguf_put_array(w, "none", LT_GGUF_I32, 0);
}

static void keys_hold(const lt_gguf *g) {
    uint64_t u;
    double f;
    bool b = false;
    size_t n;
    int64_t i;
    assert_string_equal(lt_gguf_string(g, "general.architecture", NULL), "llama");
    assert_true(lt_gguf_u64(g, "n", &u) && u == 4000000000u);
    assert_true(lt_gguf_f64(g, "f", &f) && f == (double)-0.1f);
    assert_true(lt_gguf_bool(g, "b", &b) && b);
    assert_memory_equal(lt_gguf_string(g, "nul", &n), "a\0b", 3);
    assert_int_equal(n, 3);
    assert_string_equal(lt_gguf_array_string(g, "tokens", 1, &n), "xyz");
    assert_true(lt_gguf_array_f64(g, "scores", 0, &f) && f == -INFINITY);
    assert_true(lt_gguf_array_i64(g, "types", 0, &i) && i == -7);
    assert_true(lt_gguf_array(g, "none", NULL, &n) && n == 0);
}

static void what_is_written_reads_back(void **state) {
    (void)state;
    static const float a[6] = { 1, 2, 3, 4, 5, 6 };
    unsigned char q[2 * 34];
    const size_t sizes[2] = { 2, 3 }, vector = 3, blocks[2] = { 2, 32 };
    lt_err err = { 0 };
    lt_gguf_writer *w = create(test_path("a.gguf"));
    for (size_t i = 0; i < sizeof q; i++) q[i] = (unsigned char)i;
    put_keys(w);
    lt_gguf_declare(w, "a", LT_F32, 2, sizes);
    lt_gguf_declare(w, "v", LT_F32, 1, &vector);
    lt_gguf_declare(w, "q", LT_Q8_0, 2, blocks);
    assert_ok(lt_gguf_writer_begin(w, &err), &err);
    /* pieces need not end where tensors do */
    assert_ok(lt_gguf_writer_bytes(w, a, 4, &err), &err);
    assert_ok(lt_gguf_writer_bytes(w, a + 1, 20, &err), &err);
    assert_ok(lt_gguf_writer_bytes(w, a, 12, &err), &err);
    assert_ok(lt_gguf_writer_bytes(w, q, sizeof q, &err), &err);
    assert_ok(lt_gguf_writer_commit(w, &err), &err);
    lt_gguf *g = open_file(test_path("a.gguf"));
    keys_hold(g);
    assert_memory_equal(lt_host(lt_gguf_find(g, "a")), a, sizeof a);
    assert_memory_equal(lt_host(lt_gguf_find(g, "v")), a, 12);
    assert_memory_equal(lt_host(lt_gguf_find(g, "q")), q, sizeof q);
    const lt_tensor *t = lt_gguf_find(g, "a");
    assert_true(t->rank == 2 && t->size[0] == 2 && t->size[1] == 3);
    lt_gguf_close(g);
}

static void a_copy_of_every_key_is_the_same_file(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_gguf_writer *w = create(test_path("a.gguf"));
    put_keys(w);
    assert_ok(lt_gguf_writer_begin(w, &err), &err);
    assert_ok(lt_gguf_writer_commit(w, &err), &err);
    lt_gguf *g = open_file(test_path("a.gguf"));
    w = create(test_path("b.gguf"));
    for (size_t i = 0; i < lt_gguf_n_keys(g); i++) lt_gguf_put_copy(w, g, i);
    assert_ok(lt_gguf_writer_begin(w, &err), &err);
    assert_ok(lt_gguf_writer_commit(w, &err), &err);
    lt_gguf_close(g);
    lt_buffer x, y;
    assert_ok(lt_map_open(&x, test_path("a.gguf"), &err), &err);
    assert_ok(lt_map_open(&y, test_path("b.gguf"), &err), &err);
    assert_int_equal(x.bytes, y.bytes);
    assert_memory_equal(x.data, y.data, x.bytes);
    lt_map_close(&x);
    lt_map_close(&y);
}

static void refuses(lt_gguf_writer *w, const char *text) {
    lt_err err = { 0 };
    assert_fails(lt_gguf_writer_begin(w, &err), &err, LT_EINTERNAL, text);
    lt_gguf_writer_abort(w);
    assert_false(lt_path_exists(test_path("bad.gguf")));
}

static void mistakes_are_told_at_begin(void **state) {
    (void)state;
    const size_t odd[1] = { 33 }, one[1] = { 1 };
    lt_gguf_writer *w = create(test_path("bad.gguf"));
    lt_gguf_put_u32(w, "k", 1);
    lt_gguf_put_bool(w, "k", true);
    refuses(w, "k");
    w = create(test_path("bad.gguf"));
    lt_gguf_put_array(w, "list", LT_GGUF_I32, 2);
    lt_gguf_add_i32(w, 1);
    refuses(w, "1 short");
    w = create(test_path("bad.gguf"));
    lt_gguf_put_array(w, "list", LT_GGUF_I32, 1);
    lt_gguf_add_f32(w, 1);
    refuses(w, "no array takes this");
    w = create(test_path("bad.gguf"));
    lt_gguf_declare(w, "t", LT_Q8_0, 1, odd);
    refuses(w, "written as q8_0");
    w = create(test_path("bad.gguf"));
    lt_gguf_declare(w, "t", LT_F32, 1, one);
    lt_gguf_declare(w, "t", LT_F32, 1, one);
    refuses(w, "tensor given twice");
}

static void missing_and_extra_bytes_are_refused(void **state) {
    (void)state;
    const size_t one[1] = { 1 };
    lt_err err = { 0 };
    for (int extra = 0; extra < 2; extra++) {
        lt_gguf_writer *w = create(test_path("bad.gguf"));
        lt_gguf_declare(w, "t", LT_F32, 1, one);
        assert_ok(lt_gguf_writer_begin(w, &err), &err);
        if (extra) {
            assert_fails(lt_gguf_writer_bytes(w, "12345", 5, &err), &err, LT_EINTERNAL, "more bytes");
            lt_gguf_writer_abort(w);
        } else {
            assert_fails(lt_gguf_writer_commit(w, &err), &err, LT_EINTERNAL, "bytes are missing");
        }
        assert_false(lt_path_exists(test_path("bad.gguf")));
    }
}

static lt_status write_small(void *user, lt_err *err) {
    (void)user;
    const size_t one[1] = { 1 };
    lt_gguf_writer *w;
    LT_TRY(lt_gguf_writer_create(&w, test_path("small.gguf"), err));
    put_keys(w);
    lt_gguf_declare(w, "t", LT_F32, 1, one);
    lt_status st = lt_gguf_writer_begin(w, err);
    if (st == LT_OK) st = lt_gguf_writer_bytes(w, "1234", 4, err);
    if (st == LT_OK) return lt_gguf_writer_commit(w, err);
    lt_gguf_writer_abort(w);
    return st;
}

static void failing_allocations_are_reported(void **state) {
    (void)state;
    test_every_allocation_fails(write_small, NULL);
}

static void a_full_disk_is_reported(void **state) {
    (void)state;
    lt_err err = { 0 };
    if (!lt_path_exists("/dev/full")) skip();
    lt_gguf_writer *w = create("/dev/full");
    put_keys(w);
    assert_ok(lt_gguf_writer_begin(w, &err), &err);
    assert_fails(lt_gguf_writer_commit(w, &err), &err, LT_EIO, "/dev/full");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back),       cmocka_unit_test(a_copy_of_every_key_is_the_same_file),
        cmocka_unit_test(mistakes_are_told_at_begin),       cmocka_unit_test(missing_and_extra_bytes_are_refused),
        cmocka_unit_test(failing_allocations_are_reported), cmocka_unit_test(a_full_disk_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
