/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir_path[512];
static pid_t dir_owner;
static char *kept_text[256];
static size_t n_kept;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void clean_up(void) {
    for (size_t i = 0; i < n_kept; i++) free(kept_text[i]);
    n_kept = 0;
    if (getpid() != dir_owner) return; /* a forked child does not remove its parent's folder */
    nftw(dir_path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* base/rel, kept until the end so that callers need not free it */
static const char *kept_join(const char *base, const char *rel) {
    const size_t bytes = strlen(base) + strlen(rel) + 2;
    char *text = malloc(bytes);
    if (!text || n_kept == LT_COUNTOF(kept_text)) {
        free(text);
        fail_msg("test paths: more than %zu", LT_COUNTOF(kept_text));
    }
    snprintf(text, bytes, "%s/%s", base, rel);
    for (size_t i = 0; i < n_kept; i++)
        if (strcmp(kept_text[i], text) == 0) {
            free(text);
            return kept_text[i];
        }
    if (n_kept == 0) atexit(clean_up);
    return kept_text[n_kept++] = text;
}

const char *test_dir(void) {
    if (dir_path[0]) return dir_path;
    const char *base = getenv("TMPDIR");
    snprintf(dir_path, sizeof dir_path, "%s/lathe-test-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(dir_path)) fail_msg("mkdtemp %s: %s", dir_path, strerror(errno));
    dir_owner = getpid();
    kept_join(dir_path, ""); /* registers the clean-up */
    return dir_path;
}

const char *test_path(const char *name) {
    return kept_join(test_dir(), name);
}

const char *test_golden(const char *rel) {
    return kept_join(LT_TESTS_DIR "/golden", rel);
}

const char *test_shared(const char *rel) {
    const char *path = kept_join(LT_SHARED_DIR, rel);
    return access(path, R_OK) == 0 ? path : NULL;
}

const char *test_need_shared(const char *rel, const char *file, int line) {
    const char *path = test_shared(rel);
    if (!path) {
        print_message("skipped: %s/%s is not there\n", LT_SHARED_DIR, rel);
        _skip(file, line);
    }
    return path;
}

void test_write_file(const char *path, const void *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    if (!f) fail_msg("%s: %s", path, strerror(errno));
    const bool ok = bytes == 0 || fwrite(data, 1, bytes, f) == bytes;
    if (fclose(f) != 0 || !ok) fail_msg("%s: %s", path, strerror(errno));
}

char *test_read_file(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) fail_msg("%s: %s", path, strerror(errno));
    char *text = lt_malloc((size_t)st.st_size + 1);
    if (!text || fread(text, 1, (size_t)st.st_size, f) != (size_t)st.st_size) fail_msg("%s: not read", path);
    fclose(f);
    text[st.st_size] = 0;
    if (bytes) *bytes = (size_t)st.st_size;
    return text;
}

size_t test_count_dir(const char *path) {
    DIR *d = opendir(path);
    if (!d) fail_msg("%s: %s", path, strerror(errno));
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d));) n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

lt_rng test_rng(uint32_t index) {
    static bool said;
    const char *text = getenv("LT_TEST_SEED");
    const uint64_t seed = text ? strtoull(text, NULL, 10) : 1;
    if (!said) print_message("seed %llu (LT_TEST_SEED)\n", (unsigned long long)seed);
    said = true;
    return lt_rng_at(seed, LT_RNG_TEST, 0, index);
}

void test_fill_normal(float *x, size_t n, lt_rng *r) {
    for (size_t i = 0; i < n; i++) x[i] = (float)lt_rng_normal(r);
}

void test_fill_normal_f64(double *x, size_t n, lt_rng *r) {
    for (size_t i = 0; i < n; i++) x[i] = lt_rng_normal(r);
}

double *test_normal_f64(uint32_t index, size_t n) {
    double *x = lt_malloc((n ? n : 1) * sizeof *x);
    assert_non_null(x);
    lt_rng r = test_rng(index);
    test_fill_normal_f64(x, n, &r);
    return x;
}

static double gap(double a, double b) {
    if (a == b || (isnan(a) && isnan(b))) return 0.0;
    const double d = fabs(a - b);
    return isnan(d) ? INFINITY : d;
}

double test_max_abs_diff(const float *a, const float *b, size_t n) {
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) worst = fmax(worst, gap(a[i], b[i]));
    return worst;
}

double test_max_abs_diff_f64(const double *a, const double *b, size_t n) {
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) worst = fmax(worst, gap(a[i], b[i]));
    return worst;
}

static void check_close(double a, double b, size_t i, double atol, double rtol, const char *what, const char *file,
                        int line) {
    if (gap(a, b) <= atol + (isfinite(b) ? rtol * fabs(b) : 0.0)) return;
    print_error("%s[%zu]: got %.9g, want %.9g, gap %.3g > %.3g + %.3g |want|\n", what, i, a, b, gap(a, b), atol, rtol);
    _fail(file, line);
}

void test_close(const float *a, const float *b, size_t n, double atol, double rtol, const char *what, const char *file,
                int line) {
    for (size_t i = 0; i < n; i++) check_close(a[i], b[i], i, atol, rtol, what, file, line);
}

void test_close_f64(const double *a, const double *b, size_t n, double atol, double rtol, const char *what,
                    const char *file, int line) {
    for (size_t i = 0; i < n; i++) check_close(a[i], b[i], i, atol, rtol, what, file, line);
}

void test_ok(lt_status got, const lt_err *err, const char *file, int line) {
    if (got == LT_OK) return;
    print_error("status %d: %s\n", got, err ? err->message : "");
    _fail(file, line);
}

void test_fails(lt_status got, lt_err *err, lt_status code, const char *text, const char *file, int line) {
    if (got != code || err->code != code || !strstr(err->message, text)) {
        print_error("status %d (err %d \"%s\"), want %d with \"%s\"\n", got, err->code, err->message, code, text);
        _fail(file, line);
    }
    *err = (lt_err){ 0 };
}

size_t test_every_allocation_fails(lt_status (*fn)(void *user, lt_err *err), void *user) {
    for (size_t n = 0; n < 1000000; n++) {
        lt_err err = { 0 };
        lt_alloc_fail_after(n);
        const lt_status st = fn(user, &err);
        lt_alloc_fail_after(SIZE_MAX);
        if (st == LT_OK) return n;
        if (st != LT_ENOMEM) fail_msg("allocation %zu fails: status %d: %s", n, st, err.message);
    }
    fail_msg("a million allocations and no end");
    return 0;
}
