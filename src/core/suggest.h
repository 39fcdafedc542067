/* SPDX-License-Identifier: Apache-2.0 */
/* core/suggest.h - the name that a mistyped word may have meant. */
#ifndef LT_CORE_SUGGEST_H
#define LT_CORE_SUGGEST_H

#include <stddef.h>

/* Edits between a and b: insertions, deletions, substitutions, swaps of neighbours (optimal string alignment: no place
 * is edited twice). Names beyond 63 bytes are SIZE_MAX apart. */
size_t lt_edit_distance(const char *a, const char *b);
/* Keeps the candidate nearest to a word: at most a third of its length apart, or beginning with it. */
typedef struct lt_suggestion {
    const char *word, *best;
    size_t distance;
} lt_suggestion;
void lt_suggest(lt_suggestion *s, const char *candidate); /* s->word set, the rest zero at first */
/* " (did you mean X?)" or "", into buf; prefix: "--" or "" */
const char *lt_suggest_text(const lt_suggestion *s, const char *prefix, char *buf, size_t cap);

#endif
