/* SPDX-License-Identifier: Apache-2.0 */
/* Files of torch.save (tools/make_torch_golden.py): what describes tensors is read, everything else refused by name. */
#include "io/torch.h"

#include <stdio.h>
#include <string.h>

#include "support/support.h"

static const char *golden(const char *name) {
    char rel[128];
    snprintf(rel, sizeof rel, "torch/%s.bin", name);
    return test_golden(rel);
}

static const lt_tensor *find(const lt_torch *t, const char *name) {
    for (size_t i = 0; i < lt_torch_count(t); i++)
        if (strcmp(lt_torch_at(t, i)->name, name) == 0) return &lt_torch_at(t, i)->tensor;
    fail_msg("no tensor %s", name);
    return NULL;
}

/* Element i of t, counted row by row, is want(i). */
static void holds(const lt_torch *t, const char *name, lt_dtype dtype, const char *shape, const double *want) {
    const lt_tensor *x = find(t, name);
    char text[64];
    assert_int_equal(x->dtype, dtype);
    assert_string_equal(lt_tensor_describe(x, text, sizeof text), shape);
    for (size_t i = 0, n = lt_tensor_count(x), cols = lt_tensor_cols(x); i < n; i++) {
        float v;
        lt_tensor_row_f32(&v, x, i / cols, i % cols, 1);
        if ((double)v != want[i]) fail_msg("%s: element %zu is %g, not %g", name, i, (double)v, want[i]);
    }
}

static void every_protocol_reads_views_types_and_shapes(void **state) {
    (void)state;
    double ramp[24], wide[16], transposed[24], odd[12];
    for (size_t i = 0; i < 24; i++) ramp[i] = (double)i;
    for (size_t i = 0; i < 16; i++) wide[i] = (double)(i / 4 * 6 + i % 4);
    for (size_t i = 0; i < 24; i++) transposed[i] = (double)(i % 4 * 6 + i / 4);
    for (size_t i = 0; i < 12; i++) odd[i] = (double)(2 * i + 1);
    for (int protocol = 2; protocol <= 5; protocol++) {
        char name[32];
        lt_err err = { 0 };
        lt_torch *t;
        snprintf(name, sizeof name, "values-%d", protocol);
        assert_ok(lt_torch_open(&t, golden(name), &err), &err);
        assert_int_equal(lt_torch_count(t), 13);
        holds(t, "f32", LT_F32, "f32 [4, 6]", ramp);
        holds(t, "shared.rows", LT_F32, "f32 [3, 4]", ramp + 8);
        holds(t, "shared.wide", LT_F32, "f32 [4, 4]", wide);
        holds(t, "shared.transposed", LT_F32, "f32 [6, 4]", transposed);
        holds(t, "shared.every_other", LT_F32, "f32 [12]", odd);
        holds(t, "f16", LT_F16, "f16 [2]", (double[]){ 1.5, -2 });
        holds(t, "bf16", LT_BF16, "bf16 [2]", (double[]){ 1.5, -2 });
        holds(t, "f64", LT_F64, "f64 [2]", (double[]){ 1.5, -2 });
        holds(t, "i64", LT_I64, "i64 [1, 2]", (double[]){ -1, 2 });
        holds(t, "bool", LT_BOOL, "bool [3]", (double[]){ 1, 0, 1 });
        holds(t, "scalar", LT_F32, "f32 []", (double[]){ 3 });
        holds(t, "empty", LT_F32, "f32 [0, 5]", NULL);
        holds(t, "parameter", LT_F32, "f32 [1]", (double[]){ 7 });
        lt_torch_close(t);
    }
}

static void views_share_the_bytes_of_the_file(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_torch *t;
    assert_ok(lt_torch_open(&t, golden("values-2"), &err), &err);
    const lt_tensor *rows = find(t, "shared.rows"), *wide = find(t, "shared.wide");
    assert_ptr_equal(rows->buffer, wide->buffer);
    assert_true(rows->buffer->mapped);
    assert_int_equal(rows->offset - wide->offset, 8 * sizeof(float));
    assert_true(wide->stride[0] == 6 && wide->stride[1] == 1);
    assert_false(find(t, "shared.transposed")->buffer->mapped);
    lt_torch_close(t);
}

static void anything_else_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *file;
        lt_status code;
        const char *text;
    } rows[] = {
        { "system", LT_EUNSUPPORTED, "posix.system" },
        { "eval", LT_EUNSUPPORTED, "builtins.eval" },
        { "object", LT_EUNSUPPORTED, "collections.Counter" },
        { "newobj", LT_EUNSUPPORTED, "opcode NEWOBJ" },
        { "inst", LT_EUNSUPPORTED, "opcode INST" },
        { "bytes", LT_EUNSUPPORTED, "opcode SHORT_BINBYTES" },
        { "packed", LT_EUNSUPPORTED, "packed" },
        { "legacy", LT_EUNSUPPORTED, "before 1.6" },
        { "i16", LT_EUNSUPPORTED, "torch.ShortStorage" },
        { "expanded", LT_EUNSUPPORTED, "larger than its storage" },
        { "checkpoint", LT_EUNSUPPORTED, "value is not a tensor" },
        { "list", LT_EUNSUPPORTED, "not a dict of tensors" },
    };
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        lt_err err = { 0 };
        lt_torch *t;
        const lt_status st = lt_torch_open(&t, golden(rows[i].file), &err);
        assert_non_null(strstr(err.message, rows[i].file)); /* the file is named */
        assert_fails(st, &err, rows[i].code, rows[i].text);
    }
}

static lt_status parse(const char *data, size_t n, lt_err *err) {
    lt_torch *t;
    const lt_status st = lt_torch_from_memory(&t, data, n, "bad.bin", err);
    if (st == LT_OK) lt_torch_close(t);
    return st;
}

static void every_cut_of_a_file_is_refused(void **state) {
    (void)state;
    size_t n;
    char *data = test_read_file(golden("values-2"), &n);
    for (size_t cut = 0; cut < n; cut += cut < n - 64 ? 13 : 1) {
        char *copy = lt_malloc(cut);
        lt_err err = { 0 };
        memcpy(copy, data, cut);
        assert_fails(parse(copy, cut, &err), &err, LT_EDATA, "bad.bin");
        lt_free(copy);
    }
    lt_free(data);
}

/* The first k bytes equal to a become b. */
static void patch(char *data, size_t n, const char *a, const char *b, size_t k) {
    for (size_t i = 0; i + k <= n; i++)
        if (memcmp(data + i, a, k) == 0) {
            memcpy(data + i, b, k);
            return;
        }
    fail_msg("nothing to patch");
}

static void contradictions_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *from, *to;
        size_t bytes;
        const char *text;
    } rows[] = {
        { "K\x04K\x06\x86", "K\x04K\xff\x86", 5, "beyond its storage" },
        { "PK\1\2", "PK\1\3", 4, "directory holds no entry" },
        { "little", "bigend", 6, "not little-endian" },
        { "f16", "f32", 3, "tensor stands twice" },
        { "torch\nHalfStorage", "torch\nLongStorage", 17, "storage is shorter" },
    };
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        size_t n;
        lt_err err = { 0 };
        char *data = test_read_file(golden("values-2"), &n);
        patch(data, n, rows[i].from, rows[i].to, rows[i].bytes);
        const lt_status st = parse(data, n, &err);
        assert_true(st == LT_EDATA || st == LT_EUNSUPPORTED);
        if (!strstr(err.message, rows[i].text)) fail_msg("no \"%s\" in: %s", rows[i].text, err.message);
        lt_free(data);
    }
}

static void other_files_are_told_apart(void **state) {
    (void)state;
    lt_err err = { 0 };
    char tar[512] = { 0 };
    memcpy(tar + 257, "ustar", 5);
    assert_fails(parse(tar, sizeof tar, &err), &err, LT_EUNSUPPORTED, "a tar");
    assert_fails(parse("GGUF....", 8, &err), &err, LT_EDATA, "neither a ZIP");
    assert_fails(parse("", 0, &err), &err, LT_EDATA, "neither a ZIP");
}

static lt_status open_values(void *user, lt_err *err) {
    lt_torch *t;
    LT_TRY(lt_torch_open(&t, user, err));
    lt_torch_close(t);
    return LT_OK;
}

static void failing_allocations_are_reported(void **state) {
    (void)state;
    assert_true(test_every_allocation_fails(open_values, (void *)golden("values-4")) > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_protocol_reads_views_types_and_shapes),
        cmocka_unit_test(views_share_the_bytes_of_the_file),
        cmocka_unit_test(anything_else_is_refused_by_name),
        cmocka_unit_test(every_cut_of_a_file_is_refused),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(other_files_are_told_apart),
        cmocka_unit_test(failing_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
