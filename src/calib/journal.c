/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/journal.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "journal: out of memory");
}

static char *layer_path(const lt_journal *j, int layer) {
    if (layer < 0) return lt_asprintf("%s/%s.safetensors", j->folder, layer == LT_CALIB_GRADS ? "grads" : "head");
    return lt_asprintf("%s/layer-%05d.safetensors", j->folder, layer);
}

/* ---- one layer's file ---- */

typedef struct tensor {
    const lt_calib_site *site;
    size_t stat;
} tensor;

/* The tensors of a layer in order; false past the end. */
static bool tensor_at(const lt_calib_sites *s, int layer, size_t i, tensor *out) {
    for (size_t n = 0; n < s->n; n++)
        for (size_t k = 0; s->site[n].layer == layer && k < LT_N_STATS; k++) {
            if (!(s->site[n].kept >> k & 1u) || i-- > 0) continue;
            *out = (tensor){ &s->site[n], k };
            return true;
        }
    return false;
}

static size_t doubles_of(const tensor *t) {
    return lt_stat_rows[t->stat]->doubles(t->site->cols);
}
static char *name_of(const tensor *t) {
    return lt_asprintf("%s.%s", t->site->name, lt_stat_rows[t->stat]->name);
}

static lt_status digest(char hex[LT_HASH_HEX], const lt_calib_sites *s, int layer, const lt_safetensors *file,
                        lt_err *err) {
    tensor t;
    lt_status st = LT_OK;
    lt_hash *h = lt_hash_create();
    if (!h) return no_memory(err);
    for (size_t i = 0; st == LT_OK && tensor_at(s, layer, i, &t); i++) {
        const void *values = t.site->acc[t.stat];
        const lt_tensor *stored = NULL;
        char *name = name_of(&t);
        if (!name)
            st = no_memory(err);
        else if (file)
            st = lt_safetensors_get(&stored, file, name, LT_F64, 1, err);
        if (st == LT_OK && stored && stored->size[0] != doubles_of(&t))
            st = lt_fail(err, LT_EDATA, "journal: wrong size (%s)", name);
        if (st == LT_OK) lt_hash_update(h, name, strlen(name));
        if (st == LT_OK) lt_hash_update(h, stored ? lt_host(stored) : values, doubles_of(&t) * sizeof(double));
        lt_free(name);
        if (stored) lt_tensor_drop(stored);
    }
    lt_hash_finish(h, hex);
    return st;
}

static lt_status write_layer(lt_st_writer *w, const lt_calib_sites *s, int layer, lt_err *err) {
    tensor t;
    for (size_t i = 0; tensor_at(s, layer, i, &t); i++) {
        const size_t n = doubles_of(&t);
        char *name = name_of(&t);
        if (!name) return no_memory(err);
        const lt_status st = lt_st_writer_declare(w, name, LT_F64, 1, &n, err);
        lt_free(name);
        if (st != LT_OK) return st;
    }
    LT_TRY(lt_st_writer_begin(w, err));
    for (size_t i = 0; tensor_at(s, layer, i, &t); i++)
        LT_TRY(lt_st_writer_bytes(w, t.site->acc[t.stat], doubles_of(&t) * sizeof(double), err));
    return LT_OK;
}

lt_status lt_journal_put(const lt_journal *j, const lt_calib_sites *sites, int layer, lt_err *err) {
    char hex[LT_HASH_HEX], *path = layer_path(j, layer);
    lt_st_writer *w = NULL;
    lt_status st;
    if (!path) return no_memory(err);
    LT_GO(digest(hex, sites, layer, NULL, err));
    LT_GO(lt_st_writer_create(&w, path, err));
    LT_GO(lt_st_writer_meta(w, "sha256", hex, err));
    LT_GO(write_layer(w, sites, layer, err));
    st = lt_st_writer_commit(w, err);
    w = NULL;
done:
    if (w) lt_st_writer_abort(w);
    lt_free(path);
    return st;
}

/* A missing, damaged or foreign file is a layer that is not done. */
static bool is_whole(const lt_journal *j, const lt_calib_sites *sites, int layer) {
    char hex[LT_HASH_HEX], *path = layer_path(j, layer);
    lt_safetensors *f = NULL;
    bool whole = path && lt_path_exists(path) && lt_safetensors_open(&f, path, NULL) == LT_OK;
    if (whole) {
        const char *stored = lt_safetensors_meta(f, "sha256");
        whole = stored && digest(hex, sites, layer, f, NULL) == LT_OK && strcmp(stored, hex) == 0;
        lt_safetensors_close(f);
    }
    lt_free(path);
    return whole;
}

/* ---- the folder ---- */

/* Members of the caller's settings by their own names. */
static const char *first_difference(const json_t *was, const json_t *is, const json_t **a, const json_t **b) {
    const char *key = lt_settings_differ(was, is, NULL);
    *a = was;
    *b = is;
    if (!key || strcmp(key, "settings") != 0) return key;
    *a = json_object_get(was, key);
    *b = json_object_get(is, key);
    const char *inner = lt_settings_differ(*a, *b, NULL);
    return inner ? inner : key;
}

static lt_status check_settings(const lt_journal *j, const char *path, const json_t *settings, lt_err *err) {
    json_t *was = NULL;
    const json_t *a, *b;
    LT_TRY(lt_json_load(&was, path, err));
    const char *key = first_difference(was, settings, &a, &b);
    lt_status st = LT_OK;
    if (key) {
        char *x = json_dumps(json_object_get(a, key), JSON_ENCODE_ANY | JSON_COMPACT),
             *y = json_dumps(json_object_get(b, key), JSON_ENCODE_ANY | JSON_COMPACT);
        st = lt_fail(
            err, LT_EUSAGE,
            "unfinished work has other settings: %s was %.80s, now %.80s; repeat the first command or remove %s", key,
            x ? x : "unset", y ? y : "unset", j->folder);
        free(x);
        free(y);
    }
    json_decref(was);
    return st;
}

static lt_status enter(lt_journal *j, const json_t *settings, lt_err *err) {
    char *path = lt_path_join(j->folder, "settings.json");
    if (!path) return no_memory(err);
    j->found = lt_path_exists(path);
    const lt_status st = j->found ? check_settings(j, path, settings, err) : lt_json_save(settings, path, err);
    lt_free(path);
    return st;
}

lt_status lt_journal_open(lt_journal *j, const char *out_path, const json_t *settings, const lt_calib_sites *sites,
                          lt_err *err) {
    lt_status st = LT_OK;
    *j = (lt_journal){ .folder = lt_asprintf("%s.partial", out_path) };
    j->state_path = j->folder ? lt_path_join(j->folder, "state.safetensors") : NULL;
    if (!j->state_path) LT_GO(no_memory(err));
    LT_GO(lt_lock_acquire(&j->lock, j->folder, err));
    j->locked = true;
    LT_GO(enter(j, settings, err));
    while (j->n_layers_done < sites->n_layers && is_whole(j, sites, (int)j->n_layers_done)) j->n_layers_done++;
    j->head_done = lt_calib_sites_find(sites, LT_SITE_HEAD_IN, -1) == NULL || is_whole(j, sites, -1);
    j->grads_done = lt_calib_sites_bytes(sites, LT_CALIB_GRADS) == 0 || is_whole(j, sites, LT_CALIB_GRADS);
done:
    if (st != LT_OK) lt_journal_close(j);
    return st;
}

void lt_journal_close(lt_journal *j) {
    if (j->locked) lt_lock_release(j->lock);
    lt_free(j->folder);
    lt_free(j->state_path);
    *j = (lt_journal){ 0 };
}

lt_status lt_journal_remove(lt_journal *j, lt_err *err) {
    return lt_remove_tree(j->folder, err);
}

/* ---- the result ---- */

/* Files are opened as they are asked for, one at a time: sites come layer by layer. */
typedef struct reader {
    const lt_journal *j;
    const lt_calib_sites *sites;
    int layer;
    lt_safetensors *file;
} reader;

static lt_status turn_to(reader *r, int layer, lt_err *err) {
    if (r->file && r->layer == layer) return LT_OK;
    lt_safetensors_close(r->file);
    r->file = NULL;
    char *path = layer_path(r->j, layer);
    if (!path) return no_memory(err);
    const lt_status st = lt_safetensors_open(&r->file, path, err);
    lt_free(path);
    r->layer = layer;
    return st;
}

static const lt_calib_site *site_named(const lt_calib_sites *s, const char *name) {
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->site[i].name, name) == 0) return &s->site[i];
    return NULL;
}

static lt_status read_sums(void *user, const char *site, size_t cols, const lt_stat *stat, const double **values,
                           lt_err *err) {
    reader *r = user;
    const lt_calib_site *at = site_named(r->sites, site);
    const lt_tensor *t;
    (void)cols;
    LT_TRY(turn_to(r, at->layer, err));
    char *name = lt_asprintf("%s.%s", site, stat->name);
    if (!name) return no_memory(err);
    const lt_status st = lt_safetensors_get(&t, r->file, name, LT_F64, 1, err);
    lt_free(name);
    if (st == LT_OK) *values = lt_host(t);
    return st;
}

lt_status lt_journal_assemble(const lt_journal *j, const lt_calib_sites *sites, const char *path,
                              const lt_stats_head *head, lt_err *err) {
    reader r = { .j = j, .sites = sites };
    char *whole = lt_path_join(j->folder, "stats.safetensors"); /* a kill leaves nothing beside the output */
    if (!whole) return no_memory(err);
    lt_status st = lt_stats_write(whole, head, 0, read_sums, &r, err);
    if (st == LT_OK) st = lt_rename(whole, path, err);
    lt_safetensors_close(r.file);
    lt_free(whole);
    return st;
}
