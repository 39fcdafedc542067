/* SPDX-License-Identifier: Apache-2.0 */
/* io/torch.h - tensors of a file that torch.save wrote (pytorch_model.bin): a ZIP of stored entries, one of them a
 * pickle that says how the others are tensors. Read without executing anything (io/pickle.h).
 *
 *   NAME/data.pkl | NAME/byteorder ("little", may lack) | NAME/data/KEY: the bytes of a storage
 * Source: torch.serialization, caffe2/serialize/inline_container.h. Tensors are views on the map, with their strides;
 * names may share bytes. Copied at open are only those whose last dimension is not dense or whose bytes are not aligned
 * to their elements. LT_EUNSUPPORTED: the formats before torch 1.6 (a bare pickle, a tar), big-endian files, what the
 * pickle reader refuses. */
#ifndef LT_IO_TORCH_H
#define LT_IO_TORCH_H

#include "core/tensor.h"

typedef struct lt_torch_entry {
    const char *name;
    lt_tensor tensor;
} lt_torch_entry;
typedef struct lt_torch lt_torch;

lt_status lt_torch_open(lt_torch **out, const char *path, lt_err *err);
/* Fuzzing and tests: parses bytes in memory, which must outlive the object. */
lt_status lt_torch_from_memory(lt_torch **out, const void *data, size_t bytes, const char *name, lt_err *err);
void lt_torch_close(lt_torch *t);
size_t lt_torch_count(const lt_torch *t);
const lt_torch_entry *lt_torch_at(const lt_torch *t, size_t i); /* in the order of the dict */
const char *lt_torch_path(const lt_torch *t);

#endif
