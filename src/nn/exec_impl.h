/* nn/exec_impl.h - inside of the execution context, for exec.c and tape.c, and for what ops keep in it (rope.c,
 * head.c).
 *
 * Values live in one arena in the order in which they are made; a frame is a point to go back to. A handle is alive
 * while its generation is that of its slot. Lifetimes:
 *  1. a value lives until its frame closes (lt_block) or the next lt_exec_begin;
 *  2. attr, saved and gradient of a recorded node live as long as its output;
 *  3. scratch that an op takes in forward or backward is given back when it returns;
 *  4. the memory of a gradient goes to a later one of the same frame once the op that made its value has run back;
 *     in a replay, whose values nobody outside has seen, the value's own memory does too, as soon as no op reads it,
 * and the result of a block that was replayed is given back to the system;
 *  5. rotation tables live until lt_exec_begin. */
#ifndef LT_NN_EXEC_IMPL_H
#define LT_NN_EXEC_IMPL_H

#include "nn/exec.h"

typedef struct lt_exec_value {
    lt_real *data, *grad; /* grad: NULL until first asked for */
    size_t rows, cols;
    uint32_t gen;
    bool needs_grad, fresh; /* fresh: grad is there, and nothing was written to it */
} lt_exec_value;

/* memory of a gradient, or of a value of a replay, that was read for the last time */
typedef struct lt_spare {
    lt_real *data;
    size_t count;
} lt_spare;

typedef struct lt_frame {
    lt_arena_mark mark;
    size_t n_values;
} lt_frame;

struct lt_rope_table;
struct lt_exec {
    lt_team *team;
    const lt_backend *backend;
    lt_mode mode;
    bool recompute;
    const lt_observer *observers;
    size_t n_observers;
    const lt_batch *batch;
    lt_err err; /* sticky: set once, cleared by begin */
    lt_arena *values, *kept;
    lt_exec_value *value; /* slot 0 is no value */
    size_t n_values, cap_values;
    lt_node *tape;
    size_t n_tape, cap_tape;
    bool recording; /* LT_RECORD, and not the first run of a block that will be replayed */
    bool silent;    /* a replay */
    size_t n_outer; /* values that were there before the running replay; their gradients exist already */
    lt_spare *spare;
    size_t n_spare, cap_spare, first_spare; /* first: of the running replay; those before belong to frames outside */
    struct lt_rope_table *ropes;
};

static inline bool lt_exec_failed(const lt_exec *x) {
    return x->err.code != LT_OK;
}
/* NULL for a dead handle; the second form makes that a sticky error. */
lt_exec_value *lt_exec_find(const lt_exec *x, lt_var v);
lt_exec_value *lt_exec_need(lt_exec *x, lt_var v, const char *who);
/* Uninitialised; LT_NO_VAR and a sticky error when out of memory. */
lt_var lt_exec_new(lt_exec *x, size_t rows, size_t cols);
/* v has a gradient from now on, of undefined contents; false after a failure */
bool lt_exec_make_grad(lt_exec *x, lt_exec_value *value, uint32_t slot);
/* *data becomes NULL. */
void lt_exec_spare(lt_exec *x, lt_real **data, size_t count);
void lt_exec_push(lt_exec *x, const lt_node *node);
lt_frame lt_frame_open(const lt_exec *x);
void lt_frame_close(lt_exec *x, lt_frame f);

#endif
