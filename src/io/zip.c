/* SPDX-License-Identifier: Apache-2.0 */
#include "io/zip.h"

#include <stdlib.h>
#include <string.h>

enum {
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR_BYTES = 20,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    MAX_COMMENT = 65535,
    ENCRYPTED = 1,
};

typedef struct reader {
    const uint8_t *data;
    size_t bytes;
    const char *where;
    lt_err *err;
} reader;

static uint64_t load(const uint8_t *p, size_t n) {
    uint64_t v = 0;
    for (size_t i = n; i-- > 0;) v = v << 8 | p[i];
    return v;
}

static bool inside(const reader *r, uint64_t offset, uint64_t n) {
    return offset <= r->bytes && n <= r->bytes - offset;
}

static bool has(const reader *r, uint64_t offset, uint64_t n, const char *mark) {
    return inside(r, offset, n) && memcmp(r->data + offset, mark, 4) == 0;
}

static lt_status broken(const reader *r, const char *what, uint64_t value) {
    return lt_fail(r->err, LT_EDATA, "%s, a cut ZIP file? (%s: %llu)", what, r->where, (unsigned long long)value);
}

/* ---- the end: where the directory is ---- */

typedef struct directory {
    uint64_t n, bytes, offset;
} directory;

static lt_status find_end(const reader *r, size_t *at) {
    const size_t most = lt_min_size(r->bytes, END_BYTES + MAX_COMMENT);
    for (size_t back = END_BYTES; back <= most; back++) {
        *at = r->bytes - back;
        if (has(r, *at, END_BYTES, "PK\5\6") && load(r->data + *at + 20, 2) == back - END_BYTES) return LT_OK;
    }
    return lt_fail(r->err, LT_EDATA, "no end of a ZIP directory, a cut file? (%s)", r->where);
}

static lt_status read_end(const reader *r, directory *d) {
    size_t at;
    LT_TRY(find_end(r, &at));
    const uint8_t *p = r->data + at;
    bool one_disk = load(p + 4, 2) == 0 && load(p + 6, 2) == 0;
    *d = (directory){ load(p + 10, 2), load(p + 12, 4), load(p + 16, 4) };
    if (at >= LOCATOR_BYTES && has(r, at - LOCATOR_BYTES, LOCATOR_BYTES, "PK\6\7")) {
        const uint64_t end64 = load(p - LOCATOR_BYTES + 8, 8);
        if (!has(r, end64, END64_BYTES, "PK\6\6")) return broken(r, "zip64 end is not where it should be", end64);
        p = r->data + end64;
        one_disk = load(p + 16, 4) == 0 && load(p + 20, 4) == 0;
        *d = (directory){ load(p + 32, 8), load(p + 40, 8), load(p + 48, 8) };
    }
    if (!one_disk) return lt_fail(r->err, LT_EUNSUPPORTED, "ZIP file of several disks (%s)", r->where);
    if (!inside(r, d->offset, d->bytes)) return broken(r, "directory is past the end", d->offset);
    if (d->n > d->bytes / CENTRAL_BYTES) return broken(r, "more entries than the directory can hold", d->n);
    return LT_OK;
}

/* ---- entries ---- */

/* Zip64: sizes and offset of all ones stand in an extra field, in this order, each only where it is needed. */
static bool read_extra(const uint8_t *extra, size_t n, uint64_t *size, uint64_t *packed, uint64_t *offset) {
    uint64_t *const wide[] = { size, packed, offset };
    while (n >= 4) {
        const size_t id = load(extra, 2), len = load(extra + 2, 2);
        if (len > n - 4) return false;
        const uint8_t *p = extra + 4, *end = p + len;
        for (size_t i = 0; id == 1 && i < LT_COUNTOF(wide); i++) {
            if (*wide[i] != UINT32_MAX) continue;
            if (end - p < 8) return false;
            *wide[i] = load(p, 8);
            p += 8;
        }
        extra += 4 + len;
        n -= 4 + len;
    }
    return true;
}

static bool is_text(const char *s, size_t n) {
    for (size_t i = 0, step; i < n; i += step) {
        step = lt_utf8_step(s + i, n - i);
        if (step == 0 || (unsigned char)s[i] < 0x20) return false;
    }
    return n > 0;
}

static lt_status take_name(const reader *r, lt_zip_entry *e, const uint8_t *p, size_t n) {
    if (!is_text((const char *)p, n)) return broken(r, "name of an entry is empty or not text", n);
    e->name = lt_malloc(n + 1);
    if (!e->name) return lt_fail(r->err, LT_ENOMEM, "out of memory (%s)", r->where);
    memcpy(e->name, p, n);
    e->name[n] = 0;
    return LT_OK;
}

/* The contents begin behind a header of their own, whose extra field may be of another length. */
static lt_status place(const reader *r, lt_zip_entry *e, uint64_t offset, uint64_t size) {
    if (!has(r, offset, LOCAL_BYTES, "PK\3\4"))
        return lt_fail(r->err, LT_EDATA, "entry has no header where the directory says, a cut ZIP file? (%s: %s: %llu)",
                       r->where, e->name, (unsigned long long)offset);
    const uint8_t *p = r->data + offset;
    const uint64_t start = offset + LOCAL_BYTES + load(p + 26, 2) + load(p + 28, 2);
    if (!inside(r, start, size))
        return lt_fail(r->err, LT_EDATA, "entry is past the end, a cut ZIP file? (%s: %s: %llu + %llu of %zu bytes)",
                       r->where, e->name, (unsigned long long)start, (unsigned long long)size, r->bytes);
    e->offset = (size_t)start;
    e->bytes = (size_t)size;
    return LT_OK;
}

static lt_status take_entry(const reader *r, lt_zip_entry *e, const uint8_t **at, const uint8_t *end) {
    const uint8_t *p = *at;
    if (end - p < CENTRAL_BYTES || memcmp(p, "PK\1\2", 4) != 0)
        return broken(r, "directory holds no entry", (uint64_t)(p - r->data));
    const size_t name = load(p + 28, 2), extra = load(p + 30, 2), comment = load(p + 32, 2);
    if ((size_t)(end - p) < CENTRAL_BYTES + name + extra + comment)
        return broken(r, "entry of the directory is past its end", (uint64_t)(p - r->data));
    uint64_t packed = load(p + 20, 4), size = load(p + 24, 4), offset = load(p + 42, 4);
    LT_TRY(take_name(r, e, p + CENTRAL_BYTES, name));
    if (!read_extra(p + CENTRAL_BYTES + name, extra, &size, &packed, &offset))
        return broken(r, "extra field of an entry is cut", (uint64_t)(p - r->data));
    if (load(p + 10, 2) != 0 || (load(p + 8, 2) & ENCRYPTED))
        return lt_fail(r->err, LT_EUNSUPPORTED, "entry is packed or encrypted (%s: %s: method %u)", r->where, e->name,
                       (unsigned)load(p + 10, 2));
    if (packed != size) return broken(r, "stored entry has two sizes", size);
    *at = p + CENTRAL_BYTES + name + extra + comment;
    return place(r, e, offset, size);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const lt_zip_entry *)a)->name, ((const lt_zip_entry *)b)->name);
}

static lt_status parse(lt_zip *z, const reader *r) {
    directory d;
    LT_TRY(read_end(r, &d));
    z->entry = lt_calloc(lt_max_size(1, (size_t)d.n), sizeof *z->entry);
    if (!z->entry) return lt_fail(r->err, LT_ENOMEM, "out of memory (%s)", r->where);
    const uint8_t *at = r->data + d.offset, *end = at + d.bytes;
    for (size_t i = 0; i < d.n; i++) {
        z->n++; /* before, so that clear frees the name of one that fails */
        LT_TRY(take_entry(r, &z->entry[i], &at, end));
    }
    if (z->n > 1) qsort(z->entry, z->n, sizeof *z->entry, by_name);
    for (size_t i = 1; i < z->n; i++)
        if (strcmp(z->entry[i - 1].name, z->entry[i].name) == 0)
            return lt_fail(r->err, LT_EDATA, "entry stands twice (%s: %s)", r->where, z->entry[i].name);
    return LT_OK;
}

lt_status lt_zip_parse(lt_zip *out, const void *data, size_t bytes, const char *where, lt_err *err) {
    const reader r = { data, bytes, where, err };
    *out = (lt_zip){ 0 };
    const lt_status st = parse(out, &r);
    if (st != LT_OK) lt_zip_clear(out);
    return st;
}

void lt_zip_clear(lt_zip *z) {
    for (size_t i = 0; i < z->n; i++) lt_free(z->entry[i].name);
    lt_free(z->entry);
    *z = (lt_zip){ 0 };
}

const lt_zip_entry *lt_zip_find(const lt_zip *z, const char *name) {
    const lt_zip_entry key = { .name = (char *)name };
    return z->n ? bsearch(&key, z->entry, z->n, sizeof key, by_name) : NULL;
}
