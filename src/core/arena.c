/* SPDX-License-Identifier: Apache-2.0 */
#include "core/core.h"

/* Under ASan, memory that is not given out is poisoned and a poisoned gap follows every block: a write past an
 * arena block is found like one past a heap block. */
#if defined(__SANITIZE_ADDRESS__)
#define LT_ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LT_ARENA_ASAN 1
#endif
#endif
#ifdef LT_ARENA_ASAN
#include <sanitizer/asan_interface.h>
enum { GAP = 64 };
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
enum { GAP = 0 };
#endif

enum { ALIGN = 64 };

typedef struct chunk {
    char *data;
    size_t bytes, used;
} chunk;

struct lt_arena {
    chunk *chunks;
    size_t n_chunks, cap, current, chunk_bytes;
    size_t live, peak; /* bytes in use now and at most */
};

lt_arena *lt_arena_create(size_t chunk_bytes) {
    lt_arena *a = lt_calloc(1, sizeof *a);
    if (a) a->chunk_bytes = lt_max_size(chunk_bytes, 4096);
    return a;
}

static void free_chunk(chunk *c) {
    if (!c->data) return;
    ASAN_UNPOISON_MEMORY_REGION(c->data, c->bytes);
    lt_free(c->data);
    *c = (chunk){ 0 };
}

void lt_arena_destroy(lt_arena *a) {
    if (!a) return;
    for (size_t i = 0; i < a->n_chunks; i++) free_chunk(&a->chunks[i]);
    lt_free(a->chunks);
    lt_free(a);
}

static bool fill_chunk(chunk *c, size_t bytes) {
    char *data = lt_malloc(bytes);
    if (!data) return false;
    free_chunk(c);
    ASAN_POISON_MEMORY_REGION(data, bytes);
    *c = (chunk){ data, bytes, 0 };
    return true;
}

/* Makes the chunk after the current one hold `bytes`. Chunks behind the current one carry nothing alive, so one
 * that is too small is replaced, never skipped. */
static bool next_chunk(lt_arena *a, size_t bytes) {
    const size_t next = a->n_chunks == 0 ? 0 : a->current + 1;
    if (next == a->cap) {
        const size_t cap = a->cap ? 2 * a->cap : 8;
        chunk *more = lt_realloc(a->chunks, cap * sizeof *more);
        if (!more) return false;
        a->chunks = more;
        a->cap = cap;
    }
    if (next == a->n_chunks) a->chunks[a->n_chunks] = (chunk){ 0 };
    chunk *c = &a->chunks[next];
    if (c->bytes < bytes && !fill_chunk(c, lt_max_size(bytes, a->chunk_bytes))) return false;
    if (next == a->n_chunks) a->n_chunks++;
    c->used = 0;
    a->current = next;
    return true;
}

void *lt_arena_alloc(lt_arena *a, size_t bytes) {
    size_t need;
    if (!lt_add_size(bytes, GAP + ALIGN - 1, &need)) return NULL;
    need = lt_max_size(need / ALIGN * ALIGN, ALIGN);
    const bool fits = a->n_chunks > 0 && need <= a->chunks[a->current].bytes - a->chunks[a->current].used;
    if (!fits && !next_chunk(a, need)) return NULL;
    chunk *c = &a->chunks[a->current];
    char *p = c->data + c->used;
    c->used += need;
    a->live += need;
    a->peak = lt_max_size(a->peak, a->live);
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
    return p;
}

void *lt_arena_array(lt_arena *a, size_t count, size_t size) {
    size_t bytes;
    return lt_mul_size(count, size, &bytes) ? lt_arena_alloc(a, bytes) : NULL;
}

lt_arena_mark lt_arena_get_mark(const lt_arena *a) {
    return (lt_arena_mark){ a->current, a->n_chunks ? a->chunks[a->current].used : 0 };
}

void lt_arena_release(lt_arena *a, lt_arena_mark m) {
    if (a->n_chunks == 0) return;
    for (size_t i = m.chunk; i <= a->current; i++) {
        chunk *c = &a->chunks[i];
        const size_t keep = i == m.chunk ? m.used : 0;
        ASAN_POISON_MEMORY_REGION(c->data + keep, c->used - keep);
        a->live -= c->used - keep;
        c->used = keep;
    }
    a->current = m.chunk;
}

size_t lt_arena_peak_bytes(const lt_arena *a) {
    return a->peak;
}
