/* SPDX-License-Identifier: Apache-2.0 */
/* Merging stats: tensors are added, in the given order. */
#include <string.h>

#include "calib/stats_file.h"

typedef struct merge {
    lt_stats **in;
    size_t n;
    double *sum; /* of the tensor being asked for */
    size_t cap;
    lt_stat_set *sets; /* of each site */
    bool f32;
    json_t *sites, *settings; /* of the first */
    char tokens_hash[LT_HASH_HEX];
} merge;

static void merge_clear(merge *m) {
    for (size_t i = 0; m->in && i < m->n; i++) lt_stats_close(m->in[i]);
    lt_free(m->in);
    lt_free(m->sum);
    lt_free(m->sets);
    json_decref(m->sites);
    json_decref(m->settings);
}

static lt_status parse_meta(json_t **out, const lt_stats *s, const char *key, const char *path, lt_err *err) {
    const char *text = lt_stats_meta(s, key);
    return lt_json_parse(out, text, strlen(text), path, err);
}

static lt_status check_same_text(const merge *m, size_t i, const char *key, const char *const *paths, lt_err *err) {
    const char *a = lt_stats_meta(m->in[0], key), *b = lt_stats_meta(m->in[i], key);
    if (strcmp(a, b) == 0) return LT_OK;
    return lt_fail(err, LT_EDATA, "cannot merge: %s differs (%s: %s, %s: %s)", key, paths[0], a, paths[i], b);
}

static lt_status check_same_json(const json_t *first, const merge *m, size_t i, const char *key,
                                 const char *const *skip, const char *const *paths, lt_err *err) {
    json_t *other;
    LT_TRY(parse_meta(&other, m->in[i], key, paths[i], err));
    const char *differs = lt_settings_differ(first, other, skip);
    const lt_status st =
        differs ? lt_fail(err, LT_EDATA, "cannot merge: %s differ in \"%s\" (%s, %s)", key, differs, paths[0], paths[i])
                : LT_OK;
    json_decref(other);
    return st;
}

static lt_status check_same(const merge *m, size_t i, const char *const *paths, lt_err *err) {
    static const char *const data[] = { "data", NULL };
    LT_TRY(check_same_text(m, i, "model_hash", paths, err));
    LT_TRY(check_same_text(m, i, "tokenizer_hash", paths, err));
    LT_TRY(check_same_json(m->settings, m, i, "settings", data, paths, err));
    return check_same_json(m->sites, m, i, "sites", NULL, paths, err);
}

static lt_stat_set stats_in(const lt_stats *s, size_t site) {
    lt_stat_set set = 0;
    for (size_t k = 0; k < LT_N_STATS; k++)
        if (lt_stats_have(s, lt_stats_site_at(s, site).name, lt_stat_rows[k]->name)) set |= 1u << k;
    return set;
}

static lt_status check_sets(const merge *m, size_t i, const char *const *paths, lt_err *err) {
    for (size_t k = 0; k < lt_stats_n_sites(m->in[0]); k++)
        if (stats_in(m->in[i], k) != m->sets[k])
            return lt_fail(err, LT_EDATA, "cannot merge: other accumulators (%s, %s: %s)", paths[0], paths[i],
                           lt_stats_site_at(m->in[0], k).name);
    if (lt_stats_is_f32(m->in[i]) == m->f32) return LT_OK;
    return lt_fail(err, LT_EDATA, "cannot merge: one stores f32, one f64 (%s, %s)", paths[0], paths[i]);
}

static lt_status note_sets(merge *m, const char *path, lt_err *err) {
    const size_t n = lt_stats_n_sites(m->in[0]);
    if (lt_stats_have_kind(m->in[0], LT_STATS_SPECTRUM))
        return lt_fail(err, LT_EUNSUPPORTED, "cannot merge: spectra do not add up, only Grams do (%s)", path);
    if (!(m->sets = lt_calloc(n + 1, sizeof *m->sets))) return lt_fail(err, LT_ENOMEM, "merge: out of memory");
    for (size_t k = 0; k < n; k++) m->sets[k] = stats_in(m->in[0], k);
    m->f32 = lt_stats_is_f32(m->in[0]);
    return LT_OK;
}

static lt_status open_all(merge *m, const char *const *paths, size_t n, lt_team *team, lt_err *err) {
    if (!(m->in = lt_calloc(n, sizeof *m->in))) return lt_fail(err, LT_ENOMEM, "merge: out of memory");
    for (; m->n < n; m->n++) LT_TRY(lt_stats_open(&m->in[m->n], paths[m->n], team, err));
    LT_TRY(parse_meta(&m->sites, m->in[0], "sites", paths[0], err));
    LT_TRY(parse_meta(&m->settings, m->in[0], "settings", paths[0], err));
    LT_TRY(note_sets(m, paths[0], err));
    for (size_t i = 1; i < n; i++) {
        LT_TRY(check_same(m, i, paths, err));
        LT_TRY(check_sets(m, i, paths, err));
    }
    return LT_OK;
}

static lt_status merged_tokens(merge *m, lt_err *err) {
    lt_hash *h = lt_hash_create();
    if (!h) return lt_fail(err, LT_ENOMEM, "merge: out of memory");
    for (size_t i = 0; i < m->n; i++)
        lt_hash_update(h, lt_stats_meta(m->in[i], "tokens_hash"), strlen(lt_stats_meta(m->in[i], "tokens_hash")));
    lt_hash_finish(h, m->tokens_hash);
    return LT_OK;
}

static lt_status sum_of(void *user, const char *site, size_t cols, const lt_stat *stat, const double **values,
                        lt_err *err) {
    merge *m = user;
    const size_t n = stat->doubles(cols);
    if (n > m->cap) {
        lt_free(m->sum);
        m->cap = 0;
        m->sum = lt_calloc(n, sizeof *m->sum);
        if (!m->sum) return lt_fail(err, LT_ENOMEM, "merge: no memory for %zu sums", n);
        m->cap = n;
    }
    memset(m->sum, 0, n * sizeof *m->sum);
    for (size_t i = 0; i < m->n; i++) {
        double *add;
        LT_TRY(lt_stats_load(&add, m->in[i], site, stat->name, err));
        for (size_t k = 0; k < n; k++) m->sum[k] += add[k];
        lt_free(add);
        lt_stats_drop(m->in[i], site);
    }
    *values = m->sum;
    return LT_OK;
}

static const char *meta_or_empty(const lt_stats *s, const char *key) {
    const char *text = lt_stats_meta(s, key);
    return text ? text : "";
}

lt_status lt_stats_merge(const char *out_path, const char *const *paths, size_t n, lt_team *team, lt_err *err) {
    merge m = { 0 };
    lt_status st;
    LT_REQUIRE(err, n >= 1, "merge: no files");
    LT_GO(open_all(&m, paths, n, team, err));
    LT_GO(merged_tokens(&m, err));
    lt_stats_head head = { .sites = m.sites,
                           .source = meta_or_empty(m.in[0], "source"),
                           .machine = meta_or_empty(m.in[0], "machine"),
                           .sets = m.sets,
                           .f32 = m.f32 };
    for (size_t i = 0; i < LT_N_STATS_IDS; i++) head.id[i] = lt_stats_meta(m.in[0], lt_stats_ids[i]);
    head.id[2] = m.tokens_hash;
    st = lt_stats_write(out_path, &head, 0, sum_of, &m, err);
done:
    merge_clear(&m);
    return st;
}
