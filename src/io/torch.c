/* SPDX-License-Identifier: Apache-2.0 */
#include "io/torch.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/pickle.h"
#include "io/zip.h"

enum { MAX_PICKLE = 16 << 20 };

struct lt_torch {
    char *path;
    lt_buffer file;
    bool owns_map;
    lt_arena *arena; /* names, entries */
    lt_torch_entry *entries;
    size_t n;
    lt_buffer *copies; /* [n]; data NULL: a view */
};

static lt_status no_memory(const lt_torch *t, lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "out of memory (%s)", t->path);
}

/* ---- the archive ---- */

static lt_status check_kind(const lt_torch *t, lt_err *err) {
    static const char tar[] = "ustar";
    const uint8_t *p = t->file.data;
    const size_t n = t->file.bytes;
    if (n >= 2 && p[0] == 0x80 && p[1] <= 5)
        return lt_fail(err, LT_EUNSUPPORTED, "a bare pickle, as torch wrote it before 1.6: save it again (%s)",
                       t->path);
    if (n >= 262 && memcmp(p + 257, tar, sizeof tar - 1) == 0)
        return lt_fail(err, LT_EUNSUPPORTED, "a tar, as torch wrote it before 0.1.10: save it again (%s)", t->path);
    if (n < 4 || memcmp(p, "PK\3\4", 4) != 0)
        return lt_fail(err, LT_EDATA, "neither a ZIP file nor anything else that torch.save writes (%s)", t->path);
    return LT_OK;
}

/* The folder that all entries stand in, with its slash: what comes before "data.pkl". */
static lt_status find_root(const lt_torch *t, const lt_zip *z, char root[256], lt_err *err) {
    static const char name[] = "data.pkl";
    for (size_t i = 0; i < z->n; i++) {
        const char *slash = strchr(z->entry[i].name, '/');
        const size_t n = slash ? (size_t)(slash - z->entry[i].name) + 1 : 0;
        if (n == 0 || n >= 256 || strcmp(z->entry[i].name + n, name) != 0) continue;
        memcpy(root, z->entry[i].name, n);
        root[n] = 0;
        return LT_OK;
    }
    return lt_fail(err, LT_EDATA, "ZIP file without data.pkl, so not of torch (%s)", t->path);
}

static const lt_zip_entry *entry_of(const lt_zip *z, const char *root, const char *folder, const char *name) {
    char full[512];
    const int n = snprintf(full, sizeof full, "%s%s%s", root, folder, name);
    return n > 0 && (size_t)n < sizeof full ? lt_zip_find(z, full) : NULL;
}

static lt_status check_order(const lt_torch *t, const lt_zip *z, const char *root, lt_err *err) {
    const lt_zip_entry *e = entry_of(z, root, "", "byteorder");
    const char *text = (const char *)t->file.data + (e ? e->offset : 0);
    if (!e || (e->bytes == 6 && memcmp(text, "little", 6) == 0)) return LT_OK;
    return lt_fail(err, LT_EUNSUPPORTED, "bytes are not little-endian (%s: byteorder: %.*s)", t->path,
                   (int)lt_min_size(e->bytes, 16), text);
}

/* ---- tensors ---- */

static bool rows_are_dense(const lt_tensor *t) {
    const int last = t->rank - 1;
    if (t->rank == 0 || t->size[last] <= 1) return true;
    return t->stride[last] == 1;
}

static bool is_aligned(const lt_tensor *t) {
    return ((uintptr_t)t->buffer->data + t->offset) % lt_dtype_get(t->dtype)->bytes == 0;
}

/* Element by element, last dimension fastest. */
static void gather(char *to, const lt_tensor *t) {
    const size_t bytes = lt_dtype_get(t->dtype)->bytes;
    size_t index[LT_MAX_RANK] = { 0 };
    const char *from = (const char *)t->buffer->data + t->offset;
    for (size_t i = 0, n = lt_tensor_count(t); i < n; i++) {
        size_t at = 0;
        for (int d = 0; d < t->rank; d++) at += index[d] * t->stride[d];
        memcpy(to + i * bytes, from + at * bytes, bytes);
        for (int d = t->rank; d-- > 0 && ++index[d] == t->size[d];) index[d] = 0;
    }
}

static lt_status copy(lt_torch *t, size_t i, lt_err *err) {
    lt_tensor *x = &t->entries[i].tensor;
    const size_t bytes = lt_tensor_bytes(x);
    char *data = lt_malloc(bytes);
    if (!data) return lt_fail(err, LT_ENOMEM, "out of memory (%s: %s)", t->path, t->entries[i].name);
    gather(data, x);
    t->copies[i] = (lt_buffer){ .data = data, .bytes = bytes };
    *x = lt_tensor_dense(x->dtype, x->rank, x->size, &t->copies[i], 0);
    return LT_OK;
}

static lt_status place(lt_torch *t, size_t i, const lt_zip *z, const char *root, const lt_pickle_tensor *p,
                       lt_err *err) {
    const lt_zip_entry *e = entry_of(z, root, "data/", p->key);
    const size_t bytes = lt_dtype_get(p->dtype)->bytes;
    if (!e) return lt_fail(err, LT_EDATA, "storage is missing (%s: %s: data/%.80s)", t->path, p->name, p->key);
    if (e->bytes / bytes < p->storage_count)
        return lt_fail(err, LT_EDATA, "storage is shorter than the pickle says (%s: %s: %zu bytes, %llu x %zu)",
                       t->path, p->name, e->bytes, (unsigned long long)p->storage_count, bytes);
    lt_tensor x = lt_tensor_dense(p->dtype, p->rank, p->size, &t->file, e->offset);
    const size_t count = lt_tensor_count(&x);
    if (count > p->storage_count)
        return lt_fail(err, LT_EUNSUPPORTED, "an expanded tensor, larger than its storage (%s: %s)", t->path, p->name);
    if (count > 0) { /* of none, offset and strides mean nothing */
        x.offset += (size_t)p->offset * bytes;
        memcpy(x.stride, p->stride, sizeof x.stride);
    }
    t->entries[i] = (lt_torch_entry){ p->name, x };
    return count == 0 || (rows_are_dense(&x) && is_aligned(&x)) ? LT_OK : copy(t, i, err);
}

static lt_status read_tensors(lt_torch *t, const lt_zip *z, lt_err *err) {
    char root[256];
    lt_pickle_tensor *p;
    size_t n;
    LT_TRY(find_root(t, z, root, err));
    LT_TRY(check_order(t, z, root, err));
    const lt_zip_entry *pickle = entry_of(z, root, "", "data.pkl");
    if (pickle->bytes > MAX_PICKLE) /* about 200 bytes a tensor; reading takes up to 64 times its length of memory */
        return lt_fail(err, LT_EUNSUPPORTED, "data.pkl is longer than %d bytes (%s: %zu)", MAX_PICKLE, t->path,
                       pickle->bytes);
    LT_TRY(
        lt_pickle_tensors(&p, &n, t->arena, (const char *)t->file.data + pickle->offset, pickle->bytes, t->path, err));
    t->entries = lt_arena_array(t->arena, lt_max_size(1, n), sizeof *t->entries);
    t->copies = lt_arena_array(t->arena, lt_max_size(1, n), sizeof *t->copies);
    if (!t->entries || !t->copies) return no_memory(t, err);
    for (; t->n < n; t->n++) {
        t->copies[t->n] = (lt_buffer){ 0 };
        LT_TRY(place(t, t->n, z, root, &p[t->n], err));
    }
    return LT_OK;
}

/* ---- opening ---- */

static lt_status parse(lt_torch *t, lt_err *err) {
    lt_zip z;
    LT_TRY(check_kind(t, err));
    LT_TRY(lt_zip_parse(&z, t->file.data, t->file.bytes, t->path, err));
    const lt_status st = read_tensors(t, &z, err);
    lt_zip_clear(&z);
    return st;
}

static lt_status create(lt_torch **out, const char *name, lt_err *err) {
    lt_torch *t = lt_calloc(1, sizeof *t);
    if (t) {
        t->path = lt_strdup(name);
        t->arena = lt_arena_create((size_t)64 << 10);
    }
    if (!t || !t->path || !t->arena) {
        lt_torch_close(t);
        return lt_fail(err, LT_ENOMEM, "out of memory (%s)", name);
    }
    *out = t;
    return LT_OK;
}

static lt_status finish(lt_torch **out, lt_torch *t, lt_status st) {
    if (st == LT_OK)
        *out = t;
    else
        lt_torch_close(t);
    return st;
}

lt_status lt_torch_open(lt_torch **out, const char *path, lt_err *err) {
    lt_torch *t;
    LT_TRY(create(&t, path, err));
    lt_status st = lt_map_open(&t->file, path, err);
    t->owns_map = st == LT_OK;
    if (st == LT_OK) st = parse(t, err);
    return finish(out, t, st);
}

lt_status lt_torch_from_memory(lt_torch **out, const void *data, size_t bytes, const char *name, lt_err *err) {
    lt_torch *t;
    LT_TRY(create(&t, name, err));
    t->file = (lt_buffer){ (void *)data, bytes, false };
    return finish(out, t, parse(t, err));
}

void lt_torch_close(lt_torch *t) {
    if (!t) return;
    for (size_t i = 0; i < t->n; i++) lt_free(t->copies[i].data);
    if (t->owns_map) lt_map_close(&t->file);
    if (t->arena) lt_arena_destroy(t->arena);
    lt_free(t->path);
    lt_free(t);
}

size_t lt_torch_count(const lt_torch *t) {
    return t->n;
}

const lt_torch_entry *lt_torch_at(const lt_torch *t, size_t i) {
    return &t->entries[i];
}

const char *lt_torch_path(const lt_torch *t) {
    return t->path;
}
