/* SPDX-License-Identifier: Apache-2.0 */
/* The model hash: SHA-256 over the canonical config and one digest per tensor, in the map's order, so that shards do
 * not matter. Tensors are digested by threads of their own: file reading, not arithmetic. The cache under
 * $XDG_CACHE_HOME/lathe is keyed by every file's path, size and mtime. */
#include "model/model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "model/weights.h"

/* ---- one tensor ---- */

/* Rows in logical order: a permuted view and its plain copy give the same digest. */
static void hash_values(lt_hash *h, const lt_tensor *t) {
    const bool dense = lt_tensor_is_dense(t);
    const size_t rows = dense ? 1 : lt_tensor_rows(t), bytes = lt_tensor_bytes(t) / rows;
    for (size_t r = 0; r < rows; r++) lt_hash_update(h, dense ? lt_host(t) : lt_tensor_row(t, r), bytes);
}

static bool hash_param(const lt_param *p, char hex[LT_HASH_HEX]) {
    char head[320];
    lt_hash *h = lt_hash_create();
    if (!h) return false;
    const bool vector = p->t.rank <= 1;
    snprintf(head, sizeof head, "%s %s %zu %zu\n", p->name, lt_dtype_get(p->t.dtype)->name,
             vector ? lt_tensor_count(&p->t) : lt_tensor_rows(&p->t), vector ? 0 : lt_tensor_cols(&p->t));
    lt_hash_update(h, head, strlen(head));
    hash_values(h, &p->t);
    lt_hash_finish(h, hex);
    lt_tensor_drop(&p->t); /* read once: not to be counted as resident */
    return true;
}

/* ---- all of them ---- */

typedef struct work {
    const lt_param **param;
    char (*hex)[LT_HASH_HEX];
    size_t n;
    atomic_size_t next;
    atomic_bool failed;
} work;

static void *run(void *arg) {
    work *w = arg;
    for (size_t i; (i = atomic_fetch_add(&w->next, 1)) < w->n;)
        if (!hash_param(w->param[i], w->hex[i])) atomic_store(&w->failed, true);
    return NULL;
}

static void run_threads(work *w, int threads) {
    enum { MAX_THREADS = 64 };
    pthread_t t[MAX_THREADS];
    int started = 0;
    while (started < threads - 1 && started < MAX_THREADS && pthread_create(&t[started], NULL, run, w) == 0) started++;
    run(w);
    for (int i = 0; i < started; i++) pthread_join(t[i], NULL);
}

static lt_status hash_all(work *w, const lt_model *m, int threads, char hex[LT_HASH_HEX], lt_err *err) {
    run_threads(w, threads);
    char *config = lt_json_canonical(m->config.raw);
    lt_hash *h = config && !atomic_load(&w->failed) ? lt_hash_create() : NULL;
    if (h) {
        lt_hash_update(h, config, strlen(config));
        for (size_t i = 0; i < w->n; i++) lt_hash_update(h, w->hex[i], LT_HASH_HEX - 1);
        lt_hash_finish(h, hex);
    }
    lt_free(config);
    return h ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (model hash)");
}

static lt_status compute(const lt_model *m, int threads, char hex[LT_HASH_HEX], lt_err *err) {
    lt_param_info p;
    work w = { 0 };
    while (lt_model_param(m, w.n, &p)) w.n++;
    w.param = lt_calloc(w.n, sizeof *w.param);
    w.hex = lt_calloc(w.n, sizeof *w.hex);
    lt_status st = LT_OK;
    if (!w.param || !w.hex) st = lt_fail(err, LT_ENOMEM, "out of memory (model hash)");
    for (size_t i = 0; st == LT_OK && i < w.n; i++) {
        (void)lt_model_param(m, i, &p);
        w.param[i] = p.param;
    }
    if (st == LT_OK) st = hash_all(&w, m, threads, hex, err);
    lt_free(w.param);
    lt_free(w.hex);
    return st;
}

/* ---- the cache ---- */

static bool key_file(lt_hash *h, const char *path) {
    uint64_t bytes;
    int64_t mtime;
    char line[64];
    char *real = realpath(path, NULL);
    const bool ok = real && lt_file_stat(real, &bytes, &mtime, NULL) == LT_OK;
    if (ok) {
        snprintf(line, sizeof line, "\n%llu %lld\n", (unsigned long long)bytes, (long long)mtime);
        lt_hash_update(h, real, strlen(real));
        lt_hash_update(h, line, strlen(line));
    }
    free(real);
    return ok;
}

/* Every file that the model was read from. */
static bool key_of(const lt_model *m, char key[LT_HASH_HEX]) {
    static const char form[] = "lathe model hash 1\n";
    lt_hash *h = lt_hash_create();
    if (!h) return false;
    lt_hash_update(h, form, sizeof form);
    char *config = lt_model_is_gguf(m) ? lt_strdup(m->path) : lt_path_join(m->path, "config.json");
    bool ok = config && key_file(h, config);
    for (size_t i = 0; ok && i < m->weights->n_shards; i++) ok = key_file(h, m->weights->shard[i].path);
    lt_free(config);
    lt_hash_finish(h, key);
    return ok;
}

/* $XDG_CACHE_HOME/lathe/hash/<key>, else ~/.cache/...; NULL: there is no place for a cache. */
static char *cache_path(const char *key) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (xdg && *xdg == '/') return lt_asprintf("%s/lathe/hash/%s", xdg, key);
    return home && *home == '/' ? lt_asprintf("%s/.cache/lathe/hash/%s", home, key) : NULL;
}

static bool is_hex(const char *s, size_t n) {
    if (n != LT_HASH_HEX - 1) return false;
    return strspn(s, "0123456789abcdef") == n;
}

static bool cache_read(const char *path, char hex[LT_HASH_HEX]) {
    char *text = NULL;
    size_t n = 0;
    const bool ok = lt_path_exists(path) && lt_file_read(&text, &n, path, 256, NULL) == LT_OK && is_hex(text, n);
    if (ok) memcpy(hex, text, LT_HASH_HEX);
    lt_free(text);
    return ok;
}

static void cache_write(const char *path, const char hex[LT_HASH_HEX]) {
    char *folder = lt_strdup(path);
    if (!folder) return;
    *strrchr(folder, '/') = '\0';
    if (lt_make_dirs(folder, NULL) == LT_OK) (void)lt_file_write(path, hex, LT_HASH_HEX - 1, NULL); /* only a cache */
    lt_free(folder);
}

static lt_status hash_weights(const lt_model *m, int threads, char hex[LT_HASH_HEX], lt_err *err) {
    char key[LT_HASH_HEX];
    char *path = !m->changed && key_of(m, key) ? cache_path(key) : NULL;
    lt_status st = LT_OK;
    if (!path || !cache_read(path, hex)) {
        st = compute(m, threads, hex, err);
        if (st == LT_OK && path) cache_write(path, hex);
    }
    lt_free(path);
    return st;
}

/* ---- adapters ---- */

static bool add_adapter(lt_hash *h, const lt_adapter *a) {
    char hex[LT_HASH_HEX], scale[64];
    const lt_param *param[] = { &a->a, &a->b };
    for (size_t i = 0; i < LT_COUNTOF(param); i++) {
        if (!hash_param(param[i], hex)) return false;
        lt_hash_update(h, hex, LT_HASH_HEX - 1);
    }
    snprintf(scale, sizeof scale, "%a\n", a->scale);
    lt_hash_update(h, scale, strlen(scale));
    return true;
}

static bool add_adapters(lt_hash *h, const lt_model *m) {
    const lt_linear *l;
    bool ok = true;
    for (size_t i = 0; ok && lt_model_linear(m, i, &l); i++)
        for (int s = 0; s < l->n_stages; s++)
            for (size_t k = 0; ok && k < l->stage[s].n_adapters; k++) ok = add_adapter(h, &l->stage[s].adapters[k]);
    return ok;
}

lt_status lt_model_hash(const lt_model *m, int threads, char hex[LT_HASH_HEX], lt_err *err) {
    LT_TRY(hash_weights(m, threads, hex, err));
    if (!lt_model_adapted(m)) return LT_OK;
    lt_hash *h = lt_hash_create();
    if (!h) return lt_fail(err, LT_ENOMEM, "out of memory (model hash)");
    lt_hash_update(h, hex, LT_HASH_HEX - 1);
    const bool ok = add_adapters(h, m);
    lt_hash_finish(h, hex);
    return ok ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (model hash)");
}
