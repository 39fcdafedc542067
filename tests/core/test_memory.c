/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <string.h>

#include "core/core.h"

static bool aligned(const void *p, size_t align) {
    return (uintptr_t)p % align == 0;
}

static void blocks_are_aligned_and_pair_with_one_free(void **state) {
    (void)state;
    for (size_t bytes = 0; bytes < 300; bytes += 7) {
        char *p = lt_malloc(bytes);
        assert_non_null(p);
        assert_true(aligned(p, 64));
        memset(p, 1, bytes);
        lt_free(p);
    }
    lt_free(NULL);
}

static void calloc_is_zero_and_refuses_overflow(void **state) {
    (void)state;
    char *p = lt_calloc(37, 11);
    for (size_t i = 0; i < 37 * 11; i++) assert_int_equal(p[i], 0);
    lt_free(p);
    assert_null(lt_calloc(SIZE_MAX / 2, 3));
    assert_null(lt_malloc(SIZE_MAX - 8));
}

static void realloc_keeps_bytes_and_a_failed_one_keeps_the_block(void **state) {
    (void)state;
    char *p = lt_realloc(NULL, 100);
    for (int i = 0; i < 100; i++) p[i] = (char)i;
    p = lt_realloc(p, 5000);
    assert_true(aligned(p, 64));
    for (int i = 0; i < 100; i++) assert_int_equal(p[i], i);
    lt_alloc_fail_after(0);
    assert_null(lt_realloc(p, 10000));
    lt_alloc_fail_after(SIZE_MAX);
    p = lt_realloc(p, 10);
    for (int i = 0; i < 10; i++) assert_int_equal(p[i], i);
    lt_free(p);
}

static void the_nth_allocation_and_all_after_it_fail(void **state) {
    (void)state;
    lt_alloc_fail_after(2);
    void *a = lt_malloc(1), *b = lt_strdup("b"), *c = lt_malloc(1), *d = lt_asprintf("%d", 4);
    lt_alloc_fail_after(SIZE_MAX);
    assert_true(a && b && !c && !d);
    lt_free(a);
    lt_free(b);
    char *text = lt_asprintf("%s-%d", "x", 17);
    assert_string_equal(text, "x-17");
    lt_free(text);
}

static void arena_never_moves_what_it_gave_out(void **state) {
    (void)state;
    lt_rng r = test_rng(0);
    lt_arena *a = lt_arena_create(10000);
    unsigned char *block[200];
    size_t bytes[200];
    for (size_t i = 0; i < 200; i++) {
        bytes[i] = (size_t)lt_rng_below(&r, i % 10 == 0 ? 50000 : 700);
        block[i] = lt_arena_alloc(a, bytes[i]);
        assert_true(block[i] && aligned(block[i], 64));
        memset(block[i], (int)i, bytes[i]);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t j = 0; j < bytes[i]; j++) assert_int_equal(block[i][j], i);
    assert_null(lt_arena_array(a, SIZE_MAX / 2, 4));
    lt_arena_destroy(a);
    lt_arena_destroy(NULL);
}

static void released_arena_memory_is_used_again(void **state) {
    (void)state;
    lt_arena *a = lt_arena_create(4096);
    void *kept = lt_arena_alloc(a, 1000);
    memset(kept, 5, 1000);
    const lt_arena_mark m = lt_arena_get_mark(a);
    void *first = NULL;
    for (int round = 0; round < 50; round++) {
        void *p = lt_arena_alloc(a, 2000);
        memset(lt_arena_alloc(a, 20000), 1, 20000); /* a chunk of its own */
        if (round == 0) first = p;
        assert_ptr_equal(p, first);
        lt_arena_release(a, m);
    }
    const size_t peak = lt_arena_peak_bytes(a);
    assert_in_range(peak, 23000, 24000);
    lt_alloc_fail_after(0); /* what was released suffices */
    assert_non_null(lt_arena_alloc(a, 2000));
    assert_non_null(lt_arena_alloc(a, 20000));
    assert_null(lt_arena_alloc(a, 1 << 20));
    lt_alloc_fail_after(SIZE_MAX);
    for (int i = 0; i < 1000; i++) assert_int_equal(((char *)kept)[i], 5);
    lt_arena_destroy(a);
}

static void an_empty_arena_can_be_marked_and_released(void **state) {
    (void)state;
    lt_arena *a = lt_arena_create(0);
    const lt_arena_mark m = lt_arena_get_mark(a);
    lt_arena_release(a, m);
    void *p = lt_arena_alloc(a, 10);
    lt_arena_release(a, m);
    assert_ptr_equal(lt_arena_alloc(a, 10), p);
    lt_arena_destroy(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_pair_with_one_free),
        cmocka_unit_test(calloc_is_zero_and_refuses_overflow),
        cmocka_unit_test(realloc_keeps_bytes_and_a_failed_one_keeps_the_block),
        cmocka_unit_test(the_nth_allocation_and_all_after_it_fail),
        cmocka_unit_test(arena_never_moves_what_it_gave_out),
        cmocka_unit_test(released_arena_memory_is_used_again),
        cmocka_unit_test(an_empty_arena_can_be_marked_and_released),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
