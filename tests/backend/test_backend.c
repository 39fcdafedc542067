/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/backend.h"
#include "support/support.h"

#include <string.h>

static void the_cpu_is_found_by_name(void **state) {
    (void)state;
    assert_ptr_equal(lt_backend_find("cpu"), &lt_backend_cpu);
    assert_null(lt_backend_find("abacus"));
    assert_true(lt_backend_cpu.on_host);
}

static void cpu_buffers_are_host_memory_and_freed_twice_at_no_harm(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_buffer b = { 0 };
    assert_ok(lt_backend_cpu.alloc(&b, 100, &err), &err);
    assert_int_equal(b.bytes, 100);
    memset(b.data, 1, b.bytes);
    lt_backend_cpu.free(&b);
    assert_null(b.data);
    lt_backend_cpu.free(&b);
    lt_backend_cpu.free(NULL);
}

static void a_failed_allocation_leaves_the_buffer_as_it_was(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_buffer b = { .bytes = 7 };
    lt_alloc_fail_after(0);
    const lt_status st = lt_backend_cpu.alloc(&b, 100, &err);
    lt_alloc_fail_after(SIZE_MAX);
    assert_fails(st, &err, LT_ENOMEM, "100 bytes");
    assert_int_equal(b.bytes, 7);
}

static void ops_of_a_backend_are_found_by_name(void **state) {
    (void)state;
    static const lt_backend_op ops[] = { { "add", NULL, NULL }, { "norm", NULL, NULL } };
    static const lt_backend toy = { .name = "toy", .ops = ops, .n_ops = 2 };
    assert_ptr_equal(lt_backend_find_op(&toy, "norm"), &ops[1]);
    assert_null(lt_backend_find_op(&toy, "rope"));
    assert_null(lt_backend_find_op(&lt_backend_cpu, "add"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_is_found_by_name),
        cmocka_unit_test(cpu_buffers_are_host_memory_and_freed_twice_at_no_harm),
        cmocka_unit_test(a_failed_allocation_leaves_the_buffer_as_it_was),
        cmocka_unit_test(ops_of_a_backend_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
