/* SPDX-License-Identifier: Apache-2.0 */
#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

static int by_name(const void *a, const void *b) {
    return strcmp(((const lt_weight *)a)->name, ((const lt_weight *)b)->name);
}

lt_weight *lt_weights_find(const lt_weights *w, const char *name) {
    const lt_weight key = { .name = name };
    return w->n_weights ? bsearch(&key, w->weight, w->n_weights, sizeof key, by_name) : NULL;
}

char *lt_weights_strdup(lt_weights *w, const char *s) {
    const size_t bytes = strlen(s) + 1;
    char *copy = lt_arena_alloc(w->arena, bytes);
    if (copy) memcpy(copy, s, bytes);
    return copy;
}

lt_status lt_weights_own(lt_weights *w, void *p, lt_err *err) {
    void **grown = lt_realloc(w->owned, (w->n_owned + 1) * sizeof *grown);
    if (!grown) {
        lt_free(p);
        return lt_fail(err, LT_ENOMEM, "out of memory (model: list of owned buffers)");
    }
    w->owned = grown;
    w->owned[w->n_owned++] = p;
    return LT_OK;
}

void lt_weights_close(lt_weights *w) {
    if (!w) return;
    for (size_t i = 0; i < w->n_shards; i++) {
        lt_safetensors_close(w->shard[i].st);
        lt_torch_close(w->shard[i].pt);
    }
    for (size_t i = 0; i < w->n_owned; i++) lt_free(w->owned[i]);
    if (w->gguf) lt_gguf_close(w->gguf);
    lt_free(w->owned);
    lt_free(w->shard);
    lt_free(w->weight);
    if (w->arena) lt_arena_destroy(w->arena);
    lt_free(w);
}

static lt_status create(lt_weights **out, const char *where, lt_err *err) {
    lt_weights *w = lt_calloc(1, sizeof *w);
    if (w) w->arena = lt_arena_create((size_t)64 << 10);
    if (!w || !w->arena) {
        lt_weights_close(w);
        return lt_fail(err, LT_ENOMEM, "out of memory (%s: weights)", where);
    }
    *out = w;
    return LT_OK;
}

/* ---- folders ---- */

/* The kinds of file that a folder may hold its weights in; the first that is there counts. */
typedef struct container {
    const char *single, *index;
    lt_status (*open)(lt_shard *s, const char *path, lt_err *err);
} container;

static lt_status open_safetensors(lt_shard *s, const char *path, lt_err *err) {
    LT_TRY(lt_safetensors_open(&s->st, path, err));
    s->path = lt_safetensors_path(s->st);
    return LT_OK;
}

static lt_status open_torch(lt_shard *s, const char *path, lt_err *err) {
    LT_TRY(lt_torch_open(&s->pt, path, err));
    s->path = lt_torch_path(s->pt);
    return LT_OK;
}

static const container containers[] = {
    { "model.safetensors", "model.safetensors.index.json", open_safetensors },
    { "pytorch_model.bin", "pytorch_model.bin.index.json", open_torch },
};

static lt_weight weight_at(const lt_shard *s, size_t i) {
    if (s->pt)
        return (
            lt_weight){ .name = lt_torch_at(s->pt, i)->name, .file = s->path, .tensor = lt_torch_at(s->pt, i)->tensor };
    const lt_st_entry *e = lt_safetensors_at(s->st, i);
    return (lt_weight){ .name = e->name, .file = s->path, .tensor = e->tensor };
}

/* Every file is opened and its tensors appended; names are sorted at the end. */
static lt_status add_shard(lt_weights *w, const container *c, const char *path, lt_err *err) {
    lt_shard *shards = lt_realloc(w->shard, (w->n_shards + 1) * sizeof *shards);
    if (!shards) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    w->shard = shards;
    lt_shard s = { 0 };
    LT_TRY(c->open(&s, path, err));
    w->shard[w->n_shards++] = s;
    const size_t n = s.pt ? lt_torch_count(s.pt) : lt_safetensors_count(s.st);
    lt_weight *grown = lt_realloc(w->weight, lt_max_size(1, w->n_weights + n) * sizeof *grown);
    if (!grown) return lt_fail(err, LT_ENOMEM, "out of memory (%s: %zu tensors)", path, n);
    w->weight = grown;
    for (size_t i = 0; i < n; i++) w->weight[w->n_weights++] = weight_at(&s, i);
    return LT_OK;
}

/* A shard's name is a plain file name: an index must not point elsewhere. */
static bool plain_name(const char *name) {
    return name[0] != '\0' && name[0] != '.' && !strchr(name, '/') && !strchr(name, '\\');
}

static bool have_shard(const lt_weights *w, const char *name) {
    for (size_t i = 0; i < w->n_shards; i++)
        if (strcmp(lt_path_name(w->shard[i].path), name) == 0) return true;
    return false;
}

static lt_status open_shards(lt_weights *w, const container *c, const char *folder, const json_t *map,
                             const char *index, lt_err *err) {
    const char *tensor;
    json_t *file;
    json_object_foreach((json_t *)map, tensor, file) {
        const char *name = json_string_value(file);
        if (!name || !plain_name(name))
            return lt_fail(err, LT_EDATA, "shard name is not a plain file name (%s: %s)", index, tensor);
        if (have_shard(w, name)) continue;
        char *path = lt_path_join(folder, name);
        if (!path) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", index);
        const lt_status st = lt_path_exists(path)
                                 ? add_shard(w, c, path, err)
                                 : lt_fail(err, LT_EIO, "shard is missing (%s: %s: %s)", index, tensor, name);
        lt_free(path);
        LT_TRY(st);
    }
    return LT_OK;
}

/* Index and shards say the same: every tensor of a shard is mapped to that shard, every mapped tensor is there. */
static lt_status check_index(const lt_weights *w, const json_t *map, const char *index, lt_err *err) {
    for (size_t i = 0; i < w->n_weights; i++) {
        const lt_weight *t = &w->weight[i];
        const char *file = json_string_value(json_object_get(map, t->name));
        if (!file) return lt_fail(err, LT_EDATA, "tensor is not in the index (%s: %s)", t->file, t->name);
        if (strcmp(file, lt_path_name(t->file)) != 0)
            return lt_fail(err, LT_EDATA, "tensor is in another shard than the index says (%s: %s: %s)", t->file,
                           t->name, file);
    }
    if (json_object_size(map) == w->n_weights) return LT_OK;
    const char *tensor;
    json_t *file;
    json_object_foreach((json_t *)map, tensor, file) if (!lt_weights_find(w, tensor)) return lt_fail(
        err, LT_EDATA, "tensor of the index is in no shard (%s: %s: %s)", index, tensor, json_string_value(file));
    return LT_OK;
}

static lt_status add_indexed(lt_weights *w, const container *c, const char *folder, const char *index, lt_err *err) {
    json_t *root = NULL, *map;
    lt_status st;
    LT_TRY(lt_json_load(&root, index, err));
    LT_GO(lt_json_need(&map, root, "weight_map", index, err));
    if (!json_is_object(map) || json_object_size(map) == 0) {
        st = lt_fail(err, LT_EDATA, "weight_map is not an object with members (%s)", index);
        goto done;
    }
    LT_GO(open_shards(w, c, folder, map, index, err));
    qsort(w->weight, w->n_weights, sizeof *w->weight, by_name);
    st = check_index(w, map, index, err);
done:
    json_decref(root);
    return st;
}

/* *found: this kind is there */
static lt_status add_kind(bool *found, lt_weights *w, const container *c, const char *folder, lt_err *err) {
    char *single = lt_path_join(folder, c->single), *index = lt_path_join(folder, c->index);
    lt_status st = LT_OK;
    *found = false;
    if (!single || !index)
        st = lt_fail(err, LT_ENOMEM, "out of memory (%s)", folder);
    else if ((*found = lt_path_exists(single))) {
        st = add_shard(w, c, single, err);
        if (st == LT_OK) qsort(w->weight, w->n_weights, sizeof *w->weight, by_name);
    } else if ((*found = lt_path_exists(index)))
        st = add_indexed(w, c, folder, index, err);
    lt_free(single);
    lt_free(index);
    return st;
}

static lt_status add_folder(lt_weights *w, const char *folder, lt_err *err) {
    bool found = false;
    for (size_t i = 0; i < LT_COUNTOF(containers) && !found; i++)
        LT_TRY(add_kind(&found, w, &containers[i], folder, err));
    return found ? LT_OK
                 : lt_fail(err, LT_EIO, "no model.safetensors, pytorch_model.bin or index of shards of either (%s)",
                           folder);
}

lt_status lt_weights_open_folder(lt_weights **out, const char *folder, lt_err *err) {
    lt_weights *w;
    LT_TRY(create(&w, folder, err));
    const lt_status st = add_folder(w, folder, err);
    if (st != LT_OK)
        lt_weights_close(w);
    else
        *out = w;
    return st;
}

/* ---- names without their prefix ---- */

static const char *module_of(const lt_family *f, lt_slot slot) {
    for (size_t i = 0; i < f->n_tensors; i++)
        if (f->tensors[i].slot == slot) return f->tensors[i].hf;
    return "";
}

/* Told by the table: it is there without the prefix, and not with it. */
static bool is_bare(const lt_weights *w, const lt_family *f) {
    char name[160];
    const char *table = module_of(f, LT_SLOT_EMBED);
    const size_t n = f->prefix ? strlen(f->prefix) : 0;
    if (n == 0 || strncmp(table, f->prefix, n) != 0) return false;
    snprintf(name, sizeof name, "%s.weight", table);
    return !lt_weights_find(w, name) && lt_weights_find(w, name + n);
}

lt_status lt_weights_add_prefix(lt_weights *w, const lt_family *f, lt_err *err) {
    const char *head = module_of(f, LT_SLOT_HEAD);
    if (!is_bare(w, f)) return LT_OK;
    for (size_t i = 0; i < w->n_weights; i++) {
        lt_weight *e = &w->weight[i];
        if (strncmp(e->name, head, strlen(head)) == 0) continue;
        char *full = lt_asprintf("%s%s", f->prefix, e->name);
        e->name = full ? lt_weights_strdup(w, full) : NULL;
        lt_free(full);
        if (!e->name) return lt_fail(err, LT_ENOMEM, "out of memory (%s: tensor names)", e->file);
    }
    qsort(w->weight, w->n_weights, sizeof *w->weight, by_name);
    return LT_OK;
}

/* ---- GGUF ---- */

lt_status lt_weights_open_gguf(lt_weights **out, const char *path, lt_err *err) {
    lt_weights *w;
    lt_status st = create(&w, path, err);
    if (st != LT_OK) return st;
    LT_GO(lt_gguf_open(&w->gguf, path, err));
    w->n_weights = lt_gguf_count(w->gguf);
    w->weight = lt_calloc(lt_max_size(1, w->n_weights), sizeof *w->weight);
    if (!w->weight) {
        w->n_weights = 0;
        st = lt_fail(err, LT_ENOMEM, "out of memory (%s: tensors)", path);
        goto done;
    }
    for (size_t i = 0; i < w->n_weights; i++) {
        const lt_gguf_entry *e = lt_gguf_at(w->gguf, i);
        w->weight[i] = (lt_weight){ .name = e->name, .file = lt_gguf_path(w->gguf), .tensor = e->tensor };
    }
    qsort(w->weight, w->n_weights, sizeof *w->weight, by_name);
done:
    if (st != LT_OK)
        lt_weights_close(w);
    else
        *out = w;
    return st;
}

/* Where the rows of a Hugging Face matrix lie: row (i, j, k) of size[] is stored row i*step[0] + j*step[1] + k*step[2].
 */
typedef struct row_order {
    size_t size[3], step[3]; /* size[0] 0: as they are */
} row_order;

/* llama.cpp turns q and k to interleaved rotary order (pair j of a head: rows 2j and 2j + 1), and puts parts that
 * alternate by head one after another. */
static row_order order_of(const lt_map_row *row, const lt_layer_config *l) {
    const size_t hd = l->qk_dim, heads = l->n_q_heads;
    if (row->gguf_permuted)
        return (row_order){ { row->slot == LT_SLOT_K ? l->n_k_heads : heads, 2, hd / 2 }, { hd, 1, 2 } };
    if (row->fused && row->fused->by_head) return (row_order){ { heads, 3, hd }, { hd, heads * hd, 1 } };
    return (row_order){ 0 };
}

static lt_status reorder_rows(lt_weight *e, const row_order *o, lt_err *err) {
    lt_tensor *t = &e->tensor;
    const size_t rows = o->size[0] * o->size[1] * o->size[2];
    if (t->rank != 2 || !lt_tensor_is_dense(t) || t->size[0] != rows)
        return lt_fail(err, LT_EDATA, "rows are not %zu, as the heads say (%s: %s: %zu)", rows, e->file, e->name,
                       t->size[0]);
    const size_t in = t->size[1];
    t->rank = 4;
    for (int i = 0; i < 3; i++) {
        t->size[i] = o->size[i];
        t->stride[i] = o->step[i] * in;
    }
    t->size[3] = in;
    t->stride[3] = 1;
    return LT_OK;
}

/* A vector of its own, in f32: entry i is stored entry from[i], less `less`. It is small. */
static lt_status copy_vector(lt_weights *w, lt_weight *e, size_t n, const row_order *o, float less, lt_err *err) {
    if (e->tensor.rank != 1 || e->tensor.size[0] != n || e->tensor.dtype != LT_F32)
        return lt_fail(err, LT_EDATA, "vector is not f32 [%zu] (%s: %s: %zu)", n, e->file, e->name,
                       lt_tensor_count(&e->tensor));
    struct {
        lt_buffer buffer;
        float value[];
    } *copy = lt_arena_alloc(w->arena, sizeof *copy + n * sizeof(float));
    if (!copy) return lt_fail(err, LT_ENOMEM, "out of memory (%s: %s)", e->file, e->name);
    const char *src = lt_host(&e->tensor);
    for (size_t r = 0; r < n; r++) {
        const size_t i = r / (o->size[1] * o->size[2]), j = r / o->size[2] % o->size[1], k = r % o->size[2];
        memcpy(&copy->value[r], src + (i * o->step[0] + j * o->step[1] + k * o->step[2]) * sizeof(float),
               sizeof(float));
        copy->value[r] -= less;
    }
    copy->buffer = (lt_buffer){ .data = copy->value, .bytes = n * sizeof(float) };
    e->tensor = lt_tensor_dense(LT_F32, 1, &n, &copy->buffer, 0);
    return LT_OK;
}

static bool is_norm(lt_slot s) {
    return s == LT_SLOT_FINAL_NORM || (lt_slot_in_layer(s) && !lt_slot_is_linear(s));
}

/* A tensor as Hugging Face has it. */
static lt_status restore(lt_weights *w, lt_weight *e, const lt_family *f, const lt_map_row *row,
                         const lt_layer_config *l, lt_err *err) {
    const row_order o = order_of(row, l);
    if (o.size[0] > 0 && e->tensor.rank != 1) return reorder_rows(e, &o, err);
    if (o.size[0] > 0) return copy_vector(w, e, o.size[0] * o.size[1] * o.size[2], &o, 0.0f, err);
    const size_t n = lt_tensor_count(&e->tensor);
    if (is_norm(row->slot) && f->block.norm == LT_NORM_RMS_PLUS1) /* 1 + w is stored */
        return copy_vector(w, e, n, &(row_order){ { n, 1, 1 }, { 1, 0, 0 } }, 1.0f, err);
    return LT_OK;
}

static lt_status rename_one(lt_weights *w, const lt_family *f, const lt_map_row *row, const lt_config *c, size_t layer,
                            const char *suffix, lt_err *err) {
    char gguf[160], hf[160];
    if (!lt_map_name(gguf, sizeof gguf - 8, row->gguf, layer) || !lt_map_name(hf, sizeof hf - 8, row->hf, layer))
        return lt_fail(err, LT_EINTERNAL, "tensor name is too long (%s)", row->hf);
    strcat(gguf, suffix);
    strcat(hf, suffix);
    lt_weight *e = lt_weights_find(w, gguf);
    if (!e) return LT_OK; /* binding will miss it, if it must be there */
    LT_TRY(restore(w, e, f, row, &c->layer[layer], err));
    e->hf = lt_weights_strdup(w, hf);
    return e->hf ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", hf);
}

lt_status lt_weights_rename_gguf(lt_weights *w, const lt_family *f, const lt_config *c, lt_err *err) {
    for (size_t i = 0; i < f->n_tensors; i++) {
        const lt_map_row *row = &f->tensors[i];
        const size_t n = lt_slot_in_layer(row->slot) ? c->n_layers : 1;
        for (size_t layer = 0; row->gguf && layer < n; layer++) {
            LT_TRY(rename_one(w, f, row, c, layer, ".weight", err));
            if (row->has_bias) LT_TRY(rename_one(w, f, row, c, layer, ".bias", err));
        }
    }
    for (size_t i = 0; i < w->n_weights; i++)
        if (w->weight[i].hf) w->weight[i].name = w->weight[i].hf;
    qsort(w->weight, w->n_weights, sizeof *w->weight, by_name);
    return LT_OK;
}
