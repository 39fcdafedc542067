/* SPDX-License-Identifier: Apache-2.0 */
/* plain: each document tokenised alone, one after the other, cut into rows; the tail is dropped. */
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

extern const lt_recipe lt_recipe_plain;
const lt_recipe lt_recipe_plain = { "plain", "documents one after the other, cut into rows", false, make };
