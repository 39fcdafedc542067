/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tensor.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

lt_tensor lt_tensor_dense(lt_dtype t, int rank, const size_t *size, lt_buffer *buffer, size_t offset) {
    lt_tensor v = { .dtype = t, .rank = rank, .buffer = buffer, .offset = offset };
    size_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        v.size[i] = size[i];
        v.stride[i] = stride;
        stride *= size[i];
    }
    return v;
}

size_t lt_tensor_count(const lt_tensor *t) {
    size_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->size[i];
    return n;
}

static size_t element_bytes(const lt_tensor *t, size_t elements) {
    const lt_dtype_row *row = lt_dtype_get(t->dtype);
    return elements / row->block * row->bytes;
}

size_t lt_tensor_bytes(const lt_tensor *t) {
    return element_bytes(t, lt_tensor_count(t));
}

bool lt_tensor_is_dense(const lt_tensor *t) {
    size_t stride = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->size[i] == 0) return true;
        if (t->size[i] > 1 && t->stride[i] != stride) return false;
        stride *= t->size[i];
    }
    return true;
}

size_t lt_tensor_rows(const lt_tensor *t) {
    size_t n = 1;
    for (int i = 0; i + 1 < t->rank; i++) n *= t->size[i];
    return n;
}

size_t lt_tensor_cols(const lt_tensor *t) {
    return t->rank == 0 ? 1 : t->size[t->rank - 1];
}

const void *lt_host(const lt_tensor *t) {
    if (!t->buffer || !t->buffer->data) return NULL;
    return (const char *)t->buffer->data + t->offset;
}

const void *lt_tensor_row(const lt_tensor *t, size_t r) {
    size_t elements = 0;
    for (int i = t->rank - 2; i >= 0; i--) {
        elements += r % t->size[i] * t->stride[i];
        r /= t->size[i];
    }
    const char *base = lt_host(t);
    return base ? base + element_bytes(t, elements) : NULL;
}

void lt_tensor_row_f32(float *restrict dst, const lt_tensor *t, size_t r, size_t c0, size_t n) {
    const char *row = lt_tensor_row(t, r);
    lt_dtype_get(t->dtype)->to_f32(dst, row + element_bytes(t, c0), n);
}

void lt_tensor_drop(const lt_tensor *t) {
    const char *base = lt_host(t);
    if (!base || !t->buffer->mapped || lt_tensor_count(t) == 0) return;
    size_t last = 0; /* of all elements a strided view reaches */
    for (int i = 0; i < t->rank; i++) last += (t->size[i] - 1) * t->stride[i];
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    /* whole pages inside only: the ends are shared with neighbours that may be in use */
    const uintptr_t begin = ((uintptr_t)base + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)base + element_bytes(t, last + 1)) / page * page;
    if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

const char *lt_tensor_describe(const lt_tensor *t, char *buf, size_t cap) {
    int used = snprintf(buf, cap, "%s [", lt_dtype_get(t->dtype)->name);
    for (int i = 0; i < t->rank && used > 0 && (size_t)used < cap; i++)
        used += snprintf(buf + used, cap - (size_t)used, "%s%zu", i ? ", " : "", t->size[i]);
    if (used > 0 && (size_t)used < cap) snprintf(buf + used, cap - (size_t)used, "]");
    return buf;
}
