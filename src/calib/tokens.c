/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calib/recipe.h"
#include "io/file.h"
#include "io/safetensors.h"

#define FORMAT "lathe-tokens/1"

void lt_tokens_clear(lt_tokens *t) {
    lt_free(t->ids);
    lt_free(t->row_start);
    lt_free(t->content_id);
    lt_free(t->source);
    lt_free(t->recipe);
    *t = (lt_tokens){ 0 };
}

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "tokens: out of memory");
}

/* ---- hashes: of integers as little-endian bytes, so that they mean the same everywhere ---- */

static void hash_u32s(lt_hash *h, const int32_t *v, size_t n) {
    uint8_t buf[1024];
    for (size_t i = 0; i < n;) {
        size_t used = 0;
        for (; i < n && used < sizeof buf; i++)
            for (int b = 0; b < 4; b++) buf[used++] = (uint8_t)((uint32_t)v[i] >> (8 * b));
        lt_hash_update(h, buf, used);
    }
}

static void hash_u64(lt_hash *h, uint64_t v) {
    uint8_t buf[8];
    for (int b = 0; b < 8; b++) buf[b] = (uint8_t)(v >> (8 * b));
    lt_hash_update(h, buf, sizeof buf);
}

static bool hash_row(uint64_t *id, const int32_t *ids, size_t n) {
    char hex[LT_HASH_HEX];
    lt_hash *h = lt_hash_create();
    if (!h) return false;
    hash_u32s(h, ids, n);
    lt_hash_finish(h, hex);
    hex[16] = 0;
    *id = strtoull(hex, NULL, 16);
    return true;
}

lt_status lt_tokens_seal(lt_tokens *t, lt_err *err) {
    lt_hash *h = lt_hash_create();
    if (!h) return no_memory(err);
    lt_hash_update(h, FORMAT, strlen(FORMAT));
    hash_u64(h, t->n_rows);
    for (size_t i = 0; i <= t->n_rows; i++) hash_u64(h, t->row_start[i]);
    hash_u32s(h, t->ids, t->n_ids);
    hash_u64(h, t->isolated);
    lt_hash_finish(h, t->hash);
    lt_free(t->content_id);
    t->content_id = lt_calloc(t->n_rows + 1, sizeof *t->content_id);
    if (!t->content_id) return no_memory(err);
    for (size_t i = 0; i < t->n_rows; i++)
        if (!hash_row(&t->content_id[i], t->ids + t->row_start[i], t->row_start[i + 1] - t->row_start[i]))
            return no_memory(err);
    return LT_OK;
}

/* ---- the file ---- */

static lt_status write_rows(lt_st_writer *w, const lt_tokens *t, lt_err *err) {
    LT_TRY(lt_st_writer_bytes(w, t->ids, t->n_ids * sizeof *t->ids, err));
    for (size_t i = 0; i <= t->n_rows; i++) {
        const int64_t start = (int64_t)t->row_start[i];
        LT_TRY(lt_st_writer_bytes(w, &start, sizeof start, err));
    }
    return lt_st_writer_bytes(w, t->content_id, t->n_rows * sizeof *t->content_id, err);
}

lt_status lt_tokens_save(const lt_tokens *t, const char *path, lt_err *err) {
    const struct {
        const char *key, *value;
    } meta[] = { { "format", FORMAT },
                 { "tokenizer_hash", t->tokenizer_hash },
                 { "hash", t->hash },
                 { "source", t->source ? t->source : "" },
                 { "recipe", t->recipe ? t->recipe : "" },
                 { "isolated", t->isolated ? "true" : "false" } };
    const size_t n_ids[] = { t->n_ids }, n_starts[] = { t->n_rows + 1 }, n_rows[] = { t->n_rows };
    lt_st_writer *w;
    lt_status st;
    LT_TRY(lt_st_writer_create(&w, path, err));
    for (size_t i = 0; i < LT_COUNTOF(meta); i++) LT_GO(lt_st_writer_meta(w, meta[i].key, meta[i].value, err));
    LT_GO(lt_st_writer_declare(w, "input_ids", LT_I32, 1, n_ids, err));
    LT_GO(lt_st_writer_declare(w, "row_starts", LT_I64, 1, n_starts, err));
    LT_GO(lt_st_writer_declare(w, "content_ids", LT_I64, 1, n_rows, err));
    LT_GO(lt_st_writer_begin(w, err));
    LT_GO(write_rows(w, t, err));
    return lt_st_writer_commit(w, err);
done:
    lt_st_writer_abort(w);
    return st;
}

static lt_status read_starts(lt_tokens *t, const lt_tensor *starts, const char *path, lt_err *err) {
    const int64_t *v = lt_host(starts);
    const size_t n = lt_tensor_count(starts);
    if (n < 1 || v[0] != 0 || (uint64_t)v[n - 1] != t->n_ids)
        return lt_fail(err, LT_EDATA, "row starts do not cover the ids (%s: row_starts)", path);
    t->n_rows = n - 1;
    t->row_start = lt_calloc(n, sizeof *t->row_start);
    if (!t->row_start) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && v[i] <= v[i - 1])
            return lt_fail(err, LT_EDATA, "row %zu is empty or runs backwards (%s: row_starts: %lld)", i - 1, path,
                           (long long)v[i]);
        t->row_start[i] = (size_t)v[i];
    }
    return LT_OK;
}

static lt_status copy_ids(lt_tokens *t, const lt_tensor *ids, lt_err *err) {
    t->n_ids = lt_tensor_count(ids);
    t->ids = lt_calloc(t->n_ids + 1, sizeof *t->ids);
    if (!t->ids) return no_memory(err);
    if (ids->dtype == LT_I32) {
        memcpy(t->ids, lt_host(ids), t->n_ids * sizeof *t->ids);
        return LT_OK;
    }
    const int64_t *wide = lt_host(ids);
    for (size_t i = 0; i < t->n_ids; i++) {
        if (wide[i] < 0 || wide[i] > INT32_MAX) return lt_fail(err, LT_EDATA, "id %zu is %lld", i, (long long)wide[i]);
        t->ids[i] = (int32_t)wide[i];
    }
    return LT_OK;
}

/* All ids >= 0: what a vocabulary is compared with later. */
static lt_status check_signs(const lt_tokens *t, const char *path, lt_err *err) {
    for (size_t i = 0; i < t->n_ids; i++)
        if (t->ids[i] < 0) return lt_fail(err, LT_EDATA, "negative id (%s: input_ids[%zu]: %d)", path, i, t->ids[i]);
    return LT_OK;
}

static lt_status read_ours(lt_tokens *t, const lt_safetensors *f, const char *path, lt_err *err) {
    const lt_tensor *ids, *starts;
    const char *hash = lt_safetensors_meta(f, "hash"), *tokenizer = lt_safetensors_meta(f, "tokenizer_hash");
    const char *source = lt_safetensors_meta(f, "source"), *recipe = lt_safetensors_meta(f, "recipe"),
               *isolated = lt_safetensors_meta(f, "isolated");
    LT_TRY(lt_safetensors_get(&ids, f, "input_ids", LT_I32, 1, err));
    LT_TRY(lt_safetensors_get(&starts, f, "row_starts", LT_I64, 1, err));
    LT_TRY(copy_ids(t, ids, err));
    LT_TRY(read_starts(t, starts, path, err));
    LT_TRY(check_signs(t, path, err));
    t->isolated = isolated && strcmp(isolated, "true") == 0;
    snprintf(t->tokenizer_hash, sizeof t->tokenizer_hash, "%s", tokenizer ? tokenizer : "");
    t->source = lt_strdup(source ? source : "");
    t->recipe = lt_strdup(recipe ? recipe : "");
    if (!t->source || !t->recipe) return no_memory(err);
    LT_TRY(lt_tokens_seal(t, err));
    if (hash && strcmp(hash, t->hash) == 0) return LT_OK;
    return lt_fail(err, LT_EDATA, "content does not match its hash: damaged or edited (%s)", path);
}

/* Somebody else's ids: one integer matrix, a row of the file per row of the set. */
static lt_status read_matrix(lt_tokens *t, const lt_safetensors *f, const char *path, lt_err *err) {
    const lt_tensor *ids = NULL;
    for (size_t i = 0; i < lt_safetensors_count(f); i++) {
        const lt_tensor *x = &lt_safetensors_at(f, i)->tensor;
        if (x->rank != 2 || (x->dtype != LT_I32 && x->dtype != LT_I64)) continue;
        if (ids)
            return lt_fail(err, LT_EDATA, "holds more than one integer matrix (%s: %s)", path,
                           lt_safetensors_at(f, i)->name);
        ids = x;
    }
    if (!ids || lt_tensor_count(ids) == 0)
        return lt_fail(err, LT_EDATA, "is neither " FORMAT " nor a file with one integer matrix [rows, length] (%s)",
                       path);
    const lt_status st = copy_ids(t, ids, err);
    if (st != LT_OK) return lt_context(err, st, "%s", path);
    t->n_rows = ids->size[0];
    t->row_start = lt_calloc(t->n_rows + 1, sizeof *t->row_start);
    t->source = lt_strdup(lt_path_name(path));
    t->recipe = lt_strdup("matrix");
    t->isolated = true;
    if (!t->row_start || !t->source || !t->recipe) return no_memory(err);
    for (size_t i = 0; i <= t->n_rows; i++) t->row_start[i] = i * ids->size[1];
    LT_TRY(check_signs(t, path, err));
    return lt_tokens_seal(t, err);
}

lt_status lt_tokens_load(lt_tokens *t, const char *path, lt_err *err) {
    lt_safetensors *f;
    lt_tokens new = { 0 };
    LT_TRY(lt_safetensors_open(&f, path, err));
    const char *format = lt_safetensors_meta(f, "format");
    const bool ours = format && strcmp(format, FORMAT) == 0;
    const lt_status st = ours ? read_ours(&new, f, path, err) : read_matrix(&new, f, path, err);
    lt_safetensors_close(f);
    if (st == LT_OK)
        *t = new;
    else
        lt_tokens_clear(&new);
    return st;
}

/* ---- batches ---- */

static size_t row_len(const lt_tokens *t, size_t row) {
    return t->row_start[row + 1] - t->row_start[row];
}

/* Rows [first, end) make a batch: at least one, together at most max_tokens. */
static size_t batch_end(const lt_tokens *t, size_t first, size_t max_tokens) {
    size_t end = first + 1, tokens = row_len(t, first);
    while (end < t->n_rows && tokens + row_len(t, end) <= max_tokens) tokens += row_len(t, end++);
    return end;
}

lt_status lt_tokens_batches(lt_batch **out, size_t *n, const lt_tokens *t, size_t max_tokens_per_batch, lt_err *err) {
    lt_batch *b = lt_calloc(t->n_rows + 1, sizeof *b);
    lt_piece *pieces = lt_calloc(t->n_rows + 1, sizeof *pieces);
    if (!b || !pieces) {
        lt_free(b);
        lt_free(pieces);
        return no_memory(err);
    }
    size_t count = 0;
    b[0].piece = pieces; /* the list owns them through its first entry */
    for (size_t row = 0; row < t->n_rows;) {
        const size_t end = batch_end(t, row, max_tokens_per_batch), start = t->row_start[row];
        b[count] = (lt_batch){
            .n_rows = t->row_start[end] - start, .n_pieces = end - row, .ids = t->ids + start, .piece = pieces + row
        };
        for (; row < end; row++)
            pieces[row] = (lt_piece){
                .row = t->row_start[row] - start, .n = row_len(t, row), .parent = -1, .seq = (uint32_t)row
            };
        count++;
    }
    *out = b;
    *n = count;
    return LT_OK;
}

void lt_batches_free(lt_batch *b, size_t n) {
    (void)n;
    if (b) lt_free((void *)b[0].piece);
    lt_free(b);
}
