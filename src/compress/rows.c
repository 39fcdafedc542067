/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/rows.h"

#include <stdio.h>
#include <string.h>

#include "core/suggest.h"

lt_status lt_find_row(size_t *out, const char *kind, const char *name, const char *(*name_at)(size_t i), lt_err *err) {
    char list[256] = "";
    lt_suggestion s = { .word = name };
    size_t used = 0;
    for (size_t i = 0; name_at(i); i++) {
        if (strcmp(name_at(i), name) == 0) {
            *out = i;
            return LT_OK;
        }
        lt_suggest(&s, name_at(i));
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", name_at(i));
    }
    return lt_fail(err, LT_EUSAGE, "unknown %s \"%s\" (there are: %s%s%s%s)", kind, name, list,
                   s.best ? "; did you mean " : "", s.best ? s.best : "", s.best ? "?" : "");
}
