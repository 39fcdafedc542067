/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/gguf.h"

/* ---- a little writer ---- */

typedef struct image {
    _Alignas(8) unsigned char bytes[4096];
    size_t n;
} image;

static void put(image *m, uint64_t v, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) m->bytes[m->n++] = (unsigned char)(v >> (8 * i));
}

static void put_text(image *m, const char *text) {
    put(m, strlen(text), 8);
    memcpy(m->bytes + m->n, text, strlen(text));
    m->n += strlen(text);
}

static void put_key(image *m, const char *key, lt_gguf_type type) {
    put_text(m, key);
    put(m, type, 4);
}

static void put_array(image *m, const char *key, lt_gguf_type type, uint64_t n) {
    put_key(m, key, LT_GGUF_ARRAY);
    put(m, type, 4);
    put(m, n, 8);
}

static void put_tensor(image *m, const char *name, uint32_t type, uint32_t rank, const uint64_t *size,
                       uint64_t offset) {
    put_text(m, name);
    put(m, rank, 4);
    for (uint32_t i = 0; i < rank; i++) put(m, size[i], 8);
    put(m, type, 4);
    put(m, offset, 8);
}

static image start(uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
    image m = { .n = 0 };
    memcpy(m.bytes, "GGUF", 4);
    m.n = 4;
    put(&m, version, 4);
    put(&m, n_tensors, 8);
    put(&m, n_kv, 8);
    return m;
}

static void put_data(image *m, size_t alignment, size_t bytes) {
    while (m->n % alignment) put(m, 0xee, 1);
    for (size_t i = 0; i < bytes; i++) put(m, i, 1);
}

static void refused(const image *m, lt_status code, const char *text) {
    lt_err err = { 0 };
    lt_gguf *g = NULL;
    assert_fails(lt_gguf_from_memory(&g, m->bytes, m->n, "bad.gguf", &err), &err, code, text);
    lt_gguf_from_memory(&g, m->bytes, m->n, "bad.gguf", &err);
    assert_non_null(strstr(err.message, "bad.gguf"));
    assert_null(g);
}

/* ---- what is read ---- */

static image full_example(void) {
    image m = start(3, 3, 9);
    put_key(&m, "general.architecture", LT_GGUF_STRING);
    put_text(&m, "llama");
    put_key(&m, "n.u8", LT_GGUF_U8);
    put(&m, 200, 1);
    put_key(&m, "n.i16", LT_GGUF_I16);
    put(&m, (uint16_t)-5, 2);
    put_key(&m, "n.u64", LT_GGUF_U64);
    put(&m, UINT64_MAX, 8);
    put_key(&m, "r.f32", LT_GGUF_F32);
    put(&m, 0x3fc00000, 4); /* 1.5 */
    put_key(&m, "flag", LT_GGUF_BOOL);
    put(&m, 1, 1);
    put_array(&m, "tokens", LT_GGUF_STRING, 3);
    put_text(&m, "ab");
    put_text(&m, "");
    put_text(&m, "c\nd");
    put_array(&m, "types", LT_GGUF_I32, 2);
    put(&m, 7, 4);
    put(&m, (uint32_t)-9, 4);
    put_array(&m, "none", LT_GGUF_F64, 0);
    put_tensor(&m, "w", 0, 2, (uint64_t[]){ 3, 2 }, 0);
    put_tensor(&m, "q", 8, 2, (uint64_t[]){ 32, 1 }, 32);
    put_tensor(&m, "empty", 0, 1, (uint64_t[]){ 0 }, 96);
    put_data(&m, 32, 96);
    return m;
}

static void metadata_is_found_by_key_and_kind(void **state) {
    (void)state;
    lt_err err = { 0 };
    const image m = full_example();
    lt_gguf *g;
    uint64_t u = 0;
    int64_t i = 0;
    double d = 0;
    bool b = false;
    size_t n = 0;
    lt_gguf_type type;
    assert_ok(lt_gguf_from_memory(&g, m.bytes, m.n, "good", &err), &err);
    assert_int_equal(lt_gguf_n_keys(g), 9);
    assert_string_equal(lt_gguf_key(g, 1), "n.u8");
    assert_string_equal(lt_gguf_path(g), "good");
    assert_string_equal(lt_gguf_string(g, "general.architecture", &n), "llama");
    assert_int_equal(n, 5);
    assert_true(lt_gguf_u64(g, "n.u8", &u) && u == 200);
    assert_true(lt_gguf_u64(g, "n.u64", &u) && u == UINT64_MAX);
    assert_false(lt_gguf_u64(g, "n.i16", &u)); /* -5 */
    assert_true(lt_gguf_f64(g, "n.i16", &d) && d == -5);
    assert_true(lt_gguf_f64(g, "r.f32", &d) && d == 1.5);
    assert_true(lt_gguf_bool(g, "flag", &b) && b);
    assert_true(lt_gguf_has(g, "flag") && !lt_gguf_has(g, "flags"));
    assert_true(lt_gguf_array(g, "tokens", &type, &n) && type == LT_GGUF_STRING && n == 3);
    assert_string_equal(lt_gguf_array_string(g, "tokens", 2, &n), "c\nd");
    assert_int_equal(n, 3);
    assert_string_equal(lt_gguf_array_string(g, "tokens", 1, &n), "");
    assert_true(lt_gguf_array_i64(g, "types", 1, &i) && i == -9);
    assert_true(lt_gguf_array_f64(g, "types", 0, &d) && d == 7);
    assert_true(lt_gguf_array(g, "none", &type, &n) && n == 0);
    /* absent, past the end, or of another kind */
    assert_null(lt_gguf_array_string(g, "tokens", 3, &n));
    assert_null(lt_gguf_array_string(g, "types", 0, &n));
    assert_null(lt_gguf_string(g, "tokens", &n));
    assert_null(lt_gguf_string(g, "none.such", &n));
    assert_false(lt_gguf_array(g, "flag", &type, &n) || lt_gguf_array_i64(g, "tokens", 0, &i) ||
                 lt_gguf_array_f64(g, "types", 2, &d));
    assert_false(lt_gguf_u64(g, "types", &u) || lt_gguf_u64(g, "flag", &u) || lt_gguf_f64(g, "flag", &d) ||
                 lt_gguf_bool(g, "n.u8", &b));
    lt_gguf_close(g);
    lt_gguf_close(NULL);
}

static void values_have_short_texts(void **state) {
    (void)state;
    static const char *const want[] = {
        "\"llama\"",      "200",      "-5", "18446744073709551615", "1.5", "true", "string[3] {\"ab\", \"\", \"c d\"}",
        "i32[2] {7, -9}", "f64[0] {}"
    };
    const image m = full_example();
    lt_gguf *g;
    char text[200], little[6];
    assert_int_equal(lt_gguf_from_memory(&g, m.bytes, m.n, "good", NULL), LT_OK);
    for (size_t i = 0; i < LT_COUNTOF(want); i++)
        assert_string_equal(lt_gguf_value_text(g, i, text, sizeof text), want[i]);
    assert_string_equal(lt_gguf_value_text(g, 6, little, sizeof little), "strin");
    lt_gguf_close(g);
}

static void tensors_are_seen_outermost_first(void **state) {
    (void)state;
    lt_err err = { 0 };
    const image m = full_example();
    lt_gguf *g;
    assert_ok(lt_gguf_from_memory(&g, m.bytes, m.n, "good", &err), &err);
    assert_int_equal(lt_gguf_count(g), 3);
    assert_string_equal(lt_gguf_at(g, 1)->name, "q"); /* file order */
    const lt_tensor *w = lt_gguf_find(g, "w"), *q = lt_gguf_find(g, "q");
    assert_true(w->dtype == LT_F32 && w->rank == 2 && w->size[0] == 2 && w->size[1] == 3 && w->stride[0] == 3);
    assert_memory_equal(lt_host(w), "\0\1\2\3\4", 5);
    assert_true(q->dtype == LT_Q8_0 && *(const unsigned char *)lt_host(q) == 32);
    assert_int_equal(lt_tensor_count(lt_gguf_find(g, "empty")), 0);
    assert_null(lt_gguf_find(g, "x"));
    lt_gguf_close(g);
}

/* ---- what is refused ---- */

static void other_files_and_versions_are_refused(void **state) {
    (void)state;
    image m = start(3, 0, 0);
    m.bytes[0] = 'g';
    refused(&m, LT_EDATA, "not a GGUF file");
    m = start(1, 0, 0);
    refused(&m, LT_EUNSUPPORTED, "version is not 2 or 3 (bad.gguf: 1)");
    m = start(0x03000000, 0, 0);
    refused(&m, LT_EUNSUPPORTED, "big-endian");
    m = start(2, 0, 0);
    lt_gguf *g;
    assert_int_equal(lt_gguf_from_memory(&g, m.bytes, m.n, "empty", NULL), LT_OK);
    assert_int_equal(lt_gguf_count(g), 0);
    lt_gguf_close(g);
    lt_err err = { 0 };
    assert_fails(lt_gguf_open(&g, test_path("none.gguf"), &err), &err, LT_EIO, "none.gguf");
}

static void counts_beyond_the_file_are_refused_before_any_allocation(void **state) {
    (void)state;
    image m = start(3, UINT64_MAX, 0);
    refused(&m, LT_EDATA, "number of tensors is more than the file can hold");
    m = start(3, 0, UINT64_MAX / 2);
    refused(&m, LT_EDATA, "number of keys is more than");
    m = start(3, 0, 1);
    put_array(&m, "a", LT_GGUF_F64, UINT64_MAX / 8 + 1);
    refused(&m, LT_EDATA, "length of an array is more than");
    m = start(3, 0, 1);
    put_array(&m, "a", LT_GGUF_STRING, 2);
    put_text(&m, "x");
    put(&m, UINT64_MAX - 3, 8);
    refused(&m, LT_EDATA, "string is more than");
    m = start(3, 0, 1);
    put(&m, UINT64_MAX, 8);
    put(&m, 0, 8);
    refused(&m, LT_EDATA, "key is more than");
}

static void bad_metadata_is_refused_by_key(void **state) {
    (void)state;
    image m = start(3, 0, 2);
    put_key(&m, "twice", LT_GGUF_U8);
    put(&m, 0, 1);
    put_key(&m, "twice", LT_GGUF_BOOL);
    put(&m, 0, 1);
    refused(&m, LT_EDATA, "key stands twice (bad.gguf: twice)");
    m = start(3, 0, 1);
    put_key(&m, "kind", (lt_gguf_type)13);
    put(&m, 0, 8);
    refused(&m, LT_EDATA, "unknown type of value (bad.gguf: kind: 13)");
    m = start(3, 0, 1);
    put_array(&m, "nested", LT_GGUF_ARRAY, 0);
    refused(&m, LT_EUNSUPPORTED, "array of arrays (bad.gguf: nested)");
    m = start(3, 0, 1);
    put_key(&m, "flag", LT_GGUF_BOOL);
    put(&m, 2, 1);
    refused(&m, LT_EDATA, "neither true nor false (bad.gguf: flag: 2)");
    static const char *const names[] = {
        "", "a\nb", "\xff", "\xc0\x80", "\xed\xa0\x80", "\xe2\x82", "\xf4\x90\x80\x80"
    };
    for (size_t i = 0; i < LT_COUNTOF(names); i++) {
        m = start(3, 0, 1);
        put_key(&m, names[i], LT_GGUF_U8);
        put(&m, 0, 8);
        refused(&m, LT_EDATA, "key is empty or not text");
    }
    static const uint32_t alignments[] = { 0, 1, 4, 24, 1u << 21 };
    for (size_t i = 0; i < LT_COUNTOF(alignments); i++) {
        m = start(3, 0, 1);
        put_key(&m, "general.alignment", LT_GGUF_U32);
        put(&m, alignments[i], 4);
        refused(&m, LT_EDATA, "general.alignment");
    }
    m = start(3, 0, 1);
    put_key(&m, "general.alignment", LT_GGUF_STRING);
    put_text(&m, "32");
    refused(&m, LT_EDATA, "general.alignment");
}

static image one_tensor(const char *name, uint32_t type, uint32_t rank, const uint64_t *size, uint64_t offset,
                        size_t data) {
    image m = start(3, 1, 0);
    put_tensor(&m, name, type, rank, size, offset);
    put_data(&m, 32, data);
    return m;
}

static void bad_tensors_are_refused_by_name(void **state) {
    (void)state;
    const uint64_t two[] = { 4, 2 };
    image m = one_tensor("t", 16, 2, two, 0, 64);
    refused(&m, LT_EUNSUPPORTED, "ggml type is not supported (bad.gguf: t: iq2_xxs)");
    m = one_tensor("t", 10, 2, two, 0, 64);
    refused(&m, LT_EUNSUPPORTED, "ggml type is not supported (bad.gguf: t: q2_k)");
    m = one_tensor("t", 39, 2, two, 0, 64);
    refused(&m, LT_EUNSUPPORTED, "ggml type is not supported (bad.gguf: t: mxfp4)");
    m = one_tensor("t", 4, 2, two, 0, 64); /* given up by ggml */
    refused(&m, LT_EUNSUPPORTED, "ggml type is not supported (bad.gguf: t: 4)");
    m = one_tensor("t", UINT32_MAX, 2, two, 0, 64);
    refused(&m, LT_EUNSUPPORTED, "ggml type is not supported (bad.gguf: t: 4294967295)");
    m = one_tensor("t", 0, 5, (uint64_t[]){ 1, 1, 1, 1, 1 }, 0, 64);
    refused(&m, LT_EDATA, "rank above 4 (bad.gguf: t: 5)");
    m = one_tensor("t", 0, 2, two, 16, 64);
    refused(&m, LT_EDATA, "offset is not a multiple of 32 (bad.gguf: t: 16)");
    m = one_tensor("t", 0, 2, two, 64, 64);
    refused(&m, LT_EDATA, "past the end");
    m = one_tensor("t", 0, 2, two, 0, 31);
    refused(&m, LT_EDATA, "offset 0 + 32 bytes is past the end");
    m = one_tensor("t", 0, 2, two, UINT64_MAX - 31, 64);
    refused(&m, LT_EDATA, "offset is too large");
    m = one_tensor("t", 0, 2, (uint64_t[]){ UINT64_MAX, 1 }, 0, 64);
    refused(&m, LT_EDATA, "size is too large");
    m = one_tensor("t", 0, 4, (uint64_t[]){ 1u << 31, 1u << 31, 1u << 31, 1u << 31 }, 0, 64);
    refused(&m, LT_EDATA, "tensor is too large");
    m = one_tensor("t", 0, 2, (uint64_t[]){ UINT64_C(1) << 61, 2 }, 0, 64);
    refused(&m, LT_EDATA, "tensor is too large");
    m = one_tensor("t", 8, 1, (uint64_t[]){ 33 }, 0, 64);
    refused(&m, LT_EDATA, "columns are not whole q8_0 blocks (bad.gguf: t: 33)");
    m = one_tensor("t", 8, 0, NULL, 0, 64);
    refused(&m, LT_EDATA, "columns are not whole q8_0 blocks");
    m = start(3, 2, 0);
    put_tensor(&m, "t", 0, 2, two, 0);
    put_tensor(&m, "t", 0, 2, two, 32);
    put_data(&m, 32, 64);
    refused(&m, LT_EDATA, "tensor stands twice (bad.gguf: t)");
    m = start(3, 2, 0);
    put_tensor(&m, "t", 0, 1, (uint64_t[]){ 16 }, 0);
    put_tensor(&m, "u", 0, 2, two, 32);
    put_data(&m, 32, 64);
    refused(&m, LT_EDATA, "tensor overlaps another (bad.gguf: u: offset 32)");
}

static void every_cut_of_a_file_is_refused(void **state) {
    (void)state;
    const image m = full_example();
    for (size_t n = 0; n < m.n; n++) {
        lt_gguf *g;
        void *cut = lt_malloc(n); /* a block of its own: the sanitizer sees a read past it */
        memcpy(cut, m.bytes, n);
        assert_int_equal(lt_gguf_from_memory(&g, cut, n, "cut", NULL), LT_EDATA);
        lt_free(cut);
    }
}

static void another_alignment_moves_the_data(void **state) {
    (void)state;
    lt_err err = { 0 };
    image m = start(3, 1, 1);
    put_key(&m, "general.alignment", LT_GGUF_U32);
    put(&m, 256, 4);
    put_tensor(&m, "t", 24, 1, (uint64_t[]){ 3 }, 256);
    put_data(&m, 256, 259);
    lt_gguf *g;
    assert_ok(lt_gguf_from_memory(&g, m.bytes, m.n, "good", &err), &err);
    assert_ptr_equal(lt_host(lt_gguf_find(g, "t")), m.bytes + m.n - 3);
    lt_gguf_close(g);
}

static lt_status open_once(void *user, lt_err *err) {
    const image *m = user;
    lt_gguf *g;
    LT_TRY(lt_gguf_from_memory(&g, m->bytes, m->n, "alloc", err));
    lt_gguf_close(g);
    return LT_OK;
}

static void failing_allocations_are_reported(void **state) {
    (void)state;
    image m = full_example();
    assert_true(test_every_allocation_fails(open_once, &m) > 10);
}

static void a_real_file_opens(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_gguf *g;
    size_t n;
    const char *path = TEST_NEED_SHARED("golden/tokenizer/llama3/vocab.gguf");
    assert_ok(lt_gguf_open(&g, path, &err), &err);
    assert_true(lt_gguf_string(g, "general.architecture", &n) && lt_gguf_array(g, "tokenizer.ggml.tokens", NULL, &n) &&
                n > 0);
    lt_gguf_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_is_found_by_key_and_kind),
        cmocka_unit_test(values_have_short_texts),
        cmocka_unit_test(tensors_are_seen_outermost_first),
        cmocka_unit_test(other_files_and_versions_are_refused),
        cmocka_unit_test(counts_beyond_the_file_are_refused_before_any_allocation),
        cmocka_unit_test(bad_metadata_is_refused_by_key),
        cmocka_unit_test(bad_tensors_are_refused_by_name),
        cmocka_unit_test(every_cut_of_a_file_is_refused),
        cmocka_unit_test(another_alignment_moves_the_data),
        cmocka_unit_test(failing_allocations_are_reported),
        cmocka_unit_test(a_real_file_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
