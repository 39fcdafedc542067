/* core/core.h - what every file of lathe stands on: status codes, errors, sizes, memory, context.
 *
 * Status codes equal the exit codes of the program (docs/architecture.md, "Exit codes").
 * The lowest frame that knows the facts writes the message with lt_fail(); frames above may add one
 * line of context with lt_context(). Numerical outcomes (rank, convergence) are results, not errors. */
#ifndef LT_CORE_CORE_H
#define LT_CORE_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lathe/lathe.h" /* lt_status, lt_err, lt_ctx, lt_version */

/* Writes code and message (printf form) into err, returns code. Never overwrites: a set err keeps its
 * first message. Form of the text: "<what> (<file>: <tensor>: <value>)"; control bytes and broken UTF-8 of
 * hostile names become '?', so that it is one line that terminals and JSON can hold. */
#define lt_fail(err, code, ...) lt_failed_((lt_set_err((err), (code), __VA_ARGS__), 0), (code))
/* Puts "<context>: " before the message of a set err; returns code. */
#define lt_context(err, code, ...) lt_failed_((lt_add_context((err), __VA_ARGS__), 0), (code))
/* Macros (code is evaluated twice) so that the compiler sees which value comes back: it then knows that what a
 * failed call left unset is not read. */
void lt_set_err(lt_err *err, lt_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));
void lt_add_context(lt_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline lt_status lt_failed_(int ignored, lt_status code) {
    return (void)ignored, code;
}

/* Bytes of the well-formed UTF-8 sequence (RFC 3629) that p[0..n) begins with, 1 to 4; 0: there is none. */
size_t lt_utf8_step(const char *p, size_t n);

/* A caller's mistake: returns LT_EUSAGE with the message from the enclosing function. */
#define LT_REQUIRE(err, cond, ...)                                                                                     \
    do {                                                                                                               \
        if (!(cond)) return lt_fail((err), LT_EUSAGE, __VA_ARGS__);                                                    \
    } while (0)
/* Forwards a failure from the enclosing function. */
#define LT_TRY(call)                                                                                                   \
    do {                                                                                                               \
        lt_status lt_try_status_ = (call);                                                                             \
        if (lt_try_status_ != LT_OK) return lt_try_status_;                                                            \
    } while (0)
/* The same towards a cleanup label `done`; needs a variable `st`. */
#define LT_GO(call)                                                                                                    \
    do {                                                                                                               \
        if ((st = (call)) != LT_OK) goto done;                                                                         \
    } while (0)

#define LT_COUNTOF(a) (sizeof(a) / sizeof((a)[0]))
static inline size_t lt_min_size(size_t a, size_t b) {
    return a < b ? a : b;
}
static inline size_t lt_max_size(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Checked sizes: false on overflow, *out untouched. */
static inline bool lt_mul_size(size_t a, size_t b, size_t *out) {
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool lt_add_size(size_t a, size_t b, size_t *out) {
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* ---- memory: one family for the whole library, so that tests can fail the n-th call ---- */
/* 64-byte aligned; 0 bytes give an address too. */
void *lt_malloc(size_t bytes);
void *lt_calloc(size_t count, size_t size); /* zeroed; NULL on overflow */
void *lt_realloc(void *p, size_t bytes);    /* as realloc, 64-byte aligned; p lives on when it fails */
void lt_free(void *p);                      /* NULL is fine; pairs with all three above */
/* Zeros in n bytes of a block; where these are many, its pages go back to the system until they are touched again. */
void lt_zero_pages(void *p, size_t bytes);
char *lt_strdup(const char *s);
char *lt_asprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Tests: the n-th allocation from now (0 = next) fails, and all after it; SIZE_MAX switches off. */
void lt_alloc_fail_after(size_t n);

/* Bump arena with mark and release; grows by chunks, never moves what it gave out. */
typedef struct lt_arena lt_arena;
typedef struct lt_arena_mark {
    size_t chunk, used;
} lt_arena_mark;
lt_arena *lt_arena_create(size_t chunk_bytes);
void lt_arena_destroy(lt_arena *a);
void *lt_arena_alloc(lt_arena *a, size_t bytes);              /* 64-byte aligned, uninitialised */
void *lt_arena_array(lt_arena *a, size_t count, size_t size); /* checked product */
lt_arena_mark lt_arena_get_mark(const lt_arena *a);
void lt_arena_release(lt_arena *a, lt_arena_mark m); /* everything since m is given back (kept for reuse) */
size_t lt_arena_peak_bytes(const lt_arena *a);

/* ---- context: one per use of the library; two in two threads do not meet ---- */
void lt_log(const lt_ctx *ctx, lt_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Reports progress; LT_EINTERRUPTED when the callback asks to stop. ctx may be NULL. */
lt_status lt_progress(const lt_ctx *ctx, lt_err *err, const char *stage, double done, double total, const char *unit);

/* Machine facts: cgroup v1/v2 aware. */
int lt_machine_cpus(void);
size_t lt_machine_memory(void); /* bytes that may be used: min(cgroup limit, physical) */
size_t lt_peak_rss_bytes(void); /* of this process so far (VmHWM) */
size_t lt_current_rss_bytes(void);
double lt_seconds(void); /* monotonic clock */

/* ---- randomness: Philox 4x32-10 (Salmon et al., SC'11), counter-based: keyed by what, not by when ---- */
typedef struct lt_rng {
    uint32_t key[2], counter[4], block[4];
    unsigned used;
} lt_rng;
/* purpose: a small constant per use (LT_RNG_*), so that streams of one seed never meet */
enum { LT_RNG_TEST = 1, LT_RNG_SAMPLE = 2, LT_RNG_DATA = 3, LT_RNG_INIT = 4, LT_RNG_METHOD = 5, LT_RNG_DROPOUT = 6 };
lt_rng lt_rng_at(uint64_t seed, uint32_t purpose, uint32_t step, uint32_t index);
uint32_t lt_rng_u32(lt_rng *r);
void lt_rng_fill(lt_rng *r, uint32_t *out, size_t n); /* n times lt_rng_u32 */
double lt_rng_uniform(lt_rng *r);                     /* [0,1), 53 bits */
double lt_rng_normal(lt_rng *r);                      /* Box-Muller */
uint64_t lt_rng_below(lt_rng *r, uint64_t n);         /* [0,n), unbiased; n >= 1 */

#endif
