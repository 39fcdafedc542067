/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/team.h"

lt_status lt_team_for(lt_team *team, size_t n, lt_status (*fn)(void *user, size_t i, lt_err *err), void *user,
                      lt_err *err) {
    size_t first_bad = n;
    lt_err worst = { 0 };
#pragma omp parallel for num_threads(team->threads) schedule(dynamic, 1)
    for (size_t i = 0; i < n; i++) {
        size_t bad;
#pragma omp atomic read
        bad = first_bad;
        if (i > bad) continue;
        lt_err e = { 0 };
        const lt_status st = fn(user, i, &e);
        if (st == LT_OK) continue;
        if (e.code == LT_OK) e.code = st;
/* unnamed: a name would become a symbol that the library shows */
#pragma omp critical
        if (i < first_bad) {
#pragma omp atomic write
            first_bad = i;
            worst = e;
        }
    }
    if (first_bad == n) return LT_OK;
    return lt_fail(err, worst.code, "%s", worst.message);
}
