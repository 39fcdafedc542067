/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/text_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { INPUT = 1 << 18 };
typedef enum kind { PLAIN, GZIP, ZSTD } kind;

struct lt_text_stream {
    int fd;
    kind kind;
    char *path;
    z_stream z;
    ZSTD_DCtx *zstd;
    bool inside, ended; /* in a member or frame; the file is read to its end */
    size_t begin, end, taken;
    uint8_t in[INPUT];
};

void lt_text_stream_close(lt_text_stream *s) {
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    if (s->kind == GZIP) inflateEnd(&s->z);
    ZSTD_freeDCtx(s->zstd);
    lt_free(s->path);
    lt_free(s);
}

/* More input after what is left; short reads are filled up. */
static lt_status refill(lt_text_stream *s, lt_err *err) {
    memmove(s->in, s->in + s->begin, s->end - s->begin);
    s->end -= s->begin;
    s->begin = 0;
    while (!s->ended && s->end < INPUT) {
        const ssize_t got = read(s->fd, s->in + s->end, INPUT - s->end);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return lt_fail(err, LT_EIO, "cannot read (%s: %s)", s->path, strerror(errno));
        s->ended = got == 0;
        s->end += (size_t)got;
    }
    return LT_OK;
}

static bool starts_with(const lt_text_stream *s, const char *magic, size_t n) {
    return s->end - s->begin >= n && memcmp(s->in + s->begin, magic, n) == 0;
}

static lt_status begin(lt_text_stream *s, lt_err *err) {
    LT_TRY(refill(s, err));
    if (starts_with(s, "PAR1", 4))
        return lt_fail(err, LT_EUNSUPPORTED,
                       "Parquet is not read; as JSON lines it is: duckdb -c \"COPY 'x.parquet' TO 'x.jsonl'\", or "
                       "pandas.read_parquet(...).to_json(..., orient=\"records\", lines=True) (%s)",
                       s->path);
    if (starts_with(s, "\x1f\x8b", 2)) {
        if (inflateInit2(&s->z, 15 + 16) != Z_OK) return lt_fail(err, LT_ENOMEM, "gzip: no memory (%s)", s->path);
        s->kind = GZIP;
    } else if (starts_with(s, "\x28\xb5\x2f\xfd", 4)) {
        s->kind = ZSTD;
        s->zstd = ZSTD_createDCtx();
        if (!s->zstd) return lt_fail(err, LT_ENOMEM, "zstd: no memory (%s)", s->path);
    }
    s->inside = s->kind != PLAIN;
    return LT_OK;
}

lt_status lt_text_stream_open(lt_text_stream **out, const char *path, lt_err *err) {
    lt_text_stream *s = lt_calloc(1, sizeof *s);
    struct stat info;
    if (!s) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    s->path = lt_strdup(path);
    s->fd = strcmp(path, "/dev/stdin") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)
                                            : open(path, O_RDONLY | O_CLOEXEC);
    lt_status st = s->path ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    if (st == LT_OK && s->fd < 0) st = lt_fail(err, LT_EIO, "cannot open (%s: %s)", path, strerror(errno));
    if (st == LT_OK && fstat(s->fd, &info) == 0 && S_ISDIR(info.st_mode))
        st = lt_fail(err, LT_EIO, "cannot open (%s: %s)", path, strerror(EISDIR));
    if (st == LT_OK) st = begin(s, err);
    if (st == LT_OK)
        *out = s;
    else
        lt_text_stream_close(s);
    return st;
}

static lt_status copy_plain(lt_text_stream *s, char *buf, size_t cap, size_t *n, lt_err *err) {
    (void)err;
    *n = lt_min_size(cap, s->end - s->begin);
    memcpy(buf, s->in + s->begin, *n);
    s->begin += *n;
    return LT_OK;
}

static lt_status gunzip(lt_text_stream *s, char *buf, size_t cap, size_t *n, lt_err *err) {
    if (!s->inside && inflateReset(&s->z) != Z_OK) return lt_fail(err, LT_EDATA, "gzip: cannot go on (%s)", s->path);
    s->z.next_in = s->in + s->begin;
    s->z.avail_in = (uInt)(s->end - s->begin);
    s->z.next_out = (Bytef *)buf;
    s->z.avail_out = (uInt)lt_min_size(cap, UINT_MAX);
    const uInt in = s->z.avail_in, out = s->z.avail_out;
    const int code = inflate(&s->z, Z_NO_FLUSH);
    s->begin += in - s->z.avail_in;
    s->taken += in - s->z.avail_in;
    *n = out - s->z.avail_out;
    s->inside = code != Z_STREAM_END;
    if (code == Z_OK || code == Z_STREAM_END || (code == Z_BUF_ERROR && (*n > 0 || !s->ended))) return LT_OK;
    return lt_fail(err, LT_EDATA, "gzip: damaged or cut at byte %zu (%s)", s->taken, s->path);
}

static lt_status unzstd(lt_text_stream *s, char *buf, size_t cap, size_t *n, lt_err *err) {
    ZSTD_inBuffer in = { s->in + s->begin, s->end - s->begin, 0 };
    ZSTD_outBuffer out = { buf, cap, 0 };
    const size_t left = ZSTD_decompressStream(s->zstd, &out, &in);
    const bool stuck = in.pos == 0 && out.pos == 0 && s->ended;
    s->begin += in.pos;
    s->taken += in.pos;
    *n = out.pos;
    s->inside = left != 0;
    if (!ZSTD_isError(left) && !stuck) return LT_OK;
    return lt_fail(err, LT_EDATA, "zstd: damaged or cut at byte %zu (%s)", s->taken, s->path);
}

lt_status lt_text_stream_read(lt_text_stream *s, char *buf, size_t cap, size_t *n, lt_err *err) {
    static lt_status (*const step[])(lt_text_stream *, char *, size_t, size_t *, lt_err *) = { copy_plain, gunzip,
                                                                                               unzstd };
    *n = 0;
    while (*n == 0) {
        if (s->begin == s->end) LT_TRY(refill(s, err));
        if (s->begin == s->end && !s->inside) return LT_OK; /* the end, between members */
        LT_TRY(step[s->kind](s, buf, cap, n, err));
    }
    return LT_OK;
}
