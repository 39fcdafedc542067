/* SPDX-License-Identifier: Apache-2.0 */
/* tests/support/support.h - what every test program uses: temporary files, goldens, seeds, comparisons.
 *
 * Compiled into each test program; stands on core/ only. Includes cmocka with what it needs. */
#ifndef LT_TESTS_SUPPORT_H
#define LT_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/core.h"

/* ---- files ---- */
/* A folder of this process, made at the first call and removed when the process ends. */
const char *test_dir(void);
/* test_dir()/name; the text lives until the process ends. */
const char *test_path(const char *name);
/* A file tests/golden/<rel> of the repository. The text lives until the process ends. */
const char *test_golden(const char *rel);
/* A file or folder of the large goldens, LT_SHARED_DIR/<rel>; NULL when it is not there. */
const char *test_shared(const char *rel);
/* The same, but a missing one prints "skipped: ..." and skips the running test:
 *     const char *dir = TEST_NEED_SHARED("golden/models/tiny-llama"); */
#define TEST_NEED_SHARED(rel) test_need_shared((rel), __FILE__, __LINE__)
const char *test_need_shared(const char *rel, const char *file, int line);
/* Plain write and read, independent of io/; they fail the running test on any error. */
void test_write_file(const char *path, const void *data, size_t bytes);
char *test_read_file(const char *path, size_t *bytes); /* NUL-terminated; lt_free */
/* Entries of a folder, "." and ".." aside. */
size_t test_count_dir(const char *path);

/* ---- numbers ---- */
/* Generator number index of the run's seed: LT_TEST_SEED in the environment, else 1. The seed is printed once. */
lt_rng test_rng(uint32_t index);
void test_fill_normal(float *x, size_t n, lt_rng *r);
void test_fill_normal_f64(double *x, size_t n, lt_rng *r);
double *test_normal_f64(uint32_t index, size_t n); /* [n] of a stream of its own; lt_free */
/* Largest |a - b|; infinite when exactly one is NaN or a difference is not finite (equal infinities differ by 0). */
double test_max_abs_diff(const float *a, const float *b, size_t n);
double test_max_abs_diff_f64(const double *a, const double *b, size_t n);
/* Fail the running test, naming index and values, unless |a - b| <= atol + rtol |b| everywhere. */
#define assert_close(a, b, n, atol, rtol) test_close((a), (b), (n), (atol), (rtol), #a, __FILE__, __LINE__)
#define assert_close_f64(a, b, n, atol, rtol) test_close_f64((a), (b), (n), (atol), (rtol), #a, __FILE__, __LINE__)
void test_close(const float *a, const float *b, size_t n, double atol, double rtol, const char *what, const char *file,
                int line);
void test_close_f64(const double *a, const double *b, size_t n, double atol, double rtol, const char *what,
                    const char *file, int line);

/* ---- outcomes ---- */
/* Fails the running test with err's message when a call did not return LT_OK. */
#define assert_ok(call, err) test_ok((call), (err), __FILE__, __LINE__)
void test_ok(lt_status got, const lt_err *err, const char *file, int line);
/* Fails unless status and err->code are code and the message contains text. Clears *err for the next use. */
#define assert_fails(call, err, code, text) test_fails((call), (err), (code), (text), __FILE__, __LINE__)
void test_fails(lt_status got, lt_err *err, lt_status code, const char *text, const char *file, int line);
/* Runs fn again and again with the n-th allocation failing, n = 0, 1, ..., until it succeeds. Every failure must be
 * LT_ENOMEM; leaks are the sanitizer's to find. Returns the number of allocations of a good run. */
size_t test_every_allocation_fails(lt_status (*fn)(void *user, lt_err *err), void *user);

#endif
