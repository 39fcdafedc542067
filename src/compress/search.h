/* SPDX-License-Identifier: Apache-2.0 */
/* compress/search.h - the bisections of the ε-constrained search (spec utilized-rank §3.1), apart from what they try.
 */
#ifndef LT_COMPRESS_SEARCH_H
#define LT_COMPRESS_SEARCH_H

#include "core/core.h"

typedef struct lt_epsilon {
    enum { LT_EPSILON_RATIO, LT_EPSILON_NLL } unit;
    double value;
} lt_epsilon;
/* "5%", "ratio:0.05": rise of perplexity relative to the base; "nll:0.02": of the mean NLL. A bare number is ambiguous:
 * LT_EUSAGE. */
lt_status lt_epsilon_parse(lt_epsilon *out, const char *text, lt_err *err);
/* share of ε; false for NaN */
bool lt_epsilon_accepts(const lt_epsilon *e, double base_nll, double nll, double share);

/* As published: `probes` midpoints of [lo, hi], whose ends are never tried; *found the last accepted energy, 0: none.
 */
typedef lt_status (*lt_try_energy)(void *user, double energy, bool *ok, lt_err *err);
lt_status lt_search_energy(double *found, double lo, double hi, int probes, lt_try_energy accept, void *user,
                           lt_err *err);
/* Tests hi (refused: *found 0), lo (accepted: lo), then bisects; the smallest accepted rank if acceptance is monotone.
 */
typedef lt_status (*lt_try_rank)(void *user, size_t rank, bool *ok, lt_err *err);
lt_status lt_search_rank(size_t *found, size_t lo, size_t hi, lt_try_rank accept, void *user, lt_err *err);

#endif
