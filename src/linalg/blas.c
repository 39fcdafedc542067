/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/blas.h"

#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lathe/lathe.h"
#include "linalg/kernel.h"

/* values of openblas_get_parallel() */
enum { SERIAL, PTHREAD, OPENMP };

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

lt_blas_call lt_blas_begin(void) {
    const int parallel = openblas_get_parallel();
    const lt_blas_call call = { omp_get_max_threads(),
                                parallel == SERIAL || (parallel == PTHREAD && openblas_get_num_threads() > 1) };
    if (call.waited) pthread_mutex_lock(&turn);
    omp_set_num_threads(1);
    return call;
}

void lt_blas_end(lt_blas_call call) {
    omp_set_num_threads(call.omp_threads);
    if (call.waited) pthread_mutex_unlock(&turn);
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

const char *lt_blas_better_core(const char *core, const char *isa) {
    /* x86-64 cores without AVX2: no processor with it is truly one of them */
    static const char *const old[] = { "Prescott", "Core2",       "Penryn",     "Dunnington",   "Atom",
                                       "Nehalem",  "Sandybridge", "Opteron",    "Opteron_SSE3", "Barcelona",
                                       "Bobcat",   "Bulldozer",   "Piledriver", "Steamroller",  "Nano" };
    static const struct {
        const char *isa, *core;
    } rows[] = { { "amx", "SkylakeX" }, { "avx512", "SkylakeX" }, { "avx2", "Haswell" } };
    const char *better = NULL;
    for (size_t r = 0; r < LT_COUNTOF(rows); r++)
        if (strcmp(isa, rows[r].isa) == 0) better = rows[r].core;
    for (size_t i = 0; i < LT_COUNTOF(old); i++)
        if (strcasecmp(core, old[i]) == 0) return better;
    return NULL;
}

const char *lt_blas_core(void) {
    const char *core = lt_blas_better_core(openblas_get_corename(), lt_kernels_at(0)->name),
               *asked = getenv("OPENBLAS_CORETYPE");
    return core && asked && strcasecmp(core, asked) == 0 ? NULL : core; /* this build of OpenBLAS does not have it */
}
