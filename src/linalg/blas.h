/* SPDX-License-Identifier: Apache-2.0 */
/* linalg/blas.h - every call into OpenBLAS stands between lt_blas_begin and lt_blas_end: safe, and the host's settings
 * stay.
 *
 * openmp flavour: OpenBLAS asks OpenMP how many threads the calling task may use. That number belongs to the task, so
 * it is set to 1 around the call and put back; no other thread of a host program sees it.
 * serial flavour: Debian's build is not safe in several threads (docs/performance.md); calls wait for one another.
 * pthread flavour: its thread count belongs to the host program. With 1, calls run side by side; with more, they wait
 * for one another, because many callers of its thread pool nearly stand still. */
#ifndef LT_LINALG_BLAS_H
#define LT_LINALG_BLAS_H

#include <stdbool.h>

#include <cblas.h>

typedef struct lt_blas_call {
    int omp_threads;
    bool waited;
} lt_blas_call;
lt_blas_call lt_blas_begin(void);
void lt_blas_end(lt_blas_call call);
/* "OpenBLAS 0.3.21 SkylakeX (openmp)" */
const char *lt_blas_describe(char *buf, size_t cap);
/* The core type that OpenBLAS should have chosen, or NULL where its choice stands. core: the one that it chose; isa:
 * name of the best kernels that this processor runs. Versions that do not know a processor take it for the first one of
 * x86-64 (OpenBLAS issue 4267), whatever it can do. */
const char *lt_blas_better_core(const char *core, const char *isa);

#endif
