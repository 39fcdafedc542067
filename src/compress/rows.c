/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/rows.h"

#include <stdio.h>
#include <string.h>

enum { LONGEST = 63 };

size_t lt_edit_distance(const char *a, const char *b) {
    const size_t n = strlen(a), m = strlen(b);
    size_t row[LONGEST + 1];
    if (n > LONGEST || m > LONGEST) return SIZE_MAX;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            const size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            row[j] = lt_min_size(change, lt_min_size(row[j], row[j - 1]) + 1);
        }
    }
    return row[m];
}

lt_status lt_find_row(size_t *out, const char *kind, const char *name, const char *(*name_at)(size_t i), lt_err *err) {
    char list[256] = "";
    const char *nearest = NULL;
    size_t best = 4, used = 0;
    for (size_t i = 0; name_at(i); i++) {
        if (strcmp(name_at(i), name) == 0) {
            *out = i;
            return LT_OK;
        }
        const size_t apart = lt_edit_distance(name_at(i), name);
        if (apart < best) best = apart, nearest = name_at(i);
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", name_at(i));
    }
    return lt_fail(err, LT_EUSAGE, "unknown %s \"%s\" (there are: %s%s%s%s)", kind, name, list,
                   nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}
