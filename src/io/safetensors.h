/* io/safetensors.h - reader and writer of the safetensors format.
 *
 *   u64 little-endian header length | JSON header, space padded | tensor bytes
 * Source: github.com/huggingface/safetensors, "Format". Checked before any pointer is taken: header
 * within the file and <= 100 MB, dtypes known, shape product * size == end - begin, offsets inside the file,
 * no overlap and no hole, no duplicate names. Tensors whose bytes do not lie at a multiple of their element
 * size are copied at open, so host addresses are always aligned (our writer: declare wide dtypes first).
 * LT_EIO: the file cannot be mapped. LT_EDATA: not this format. LT_EUNSUPPORTED: dtype or rank without a row. */
#ifndef LT_IO_SAFETENSORS_H
#define LT_IO_SAFETENSORS_H

#include "core/tensor.h"

typedef struct lt_st_entry {
    const char *name;
    lt_tensor tensor;
} lt_st_entry; /* borrowed from the file */
typedef struct lt_safetensors lt_safetensors;

lt_status lt_safetensors_open(lt_safetensors **out, const char *path, lt_err *err);
/* Fuzzing and tests: parses bytes in memory, which must outlive the object. */
lt_status lt_safetensors_from_memory(lt_safetensors **out, const void *data, size_t bytes, const char *name,
                                     lt_err *err);
void lt_safetensors_close(lt_safetensors *st);
size_t lt_safetensors_count(const lt_safetensors *st);
const lt_st_entry *lt_safetensors_at(const lt_safetensors *st, size_t i);         /* sorted by name */
const lt_tensor *lt_safetensors_find(const lt_safetensors *st, const char *name); /* NULL: absent */
/* Finds a tensor that must be there, with that dtype and rank (LT_N_DTYPES / -1: any). */
lt_status lt_safetensors_get(const lt_tensor **out, const lt_safetensors *st, const char *name, lt_dtype t, int rank,
                             lt_err *err);
const char *lt_safetensors_meta(const lt_safetensors *st, const char *key); /* NULL: absent */
const char *lt_safetensors_path(const lt_safetensors *st);

/* Writer: declare every tensor (sizes are known first), then give the bytes in the declared order, in
 * as many pieces as wished. Metadata values are strings. Tensors are laid out in declared order. */
typedef struct lt_st_writer lt_st_writer;
lt_status lt_st_writer_create(lt_st_writer **out, const char *path, lt_err *err);
lt_status lt_st_writer_meta(lt_st_writer *w, const char *key, const char *value, lt_err *err);
lt_status lt_st_writer_declare(lt_st_writer *w, const char *name, lt_dtype t, int rank, const size_t *size,
                               lt_err *err);
lt_status lt_st_writer_begin(lt_st_writer *w, lt_err *err); /* header goes out */
lt_status lt_st_writer_bytes(lt_st_writer *w, const void *data, size_t bytes, lt_err *err);
/* In place (lt_pieces): the same metadata and declarations give the same places in every run; between begin and commit
 * tensors are put in any order, by any thread. The header is written by commit. */
lt_status lt_st_writer_open(lt_st_writer **out, const char *path, lt_err *err);
/* Bytes of a declared tensor, from its byte `at` on. */
lt_status lt_st_writer_put(const lt_st_writer *w, const char *name, size_t at, const void *data, size_t bytes,
                           lt_err *err);
/* A declared tensor's first byte in the file, and how many there are; false: there is no such tensor. */
bool lt_st_writer_place(const lt_st_writer *w, const char *name, size_t *place, size_t *bytes);
/* Another value, as long as the old one. */
lt_status lt_st_writer_amend(lt_st_writer *w, const char *key, const char *value, lt_err *err);
/* LT_EINTERNAL when the bytes given are not those declared. Atomic as lt_writer_commit; frees w. */
lt_status lt_st_writer_commit(lt_st_writer *w, lt_err *err);
void lt_st_writer_abort(lt_st_writer *w);

#endif
