/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/net/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/hash.h"
#include "io/file.h"

typedef struct fetch {
    lt_http *h;
    lt_blob *b;
    char *part; /* PATH.incomplete */
    int fd;
    int64_t have; /* bytes in it */
} fetch;

static lt_status failed(const fetch *f, const char *what, lt_err *err) {
    return lt_fail(err, LT_EIO, "cannot %s (%s: %s)", what, f->part, strerror(errno));
}

/* ---- coming in ---- */

static int64_t have(void *user) {
    return ((const fetch *)user)->have;
}

static lt_status start_over(fetch *f, lt_err *err) {
    f->have = 0;
    return ftruncate(f->fd, 0) == 0 ? LT_OK : failed(f, "empty the file", err);
}

static lt_status begin(void *user, const lt_http_reply *r, lt_err *err) {
    fetch *f = user;
    if (r->status == 200) return f->have > 0 ? start_over(f, err) : LT_OK;
    return r->from == f->have ? LT_OK
                              : lt_fail(err, LT_EIO, "the hub sent bytes from %lld, not from %lld (%s)",
                                        (long long)r->from, (long long)f->have, f->b->url);
}

static lt_status put(void *user, const void *data, size_t bytes, lt_err *err) {
    fetch *f = user;
    const char *p = data;
    for (size_t left = bytes; left > 0;) {
        const ssize_t n = pwrite(f->fd, p, left, (off_t)f->have);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed(f, "write", err);
        p += n;
        left -= (size_t)n;
        f->have += n;
    }
    f->b->fetched += (int64_t)bytes;
    lt_http_progress(f->h, f->b->done + (double)f->have, f->b->total);
    return LT_OK;
}

static lt_status run(fetch *f, lt_http_reply *r, lt_err *err) {
    const lt_http_request q = { .url = f->b->url, .user = f, .have = have, .begin = begin, .write = put };
    if (f->have > 0 && f->have == f->b->size) { /* all came before, its check did not */
        r->status = 200;
        return LT_OK;
    }
    LT_TRY(lt_http_run(f->h, &q, r, err));
    if (r->status != 416 || f->have == f->b->size) return LT_OK;
    LT_TRY(start_over(f, err)); /* more is there than the file has */
    return lt_http_run(f->h, &q, r, err);
}

/* ---- what came ---- */

/* SHA-1 over "blob SIZE\0" and the content: what git calls it. */
static lt_status git_hash(const char *path, char hex[41], lt_err *err) {
    char head[32];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    lt_buffer map;
    LT_TRY(lt_map_open(&map, path, err));
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    const int size = snprintf(head, sizeof head, "blob %zu", map.bytes) + 1;
    const bool ok = c && EVP_DigestInit_ex(c, EVP_sha1(), NULL) == 1 && EVP_DigestUpdate(c, head, (size_t)size) == 1 &&
                    EVP_DigestUpdate(c, map.data, map.bytes) == 1 && EVP_DigestFinal_ex(c, digest, &n) == 1 && n == 20;
    EVP_MD_CTX_free(c);
    lt_map_close(&map);
    if (!ok) return lt_fail(err, LT_ENOMEM, "cannot hash (%s)", path);
    for (unsigned i = 0; i < n; i++) snprintf(hex + (size_t)2 * i, 3, "%02x", digest[i]);
    return LT_OK;
}

/* *wrong: the checksum that came instead of the etag, "" when it is right. */
static lt_status check(const fetch *f, char wrong[LT_HASH_HEX], lt_err *err) {
    const size_t n = strlen(f->b->etag);
    char hex[LT_HASH_HEX] = "";
    wrong[0] = '\0';
    if ((n != 64 && n != 40) || strspn(f->b->etag, "0123456789abcdef") != n) return LT_OK;
    LT_TRY(n == 64 ? lt_hash_file(f->part, hex, err) : git_hash(f->part, hex, err));
    if (strcmp(hex, f->b->etag) != 0) memcpy(wrong, hex, sizeof hex);
    return LT_OK;
}

static lt_status wrong_content(fetch *f, const char *got, lt_err *err) {
    LT_TRY(start_over(f, err));
    return lt_fail(err, LT_EIO, "what came has another checksum: %s, not %s (%s)", got, f->b->etag, f->b->url);
}

static bool stored(const lt_http_reply *r) {
    return r->status == 200 || r->status == 206 || r->status == 416;
}

/* Fetches, checks, and once more from its beginning when something older spoilt it. */
static lt_status fetch_checked(fetch *f, lt_http_reply *r, lt_err *err) {
    char wrong[LT_HASH_HEX];
    for (bool again = f->have > 0;; again = false) {
        LT_TRY(run(f, r, err));
        if (!stored(r)) return LT_OK;
        if (fsync(f->fd) != 0) return failed(f, "flush", err);
        if (f->b->size >= 0 && f->have != f->b->size && !again)
            return lt_fail(err, LT_EIO, "%lld bytes came, not %lld (%s)", (long long)f->have, (long long)f->b->size,
                           f->b->url);
        LT_TRY(check(f, wrong, err));
        if (!wrong[0] && (f->b->size < 0 || f->have == f->b->size)) return lt_rename(f->part, f->b->path, err);
        if (!again) return wrong_content(f, wrong, err);
        LT_TRY(start_over(f, err));
    }
}

static lt_status open_part(fetch *f, lt_err *err) {
    struct stat s;
    f->fd = open(f->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (f->fd < 0) return failed(f, "open", err);
    if (fstat(f->fd, &s) != 0) return failed(f, "look at the file", err);
    f->have = s.st_size;
    return f->b->size >= 0 && f->have > f->b->size ? start_over(f, err) : LT_OK;
}

lt_status lt_blob_fetch(lt_http *h, lt_blob *b, lt_http_reply *r, lt_err *err) {
    fetch f = { .h = h, .b = b, .fd = -1, .part = lt_asprintf("%s.incomplete", b->path) };
    int lock = -1;
    *r = (lt_http_reply){ .status = 200 };
    if (!f.part) return lt_fail(err, LT_ENOMEM, "hub: out of memory");
    lt_status st = lt_lock_acquire(&lock, b->lock, err);
    if (st == LT_OK && !lt_path_exists(b->path)) { /* another process may have brought it meanwhile */
        st = open_part(&f, err);
        if (st == LT_OK) st = fetch_checked(&f, r, err);
        if (f.fd >= 0) close(f.fd);
    }
    lt_lock_release(lock);
    lt_free(f.part);
    return st;
}
