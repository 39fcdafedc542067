/* SPDX-License-Identifier: Apache-2.0 */
#include "io/gguf_writer.h"

#include <string.h>

#include "io/file.h"

enum { ALIGNMENT = 32, VERSION = 3, MAX_DIMS = 4 };

typedef struct bytes {
    char *data;
    size_t n, cap;
} bytes;

typedef struct names {
    char **name;
    size_t n, cap;
} names;

struct lt_gguf_writer {
    lt_writer *file;
    char *path;
    names keys, tensors;
    bytes meta, infos; /* as they will stand in the file */
    size_t *size;      /* [tensors.n] bytes of each */
    size_t size_cap;
    size_t declared;       /* bytes of data with padding */
    size_t current, given; /* tensor being written, bytes of it that came */
    lt_gguf_type element;  /* of the open array ... */
    size_t missing;        /* ... and how many of its elements are to come */
    lt_err first;          /* the remembered failure */
    bool begun;
};

static size_t padding(size_t n) {
    return (ALIGNMENT - n % ALIGNMENT) % ALIGNMENT;
}

static void no_memory(lt_gguf_writer *w) {
    lt_set_err(&w->first, LT_ENOMEM, "out of memory (%s)", w->path);
}

/* ---- growing ---- */

static void put(lt_gguf_writer *w, bytes *b, const void *data, size_t n) {
    size_t end;
    if (w->first.code) return;
    if (!lt_add_size(b->n, n, &end) || end > SIZE_MAX / 2) {
        no_memory(w);
        return;
    }
    if (end > b->cap) {
        const size_t cap = lt_max_size(2 * b->cap, end + 4096);
        char *grown = lt_realloc(b->data, cap);
        if (!grown) {
            no_memory(w);
            return;
        }
        b->data = grown;
        b->cap = cap;
    }
    if (n) memcpy(b->data + b->n, data, n);
    b->n = end;
}

static void put_int(lt_gguf_writer *w, bytes *b, uint64_t v, size_t n) {
    uint8_t le[8];
    for (size_t i = 0; i < n; i++) le[i] = (uint8_t)(v >> (8 * i));
    put(w, b, le, n);
}

static void put_chars(lt_gguf_writer *w, bytes *b, const char *s, size_t n) {
    put_int(w, b, n, 8);
    put(w, b, s, n);
}

static bool has(const names *list, const char *name) {
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->name[i], name) == 0) return true;
    return false;
}

static void remember(lt_gguf_writer *w, names *list, const char *name) {
    if (w->first.code) return;
    if (list->n == list->cap) {
        const size_t cap = list->cap ? 2 * list->cap : 64;
        char **grown = lt_realloc(list->name, cap * sizeof *grown);
        if (!grown) {
            no_memory(w);
            return;
        }
        list->name = grown;
        list->cap = cap;
    }
    char *copy = lt_strdup(name);
    if (copy)
        list->name[list->n++] = copy;
    else
        no_memory(w);
}

/* ---- keys ---- */

lt_status lt_gguf_writer_create(lt_gguf_writer **out, const char *path, lt_err *err) {
    lt_gguf_writer *w = lt_calloc(1, sizeof *w);
    if (w) w->path = lt_strdup(path);
    lt_status st = w && w->path ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    if (st == LT_OK) st = lt_writer_create(&w->file, path, err);
    if (st == LT_OK)
        *out = w;
    else
        lt_gguf_writer_abort(w);
    return st;
}

bool lt_gguf_writer_has(const lt_gguf_writer *w, const char *key) {
    return has(&w->keys, key);
}

static void check_array(lt_gguf_writer *w) {
    if (w->missing)
        lt_set_err(&w->first, LT_EINTERNAL, "array is %zu short (%s: %s)", w->missing, w->path,
                   w->keys.name[w->keys.n - 1]);
}

static void put_key(lt_gguf_writer *w, const char *key, lt_gguf_type type) {
    check_array(w);
    if (has(&w->keys, key)) lt_set_err(&w->first, LT_EINTERNAL, "key given twice (%s: %s)", w->path, key);
    remember(w, &w->keys, key);
    put_chars(w, &w->meta, key, strlen(key));
    put_int(w, &w->meta, type, 4);
}

static uint32_t bits_of(float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

void lt_gguf_put_u32(lt_gguf_writer *w, const char *key, uint32_t v) {
    put_key(w, key, LT_GGUF_U32);
    put_int(w, &w->meta, v, 4);
}

void lt_gguf_put_f32(lt_gguf_writer *w, const char *key, float v) {
    put_key(w, key, LT_GGUF_F32);
    put_int(w, &w->meta, bits_of(v), 4);
}

void lt_gguf_put_bool(lt_gguf_writer *w, const char *key, bool v) {
    put_key(w, key, LT_GGUF_BOOL);
    put_int(w, &w->meta, v, 1);
}

void lt_gguf_put_string(lt_gguf_writer *w, const char *key, const char *s, size_t n) {
    put_key(w, key, LT_GGUF_STRING);
    put_chars(w, &w->meta, s, n);
}

void lt_gguf_put_text(lt_gguf_writer *w, const char *key, const char *s) {
    lt_gguf_put_string(w, key, s, strlen(s));
}

void lt_gguf_put_array(lt_gguf_writer *w, const char *key, lt_gguf_type type, size_t n) {
    put_key(w, key, LT_GGUF_ARRAY);
    put_int(w, &w->meta, type, 4);
    put_int(w, &w->meta, n, 8);
    w->element = type;
    w->missing = n;
}

static void count_element(lt_gguf_writer *w, lt_gguf_type type) {
    if (w->missing == 0 || w->element != type)
        lt_set_err(&w->first, LT_EINTERNAL, "no array takes this element (%s)", w->path);
    if (w->missing) w->missing--;
}

void lt_gguf_add_string(lt_gguf_writer *w, const char *s, size_t n) {
    count_element(w, LT_GGUF_STRING);
    put_chars(w, &w->meta, s, n);
}

void lt_gguf_add_f32(lt_gguf_writer *w, float v) {
    count_element(w, LT_GGUF_F32);
    put_int(w, &w->meta, bits_of(v), 4);
}

void lt_gguf_add_i32(lt_gguf_writer *w, int32_t v) {
    count_element(w, LT_GGUF_I32);
    put_int(w, &w->meta, (uint32_t)v, 4);
}

void lt_gguf_put_copy(lt_gguf_writer *w, const lt_gguf *g, size_t i) {
    const char *key = lt_gguf_key(g, i);
    lt_gguf_type type = LT_GGUF_U8;
    size_t n = 1, size;
    const bool array = lt_gguf_array(g, key, &type, &n);
    const void *numbers = lt_gguf_numbers(g, i, &type, &size);
    put_key(w, key, array ? LT_GGUF_ARRAY : type);
    if (array) {
        put_int(w, &w->meta, type, 4);
        put_int(w, &w->meta, n, 8);
    }
    if (type != LT_GGUF_STRING) {
        put(w, &w->meta, numbers, size);
        return;
    }
    for (size_t k = 0; k < n; k++) {
        size_t length;
        const char *s = array ? lt_gguf_array_string(g, key, k, &length) : lt_gguf_string(g, key, &length);
        put_chars(w, &w->meta, s, length);
    }
}

/* ---- tensors ---- */

static void remember_size(lt_gguf_writer *w, size_t size) {
    if (w->first.code) return;
    if (w->tensors.n > w->size_cap) {
        const size_t cap = w->tensors.cap;
        size_t *grown = lt_realloc(w->size, cap * sizeof *grown);
        if (!grown) {
            no_memory(w);
            return;
        }
        w->size = grown;
        w->size_cap = cap;
    }
    w->size[w->tensors.n - 1] = size;
}

void lt_gguf_declare(lt_gguf_writer *w, const char *name, lt_dtype t, int rank, const size_t *size) {
    const lt_dtype_row *d = lt_dtype_get(t);
    size_t total = d->bytes, end = 0;
    bool fits = rank >= 1 && rank <= MAX_DIMS && d->gguf >= 0 && size[rank - 1] % d->block == 0;
    for (int i = 0; i < rank && fits; i++)
        fits = lt_mul_size(total, i == rank - 1 ? size[i] / d->block : size[i], &total);
    fits = fits && total <= SIZE_MAX / 2 - ALIGNMENT && lt_add_size(w->declared, total + padding(total), &end);
    if (!fits) lt_set_err(&w->first, LT_EINTERNAL, "tensor cannot be written as %s (%s: %s)", d->name, w->path, name);
    if (has(&w->tensors, name)) lt_set_err(&w->first, LT_EINTERNAL, "tensor given twice (%s: %s)", w->path, name);
    remember(w, &w->tensors, name);
    remember_size(w, total);
    put_chars(w, &w->infos, name, strlen(name));
    put_int(w, &w->infos, (uint64_t)rank, 4);
    for (int i = rank; i-- > 0;) put_int(w, &w->infos, size[i], 8);
    put_int(w, &w->infos, (uint64_t)d->gguf, 4);
    put_int(w, &w->infos, w->declared, 8);
    w->declared = end;
}

static lt_status pad(lt_gguf_writer *w, size_t n, lt_err *err) {
    static const char zeros[ALIGNMENT];
    return lt_writer_write(w->file, zeros, n, err);
}

lt_status lt_gguf_writer_begin(lt_gguf_writer *w, lt_err *err) {
    bytes head = { 0 };
    check_array(w);
    put(w, &head, "GGUF", 4);
    put_int(w, &head, VERSION, 4);
    put_int(w, &head, w->tensors.n, 8);
    put_int(w, &head, w->keys.n, 8);
    if (w->first.code) {
        lt_free(head.data);
        return lt_fail(err, w->first.code, "%s", w->first.message);
    }
    lt_writer_write(w->file, head.data, head.n, NULL); /* the last call reports a failure of any */
    lt_writer_write(w->file, w->meta.data, w->meta.n, NULL);
    lt_writer_write(w->file, w->infos.data, w->infos.n, NULL);
    lt_free(head.data);
    w->begun = true;
    return pad(w, padding(lt_writer_offset(w->file)), err);
}

lt_status lt_gguf_writer_bytes(lt_gguf_writer *w, const void *data, size_t n, lt_err *err) {
    while (w->begun && n > 0 && w->current < w->tensors.n) {
        const size_t part = lt_min_size(n, w->size[w->current] - w->given);
        LT_TRY(lt_writer_write(w->file, data, part, err));
        data = (const char *)data + part;
        n -= part;
        w->given += part;
        if (w->given < w->size[w->current]) continue;
        LT_TRY(pad(w, padding(w->given), err));
        w->current++;
        w->given = 0;
    }
    return n == 0 ? LT_OK : lt_fail(err, LT_EINTERNAL, "more bytes than declared (%s)", w->path);
}

static void destroy_names(names *list) {
    for (size_t i = 0; i < list->n; i++) lt_free(list->name[i]);
    lt_free(list->name);
}

static void destroy(lt_gguf_writer *w) {
    destroy_names(&w->keys);
    destroy_names(&w->tensors);
    lt_free(w->meta.data);
    lt_free(w->infos.data);
    lt_free(w->size);
    lt_free(w->path);
    lt_free(w);
}

lt_status lt_gguf_writer_commit(lt_gguf_writer *w, lt_err *err) {
    while (w->current < w->tensors.n && w->size[w->current] == 0) w->current++;
    if (!w->begun || w->current < w->tensors.n) {
        const lt_status st = lt_fail(err, LT_EINTERNAL, "bytes are missing (%s: tensor %zu)", w->path, w->current);
        lt_gguf_writer_abort(w);
        return st;
    }
    const lt_status st = lt_writer_commit(w->file, err);
    destroy(w);
    return st;
}

void lt_gguf_writer_abort(lt_gguf_writer *w) {
    if (!w) return;
    lt_writer_abort(w->file);
    destroy(w);
}
