/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/finder.h - finding the next match of a pattern in a span, and cutting spans at matches.
 *
 * Regular expressions mean what they mean in Oniguruma (Ruby syntax), which the `tokenizers` library uses. The
 * expressions of known model families are matched by hand-written scanners (scan.c); any other is translated for PCRE2
 * with the classes \p{..}, \s, \d, \w written out from our own tables (regex.c). What cannot be translated faithfully
 * is LT_EUNSUPPORTED. */
#ifndef LT_TOKENIZER_FINDER_H
#define LT_TOKENIZER_FINDER_H

#include "io/json.h"
#include "tokenizer/text.h"

#define LT_NO_MATCH SIZE_MAX

typedef struct lt_finder lt_finder;
/* A scanner: first match that begins at or after from (< n) in s[n]; *start = LT_NO_MATCH when there is none. */
typedef void (*lt_scan)(const char *s, size_t n, size_t from, size_t *start, size_t *end);

lt_status lt_finder_regex(lt_finder **out, const char *pattern, size_t bytes, const char *where, lt_err *err);
/* The same without the scanners; tests compare the two. */
lt_status lt_finder_pcre2(lt_finder **out, const char *pattern, size_t bytes, const char *where, lt_err *err);
lt_status lt_finder_literal(lt_finder **out, const char *text, size_t bytes, lt_err *err);
/* j: {"Regex": "..."} or {"String": "..."} */
lt_status lt_finder_parse(lt_finder **out, const json_t *j, const char *where, lt_err *err);
void lt_finder_destroy(lt_finder *f);

/* Scanners are found by the exact text of the pattern; NULL: unknown. */
lt_scan lt_scan_for(const char *pattern, size_t bytes);
void lt_scan_gpt2(const char *s, size_t n, size_t from, size_t *start, size_t *end);

/* One search over one subject after another; opened once per stage run, as PCRE2 needs working memory. */
typedef struct lt_search {
    const lt_finder *finder;
    lt_scan scan; /* taken instead of finder when set */
    void *match;
} lt_search;
lt_status lt_search_open(lt_search *s, const lt_finder *f, lt_scan scan, lt_err *err);
void lt_search_close(lt_search *s);
/* from <= n. LT_EUNSUPPORTED: the pattern needs more backtracking than PCRE2 allows. */
lt_status lt_search_next(const lt_search *s, const char *text, size_t n, size_t from, size_t *start, size_t *end,
                         lt_err *err);
/* All matches one after another, as Oniguruma's iterator gives them: *from = 0 and *last = LT_NO_MATCH at first. An
 * empty match right behind a match does not count. */
lt_status lt_search_after(const lt_search *s, const char *text, size_t n, size_t *from, size_t *last, size_t *start,
                          size_t *end, lt_err *err);

/* What a span becomes when it is cut at matches ("behavior"); invert: gaps count as matches and matches as gaps. */
typedef enum lt_behavior {
    LT_SPLIT_ISOLATED,
    LT_SPLIT_REMOVED,
    LT_SPLIT_MERGED_WITH_PREVIOUS,
    LT_SPLIT_MERGED_WITH_NEXT,
    LT_SPLIT_CONTIGUOUS
} lt_behavior;
lt_status lt_tok_text_split(lt_tok_text *t, const lt_finder *f, lt_scan scan, lt_behavior behavior, bool invert,
                            lt_err *err);

#endif
