/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/stats_import.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "calib/stats_file.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "io/torch.h"

/* One module's Gram. */
typedef struct item {
    lt_module mod;
    const lt_tensor *gram, *sum; /* sum NULL: not kept */
    double count;
    bool biased; /* the bias is in it and cannot be taken out */
} item;
typedef struct import {
    const lt_import_in *in;
    lt_safetensors *file; /* one of the two */
    lt_torch *torch;
    item *items;
    size_t n;
    double *packed; /* of the tensor being asked for */
} import;

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "import: out of memory");
}

static void import_clear(import *x) {
    lt_safetensors_close(x->file);
    lt_torch_close(x->torch);
    lt_free(x->items);
    lt_free(x->packed);
}

/* ---- the file: safetensors, or what torch.save wrote ---- */

static bool is_zip(const char *path) {
    static const char magic[] = "PK\3\4";
    lt_buffer b;
    if (lt_map_open(&b, path, NULL) != LT_OK) return false;
    const bool yes = b.bytes >= 4 && memcmp(b.data, magic, 4) == 0;
    lt_map_close(&b);
    return yes;
}

static lt_status open_file(import *x, lt_err *err) {
    return is_zip(x->in->path) ? lt_torch_open(&x->torch, x->in->path, err)
                               : lt_safetensors_open(&x->file, x->in->path, err);
}

static size_t n_tensors(const import *x) {
    return x->torch ? lt_torch_count(x->torch) : lt_safetensors_count(x->file);
}

static const lt_tensor *tensor_at(const char **name, const import *x, size_t i) {
    if (x->torch) {
        const lt_torch_entry *e = lt_torch_at(x->torch, i);
        *name = e->name;
        return &e->tensor;
    }
    const lt_st_entry *e = lt_safetensors_at(x->file, i);
    *name = e->name;
    return &e->tensor;
}

static const lt_tensor *find_tensor(const import *x, const char *name) {
    const char *other;
    if (x->file) return lt_safetensors_find(x->file, name);
    for (size_t i = 0; i < lt_torch_count(x->torch); i++) {
        const lt_tensor *t = tensor_at(&other, x, i);
        if (strcmp(other, name) == 0) return t;
    }
    return NULL;
}

/* "<module>" of "<module>.out_gram" into buf; the name itself otherwise. */
static void module_name(char *buf, size_t cap, const char *tensor) {
    static const char suffix[] = ".out_gram";
    const size_t n = strlen(tensor), k = sizeof suffix - 1;
    snprintf(buf, cap, "%s", tensor);
    if (n > k && n < cap && strcmp(tensor + n - k, suffix) == 0) buf[n - k] = 0;
}

static const lt_tensor *beside(const import *x, const char *module, const char *what) {
    char name[640];
    const int n = snprintf(name, sizeof name, "%s.%s", module, what);
    return n > 0 && (size_t)n < sizeof name ? find_tensor(x, name) : NULL;
}

static bool ends_with(const char *text, const char *suffix) {
    const size_t n = strlen(text), k = strlen(suffix);
    return n >= k && strcmp(text + n - k, suffix) == 0;
}

static lt_status check_shape(const import *x, const item *it, const char *name, lt_err *err) {
    const lt_tensor *t = it->gram;
    const size_t m = lt_linear_out(it->mod.linear), d = lt_linear_in(it->mod.linear);
    char shape[128];
    if (t->rank == 2 && t->size[0] == m && t->size[1] == m && lt_dtype_get(t->dtype)->block == 1 &&
        lt_dtype_get(t->dtype)->to_f32)
        return LT_OK;
    lt_tensor_describe(t, shape, sizeof shape);
    if (t->rank == 2 && t->size[0] == d && t->size[1] == d)
        return lt_fail(err, LT_EDATA, "is %s, the size of an input Gram: output Grams are wanted, [%zu, %zu] (%s: %s)",
                       shape, m, m, x->in->path, name);
    return lt_fail(err, LT_EDATA, "is %s, expected a Gram [%zu, %zu] (%s: %s)", shape, m, m, x->in->path, name);
}

/* n numbers of a vector, whatever float or i64 they are stored as. */
static lt_status read_vector(double *out, const import *x, const lt_tensor *t, size_t n, const char *name,
                             lt_err *err) {
    if (lt_tensor_count(t) != n)
        return lt_fail(err, LT_EDATA, "has %zu numbers, expected %zu (%s: %s)", lt_tensor_count(t), n, x->in->path,
                       name);
    if (t->dtype != LT_F64 && t->dtype != LT_I64 &&
        (!lt_dtype_get(t->dtype)->to_f32 || lt_dtype_get(t->dtype)->block > 1))
        return lt_fail(err, LT_EDATA, "is %s, expected floats (%s: %s)", lt_dtype_get(t->dtype)->name, x->in->path,
                       name);
    float *row = lt_calloc(n, sizeof *row);
    if (!row) return no_memory(err);
    const bool wide = t->dtype == LT_F64 || t->dtype == LT_I64;
    if (!wide) lt_tensor_row_f32(row, t, 0, 0, n);
    for (size_t i = 0; i < n; i++)
        out[i] = t->dtype == LT_F64   ? ((const double *)lt_host(t))[i]
                 : t->dtype == LT_I64 ? (double)((const int64_t *)lt_host(t))[i]
                                      : (double)row[i];
    lt_free(row);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(out[i])) return lt_fail(err, LT_EDATA, "is not finite (%s: %s: entry %zu)", x->in->path, name, i);
    return LT_OK;
}

static lt_status read_count(item *it, const import *x, const char *module, lt_err *err) {
    const lt_tensor *t = beside(x, module, "count");
    it->count = x->in->count;
    if (t) LT_TRY(read_vector(&it->count, x, t, 1, module, err));
    if (it->count >= 0.0) return LT_OK;
    return lt_fail(err, LT_EDATA, "not a number of tokens (%s: %s.count: %g)", x->in->path, module, it->count);
}

static lt_status add_item(import *x, const char *name, const lt_tensor *t, lt_err *err) {
    char module[512];
    item *it = &x->items[x->n];
    module_name(module, sizeof module, name);
    *it = (item){ .gram = t };
    if (!lt_model_find_module(x->in->model, module, &it->mod))
        return lt_fail(err, LT_EDATA, "the model has no such linear (%s: %s)", x->in->path, name);
    LT_TRY(check_shape(x, it, name, err));
    LT_TRY(read_count(it, x, module, err));
    it->sum = beside(x, module, "out_sum");
    const bool has_bias = it->mod.linear->bias.name && x->in->bias_included;
    it->biased = has_bias && !(it->sum && it->count > 0.0);
    x->n++;
    return LT_OK;
}

static lt_status find_items(import *x, lt_err *err) {
    const size_t n = n_tensors(x);
    x->items = lt_calloc(n + 1, sizeof *x->items);
    if (!x->items) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const char *name;
        const lt_tensor *t = tensor_at(&name, x, i);
        if (ends_with(name, ".out_sum") || ends_with(name, ".count")) continue;
        LT_TRY(add_item(x, name, t, err));
    }
    return x->n ? LT_OK : lt_fail(err, LT_EDATA, "holds no Gram (%s)", x->in->path);
}

/* ---- values ---- */

static double entry(const lt_tensor *t, size_t i, size_t j, const float *row) {
    return t->dtype == LT_F64 ? ((const double *)lt_host(t))[i * t->stride[0] + j] : (double)row[j];
}

/* The lower triangle; what stands above it must be its mirror image, to the rounding of the sums. */
static lt_status read_gram(import *x, const item *it, lt_err *err) {
    const size_t m = it->gram->size[0];
    const char *name = it->mod.linear->name;
    float *row = lt_calloc(m, sizeof *row);
    double *upper = lt_calloc(m * (m + 1) / 2, sizeof *upper), most = 0.0;
    lt_status st = row && upper ? LT_OK : no_memory(err);
    for (size_t i = 0; st == LT_OK && i < m; i++) {
        if (it->gram->dtype != LT_F64) lt_tensor_row_f32(row, it->gram, i, 0, m);
        for (size_t j = 0; j < m; j++) {
            const double v = entry(it->gram, i, j, row);
            if (!isfinite(v))
                LT_GO(lt_fail(err, LT_EDATA, "Gram is not finite (%s: %s: row %zu)", x->in->path, name, i));
            if (j <= i) x->packed[i * (i + 1) / 2 + j] = v;
            if (j >= i) upper[j * (j + 1) / 2 + i] = v;
        }
        most = fmax(most, x->packed[i * (i + 1) / 2 + i]);
        if (x->packed[i * (i + 1) / 2 + i] < 0.0)
            LT_GO(lt_fail(err, LT_EDATA, "not a Gram: a negative diagonal (%s: %s: row %zu)", x->in->path, name, i));
    }
    for (size_t k = 0; st == LT_OK && k < m * (m + 1) / 2; k++) {
        if (fabs(x->packed[k] - upper[k]) > 0.02 * most)
            LT_GO(lt_fail(err, LT_EDATA, "not a Gram: not symmetric (%s: %s)", x->in->path, name));
        x->packed[k] = 0.5 * (x->packed[k] + upper[k]);
    }
done:
    lt_free(row);
    lt_free(upper);
    return st;
}

/* G_b - s bᵀ - b sᵀ + N b bᵀ (spec utilized-rank §1.3) */
static lt_status remove_bias(import *x, const item *it, lt_err *err) {
    const size_t m = it->gram->size[0];
    double *s = lt_calloc(2 * m, sizeof *s), *b = s + m;
    if (!s) return no_memory(err);
    lt_status st = read_vector(s, x, it->sum, m, it->mod.linear->name, err);
    if (st == LT_OK) st = read_vector(b, x, &it->mod.linear->bias.t, m, it->mod.linear->name, err);
    for (size_t i = 0; st == LT_OK && i < m; i++)
        for (size_t j = 0; j <= i; j++)
            x->packed[i * (i + 1) / 2 + j] += it->count * b[i] * b[j] - s[i] * b[j] - b[i] * s[j];
    lt_free(s);
    return st;
}

static const char *site_name(char *buf, size_t cap, const item *it) {
    snprintf(buf, cap, "%s.%s", it->mod.linear->name, it->biased ? "out_biased" : "out");
    return buf;
}

static lt_status values_of(void *user, const char *site, size_t cols, const lt_stat *stat, const double **values,
                           lt_err *err) {
    import *x = user;
    size_t i = 0;
    char name[640];
    (void)cols;
    while (i + 1 < x->n && strcmp(site_name(name, sizeof name, &x->items[i]), site) != 0) i++;
    const item *it = &x->items[i];
    *values = x->packed;
    if (strcmp(stat->name, "count") == 0) {
        x->packed[0] = it->count;
        return LT_OK;
    }
    LT_TRY(read_gram(x, it, err));
    const bool biased = it->mod.linear->bias.name && x->in->bias_included;
    return biased && !it->biased ? remove_bias(x, it, err) : LT_OK;
}

/* ---- the file ---- */

static json_t *sites_of(const import *x) {
    json_t *sites = json_object();
    char name[640];
    for (size_t i = 0; sites && i < x->n; i++) {
        const item *it = &x->items[i];
        json_object_set_new(sites, site_name(name, sizeof name, it),
                            json_pack("{s:I, s:[s], s:s}", "cols", (json_int_t)it->gram->size[0], "modules",
                                      it->mod.linear->name, "kind",
                                      lt_stats_kind_name(it->biased ? LT_STATS_BIASED : LT_STATS_OUTPUT)));
    }
    return sites;
}

static lt_status write_stats(import *x, lt_err *err) {
    const lt_stat_set set = 1u << LT_STAT_COUNT | 1u << LT_STAT_GRAM;
    size_t most = 0;
    for (size_t i = 0; i < x->n; i++) most = lt_max_size(most, x->items[i].gram->size[0]);
    x->packed = lt_calloc(most * (most + 1) / 2, sizeof *x->packed);
    json_t *sites = sites_of(x);
    const lt_stats_head head = { .id = { x->in->model_hash, "unknown", "unknown", "{\"imported\":true}" },
                                 .source = lt_path_name(x->in->path),
                                 .machine = "imported",
                                 .sites = sites };
    const lt_status st =
        x->packed && sites ? lt_stats_write(x->in->out_path, &head, set, values_of, x, err) : no_memory(err);
    json_decref(sites);
    return st;
}

lt_status lt_stats_import(lt_import_out *out, const lt_import_in *in, lt_err *err) {
import x = {.in = in };
    LT_TRY(open_file(&x, err));
    lt_status st = find_items(&x, err);
    if (st == LT_OK) st = write_stats(&x, err);
    *out = (lt_import_out){ .modules = x.n };
    for (size_t i = 0; i < x.n; i++) out->biased += x.items[i].biased;
    import_clear(&x);
    return st;
}
