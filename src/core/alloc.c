/* SPDX-License-Identifier: Apache-2.0 */
#include "core/core.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Sits just before every block, so that realloc knows the size and free the address malloc gave. */
typedef struct header {
    void *base;
    size_t bytes;
} header;

enum { ALIGN = 64 };
static _Atomic size_t fail_after = SIZE_MAX;

void lt_alloc_fail_after(size_t n) {
    atomic_store(&fail_after, n);
}

static bool should_fail(void) {
    size_t left = atomic_load_explicit(&fail_after, memory_order_relaxed);
    if (left == SIZE_MAX) return false;
    while (left > 0)
        if (atomic_compare_exchange_weak(&fail_after, &left, left - 1)) return false;
    return true;
}

/* Big blocks ask for huge pages: one fault for 2 MiB, not 512. Where the system has none, nothing happens. */
static void ask_for_huge_pages(char *base, size_t whole) {
    const size_t huge = (size_t)2 << 20, skip = (huge - (uintptr_t)base % huge) % huge;
    if (whole >= 2 * huge + skip) madvise(base + skip, (whole - skip) / huge * huge, MADV_HUGEPAGE);
}

/* Big zeroed blocks come from calloc, whose fresh pages cost nothing until they are touched. */
static void *allocate(size_t bytes, bool zero) {
    size_t whole;
    if (should_fail()) return NULL;
    if (!lt_add_size(bytes, ALIGN + sizeof(header), &whole)) return NULL;
    char *base = zero ? calloc(1, whole) : malloc(whole);
    if (!base) return NULL;
    ask_for_huge_pages(base, whole);
    const uintptr_t first = (uintptr_t)base + sizeof(header);
    char *p = base + ((first + ALIGN - 1) / ALIGN * ALIGN - (uintptr_t)base);
    const header h = { base, bytes };
    memcpy(p - sizeof h, &h, sizeof h);
    return p;
}

void lt_zero_pages(void *p, size_t bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)p, begin = (at + page - 1) / page * page,
                    end = (at + bytes) / page * page;
    enum { MANY = 64 }; /* pages; fewer are cleared faster than they are fetched again */
    const bool whole =
        begin < end && end - begin >= MANY * page && madvise((void *)begin, end - begin, MADV_DONTNEED) == 0;
    if (!whole) {
        memset(p, 0, bytes);
        return;
    }
    memset(p, 0, begin - at);
    memset((void *)end, 0, at + bytes - end);
}

static header header_of(const void *p) {
    header h;
    memcpy(&h, (const char *)p - sizeof h, sizeof h);
    return h;
}

void *lt_malloc(size_t bytes) {
    return allocate(bytes, false);
}

void *lt_calloc(size_t count, size_t size) {
    size_t bytes;
    return lt_mul_size(count, size, &bytes) ? allocate(bytes, true) : NULL;
}

void *lt_realloc(void *p, size_t bytes) {
    if (!p) return lt_malloc(bytes);
    void *q = lt_malloc(bytes); /* libc's realloc could move the block to another alignment */
    if (!q) return NULL;
    memcpy(q, p, lt_min_size(bytes, header_of(p).bytes));
    lt_free(p);
    return q;
}

void lt_free(void *p) {
    if (p) free(header_of(p).base);
}

char *lt_strdup(const char *s) {
    const size_t bytes = strlen(s) + 1;
    char *copy = lt_malloc(bytes);
    if (copy) memcpy(copy, s, bytes);
    return copy;
}

char *lt_asprintf(const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    char *text = n < 0 ? NULL : lt_malloc((size_t)n + 1);
    if (text) vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}
