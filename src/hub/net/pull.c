/* SPDX-License-Identifier: Apache-2.0 */
/* A repository: its list of files from the hub's API, then file by file what the cache does not have. */
#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <unistd.h>

#include "hub/cache.h"
#include "hub/hub.h"
#include "hub/net/blob.h"
#include "io/file.h"
#include "io/json.h"

#define MOST_LISTING ((size_t)64 << 20)

typedef struct pull {
    const lt_hub_pull_in *in;
    lt_hub_pull_out *out;
    lt_http *http;
    const char *revision;
    char *endpoint, *token, *root, *repo;
    double done, total; /* bytes */
} pull;

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "hub: out of memory");
}

/* What a status that brought nothing means, and the way out. */
static lt_status refused(const pull *p, const lt_http_reply *r, const char *what, lt_err *err) {
    const char *id = p->in->id, *kind = p->in->dataset ? "datasets/" : "";
    const bool hidden = r->status == 401 || r->status == 403;
    if (hidden && strcmp(r->error, "GatedRepo") == 0)
        return lt_fail(
            err, LT_EIO,
            "%s: access is gated: accept its terms at %s/%s%s, then set HF_TOKEN to a token of that account (%s)", id,
            p->endpoint, kind, id, what);
    if (hidden && p->token)
        return lt_fail(err, LT_EIO,
                       "%s: the token in HF_TOKEN has no access, or there is no such repository (%s: %ld %s)", id, what,
                       r->status, r->message);
    if (hidden)
        return lt_fail(err, LT_EIO,
                       "%s: no such repository, or a private one: check the name, or set HF_TOKEN (%s: %ld)", id, what,
                       r->status);
    if (r->status == 404 && strcmp(r->error, "RevisionNotFound") == 0)
        return lt_fail(err, LT_EIO, "%s: no revision %s (%s)", id, p->revision, what);
    if (r->status == 404)
        return lt_fail(err, LT_EIO, "%s: the hub has no such %s (%s: %ld %s)", id,
                       strcmp(r->error, "EntryNotFound") == 0 ? "file" : "repository", what, r->status, r->message);
    return lt_fail(err, LT_EIO, "%s: the hub answers with status %ld %s (%s)", id, r->status, r->message, what);
}

/* ---- the list ---- */

typedef struct listing {
    char *text;
    size_t n, cap;
} listing;

static lt_status begin_list(void *user, const lt_http_reply *r, lt_err *err) {
    (void)r, (void)err;
    ((listing *)user)->n = 0;
    return LT_OK;
}

static lt_status put_list(void *user, const void *data, size_t bytes, lt_err *err) {
    listing *l = user;
    if (bytes > MOST_LISTING - l->n)
        return lt_fail(err, LT_EDATA, "hub: a list of more than %zu MiB", MOST_LISTING >> 20);
    if (bytes > l->cap - l->n) {
        const size_t cap = 2 * (l->n + bytes);
        char *text = lt_realloc(l->text, cap);
        if (!text) return no_memory(err);
        l->text = text;
        l->cap = cap;
    }
    memcpy(l->text + l->n, data, bytes);
    l->n += bytes;
    return LT_OK;
}

static lt_status get_list(pull *p, json_t **list, lt_err *err) {
    listing text = { 0 };
    lt_http_reply r;
    char *revision = lt_http_escape(p->revision, false);
    char *url = revision ? lt_asprintf("%s/api/%s/%s/revision/%s?blobs=true", p->endpoint,
                                       p->in->dataset ? "datasets" : "models", p->in->id, revision)
                         : NULL;
    const lt_http_request q = { .url = url, .user = &text, .begin = begin_list, .write = put_list };
    lt_status st = url ? lt_http_run(p->http, &q, &r, err) : no_memory(err);
    if (st == LT_OK && r.status != 200) st = refused(p, &r, url, err);
    if (st == LT_OK) st = lt_json_parse(list, text.text ? text.text : "", text.n, url, err);
    lt_free(text.text);
    lt_free(revision);
    lt_free(url);
    return st;
}

static lt_status take_commit(const pull *p, const json_t *list, lt_err *err) {
    const char *sha;
    LT_TRY(lt_json_string(&sha, list, "sha", "", p->in->id, err));
    if (!lt_hub_is_commit(sha))
        return lt_fail(err, LT_EDATA, "hub: the list names no commit (%s: %.80s)", p->in->id, sha);
    memcpy(p->out->commit, sha, strlen(sha) + 1);
    return LT_OK;
}

static bool any(const char *const *pattern, size_t n, const char *file) {
    for (size_t i = 0; i < n; i++) {
        const size_t length = strlen(pattern[i]);
        if (fnmatch(pattern[i], file, 0) == 0) return true;
        if (length > 0 && pattern[i][length - 1] == '/' && strncmp(pattern[i], file, length) == 0) return true;
    }
    return false;
}

static bool wanted(const pull *p, const char *file) {
    const lt_hub_pull_in *in = p->in;
    return (in->n_include == 0 || any(in->include, in->n_include, file)) && !any(in->exclude, in->n_exclude, file);
}

/* *name NULL: the file is not wanted. */
static lt_status sibling(const pull *p, const json_t *j, const char **name, json_int_t *size, lt_err *err) {
    const json_t *bytes = json_object_get(j, "size");
    LT_TRY(lt_json_string(name, j, "rfilename", "", p->in->id, err));
    if (!lt_hub_is_file(*name))
        return lt_fail(err, LT_EDATA, "hub: file name that is none (%s: %.80s)", p->in->id, *name);
    *size = json_is_integer(bytes) && json_integer_value(bytes) >= 0 ? json_integer_value(bytes) : -1;
    if (!wanted(p, *name)) *name = NULL;
    return LT_OK;
}

/* ---- one file ---- */

static lt_status make_parent(const char *path, lt_err *err) {
    char *folder = lt_asprintf("%.*s", (int)(lt_path_name(path) - path), path);
    if (!folder) return no_memory(err);
    const lt_status st = lt_make_dirs(folder, err);
    lt_free(folder);
    return st;
}

/* snapshots/COMMIT/a/b links to ../../../blobs/ETAG; made beside it and renamed, so that it is whole or not there. */
static lt_status link_blob(const char *link, const char *file, const char *etag, lt_err *err) {
    char up[3 * 512 + 8] = "../../";
    size_t n = 6;
    for (const char *p = file; *p && n + 4 < sizeof up; p++)
        if (*p == '/') memcpy(up + n, "../", 4), n += 3;
    char *target = lt_asprintf("%sblobs/%s", up, etag), *temporary = lt_asprintf("%s.lathe-%ld", link, (long)getpid());
    lt_status st = target && temporary ? make_parent(link, err) : no_memory(err);
    if (st == LT_OK) {
        unlink(temporary);
        if (symlink(target, temporary) != 0 || rename(temporary, link) != 0)
            st = lt_fail(err, LT_EIO, "cannot link to %s (%s: %s)", target, link, strerror(errno));
    }
    lt_free(target);
    lt_free(temporary);
    return st;
}

/* What the hub says of a file before any of it comes. */
static lt_status ask(const pull *p, const char *url, const char *file, lt_http_reply *r, int64_t *size, lt_err *err) {
    const lt_http_request q = { .url = url, .head = true };
    LT_TRY(lt_http_run(p->http, &q, r, err));
    if (r->status >= 400) return refused(p, r, file, err);
    if (!lt_hub_is_etag(r->etag)) return lt_fail(err, LT_EIO, "hub: no usable etag (%s)", url);
    if (r->commit[0] && strcmp(r->commit, p->out->commit) != 0)
        return lt_fail(err, LT_EIO, "hub: the file is of commit %s, not %s (%s)", r->commit, p->out->commit, url);
    *size = r->linked_size >= 0 ? r->linked_size : r->status == 200 ? r->length : -1;
    return LT_OK;
}

static lt_status bring(pull *p, const char *url, const char *file, const char *link, lt_err *err) {
    lt_http_reply head, r;
    lt_blob b = { .url = url, .size = -1, .done = p->done, .total = p->total };
    LT_TRY(ask(p, url, file, &head, &b.size, err));
    char *path = lt_asprintf("%s/blobs/%s", p->repo, head.etag),
         *lock = lt_asprintf("%s/.locks/%s/%s", p->root, lt_path_name(p->repo), head.etag);
    lt_status st = path && lock ? make_parent(path, err) : no_memory(err);
    if (st == LT_OK) st = make_parent(lock, err);
    b.path = path;
    b.lock = lock;
    b.etag = head.etag;
    if (st == LT_OK && !lt_path_exists(path)) {
        st = lt_blob_fetch(p->http, &b, &r, err);
        if (st == LT_OK && !lt_path_exists(path)) st = refused(p, &r, file, err);
        p->out->fetched++;
        p->out->fetched_bytes += (uint64_t)b.fetched;
    }
    if (st == LT_OK) st = link_blob(link, file, head.etag, err);
    lt_free(path);
    lt_free(lock);
    return st;
}

static lt_status get_file(pull *p, const char *file, lt_err *err) {
    uint64_t bytes = 0;
    int64_t time;
    char *name = lt_http_escape(file, true), *link = lt_asprintf("%s/%s", p->out->path, file);
    char *url = name ? lt_asprintf("%s/%s%s/resolve/%s/%s", p->endpoint, p->in->dataset ? "datasets/" : "", p->in->id,
                                   p->out->commit, name)
                     : NULL;
    lt_status st = url && link ? LT_OK : no_memory(err);
    if (st == LT_OK && !lt_path_exists(link)) st = bring(p, url, file, link, err);
    if (st == LT_OK) st = lt_file_stat(link, &bytes, &time, err);
    if (st == LT_OK) {
        p->out->files++;
        p->out->bytes += bytes;
        p->done += (double)bytes;
        lt_http_progress(p->http, p->done, p->total);
    }
    lt_free(name);
    lt_free(link);
    lt_free(url);
    return st;
}

/* ---- all of them ---- */

static lt_status sum_sizes(pull *p, const json_t *files, lt_err *err) {
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(files); i++) {
        const char *name;
        json_int_t size;
        LT_TRY(sibling(p, json_array_get(files, i), &name, &size, err));
        if (!name) continue;
        n++;
        p->total = size < 0 || p->total < 0 ? -1 : p->total + (double)size;
    }
    if (p->total < 0) p->total = 0;
    return n > 0 ? LT_OK : lt_fail(err, LT_EDATA, "%s: no file there is asked for", p->in->id);
}

static lt_status get_files(pull *p, const json_t *files, lt_err *err) {
    if (!json_is_array(files)) return lt_fail(err, LT_EDATA, "hub: the list has no files (%s)", p->in->id);
    LT_TRY(sum_sizes(p, files, err));
    LT_TRY(lt_make_dirs(p->out->path, err));
    lt_http_progress(p->http, 0, p->total);
    for (size_t i = 0; i < json_array_size(files); i++) {
        const char *name;
        json_int_t size;
        LT_TRY(sibling(p, json_array_get(files, i), &name, &size, err));
        if (name) LT_TRY(get_file(p, name, err));
    }
    return LT_OK;
}

/* Last: a ref names what is whole. */
static lt_status put_ref(const pull *p, lt_err *err) {
    if (strcmp(p->revision, p->out->commit) == 0) return LT_OK;
    char *ref = lt_asprintf("%s/refs/%s", p->repo, p->revision);
    lt_status st = ref ? make_parent(ref, err) : no_memory(err);
    if (st == LT_OK) st = lt_file_write(ref, p->out->commit, strlen(p->out->commit), err);
    lt_free(ref);
    return st;
}

static lt_status online(pull *p, lt_err *err) {
    json_t *list = NULL;
    LT_TRY(lt_hub_endpoint(&p->endpoint, err));
    LT_TRY(lt_hub_token(&p->token, err));
    LT_TRY(lt_http_open(&p->http, p->in->ctx, p->endpoint, p->token, err));
    LT_TRY(get_list(p, &list, err));
    lt_status st = take_commit(p, list, err);
    if (st == LT_OK) {
        p->out->path = lt_asprintf("%s/snapshots/%s", p->repo, p->out->commit);
        if (!p->out->path) st = no_memory(err);
    }
    if (st == LT_OK) st = get_files(p, json_object_get(list, "siblings"), err);
    json_decref(list);
    return st == LT_OK ? put_ref(p, err) : st;
}

static lt_status offline(pull *p, lt_err *err) {
    LT_TRY(lt_hub_snapshot(&p->out->path, p->repo, p->revision, err));
    if (!p->out->path)
        return lt_fail(err, LT_EIO, "%s: not in the cache, and HF_HUB_OFFLINE forbids to ask for it (%s: %s)",
                       p->in->id, p->repo, p->revision);
    const char *commit = lt_path_name(p->out->path);
    if (lt_hub_is_commit(commit)) memcpy(p->out->commit, commit, strlen(commit) + 1);
    return LT_OK;
}

lt_status lt_hub_pull(lt_hub_pull_out *out, const lt_hub_pull_in *in, lt_err *err) {
    pull p = { .in = in, .out = out, .revision = in->revision ? in->revision : "main" };
    *out = (lt_hub_pull_out){ 0 };
    LT_REQUIRE(err, lt_hub_is_id(in->id, strlen(in->id)), "pull: \"%s\" is no name of a repository (ORG/NAME)", in->id);
    LT_REQUIRE(err, lt_hub_is_revision(p.revision), "pull: \"%s\" is no revision", p.revision);
    lt_status st = lt_hub_root(&p.root, err);
    if (st == LT_OK) st = lt_hub_repo(&p.repo, in->id, in->dataset, err);
    if (st == LT_OK) st = lt_hub_offline() ? offline(&p, err) : online(&p, err);
    lt_http_close(p.http);
    lt_free(p.endpoint);
    lt_free(p.token);
    lt_free(p.root);
    lt_free(p.repo);
    if (st != LT_OK) {
        lt_free(out->path);
        out->path = NULL;
    }
    return st;
}
