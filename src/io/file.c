/* SPDX-License-Identifier: Apache-2.0 */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Standard input is taken as it is: opened again by name, a FIFO would wait for another writer and a socket fail. */
static lt_status open_for_reading(int *fd, struct stat *st, const char *path, lt_err *err) {
    if (strcmp(path, "/dev/stdin") == 0)
        *fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    else
        *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return lt_fail(err, LT_EIO, "cannot open (%s: %s)", path, strerror(errno));
    if (fstat(*fd, st) == 0 && !S_ISDIR(st->st_mode)) return LT_OK;
    const int code = S_ISDIR(st->st_mode) ? EISDIR : errno;
    close(*fd);
    return lt_fail(err, LT_EIO, "cannot open (%s: %s)", path, strerror(code));
}

lt_status lt_map_open(lt_buffer *out, const char *path, lt_err *err) {
    static char empty[1]; /* an empty file is a host buffer of no bytes */
    int fd;
    struct stat st;
    LT_TRY(open_for_reading(&fd, &st, path, err));
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return lt_fail(err, LT_EIO, "not a regular file (%s)", path);
    }
    const size_t bytes = (size_t)st.st_size;
    void *data = bytes ? mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0) : empty;
    const int code = errno;
    close(fd);
    if (data == MAP_FAILED) return lt_fail(err, LT_EIO, "cannot map %zu bytes (%s: %s)", bytes, path, strerror(code));
    *out = (lt_buffer){ data, bytes, bytes > 0 };
    return LT_OK;
}

lt_status lt_map_spill(lt_buffer *out, size_t bytes, const char *folder, lt_err *err) {
    char *path = lt_asprintf("%s/lathe-spill-XXXXXX", folder);
    if (!path) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", folder);
    const int fd = mkstemp(path);
    int code = fd < 0 ? errno : 0;
    void *data = MAP_FAILED;
    if (fd >= 0) {
        unlink(path);
        code = posix_fallocate(fd, 0, (off_t)bytes);
        if (code == 0) data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (code == 0 && data == MAP_FAILED) code = errno;
        close(fd);
    }
    lt_free(path);
    if (data == MAP_FAILED)
        return lt_fail(err, LT_EIO, "cannot spill %zu bytes (%s: %s)", bytes, folder, strerror(code));
    *out = (lt_buffer){ data, bytes, true };
    return LT_OK;
}

void lt_map_close(lt_buffer *b) {
    if (b->bytes) munmap(b->data, b->bytes);
    *b = (lt_buffer){ 0 };
}

/* ---- large pages ---- */

enum { LARGE = 2 << 20, PIECE = 4 * LARGE };

/* Without them a copy would cost time and gain nothing. */
static bool has_large_pages(void) {
    char *text;
    if (lt_file_read(&text, NULL, "/sys/kernel/mm/transparent_hugepage/enabled", 4096, NULL) != LT_OK) return false;
    const bool has = strstr(text, "[always]") || strstr(text, "[madvise]");
    lt_free(text);
    return has;
}

/* Pages of the map are given back as they are copied: the two never stand in memory together. */
static void copy_and_drop(char *to, char *from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += PIECE) {
        const size_t n = lt_min_size(PIECE, bytes - i);
        memcpy(to + i, from + i, n);
        madvise(from + i, n, MADV_DONTNEED);
    }
}

/* The copy lies like the map within a large page, so that moving it there keeps large pages whole. */
bool lt_map_settle(lt_buffer *b) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (b->bytes + page - 1) / page * page;
    if (!b->mapped || bytes < 2 * (size_t)LARGE || !has_large_pages()) return false;
    char *room = mmap(NULL, bytes + 2 * (size_t)LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return false;
    const size_t skip = ((uintptr_t)b->data - (uintptr_t)room) % LARGE;
    char *copy = room + skip;
    if (skip) munmap(room, skip);
    munmap(copy + bytes, 2 * (size_t)LARGE - skip);
    madvise(copy, bytes, MADV_HUGEPAGE);
    copy_and_drop(copy, b->data, b->bytes);
    if (mprotect(copy, bytes, PROT_READ) != 0 ||
        mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, b->data) == MAP_FAILED) {
        munmap(copy, bytes);
        return false;
    }
    b->mapped = false;
    return true;
}

/* Reads until the end, so pipes and files that grow work as well. */
static lt_status read_all(char **out, size_t *bytes, int fd, size_t guess, size_t limit, const char *path,
                          lt_err *err) {
    size_t cap = lt_max_size(guess, 4096) + 1, used = 0;
    char *text = lt_malloc(cap);
    lt_status st = LT_OK;
    if (!text) return lt_fail(err, LT_ENOMEM, "cannot hold %zu bytes (%s)", cap, path);
    for (;;) {
        if (used + 1 == cap) {
            char *more = cap <= SIZE_MAX / 2 ? lt_realloc(text, 2 * cap) : NULL;
            if (!more) LT_GO(lt_fail(err, LT_ENOMEM, "cannot hold %zu bytes (%s)", 2 * cap, path));
            text = more;
            cap *= 2;
        }
        const ssize_t n = read(fd, text + used, lt_min_size(cap - 1 - used, (size_t)1 << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) LT_GO(lt_fail(err, LT_EIO, "cannot read (%s: %s)", path, strerror(errno)));
        if (n == 0) break;
        used += (size_t)n;
        if (limit && used > limit) LT_GO(lt_fail(err, LT_EDATA, "more than %zu bytes (%s)", limit, path));
    }
    text[used] = 0;
    *out = text;
    if (bytes) *bytes = used;
done:
    if (st != LT_OK) lt_free(text);
    return st;
}

lt_status lt_file_read(char **out, size_t *bytes, const char *path, size_t limit, lt_err *err) {
    int fd;
    struct stat info;
    LT_TRY(open_for_reading(&fd, &info, path, err));
    const size_t guess = S_ISREG(info.st_mode) ? (size_t)info.st_size : 0;
    lt_status st;
    if (limit && guess > limit)
        st = lt_fail(err, LT_EDATA, "%zu bytes, more than %zu (%s)", guess, limit, path);
    else
        st = read_all(out, bytes, fd, guess + 1, limit, path, err);
    close(fd);
    return st;
}

lt_status lt_file_stat(const char *path, uint64_t *bytes, int64_t *mtime_ns, lt_err *err) {
    struct stat st;
    if (stat(path, &st) != 0) return lt_fail(err, LT_EIO, "cannot look up (%s: %s)", path, strerror(errno));
    if (bytes) *bytes = (uint64_t)st.st_size;
    if (mtime_ns) *mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return LT_OK;
}

bool lt_path_exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool lt_path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *lt_path_join(const char *a, const char *b) {
    const size_t n = strlen(a);
    if (b[0] == '/' || n == 0) return lt_strdup(b);
    return lt_asprintf(a[n - 1] == '/' ? "%s%s" : "%s/%s", a, b);
}

const char *lt_path_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
