/* linalg/team.h - the threads of one computation: how many, which kernels, scratch for each.
 *
 * OpenMP is used only inside linalg/ and nn/ kernels, always `num_threads(team->threads)` over tiles whose shapes do
 * not depend on the thread count and that do not touch each other's results (or schedule(static) in a fixed order), so
 * results are the same bytes for every thread count. Every BLAS/LAPACK call is single-threaded (linalg/blas.h). */
#ifndef LT_LINALG_TEAM_H
#define LT_LINALG_TEAM_H

#include "core/core.h"
#include "linalg/kernel.h"

typedef struct lt_team {
    int threads;
    const lt_kernels *k;  /* best for this CPU, or the one asked for */
    void **scratch;       /* [threads], 64-byte aligned */
    size_t scratch_bytes; /* of each */
    struct lt_crew *crew; /* how held threads are called */
} lt_team;

/* a stored matrix: its rows are the outputs, or its columns (in_out) */
typedef struct lt_stored {
    const lt_tensor *w;
    bool in_out;
} lt_stored;

#define LT_TEAM_SCRATCH ((size_t)8 << 20) /* enough for every kernel of linalg/ and nn/ */
/* isa: NULL (best), or the name of a kernel table ("ref", "avx2", "avx512", "amx", "neon"); an unknown or
 * unusable name is LT_EUNSUPPORTED. A build with LT_REF_ONLY has "ref" alone. */
lt_status lt_team_create(lt_team **out, int threads, const char *isa, lt_err *err);
void lt_team_destroy(lt_team *t);
int lt_team_thread(void); /* index of the calling thread inside a parallel region */

/* Runs fn(user, i, e) for i < n: items are handed out in order, each by one thread (BLAS calls inside are serial
 * anyway). Items must not touch each other's results. All items before the first failing one run; err is that one's,
 * whatever the thread count. */
lt_status lt_team_for(lt_team *team, size_t n, lt_status (*fn)(void *user, size_t i, lt_err *err), void *user,
                      lt_err *err);

/* Runs fn(arg, i) for i < n, each by one thread, whichever: each has a share, and who has done his takes from the end
 * of another's. Items do not touch each other's results. For short work: no errors. Inside a parallel region: on the
 * caller. */
void lt_team_run(lt_team *team, size_t n, void (*fn)(void *arg, size_t i), void *arg);
/* Runs fn(arg) while the other threads of the team stay awake: each lt_team_run inside costs about a microsecond, where
 * a parallel region costs ten. For a decoding step, which is hundreds of them. OpenMP loops inside run on the calling
 * thread alone. Threads that find nothing to do for some tens of microseconds give way to others. */
void lt_team_hold(lt_team *team, void (*fn)(void *arg), void *arg);
bool lt_team_is_held(const lt_team *team);

/* What the start-up line of -v says: "OpenBLAS 0.3.21 SkylakeX, kernels avx512, 2 threads". */
const char *lt_team_describe(const lt_team *t, char *buf, size_t cap);

#endif
