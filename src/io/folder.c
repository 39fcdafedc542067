/* SPDX-License-Identifier: Apache-2.0 */
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/sync.h"

char *lt_path_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return lt_strdup(".");
    char *folder = lt_strdup(path);
    if (folder) folder[slash == path ? 1 : slash - path] = 0;
    return folder;
}

char *lt_spill_folder(const lt_ctx *ctx, const char *output) {
    const char *temporary = getenv("TMPDIR");
    if (ctx && ctx->scratch) return lt_strdup(ctx->scratch);
    if (!output) return lt_strdup(temporary && *temporary ? temporary : "/tmp");
    char *folder = lt_path_folder(output);
    while (folder && !lt_path_is_dir(folder)) { /* ends at "." or "/" */
        char *above = lt_path_folder(folder);
        lt_free(folder);
        folder = above;
    }
    return folder;
}

lt_status lt_sync_folder_of(const char *path, lt_err *err) {
    char *folder = lt_path_folder(path);
    if (!folder) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    lt_free(folder);
    if (fd < 0) return LT_OK; /* a folder may be writable and not readable */
    const int code = fsync(fd) != 0 && errno != EINVAL && errno != EROFS && errno != ENOTSUP ? errno : 0;
    close(fd);
    return code ? lt_fail(err, LT_EIO, "cannot sync the folder (%s: %s)", path, strerror(code)) : LT_OK;
}

lt_status lt_make_dirs(const char *path, lt_err *err) {
    char *part = lt_strdup(path);
    lt_status st = LT_OK;
    if (!part) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    for (char *p = part; *p && st == LT_OK;) {
        p += strspn(p, "/");
        p += strcspn(p, "/");
        const char old = *p;
        *p = 0;
        if (*part && mkdir(part, 0777) != 0 && !(errno == EEXIST && lt_path_is_dir(part)))
            st = lt_fail(err, LT_EIO, "cannot make the folder (%s: %s)", part,
                         strerror(errno == EEXIST ? ENOTDIR : errno));
        *p = old;
    }
    lt_free(part);
    return st;
}

lt_status lt_rename(const char *from, const char *to, lt_err *err) {
    if (rename(from, to) != 0) return lt_fail(err, LT_EIO, "cannot rename to %s (%s: %s)", to, from, strerror(errno));
    LT_TRY(lt_sync_folder_of(to, err));
    return lt_sync_folder_of(from, err);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t n) {
    for (size_t i = 0; i < n; i++) lt_free(names[i]);
    lt_free(names);
}

static bool add_name(char ***names, size_t *n, size_t *cap, const char *name) {
    if (*n == *cap) {
        const size_t more = *cap ? 2 * *cap : 16;
        char **grown = lt_realloc(*names, more * sizeof *grown);
        if (!grown) return false;
        *names = grown;
        *cap = more;
    }
    char *copy = lt_strdup(name);
    if (!copy) return false;
    (*names)[(*n)++] = copy;
    return true;
}

lt_status lt_list_dir(char ***names, size_t *n, const char *path, lt_err *err) {
    DIR *d = opendir(path);
    if (!d) return lt_fail(err, LT_EIO, "cannot list (%s: %s)", path, strerror(errno));
    char **list = NULL;
    size_t count = 0, cap = 0;
    lt_status st = LT_OK;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e) break;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (!add_name(&list, &count, &cap, e->d_name)) LT_GO(lt_fail(err, LT_ENOMEM, "out of memory (%s)", path));
    }
    if (errno) LT_GO(lt_fail(err, LT_EIO, "cannot list (%s: %s)", path, strerror(errno)));
    if (count) qsort(list, count, sizeof *list, by_text);
    *names = list;
    *n = count;
done:
    closedir(d);
    if (st != LT_OK) free_names(list, count);
    return st;
}

lt_status lt_remove_tree(const char *path, lt_err *err) {
    struct stat info;
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? LT_OK : lt_fail(err, LT_EIO, "cannot remove (%s: %s)", path, strerror(errno));
    if (S_ISDIR(info.st_mode)) { /* a link to a folder is removed, not followed */
        char **names;
        size_t n;
        LT_TRY(lt_list_dir(&names, &n, path, err));
        lt_status st = LT_OK;
        for (size_t i = 0; i < n && st == LT_OK; i++) {
            char *inner = lt_path_join(path, names[i]);
            st = inner ? lt_remove_tree(inner, err) : lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
            lt_free(inner);
        }
        free_names(names, n);
        if (st != LT_OK) return st;
    }
    if (remove(path) != 0) return lt_fail(err, LT_EIO, "cannot remove (%s: %s)", path, strerror(errno));
    return LT_OK;
}

/* True when what was locked is still what stands under that name: its holder before may have removed it between our
 * open and our lock. */
static bool still_there(int fd, const char *name) {
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(name, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* Locks the folder path (made where it is missing), or the file name. *fd -1, *code: errno of a lock that the file
 * system does not give. */
static lt_status lock(int *fd, int *code, const char *path, const char *name, lt_err *err) {
    for (*code = 0, *fd = -1;;) {
        if (!name) LT_TRY(lt_make_dirs(path, err));
        const int got =
            name ? open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (got < 0 && !name && errno == ENOENT) continue; /* renamed since by its holder */
        if (got < 0) return lt_fail(err, LT_EIO, "cannot lock (%s: %s)", name ? name : path, strerror(errno));
        if (flock(got, LOCK_EX | LOCK_NB) != 0) {
            *code = errno;
            close(got);
            return *code == EWOULDBLOCK ? lt_fail(err, LT_EIO, "in use by another process (%s)", path) : LT_OK;
        }
        if (still_there(got, name ? name : path)) {
            *fd = got;
            return LT_OK;
        }
        close(got);
    }
}

lt_status lt_lock_acquire(int *fd, const char *path, lt_err *err) {
    int got, code;
    LT_TRY(lock(&got, &code, path, NULL, err));
    if (got < 0) { /* network file systems may lock files only */
        char *name = lt_asprintf("%s.lock", path);
        if (!name) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
        const lt_status st = lock(&got, &code, path, name, err);
        lt_free(name);
        LT_TRY(st);
    }
    if (got < 0) return lt_fail(err, LT_EIO, "cannot lock (%s: %s)", path, strerror(code));
    *fd = got;
    return LT_OK;
}

/* A lock beside the folder goes, while it is still locked; the folder stays. */
void lt_lock_release(int fd) {
    char link[64], name[4096];
    struct stat st;
    if (fd < 0) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? readlink(link, name, sizeof name - 1) : 0;
    if (n > 0) {
        name[n] = 0;
        if (still_there(fd, name)) unlink(name);
    }
    close(fd);
}
