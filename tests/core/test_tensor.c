/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/tensor.h"

static void dense_tensors_have_row_major_strides(void **state) {
    (void)state;
    float data[24];
    lt_buffer b = { data, sizeof data, false };
    const lt_tensor t = lt_tensor_dense(LT_F32, 3, (size_t[]){ 2, 3, 4 }, &b, 0);
    assert_true(t.stride[0] == 12 && t.stride[1] == 4 && t.stride[2] == 1);
    assert_int_equal(lt_tensor_count(&t), 24);
    assert_int_equal(lt_tensor_bytes(&t), 96);
    assert_int_equal(lt_tensor_rows(&t), 6);
    assert_int_equal(lt_tensor_cols(&t), 4);
    assert_true(lt_tensor_is_dense(&t));
    for (size_t r = 0; r < 6; r++) assert_ptr_equal(lt_tensor_row(&t, r), data + 4 * r);
    char text[64], little[8];
    assert_string_equal(lt_tensor_describe(&t, text, sizeof text), "f32 [2, 3, 4]");
    assert_int_equal(strlen(lt_tensor_describe(&t, little, sizeof little)), 7);
}

static void scalars_vectors_and_empty_tensors_have_rows(void **state) {
    (void)state;
    float x = 5, got;
    lt_buffer b = { &x, sizeof x, false };
    const lt_tensor scalar = lt_tensor_dense(LT_F32, 0, NULL, &b, 0);
    assert_true(lt_tensor_count(&scalar) == 1 && lt_tensor_rows(&scalar) == 1 && lt_tensor_cols(&scalar) == 1);
    lt_tensor_row_f32(&got, &scalar, 0, 0, 1);
    assert_true(got == 5);
    const lt_tensor vector = lt_tensor_dense(LT_F32, 1, (size_t[]){ 1 }, &b, 0);
    assert_true(lt_tensor_rows(&vector) == 1 && lt_tensor_cols(&vector) == 1);
    const lt_tensor empty = lt_tensor_dense(LT_F32, 2, (size_t[]){ 0, 7 }, &b, 4);
    assert_true(lt_tensor_count(&empty) == 0 && lt_tensor_rows(&empty) == 0 && lt_tensor_is_dense(&empty));
}

static void a_device_buffer_has_no_host_address(void **state) {
    (void)state;
    lt_buffer b = { NULL, 64, false };
    const lt_tensor t = lt_tensor_dense(LT_F32, 1, (size_t[]){ 4 }, &b, 0), none = { .dtype = LT_F32 };
    assert_null(lt_host(&t));
    assert_null(lt_tensor_row(&t, 0));
    assert_null(lt_host(&none));
}

/* The interleaved rotary rows of a GGUF: stored [heads, half, 2, in], seen as [heads, 2, half, in]. */
static void rows_of_a_permuted_view_follow_its_strides(void **state) {
    (void)state;
    enum { HEADS = 2, HALF = 3, IN = 4 };
    float data[HEADS * HALF * 2 * IN], row[IN];
    for (size_t i = 0; i < LT_COUNTOF(data); i++) data[i] = (float)i;
    lt_buffer b = { data, sizeof data, false };
    lt_tensor t = lt_tensor_dense(LT_F32, 4, (size_t[]){ HEADS, 2, HALF, IN }, &b, 0);
    t.stride[0] = HALF * 2 * IN, t.stride[1] = IN, t.stride[2] = 2 * IN;
    assert_false(lt_tensor_is_dense(&t));
    size_t r = 0;
    for (size_t h = 0; h < HEADS; h++)
        for (size_t part = 0; part < 2; part++)
            for (size_t j = 0; j < HALF; j++, r++) {
                lt_tensor_row_f32(row, &t, r, 1, IN - 1);
                const size_t want = ((h * HALF + j) * 2 + part) * IN;
                for (size_t c = 1; c < IN; c++) assert_true(row[c - 1] == (float)(want + c));
            }
    assert_int_equal(lt_tensor_rows(&t), r);
}

static void block_rows_are_found_and_cut_by_blocks(void **state) {
    (void)state;
    enum { ROWS = 3, COLS = 96 };
    float x[ROWS * COLS], all[ROWS * COLS], part[32];
    unsigned char blocks[ROWS * COLS / 32 * 34];
    lt_rng r = test_rng(0);
    test_fill_normal(x, ROWS * COLS, &r);
    const lt_dtype_row *q8 = lt_dtype_get(LT_Q8_0);
    q8->from_f32(blocks, x, ROWS * COLS);
    q8->to_f32(all, blocks, ROWS * COLS);
    lt_buffer b = { blocks, sizeof blocks, false };
    const lt_tensor t = lt_tensor_dense(LT_Q8_0, 2, (size_t[]){ ROWS, COLS }, &b, 0);
    assert_int_equal(lt_tensor_bytes(&t), sizeof blocks);
    for (size_t i = 0; i < ROWS; i++)
        for (size_t c = 0; c < COLS; c += 32) {
            lt_tensor_row_f32(part, &t, i, c, 32);
            assert_memory_equal(part, all + i * COLS + c, sizeof part);
        }
}

/* Private anonymous pages come back as zeros, which shows what was dropped: whole pages inside the tensor only. */
static void drop_gives_back_whole_pages_inside_mapped_tensors_only(void **state) {
    (void)state;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = 4 * page;
    char *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(data, 1, bytes);
    lt_buffer b = { data, bytes, false };
    const lt_tensor t = lt_tensor_dense(LT_U8, 1, (size_t[]){ 3 * page }, &b, page / 2);
    lt_tensor_drop(&t);
    for (size_t i = 0; i < bytes; i += 64) assert_int_equal(data[i], 1);
    b.mapped = true;
    lt_tensor_drop(&t);
    for (size_t i = 0; i < bytes; i += 64) assert_int_equal(data[i], i < page || i >= 3 * page);
    munmap(data, bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dense_tensors_have_row_major_strides),
        cmocka_unit_test(scalars_vectors_and_empty_tensors_have_rows),
        cmocka_unit_test(a_device_buffer_has_no_host_address),
        cmocka_unit_test(rows_of_a_permuted_view_follow_its_strides),
        cmocka_unit_test(block_rows_are_found_and_cut_by_blocks),
        cmocka_unit_test(drop_gives_back_whole_pages_inside_mapped_tensors_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
