/* SPDX-License-Identifier: Apache-2.0 */
/* core/patterns.h - a few extended regular expressions that names are held against. */
#ifndef LT_CORE_PATTERNS_H
#define LT_CORE_PATTERNS_H

#include <regex.h>

#include "core/core.h"

typedef struct lt_patterns {
    regex_t *re;
    size_t n;
} lt_patterns;
/* text: NULL or NULL-terminated. LT_EUSAGE: not a regular expression. */
lt_status lt_patterns_init(lt_patterns *p, const char *const *text, lt_err *err);
bool lt_patterns_match(const lt_patterns *p, const char *name);
void lt_patterns_clear(lt_patterns *p);

#endif
