/* SPDX-License-Identifier: Apache-2.0 */
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

#define MAX_HEADER ((size_t)100000000)

struct lt_safetensors {
    char *path;
    lt_buffer file;
    bool owns_map;
    json_t *header; /* names and metadata are borrowed from it */
    const json_t *meta;
    lt_st_entry *entries; /* sorted by name */
    size_t n;
    lt_buffer *copies; /* [n]; of tensors whose bytes start at no multiple of their element size */
};

/* ---- reading ---- */

static lt_status bad(const lt_safetensors *st, const char *tensor, const char *what, lt_err *err) {
    return lt_fail(err, LT_EDATA, "%s (%s: %s)", what, st->path, tensor);
}

static lt_status no_memory(const char *path, lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
}

static lt_status read_header(lt_safetensors *st, size_t *data_start, lt_err *err) {
    const uint8_t *p = st->file.data;
    uint64_t n = 0;
    if (st->file.bytes < 8)
        return lt_fail(err, LT_EDATA, "too short for safetensors (%s: %zu bytes)", st->path, st->file.bytes);
    for (int i = 7; i >= 0; i--) n = n << 8 | p[i];
    if (n > MAX_HEADER || n > st->file.bytes - 8)
        return lt_fail(err, LT_EDATA,
                       "header of %llu bytes does not fit, so not a safetensors file or a cut one (%s: %zu bytes)",
                       (unsigned long long)n, st->path, st->file.bytes);
    LT_TRY(lt_json_parse(&st->header, (const char *)p + 8, (size_t)n, st->path, err));
    if (!json_is_object(st->header)) return lt_fail(err, LT_EDATA, "header is not an object (%s)", st->path);
    *data_start = 8 + (size_t)n;
    return LT_OK;
}

static lt_status read_meta(lt_safetensors *st, lt_err *err) {
    const char *key;
    json_t *value;
    st->meta = json_object_get(st->header, "__metadata__");
    if (!st->meta) return LT_OK;
    if (!json_is_object(st->meta)) return bad(st, "__metadata__", "not an object", err);
    json_object_foreach((json_t *)st->meta, key, value) if (!json_is_string(value)) return lt_fail(
        err, LT_EDATA, "metadata is not a string (%s: %s)", st->path, key);
    return LT_OK;
}

static lt_status read_dtype(const lt_safetensors *st, const char *name, const json_t *info, lt_dtype *out,
                            lt_err *err) {
    const char *text = json_string_value(json_object_get(info, "dtype"));
    if (!text) return bad(st, name, "dtype is missing", err);
    for (int t = 0; t < LT_N_DTYPES; t++) {
        const char *known = lt_dtype_get((lt_dtype)t)->safetensors;
        if (!known || strcmp(known, text) != 0) continue;
        *out = (lt_dtype)t;
        return LT_OK;
    }
    return lt_fail(err, LT_EUNSUPPORTED, "dtype is not supported (%s: %s: %s)", st->path, name, text);
}

static bool to_size(const json_t *j, size_t *out) {
    if (!json_is_integer(j) || json_integer_value(j) < 0) return false;
    *out = (size_t)json_integer_value(j);
    return true;
}

/* Shape into size, and the bytes it makes. */
static lt_status read_shape(const lt_safetensors *st, const char *name, const json_t *info, lt_dtype t, int *rank,
                            size_t size[LT_MAX_RANK], size_t *bytes, lt_err *err) {
    const json_t *shape = json_object_get(info, "shape");
    const size_t n = json_array_size(shape);
    bool fits = true, empty = false;
    if (!json_is_array(shape)) return bad(st, name, "shape is missing", err);
    if (n > LT_MAX_RANK)
        return lt_fail(err, LT_EUNSUPPORTED, "rank above %d (%s: %s: %zu)", LT_MAX_RANK, st->path, name, n);
    *bytes = lt_dtype_get(t)->bytes;
    for (size_t i = 0; i < n; i++) {
        if (!to_size(json_array_get(shape, i), &size[i])) return bad(st, name, "shape is not of whole numbers", err);
        empty |= size[i] == 0;
        fits &= lt_mul_size(*bytes, size[i] ? size[i] : 1, bytes);
    }
    if (!fits) return bad(st, name, "shape is too large", err);
    if (empty) *bytes = 0;
    *rank = (int)n;
    return LT_OK;
}

static lt_status read_entry(lt_safetensors *st, const char *name, const json_t *info, size_t data_start, lt_err *err) {
    lt_dtype t;
    int rank;
    size_t size[LT_MAX_RANK], bytes, begin, end;
    const size_t left = st->file.bytes - data_start;
    if (!json_is_object(info)) return bad(st, name, "not an object", err);
    LT_TRY(read_dtype(st, name, info, &t, err));
    LT_TRY(read_shape(st, name, info, t, &rank, size, &bytes, err));
    const json_t *range = json_object_get(info, "data_offsets");
    if (json_array_size(range) != 2 || !to_size(json_array_get(range, 0), &begin) ||
        !to_size(json_array_get(range, 1), &end))
        return bad(st, name, "data_offsets are not two whole numbers", err);
    if (begin > end || end > left)
        return lt_fail(err, LT_EDATA, "bytes %zu to %zu are not inside the data, a cut file? (%s: %s: %zu bytes)",
                       begin, end, st->path, name, left);
    if (end - begin != bytes)
        return lt_fail(err, LT_EDATA, "dtype and shape make %zu bytes, offsets %zu (%s: %s)", bytes, end - begin,
                       st->path, name);
    st->entries[st->n++] = (lt_st_entry){ name, lt_tensor_dense(t, rank, size, &st->file, data_start + begin) };
    return LT_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const lt_st_entry *)a)->name, ((const lt_st_entry *)b)->name);
}

/* Empty tensors go before the one that starts where they lie. */
static int by_offset(const void *a, const void *b) {
    const lt_tensor *x = &((const lt_st_entry *)a)->tensor, *y = &((const lt_st_entry *)b)->tensor;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    const size_t m = lt_tensor_count(x), n = lt_tensor_count(y);
    return (m > n) - (m < n);
}

/* The format allows neither overlap nor hole: entries sorted by offset tile the data. */
static lt_status check_tiling(const lt_safetensors *st, size_t data_start, lt_err *err) {
    size_t at = data_start;
    for (size_t i = 0; i < st->n; i++) {
        const lt_tensor *t = &st->entries[i].tensor;
        if (t->offset != at)
            return lt_fail(err, LT_EDATA, "%s before the tensor (%s: %s: offset %zu, want %zu)",
                           t->offset < at ? "overlap" : "hole", st->path, st->entries[i].name, t->offset - data_start,
                           at - data_start);
        at += lt_tensor_bytes(t);
    }
    if (at == st->file.bytes) return LT_OK;
    return lt_fail(err, LT_EDATA, "%zu bytes after the last tensor (%s)", st->file.bytes - at, st->path);
}

/* Kernels read whole elements, so an element must lie at a multiple of its size. Writers arrange that; files of
 * others (an odd count of bytes before floats, a header not padded) get such tensors copied. */
static lt_status align_entries(lt_safetensors *st, lt_err *err) {
    for (size_t i = 0; i < st->n; i++) {
        lt_tensor *t = &st->entries[i].tensor;
        const size_t bytes = lt_tensor_bytes(t);
        if (bytes == 0 || (uintptr_t)lt_host(t) % lt_dtype_get(t->dtype)->bytes == 0) continue;
        if (!st->copies) st->copies = lt_calloc(st->n, sizeof *st->copies);
        void *copy = st->copies ? lt_malloc(bytes) : NULL;
        if (!copy) return no_memory(st->path, err);
        memcpy(copy, lt_host(t), bytes);
        st->copies[i] = (lt_buffer){ copy, bytes, false };
        t->buffer = &st->copies[i];
        t->offset = 0;
    }
    return LT_OK;
}

static lt_status parse(lt_safetensors *st, lt_err *err) {
    const char *name;
    json_t *info;
    size_t data_start;
    LT_TRY(read_header(st, &data_start, err));
    LT_TRY(read_meta(st, err));
    st->entries = lt_malloc((json_object_size(st->header) + 1) * sizeof *st->entries);
    if (!st->entries) return no_memory(st->path, err);
    json_object_foreach(st->header, name, info) if (info != st->meta)
        LT_TRY(read_entry(st, name, info, data_start, err));
    qsort(st->entries, st->n, sizeof *st->entries, by_offset);
    LT_TRY(check_tiling(st, data_start, err));
    qsort(st->entries, st->n, sizeof *st->entries, by_name);
    return align_entries(st, err);
}

static lt_status create(lt_safetensors **out, const char *name, lt_err *err) {
    lt_safetensors *st = lt_calloc(1, sizeof *st);
    if (st) st->path = lt_strdup(name);
    if (!st || !st->path) {
        lt_free(st);
        return no_memory(name, err);
    }
    *out = st;
    return LT_OK;
}

lt_status lt_safetensors_open(lt_safetensors **out, const char *path, lt_err *err) {
    lt_safetensors *file;
    LT_TRY(create(&file, path, err));
    lt_status st = lt_map_open(&file->file, path, err);
    file->owns_map = st == LT_OK;
    if (st == LT_OK) st = parse(file, err);
    if (st == LT_OK)
        *out = file;
    else
        lt_safetensors_close(file);
    return st;
}

lt_status lt_safetensors_from_memory(lt_safetensors **out, const void *data, size_t bytes, const char *name,
                                     lt_err *err) {
    lt_safetensors *file;
    LT_TRY(create(&file, name, err));
    file->file = (lt_buffer){ (void *)data, bytes, false };
    const lt_status st = parse(file, err);
    if (st == LT_OK)
        *out = file;
    else
        lt_safetensors_close(file);
    return st;
}

void lt_safetensors_close(lt_safetensors *st) {
    if (!st) return;
    for (size_t i = 0; st->copies && i < st->n; i++) lt_free(st->copies[i].data);
    lt_free(st->copies);
    lt_free(st->entries);
    json_decref(st->header);
    if (st->owns_map) lt_map_close(&st->file);
    lt_free(st->path);
    lt_free(st);
}

size_t lt_safetensors_count(const lt_safetensors *st) {
    return st->n;
}

const lt_st_entry *lt_safetensors_at(const lt_safetensors *st, size_t i) {
    return &st->entries[i];
}

const lt_tensor *lt_safetensors_find(const lt_safetensors *st, const char *name) {
    const lt_st_entry key = { .name = name };
    const lt_st_entry *e = bsearch(&key, st->entries, st->n, sizeof *st->entries, by_name);
    return e ? &e->tensor : NULL;
}

lt_status lt_safetensors_get(const lt_tensor **out, const lt_safetensors *st, const char *name, lt_dtype t, int rank,
                             lt_err *err) {
    char text[128];
    const lt_tensor *found = lt_safetensors_find(st, name);
    if (!found) return bad(st, name, "no such tensor", err);
    if (t != LT_N_DTYPES && found->dtype != t)
        return lt_fail(err, LT_EDATA, "dtype is not %s (%s: %s: %s)", lt_dtype_get(t)->name, st->path, name,
                       lt_tensor_describe(found, text, sizeof text));
    if (rank >= 0 && found->rank != rank)
        return lt_fail(err, LT_EDATA, "rank is not %d (%s: %s: %s)", rank, st->path, name,
                       lt_tensor_describe(found, text, sizeof text));
    *out = found;
    return LT_OK;
}

const char *lt_safetensors_meta(const lt_safetensors *st, const char *key) {
    return json_string_value(json_object_get(st->meta, key));
}

const char *lt_safetensors_path(const lt_safetensors *st) {
    return st->path;
}

/* ---- writing ---- */

struct lt_st_writer {
    lt_writer *file;
    lt_pieces *pieces; /* in place: instead of file */
    char *path;
    json_t *meta, *header;  /* header: tensors in declared order */
    size_t declared, given; /* bytes */
    size_t data_at;         /* in place: where they begin */
    bool begun;
};

static lt_status new_writer(lt_st_writer **out, const char *path, bool in_place, lt_err *err) {
    lt_st_writer *w = lt_calloc(1, sizeof *w);
    if (!w) return no_memory(path, err);
    w->path = lt_strdup(path);
    w->meta = json_object();
    w->header = json_object();
    lt_status st = w->path && w->meta && w->header ? LT_OK : no_memory(path, err);
    if (st == LT_OK) st = in_place ? lt_pieces_open(&w->pieces, path, err) : lt_writer_create(&w->file, path, err);
    if (st == LT_OK)
        *out = w;
    else
        lt_st_writer_abort(w);
    return st;
}

lt_status lt_st_writer_create(lt_st_writer **out, const char *path, lt_err *err) {
    return new_writer(out, path, false, err);
}

lt_status lt_st_writer_open(lt_st_writer **out, const char *path, lt_err *err) {
    return new_writer(out, path, true, err);
}

lt_status lt_st_writer_meta(lt_st_writer *w, const char *key, const char *value, lt_err *err) {
    LT_REQUIRE(err, !w->begun, "metadata after the header (%s: %s)", w->path, key);
    LT_REQUIRE(err, !json_object_get(w->meta, key), "metadata given twice (%s: %s)", w->path, key);
    json_t *text = json_string(value);
    LT_REQUIRE(err, text, "metadata is not UTF-8 (%s: %s)", w->path, key);
    LT_REQUIRE(err, json_object_set_new(w->meta, key, text) == 0, "metadata key is not UTF-8 (%s: %s)", w->path, key);
    return LT_OK;
}

lt_status lt_st_writer_declare(lt_st_writer *w, const char *name, lt_dtype t, int rank, const size_t *size,
                               lt_err *err) {
    const char *dtype = lt_dtype_get(t)->safetensors;
    size_t bytes = lt_dtype_get(t)->bytes, end;
    LT_REQUIRE(err, !w->begun, "tensor declared after the header (%s: %s)", w->path, name);
    LT_REQUIRE(err, dtype, "dtype is not storable in safetensors (%s: %s: %s)", w->path, name, lt_dtype_get(t)->name);
    LT_REQUIRE(err, rank >= 0 && rank <= LT_MAX_RANK, "rank (%s: %s: %d)", w->path, name, rank);
    LT_REQUIRE(err, strcmp(name, "__metadata__") != 0 && !json_object_get(w->header, name),
               "tensor declared twice (%s: %s)", w->path, name);
    json_t *shape = json_array();
    bool fits = true;
    for (int i = 0; i < rank; i++) {
        fits &= size[i] <= INT64_MAX && lt_mul_size(bytes, size[i], &bytes);
        json_array_append_new(shape, json_integer((json_int_t)size[i]));
    }
    fits = fits && lt_add_size(w->declared, bytes, &end) && end <= INT64_MAX;
    json_t *info = fits ? json_pack("{s:s, s:O, s:[I, I]}", "dtype", dtype, "shape", shape, "data_offsets",
                                    (json_int_t)w->declared, (json_int_t)end)
                        : NULL;
    json_decref(shape);
    LT_REQUIRE(err, fits, "tensor is too large (%s: %s)", w->path, name);
    if (!info) return no_memory(w->path, err);
    LT_REQUIRE(err, json_object_set_new(w->header, name, info) == 0, "name is not UTF-8 (%s: %s)", w->path, name);
    w->declared = end;
    return LT_OK;
}

/* Length, JSON, and spaces up to a multiple of 8; lt_free. NULL: out of memory. */
static char *header_of(const lt_st_writer *w, size_t *bytes) {
    json_t *all = json_object();
    const int failed = !all || (json_object_size(w->meta) && json_object_set(all, "__metadata__", w->meta) != 0) ||
                       json_object_update(all, w->header) != 0;
    char *text = failed ? NULL : json_dumps(all, JSON_COMPACT);
    json_decref(all);
    const size_t n = text ? strlen(text) : 0, whole = (n + 7) / 8 * 8;
    char *out = text ? lt_malloc(8 + whole) : NULL;
    if (out) {
        for (int i = 0; i < 8; i++) out[i] = (char)(uint8_t)((uint64_t)whole >> (8 * i));
        memcpy(out + 8, text, n);
        memset(out + 8 + n, ' ', whole - n);
        *bytes = 8 + whole;
    }
    free(text);
    return out;
}

lt_status lt_st_writer_begin(lt_st_writer *w, lt_err *err) {
    LT_REQUIRE(err, !w->begun, "header written twice (%s)", w->path);
    char *header = header_of(w, &w->data_at);
    if (!header) return no_memory(w->path, err);
    const lt_status st = w->file ? lt_writer_write(w->file, header, w->data_at, err) : LT_OK;
    lt_free(header);
    w->begun = st == LT_OK;
    return st;
}

lt_status lt_st_writer_bytes(lt_st_writer *w, const void *data, size_t bytes, lt_err *err) {
    LT_REQUIRE(err, w->begun && w->file, "bytes before the header (%s)", w->path);
    if (bytes > w->declared - w->given)
        return lt_fail(err, LT_EINTERNAL, "more than the %zu declared bytes (%s)", w->declared, w->path);
    w->given += bytes;
    return lt_writer_write(w->file, data, bytes, err);
}

/* ---- in place ---- */

bool lt_st_writer_place(const lt_st_writer *w, const char *name, size_t *place, size_t *bytes) {
    const json_t *offsets = json_object_get(json_object_get(w->header, name), "data_offsets");
    const size_t from = (size_t)json_integer_value(json_array_get(offsets, 0)),
                 end = (size_t)json_integer_value(json_array_get(offsets, 1));
    *place = w->data_at + from;
    *bytes = end - from;
    return offsets != NULL;
}

lt_status lt_st_writer_put(const lt_st_writer *w, const char *name, size_t at, const void *data, size_t bytes,
                           lt_err *err) {
    LT_REQUIRE(err, w->begun && w->pieces, "bytes before their places (%s: %s)", w->path, name);
    size_t place, declared;
    if (!lt_st_writer_place(w, name, &place, &declared) || at > declared || bytes > declared - at)
        return lt_fail(err, LT_EINTERNAL, "more than the declared bytes (%s: %s)", w->path, name);
    return lt_pieces_put(w->pieces, place + at, data, bytes, err);
}

lt_status lt_st_writer_amend(lt_st_writer *w, const char *key, const char *value, lt_err *err) {
    const char *old = json_string_value(json_object_get(w->meta, key));
    LT_REQUIRE(err, w->pieces && old && strlen(old) == strlen(value), "metadata cannot be amended (%s: %s)", w->path,
               key);
    json_t *text = json_string(value);
    LT_REQUIRE(err, text, "metadata is not UTF-8 (%s: %s)", w->path, key);
    return json_object_set_new(w->meta, key, text) == 0 ? LT_OK : no_memory(w->path, err);
}

static lt_status put_header(const lt_st_writer *w, lt_err *err) {
    size_t bytes;
    char *header = header_of(w, &bytes);
    if (!header) return no_memory(w->path, err);
    const lt_status st = bytes == w->data_at ? lt_pieces_put(w->pieces, 0, header, bytes, err)
                                             : lt_fail(err, LT_EINTERNAL, "header has another length (%s)", w->path);
    lt_free(header);
    return st;
}

/* ---- the end ---- */

static void destroy_writer(lt_st_writer *w) {
    json_decref(w->meta);
    json_decref(w->header);
    lt_free(w->path);
    lt_free(w);
}

lt_status lt_st_writer_commit(lt_st_writer *w, lt_err *err) {
    lt_status st = LT_OK;
    if (!w->begun || (w->file && w->given != w->declared))
        st = lt_fail(err, LT_EINTERNAL, "%zu of %zu declared bytes (%s)", w->given, w->declared, w->path);
    else if (w->pieces)
        st = put_header(w, err);
    if (st != LT_OK) {
        lt_st_writer_abort(w);
        return st;
    }
    st = w->file ? lt_writer_commit(w->file, err) : lt_pieces_commit(w->pieces, err);
    destroy_writer(w);
    return st;
}

void lt_st_writer_abort(lt_st_writer *w) {
    if (!w) return;
    lt_writer_abort(w->file);
    lt_pieces_close(w->pieces);
    destroy_writer(w);
}
