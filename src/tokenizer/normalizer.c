/* SPDX-License-Identifier: Apache-2.0 */
/* Normalizers: rewrite the text between added tokens before it is cut. They never see an empty text. */
#include "tokenizer/stage.h"

#include <string.h>

#include "tokenizer/finder.h"

/* ---- Prepend ---- */

static lt_status prepend_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    const char *prefix = NULL;
    LT_TRY(lt_json_string(&prefix, j, "prepend", NULL, in->where, err));
    if (!prefix) return lt_fail(err, LT_EDATA, "Prepend without text (%s: normalizer)", in->where);
    *self = lt_strdup(prefix);
    return *self ? LT_OK : lt_fail(err, LT_ENOMEM, "no memory for a normalizer (%s)", in->where);
}

static lt_status prepend(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    (void)first;
    LT_TRY(lt_tok_buf_put(out, self, strlen(self), err));
    return lt_tok_buf_put(out, in, bytes, err);
}

/* ---- Replace ---- */

typedef struct replace { lt_finder *finder; char *content; } replace;

static void replace_destroy(void *self) {
    replace *r = self;
    if (!r) return;
    lt_finder_destroy(r->finder);
    lt_free(r->content);
    lt_free(r);
}

static lt_status replace_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    const char *content = NULL;
    json_t *pattern = NULL;
    LT_TRY(lt_json_string(&content, j, "content", NULL, in->where, err));
    if (!content) return lt_fail(err, LT_EDATA, "Replace without content (%s: normalizer)", in->where);
    LT_TRY(lt_json_need(&pattern, j, "pattern", in->where, err));
    replace *r = lt_calloc(1, sizeof *r);
    if (!r || !(r->content = lt_strdup(content))) {
        replace_destroy(r);
        return lt_fail(err, LT_ENOMEM, "no memory for a normalizer (%s)", in->where);
    }
    const lt_status st = lt_finder_parse(&r->finder, pattern, in->where, err);
    if (st == LT_OK)
        *self = r;
    else
        replace_destroy(r);
    return st;
}

static lt_status replace_all(const replace *r, const lt_search *search, const char *in, size_t bytes, lt_tok_buf *out, lt_err *err) {
    size_t done = 0, from = 0;
    while (from <= bytes) {
        size_t start, end;
        LT_TRY(lt_search_next(search, in, bytes, from, &start, &end, err));
        if (start == LT_NO_MATCH) break;
        LT_TRY(lt_tok_buf_put(out, in + done, start - done, err));
        LT_TRY(lt_tok_buf_put(out, r->content, strlen(r->content), err));
        done = end;
        from = end > start ? end : end + 1;
    }
    return lt_tok_buf_put(out, in + done, bytes - done, err);
}

static lt_status replace_run(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    const replace *r = self;
    (void)first;
    lt_search search;
    LT_TRY(lt_search_open(&search, r->finder, NULL, err));
    const lt_status st = replace_all(r, &search, in, bytes, out, err);
    lt_search_close(&search);
    return st;
}

static const lt_tok_row rows[] = {
    { .type = "Prepend", .parse = prepend_parse, .normalize = prepend },
    { .type = "Replace", .parse = replace_parse, .destroy = replace_destroy, .normalize = replace_run },
};
const lt_tok_table lt_tok_normalizers = { "normalizer", "normalizers", rows, LT_COUNTOF(rows) };

lt_status lt_tok_normalize(const lt_tokenizer *t, lt_tok_text *text, lt_err *err) {
    for (size_t i = 0; i < t->normalizer.n; i++)
        LT_TRY(lt_tok_text_rewrite(text, t->normalizer.part[i].row->normalize, t->normalizer.part[i].self, err));
    return LT_OK;
}
