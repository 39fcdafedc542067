/* io/gguf_writer.h - GGUF v3, streamed: keys, tensors by name and size, then their data in the order declared; the
 * file is whole or not there (io/file.h). Source: ggml/docs/gguf.md; alignment is its default of 32.
 *
 * put and declare remember the first failure (out of memory, a key or tensor given twice, an array of another length
 * than announced) and do nothing after it: the caller checks once, at begin. */
#ifndef LT_IO_GGUF_WRITER_H
#define LT_IO_GGUF_WRITER_H

#include "io/gguf.h"

typedef struct lt_gguf_writer lt_gguf_writer;
lt_status lt_gguf_writer_create(lt_gguf_writer **out, const char *path, lt_err *err);

bool lt_gguf_writer_has(const lt_gguf_writer *w, const char *key);
void lt_gguf_put_u32(lt_gguf_writer *w, const char *key, uint32_t v);
void lt_gguf_put_f32(lt_gguf_writer *w, const char *key, float v);
void lt_gguf_put_bool(lt_gguf_writer *w, const char *key, bool v);
void lt_gguf_put_string(lt_gguf_writer *w, const char *key, const char *s, size_t bytes);
void lt_gguf_put_text(lt_gguf_writer *w, const char *key, const char *s);
/* An array and then its n elements, one add each, of the type announced. */
void lt_gguf_put_array(lt_gguf_writer *w, const char *key, lt_gguf_type type, size_t n);
void lt_gguf_add_string(lt_gguf_writer *w, const char *s, size_t bytes);
void lt_gguf_add_f32(lt_gguf_writer *w, float v);
void lt_gguf_add_i32(lt_gguf_writer *w, int32_t v);
/* Key i of g, as it stands there. */
void lt_gguf_put_copy(lt_gguf_writer *w, const lt_gguf *g, size_t i);

/* size outermost first, rank 1..4, whole blocks */
void lt_gguf_declare(lt_gguf_writer *w, const char *name, lt_dtype t, int rank, const size_t *size);
lt_status lt_gguf_writer_begin(lt_gguf_writer *w, lt_err *err);
/* The next bytes of the data; the padding between tensors is added here. */
lt_status lt_gguf_writer_bytes(lt_gguf_writer *w, const void *data, size_t bytes, lt_err *err);
lt_status lt_gguf_writer_commit(lt_gguf_writer *w, lt_err *err); /* frees w either way */
void lt_gguf_writer_abort(lt_gguf_writer *w);                    /* NULL is fine */

#endif
