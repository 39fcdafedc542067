/* SPDX-License-Identifier: Apache-2.0 */
#include "io/tfevents.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

struct lt_tfevents {
    int fd;
    char *path;
    size_t end; /* of the last whole record */
};

enum { HEAD = 12, FOOT = 4, TAG_MAX = 200, RECORD_MAX = 512 };

/* ---- checksums ---- */

/* Castagnoli's polynomial, bit by bit: records are short. */
static uint32_t crc32c(const uint8_t *p, size_t n) {
    uint32_t c = ~(uint32_t)0;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0);
    }
    return ~c;
}

static uint32_t masked(const uint8_t *p, size_t n) {
    const uint32_t c = crc32c(p, n);
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

static uint64_t load(const uint8_t *p, int bytes) {
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;) v = v << 8 | p[i];
    return v;
}

/* ---- writing bytes: buf has room, the largest event is RECORD_MAX ---- */

typedef struct bytes {
    uint8_t data[RECORD_MAX];
    size_t n;
} bytes;

static void put_fixed(bytes *b, uint64_t v, int n) {
    for (int i = 0; i < n; i++, v >>= 8) b->data[b->n++] = (uint8_t)v;
}

static void put_varint(bytes *b, uint64_t v) {
    for (; v >= 128; v >>= 7) b->data[b->n++] = (uint8_t)(v | 128);
    b->data[b->n++] = (uint8_t)v;
}

static void put_key(bytes *b, unsigned field, unsigned wire) {
    put_varint(b, field << 3 | wire);
}

static void put_bytes(bytes *b, unsigned field, const void *p, size_t n) {
    put_key(b, field, 2);
    put_varint(b, n);
    memcpy(b->data + b->n, p, n);
    b->n += n;
}

static void put_double(bytes *b, unsigned field, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(b, field, 1);
    put_fixed(b, bits, 8);
}

static void put_float(bytes *b, unsigned field, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_key(b, field, 5);
    put_fixed(b, bits, 4);
}

static bytes version_event(double wall_time) {
    static const char version[] = "brain.Event:2";
    bytes b = { .n = 0 };
    put_double(&b, 1, wall_time);
    put_bytes(&b, 3, version, sizeof version - 1);
    return b;
}

static bytes scalar_event(const char *tag, int64_t step, double wall_time, double value) {
    bytes v = { .n = 0 }, summary = { .n = 0 }, event = { .n = 0 };
    put_bytes(&v, 1, tag, strlen(tag));
    put_float(&v, 2, (float)value);
    put_bytes(&summary, 1, v.data, v.n);
    put_double(&event, 1, wall_time);
    if (step != 0) { /* as proto3 does */
        put_key(&event, 2, 0);
        put_varint(&event, (uint64_t)step);
    }
    put_bytes(&event, 5, summary.data, summary.n);
    return event;
}

/* ---- reading ---- */

typedef struct cursor {
    const uint8_t *p;
    size_t n;
} cursor;

static bool take_varint(cursor *c, uint64_t *out) {
    *out = 0;
    for (int shift = 0; shift < 64 && c->n > 0; shift += 7) {
        const uint8_t b = *c->p;
        c->p++;
        c->n--;
        *out |= (uint64_t)(b & 127) << shift;
        if (b < 128) return true;
    }
    return false;
}

static bool skip(cursor *c, uint64_t n) {
    if (n > c->n) return false;
    c->p += n;
    c->n -= n;
    return true;
}

/* *step: field 2 of an event, 0 when absent; *version: it has field 3. */
static bool read_event(cursor c, int64_t *step, bool *version) {
    *step = 0;
    *version = false;
    while (c.n > 0) {
        uint64_t key, v;
        if (!take_varint(&c, &key)) return false;
        switch (key & 7) {
        case 0:
            if (!take_varint(&c, &v)) return false;
            if (key >> 3 == 2) *step = (int64_t)v;
            break;
        case 1:
            if (!skip(&c, 8)) return false;
            break;
        case 2:
            if (!take_varint(&c, &v) || !skip(&c, v)) return false;
            if (key >> 3 == 3) *version = true;
            break;
        case 5:
            if (!skip(&c, 4)) return false;
            break;
        default:
            return false;
        }
    }
    return true;
}

/* The record at the cursor: its event. false: it is cut off or broken. */
static bool take_record(cursor *c, cursor *event) {
    if (c->n < HEAD + FOOT) return false;
    const uint64_t n = load(c->p, 8);
    if (n > c->n - HEAD - FOOT || load(c->p + 8, 4) != masked(c->p, 8)) return false;
    *event = (cursor){ c->p + HEAD, (size_t)n };
    if (load(event->p + n, 4) != masked(event->p, (size_t)n)) return false;
    return skip(c, HEAD + n + FOOT);
}

size_t lt_tfevents_whole(const void *data, size_t n, int64_t from) {
    cursor c = { data, n }, event;
    size_t keep = 0;
    int64_t step;
    bool version;
    while (take_record(&c, &event) && read_event(event, &step, &version)) {
        if (keep == 0 ? !version : step >= from) break;
        keep = n - c.n;
    }
    return keep;
}

/* ---- the file ---- */

static lt_status write_all(lt_tfevents *f, const bytes *b, lt_err *err) {
    for (size_t at = 0; at < b->n;) {
        const ssize_t got = write(f->fd, b->data + at, b->n - at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            const int why = errno;
            if (ftruncate(f->fd, (off_t)f->end) != 0) return lt_fail(err, LT_EIO, "%s: %s", f->path, strerror(why));
            return lt_fail(err, LT_EIO, "%s: %s", f->path, strerror(why));
        }
        at += (size_t)got;
    }
    f->end += b->n;
    return LT_OK;
}

static lt_status write_record(lt_tfevents *f, const bytes *event, lt_err *err) {
    bytes r = { .n = 0 };
    put_fixed(&r, event->n, 8);
    put_fixed(&r, masked(r.data, 8), 4);
    memcpy(r.data + r.n, event->data, event->n);
    r.n += event->n;
    put_fixed(&r, masked(event->data, event->n), 4);
    return write_all(f, &r, err);
}

/* What of an existing file stays; 0: there is none, or an empty one. */
static lt_status kept(size_t *out, const char *path, int64_t from, lt_err *err) {
    char *text;
    size_t n;
    *out = 0;
    if (!lt_path_exists(path)) return LT_OK;
    LT_TRY(lt_file_read(&text, &n, path, 0, err));
    *out = lt_tfevents_whole(text, n, from);
    lt_free(text);
    return *out > 0 || n == 0 ? LT_OK : lt_fail(err, LT_EDATA, "%s: not an event file", path);
}

lt_status lt_tfevents_open(lt_tfevents **out, const char *path, int64_t from, double wall_time, lt_err *err) {
    size_t keep;
    LT_TRY(kept(&keep, path, from, err));
    lt_tfevents *f = lt_calloc(1, sizeof *f);
    if (f) *f = (lt_tfevents){ .fd = -1, .path = lt_strdup(path), .end = keep };
    if (!f || !f->path) {
        lt_free(f);
        return lt_fail(err, LT_ENOMEM, "%s: out of memory", path);
    }
    f->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    lt_status st = LT_OK;
    if (f->fd < 0 || ftruncate(f->fd, (off_t)keep) != 0) st = lt_fail(err, LT_EIO, "%s: %s", path, strerror(errno));
    if (st == LT_OK && keep == 0) {
        const bytes version = version_event(wall_time);
        st = write_record(f, &version, err);
    }
    if (st == LT_OK)
        *out = f;
    else
        lt_tfevents_close(f);
    return st;
}

lt_status lt_tfevents_append(lt_tfevents *f, const char *tag, int64_t step, double wall_time, double value,
                             lt_err *err) {
    LT_REQUIRE(err, strlen(tag) <= TAG_MAX, "%s: tag of %zu bytes", f->path, strlen(tag));
    const bytes event = scalar_event(tag, step, wall_time, value);
    return write_record(f, &event, err);
}

void lt_tfevents_close(lt_tfevents *f) {
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    lt_free(f->path);
    lt_free(f);
}
