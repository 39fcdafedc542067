/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/net/http.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { MOST_HOPS = 10, MOST_TRIES = 5 };
#define LONGEST_WAIT 300.0 /* seconds that a server may ask for */

struct lt_http {
    const lt_ctx *ctx;
    CURL *curl;
    char *endpoint, *authorization; /* a header; NULL: none */
    double done, total;             /* bytes, as progress says them */
};

/* One answer while it comes. */
typedef struct exchange {
    lt_http *h;
    const lt_http_request *q;
    lt_http_reply *r;
    bool begun;
    int64_t got; /* bytes of body given to the caller */
    lt_status st;
    lt_err *err;
} exchange;

lt_status lt_http_open(lt_http **out, const lt_ctx *ctx, const char *endpoint, const char *token, lt_err *err) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return lt_fail(err, LT_EIO, "libcurl does not start");
    lt_http *h = lt_calloc(1, sizeof *h);
    if (h) {
        h->ctx = ctx;
        h->curl = curl_easy_init();
        h->endpoint = lt_strdup(endpoint);
        h->authorization = token ? lt_asprintf("Authorization: Bearer %s", token) : NULL;
    }
    if (h && h->curl && h->endpoint && (h->authorization || !token)) {
        *out = h;
        return LT_OK;
    }
    if (h)
        lt_http_close(h);
    else
        curl_global_cleanup();
    return lt_fail(err, LT_ENOMEM, "hub: out of memory");
}

void lt_http_close(lt_http *h) {
    if (!h) return;
    curl_easy_cleanup(h->curl);
    curl_global_cleanup();
    lt_free(h->endpoint);
    lt_free(h->authorization);
    lt_free(h);
}

void lt_http_progress(lt_http *h, double done, double total) {
    h->done = done;
    h->total = total;
}

static lt_status tell(const lt_http *h, lt_err *err) {
    return lt_progress(h->ctx, err, "pull", h->done, h->total, "B");
}

char *lt_http_escape(const char *path, bool slash) {
    static const char plain[] = "-._~/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                      hex[] = "0123456789ABCDEF";
    char *out = lt_malloc(3 * strlen(path) + 1), *to = out;
    if (!out) return NULL;
    for (const char *p = path; *p; p++) {
        const unsigned char c = (unsigned char)*p;
        if (strchr(plain, c) && (slash || c != '/')) {
            *to++ = *p;
            continue;
        }
        *to++ = '%';
        *to++ = hex[c >> 4];
        *to++ = hex[c & 15];
    }
    *to = '\0';
    return out;
}

/* ---- headers ---- */

static void copy(char *to, size_t cap, const char *from, size_t n) {
    n = lt_min_size(n, cap - 1);
    memcpy(to, from, n);
    to[n] = '\0';
}

/* W/"abc" is abc */
static void copy_etag(lt_http_reply *r, const char *value, size_t n, bool linked) {
    if (r->linked && !linked) return;
    if (n > 2 && strncmp(value, "W/", 2) == 0) value += 2, n -= 2;
    if (n >= 2 && value[0] == '"' && value[n - 1] == '"') value++, n -= 2;
    copy(r->etag, sizeof r->etag, value, n);
    r->linked = linked;
}

static int64_t whole(const char *value, size_t n) {
    char text[24];
    if (n == 0 || n >= sizeof text || strspn(value, "0123456789") < n) return -1;
    copy(text, sizeof text, value, n);
    return strtoll(text, NULL, 10);
}

/* Seconds, or a date. */
static double wait_of(const char *value, size_t n) {
    char text[64];
    const int64_t seconds = whole(value, n);
    if (seconds >= 0) return (double)seconds;
    copy(text, sizeof text, value, n);
    const time_t date = curl_getdate(text, NULL);
    return date < 0 ? -1 : difftime(date, time(NULL)) > 0 ? difftime(date, time(NULL)) : 0;
}

static void take_header(lt_http_reply *r, const char *name, size_t n_name, const char *value, size_t n) {
#define IS(text) (n_name == strlen(text) && strncasecmp(name, text, n_name) == 0)
    if (IS("etag")) copy_etag(r, value, n, false);
    if (IS("x-linked-etag")) copy_etag(r, value, n, true);
    if (IS("x-linked-size")) r->linked_size = whole(value, n);
    if (IS("x-repo-commit")) copy(r->commit, sizeof r->commit, value, n);
    if (IS("x-error-code")) copy(r->error, sizeof r->error, value, n);
    if (IS("x-error-message")) copy(r->message, sizeof r->message, value, n);
    if (IS("retry-after")) r->retry_after = wait_of(value, n);
    if (IS("content-length")) r->length = whole(value, n);
    if (IS("content-range") && n > 6 && strncasecmp(value, "bytes ", 6) == 0)
        r->from = whole(value + 6, strspn(value + 6, "0123456789"));
#undef IS
}

static size_t on_header(char *line, size_t size, size_t n, void *user) {
    exchange *x = user;
    const char *colon = memchr(line, ':', n);
    (void)size;
    if (!colon) return n;
    const char *value = colon + 1, *end = line + n;
    while (value < end && (*value == ' ' || *value == '\t')) value++;
    while (end > value && strchr(" \t\r\n", end[-1])) end--;
    take_header(x->r, line, (size_t)(colon - line), value, (size_t)(end - value));
    return n;
}

static bool has_body(const exchange *x) {
    return !x->q->head && (x->r->status == 200 || x->r->status == 206);
}

static size_t on_body(char *data, size_t size, size_t n, void *user) {
    exchange *x = user;
    (void)size;
    curl_easy_getinfo(x->h->curl, CURLINFO_RESPONSE_CODE, &x->r->status);
    if (!has_body(x)) return n;
    if (!x->begun) x->st = x->q->begin(x->q->user, x->r, x->err);
    x->begun = true;
    if (x->st == LT_OK) x->st = x->q->write(x->q->user, data, n, x->err);
    x->got += (int64_t)n;
    return x->st == LT_OK ? n : 0;
}

static int on_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    exchange *x = user;
    (void)a, (void)b, (void)c, (void)d;
    if (x->st == LT_OK) x->st = tell(x->h, x->err);
    return x->st != LT_OK;
}

/* ---- one answer ---- */

/* Whether the token may go there: scheme, host and port are the endpoint's. */
static bool same_place(const char *url, const char *endpoint) {
    static const CURLUPart part[] = { CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT };
    CURLU *a = curl_url(), *b = curl_url();
    bool same = a && b && curl_url_set(a, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_set(b, CURLUPART_URL, endpoint, 0) == CURLUE_OK;
    for (size_t i = 0; i < LT_COUNTOF(part) && same; i++) {
        char *x = NULL, *y = NULL;
        same = curl_url_get(a, part[i], &x, CURLU_DEFAULT_PORT) == CURLUE_OK &&
               curl_url_get(b, part[i], &y, CURLU_DEFAULT_PORT) == CURLUE_OK && strcasecmp(x, y) == 0;
        curl_free(x);
        curl_free(y);
    }
    curl_url_cleanup(a);
    curl_url_cleanup(b);
    return same;
}

static bool put_header(struct curl_slist **list, const char *line) {
    struct curl_slist *more = curl_slist_append(*list, line);
    if (more) *list = more;
    return more != NULL;
}

static void set_options(exchange *x, const char *url, const struct curl_slist *headers, const char *range) {
    CURL *c = x->h->curl;
    curl_easy_reset(c);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_NOBODY, x->q->head ? 1L : 0L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "lathe/" LT_VERSION);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_RANGE, range);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 30L);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, x);
}

static lt_status one_answer(exchange *x, const char *url, CURLcode *code) {
    const int64_t have = x->q->have ? x->q->have(x->q->user) : 0;
    struct curl_slist *headers = NULL;
    char range[32];
    bool ok = put_header(&headers, "Accept-Encoding: identity");
    if (ok && x->h->authorization && same_place(url, x->h->endpoint)) ok = put_header(&headers, x->h->authorization);
    if (!ok) {
        curl_slist_free_all(headers);
        return lt_fail(x->err, LT_ENOMEM, "hub: out of memory");
    }
    snprintf(range, sizeof range, "%lld-", (long long)have);
    set_options(x, url, headers, have > 0 ? range : NULL);
    x->r->length = x->r->from = -1;
    x->r->retry_after = -1;
    *code = curl_easy_perform(x->h->curl);
    curl_easy_getinfo(x->h->curl, CURLINFO_RESPONSE_CODE, &x->r->status);
    curl_slist_free_all(headers);
    if (*code == CURLE_OK && x->st == LT_OK && has_body(x) && !x->begun) { /* an empty body */
        x->begun = true;
        x->st = x->q->begin(x->q->user, x->r, x->err);
    }
    return x->st;
}

/* Follows redirects. *code: what libcurl says of the last one. */
static lt_status answer(exchange *x, CURLcode *code) {
    char *url = lt_strdup(x->q->url);
    lt_status st = url ? LT_OK : lt_fail(x->err, LT_ENOMEM, "hub: out of memory");
    for (int hops = 0; st == LT_OK; hops++) {
        const char *next = NULL;
        st = one_answer(x, url, code);
        const bool moved = st == LT_OK && *code == CURLE_OK && x->r->status >= 300 && x->r->status < 400;
        if (moved) curl_easy_getinfo(x->h->curl, CURLINFO_REDIRECT_URL, &next);
        if (!moved || !next) break;
        char *to = lt_strdup(next);
        const bool known = x->q->head && x->r->linked && !same_place(to ? to : "", x->h->endpoint);
        lt_free(url);
        url = to;
        if (!url) st = lt_fail(x->err, LT_ENOMEM, "hub: out of memory");
        if (st == LT_OK && hops == MOST_HOPS) st = lt_fail(x->err, LT_EIO, "too many redirects (%s)", x->q->url);
        if (known) break;
    }
    lt_free(url);
    return st;
}

/* ---- trying again ---- */

static lt_status sleep_for(const lt_http *h, double seconds, lt_err *err) {
    const double end = lt_seconds() + seconds;
    for (double left; (left = end - lt_seconds()) > 0;) {
        const double nap = left < 0.1 ? left : 0.1;
        const struct timespec t = { 0, (long)(nap * 1e9) };
        LT_TRY(tell(h, err));
        nanosleep(&t, NULL);
    }
    return LT_OK;
}

/* Whether another try may help. */
static bool passing(CURLcode code, long status) {
    switch (code) {
    case CURLE_OK:
        return status == 408 || status == 429 || status >= 500;
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

static lt_status give_up(const lt_http_request *q, CURLcode code, const lt_http_reply *r, lt_err *err) {
    if (code != CURLE_OK) return lt_fail(err, LT_EIO, "%s (%s)", curl_easy_strerror(code), q->url);
    if (r->status == 429)
        return lt_fail(err, LT_EIO, "the hub says: too many requests; try later, or set HF_TOKEN (%s)", q->url);
    return lt_fail(err, LT_EIO, "the hub answers with status %ld (%s)", r->status, q->url);
}

static lt_status wait(const lt_http *h, const lt_http_request *q, const lt_http_reply *r, int tries, lt_err *err) {
    const double seconds = r->retry_after >= 0 ? r->retry_after : 0.25 * (double)(1 << tries);
    if (seconds > LONGEST_WAIT)
        return lt_fail(err, LT_EIO, "the hub wants %.0f s of waiting: try again then (%s)", seconds, q->url);
    lt_log(h->ctx, LT_LOG_INFO, "pull: trying again in %.1f s (%s)", seconds, q->url);
    return sleep_for(h, seconds, err);
}

lt_status lt_http_run(lt_http *h, const lt_http_request *q, lt_http_reply *r, lt_err *err) {
    for (int tries = 1;; tries++) {
        exchange x = { .h = h, .q = q, .r = r, .err = err };
        CURLcode code = CURLE_OK;
        *r = (lt_http_reply){ .linked_size = -1 };
        LT_TRY(answer(&x, &code));
        if (code == CURLE_OK && !passing(code, r->status)) return LT_OK;
        if (x.got > 0 && r->status == 206) tries = 1; /* it moves on */
        if (!passing(code, r->status) || tries == MOST_TRIES) return give_up(q, code, r, err);
        LT_TRY(wait(h, q, r, tries, err));
    }
}
