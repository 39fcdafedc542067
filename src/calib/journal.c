/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/journal.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "journal: out of memory");
}

static char *layer_path(const lt_journal *j, int layer) {
    if (layer < 0) return lt_asprintf("%s/%s.json", j->folder, layer == LT_CALIB_GRADS ? "grads" : "head");
    return lt_asprintf("%s/layer-%05d.json", j->folder, layer);
}

/* ---- one layer ---- */

typedef struct tensor {
    const lt_calib_site *site;
    size_t stat, n;
    char hex[LT_HASH_HEX];
} tensor;
typedef struct layer {
    lt_stats_parts *parts;
    tensor *t; /* the longest first */
    size_t n;
} layer;

static int longest_first(const void *a, const void *b) {
    const tensor *x = a, *y = b;
    return (x->n < y->n) - (x->n > y->n);
}

static lt_status list_layer(layer *out, lt_stats_parts *parts, const lt_calib_sites *s, int which, lt_err *err) {
    *out = (layer){ .parts = parts, .t = lt_calloc(s->n * LT_N_STATS + 1, sizeof *out->t) };
    if (!out->t) return no_memory(err);
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; s->site[i].layer == which && k < LT_N_STATS; k++)
            if (s->site[i].kept >> k & 1u)
                out->t[out->n++] = (tensor){ &s->site[i], k, lt_stat_rows[k]->doubles(s->site[i].cols), "" };
    qsort(out->t, out->n, sizeof *out->t, longest_first);
    return LT_OK;
}

/* Two pieces of work per tensor, about as long, so that one that is larger than all others keeps two threads busy. */
static lt_status put_or_digest(void *user, size_t i, lt_err *err) {
    const layer *l = user;
    tensor *t = &l->t[i / 2];
    const double *values = t->site->acc[t->stat];
    return i % 2 ? lt_stats_parts_digest(t->hex, l->parts, t->stat, values, t->n, err)
                 : lt_stats_parts_put(l->parts, t->site->name, t->stat, values, t->n, err);
}

static lt_status digests_of(json_t **out, const layer *l, lt_err *err) {
    json_t *digests = *out = json_object();
    for (size_t i = 0; digests && i < l->n; i++) {
        char *name = lt_asprintf("%s.%s", l->t[i].site->name, lt_stat_rows[l->t[i].stat]->name);
        const int failed = !name || json_object_set_new(digests, name, json_string(l->t[i].hex)) != 0;
        lt_free(name);
        if (failed) return no_memory(err);
    }
    return digests ? LT_OK : no_memory(err);
}

static lt_status save_digests(const lt_journal *j, int which, const json_t *digests, lt_err *err) {
    char *path = layer_path(j, which), *text = lt_json_canonical(digests);
    const lt_status st = path && text ? lt_file_write_soon(path, text, strlen(text), err) : no_memory(err);
    lt_free(path);
    lt_free(text);
    return st;
}

lt_status lt_journal_put(lt_journal *j, const lt_calib_sites *sites, int which, lt_team *team, lt_err *err) {
    layer l;
    json_t *digests = NULL;
    lt_status st;
    LT_GO(list_layer(&l, j->parts, sites, which, err));
    LT_GO(lt_team_for(team, 2 * l.n, put_or_digest, &l, err));
    LT_GO(digests_of(&digests, &l, err));
    LT_GO(save_digests(j, which, digests, err));
    if (json_object_update(j->digests, digests) != 0) st = no_memory(err);
done:
    json_decref(digests);
    lt_free(l.t);
    return st;
}

static bool names_all(const json_t *digests, const layer *l) {
    bool all = json_object_size(digests) == l->n;
    for (size_t i = 0; all && i < l->n; i++) {
        char *name = lt_asprintf("%s.%s", l->t[i].site->name, lt_stat_rows[l->t[i].stat]->name);
        all = name && json_object_get(digests, name);
        lt_free(name);
    }
    return all;
}

/* A missing, damaged or foreign record, or sums that differ from it, are a layer that is not done. */
static bool is_whole(const lt_journal *j, const lt_calib_sites *sites, int which) {
    char *path = layer_path(j, which);
    json_t *digests = NULL;
    layer l = { 0 };
    const bool whole = path && lt_path_exists(path) && lt_json_load(&digests, path, NULL) == LT_OK &&
                       json_is_object(digests) && list_layer(&l, j->parts, sites, which, NULL) == LT_OK &&
                       names_all(digests, &l) && lt_stats_parts_hold(j->parts, digests) &&
                       json_object_update(j->digests, digests) == 0;
    json_decref(digests);
    lt_free(l.t);
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

static lt_status open_parts(lt_journal *j, const lt_stats_head *head, lt_err *err) {
    char *path = lt_path_join(j->folder, "stats.safetensors"); /* a kill leaves nothing beside the output */
    const lt_status st = path ? lt_stats_parts_open(&j->parts, path, head, err) : no_memory(err);
    lt_free(path);
    return st;
}

lt_status lt_journal_open(lt_journal *j, const char *out_path, const json_t *settings, const lt_calib_sites *sites,
                          const lt_stats_head *head, lt_err *err) {
    lt_status st = LT_OK;
    *j = (lt_journal){ .folder = lt_asprintf("%s.partial", out_path), .digests = json_object() };
    j->state_path = j->folder ? lt_path_join(j->folder, "state.safetensors") : NULL;
    if (!j->state_path || !j->digests) LT_GO(no_memory(err));
    LT_GO(lt_lock_acquire(&j->lock, j->folder, err));
    j->locked = true;
    LT_GO(enter(j, settings, err));
    LT_GO(open_parts(j, head, err));
    while (j->n_layers_done < sites->n_layers && is_whole(j, sites, (int)j->n_layers_done)) j->n_layers_done++;
    j->head_done = lt_calib_sites_find(sites, LT_SITE_HEAD_IN, -1) == NULL || is_whole(j, sites, -1);
    j->grads_done = lt_calib_sites_bytes(sites, LT_CALIB_GRADS) == 0 || is_whole(j, sites, LT_CALIB_GRADS);
done:
    if (st != LT_OK) lt_journal_close(j);
    return st;
}

void lt_journal_close(lt_journal *j) {
    lt_stats_parts_close(j->parts);
    json_decref(j->digests);
    if (j->locked) lt_lock_release(j->lock);
    lt_free(j->folder);
    lt_free(j->state_path);
    *j = (lt_journal){ 0 };
}

lt_status lt_journal_remove(lt_journal *j, lt_err *err) {
    return lt_remove_tree(j->folder, err);
}

lt_status lt_journal_finish(lt_journal *j, const char *path, lt_err *err) {
    char *whole = lt_path_join(j->folder, "stats.safetensors");
    if (!whole) return no_memory(err);
    lt_status st = lt_stats_parts_commit(j->parts, j->digests, err);
    j->parts = NULL;
    if (st == LT_OK) st = lt_rename(whole, path, err);
    lt_free(whole);
    return st;
}
