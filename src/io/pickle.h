/* SPDX-License-Identifier: Apache-2.0 */
/* io/pickle.h - the tensors of a state dict, read from the pickle that torch.save writes. Nothing is executed: of the
 * pickle machine (Python's pickletools; protocols 2 to 5) only the opcodes are known that build numbers, text, tuples
 * and dicts, and of all globals only those by which torch describes a tensor. Any other opcode or global is
 * LT_EUNSUPPORTED by name; a pickle that breaks off or misuses its stack LT_EDATA.
 *
 *   {"name": torch._utils._rebuild_tensor_v2(persistent_id("storage", torch.FloatStorage, key, device, n), offset,
 * size, stride, requires_grad, hooks), ...} */
#ifndef LT_IO_PICKLE_H
#define LT_IO_PICKLE_H

#include "core/tensor.h"

typedef struct lt_pickle_tensor {
    const char *name; /* NUL-terminated */
    const char *key;  /* of the storage */
    lt_dtype dtype;
    uint64_t storage_count, offset; /* elements */
    int rank;
    size_t size[LT_MAX_RANK], stride[LT_MAX_RANK];
} lt_pickle_tensor;

/* *out [*n] in the order of the dict, and all that it points to, live in a. Every tensor lies within its storage_count;
 * names are unique. where: the file's name, for messages. */
lt_status lt_pickle_tensors(lt_pickle_tensor **out, size_t *n, lt_arena *a, const void *data, size_t bytes,
                            const char *where, lt_err *err);

#endif
