/* io/gguf.h - GGUF v2/v3 reader: metadata, tensor directory, mapped data. Source: ggml/docs/gguf.md.
 *
 *   "GGUF" | u32 version | u64 n_tensors | u64 n_kv | kv... | tensor infos... | padding | data
 * Little-endian. Sizes in a tensor info are innermost first; here they are given outermost first.
 * All counts are checked against the bytes left before anything is allocated. Names and keys are UTF-8 without
 * control bytes, unique; tensors have rank <= 4, whole blocks, aligned offsets, and share no byte.
 * LT_EUNSUPPORTED: version 1, big-endian, ggml types without a dtype row, arrays of arrays; else LT_EDATA. */
#ifndef LT_IO_GGUF_H
#define LT_IO_GGUF_H

#include "core/tensor.h"

typedef enum lt_gguf_type {
    LT_GGUF_U8,
    LT_GGUF_I8,
    LT_GGUF_U16,
    LT_GGUF_I16,
    LT_GGUF_U32,
    LT_GGUF_I32,
    LT_GGUF_F32,
    LT_GGUF_BOOL,
    LT_GGUF_STRING,
    LT_GGUF_ARRAY,
    LT_GGUF_U64,
    LT_GGUF_I64,
    LT_GGUF_F64
} lt_gguf_type;
typedef struct lt_gguf lt_gguf;
typedef struct lt_gguf_entry {
    const char *name;
    lt_tensor tensor;
} lt_gguf_entry;

lt_status lt_gguf_open(lt_gguf **out, const char *path, lt_err *err);
lt_status lt_gguf_from_memory(lt_gguf **out, const void *data, size_t bytes, const char *name, lt_err *err);
void lt_gguf_close(lt_gguf *g);
const char *lt_gguf_path(const lt_gguf *g);
size_t lt_gguf_count(const lt_gguf *g);
const lt_gguf_entry *
lt_gguf_at(const lt_gguf *g,
           size_t i); /* file order; unsupported ggml types are an error at open that names tensor and type */
const lt_tensor *lt_gguf_find(const lt_gguf *g, const char *name);

/* Metadata. find: NULL / false when absent or of another kind (integers convert between widths). */
size_t lt_gguf_n_keys(const lt_gguf *g);
const char *lt_gguf_key(const lt_gguf *g, size_t i);
bool lt_gguf_has(const lt_gguf *g, const char *key);
bool lt_gguf_u64(const lt_gguf *g, const char *key, uint64_t *out);
bool lt_gguf_f64(const lt_gguf *g, const char *key, double *out);
bool lt_gguf_bool(const lt_gguf *g, const char *key, bool *out);
/* bytes may hold NUL; the pointer is NUL-terminated and borrowed */
const char *lt_gguf_string(const lt_gguf *g, const char *key, size_t *bytes);
bool lt_gguf_array(const lt_gguf *g, const char *key, lt_gguf_type *type, size_t *n);
const char *lt_gguf_array_string(const lt_gguf *g, const char *key, size_t i, size_t *bytes);
bool lt_gguf_array_f64(const lt_gguf *g, const char *key, size_t i, double *out);
bool lt_gguf_array_i64(const lt_gguf *g, const char *key, size_t i, int64_t *out);
/* The bytes of key i as they stand in the file, for numbers; NULL for strings. *type: of its value or its elements. */
const void *lt_gguf_numbers(const lt_gguf *g, size_t i, lt_gguf_type *type, size_t *bytes);
/* one value as short text for `inspect` (arrays: count and first entries) */
const char *lt_gguf_value_text(const lt_gguf *g, size_t i, char *buf, size_t cap);

#endif
