/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/fit_journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "fits: out of memory");
}

static char *path_of(const char *folder, const char *name) {
    return lt_asprintf("%s/%s.safetensors", folder, name);
}

/* ---- writing ---- */

enum { MAX_PARAMS = 3, VALUE_TEXT = 32 };
#define SUFFIX_BIAS ".ALinear.bias"
static const char *const suffixes[] = { ".weight", ".BLinear.weight", ".ALinear.weight", SUFFIX_BIAS };

/* What a new linear owns: its stages, and the bias that came with factors. */
static size_t params_of(const lt_param **p, const lt_linear *l) {
    size_t n = 0;
    for (int s = 0; s < l->n_stages; s++) p[n++] = &l->stage[s].w;
    if (l->n_stages == 2 && l->bias.name && strstr(l->bias.name, SUFFIX_BIAS)) p[n++] = &l->bias;
    return n;
}

static const lt_linear *linear_of(const lt_overlay *o, const lt_module *m) {
    return lt_model_counterpart(lt_overlay_model(o), m);
}

typedef lt_status (*param_fn)(void *user, const lt_param *p, lt_err *err);

static lt_status each_param(const lt_overlay *o, const lt_module *const *module, size_t n, param_fn fn, void *user,
                            lt_err *err) {
    const lt_param *p[MAX_PARAMS];
    for (size_t i = 0; i < n; i++) {
        const size_t n_params = params_of(p, linear_of(o, module[i]));
        for (size_t k = 0; k < n_params; k++) LT_TRY(fn(user, p[k], err));
    }
    return LT_OK;
}

static void hash_tensor(lt_hash *h, const char *name, const lt_tensor *t) {
    lt_hash_update(h, name, strlen(name));
    for (size_t r = 0; r < lt_tensor_rows(t); r++)
        lt_hash_update(h, lt_tensor_row(t, r), lt_tensor_bytes(t) / lt_tensor_rows(t));
}

static lt_status hash_param(void *user, const lt_param *p, lt_err *err) {
    (void)err;
    hash_tensor(user, p->name, &p->t);
    return LT_OK;
}

static lt_status declare_param(void *user, const lt_param *p, lt_err *err) {
    return lt_st_writer_declare(user, p->name, p->t.dtype, p->t.rank, p->t.size, err);
}

static lt_status write_param(void *user, const lt_param *p, lt_err *err) {
    for (size_t r = 0; r < lt_tensor_rows(&p->t); r++)
        LT_TRY(lt_st_writer_bytes(user, lt_tensor_row(&p->t, r), lt_tensor_bytes(&p->t) / lt_tensor_rows(&p->t), err));
    lt_tensor_drop(&p->t);
    return LT_OK;
}

static lt_status digest(char hex[LT_HASH_HEX], const lt_overlay *o, const lt_module *const *module, size_t n,
                        const char *value, lt_err *err) {
    lt_hash *h = lt_hash_create();
    if (!h) return no_memory(err);
    lt_hash_update(h, value, strlen(value));
    const lt_status st = each_param(o, module, n, hash_param, h, err);
    lt_hash_finish(h, hex);
    return st;
}

lt_status lt_fit_journal_put(const char *folder, const char *name, const lt_overlay *o, const lt_module *const *module,
                             size_t n, double value, lt_err *err) {
    char hex[LT_HASH_HEX], text[VALUE_TEXT], *path = path_of(folder, name);
    lt_st_writer *w = NULL;
    lt_status st;
    if (!path) return no_memory(err);
    snprintf(text, sizeof text, "%a", value);
    LT_GO(lt_make_dirs(folder, err));
    LT_GO(digest(hex, o, module, n, text, err));
    LT_GO(lt_st_writer_create(&w, path, err));
    LT_GO(lt_st_writer_meta(w, "sha256", hex, err));
    LT_GO(lt_st_writer_meta(w, "value", text, err));
    LT_GO(each_param(o, module, n, declare_param, w, err));
    LT_GO(lt_st_writer_begin(w, err));
    LT_GO(each_param(o, module, n, write_param, w, err));
    st = lt_st_writer_commit(w, err);
    w = NULL;
done:
    if (w) lt_st_writer_abort(w);
    lt_free(path);
    return st;
}

/* ---- reading ---- */

/* Values of "<module><suffix>" as f64; *out NULL: it is not there. */
static lt_status read_values(double **out, const lt_tensor **t, const lt_safetensors *f, const char *module,
                             const char *suffix, lt_err *err) {
    char *name = lt_asprintf("%s%s", module, suffix);
    *out = NULL;
    if (!name) return no_memory(err);
    *t = lt_safetensors_find(f, name);
    lt_free(name);
    if (!*t) return LT_OK;
    const size_t rows = lt_tensor_rows(*t), cols = lt_tensor_cols(*t);
    float *row = lt_calloc(lt_max_size(cols, 1), sizeof *row);
    *out = lt_calloc(lt_max_size(rows * cols, 1), sizeof **out);
    if (!row || !*out) {
        lt_free(row);
        return no_memory(err);
    }
    for (size_t i = 0; i < rows; i++) {
        lt_tensor_row_f32(row, *t, i, 0, cols);
        for (size_t j = 0; j < cols; j++) (*out)[i * cols + j] = (double)row[j];
    }
    lt_free(row);
    return LT_OK;
}

/* A Conv1D is stored transposed. */
static void transpose_in_place(double **v, size_t rows, size_t cols) {
    double *t = lt_calloc(lt_max_size(rows * cols, 1), sizeof *t);
    for (size_t i = 0; t && i < rows; i++)
        for (size_t j = 0; j < cols; j++) t[j * rows + i] = (*v)[i * cols + j];
    lt_free(*v);
    *v = t;
}

static bool has_shape(const lt_tensor *t, size_t rows, size_t cols) {
    return t && lt_tensor_rows(t) == rows && lt_tensor_cols(t) == cols;
}

static lt_status restore_dense(bool *ok, lt_overlay *o, const lt_module *m, const lt_safetensors *f, lt_err *err) {
    const lt_linear *l = linear_of(o, m);
    const size_t out = lt_linear_out(l), in = lt_linear_in(l);
    const bool in_out = m->linear->stage[0].in_out;
    const lt_tensor *t;
    double *v;
    LT_TRY(read_values(&v, &t, f, l->name, ".weight", err));
    *ok = v && has_shape(t, in_out ? in : out, in_out ? out : in);
    if (*ok && in_out) transpose_in_place(&v, in, out);
    const lt_status st = !*ok ? LT_OK : !v ? no_memory(err) : lt_overlay_dense(o, m->linear->name, v, t->dtype, err);
    lt_free(v);
    return st;
}

static lt_status restore_module(bool *ok, lt_overlay *o, const lt_module *m, const lt_safetensors *f, lt_err *err) {
    const lt_linear *l = linear_of(o, m);
    const size_t out = lt_linear_out(l), in = lt_linear_in(l);
    const lt_tensor *ta, *tb, *tc;
    double *a = NULL, *b = NULL, *bias = NULL;
    lt_status st;
    LT_GO(read_values(&a, &ta, f, l->name, ".ALinear.weight", err));
    LT_GO(read_values(&b, &tb, f, l->name, ".BLinear.weight", err));
    LT_GO(read_values(&bias, &tc, f, l->name, ".ALinear.bias", err));
    if (!a) LT_GO(restore_dense(ok, o, m, f, err));
    if (!a) goto done;
    const size_t rank = lt_tensor_cols(ta);
    *ok = has_shape(ta, out, rank) && b && has_shape(tb, rank, in) && (!bias || lt_tensor_count(tc) == out);
    if (*ok) st = lt_overlay_factor(o, m->linear->name, rank, a, b, bias, ta->dtype, err);
done:
    lt_free(a);
    lt_free(b);
    lt_free(bias);
    return st;
}

/* Is every byte of the file what was written? */
static lt_status is_whole(bool *whole, const lt_overlay *o, const lt_module *const *module, size_t n,
                          const lt_safetensors *f, lt_err *err) {
    char hex[LT_HASH_HEX];
    const char *stored = lt_safetensors_meta(f, "sha256"), *value = lt_safetensors_meta(f, "value");
    lt_hash *h = lt_hash_create();
    if (!h) return no_memory(err);
    if (value) lt_hash_update(h, value, strlen(value));
    for (size_t i = 0; i < n * LT_COUNTOF(suffixes); i++) {
        const lt_linear *l = linear_of(o, module[i / LT_COUNTOF(suffixes)]);
        char *name = lt_asprintf("%s%s", l->name, suffixes[i % LT_COUNTOF(suffixes)]);
        const lt_tensor *t = name ? lt_safetensors_find(f, name) : NULL;
        if (t) hash_tensor(h, name, t);
        lt_free(name);
    }
    lt_hash_finish(h, hex);
    *whole = stored && value && strcmp(stored, hex) == 0;
    return LT_OK;
}

static lt_status restore(bool *found, lt_overlay *o, const lt_module *const *module, size_t n, const lt_safetensors *f,
                         lt_err *err) {
    for (size_t i = 0; i < n; i++) LT_TRY(lt_overlay_set_apart(o, module[i]->linear->name, err));
    LT_TRY(is_whole(found, o, module, n, f, err));
    for (size_t i = 0; *found && i < n; i++) {
        bool ok = true;
        LT_TRY(restore_module(&ok, o, module[i], f, err));
        if (!ok)
            return lt_fail(err, LT_EDATA, "fits: is not of this plan (%s: %s)", lt_safetensors_path(f),
                           module[i]->linear->name);
    }
    return LT_OK;
}

lt_status lt_fit_journal_get(bool *found, double *value, const char *folder, const char *name, lt_overlay *o,
                             const lt_module *const *module, size_t n, lt_err *err) {
    char *path = path_of(folder, name);
    lt_safetensors *f = NULL;
    *found = false;
    if (!path) return no_memory(err);
    lt_status st = LT_OK;
    if (lt_path_exists(path) && lt_safetensors_open(&f, path, NULL) == LT_OK) st = restore(found, o, module, n, f, err);
    if (st == LT_OK && *found && value) *value = strtod(lt_safetensors_meta(f, "value"), NULL);
    lt_safetensors_close(f);
    lt_free(path);
    return st;
}
