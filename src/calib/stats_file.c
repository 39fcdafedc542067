/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/stats_file.h"

#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"

const char *const lt_stats_ids[LT_N_STATS_IDS] = { "model_hash", "tokenizer_hash", "tokens_hash", "settings" };

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "stats: out of memory");
}

/* ---- the hash: the header's identity, then name and digest of each tensor ---- */

static void hash_line(lt_hash *h, const char *a, const char *b) {
    lt_hash_update(h, a, strlen(a));
    lt_hash_update(h, "=", 1);
    lt_hash_update(h, b, strlen(b));
    lt_hash_update(h, "\n", 1);
}

lt_status lt_stats_hash_begin(lt_stats_hasher *s, const lt_stats_head *head, lt_err *err) {
    char *sites = lt_json_canonical(head->sites);
    s->h = sites ? lt_hash_create() : NULL;
    if (!s->h) return lt_free(sites), no_memory(err);
    hash_line(s->h, "format", LT_STATS_FORMAT);
    for (size_t i = 0; i < LT_N_STATS_IDS; i++) hash_line(s->h, lt_stats_ids[i], head->id[i]);
    hash_line(s->h, "sites", sites);
    lt_free(sites);
    return LT_OK;
}

void lt_stats_hash_tensor(lt_stats_hasher *s, const char *name, const char *hex) {
    hash_line(s->h, name, hex);
}

void lt_stats_hash_end(lt_stats_hasher *s, char hex[LT_HASH_HEX]) {
    char unused[LT_HASH_HEX];
    if (s->h) lt_hash_finish(s->h, hex ? hex : unused);
    s->h = NULL;
}

/* ---- writing ---- */

typedef struct visit {
    const lt_stats_head *head;
    lt_stat_set set;
    lt_stats_source values;
    void *user;
    float *narrow; /* of the tensor being asked for, when f32 is stored */
    size_t cap;
} visit;
/* A tensor as it is stored. */
typedef struct stored {
    const char *name;
    lt_dtype dtype;
    size_t n;
    const void *values; /* NULL: only declared */
} stored;
typedef lt_status (*visitor)(void *self, const stored *t, lt_err *err);

static size_t stored_bytes(const stored *t) {
    return t->n * lt_dtype_get(t->dtype)->bytes;
}

static lt_status narrow(visit *v, stored *t, const double *values, lt_err *err) {
    if (t->n > v->cap) {
        lt_free(v->narrow);
        v->narrow = lt_calloc(t->n, sizeof *v->narrow);
        v->cap = v->narrow ? t->n : 0;
        if (!v->narrow) return no_memory(err);
    }
    for (size_t i = 0; i < t->n; i++) v->narrow[i] = (float)values[i];
    t->values = v->narrow;
    return LT_OK;
}

static lt_dtype stored_dtype(const lt_stats_head *head, size_t stat) {
    return head->f32 && stat != LT_STAT_COUNT ? LT_F32 : LT_F64;
}

static lt_status visit_one(visit *v, bool with_values, const char *site, size_t cols, size_t stat, visitor fn,
                           void *self, lt_err *err) {
    const lt_stat *row = lt_stat_rows[stat];
    const double *values = NULL;
    char *name = lt_asprintf("%s.%s", site, row->name);
    stored t = { name, stored_dtype(v->head, stat), row->doubles(cols), NULL };
    lt_status st = name ? LT_OK : no_memory(err);
    if (st == LT_OK && with_values) st = v->values(v->user, site, cols, row, &values, err);
    if (st == LT_OK && with_values && t.dtype == LT_F32)
        st = narrow(v, &t, values, err);
    else
        t.values = values;
    if (st == LT_OK) st = fn(self, &t, err);
    lt_free(name);
    return st;
}

/* Every tensor in the file's order; values only when asked for. */
static lt_status visit_all(visit *v, bool with_values, visitor fn, void *self, lt_err *err) {
    const char *site;
    json_t *info;
    size_t n = 0;
    json_object_foreach(v->head->sites, site, info) {
        const size_t cols = (size_t)json_integer_value(json_object_get(info, "cols"));
        const lt_stat_set set = v->head->sets ? v->head->sets[n] : v->set;
        for (size_t i = 0; i < LT_N_STATS; i++)
            if (set >> i & 1u) LT_TRY(visit_one(v, with_values, site, cols, i, fn, self, err));
        n++;
    }
    return LT_OK;
}

static lt_status hash_one(void *self, const stored *t, lt_err *err) {
    char hex[LT_HASH_HEX];
    (void)err;
    lt_hash_bytes(t->values, stored_bytes(t), hex);
    lt_stats_hash_tensor(self, t->name, hex);
    return LT_OK;
}

static lt_status declare_one(void *self, const stored *t, lt_err *err) {
    return lt_st_writer_declare(self, t->name, t->dtype, 1, &t->n, err);
}

static lt_status write_one(void *self, const stored *t, lt_err *err) {
    return lt_st_writer_bytes(self, t->values, stored_bytes(t), err);
}

static lt_status write_meta(lt_st_writer *w, const lt_stats_head *head, const char *hash, lt_err *err) {
    char *sites = json_dumps(head->sites, JSON_COMPACT);
    lt_status st = sites ? LT_OK : no_memory(err);
    if (st == LT_OK) st = lt_st_writer_meta(w, "format", LT_STATS_FORMAT, err);
    if (st == LT_OK) st = lt_st_writer_meta(w, "kind", "input_gram", err);
    for (size_t i = 0; i < LT_N_STATS_IDS && st == LT_OK; i++)
        st = lt_st_writer_meta(w, lt_stats_ids[i], head->id[i], err);
    if (st == LT_OK) st = lt_st_writer_meta(w, "source", head->source, err);
    if (st == LT_OK) st = lt_st_writer_meta(w, "machine", head->machine, err);
    if (st == LT_OK) st = lt_st_writer_meta(w, "sites", sites, err);
    if (st == LT_OK) st = lt_st_writer_meta(w, "hash", hash, err);
    free(sites);
    return st;
}

static lt_status hash_all(char hex[LT_HASH_HEX], visit *v, lt_err *err) {
    lt_stats_hasher s = { 0 };
    lt_status st;
    LT_GO(lt_stats_hash_begin(&s, v->head, err));
    st = visit_all(v, true, hash_one, &s, err);
done:
    lt_stats_hash_end(&s, hex);
    return st;
}

lt_status lt_stats_write(const char *path, const lt_stats_head *head, lt_stat_set set, lt_stats_source values,
                         void *user, lt_err *err) {
    visit v = { .head = head, .set = set, .values = values, .user = user };
    char hash[LT_HASH_HEX] = "";
    lt_st_writer *w = NULL;
    lt_status st;
    LT_GO(hash_all(hash, &v, err));
    LT_GO(lt_st_writer_create(&w, path, err));
    LT_GO(write_meta(w, head, hash, err));
    LT_GO(visit_all(&v, false, declare_one, w, err));
    LT_GO(lt_st_writer_begin(w, err));
    LT_GO(visit_all(&v, true, write_one, w, err));
    st = lt_st_writer_commit(w, err);
    w = NULL;
done:
    if (w) lt_st_writer_abort(w);
    lt_free(v.narrow);
    return st;
}

/* ---- part by part ---- */

struct lt_stats_parts {
    char *path;
    const lt_stats_head *head;
    lt_st_writer *file;
};

void lt_stats_parts_close(lt_stats_parts *p) {
    if (!p) return;
    lt_st_writer_abort(p->file);
    lt_free(p->path);
    lt_free(p);
}

lt_status lt_stats_parts_open(lt_stats_parts **out, const char *path, const lt_stats_head *head, lt_err *err) {
    static const char unknown[] = "0000000000000000000000000000000000000000000000000000000000000000";
    visit v = { .head = head };
    lt_stats_parts *p = lt_calloc(1, sizeof *p);
    lt_status st;
    if (!p) return no_memory(err);
    p->head = head;
    if (!(p->path = lt_strdup(path))) LT_GO(no_memory(err));
    LT_GO(lt_st_writer_open(&p->file, path, err));
    LT_GO(write_meta(p->file, head, unknown, err));
    LT_GO(visit_all(&v, false, declare_one, p->file, err));
    st = lt_st_writer_begin(p->file, err);
done:
    if (st == LT_OK)
        *out = p;
    else
        lt_stats_parts_close(p);
    return st;
}

/* What is stored of values, piece by piece. */
typedef lt_status (*piece_visitor)(void *self, size_t at, const void *data, size_t bytes, lt_err *err);

static lt_status each_piece(lt_dtype dtype, const double *values, size_t n, piece_visitor fn, void *self, lt_err *err) {
    enum { PIECE = 8192 };
    float some[PIECE];
    if (dtype == LT_F64) return fn(self, 0, values, n * sizeof *values, err);
    for (size_t i = 0; i < n; i += PIECE) {
        const size_t m = lt_min_size(PIECE, n - i);
        for (size_t j = 0; j < m; j++) some[j] = (float)values[i + j];
        LT_TRY(fn(self, i * sizeof *some, some, m * sizeof *some, err));
    }
    return LT_OK;
}

static lt_status hash_piece(void *self, size_t at, const void *data, size_t bytes, lt_err *err) {
    (void)at, (void)err;
    lt_hash_update(self, data, bytes);
    return LT_OK;
}

lt_status lt_stats_parts_digest(char hex[LT_HASH_HEX], const lt_stats_parts *p, size_t stat, const double *values,
                                size_t n, lt_err *err) {
    lt_hash *h = lt_hash_create();
    if (!h) return no_memory(err);
    const lt_status st = each_piece(stored_dtype(p->head, stat), values, n, hash_piece, h, err);
    lt_hash_finish(h, hex);
    return st;
}

typedef struct putting {
    const lt_stats_parts *p;
    const char *name;
} putting;

static lt_status put_piece(void *self, size_t at, const void *data, size_t bytes, lt_err *err) {
    const putting *to = self;
    return lt_st_writer_put(to->p->file, to->name, at, data, bytes, err);
}

lt_status lt_stats_parts_put(const lt_stats_parts *p, const char *site, size_t stat, const double *values, size_t n,
                             lt_err *err) {
    char *name = lt_asprintf("%s.%s", site, lt_stat_rows[stat]->name);
    if (!name) return no_memory(err);
    const lt_status st = each_piece(stored_dtype(p->head, stat), values, n, put_piece, &(putting){ p, name }, err);
    lt_free(name);
    return st;
}

static bool holds(const lt_stats_parts *p, lt_buffer *map, const char *name, const char *hex) {
    char found[LT_HASH_HEX];
    size_t place, bytes;
    if (!hex || !lt_st_writer_place(p->file, name, &place, &bytes)) return false;
    if (place > map->bytes || bytes > map->bytes - place) return false;
    const lt_tensor t = lt_tensor_dense(LT_U8, 1, &bytes, map, place);
    lt_hash_bytes(lt_host(&t), bytes, found);
    lt_tensor_drop(&t);
    return strcmp(hex, found) == 0;
}

bool lt_stats_parts_hold(const lt_stats_parts *p, const json_t *digests) {
    const char *name;
    json_t *digest;
    lt_buffer map;
    bool all = true;
    if (lt_map_open(&map, p->path, NULL) != LT_OK) return false;
    json_object_foreach((json_t *)digests, name, digest) all = all && holds(p, &map, name, json_string_value(digest));
    lt_map_close(&map);
    return all;
}

typedef struct digesting {
    lt_stats_hasher hasher;
    const json_t *digests;
} digesting;

static lt_status hash_digest(void *self, const stored *t, lt_err *err) {
    digesting *d = self;
    const char *hex = json_string_value(json_object_get(d->digests, t->name));
    if (!hex) return lt_fail(err, LT_EINTERNAL, "stats: no digest (%s)", t->name);
    lt_stats_hash_tensor(&d->hasher, t->name, hex);
    return LT_OK;
}

lt_status lt_stats_parts_commit(lt_stats_parts *p, const json_t *digests, lt_err *err) {
    char hash[LT_HASH_HEX];
    visit v = { .head = p->head };
    digesting d = { .digests = digests };
    lt_status st;
    LT_GO(lt_stats_hash_begin(&d.hasher, p->head, err));
    st = visit_all(&v, false, hash_digest, &d, err);
    lt_stats_hash_end(&d.hasher, hash);
    if (st == LT_OK) st = lt_st_writer_amend(p->file, "hash", hash, err);
    if (st != LT_OK) goto done;
    st = lt_st_writer_commit(p->file, err);
    p->file = NULL;
done:
    lt_stats_parts_close(p);
    return st;
}

/* ---- settings ---- */

static bool is_in(const char *key, const char *const *list) {
    for (; list && *list; list++)
        if (strcmp(*list, key) == 0) return true;
    return false;
}

const char *lt_settings_differ(const json_t *a, const json_t *b, const char *const *skip) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key,
                        value) if (!is_in(key, skip) && !json_equal(value, json_object_get(b, key))) return key;
    json_object_foreach((json_t *)b, key, value) if (!is_in(key, skip) && !json_object_get(a, key)) return key;
    return NULL;
}
