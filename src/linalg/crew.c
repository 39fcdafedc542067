/* SPDX-License-Identifier: Apache-2.0 */
/* A call is a new number: those who wait see it, work and count themselves done. The caller's writes are visible to
 * them, and theirs to the caller, by release and acquire on these two counters.
 * Each thread has a range of items, which it takes from the front: neighbours in memory, most of them. Who has done his
 * own takes from the back of another's. */
#include "linalg/crew.h"

#include <omp.h>
#include <sched.h>
#include <stdatomic.h>

enum { SPINS = 4000, LINE = 64, PART = 4 };

/* items [from, to) that nobody has taken: to in the upper half, from in the lower */
typedef struct range {
    _Alignas(LINE) atomic_uint_fast64_t left;
} range;

struct lt_crew {
    _Alignas(LINE) atomic_uint call; /* what is asked for stands below */
    void (*fn)(void *arg, size_t i); /* NULL: go home */
    void *arg;
    size_t threads; /* > 1: held */
    _Alignas(LINE) atomic_uint done;
    range range[]; /* of each thread */
};

struct lt_crew *lt_crew_create(int threads) {
    struct lt_crew *c = lt_calloc(1, sizeof *c + (size_t)threads * sizeof *c->range);
    if (!c) return NULL;
    for (int t = 0; t < threads; t++) atomic_init(&c->range[t].left, 0);
    atomic_init(&c->call, 0);
    atomic_init(&c->done, 0);
    return c;
}

static void pause_once(size_t waited) {
    if (waited > SPINS)
        sched_yield(); /* the caller may be waiting for this very processor */
    else {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
}

/* A part of what is left of r, from its front or back: how many items from *item on. A locked instruction waits for
 * every load before it, so it had better not come with each of many short items; the last ones are taken one by one.
 * The order of memory is that of call and done. */
static size_t take(range *r, bool front, size_t *item) {
    uint_fast64_t old = atomic_load_explicit(&r->left, memory_order_relaxed), left, n;
    do {
        const uint32_t from = (uint32_t)old, to = (uint32_t)(old >> 32);
        if (from >= to) return 0;
        n = (to - from + PART - 1) / PART;
        *item = front ? from : to - n;
        left = front ? old + n : old - (n << 32);
    } while (!atomic_compare_exchange_weak_explicit(&r->left, &old, left, memory_order_relaxed, memory_order_relaxed));
    return n;
}

static void work(struct lt_crew *c, size_t threads, size_t thread) {
    size_t item, n;
    for (size_t t = 0; t < threads; t++)
        while ((n = take(&c->range[(thread + t) % threads], t == 0, &item)) > 0)
            for (; n > 0; n--) c->fn(c->arg, item++);
}

static void serve(struct lt_crew *c, unsigned seen) {
    for (;;) {
        for (size_t waited = 0; atomic_load_explicit(&c->call, memory_order_acquire) == seen; waited++)
            pause_once(waited);
        seen++;
        if (!c->fn) return;
        work(c, c->threads, (size_t)omp_get_thread_num());
        atomic_fetch_add_explicit(&c->done, 1, memory_order_release);
    }
}

static void share(struct lt_crew *c, size_t threads, void (*fn)(void *arg, size_t i), void *arg, size_t n) {
    c->fn = fn;
    c->arg = arg;
    for (size_t t = 0; t < threads; t++)
        atomic_store_explicit(&c->range[t].left, (uint_fast64_t)(n * (t + 1) / threads) << 32 | n * t / threads,
                              memory_order_relaxed);
}

static void call(struct lt_crew *c, void (*fn)(void *arg, size_t i), void *arg, size_t n) {
    share(c, c->threads, fn, arg, n);
    atomic_store_explicit(&c->done, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->call, 1, memory_order_release);
}

bool lt_team_is_held(const lt_team *team) {
    return team->crew->threads > 1;
}

void lt_team_run(lt_team *team, size_t n, void (*fn)(void *arg, size_t i), void *arg) {
    struct lt_crew *c = team->crew;
    const size_t threads = (size_t)team->threads;
    if (n > UINT32_MAX || threads == 1 || (c->threads <= 1 && omp_in_parallel())) {
        for (size_t i = 0; i < n; i++) fn(arg, i);
        return;
    }
    if (c->threads > 1) {
        call(c, fn, arg, n);
        work(c, c->threads, 0);
        for (size_t waited = 0; atomic_load_explicit(&c->done, memory_order_acquire) + 1 < (unsigned)c->threads;
             waited++)
            pause_once(waited);
        return;
    }
    share(c, threads, fn, arg, n);
#pragma omp parallel num_threads(team->threads)
    work(c, threads, (size_t)omp_get_thread_num());
}

void lt_team_hold(lt_team *team, void (*fn)(void *arg), void *arg) {
    struct lt_crew *c = team->crew;
    if (team->threads == 1 || c->threads > 1 || omp_in_parallel()) {
        fn(arg);
        return;
    }
    const unsigned seen = atomic_load_explicit(&c->call, memory_order_relaxed);
#pragma omp parallel num_threads(team->threads)
    if (omp_get_thread_num() > 0)
        serve(c, seen);
    else {
        c->threads = (size_t)omp_get_num_threads();
        fn(arg);
        c->threads = 0;
        call(c, NULL, NULL, 0);
    }
}
