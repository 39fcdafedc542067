/* SPDX-License-Identifier: Apache-2.0 */
#include "core/suggest.h"

#include <stdio.h>
#include <string.h>

#include "core/core.h"

enum { LONGEST = 63 };

size_t lt_edit_distance(const char *a, const char *b) {
    size_t row[3][LONGEST + 1];
    const size_t n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST) return SIZE_MAX;
    for (size_t j = 0; j <= m; j++) row[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = lt_min_size(lt_min_size(last[j], now[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = lt_min_size(now[j], before[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

void lt_suggest(lt_suggestion *s, const char *candidate) {
    const size_t n = strlen(s->word), d = lt_edit_distance(s->word, candidate);
    /* a word that was cut short is meant, however much is missing */
    const bool begins = n >= 3 && strncmp(s->word, candidate, n) == 0;
    if (d > lt_max_size(n, 3) / 3 && !begins) return;
    if (s->best && d >= s->distance) return;
    s->best = candidate;
    s->distance = d;
}

const char *lt_suggest_text(const lt_suggestion *s, const char *prefix, char *buf, size_t cap) {
    if (s->best)
        snprintf(buf, cap, " (did you mean %s%s?)", prefix, s->best);
    else
        buf[0] = 0;
    return buf;
}
