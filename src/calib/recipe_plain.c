/* SPDX-License-Identifier: Apache-2.0 */
/* plain: each document tokenised alone, one after the other, cut into rows; the tail is dropped.
 * minitron: the same with an end-of-text id after every document, 1024 rows, never fewer than asked for (spec minitron
 * §1.1; NVIDIA ModelOpt's guide: documents packed as one stream). */
#include "calib/recipe.h"

static lt_status add_doc(lt_ids *out, const lt_doc *doc, bool eos, const lt_tokenizer *tok, lt_err *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    const int32_t end = lt_tokenizer_eos(tok);
    LT_TRY(lt_tokenizer_encode(tok, doc->text, doc->bytes, !doc->templated, &ids, &n, err));
    lt_status st = lt_ids_add(out, ids, n, err);
    if (st == LT_OK && eos && !doc->templated && end >= 0) st = lt_ids_add(out, &end, 1, err);
    lt_free(ids);
    return st;
}

static lt_status make(lt_ids *out, size_t *seen, const lt_docs *docs, const lt_tokenizer *tok, const lt_tokens_opts *o,
                      lt_err *err) {
    size_t enough;
    if (o->max_rows == 0 || !lt_mul_size(o->max_rows, o->seq_len, &enough)) enough = SIZE_MAX;
    for (size_t i = 0; i < docs->n && out->n < enough; i++) LT_TRY(add_doc(out, &docs->doc[i], docs->eos, tok, err));
    *seen = out->n;
    out->n = lt_min_size(out->n - out->n % o->seq_len, enough);
    return LT_OK;
}

enum { MINITRON_ROWS = 1024 };

static lt_status make_minitron(lt_ids *out, size_t *seen, const lt_docs *docs, const lt_tokenizer *tok,
                               const lt_tokens_opts *o, lt_err *err) {
    const size_t rows = o->max_rows ? o->max_rows : MINITRON_ROWS;
    size_t want;
    if (lt_tokenizer_eos(tok) < 0)
        return lt_fail(err, LT_EUNSUPPORTED, "minitron: the tokenizer has no id that ends a text");
    if (!lt_mul_size(rows, o->seq_len, &want)) return lt_fail(err, LT_EUSAGE, "minitron: %zu rows are too many", rows);
    for (size_t i = 0; i < docs->n && out->n < want; i++) LT_TRY(add_doc(out, &docs->doc[i], true, tok, err));
    *seen = out->n;
    if (out->n < want)
        return lt_fail(err, LT_EDATA, "minitron: the text has %zu tokens, %zu rows of %zu need %zu", out->n, rows,
                       o->seq_len, want);
    out->n = want;
    return LT_OK;
}

extern const lt_recipe lt_recipe_plain, lt_recipe_minitron;
const lt_recipe lt_recipe_minitron = { "minitron", "documents with an end-of-text id after each, 1024 rows", false,
                                       false, make_minitron };
const lt_recipe lt_recipe_plain = { "plain", "documents one after the other, cut into rows", false, true, make };
