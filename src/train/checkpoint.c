/* SPDX-License-Identifier: Apache-2.0 */
#include "train/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"

static char *path_of(const char *folder, size_t step, const char *suffix) {
    return lt_asprintf("%s/checkpoint-%08zu%s", folder, step, suffix);
}

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "checkpoint: out of memory");
}

/* ---- tensors: one list of arrays under the names of what trains ---- */

typedef struct column {
    const char *prefix;
    size_t member; /* offset of a float * in lt_slice */
} column;
static const column values[] = { { "", offsetof(lt_slice, value) } },
                    moments[] = { { "m.", offsetof(lt_slice, m) }, { "v.", offsetof(lt_slice, v) } };

static float *array_of(const lt_slice *s, const column *c) {
    float *p;
    memcpy(&p, (const char *)s + c->member, sizeof p);
    return p;
}

static lt_status declare(lt_st_writer *w, const lt_trainee *t, const column *c, size_t n, lt_err *err) {
    char name[320];
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < t->n; i++) {
            snprintf(name, sizeof name, "%s%s", c[k].prefix, t->param[i]->name);
            LT_TRY(lt_st_writer_declare(w, name, LT_F32, t->param[i]->t.rank, t->param[i]->t.size, err));
        }
    return lt_st_writer_begin(w, err);
}

static lt_status write_columns(lt_st_writer *w, const lt_trainee *t, const column *c, size_t n, lt_err *err) {
    LT_TRY(declare(w, t, c, n, err));
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < t->n; i++)
            LT_TRY(lt_st_writer_bytes(w, array_of(&t->slice[i], &c[k]), t->slice[i].n * sizeof(float), err));
    return LT_OK;
}

static lt_status save_columns(const lt_trainee *t, const char *folder, const char *name, const column *c, size_t n,
                              lt_err *err) {
    char *path = lt_path_join(folder, name);
    lt_st_writer *w = NULL;
    lt_status st = path ? lt_st_writer_create(&w, path, err) : no_memory(err);
    lt_free(path);
    LT_TRY(st);
    st = write_columns(w, t, c, n, err);
    if (st == LT_OK) return lt_st_writer_commit(w, err);
    lt_st_writer_abort(w);
    return st;
}

static lt_status read_columns(lt_trainee *t, const lt_safetensors *f, const column *c, size_t n, lt_err *err) {
    char name[320];
    const lt_tensor *from;
    if (lt_safetensors_count(f) != n * t->n)
        return lt_fail(err, LT_EDATA, "checkpoint has %zu tensors, training has %zu (%s)", lt_safetensors_count(f),
                       n * t->n, lt_safetensors_path(f));
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < t->n; i++) {
            snprintf(name, sizeof name, "%s%s", c[k].prefix, t->param[i]->name);
            LT_TRY(lt_safetensors_get(&from, f, name, LT_F32, t->param[i]->t.rank, err));
            if (memcmp(from->size, t->param[i]->t.size, (size_t)from->rank * sizeof *from->size) != 0)
                return lt_fail(err, LT_EDATA, "checkpoint's tensor has another shape (%s: %s)", lt_safetensors_path(f),
                               name);
            memcpy(array_of(&t->slice[i], &c[k]), lt_host(from), t->slice[i].n * sizeof(float));
        }
    return LT_OK;
}

static lt_status load_columns(lt_trainee *t, const char *folder, const char *name, const column *c, size_t n,
                              lt_err *err) {
    char *path = lt_path_join(folder, name);
    lt_safetensors *f = NULL;
    lt_status st = path ? lt_safetensors_open(&f, path, err) : no_memory(err);
    if (st == LT_OK) st = read_columns(t, f, c, n, err);
    lt_safetensors_close(f);
    lt_free(path);
    return st;
}

/* ---- the folder ---- */

static lt_status fill(const lt_trainee *t, const char *folder, const json_t *state, lt_err *err) {
    LT_TRY(lt_remove_tree(folder, err));
    LT_TRY(lt_make_dirs(folder, err));
    LT_TRY(save_columns(t, folder, "weights.safetensors", values, LT_COUNTOF(values), err));
    LT_TRY(save_columns(t, folder, "optimizer.safetensors", moments, LT_COUNTOF(moments), err));
    char *path = lt_path_join(folder, "state.json");
    const lt_status st = path ? lt_json_save(state, path, err) : no_memory(err);
    lt_free(path);
    return st;
}

lt_status lt_checkpoint_save(const lt_trainee *t, const char *folder, size_t step, const json_t *state, lt_err *err) {
    char *final = path_of(folder, step, ""), *temp = path_of(folder, step, ".tmp-");
    lt_status st = final && temp ? LT_OK : no_memory(err);
    if (st == LT_OK && !lt_path_exists(final)) { /* of this step already: the same bytes */
        st = fill(t, temp, state, err);
        if (st == LT_OK) st = lt_rename(temp, final, err);
        if (st != LT_OK) (void)lt_remove_tree(temp, NULL); /* make room; the failure is what is told */
    }
    lt_free(final);
    lt_free(temp);
    return st;
}

lt_status lt_checkpoint_load(lt_trainee *t, const char *folder, size_t step, bool weights_only, json_t **state,
                             lt_err *err) {
    char *path = path_of(folder, step, ""), *file = path ? lt_path_join(path, "state.json") : NULL;
    json_t *j = NULL;
    size_t said = 0;
    lt_status st = file ? lt_json_load(&j, file, err) : no_memory(err);
    if (st == LT_OK) st = lt_json_size(&said, j, "step", 0, file, err);
    if (st == LT_OK && said != step) st = lt_fail(err, LT_EDATA, "checkpoint is of step %zu (%s)", said, file);
    if (st == LT_OK) st = load_columns(t, path, "weights.safetensors", values, LT_COUNTOF(values), err);
    if (st == LT_OK && !weights_only)
        st = load_columns(t, path, "optimizer.safetensors", moments, LT_COUNTOF(moments), err);
    lt_free(path);
    lt_free(file);
    if (st == LT_OK && state)
        *state = j;
    else
        json_decref(j);
    return st;
}

static int by_step(const void *a, const void *b) {
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* A name that path_of gives, and none like it. */
static bool is_checkpoint(const char *name, size_t *step) {
    char own[40];
    if (sscanf(name, "checkpoint-%zu", step) != 1) return false;
    snprintf(own, sizeof own, "checkpoint-%08zu", *step);
    return strcmp(name, own) == 0;
}

lt_status lt_checkpoint_list(size_t **steps, size_t *n, const char *folder, lt_err *err) {
    char **names;
    size_t n_names, step;
    LT_TRY(lt_list_dir(&names, &n_names, folder, err));
    size_t *list = lt_calloc(n_names + 1, sizeof *list);
    *n = 0;
    for (size_t i = 0; i < n_names; i++) {
        if (list && is_checkpoint(names[i], &step)) list[(*n)++] = step;
        lt_free(names[i]);
    }
    lt_free(names);
    if (!list) return no_memory(err);
    qsort(list, *n, sizeof *list, by_step); /* names are sorted by step up to eight digits only */
    *steps = list;
    return LT_OK;
}

lt_status lt_checkpoint_remove(const char *folder, size_t step, lt_err *err) {
    char *path = path_of(folder, step, ""), *gone = path_of(folder, step, ".tmp-gone");
    lt_status st = path && gone ? lt_remove_tree(gone, err) : no_memory(err);
    if (st == LT_OK) st = lt_rename(path, gone, err);
    if (st == LT_OK) st = lt_remove_tree(gone, err);
    lt_free(path);
    lt_free(gone);
    return st;
}

lt_status lt_checkpoint_prune(const char *folder, size_t keep, const size_t *best, lt_err *err) {
    size_t *steps, n;
    LT_TRY(lt_checkpoint_list(&steps, &n, folder, err));
    lt_status st = LT_OK;
    for (size_t i = 0; st == LT_OK && i + keep < n; i++)
        if (!best || steps[i] != *best) st = lt_checkpoint_remove(folder, steps[i], err);
    lt_free(steps);
    return st;
}
