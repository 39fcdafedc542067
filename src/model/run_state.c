/* SPDX-License-Identifier: Apache-2.0 */
#include "model/run_state.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/hash.h"
#include "io/file.h"

static const char format[] = "lathe-run-state/1";

/* ---- life ---- */

static bool digest_batches(char hex[LT_HASH_HEX], const lt_batch *b, size_t n) {
    lt_hash *h = lt_hash_create();
    if (!h) return false;
    for (size_t i = 0; i < n; i++) {
        char line[96];
        for (size_t p = 0; p < b[i].n_pieces; p++) {
            const lt_piece *q = &b[i].piece[p];
            const int len = snprintf(line, sizeof line, "%zu %zu %zu %d\n", q->row, q->n, q->pos0, (int)q->parent);
            lt_hash_update(h, line, (size_t)len);
        }
        lt_hash_update(h, b[i].ids, b[i].n_rows * sizeof *b[i].ids);
    }
    lt_hash_finish(h, hex);
    return true;
}

/* A spill file without a resume point goes away with the run. */
static char *temporary_path(const lt_ctx *ctx) {
    static _Atomic unsigned serial;
    char *folder = lt_spill_folder(ctx, NULL);
    char *path =
        folder ? lt_asprintf("%s/lathe-spill-%ld-%u.safetensors", folder, (long)getpid(), atomic_fetch_add(&serial, 1))
               : NULL;
    lt_free(folder);
    return path;
}

lt_status lt_run_state_init(lt_run_state *s, const lt_run_in *in, bool in_memory, lt_err *err) {
    *s = (lt_run_state){ .batches = in->batches, .n_batches = in->n_batches, .d = in->model->config.d_model };
    s->first_row = lt_calloc(lt_max_size(1, in->n_batches), sizeof *s->first_row);
    for (size_t i = 0; s->first_row && i < in->n_batches; i++) {
        s->first_row[i] = s->n_rows;
        s->n_rows += in->batches[i].n_rows;
    }
    s->temporary = !in_memory && !in->state_path;
    bool ok = s->first_row && digest_batches(s->digest, in->batches, in->n_batches);
    if (ok && in_memory) ok = (s->hidden = lt_calloc(lt_max_size(1, s->n_rows * s->d), sizeof *s->hidden)) != NULL;
    if (ok && (in->state_path || s->temporary))
        ok = (s->path = in->state_path ? lt_strdup(in->state_path) : temporary_path(in->ctx)) != NULL;
    if (ok) return LT_OK;
    lt_run_state_clear(s);
    return lt_fail(err, LT_ENOMEM, "out of memory (hidden states: %zu x %zu)", s->n_rows, s->d);
}

static void drop_hash(lt_run_state *s) {
    char unused[LT_HASH_HEX];
    if (s->hash) lt_hash_finish(s->hash, unused);
    s->hash = NULL;
}

void lt_run_state_clear(lt_run_state *s) {
    if (s->next) lt_st_writer_abort(s->next);
    if (s->file) lt_safetensors_close(s->file);
    if (s->temporary && s->path) (void)unlink(s->path);
    drop_hash(s);
    lt_free(s->first_row);
    lt_free(s->hidden);
    lt_free(s->path);
    s->next = NULL;
    s->file = NULL;
    s->first_row = NULL;
    s->hidden = NULL;
    s->path = NULL;
}

/* ---- reading ---- */

/* Rows of one batch as a view of the file. */
static lt_tensor view_of(const lt_run_state *s, size_t batch) {
    lt_tensor t = *lt_safetensors_find(s->file, "hidden");
    t.offset += s->first_row[batch] * s->d * sizeof(float);
    t.size[0] = s->batches[batch].n_rows;
    return t;
}

const float *lt_run_state_get(const lt_run_state *s, size_t batch) {
    if (s->hidden) return s->hidden + s->first_row[batch] * s->d;
    const lt_tensor t = view_of(s, batch);
    return lt_host(&t);
}

void lt_run_state_release(const lt_run_state *s, size_t batch) {
    if (s->hidden || !s->file) return;
    const lt_tensor t = view_of(s, batch);
    lt_tensor_drop(&t);
}

static lt_status check_sum(const lt_run_state *s, const lt_tensor *sum, lt_err *err) {
    char hex[LT_HASH_HEX];
    lt_hash *h = lt_hash_create();
    if (!h) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", s->path);
    for (size_t i = 0; i < s->n_batches; i++) {
        const lt_tensor t = view_of(s, i);
        lt_hash_update(h, lt_host(&t), lt_tensor_bytes(&t));
        lt_tensor_drop(&t);
    }
    lt_hash_finish(h, hex);
    return memcmp(hex, lt_host(sum), LT_HASH_HEX - 1) == 0
               ? LT_OK
               : lt_fail(err, LT_EDATA, "state is damaged: checksum differs (%s)", s->path);
}

static lt_status check_file(const lt_run_state *s, size_t *next_layer, lt_err *err) {
    const lt_tensor *hidden, *sum;
    const char *form = lt_safetensors_meta(s->file, "format"), *layer = lt_safetensors_meta(s->file, "next_layer");
    const char *batches = lt_safetensors_meta(s->file, "batches");
    if (!form || strcmp(form, format) != 0 || !layer || !batches)
        return lt_fail(err, LT_EDATA, "file is not a %s (%s)", format, s->path);
    LT_TRY(lt_safetensors_get(&hidden, s->file, "hidden", LT_F32, 2, err));
    LT_TRY(lt_safetensors_get(&sum, s->file, "checksum", LT_U8, 1, err));
    if (strcmp(batches, s->digest) != 0 || hidden->size[0] != s->n_rows || hidden->size[1] != s->d ||
        sum->size[0] != LT_HASH_HEX - 1)
        return lt_fail(err, LT_EDATA, "state belongs to other batches (%s)", s->path);
    *next_layer = (size_t)strtoull(layer, NULL, 10);
    return check_sum(s, sum, err);
}

lt_status lt_run_state_load(lt_run_state *s, size_t *next_layer, lt_err *err) {
    *next_layer = 0;
    if (!s->path || !lt_path_exists(s->path)) return LT_OK;
    LT_TRY(lt_safetensors_open(&s->file, s->path, err));
    LT_TRY(check_file(s, next_layer, err));
    if (!s->hidden) return LT_OK;
    memcpy(s->hidden, lt_host(lt_safetensors_find(s->file, "hidden")), s->n_rows * s->d * sizeof *s->hidden);
    lt_safetensors_close(s->file);
    s->file = NULL;
    return LT_OK;
}

/* ---- writing ---- */

static lt_status begin_file(lt_run_state *s, size_t next_layer, lt_err *err) {
    char layer[32];
    snprintf(layer, sizeof layer, "%zu", next_layer);
    s->hash = lt_hash_create();
    if (!s->hash) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", s->path);
    LT_TRY(lt_st_writer_create(&s->next, s->path, err));
    LT_TRY(lt_st_writer_meta(s->next, "format", format, err));
    LT_TRY(lt_st_writer_meta(s->next, "next_layer", layer, err));
    LT_TRY(lt_st_writer_meta(s->next, "batches", s->digest, err));
    LT_TRY(lt_st_writer_declare(s->next, "hidden", LT_F32, 2, (size_t[]){ s->n_rows, s->d }, err));
    LT_TRY(lt_st_writer_declare(s->next, "checksum", LT_U8, 1, (size_t[]){ LT_HASH_HEX - 1 }, err));
    return lt_st_writer_begin(s->next, err);
}

static lt_status put_file(lt_run_state *s, const float *rows, size_t bytes, lt_err *err) {
    lt_hash_update(s->hash, rows, bytes);
    return lt_st_writer_bytes(s->next, rows, bytes, err);
}

static lt_status commit_file(lt_run_state *s, lt_err *err) {
    char hex[LT_HASH_HEX];
    lt_hash_finish(s->hash, hex);
    s->hash = NULL;
    LT_TRY(lt_st_writer_bytes(s->next, hex, LT_HASH_HEX - 1, err));
    lt_st_writer *w = s->next;
    s->next = NULL;
    LT_TRY(lt_st_writer_commit(w, err));
    if (s->hidden) return LT_OK;
    if (s->file) lt_safetensors_close(s->file);
    s->file = NULL;
    return lt_safetensors_open(&s->file, s->path, err);
}

lt_status lt_run_state_begin(lt_run_state *s, size_t next_layer, lt_err *err) {
    return s->hidden ? LT_OK : begin_file(s, next_layer, err);
}

lt_status lt_run_state_put(lt_run_state *s, size_t batch, const float *rows, lt_err *err) {
    const size_t bytes = s->batches[batch].n_rows * s->d * sizeof *rows;
    if (!s->hidden) return put_file(s, rows, bytes, err);
    memcpy(s->hidden + s->first_row[batch] * s->d, rows, bytes);
    return LT_OK;
}

lt_status lt_run_state_commit(lt_run_state *s, size_t next_layer, lt_err *err) {
    if (!s->path) return LT_OK;
    if (s->hidden) {
        LT_TRY(begin_file(s, next_layer, err));
        LT_TRY(put_file(s, s->hidden, s->n_rows * s->d * sizeof *s->hidden, err));
    }
    return commit_file(s, err);
}
