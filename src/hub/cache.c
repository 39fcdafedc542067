/* SPDX-License-Identifier: Apache-2.0 */
#include "hub/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "hub/hub.h"
#include "io/file.h"

#define DEFAULT_ENDPOINT "https://huggingface.co"

/* ---- names ---- */

static bool word(char c) {
    return (c >= '0' && c <= '9') || (unsigned)((c | 0x20) - 'a') < 26 || c == '-' || c == '_' || c == '.';
}

/* One part of an id. "--" stands for '/' in the cache, so a name cannot hold it. */
static bool is_part(const char *s, size_t n) {
    if (n == 0 || n > 96 || s[0] == '.' || s[0] == '-' || s[n - 1] == '.') return false;
    for (size_t i = 0; i < n; i++)
        if (!word(s[i]) || (i > 0 && s[i] == s[i - 1] && (s[i] == '-' || s[i] == '.'))) return false;
    return true;
}

bool lt_hub_is_id(const char *id, size_t n) {
    const char *slash = memchr(id, '/', n);
    if (!slash) return is_part(id, n);
    const size_t org = (size_t)(slash - id);
    return is_part(id, org) && is_part(slash + 1, n - org - 1);
}

bool lt_hub_is_file(const char *path) {
    if (strlen(path) > 1024) return false;
    for (const char *p = path;; p++) {
        const size_t n = strcspn(p, "/");
        if (n == 0 || n > 255 || (n <= 2 && strncmp(p, "..", n) == 0)) return false;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)p[i] < 0x20 || p[i] == 0x7F || p[i] == '\\') return false;
        p += n;
        if (!*p) return true;
    }
}

bool lt_hub_is_revision(const char *revision) {
    return strlen(revision) <= 200 && lt_hub_is_file(revision) && !strpbrk(revision, " ?#%@:");
}

bool lt_hub_is_commit(const char *s) {
    return strlen(s) == 40 && strspn(s, "0123456789abcdef") == 40;
}

bool lt_hub_is_etag(const char *s) {
    const size_t n = strlen(s);
    if (n == 0 || n > 128 || s[0] == '.') return false;
    for (size_t i = 0; i < n; i++)
        if (!word(s[i])) return false;
    return true;
}

/* ---- places ---- */

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "hub: out of memory");
}

static const char *set_env(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* base/rest; a leading "~/" of base is the home folder */
static lt_status place(char **out, const char *base, const char *rest, lt_err *err) {
    const char *home = set_env("HOME");
    const bool tilde = base[0] == '~' && (base[1] == '/' || base[1] == '\0') && home;
    *out = lt_asprintf("%s%s%s", tilde ? home : base, tilde ? base + 1 : "", rest);
    return *out ? LT_OK : no_memory(err);
}

/* HF_HOME/rest, wherever that is */
static lt_status below_home(char **out, const char *rest, lt_err *err) {
    const char *home = set_env("HF_HOME"), *cache = set_env("XDG_CACHE_HOME"), *user = set_env("HOME");
    char below[64];
    if (home) return place(out, home, rest, err);
    if (!cache && !user) return lt_fail(err, LT_EIO, "hub: no cache folder: set HF_HOME");
    snprintf(below, sizeof below, "%s/huggingface%s", cache ? "" : "/.cache", rest);
    return place(out, cache ? cache : user, below, err);
}

lt_status lt_hub_root(char **out, lt_err *err) {
    const char *cache = set_env("HF_HUB_CACHE");
    if (!cache) cache = set_env("HUGGINGFACE_HUB_CACHE");
    return cache ? place(out, cache, "", err) : below_home(out, "/hub", err);
}

lt_status lt_hub_repo(char **out, const char *id, bool dataset, lt_err *err) {
    char *root;
    const char *slash = strchr(id, '/');
    LT_TRY(lt_hub_root(&root, err));
    *out = slash
               ? lt_asprintf("%s/%s--%.*s--%s", root, dataset ? "datasets" : "models", (int)(slash - id), id, slash + 1)
               : lt_asprintf("%s/%s--%s", root, dataset ? "datasets" : "models", id);
    lt_free(root);
    return *out ? LT_OK : no_memory(err);
}

/* The commit that refs/REVISION holds, or the revision itself. */
static lt_status commit_of(char **out, const char *repo, const char *revision, lt_err *err) {
    char *ref = lt_asprintf("%s/refs/%s", repo, revision), *text = NULL;
    size_t n = 0;
    if (!ref) return no_memory(err);
    const bool there = lt_path_exists(ref) && !lt_path_is_dir(ref);
    lt_status st = there ? lt_file_read(&text, &n, ref, 256, err) : LT_OK;
    if (st == LT_OK && !there) text = lt_strdup(revision);
    if (st == LT_OK && !text) st = no_memory(err);
    if (st == LT_OK) text[strcspn(text, " \r\n")] = '\0';
    if (st == LT_OK && there && !lt_hub_is_file(text)) st = lt_fail(err, LT_EDATA, "ref names no commit (%s)", ref);
    lt_free(ref);
    if (st == LT_OK)
        *out = text;
    else
        lt_free(text);
    return st;
}

lt_status lt_hub_snapshot(char **out, const char *repo, const char *revision, lt_err *err) {
    char *commit;
    *out = NULL;
    LT_TRY(commit_of(&commit, repo, revision, err));
    char *path = lt_asprintf("%s/snapshots/%s", repo, commit);
    lt_free(commit);
    if (!path) return no_memory(err);
    if (lt_path_is_dir(path))
        *out = path;
    else
        lt_free(path);
    return LT_OK;
}

bool lt_hub_offline(void) {
    static const char *const yes[] = { "1", "on", "yes", "true" };
    const char *value = set_env("HF_HUB_OFFLINE");
    if (!value) value = set_env("TRANSFORMERS_OFFLINE");
    for (size_t i = 0; value && i < LT_COUNTOF(yes); i++)
        if (strcasecmp(value, yes[i]) == 0) return true;
    return false;
}

lt_status lt_hub_endpoint(char **out, lt_err *err) {
    const char *value = set_env("HF_ENDPOINT");
    char *copy = lt_strdup(value ? value : DEFAULT_ENDPOINT);
    if (!copy) return no_memory(err);
    for (size_t n = strlen(copy); n > 0 && copy[n - 1] == '/'; n--) copy[n - 1] = '\0';
    *out = copy;
    return LT_OK;
}

/* It becomes part of a header, so it must be one printable word. */
static lt_status clean_token(char **out, const char *text, const char *where, lt_err *err) {
    size_t begin = strspn(text, " \t\r\n"), n = strlen(text);
    while (n > begin && strchr(" \t\r\n", text[n - 1])) n--;
    for (size_t i = begin; i < n; i++)
        if (text[i] <= 0x20 || text[i] >= 0x7F) return lt_fail(err, LT_EDATA, "hub: no token is in there (%s)", where);
    if (n == begin) return LT_OK;
    *out = lt_asprintf("%.*s", (int)(n - begin), text + begin);
    return *out ? LT_OK : no_memory(err);
}

lt_status lt_hub_token(char **out, lt_err *err) {
    const char *value = set_env("HF_TOKEN"), *file = set_env("HF_TOKEN_PATH");
    char *path = NULL, *text = NULL;
    size_t n = 0;
    *out = NULL;
    if (!value) value = set_env("HUGGING_FACE_HUB_TOKEN");
    if (value) return clean_token(out, value, "HF_TOKEN", err);
    LT_TRY(file ? place(&path, file, "", err) : below_home(&path, "/token", err));
    lt_status st = lt_path_exists(path) ? lt_file_read(&text, &n, path, 4096, err) : LT_OK;
    if (st == LT_OK && text) st = clean_token(out, text, path, err);
    lt_free(text);
    lt_free(path);
    return st;
}

/* ---- what a user calls a model ---- */

typedef struct name {
    char *id, *revision;
    const char *file; /* "" or "/path/in/the/repository" */
} name;

static void clear(name *n) {
    lt_free(n->id);
    lt_free(n->revision);
}

/* A revision is one word, or refs/pr/1 and the like. */
static size_t revision_length(const char *text) {
    size_t n = strcspn(text, "/");
    for (int more = strncmp(text, "refs/", 5) == 0 ? 2 : 0; more > 0 && text[n]; more--)
        n += 1 + strcspn(text + n + 1, "/");
    return n;
}

/* ORG/NAME[@REVISION][/FILE]; *is false: it is no such name. */
static lt_status parse(name *out, bool *is, const char *text, lt_err *err) {
    const char *slash = strchr(text, '/');
    const size_t org = slash ? (size_t)(slash - text) + 1 : 0, n = org + strcspn(text + org, "@/");
    const bool at = text[n] == '@';
    const size_t revision = at ? revision_length(text + n + 1) : 0;
    *out = (name){ .file = text + n + at + revision };
    *is = lt_hub_is_id(text, n) && (!*out->file || lt_hub_is_file(out->file + 1)) && (!at || revision > 0);
    if (!*is) return LT_OK;
    out->id = lt_asprintf("%.*s", (int)n, text);
    out->revision = at ? lt_asprintf("%.*s", (int)revision, text + n + 1) : lt_strdup("main");
    if (out->id && out->revision) {
        *is = lt_hub_is_revision(out->revision);
        return LT_OK;
    }
    clear(out);
    return no_memory(err);
}

static lt_status in_cache(char **path, const name *n, lt_err *err) {
    char *repo, *snapshot = NULL;
    LT_TRY(lt_hub_repo(&repo, n->id, false, err));
    const lt_status st = lt_hub_snapshot(&snapshot, repo, n->revision, err);
    lt_free(repo);
    LT_TRY(st);
    if (!snapshot) return LT_OK;
    *path = lt_asprintf("%s%s", snapshot, n->file);
    lt_free(snapshot);
    return *path ? LT_OK : no_memory(err);
}

lt_status lt_hub_find(char **path, const char *text, lt_err *err) {
    name n;
    bool is;
    *path = NULL;
    if (lt_path_exists(text)) return (*path = lt_strdup(text)) ? LT_OK : no_memory(err);
    LT_TRY(parse(&n, &is, text, err));
    if (!is) {
        clear(&n);
        return lt_fail(err, LT_EIO, "%s: no such file or folder", text);
    }
    lt_status st = in_cache(path, &n, err);
    if (st == LT_OK && !*path)
        st = lt_fail(
            err, LT_EIO, "%s: no such file or folder, and not in the cache of the hub: `lathe pull %s%s%s` gets it",
            text, n.id, strcmp(n.revision, "main") ? " --revision " : "", strcmp(n.revision, "main") ? n.revision : "");
    if (st == LT_OK && !lt_path_exists(*path)) {
        st = lt_fail(err, LT_EIO, "%s: the cached snapshot does not hold it (%s)", text, *path);
        lt_free(*path);
        *path = NULL;
    }
    clear(&n);
    return st;
}

lt_status lt_hub_id_of(char **id, const char *path, lt_err *err) {
    static const char models[] = "models--";
    const char *snapshots = strstr(path, "/snapshots/"), *begin = snapshots;
    *id = NULL;
    while (begin && begin > path && begin[-1] != '/') begin--;
    if (!begin || strncmp(begin, models, sizeof models - 1) != 0) return LT_OK;
    begin += sizeof models - 1;
    const int n = (int)(snapshots - begin);
    const char *dash = memmem(begin, (size_t)n, "--", 2);
    const int org = dash ? (int)(dash - begin) : 0;
    *id = dash ? lt_asprintf("%.*s/%.*s", org, begin, n - org - 2, dash + 2) : lt_asprintf("%.*s", n, begin);
    return *id ? LT_OK : no_memory(err);
}
