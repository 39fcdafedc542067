/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/backend.h"

static lt_status cpu_alloc(lt_buffer *out, size_t bytes, lt_err *err) {
    void *data = lt_malloc(bytes);
    if (!data) return lt_fail(err, LT_ENOMEM, "cpu: %zu bytes", bytes);
    *out = (lt_buffer){ .data = data, .bytes = bytes };
    return LT_OK;
}

static void cpu_free(lt_buffer *b) {
    if (!b) return;
    lt_free(b->data);
    *b = (lt_buffer){ 0 };
}

const lt_backend lt_backend_cpu = { .name = "cpu", .on_host = true, .alloc = cpu_alloc, .free = cpu_free };
