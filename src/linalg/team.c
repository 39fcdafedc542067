/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/team.h"

#include <omp.h>
#include <stdio.h>

#include "linalg/blas.h"
#include "linalg/crew.h"

static lt_status fill(lt_team *t, const char *isa, lt_err *err) {
    t->k = lt_kernels_get(isa);
    if (!t->k) return lt_fail(err, LT_EUNSUPPORTED, "no kernels that this machine can run (isa: %s)", isa);
    if (!(t->crew = lt_crew_create(t->threads))) return lt_fail(err, LT_ENOMEM, "a team of threads");
    t->scratch = lt_calloc((size_t)t->threads, sizeof *t->scratch);
    if (!t->scratch) return lt_fail(err, LT_ENOMEM, "scratch of %d threads", t->threads);
    t->scratch_bytes = LT_TEAM_SCRATCH;
    for (int i = 0; i < t->threads; i++)
        if (!(t->scratch[i] = lt_malloc(t->scratch_bytes)))
            return lt_fail(err, LT_ENOMEM, "scratch of %d threads (%zu bytes each)", t->threads, t->scratch_bytes);
    return LT_OK;
}

lt_status lt_team_create(lt_team **out, int threads, const char *isa, lt_err *err) {
    LT_REQUIRE(err, threads >= 1 && threads <= 4096, "threads: 1 to 4096 (%d)", threads);
    lt_team *t = lt_calloc(1, sizeof *t);
    if (!t) return lt_fail(err, LT_ENOMEM, "a team of threads");
    t->threads = threads;
    const lt_status st = fill(t, isa, err);
    if (st == LT_OK)
        *out = t;
    else
        lt_team_destroy(t);
    return st;
}

void lt_team_destroy(lt_team *t) {
    if (!t) return;
    for (int i = 0; t->scratch && i < t->threads; i++) lt_free(t->scratch[i]);
    lt_free(t->scratch);
    lt_free(t->crew);
    lt_free(t);
}

int lt_team_thread(void) {
    return omp_get_thread_num();
}

const char *lt_team_describe(const lt_team *t, char *buf, size_t cap) {
    char blas[128];
    snprintf(buf, cap, "%s, kernels %s, %d thread%s", lt_blas_describe(blas, sizeof blas), t->k->name, t->threads,
             t->threads == 1 ? "" : "s");
    return buf;
}
