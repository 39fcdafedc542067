/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"

/* header (length and text) and n data bytes 0, 1, 2, ...; lt_free */
static char *build(const char *header, size_t n, size_t *bytes) {
    const size_t h = strlen(header);
    char *file = lt_malloc(8 + h + n);
    for (size_t i = 0; i < 8; i++) file[i] = (char)(h >> (8 * i));
    memcpy(file + 8, header, h);
    for (size_t i = 0; i < n; i++) file[8 + h + i] = (char)i;
    *bytes = 8 + h + n;
    return file;
}

static void refused(const char *header, size_t n, lt_status code, const char *text) {
    lt_err err = { 0 };
    size_t bytes;
    char *file = build(header, n, &bytes);
    lt_safetensors *st = NULL;
    assert_fails(lt_safetensors_from_memory(&st, file, bytes, "bad.safetensors", &err), &err, code, text);
    lt_safetensors_from_memory(&st, file, bytes, "bad.safetensors", &err);
    assert_non_null(strstr(err.message, "bad.safetensors"));
    assert_null(st);
    lt_free(file);
}

static void what_the_format_forbids_is_refused_by_name(void **state) {
    (void)state;
    refused("[]", 0, LT_EDATA, "header is not an object");
    refused("{", 0, LT_EDATA, "not valid JSON");
    refused("{\"a\": 1}", 0, LT_EDATA, "not an object (bad.safetensors: a)");
    refused("{\"__metadata__\": []}", 0, LT_EDATA, "__metadata__");
    refused("{\"__metadata__\": {\"k\": 1}}", 0, LT_EDATA, "metadata is not a string (bad.safetensors: k)");
    refused("{\"a\": {\"shape\": [1], \"data_offsets\": [0, 4]}}", 4, LT_EDATA,
            "dtype is missing (bad.safetensors: a)");
    refused("{\"a\": {\"dtype\": \"F8_E4M3\", \"shape\": [1], \"data_offsets\": [0, 1]}}", 1, LT_EUNSUPPORTED,
            "(bad.safetensors: a: F8_E4M3)");
    refused("{\"a\": {\"dtype\": \"f32\", \"shape\": [1], \"data_offsets\": [0, 4]}}", 4, LT_EUNSUPPORTED, "f32");
    refused("{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 4]}}", 4, LT_EDATA, "shape is missing");
    refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 4]}}", 4, LT_EDATA, "whole numbers");
    refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [1.5], \"data_offsets\": [0, 4]}}", 4, LT_EDATA, "whole numbers");
    refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [1,1,1,1,1,1,1], \"data_offsets\": [0, 4]}}", 4, LT_EUNSUPPORTED,
            "rank above 6");
    refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [4294967296, 4294967296], \"data_offsets\": [0, 0]}}", 0, LT_EDATA,
            "too large");
    refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [0, 4294967296, 4294967296, 4], \"data_offsets\": [0, 0]}}", 0,
            LT_EDATA, "too large");
    refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [1]}}", 4, LT_EDATA, "data_offsets");
    refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4, 4]}}", 4, LT_EDATA, "data_offsets");
    refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 8]}}", 4, LT_EDATA,
            "not inside the data");
    refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 0]}}", 4, LT_EDATA,
            "not inside the data");
    refused("{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 4]}}", 4, LT_EDATA,
            "make 8 bytes, offsets 4 (bad.safetensors: a)");
    refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 2]}, \"b\": {\"dtype\": \"U8\", "
            "\"shape\": [2], \"data_offsets\": [1, 3]}}",
            3, LT_EDATA, "overlap before the tensor (bad.safetensors: b: offset 1, want 2)");
    refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 2]}, \"b\": {\"dtype\": \"U8\", "
            "\"shape\": [1], \"data_offsets\": [3, 4]}}",
            4, LT_EDATA, "hole before the tensor (bad.safetensors: b");
    refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [0, 2]}}", 3, LT_EDATA,
            "1 bytes after the last tensor");
    refused("{\"a\": {\"dtype\": \"U8\", \"shape\": [0], \"data_offsets\": [0, 0]}, \"a\": {\"dtype\": \"U8\", "
            "\"shape\": [0], \"data_offsets\": [0, 0]}}",
            0, LT_EDATA, "duplicate");
}

static void a_header_longer_than_the_file_is_refused(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_safetensors *st;
    const unsigned char huge[16] = { 255, 255, 255, 255, 255, 255, 255, 255, '{', '}' };
    for (size_t n = 0; n < 8; n++)
        assert_fails(lt_safetensors_from_memory(&st, huge, n, "cut", &err), &err, LT_EDATA, "too short");
    assert_fails(lt_safetensors_from_memory(&st, huge, 16, "cut", &err), &err, LT_EDATA, "does not fit");
    const unsigned char nine[10] = { 3, 0, 0, 0, 0, 0, 0, 0, '{', '}' };
    assert_fails(lt_safetensors_from_memory(&st, nine, 10, "cut", &err), &err, LT_EDATA, "does not fit");
    assert_fails(lt_safetensors_open(&st, test_path("none"), &err), &err, LT_EIO, "none");
}

static void every_cut_of_a_file_is_refused(void **state) {
    (void)state;
    size_t bytes;
    char *file = build("{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}  ", 16, &bytes);
    for (size_t n = 0; n < bytes; n++) {
        lt_safetensors *st = NULL;
        char *cut = lt_malloc(n); /* a block of its own: the sanitizer sees a read past it */
        memcpy(cut, file, n);
        assert_int_equal(lt_safetensors_from_memory(&st, cut, n, "cut", NULL), LT_EDATA);
        lt_free(cut);
    }
    lt_free(file);
}

static void tensors_are_found_with_dtype_shape_and_bytes(void **state) {
    (void)state;
    lt_err err = { 0 };
    size_t bytes;
    char *file =
        build("{\"__metadata__\":{\"format\":\"pt\"},\"b\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[4,12]},"
              "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[4,4]},"
              "\"a\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[0,4]},\"s\":{\"dtype\":\"BOOL\",\"shape\":[]"
              ",\"data_offsets\":[12,13]}} ",
              13, &bytes);
    lt_safetensors *st;
    assert_ok(lt_safetensors_from_memory(&st, file, bytes, "good", &err), &err);
    assert_int_equal(lt_safetensors_count(st), 4);
    static const char *const order[] = { "a", "b", "empty", "s" };
    for (size_t i = 0; i < 4; i++) assert_string_equal(lt_safetensors_at(st, i)->name, order[i]);
    assert_string_equal(lt_safetensors_meta(st, "format"), "pt");
    assert_null(lt_safetensors_meta(st, "none"));
    assert_string_equal(lt_safetensors_path(st), "good");
    const lt_tensor *a = lt_safetensors_find(st, "a"), *b;
    assert_true(a->dtype == LT_BF16 && a->rank == 2 && a->size[1] == 2);
    assert_memory_equal(lt_host(a), "\0\1\2\3", 4);
    assert_null(lt_safetensors_find(st, "c"));
    assert_ok(lt_safetensors_get(&b, st, "b", LT_I32, 1, &err), &err);
    assert_memory_equal(lt_host(b), "\4\5\6\7", 4);
    assert_ok(lt_safetensors_get(&b, st, "s", LT_N_DTYPES, -1, &err), &err);
    assert_int_equal(lt_tensor_count(b), 1);
    assert_int_equal(lt_tensor_count(lt_safetensors_find(st, "empty")), 0);
    assert_fails(lt_safetensors_get(&b, st, "c", LT_I32, 1, &err), &err, LT_EDATA, "no such tensor (good: c)");
    assert_fails(lt_safetensors_get(&b, st, "b", LT_F32, 1, &err), &err, LT_EDATA,
                 "dtype is not f32 (good: b: i32 [2])");
    assert_fails(lt_safetensors_get(&b, st, "b", LT_I32, 2, &err), &err, LT_EDATA, "rank is not 2 (good: b: i32 [2])");
    lt_safetensors_close(st);
    lt_safetensors_close(NULL);
    lt_free(file);
}

static void misaligned_tensors_get_aligned_copies(void **state) {
    (void)state;
    lt_err err = { 0 };
    size_t bytes;
    char *file = build("{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},\"b\":{\"dtype\":\"F64\","
                       "\"shape\":[1],\"data_offsets\":[3,11]}}",
                       11, &bytes);
    lt_safetensors *st;
    assert_ok(lt_safetensors_from_memory(&st, file, bytes, "odd", &err), &err);
    const lt_tensor *b = lt_safetensors_find(st, "b");
    assert_int_equal((uintptr_t)lt_host(b) % 8, 0);
    assert_memory_equal(lt_host(b), "\3\4\5\6\7\10\11\12", 8);
    lt_safetensors_close(st);
    lt_free(file);
}

static lt_status write_two(void *path, lt_err *err) {
    static const float x[6] = { 1, 2, 3, 4, 5, 6 };
    lt_st_writer *w;
    LT_TRY(lt_st_writer_create(&w, path, err));
    lt_status st = lt_st_writer_meta(w, "format", "pt", err);
    if (st == LT_OK) st = lt_st_writer_declare(w, "x", LT_F32, 2, (size_t[]){ 2, 3 }, err);
    if (st == LT_OK) st = lt_st_writer_declare(w, "none", LT_F16, 1, (size_t[]){ 0 }, err);
    if (st == LT_OK) st = lt_st_writer_declare(w, "a\"\xc3\xa9", LT_U8, 0, NULL, err);
    if (st == LT_OK) st = lt_st_writer_begin(w, err);
    if (st == LT_OK) st = lt_st_writer_bytes(w, x, 8, err);
    if (st == LT_OK) st = lt_st_writer_bytes(w, x + 2, 16, err);
    if (st == LT_OK) st = lt_st_writer_bytes(w, "\7", 1, err);
    if (st == LT_OK) return lt_st_writer_commit(w, err);
    lt_st_writer_abort(w);
    return st;
}

static void what_is_written_reads_back(void **state) {
    (void)state;
    lt_err err = { 0 };
    static const float x[6] = { 1, 2, 3, 4, 5, 6 };
    const char *path = test_path("w.safetensors");
    assert_ok(write_two((void *)path, &err), &err);
    lt_safetensors *st;
    const lt_tensor *t;
    assert_ok(lt_safetensors_open(&st, path, &err), &err);
    assert_int_equal(lt_safetensors_count(st), 3);
    assert_string_equal(lt_safetensors_meta(st, "format"), "pt");
    assert_ok(lt_safetensors_get(&t, st, "x", LT_F32, 2, &err), &err);
    assert_memory_equal(lt_host(t), x, sizeof x);
    assert_true(t->buffer->mapped && t->offset % 8 == 0);
    assert_ok(lt_safetensors_get(&t, st, "a\"\xc3\xa9", LT_U8, 0, &err), &err);
    assert_int_equal(*(const char *)lt_host(t), 7);
    lt_safetensors_close(st);
}

static void the_writer_holds_its_caller_to_the_declaration(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_st_writer *w;
    assert_ok(lt_make_dirs(test_path("strict"), &err), &err);
    const char *path = test_path("strict/w");
    assert_ok(lt_st_writer_create(&w, path, &err), &err);
    assert_fails(lt_st_writer_bytes(w, "x", 1, &err), &err, LT_EUSAGE, "before the header");
    assert_ok(lt_st_writer_declare(w, "a", LT_U8, 1, (size_t[]){ 2 }, &err), &err);
    assert_fails(lt_st_writer_declare(w, "a", LT_U8, 1, (size_t[]){ 2 }, &err), &err, LT_EUSAGE, "twice");
    assert_fails(lt_st_writer_declare(w, "__metadata__", LT_U8, 1, (size_t[]){ 2 }, &err), &err, LT_EUSAGE, "twice");
    assert_fails(lt_st_writer_declare(w, "q", LT_Q8_0, 1, (size_t[]){ 32 }, &err), &err, LT_EUSAGE, "not storable");
    assert_fails(lt_st_writer_declare(w, "h", LT_U8, 2, (size_t[]){ SIZE_MAX, 2 }, &err), &err, LT_EUSAGE, "too large");
    assert_fails(lt_st_writer_declare(w, "\xff", LT_U8, 0, NULL, &err), &err, LT_EUSAGE, "UTF-8");
    assert_fails(lt_st_writer_meta(w, "k", "\xff", &err), &err, LT_EUSAGE, "UTF-8");
    assert_ok(lt_st_writer_begin(w, &err), &err);
    assert_fails(lt_st_writer_begin(w, &err), &err, LT_EUSAGE, "twice");
    assert_fails(lt_st_writer_declare(w, "b", LT_U8, 0, NULL, &err), &err, LT_EUSAGE, "after the header");
    assert_fails(lt_st_writer_meta(w, "k", "v", &err), &err, LT_EUSAGE, "after the header");
    assert_fails(lt_st_writer_bytes(w, "xyz", 3, &err), &err, LT_EINTERNAL, "more than the 2 declared");
    assert_ok(lt_st_writer_bytes(w, "x", 1, &err), &err);
    assert_fails(lt_st_writer_commit(w, &err), &err, LT_EINTERNAL, "1 of 2 declared bytes");
    assert_int_equal(test_count_dir(test_path("strict")), 0);
    lt_st_writer_abort(NULL);
    assert_fails(lt_st_writer_create(&w, test_path("no/dir"), &err), &err, LT_EIO, "no/dir");
}

static lt_status open_once(void *user, lt_err *err) {
    lt_safetensors *st;
    LT_TRY(lt_safetensors_open(&st, user, err));
    lt_safetensors_close(st);
    return LT_OK;
}

static lt_st_writer *open_in_place(const char *path) {
    lt_err err = { 0 };
    lt_st_writer *w;
    assert_ok(lt_st_writer_open(&w, path, &err), &err);
    assert_ok(lt_st_writer_meta(w, "hash", "??", &err), &err);
    assert_ok(lt_st_writer_declare(w, "x", LT_F32, 1, (size_t[]){ 3 }, &err), &err);
    assert_ok(lt_st_writer_declare(w, "y", LT_U8, 1, (size_t[]){ 2 }, &err), &err);
    assert_ok(lt_st_writer_begin(w, &err), &err);
    return w;
}

/* Two runs, tensors backwards and cut in two: the file of the writer that goes straight through. */
static void filled_in_place_it_is_the_same_file(void **state) {
    (void)state;
    lt_err err = { 0 };
    static const float x[3] = { 1, 2, 3 };
    const char *path = test_path("in-place");
    size_t place, bytes, n, m;
    lt_st_writer *w = open_in_place(path);
    assert_ok(lt_st_writer_put(w, "y", 0, "ab", 2, &err), &err);
    lt_st_writer_abort(w); /* a run that ends here */
    w = open_in_place(path);
    assert_ok(lt_st_writer_put(w, "x", 4, x + 1, 8, &err), &err);
    assert_ok(lt_st_writer_put(w, "x", 0, x, 4, &err), &err);
    assert_true(lt_st_writer_place(w, "y", &place, &bytes) && bytes == 2);
    assert_false(lt_st_writer_place(w, "z", &place, &bytes));
    assert_fails(lt_st_writer_put(w, "y", 1, "ab", 2, &err), &err, LT_EINTERNAL, "more than the declared bytes");
    assert_fails(lt_st_writer_put(w, "z", 0, "a", 1, &err), &err, LT_EINTERNAL, "z");
    assert_fails(lt_st_writer_bytes(w, "a", 1, &err), &err, LT_EUSAGE, "before the header");
    assert_fails(lt_st_writer_amend(w, "hash", "longer", &err), &err, LT_EUSAGE, "cannot be amended");
    assert_ok(lt_st_writer_amend(w, "hash", "ok", &err), &err);
    assert_ok(lt_st_writer_commit(w, &err), &err);
    assert_ok(lt_st_writer_create(&w, test_path("straight"), &err), &err);
    assert_ok(lt_st_writer_meta(w, "hash", "ok", &err), &err);
    assert_ok(lt_st_writer_declare(w, "x", LT_F32, 1, (size_t[]){ 3 }, &err), &err);
    assert_ok(lt_st_writer_declare(w, "y", LT_U8, 1, (size_t[]){ 2 }, &err), &err);
    assert_ok(lt_st_writer_begin(w, &err), &err);
    assert_ok(lt_st_writer_bytes(w, x, sizeof x, &err), &err);
    assert_ok(lt_st_writer_bytes(w, "ab", 2, &err), &err);
    assert_ok(lt_st_writer_commit(w, &err), &err);
    char *a = test_read_file(path, &n), *b = test_read_file(test_path("straight"), &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    lt_free(a), lt_free(b);
}

static void failing_allocations_are_reported(void **state) {
    (void)state;
    const char *path = test_path("alloc.safetensors");
    assert_true(test_every_allocation_fails(write_two, (void *)path) > 0);
    assert_true(test_every_allocation_fails(open_once, (void *)path) > 0);
    size_t bytes;
    char *odd = build("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"F64\","
                      "\"shape\":[1],\"data_offsets\":[1,9]}}",
                      9, &bytes);
    test_write_file(path, odd, bytes);
    lt_free(odd);
    assert_true(test_every_allocation_fails(open_once, (void *)path) > 0);
}

static void a_full_disk_is_reported_by_path(void **state) {
    (void)state;
    lt_err err = { 0 };
    if (!lt_path_exists("/dev/full")) skip();
    assert_fails(write_two("/dev/full", &err), &err, LT_EIO, "/dev/full: No space left");
}

static void a_real_model_opens(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_safetensors *st;
    const char *path = TEST_NEED_SHARED("golden/models/llama-gqa/model.safetensors");
    assert_ok(lt_safetensors_open(&st, path, &err), &err);
    assert_true(lt_safetensors_count(st) > 10);
    for (size_t i = 0; i < lt_safetensors_count(st); i++) {
        const lt_st_entry *e = lt_safetensors_at(st, i);
        assert_ptr_equal(lt_safetensors_find(st, e->name), &e->tensor);
        float first;
        lt_tensor_row_f32(&first, &e->tensor, lt_tensor_rows(&e->tensor) - 1, lt_tensor_cols(&e->tensor) - 1, 1);
        assert_true(first == first);
    }
    lt_safetensors_close(st);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_format_forbids_is_refused_by_name),
        cmocka_unit_test(a_header_longer_than_the_file_is_refused),
        cmocka_unit_test(every_cut_of_a_file_is_refused),
        cmocka_unit_test(tensors_are_found_with_dtype_shape_and_bytes),
        cmocka_unit_test(misaligned_tensors_get_aligned_copies),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(the_writer_holds_its_caller_to_the_declaration),
        cmocka_unit_test(filled_in_place_it_is_the_same_file),
        cmocka_unit_test(failing_allocations_are_reported),
        cmocka_unit_test(a_full_disk_is_reported_by_path),
        cmocka_unit_test(a_real_model_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
