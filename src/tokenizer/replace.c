/* SPDX-License-Identifier: Apache-2.0 */
/* Replace, which is a normalizer and a decoder: every match of a pattern becomes a fixed text. */
#include "tokenizer/stage.h"

#include <string.h>

#include "tokenizer/finder.h"

typedef struct replace {
    lt_finder *finder;
    char *content;
} replace;

void lt_tok_replace_destroy(void *self) {
    replace *r = self;
    if (!r) return;
    lt_finder_destroy(r->finder);
    lt_free(r->content);
    lt_free(r);
}

lt_status lt_tok_replace_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    const char *content = NULL;
    json_t *pattern = NULL;
    LT_TRY(lt_json_string(&content, j, "content", NULL, in->where, err));
    if (!content) return lt_fail(err, LT_EDATA, "Replace without content (%s)", in->where);
    LT_TRY(lt_json_need(&pattern, j, "pattern", in->where, err));
    replace *r = lt_calloc(1, sizeof *r);
    if (!r || !(r->content = lt_strdup(content))) {
        lt_tok_replace_destroy(r);
        return lt_fail(err, LT_ENOMEM, "no memory for a Replace (%s)", in->where);
    }
    const lt_status st = lt_finder_parse(&r->finder, pattern, in->where, err);
    if (st == LT_OK)
        *self = r;
    else
        lt_tok_replace_destroy(r);
    return st;
}

static lt_status replace_all(const replace *r, const lt_search *search, const char *in, size_t bytes, lt_tok_buf *out,
                             lt_err *err) {
    size_t done = 0, from = 0, start, end;
    for (size_t last = LT_NO_MATCH;;) {
        LT_TRY(lt_search_after(search, in, bytes, &from, &last, &start, &end, err));
        if (start == LT_NO_MATCH) break;
        LT_TRY(lt_tok_buf_put(out, in + done, start - done, err));
        LT_TRY(lt_tok_buf_put(out, r->content, strlen(r->content), err));
        done = end;
    }
    return lt_tok_buf_put(out, in + done, bytes - done, err);
}

lt_status lt_tok_replace_run(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    const replace *r = self;
    (void)first;
    lt_search search;
    LT_TRY(lt_search_open(&search, r->finder, NULL, err));
    const lt_status st = replace_all(r, &search, in, bytes, out, err);
    lt_search_close(&search);
    return st;
}
