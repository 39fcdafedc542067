/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/blas.h"

#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* values of openblas_get_parallel() */
enum { SERIAL, PTHREAD, OPENMP };

static pthread_mutex_t serial_flavour = PTHREAD_MUTEX_INITIALIZER;

int lt_blas_begin(void) {
    if (openblas_get_parallel() == SERIAL) pthread_mutex_lock(&serial_flavour);
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    return threads;
}

void lt_blas_end(int begun) {
    omp_set_num_threads(begun);
    if (openblas_get_parallel() == SERIAL) pthread_mutex_unlock(&serial_flavour);
}

const char *lt_blas_describe(char *buf, size_t cap) {
    static const char *const flavour[] = { [SERIAL] = "serial", [PTHREAD] = "pthread", [OPENMP] = "openmp" };
    const int parallel = openblas_get_parallel();
    const char *config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    const char *version = strchr(config, ' ');
    const int length = version ? (int)(strcspn(version + 1, " ") + (size_t)(version + 1 - config)) : 0;
    snprintf(buf, cap, "%.*s %s (%s)", length, config, openblas_get_corename(),
             parallel >= SERIAL && parallel <= OPENMP ? flavour[parallel] : "?");
    return buf;
}
