/* SPDX-License-Identifier: Apache-2.0 */
/* hub/net/http.h - one HTTP request to its end, over libcurl: redirects, waiting, trying again.
 *
 * Redirects are followed here and not in libcurl, because the headers of the first answer are needed and because the
 * token goes to the endpoint's scheme, host and port alone. 429 and 503 wait as long as Retry-After says; other 5xx,
 * broken connections and bodies that stop short are tried again after 0.5, 1, 2, 4 s, with a Range behind what has
 * come. */
#ifndef LT_HUB_HTTP_H
#define LT_HUB_HTTP_H

#include "core/core.h"

typedef struct lt_http lt_http;
typedef struct lt_http_reply {
    long status;
    int64_t length;               /* Content-Length of the last answer; -1: not said */
    int64_t from;                 /* where a 206 begins */
    char etag[160];               /* X-Linked-Etag, else ETag; no quotes, no W/ */
    int64_t linked_size;          /* X-Linked-Size; -1: not said */
    bool linked;                  /* etag is an X-Linked-Etag */
    char commit[65];              /* X-Repo-Commit */
    char error[64], message[200]; /* X-Error-Code, X-Error-Message */
    double retry_after;           /* seconds; < 0: not said */
} lt_http_reply;

typedef struct lt_http_request {
    const char *url;
    bool head; /* stops at the first answer that has an etag, also if it is a redirect */
    void *user;
    int64_t (*have)(void *user); /* bytes that need not come again; NULL: 0 */
    /* A 200 or 206 begins; then its body in pieces. */
    lt_status (*begin)(void *user, const lt_http_reply *r, lt_err *err);
    lt_status (*write)(void *user, const void *data, size_t bytes, lt_err *err);
} lt_http_request;

/* token NULL: none is sent. ctx: cancels; may be NULL. */
lt_status lt_http_open(lt_http **out, const lt_ctx *ctx, const char *endpoint, const char *token, lt_err *err);
void lt_http_close(lt_http *h);
/* LT_OK for every answer but those that were tried again in vain: the caller looks at r->status. */
lt_status lt_http_run(lt_http *h, const lt_http_request *q, lt_http_reply *r, lt_err *err);
/* What the next calls of progress say; 0: not known. */
void lt_http_progress(lt_http *h, double done, double total);
/* A path with what does not belong there as %XX; slash: '/' stays. lt_free. */
char *lt_http_escape(const char *path, bool slash);

#endif
