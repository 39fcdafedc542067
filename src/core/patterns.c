/* SPDX-License-Identifier: Apache-2.0 */
#include "core/patterns.h"

lt_status lt_patterns_init(lt_patterns *p, const char *const *text, lt_err *err) {
    size_t n = 0;
    *p = (lt_patterns){ 0 };
    while (text && text[n]) n++;
    p->re = lt_calloc(n + 1, sizeof *p->re);
    if (!p->re) return lt_fail(err, LT_ENOMEM, "no memory for %zu patterns", n);
    for (; p->n < n; p->n++) {
        const int code = regcomp(&p->re[p->n], text[p->n], REG_EXTENDED | REG_NOSUB);
        if (code == 0) continue;
        char why[128];
        regerror(code, &p->re[p->n], why, sizeof why);
        lt_patterns_clear(p);
        return lt_fail(err, LT_EUSAGE, "not a regular expression: %s (pattern: %.200s)", why, text[p->n]);
    }
    return LT_OK;
}

bool lt_patterns_match(const lt_patterns *p, const char *name) {
    for (size_t i = 0; i < p->n; i++)
        if (regexec(&p->re[i], name, 0, NULL, 0) == 0) return true;
    return false;
}

void lt_patterns_clear(lt_patterns *p) {
    for (size_t i = 0; i < p->n; i++) regfree(&p->re[i]);
    lt_free(p->re);
    *p = (lt_patterns){ 0 };
}
