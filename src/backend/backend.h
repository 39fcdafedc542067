/* backend/backend.h - where buffers live and who runs the ops.
 *
 * The CPU runs the forward/backward of each op row itself. Another backend brings its own entry points by op name;
 * an op it lacks is LT_EUNSUPPORTED naming op and backend, never a silent copy to the host. */
#ifndef LT_BACKEND_BACKEND_H
#define LT_BACKEND_BACKEND_H

#include "core/tensor.h"

struct lt_exec;
struct lt_node;
typedef struct lt_backend_op {
    const char *name; /* of the op row */
    void (*forward)(struct lt_exec *, const struct lt_node *);
    void (*backward)(struct lt_exec *, const struct lt_node *); /* NULL: inference only */
} lt_backend_op;

typedef struct lt_backend {
    const char *name;
    bool on_host;             /* buffers have host addresses and op rows run as they are */
    const lt_backend_op *ops; /* NULL when on_host */
    size_t n_ops;
    lt_status (*alloc)(lt_buffer *out, size_t bytes, lt_err *err);
    void (*free)(lt_buffer *b); /* NULL data is fine */
} lt_backend;

extern const lt_backend lt_backend_cpu;
const lt_backend *lt_backend_find(const char *name); /* NULL: not in this build */
const lt_backend_op *lt_backend_find_op(const lt_backend *b, const char *op);

#endif
