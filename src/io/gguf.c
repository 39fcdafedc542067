/* SPDX-License-Identifier: Apache-2.0 */
#include "io/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"

enum { MAX_DIMS = 4, DEFAULT_ALIGNMENT = 32, MAX_ALIGNMENT = 1 << 20 };

typedef struct text {
    const char *data; /* NUL-terminated copy */
    size_t bytes;
} text;

typedef struct kv {
    char *key;
    lt_gguf_type type; /* of the elements when is_array */
    bool is_array;
    size_t n;             /* elements, 1 for a scalar */
    const uint8_t *bytes; /* the numbers in the file */
    text *strings;        /* [n] for strings; their text lies behind the table in the same block */
} kv;

struct lt_gguf {
    char *path;
    lt_buffer file;
    bool owns_map;
    kv *kvs;
    size_t n_kvs;
    const kv **kv_index; /* sorted by key */
    lt_gguf_entry *entries;
    size_t n_entries;
    const lt_gguf_entry **entry_index; /* sorted by name */
};

/* bytes of one number; 0 for strings and arrays */
static const uint8_t type_bytes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
static const char *const type_names[] = { "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                          "bool", "string", "array", "u64", "i64", "f64" };
enum { N_TYPES = LT_COUNTOF(type_bytes) };

/* ---- a cursor that never passes the end ---- */

typedef struct cursor {
    const uint8_t *p, *end;
    lt_gguf *g;
    lt_err *err;
} cursor;

static size_t left(const cursor *c) {
    return (size_t)(c->end - c->p);
}

static lt_status cut(const cursor *c, const char *what) {
    return lt_fail(c->err, LT_EDATA, "%s is past the end, a cut file? (%s: byte %zu)", what, c->g->path,
                   (size_t)(c->p - (const uint8_t *)c->g->file.data));
}

static uint64_t load(const uint8_t *p, size_t bytes) {
    uint64_t v = 0;
    for (size_t i = bytes; i-- > 0;) v = v << 8 | p[i];
    return v;
}

static lt_status take(cursor *c, size_t bytes, uint64_t *out, const char *what) {
    if (left(c) < bytes) return cut(c, what);
    *out = load(c->p, bytes);
    c->p += bytes;
    return LT_OK;
}

static lt_status take_count(cursor *c, size_t least_bytes, size_t *out, const char *what) {
    uint64_t n;
    LT_TRY(take(c, 8, &n, what));
    if (n > left(c) / least_bytes)
        return lt_fail(c->err, LT_EDATA, "%s is more than the file can hold (%s: %llu)", what, c->g->path,
                       (unsigned long long)n);
    *out = (size_t)n;
    return LT_OK;
}

/* Names of keys and tensors go into messages, JSON and C strings. */
static lt_status take_name(cursor *c, char **out, const char *what) {
    size_t n;
    LT_TRY(take_count(c, 1, &n, what));
    bool fine = n > 0;
    for (size_t i = 0, step; i < n && fine; i += step) {
        step = lt_utf8_step((const char *)c->p + i, n - i);
        fine = step > 0 && c->p[i] >= 0x20 && c->p[i] != 0x7f;
    }
    if (!fine)
        return lt_fail(c->err, LT_EDATA, "%s is empty or not text (%s: %.*s)", what, c->g->path,
                       (int)lt_min_size(n, 64), (const char *)c->p);
    char *name = lt_malloc(n + 1);
    if (!name) return lt_fail(c->err, LT_ENOMEM, "out of memory (%s)", c->g->path);
    memcpy(name, c->p, n);
    name[n] = 0;
    c->p += n;
    *out = name;
    return LT_OK;
}

/* ---- metadata ---- */

static lt_status check_bools(const cursor *c, const kv *v) {
    for (size_t i = 0; i < v->n; i++)
        if (v->bytes[i] > 1)
            return lt_fail(c->err, LT_EDATA, "neither true nor false (%s: %s: %u)", c->g->path, v->key, v->bytes[i]);
    return LT_OK;
}

/* Two passes: how long the strings are together, then one block for all of them, so that arrays of many thousand
 * tokens cost one allocation and have an index. */
static lt_status take_strings(cursor *c, kv *v) {
    const cursor start = *c;
    size_t total = 0, table, block;
    for (size_t i = 0; i < v->n; i++) {
        size_t n;
        LT_TRY(take_count(c, 1, &n, "string"));
        c->p += n;
        total += n + 1;
    }
    if (!lt_mul_size(v->n, sizeof *v->strings, &table) || !lt_add_size(table, total, &block) ||
        !(v->strings = lt_malloc(block)))
        return lt_fail(c->err, LT_ENOMEM, "out of memory (%s: %s)", c->g->path, v->key);
    char *at = (char *)v->strings + table;
    const uint8_t *p = start.p;
    for (size_t i = 0; i < v->n; i++) {
        const size_t n = (size_t)load(p, 8);
        memcpy(at, p + 8, n);
        at[n] = 0;
        v->strings[i] = (text){ at, n };
        at += n + 1;
        p += 8 + n;
    }
    return LT_OK;
}

static lt_status take_value(cursor *c, kv *v) {
    uint64_t type;
    LT_TRY(take(c, 4, &type, "type of a value"));
    v->n = 1;
    v->is_array = type == LT_GGUF_ARRAY;
    if (v->is_array) {
        LT_TRY(take(c, 4, &type, "type of an array"));
        if (type == LT_GGUF_ARRAY)
            return lt_fail(c->err, LT_EUNSUPPORTED, "array of arrays (%s: %s)", c->g->path, v->key);
    }
    if (type >= N_TYPES)
        return lt_fail(c->err, LT_EDATA, "unknown type of value (%s: %s: %llu)", c->g->path, v->key,
                       (unsigned long long)type);
    v->type = (lt_gguf_type)type;
    const size_t bytes = type_bytes[type];
    if (v->is_array) LT_TRY(take_count(c, bytes ? bytes : 8, &v->n, "length of an array"));
    if (type == LT_GGUF_STRING) return take_strings(c, v);
    if (v->n * bytes > left(c)) return cut(c, "value");
    v->bytes = c->p;
    c->p += v->n * bytes;
    return type == LT_GGUF_BOOL ? check_bools(c, v) : LT_OK;
}

static int by_key(const void *a, const void *b) {
    return strcmp((*(const kv *const *)a)->key, (*(const kv *const *)b)->key);
}

static lt_status take_metadata(cursor *c, size_t n) {
    lt_gguf *g = c->g;
    g->kvs = lt_calloc(n + 1, sizeof *g->kvs);
    g->kv_index = lt_calloc(n + 1, sizeof *g->kv_index);
    if (!g->kvs || !g->kv_index) return lt_fail(c->err, LT_ENOMEM, "out of memory (%s)", g->path);
    for (size_t i = 0; i < n; i++) {
        kv *v = &g->kvs[i];
        LT_TRY(take_name(c, &v->key, "key"));
        g->kv_index[g->n_kvs++] = v;
        LT_TRY(take_value(c, v));
    }
    qsort(g->kv_index, n, sizeof *g->kv_index, by_key);
    for (size_t i = 1; i < n; i++)
        if (strcmp(g->kv_index[i - 1]->key, g->kv_index[i]->key) == 0)
            return lt_fail(c->err, LT_EDATA, "key stands twice (%s: %s)", g->path, g->kv_index[i]->key);
    return LT_OK;
}

/* ---- tensors ---- */

static lt_status take_sizes(cursor *c, const char *name, size_t size[MAX_DIMS], int *rank) {
    uint64_t n, v;
    LT_TRY(take(c, 4, &n, "rank of a tensor"));
    if (n > MAX_DIMS)
        return lt_fail(c->err, LT_EDATA, "rank above %d (%s: %s: %llu)", MAX_DIMS, c->g->path, name,
                       (unsigned long long)n);
    for (size_t i = (size_t)n; i-- > 0;) { /* innermost first in the file */
        LT_TRY(take(c, 8, &v, "size of a tensor"));
        if (v > INT64_MAX)
            return lt_fail(c->err, LT_EDATA, "size is too large (%s: %s: %llu)", c->g->path, name,
                           (unsigned long long)v);
        size[i] = (size_t)v;
    }
    *rank = (int)n;
    return LT_OK;
}

/* Bytes of a tensor of whole blocks; strides count elements, so those must fit too. */
static lt_status check_bytes(const cursor *c, const char *name, const lt_tensor *t, size_t *bytes) {
    const lt_dtype_row *row = lt_dtype_get(t->dtype);
    size_t elements = 1;
    bool fits = true;
    for (int i = 0; i < t->rank; i++) fits &= lt_mul_size(elements, t->size[i] ? t->size[i] : 1, &elements);
    if (!fits || !lt_mul_size(elements, row->bytes, bytes))
        return lt_fail(c->err, LT_EDATA, "tensor is too large (%s: %s)", c->g->path, name);
    if (lt_tensor_cols(t) % row->block != 0)
        return lt_fail(c->err, LT_EDATA, "columns are not whole %s blocks (%s: %s: %zu)", row->name, c->g->path, name,
                       lt_tensor_cols(t));
    *bytes = lt_tensor_bytes(t);
    return LT_OK;
}

/* What ggml calls the types that have no dtype row (ggml.h, enum ggml_type; the missing numbers were given up). */
static const char *const other_types[] = {
    [9] = "q8_1",     [10] = "q2_k",  [11] = "q3_k",   [15] = "q8_k",  [16] = "iq2_xxs", [17] = "iq2_xs",
    [18] = "iq3_xxs", [19] = "iq1_s", [20] = "iq4_nl", [21] = "iq3_s", [22] = "iq2_s",   [23] = "iq4_xs",
    [25] = "i16",     [29] = "iq1_m", [34] = "tq1_0",  [35] = "tq2_0", [39] = "mxfp4",   [40] = "nvfp4",
};

static lt_status refuse_type(const cursor *c, const char *tensor, uint32_t type) {
    const char *name = type < LT_COUNTOF(other_types) ? other_types[type] : NULL;
    if (name)
        return lt_fail(c->err, LT_EUNSUPPORTED, "ggml type is not supported (%s: %s: %s)", c->g->path, tensor, name);
    return lt_fail(c->err, LT_EUNSUPPORTED, "ggml type is not supported (%s: %s: %u)", c->g->path, tensor,
                   (unsigned)type);
}

static lt_status take_tensor(cursor *c, lt_gguf_entry *e) {
    size_t size[MAX_DIMS] = { 0 }, bytes;
    uint64_t type, offset;
    lt_dtype dtype;
    int rank;
    char *name;
    LT_TRY(take_name(c, &name, "name of a tensor"));
    e->name = name;
    LT_TRY(take_sizes(c, name, size, &rank));
    LT_TRY(take(c, 4, &type, "type of a tensor"));
    LT_TRY(take(c, 8, &offset, "offset of a tensor"));
    if (!lt_dtype_find_gguf((uint32_t)type, &dtype)) return refuse_type(c, name, (uint32_t)type);
    if (offset > SIZE_MAX / 2)
        return lt_fail(c->err, LT_EDATA, "offset is too large (%s: %s: %llu)", c->g->path, name,
                       (unsigned long long)offset);
    e->tensor = lt_tensor_dense(dtype, rank, size, &c->g->file, (size_t)offset);
    return check_bytes(c, name, &e->tensor, &bytes);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const lt_gguf_entry *const *)a)->name, (*(const lt_gguf_entry *const *)b)->name);
}

/* Empty tensors go before the one that starts where they lie. */
static int by_offset(const void *a, const void *b) {
    const lt_tensor *x = &(*(const lt_gguf_entry *const *)a)->tensor, *y = &(*(const lt_gguf_entry *const *)b)->tensor;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    const size_t m = lt_tensor_bytes(x), n = lt_tensor_bytes(y);
    return (m > n) - (m < n);
}

/* Offsets count from the start of the data: aligned, inside, and no two tensors share a byte. */
static lt_status place_tensors(cursor *c, size_t alignment) {
    lt_gguf *g = c->g;
    const size_t head = (size_t)(c->p - (const uint8_t *)g->file.data);
    const size_t start = lt_min_size((head + alignment - 1) / alignment * alignment, g->file.bytes);
    const size_t data_bytes = g->file.bytes - start;
    size_t used = 0;
    for (size_t i = 0; i < g->n_entries; i++) g->entry_index[i] = &g->entries[i];
    qsort(g->entry_index, g->n_entries, sizeof *g->entry_index, by_offset);
    for (size_t i = 0; i < g->n_entries; i++) {
        const lt_gguf_entry *e = g->entry_index[i];
        const size_t offset = e->tensor.offset, bytes = lt_tensor_bytes(&e->tensor);
        if (offset % alignment != 0)
            return lt_fail(c->err, LT_EDATA, "offset is not a multiple of %zu (%s: %s: %zu)", alignment, g->path,
                           e->name, offset);
        if (offset > data_bytes || bytes > data_bytes - offset)
            return lt_fail(c->err, LT_EDATA,
                           "offset %zu + %zu bytes is past the end, a cut file? (%s: %s: %zu bytes of data)", offset,
                           bytes, g->path, e->name, data_bytes);
        if (offset < used)
            return lt_fail(c->err, LT_EDATA, "tensor overlaps another (%s: %s: offset %zu)", g->path, e->name, offset);
        used = offset + bytes;
    }
    for (size_t i = 0; i < g->n_entries; i++) g->entries[i].tensor.offset += start;
    return LT_OK;
}

static lt_status take_tensors(cursor *c, size_t n, size_t alignment) {
    lt_gguf *g = c->g;
    g->entries = lt_calloc(n + 1, sizeof *g->entries);
    g->entry_index = lt_calloc(n + 1, sizeof *g->entry_index);
    if (!g->entries || !g->entry_index) return lt_fail(c->err, LT_ENOMEM, "out of memory (%s)", g->path);
    for (size_t i = 0; i < n; i++) {
        g->n_entries++; /* before, so that close frees the name of one that fails */
        LT_TRY(take_tensor(c, &g->entries[i]));
    }
    LT_TRY(place_tensors(c, alignment));
    qsort(g->entry_index, n, sizeof *g->entry_index, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(g->entry_index[i - 1]->name, g->entry_index[i]->name) == 0)
            return lt_fail(c->err, LT_EDATA, "tensor stands twice (%s: %s)", g->path, g->entry_index[i]->name);
    return LT_OK;
}

/* ---- opening ---- */

static lt_status check_version(cursor *c) {
    uint64_t version;
    if (left(c) < 4 || memcmp(c->p, "GGUF", 4) != 0)
        return lt_fail(c->err, LT_EDATA, "not a GGUF file (%s)", c->g->path);
    c->p += 4;
    LT_TRY(take(c, 4, &version, "version"));
    if (version == 2 || version == 3) return LT_OK;
    if (version && (version & 0xffff) == 0) return lt_fail(c->err, LT_EUNSUPPORTED, "big-endian GGUF (%s)", c->g->path);
    return lt_fail(c->err, LT_EUNSUPPORTED, "GGUF version is not 2 or 3 (%s: %llu)", c->g->path,
                   (unsigned long long)version);
}

static lt_status read_alignment(const cursor *c, size_t *out) {
    uint64_t v = DEFAULT_ALIGNMENT;
    if (lt_gguf_has(c->g, "general.alignment") && !lt_gguf_u64(c->g, "general.alignment", &v)) v = 0;
    if (v < 8 || v > MAX_ALIGNMENT || (v & (v - 1)) != 0)
        return lt_fail(c->err, LT_EDATA, "alignment is no power of two from 8 to %d (%s: general.alignment: %llu)",
                       MAX_ALIGNMENT, c->g->path, (unsigned long long)v);
    *out = (size_t)v;
    return LT_OK;
}

static lt_status parse(lt_gguf *g, lt_err *err) {
    const uint8_t *data = g->file.data;
    cursor c = { data, data + g->file.bytes, g, err };
    size_t n_tensors, n_kv, alignment;
    LT_REQUIRE(err, (uintptr_t)data % 8 == 0 || g->file.bytes == 0, "GGUF bytes must lie at a multiple of 8 (%s)",
               g->path);
    LT_TRY(check_version(&c));
    LT_TRY(take_count(&c, 8 + 1 + 4 + 8, &n_tensors, "number of tensors"));
    LT_TRY(take_count(&c, 8 + 1 + 4 + 1, &n_kv, "number of keys"));
    LT_TRY(take_metadata(&c, n_kv));
    LT_TRY(read_alignment(&c, &alignment));
    return take_tensors(&c, n_tensors, alignment);
}

static lt_status create(lt_gguf **out, const char *name, lt_err *err) {
    lt_gguf *g = lt_calloc(1, sizeof *g);
    if (g) g->path = lt_strdup(name);
    if (!g || !g->path) {
        lt_free(g);
        return lt_fail(err, LT_ENOMEM, "out of memory (%s)", name);
    }
    *out = g;
    return LT_OK;
}

lt_status lt_gguf_open(lt_gguf **out, const char *path, lt_err *err) {
    lt_gguf *g;
    LT_TRY(create(&g, path, err));
    lt_status st = lt_map_open(&g->file, path, err);
    g->owns_map = st == LT_OK;
    if (st == LT_OK) st = parse(g, err);
    if (st == LT_OK)
        *out = g;
    else
        lt_gguf_close(g);
    return st;
}

lt_status lt_gguf_from_memory(lt_gguf **out, const void *data, size_t bytes, const char *name, lt_err *err) {
    lt_gguf *g;
    LT_TRY(create(&g, name, err));
    g->file = (lt_buffer){ (void *)data, bytes, false };
    const lt_status st = parse(g, err);
    if (st == LT_OK)
        *out = g;
    else
        lt_gguf_close(g);
    return st;
}

void lt_gguf_close(lt_gguf *g) {
    if (!g) return;
    for (size_t i = 0; i < g->n_kvs; i++) {
        lt_free(g->kvs[i].key);
        lt_free(g->kvs[i].strings);
    }
    for (size_t i = 0; i < g->n_entries; i++) lt_free((char *)g->entries[i].name);
    lt_free(g->kvs);
    lt_free(g->kv_index);
    lt_free(g->entries);
    lt_free(g->entry_index);
    if (g->owns_map) lt_map_close(&g->file);
    lt_free(g->path);
    lt_free(g);
}

/* ---- looking up ---- */

const char *lt_gguf_path(const lt_gguf *g) {
    return g->path;
}

size_t lt_gguf_count(const lt_gguf *g) {
    return g->n_entries;
}

const lt_gguf_entry *lt_gguf_at(const lt_gguf *g, size_t i) {
    return &g->entries[i];
}

const lt_tensor *lt_gguf_find(const lt_gguf *g, const char *name) {
    const lt_gguf_entry wanted = { .name = name }, *key = &wanted;
    const lt_gguf_entry *const *e = bsearch(&key, g->entry_index, g->n_entries, sizeof key, by_name);
    return e ? &(*e)->tensor : NULL;
}

size_t lt_gguf_n_keys(const lt_gguf *g) {
    return g->n_kvs;
}

const char *lt_gguf_key(const lt_gguf *g, size_t i) {
    return g->kvs[i].key;
}

const void *lt_gguf_numbers(const lt_gguf *g, size_t i, lt_gguf_type *type, size_t *bytes) {
    const kv *v = &g->kvs[i];
    *type = v->type;
    *bytes = v->n * type_bytes[v->type];
    return v->type == LT_GGUF_STRING ? NULL : v->bytes;
}

static const kv *find(const lt_gguf *g, const char *name) {
    const kv wanted = { .key = (char *)name }, *key = &wanted;
    const kv *const *v = bsearch(&key, g->kv_index, g->n_kvs, sizeof key, by_key);
    return v ? *v : NULL;
}

static const kv *find_scalar(const lt_gguf *g, const char *key) {
    const kv *v = find(g, key);
    return v && !v->is_array ? v : NULL;
}

static const kv *find_element(const lt_gguf *g, const char *key, size_t i) {
    const kv *v = find(g, key);
    return v && v->is_array && i < v->n ? v : NULL;
}

bool lt_gguf_has(const lt_gguf *g, const char *key) {
    return find(g, key) != NULL;
}

/* Element i as an integer: its value modulo 2^64 and whether it is below zero. */
static bool integer_at(const kv *v, size_t i, uint64_t *out, bool *negative) {
    if (!v || v->type == LT_GGUF_F32 || v->type == LT_GGUF_F64 || v->type == LT_GGUF_BOOL || v->type == LT_GGUF_STRING)
        return false;
    const size_t bytes = type_bytes[v->type];
    const bool is_signed =
        v->type == LT_GGUF_I8 || v->type == LT_GGUF_I16 || v->type == LT_GGUF_I32 || v->type == LT_GGUF_I64;
    *out = load(v->bytes + i * bytes, bytes);
    *negative = is_signed && (*out >> (8 * bytes - 1) & 1);
    if (*negative && bytes < 8) *out |= ~UINT64_C(0) << (8 * bytes);
    return true;
}

static bool real_at(const kv *v, size_t i, double *out) {
    uint64_t u;
    bool negative;
    if (v && v->type == LT_GGUF_F32) {
        const uint32_t bits = (uint32_t)load(v->bytes + 4 * i, 4);
        float f;
        memcpy(&f, &bits, sizeof f);
        *out = f;
        return true;
    }
    if (v && v->type == LT_GGUF_F64) {
        u = load(v->bytes + 8 * i, 8);
        memcpy(out, &u, sizeof *out);
        return true;
    }
    if (!integer_at(v, i, &u, &negative)) return false;
    *out = negative ? (double)(int64_t)u : (double)u;
    return true;
}

bool lt_gguf_u64(const lt_gguf *g, const char *key, uint64_t *out) {
    uint64_t u;
    bool negative;
    if (!integer_at(find_scalar(g, key), 0, &u, &negative) || negative) return false;
    *out = u;
    return true;
}

bool lt_gguf_f64(const lt_gguf *g, const char *key, double *out) {
    return real_at(find_scalar(g, key), 0, out);
}

bool lt_gguf_bool(const lt_gguf *g, const char *key, bool *out) {
    const kv *v = find_scalar(g, key);
    if (!v || v->type != LT_GGUF_BOOL) return false;
    *out = v->bytes[0] != 0;
    return true;
}

static const char *string_at(const kv *v, size_t i, size_t *bytes) {
    if (!v || v->type != LT_GGUF_STRING) return NULL;
    if (bytes) *bytes = v->strings[i].bytes;
    return v->strings[i].data;
}

const char *lt_gguf_string(const lt_gguf *g, const char *key, size_t *bytes) {
    return string_at(find_scalar(g, key), 0, bytes);
}

bool lt_gguf_array(const lt_gguf *g, const char *key, lt_gguf_type *type, size_t *n) {
    const kv *v = find(g, key);
    if (!v || !v->is_array) return false;
    if (type) *type = v->type;
    if (n) *n = v->n;
    return true;
}

const char *lt_gguf_array_string(const lt_gguf *g, const char *key, size_t i, size_t *bytes) {
    return string_at(find_element(g, key, i), i, bytes);
}

bool lt_gguf_array_f64(const lt_gguf *g, const char *key, size_t i, double *out) {
    return real_at(find_element(g, key, i), i, out);
}

bool lt_gguf_array_i64(const lt_gguf *g, const char *key, size_t i, int64_t *out) {
    uint64_t u;
    bool negative;
    if (!integer_at(find_element(g, key, i), i, &u, &negative) || (!negative && u > INT64_MAX)) return false;
    *out = (int64_t)u;
    return true;
}

/* ---- as text ---- */

static void append(char *buf, size_t cap, size_t *used, const char *piece) {
    const size_t n = lt_min_size(strlen(piece), cap - 1 - *used);
    memcpy(buf + *used, piece, n);
    *used += n;
    buf[*used] = 0;
}

static void append_value(char *buf, size_t cap, size_t *used, const kv *v, size_t i) {
    char piece[96];
    double real;
    uint64_t u;
    bool negative;
    if (v->type == LT_GGUF_STRING) {
        const text s = v->strings[i];
        size_t n = lt_min_size(s.bytes, 64);
        while (n > 0 && n < s.bytes && ((unsigned char)s.data[n] & 0xc0) == 0x80) n--; /* not inside a character */
        snprintf(piece, sizeof piece, "\"%.*s\"%s", (int)n, s.data, n < s.bytes ? "..." : "");
        for (char *p = piece; *p; p++)
            if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = ' ';
    } else if (v->type == LT_GGUF_BOOL) {
        snprintf(piece, sizeof piece, "%s", v->bytes[i] ? "true" : "false");
    } else if (integer_at(v, i, &u, &negative)) {
        snprintf(piece, sizeof piece, "%s%llu", negative ? "-" : "", (unsigned long long)(negative ? 0 - u : u));
    } else {
        real_at(v, i, &real);
        snprintf(piece, sizeof piece, "%.9g", real);
    }
    append(buf, cap, used, piece);
}

const char *lt_gguf_value_text(const lt_gguf *g, size_t i, char *buf, size_t cap) {
    enum { SHOWN = 6 };
    const kv *v = &g->kvs[i];
    char head[64];
    size_t used = 0;
    if (cap == 0) return buf;
    buf[0] = 0;
    if (!v->is_array) {
        append_value(buf, cap, &used, v, 0);
        return buf;
    }
    snprintf(head, sizeof head, "%s[%zu] {", type_names[v->type], v->n);
    append(buf, cap, &used, head);
    for (size_t k = 0; k < v->n && k < SHOWN; k++) {
        append(buf, cap, &used, k ? ", " : "");
        append_value(buf, cap, &used, v, k);
    }
    append(buf, cap, &used, v->n > SHOWN ? ", ...}" : "}");
    return buf;
}
