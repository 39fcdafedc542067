/* io/file.h - files that are whole or not there: read-only maps, atomic writes, folders, locks.
 *
 * Every output goes to a name beside the target, is flushed to disk, and is renamed over it. */
#ifndef LT_IO_FILE_H
#define LT_IO_FILE_H

#include "core/core.h"
#include "core/tensor.h"

/* Read-only map of a whole regular file; close with lt_map_close. LT_EIO names path and errno. */
lt_status lt_map_open(lt_buffer *out, const char *path, lt_err *err);
void lt_map_close(lt_buffer *b);
/* Memory that can go to the disk: a writable map of a file in folder that has no name. Its room is taken at once (a
 * full disk is LT_EIO now, not a signal later); pages that are dropped come back. Close with lt_map_close. */
lt_status lt_map_spill(lt_buffer *out, size_t bytes, const char *folder, lt_err *err);
/* The map's bytes go to memory in large pages, at the same address; false: it stays as it is (no large pages, no
 * room). Nobody may read it meanwhile. */
bool lt_map_settle(lt_buffer *b);
/* Whole file into lt_malloc'ed memory, NUL-terminated; *bytes without the NUL. limit 0: none. */
lt_status lt_file_read(char **out, size_t *bytes, const char *path, size_t limit, lt_err *err);

/* Streaming writer with atomic finish. Any failed write (full disk) is remembered; commit reports it
 * with the path and errno, and removes the temporary file. */
typedef struct lt_writer lt_writer;
lt_status lt_writer_create(lt_writer **out, const char *path, lt_err *err);
lt_status lt_writer_write(lt_writer *w, const void *data, size_t bytes, lt_err *err);
size_t lt_writer_offset(const lt_writer *w);
lt_status lt_writer_commit(lt_writer *w, lt_err *err); /* fsync, rename, fsync folder; frees w either way */
void lt_writer_abort(lt_writer *w);                    /* NULL is fine */
lt_status lt_file_write(const char *path, const void *data, size_t bytes, lt_err *err); /* atomic */
/* The same without waiting for the disk: whole or not there after a kill, but after a power cut perhaps damaged. For
 * what is checked when it is read, and made again. */
lt_status lt_file_write_soon(const char *path, const void *data, size_t bytes, lt_err *err);

/* A file that is filled in any order, over several runs, under its own name (which a temporary folder should hold):
 * what of it is there already is its owner's business. */
typedef struct lt_pieces lt_pieces;
lt_status lt_pieces_open(lt_pieces **out, const char *path, lt_err *err); /* made where it is missing */
lt_status lt_pieces_put(const lt_pieces *p, size_t offset, const void *data, size_t bytes,
                        lt_err *err);                  /* any thread */
lt_status lt_pieces_commit(lt_pieces *p, lt_err *err); /* to the disk; frees p either way */
void lt_pieces_close(lt_pieces *p);                    /* leaves it as it is; NULL is fine */

bool lt_path_exists(const char *path);
bool lt_path_is_dir(const char *path);
char *lt_path_join(const char *a, const char *b); /* lt_free */
const char *lt_path_name(const char *path);       /* after the last '/' */
char *lt_path_folder(const char *path);           /* before it: "/" and "." where there is nothing; lt_free */
/* Where temporary files go: ctx->scratch, else beside output (in the nearest folder that is there), and TMPDIR or /tmp
 * where there is none. ctx and output may be NULL; lt_free. */
char *lt_spill_folder(const lt_ctx *ctx, const char *output);
lt_status lt_make_dirs(const char *path, lt_err *err);
lt_status lt_remove_tree(const char *path, lt_err *err);                        /* missing is fine */
lt_status lt_rename(const char *from, const char *to, lt_err *err);             /* and fsync of the folder */
lt_status lt_copy_file(const char *from, const char *to, lt_err *err);          /* byte for byte, atomic */
lt_status lt_list_dir(char ***names, size_t *n, const char *path, lt_err *err); /* sorted; lt_free each and the list */
/* size and mtime in ns: the key under which hashes are cached */
lt_status lt_file_stat(const char *path, uint64_t *bytes, int64_t *mtime_ns, lt_err *err);
/* Exclusive advisory lock on the folder path, made where it is missing, until release; LT_EIO "in use by another
 * process". It leaves nothing behind, and ends with its process. (File systems that cannot lock folders: on PATH.lock.)
 * A folder that was removed and made again is another one. */
lt_status lt_lock_acquire(int *fd, const char *path, lt_err *err);
void lt_lock_release(int fd);

#endif
