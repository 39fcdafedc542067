/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/recipe.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"

extern const lt_recipe lt_recipe_plain, lt_recipe_svdllm, lt_recipe_wikitext, lt_recipe_minitron, lt_recipe_rows;
const lt_recipe *const lt_recipes[] = { &lt_recipe_plain,    &lt_recipe_svdllm, &lt_recipe_wikitext,
                                        &lt_recipe_minitron, &lt_recipe_rows,   NULL };

static lt_status find_recipe(const lt_recipe **out, const char *name, lt_err *err) {
    char list[128] = "";
    size_t used = 0;
    for (size_t i = 0; lt_recipes[i]; i++) {
        *out = lt_recipes[i];
        if (strcmp((*out)->name, name) == 0) return LT_OK;
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", (*out)->name);
    }
    return lt_fail(err, LT_EUSAGE, "unknown recipe \"%s\" (there are: %s)", name, list);
}

lt_status lt_ids_add(lt_ids *ids, const int32_t *more, size_t n, lt_err *err) {
    if (ids->cap - ids->n < n) {
        const size_t cap = lt_max_size(2 * ids->cap, ids->n + n);
        int32_t *id = lt_realloc(ids->id, cap * sizeof *id);
        if (!id) return lt_fail(err, LT_ENOMEM, "no memory for %zu ids", cap);
        ids->id = id;
        ids->cap = cap;
    }
    if (n) memcpy(ids->id + ids->n, more, n * sizeof *more);
    ids->n += n;
    return LT_OK;
}

lt_status lt_ids_end_row(lt_ids *ids, lt_err *err) {
    if (ids->n_ends == ids->cap_ends) {
        const size_t cap = lt_max_size(64, 2 * ids->cap_ends);
        size_t *end = lt_realloc(ids->end, cap * sizeof *end);
        if (!end) return lt_fail(err, LT_ENOMEM, "no memory for %zu rows", cap);
        ids->end = end;
        ids->cap_ends = cap;
    }
    ids->end[ids->n_ends++] = ids->n;
    return LT_OK;
}

/* ---- token files ---- */

/* safetensors: a header length that fits the file, then '{'. Text that begins so would hold NULs. */
bool lt_is_token_file(const char *path) {
    lt_buffer b;
    if (lt_map_open(&b, path, NULL) != LT_OK) return false;
    const uint8_t *p = b.data;
    uint64_t n = 0;
    for (int i = 7; b.bytes > 9 && i >= 0; i--) n = n << 8 | p[i];
    const bool yes = b.bytes > 9 && n >= 2 && n <= b.bytes - 8 && p[8] == '{';
    lt_map_close(&b);
    return yes;
}

static lt_status check_ids(const lt_tokens *t, size_t vocab_size, const char *path, lt_err *err) {
    for (size_t i = 0; i < t->n_ids; i++)
        if (t->ids[i] < 0 || (size_t)t->ids[i] >= vocab_size)
            return lt_fail(err, LT_EDATA, "id is outside the model's vocabulary of %zu (%s: ids[%zu]: %d)", vocab_size,
                           path, i, t->ids[i]);
    return LT_OK;
}

static lt_status keep_rows(lt_tokens *t, size_t max_rows, lt_err *err) {
    if (max_rows == 0 || max_rows >= t->n_rows) return LT_OK;
    t->n_rows = max_rows;
    t->n_ids = t->row_start[max_rows];
    return lt_tokens_seal(t, err);
}

static lt_status from_token_file(lt_tokens *t, const char *path, const lt_tokenizer *tok, size_t vocab_size,
                                 size_t max_rows, lt_err *err) {
    LT_TRY(lt_tokens_load(t, path, err));
    const char *ours = tok ? lt_tokenizer_hash(tok) : "";
    if (t->tokenizer_hash[0] && *ours && strcmp(t->tokenizer_hash, ours) != 0)
        return lt_fail(err, LT_EDATA, "tokens were made by another tokenizer (%s: %s, model: %s)", path,
                       t->tokenizer_hash, ours);
    LT_TRY(check_ids(t, vocab_size, path, err));
    return keep_rows(t, max_rows, err);
}

/* ---- text ---- */

static lt_status cut_rows(lt_tokens *t, const lt_ids *ids, size_t seq_len, lt_err *err) {
    t->n_rows = ids->end ? ids->n_ends : t->n_ids / seq_len;
    t->row_start = lt_calloc(t->n_rows + 1, sizeof *t->row_start);
    if (!t->row_start) return lt_fail(err, LT_ENOMEM, "no memory for %zu rows", t->n_rows);
    for (size_t i = 1; i <= t->n_rows; i++) t->row_start[i] = ids->end ? ids->end[i - 1] : i * seq_len;
    return LT_OK;
}

static lt_status from_text(lt_tokens *t, const char *path, const lt_tokenizer *tok, const lt_recipe *recipe,
                           const lt_tokens_opts *o, lt_err *err) {
    lt_docs docs = { 0 };
    lt_ids ids = { 0 };
    size_t seen = 0;
    lt_status st;
    LT_GO(lt_docs_read(&docs, path, o, err));
    st = recipe->make(&ids, &seen, &docs, tok, o, err);
    t->ids = ids.id; /* t's to free, also after a failure */
    t->n_ids = ids.n;
    if (st != LT_OK) LT_GO(lt_context(err, st, "%s", path));
    if (t->n_ids == 0)
        LT_GO(lt_fail(err, LT_EDATA, "too little text: %zu tokens, one row needs %zu (%s)", seen, o->seq_len, path));
    LT_GO(cut_rows(t, &ids, o->seq_len, err));
    t->isolated = recipe->isolated;
    t->source = lt_strdup(lt_path_name(path));
    t->recipe = lt_strdup(recipe->name);
    snprintf(t->tokenizer_hash, sizeof t->tokenizer_hash, "%s", lt_tokenizer_hash(tok));
    st = t->source && t->recipe ? lt_tokens_seal(t, err) : lt_fail(err, LT_ENOMEM, "no memory for tokens");
done:
    lt_free(ids.end);
    lt_docs_clear(&docs);
    return st;
}

lt_status lt_tokens_from_data(lt_tokens *out, const char *path, const lt_tokenizer *tok, size_t vocab_size,
                              const lt_tokens_opts *o, lt_err *err) {
    const lt_recipe *recipe;
    lt_tokens t = { 0 };
    lt_status st;
    LT_TRY(find_recipe(&recipe, o->recipe ? o->recipe : "plain", err));
    if (lt_is_token_file(path)) {
        LT_GO(from_token_file(&t, path, tok, vocab_size, o->max_rows, err));
    } else {
        LT_REQUIRE(err, tok, "a tokenizer is needed for text (%s)", path);
        LT_REQUIRE(err, o->seq_len > 0, "rows of 0 tokens (%s)", path);
        LT_GO(from_text(&t, path, tok, recipe, o, err));
        LT_GO(check_ids(&t, vocab_size, path, err));
    }
    *out = t;
    return LT_OK;
done:
    lt_tokens_clear(&t);
    return st;
}
