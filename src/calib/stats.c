/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/stats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "calib/stats_file.h"
#include "io/safetensors.h"

struct lt_stats {
    lt_safetensors *file;
    json_t *site_info; /* the header's "sites" */
    json_t *by_module; /* module -> site index */
    lt_stats_site *sites;
    const char **modules; /* of all sites */
    bool has[LT_N_STATS_KINDS], f32;
    size_t n_sites;
    char hash[LT_HASH_HEX];
};

void lt_stats_close(lt_stats *s) {
    if (!s) return;
    lt_safetensors_close(s->file);
    json_decref(s->site_info);
    json_decref(s->by_module);
    lt_free(s->sites);
    lt_free(s->modules);
    lt_free(s);
}

static const char *path_of(const lt_stats *s) {
    return lt_safetensors_path(s->file);
}
static lt_status no_memory(const lt_stats *s, lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path_of(s));
}

static const char *const kind_names[LT_N_STATS_KINDS] = { "input",  "first",         "grad",
                                                          "output", "output_biased", "spectrum" };

const char *lt_stats_kind_name(lt_stats_kind k) {
    return kind_names[k];
}

/* ---- the header ---- */

static lt_status read_kind(const lt_stats *s, lt_stats_site *site, const json_t *info, lt_err *err) {
    const char *kind;
    int k = 0;
    LT_TRY(lt_json_string(&kind, info, "kind", kind_names[LT_STATS_INPUT], path_of(s), err));
    while (k < LT_N_STATS_KINDS && strcmp(kind_names[k], kind) != 0) k++;
    if (k == LT_N_STATS_KINDS)
        return lt_fail(err, LT_EDATA, "unknown kind of site \"%.40s\" (%s: %s)", kind, path_of(s), site->name);
    site->kind = (lt_stats_kind)k;
    return LT_OK;
}

/* Key of a module in by_module: its name, or "kind name" for other kinds than inputs. In place: never fails for want of
 * memory; false: too long to be there. */
static bool module_key(char *key, size_t cap, lt_stats_kind kind, const char *module) {
    const int n = kind == LT_STATS_INPUT ? snprintf(key, cap, "%s", module)
                                         : snprintf(key, cap, "%s %s", kind_names[kind], module);
    return n >= 0 && (size_t)n < cap;
}

static lt_status read_modules(lt_stats *s, lt_stats_site *site, const json_t *list, size_t *used, lt_err *err) {
    site->modules = s->modules + *used;
    site->n_modules = json_array_size(list);
    for (size_t i = 0; i < site->n_modules; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name) return lt_fail(err, LT_EDATA, "module %zu is not a name (%s: %s)", i, path_of(s), site->name);
        char key[640];
        if (!module_key(key, sizeof key, site->kind, name))
            return lt_fail(err, LT_EDATA, "name of a module is too long (%s: %.60s)", path_of(s), name);
        if (json_object_get(s->by_module, key))
            return lt_fail(err, LT_EDATA, "module is fed by two sites (%s: %s)", path_of(s), key);
        if (json_object_set_new(s->by_module, key, json_integer((json_int_t)(site - s->sites))) != 0)
            return no_memory(s, err);
        s->modules[(*used)++] = name;
    }
    return LT_OK;
}

static size_t count_modules(const json_t *sites) {
    const char *name;
    json_t *info;
    size_t n = 0;
    json_object_foreach((json_t *)sites, name, info) n += json_array_size(json_object_get(info, "modules"));
    return n;
}

static lt_status read_sites(lt_stats *s, lt_err *err) {
    const char *text = lt_safetensors_meta(s->file, "sites"), *name;
    json_t *info;
    size_t used = 0;
    if (!text) return lt_fail(err, LT_EDATA, "header has no sites (%s)", path_of(s));
    LT_TRY(lt_json_parse(&s->site_info, text, strlen(text), path_of(s), err));
    if (!json_is_object(s->site_info)) return lt_fail(err, LT_EDATA, "sites are not an object (%s)", path_of(s));
    s->sites = lt_calloc(json_object_size(s->site_info) + 1, sizeof *s->sites);
    s->modules = lt_calloc(count_modules(s->site_info) + 1, sizeof *s->modules);
    s->by_module = json_object();
    if (!s->sites || !s->modules || !s->by_module) return no_memory(s, err);
    json_object_foreach(s->site_info, name, info) {
        lt_stats_site *site = &s->sites[s->n_sites++];
        site->name = name;
        LT_TRY(lt_json_size(&site->cols, info, "cols", 0, path_of(s), err));
        if (site->cols < 1 || site->cols > INT32_MAX)
            return lt_fail(err, LT_EDATA, "site has %zu columns (%s: %s)", site->cols, path_of(s), name);
        LT_TRY(read_kind(s, site, info, err));
        s->has[site->kind] = true;
        LT_TRY(read_modules(s, site, json_object_get(info, "modules"), &used, err));
    }
    return LT_OK;
}

static lt_status read_head(const lt_stats *s, lt_stats_head *head, lt_err *err) {
    const char *format = lt_safetensors_meta(s->file, "format");
    if (!format || strcmp(format, LT_STATS_FORMAT) != 0)
        return lt_fail(err, LT_EDATA, "is not a " LT_STATS_FORMAT " file (%s)", path_of(s));
    for (size_t i = 0; i < LT_N_STATS_IDS; i++) {
        head->id[i] = lt_safetensors_meta(s->file, lt_stats_ids[i]);
        if (!head->id[i]) return lt_fail(err, LT_EDATA, "header has no %s (%s)", lt_stats_ids[i], path_of(s));
    }
    return LT_OK;
}

/* ---- the tensors ---- */

static bool is_stored(lt_dtype t, const lt_stat *stat) {
    return t == LT_F64 || (t == LT_F32 && stat != lt_stat_rows[LT_STAT_COUNT]);
}

static lt_status check_count(const lt_stats *s, const char *name, const double *value, lt_err *err) {
    if (isfinite(*value) && *value >= 0.0) return LT_OK;
    return lt_fail(err, LT_EDATA, "not a number of tokens (%s: %s: %g)", path_of(s), name, *value);
}

/* A tensor that is there. */
typedef struct found {
    char *name;
    const lt_tensor *t;
    char hex[LT_HASH_HEX];
} found;
typedef struct found_list {
    found *at;
    size_t n;
} found_list;

/* One accumulator of one site, if it is there: its shape. */
static lt_status find_tensor(lt_stats *s, const lt_stats_site *site, const lt_stat *stat, found_list *list,
                             lt_err *err) {
    char *name = lt_asprintf("%s.%s", site->name, stat->name);
    if (!name) return no_memory(s, err);
    const lt_tensor *t = lt_safetensors_find(s->file, name);
    const size_t want = stat->doubles(site->cols);
    lt_status st = LT_OK;
    if (!t) goto done;
    if (!is_stored(t->dtype, stat) || t->rank != 1 || t->size[0] != want) {
        char shape[128];
        LT_GO(lt_fail(err, LT_EDATA, "is %s, expected f64 [%zu] (%s: %s)", lt_tensor_describe(t, shape, sizeof shape),
                      want, path_of(s), name));
    }
    s->f32 |= t->dtype == LT_F32;
    if (stat == lt_stat_rows[0]) LT_GO(check_count(s, name, lt_host(t), err));
    list->at[list->n++] = (found){ .name = name, .t = t };
    name = NULL;
done:
    lt_free(name);
    return st;
}

static lt_status find_tensors(lt_stats *s, found_list *list, lt_err *err) {
    for (size_t i = 0; i < s->n_sites; i++)
        for (size_t k = 0; k < LT_N_STATS; k++) LT_TRY(find_tensor(s, &s->sites[i], lt_stat_rows[k], list, err));
    if (list->n == lt_safetensors_count(s->file)) return LT_OK;
    return lt_fail(err, LT_EDATA, "holds %zu tensors that belong to no site (%s)",
                   lt_safetensors_count(s->file) - list->n, path_of(s));
}

static lt_status digest_tensor(void *user, size_t i, lt_err *err) {
    found *f = (found *)user + i;
    (void)err;
    lt_hash_bytes(lt_host(f->t), lt_tensor_bytes(f->t), f->hex);
    lt_tensor_drop(f->t);
    return LT_OK;
}

static lt_status digest_tensors(const found_list *list, lt_team *team, lt_err *err) {
    if (team) return lt_team_for(team, list->n, digest_tensor, list->at, err);
    for (size_t i = 0; i < list->n; i++) LT_TRY(digest_tensor(list->at, i, err));
    return LT_OK;
}

/* The shares of all tensors in the hash, in the file's order. */
static lt_status read_tensors(lt_stats *s, lt_stats_hasher *hasher, lt_team *team, lt_err *err) {
    found_list list = { lt_calloc(lt_max_size(1, s->n_sites) * LT_N_STATS, sizeof *list.at), 0 };
    if (!list.at) return no_memory(s, err);
    lt_status st;
    LT_GO(find_tensors(s, &list, err));
    LT_GO(digest_tensors(&list, team, err));
    for (size_t i = 0; i < list.n; i++) lt_stats_hash_tensor(hasher, list.at[i].name, list.at[i].hex);
done:
    for (size_t i = 0; i < list.n; i++) lt_free(list.at[i].name);
    lt_free(list.at);
    return st;
}

static lt_status check_hash(const lt_stats *s, lt_err *err) {
    const char *hash = lt_safetensors_meta(s->file, "hash");
    if (hash && strcmp(hash, s->hash) == 0) return LT_OK;
    return lt_fail(err, LT_EDATA, "content does not match its hash: damaged or edited (%s)", path_of(s));
}

static lt_status read_all(lt_stats *s, lt_team *team, lt_err *err) {
    lt_stats_head head = { 0 };
    lt_stats_hasher hasher = { 0 };
    LT_TRY(read_head(s, &head, err));
    LT_TRY(read_sites(s, err));
    head.sites = s->site_info;
    LT_TRY(lt_stats_hash_begin(&hasher, &head, err));
    const lt_status st = read_tensors(s, &hasher, team, err);
    lt_stats_hash_end(&hasher, s->hash);
    return st == LT_OK ? check_hash(s, err) : st;
}

static lt_status open_file(lt_stats **out, lt_safetensors *file, lt_team *team, lt_err *err) {
    lt_stats *s = lt_calloc(1, sizeof *s);
    if (!s) {
        lt_safetensors_close(file);
        return lt_fail(err, LT_ENOMEM, "stats: out of memory");
    }
    s->file = file;
    const lt_status st = read_all(s, team, err);
    if (st == LT_OK)
        *out = s;
    else
        lt_stats_close(s);
    return st;
}

lt_status lt_stats_open(lt_stats **out, const char *path, lt_team *team, lt_err *err) {
    lt_safetensors *file;
    LT_TRY(lt_safetensors_open(&file, path, err));
    return open_file(out, file, team, err);
}

lt_status lt_stats_from_memory(lt_stats **out, const void *data, size_t bytes, const char *name, lt_err *err) {
    lt_safetensors *file;
    LT_TRY(lt_safetensors_from_memory(&file, data, bytes, name, err));
    return open_file(out, file, NULL, err);
}

/* ---- asking ---- */

size_t lt_stats_n_sites(const lt_stats *s) {
    return s->n_sites;
}
lt_stats_site lt_stats_site_at(const lt_stats *s, size_t i) {
    return s->sites[i];
}
const char *lt_stats_hash(const lt_stats *s) {
    return s->hash;
}
const char *lt_stats_meta(const lt_stats *s, const char *key) {
    return lt_safetensors_meta(s->file, key);
}

bool lt_stats_site_of(const lt_stats *s, const char *module, lt_stats_site *out) {
    return lt_stats_find(s, LT_STATS_INPUT, module, out);
}

bool lt_stats_is_f32(const lt_stats *s) {
    return s->f32;
}

bool lt_stats_have_kind(const lt_stats *s, lt_stats_kind kind) {
    return s->has[kind];
}

bool lt_stats_find(const lt_stats *s, lt_stats_kind kind, const char *module, lt_stats_site *out) {
    char key[640];
    const json_t *index = module_key(key, sizeof key, kind, module) ? json_object_get(s->by_module, key) : NULL;
    if (!index) return false;
    *out = s->sites[json_integer_value(index)];
    return true;
}

/* NULL when absent; never fails for want of memory: names are built in place. */
static const lt_tensor *find(const lt_stats *s, const char *site, const char *stat) {
    char name[512];
    const int n = snprintf(name, sizeof name, "%s.%s", site, stat);
    return n > 0 && (size_t)n < sizeof name ? lt_safetensors_find(s->file, name) : NULL;
}

bool lt_stats_have(const lt_stats *s, const char *site, const char *stat) {
    return find(s, site, stat) != NULL;
}

static lt_status lacks(const lt_stats *s, const char *site, const char *stat, lt_err *err) {
    return lt_fail(err, LT_EDATA, "stats lack %s of %s: calibrate again with it (%s)", stat, site, path_of(s));
}

lt_status lt_stats_load(double **out, const lt_stats *s, const char *site, const char *stat, lt_err *err) {
    const lt_tensor *t = find(s, site, stat);
    if (!t) return lacks(s, site, stat, err);
    const size_t n = lt_tensor_count(t);
    double *v = lt_calloc(n, sizeof *v);
    if (!v) return lt_fail(err, LT_ENOMEM, "no memory for %zu sums (%s: %s.%s)", n, path_of(s), site, stat);
    if (t->dtype == LT_F64)
        memcpy(v, lt_host(t), n * sizeof *v);
    else
        for (size_t i = 0; i < n; i++) v[i] = (double)((const float *)lt_host(t))[i];
    lt_tensor_drop(t);
    *out = v;
    return LT_OK;
}

lt_status lt_stats_values(const double **out, const lt_stats *s, const char *site, const char *stat, lt_err *err) {
    const lt_tensor *t = find(s, site, stat);
    if (!t) return lacks(s, site, stat, err);
    if (t->dtype != LT_F64)
        return lt_fail(err, LT_EUNSUPPORTED, "is stored as f32 (%s: %s.%s)", path_of(s), site, stat);
    *out = lt_host(t);
    return LT_OK;
}

void lt_stats_drop(const lt_stats *s, const char *site) {
    for (size_t k = 0; k < LT_N_STATS; k++) {
        const lt_tensor *t = find(s, site, lt_stat_rows[k]->name);
        if (t) lt_tensor_drop(t);
    }
}

double lt_stats_count(const lt_stats *s, const char *site) {
    const lt_tensor *t = find(s, site, "count");
    return t ? *(const double *)lt_host(t) : 0.0;
}

lt_status lt_stats_check_model(const lt_stats *s, const char *model_hash, lt_err *err) {
    const char *mine = lt_stats_meta(s, "model_hash");
    if (strcmp(mine, model_hash) == 0) return LT_OK;
    return lt_fail(err, LT_EDATA, "stats were made from another model (%s: %s, model: %s)", path_of(s), mine,
                   model_hash);
}
