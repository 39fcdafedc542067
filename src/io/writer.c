/* SPDX-License-Identifier: Apache-2.0 */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/sync.h"

enum { BUFFER = 1 << 18 };

struct lt_writer {
    int fd, error;  /* error: errno of the first failed write */
    char *path;     /* the target */
    char *temp;     /* the name beside it; NULL: a device or pipe, written in place */
    size_t offset;  /* bytes taken */
    size_t pending; /* of them in buffer */
    char buffer[BUFFER];
};

static void destroy(lt_writer *w) {
    lt_free(w->path);
    lt_free(w->temp);
    lt_free(w);
}

/* A symbolic link stays and its file is replaced; a link to nothing is taken as a plain name. */
static char *target_of(const char *path) {
    char *real = realpath(path, NULL);
    char *copy = lt_strdup(real ? real : path);
    free(real);
    return copy;
}

/* Exclusive creation under a name that no other writer has. */
static lt_status open_temp(lt_writer *w, lt_err *err) {
    static _Atomic unsigned serial;
    for (int tries = 0; tries < 100; tries++) {
        lt_free(w->temp);
        w->temp = lt_asprintf("%s.%ld-%u.tmp", w->path, (long)getpid(), atomic_fetch_add(&serial, 1));
        if (!w->temp) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", w->path);
        w->fd = open(w->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0 || errno != EEXIST) break;
    }
    return w->fd >= 0 ? LT_OK : lt_fail(err, LT_EIO, "cannot write (%s: %s)", w->path, strerror(errno));
}

static lt_status open_target(lt_writer *w, lt_err *err) {
    struct stat st;
    if (stat(w->path, &st) != 0 || S_ISREG(st.st_mode)) return open_temp(w, err);
    w->fd = open(w->path, O_WRONLY | O_CLOEXEC); /* fails with EISDIR for a folder */
    return w->fd >= 0 ? LT_OK : lt_fail(err, LT_EIO, "cannot write (%s: %s)", w->path, strerror(errno));
}

lt_status lt_writer_create(lt_writer **out, const char *path, lt_err *err) {
    lt_writer *w = lt_malloc(sizeof *w);
    if (!w) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    w->fd = -1, w->error = 0, w->temp = NULL, w->offset = w->pending = 0;
    w->path = target_of(path);
    const lt_status st = w->path ? open_target(w, err) : lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    if (st != LT_OK) {
        destroy(w);
        return st;
    }
    *out = w;
    return LT_OK;
}

static lt_status failed(const lt_writer *w, lt_err *err) {
    return lt_fail(err, LT_EIO, "cannot write (%s: %s)", w->path, strerror(w->error));
}

static void put(lt_writer *w, const char *data, size_t bytes) {
    while (bytes > 0 && !w->error) {
        const ssize_t n = write(w->fd, data, lt_min_size(bytes, (size_t)1 << 30));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            w->error = n < 0 ? errno : ENOSPC;
        } else {
            data += n;
            bytes -= (size_t)n;
        }
    }
}

static void flush(lt_writer *w) {
    put(w, w->buffer, w->pending);
    w->pending = 0;
}

lt_status lt_writer_write(lt_writer *w, const void *data, size_t bytes, lt_err *err) {
    if (w->error) return failed(w, err);
    if (bytes > BUFFER - w->pending) flush(w);
    if (bytes >= BUFFER) {
        put(w, data, bytes);
    } else if (bytes > 0) {
        memcpy(w->buffer + w->pending, data, bytes);
        w->pending += bytes;
    }
    w->offset += bytes;
    return w->error ? failed(w, err) : LT_OK;
}

size_t lt_writer_offset(const lt_writer *w) {
    return w->offset;
}

static lt_status finish(lt_writer *w, bool sync, lt_err *err) {
    sync = sync && w->temp;
    flush(w);
    if (!w->error && sync && fsync(w->fd) != 0) w->error = errno;
    if (close(w->fd) != 0 && !w->error) w->error = errno;
    if (!w->error && w->temp && rename(w->temp, w->path) != 0) w->error = errno;
    lt_status st = LT_OK;
    if (w->error) {
        if (w->temp) unlink(w->temp);
        st = failed(w, err);
    } else if (sync) {
        st = lt_sync_folder_of(w->path, err);
    }
    destroy(w);
    return st;
}

lt_status lt_writer_commit(lt_writer *w, lt_err *err) {
    return finish(w, true, err);
}

void lt_writer_abort(lt_writer *w) {
    if (!w) return;
    close(w->fd);
    if (w->temp) unlink(w->temp);
    destroy(w);
}

lt_status lt_file_write(const char *path, const void *data, size_t bytes, lt_err *err) {
    lt_writer *w;
    LT_TRY(lt_writer_create(&w, path, err));
    lt_writer_write(w, data, bytes, NULL); /* a failure is remembered */
    return lt_writer_commit(w, err);
}

lt_status lt_file_write_soon(const char *path, const void *data, size_t bytes, lt_err *err) {
    lt_writer *w;
    LT_TRY(lt_writer_create(&w, path, err));
    lt_writer_write(w, data, bytes, NULL);
    return finish(w, false, err);
}

lt_status lt_copy_file(const char *from, const char *to, lt_err *err) {
    lt_buffer source;
    LT_TRY(lt_map_open(&source, from, err));
    const lt_status st = lt_file_write(to, source.data, source.bytes, err);
    lt_map_close(&source);
    return st;
}
