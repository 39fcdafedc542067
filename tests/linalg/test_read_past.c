/* SPDX-License-Identifier: Apache-2.0 */
/* Decompositions with OpenBLAS's oldest kernels (the environment of this test chooses them), every workspace ending
 * where readable memory ends: linked with --wrap=lt_malloc and --wrap=lt_free. */
#include "linalg/decomp.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/support.h"

enum { MOST = 64 };
static struct {
    void *block;
    char *map;
    size_t bytes;
} taken[MOST];

void *__wrap_lt_malloc(size_t bytes);
void __wrap_lt_free(void *p);
void __real_lt_free(void *p);

/* The last byte is the last one before a page that cannot be read; aligned as doubles are. */
void *__wrap_lt_malloc(size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), rounded = (bytes + 7) / 8 * 8,
                 body = (rounded + page - 1) / page * page;
    for (size_t i = 0; i < MOST; i++) {
        if (taken[i].block) continue;
        char *map = mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED) return NULL;
        mprotect(map + body, page, PROT_NONE);
        taken[i].map = map;
        taken[i].bytes = body + page;
        return taken[i].block = map + body - rounded;
    }
    return NULL;
}

void __wrap_lt_free(void *p) {
    for (size_t i = 0; p && i < MOST; i++) {
        if (taken[i].block != p) continue;
        munmap(taken[i].map, taken[i].bytes);
        taken[i].block = NULL;
        return;
    }
    __real_lt_free(p);
}

static double *matrix(size_t n, size_t m) {
    double *a = lt_malloc(n * m * sizeof *a);
    assert_non_null(a);
    for (size_t i = 0; i < n * m; i++) a[i] = sin((double)(i * i % 1009));
    return a;
}

static void eigenproblems(void **state) {
    (void)state;
    for (size_t n = 1; n <= 80; n++)
        for (size_t vectors = 0; vectors <= n; vectors += n) {
            double *a = matrix(n, n), *w = matrix(n, 1), *v = matrix(n, n), trace = 0.0, sum = 0.0;
            lt_err err = { 0 };
            lt_eigh_problem p = { .n = n, .a = a, .w = w, .v = v, .n_vectors = vectors };
            for (size_t i = 0; i < n; i++) trace += a[i * n + i];
            assert_ok(lt_eigh_serial(&p, &err), &err);
            assert_int_equal(p.info, 0);
            for (size_t i = 0; i < n; i++) sum += w[i];
            assert_true(fabs(sum - trace) < 1e-10);
            lt_free(a);
            lt_free(w);
            lt_free(v);
        }
}

static void bases(void **state) {
    (void)state;
    for (size_t n = 1; n <= 40; n++) {
        double *a = matrix(n + 3, n), *b = matrix(n, n), *x = matrix(n, 5);
        lt_err err = { 0 };
        int info;
        assert_ok(lt_orth_serial(n + 3, n, a, &err), &err);
        for (size_t i = 0; i < n; i++) b[i * n + i] = (double)n;
        lt_chol_serial(n, b, &info);
        assert_int_equal(info, 0);
        lt_trsm_serial(n, 5, b, true, x);
        lt_free(a);
        lt_free(b);
        lt_free(x);
    }
}

static void singular_values(void **state) {
    (void)state;
    for (size_t n = 1; n <= 40; n++) {
        double *a = matrix(n, n + 3), *u = matrix(n, n), *s = matrix(n, 1), *vt = matrix(n, n + 3);
        lt_err err = { 0 };
        int info;
        assert_ok(lt_svd_serial(n, n + 3, a, u, s, vt, &info, &err), &err);
        assert_int_equal(info, 0);
        lt_free(a);
        lt_free(u);
        lt_free(s);
        lt_free(vt);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eigenproblems),
        cmocka_unit_test(bases),
        cmocka_unit_test(singular_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
