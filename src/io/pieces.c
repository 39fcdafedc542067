/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

struct lt_pieces {
    int fd;
    char *path;
};

static lt_status failed(const lt_pieces *p, int code, lt_err *err) {
    return lt_fail(err, LT_EIO, "cannot write (%s: %s)", p->path, strerror(code));
}

lt_status lt_pieces_open(lt_pieces **out, const char *path, lt_err *err) {
    lt_pieces *p = lt_malloc(sizeof *p);
    char *copy = lt_strdup(path);
    if (!p || !copy) {
        lt_free(p);
        lt_free(copy);
        return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    }
    *p = (lt_pieces){ open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666), copy };
    if (p->fd >= 0) {
        *out = p;
        return LT_OK;
    }
    const lt_status st = failed(p, errno, err);
    lt_pieces_close(p);
    return st;
}

/* What is on its way to the disk by the time of the commit need not be waited for there. */
static void send_off(int fd, size_t offset, size_t bytes) {
#ifdef SYNC_FILE_RANGE_WRITE
    (void)sync_file_range(fd, (off_t)offset, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
#else
    (void)fd, (void)offset, (void)bytes;
#endif
}

lt_status lt_pieces_put(const lt_pieces *p, size_t offset, const void *data, size_t bytes, lt_err *err) {
    const char *from = data;
    for (size_t done = 0; done < bytes;) {
        const size_t n = lt_min_size(bytes - done, (size_t)1 << 30);
        const ssize_t put = pwrite(p->fd, from + done, n, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return failed(p, put < 0 ? errno : ENOSPC, err);
        done += (size_t)put;
    }
    send_off(p->fd, offset, bytes);
    return LT_OK;
}

lt_status lt_pieces_commit(lt_pieces *p, lt_err *err) {
    int code = fsync(p->fd) != 0 ? errno : 0;
    if (close(p->fd) != 0 && !code) code = errno;
    p->fd = -1;
    const lt_status st = code ? failed(p, code, err) : LT_OK;
    lt_pieces_close(p);
    return st;
}

void lt_pieces_close(lt_pieces *p) {
    if (!p) return;
    if (p->fd >= 0) close(p->fd);
    lt_free(p->path);
    lt_free(p);
}
