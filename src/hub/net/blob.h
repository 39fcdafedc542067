/* SPDX-License-Identifier: Apache-2.0 */
/* hub/net/blob.h - one content of the hub, fetched and checked. Private to the room. */
#ifndef LT_HUB_BLOB_H
#define LT_HUB_BLOB_H

#include "hub/net/http.h"

typedef struct lt_blob {
    const char *url, *path; /* path: blobs/ETAG; PATH.incomplete holds what has come so far */
    const char *lock;       /* LOCK.lock is held meanwhile */
    const char *etag;       /* 64 hex digits: SHA-256; 40: of a git blob; else there is no check */
    int64_t size;           /* -1: not known */
    double done, total;     /* bytes of the files before it, of all files */
    int64_t fetched;        /* out: bytes that came now */
} lt_blob;
/* *r: the last answer; when its status is not 200, 206 or 416 nothing was stored and the caller says why.
 * LT_EIO: also a wrong checksum (the content is thrown away). */
lt_status lt_blob_fetch(lt_http *h, lt_blob *b, lt_http_reply *r, lt_err *err);

#endif
