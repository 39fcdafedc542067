/* SPDX-License-Identifier: Apache-2.0 */
/* A file as text: gzip (RFC 1952) and zstd (RFC 8878) are known by their magic numbers and undone; several members or
 * frames in a row are one text. */
#include <limits.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "calib/tokens.h"
#include "io/file.h"

typedef struct sink {
    char *text;
    size_t used, cap;
    const char *path;
} sink;

static lt_status reserve(sink *s, lt_err *err) {
    if (s->cap - s->used > 1) return LT_OK; /* one stays for the NUL */
    const size_t cap = s->cap ? 2 * s->cap : (size_t)1 << 20;
    char *text = lt_realloc(s->text, cap);
    if (!text) return lt_fail(err, LT_ENOMEM, "no memory for %zu bytes of text (%s)", cap, s->path);
    s->text = text;
    s->cap = cap;
    return LT_OK;
}

static lt_status gunzip_all(sink *s, z_stream *z, const uint8_t *data, size_t bytes, lt_err *err) {
    int code = Z_OK;
    size_t taken = 0;
    while (code != Z_STREAM_END || taken < bytes) {
        if (code == Z_STREAM_END && inflateReset(z) != Z_OK)
            return lt_fail(err, LT_EDATA, "gzip: cannot go on (%s)", s->path);
        LT_TRY(reserve(s, err));
        z->next_in = (Bytef *)(uintptr_t)(data + taken);
        z->avail_in = (uInt)lt_min_size(bytes - taken, UINT_MAX);
        z->next_out = (Bytef *)s->text + s->used;
        z->avail_out = (uInt)lt_min_size(s->cap - s->used - 1, UINT_MAX);
        const uInt in = z->avail_in, out = z->avail_out;
        code = inflate(z, Z_NO_FLUSH);
        taken += in - z->avail_in;
        s->used += out - z->avail_out;
        if (code != Z_OK && code != Z_STREAM_END)
            return lt_fail(err, LT_EDATA, "gzip: damaged or cut at byte %zu (%s)", taken, s->path);
    }
    return LT_OK;
}

static lt_status gunzip(sink *s, const uint8_t *data, size_t bytes, lt_err *err) {
    z_stream z = { 0 };
    if (inflateInit2(&z, 15 + 16) != Z_OK) return lt_fail(err, LT_ENOMEM, "gzip: no memory (%s)", s->path);
    const lt_status st = gunzip_all(s, &z, data, bytes, err);
    inflateEnd(&z);
    return st;
}

static lt_status unzstd(sink *s, const uint8_t *data, size_t bytes, lt_err *err) {
    ZSTD_DCtx *z = ZSTD_createDCtx();
    if (!z) return lt_fail(err, LT_ENOMEM, "zstd: no memory (%s)", s->path);
    ZSTD_inBuffer in = { data, bytes, 0 };
    size_t left = 1;
    lt_status st = LT_OK;
    while (st == LT_OK && (left != 0 || in.pos < in.size)) {
        if ((st = reserve(s, err)) != LT_OK) break;
        ZSTD_outBuffer out = { s->text, s->cap - 1, s->used };
        const size_t before = in.pos;
        left = ZSTD_decompressStream(z, &out, &in);
        const bool stuck = in.pos == before && out.pos == s->used;
        s->used = out.pos;
        if (ZSTD_isError(left) || stuck)
            st = lt_fail(err, LT_EDATA, "zstd: damaged or cut at byte %zu (%s)", in.pos, s->path);
    }
    ZSTD_freeDCtx(z);
    return st;
}

static bool starts_with(const char *data, size_t bytes, const char *magic, size_t n) {
    return bytes >= n && memcmp(data, magic, n) == 0;
}

lt_status lt_text_read(char **text, size_t *bytes, const char *path, lt_err *err) {
    char *raw = NULL;
    size_t n = 0;
    sink s = { .path = path };
    LT_TRY(lt_file_read(&raw, &n, path, 0, err));
    const bool gzip = starts_with(raw, n, "\x1f\x8b", 2), zstd = starts_with(raw, n, "\x28\xb5\x2f\xfd", 4);
    if (!gzip && !zstd) {
        *text = raw;
        *bytes = n;
        return LT_OK;
    }
    const lt_status st = gzip ? gunzip(&s, (const uint8_t *)raw, n, err) : unzstd(&s, (const uint8_t *)raw, n, err);
    lt_free(raw);
    if (st != LT_OK) return lt_free(s.text), st;
    s.text[s.used] = 0;
    *text = s.text;
    *bytes = s.used;
    return LT_OK;
}
