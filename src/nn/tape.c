/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks, taps and the walk back. A block that is replayed is one node: its first run records nothing, its backward
 * runs the function again on a stretch of tape of its own and walks that, so the sums are made in the order of a tape
 * that was kept. */
#include "nn/exec.h"

#include <string.h>

#include "nn/exec_impl.h"
#include "nn/op.h"

typedef struct block_attr {
    lt_block_fn fn;
    const void *arg;
} block_attr;
typedef struct tap_attr {
    lt_site site;
    int layer, sub;
} tap_attr;

static void walk(lt_exec *x, size_t base);

/* ---- blocks ---- */

static void block_backward(lt_exec *x, const lt_node *node) {
    const block_attr *block = node->attr;
    const lt_frame frame = lt_frame_open(x);
    const size_t base = x->n_tape, n_outer = x->n_outer, first_spare = x->first_spare;
    const bool silent = x->silent;
    lt_real *seed = lt_grad(x, node->out);
    x->silent = true;
    x->n_outer = x->n_values;
    x->first_spare = x->n_spare;
    const lt_var out = block->fn(x, node->in[0], block->arg);
    x->silent = silent;
    lt_exec_value *value = lt_exec_need(x, out, "block");
    if (value) {
        value->grad = seed;
        walk(x, base);
    }
    x->n_tape = base;
    x->n_outer = n_outer;
    x->n_spare = x->first_spare;
    x->first_spare = first_spare;
    lt_frame_close(x, frame);
}

static const lt_op op_block = { .name = "block", .backward = block_backward };

/* Closes the frame but keeps v, which was made in it, as a new value before it. */
static lt_var carry_out(lt_exec *x, lt_frame frame, lt_var v) {
    const lt_exec_value value = x->value[v.slot];
    const size_t bytes = value.rows * value.cols * sizeof *value.data;
    void *tmp = lt_malloc(bytes);
    if (tmp) memcpy(tmp, value.data, bytes);
    lt_frame_close(x, frame);
    if (!tmp) {
        lt_exec_fail(x, LT_ENOMEM, "block: %zu bytes", bytes);
        return LT_NO_VAR;
    }
    const lt_var out = lt_exec_new(x, value.rows, value.cols);
    if (lt_is_var(out)) memcpy(x->value[out.slot].data, tmp, bytes);
    lt_free(tmp);
    return out;
}

static bool same_shape(const lt_exec_value *a, const lt_exec_value *b) {
    return a->rows == b->rows && a->cols == b->cols;
}

static lt_var infer_block(lt_exec *x, lt_block_fn fn, const void *arg, lt_var in) {
    const lt_frame frame = lt_frame_open(x);
    const lt_var out = fn(x, in, arg);
    lt_exec_value *to = &x->value[in.slot];
    const lt_exec_value *from = lt_exec_need(x, out, "block");
    if (!from || out.slot < frame.n_values) {
        lt_frame_close(x, frame);
        return from ? out : LT_NO_VAR;
    }
    if (!same_shape(from, to)) return carry_out(x, frame, out);
    lt_op_copy(x->team, to->data, from->data, to->rows * to->cols);
    lt_frame_close(x, frame);
    to->gen++;
    return (lt_var){ in.slot, to->gen };
}

/* The place of the result is taken before the frame opens, for the common case that it has the shape of `in`. */
static lt_var checkpoint_run(lt_exec *x, lt_block_fn fn, const void *arg, lt_var in) {
    const lt_frame outside = lt_frame_open(x);
    const lt_var out = lt_exec_new(x, lt_rows(x, in), lt_cols(x, in));
    const lt_frame frame = lt_frame_open(x);
    const lt_var inner = fn(x, in, arg);
    const lt_exec_value *from = lt_exec_need(x, inner, "block");
    if (!from || inner.slot < frame.n_values) { /* failed, or nothing was done to `in` */
        lt_frame_close(x, outside);
        return from ? inner : LT_NO_VAR;
    }
    const bool needs_grad = from->needs_grad;
    lt_exec_value *to = &x->value[out.slot];
    if (!same_shape(from, to)) {
        const lt_var carried = carry_out(x, frame, inner);
        if (lt_is_var(carried)) x->value[carried.slot].needs_grad = needs_grad;
        return carried;
    }
    lt_op_copy(x->team, to->data, from->data, to->rows * to->cols);
    to->needs_grad = needs_grad;
    lt_frame_close(x, frame);
    return out;
}

static lt_var checkpoint_block(lt_exec *x, lt_block_fn fn, const void *arg, lt_var in) {
    const bool recording = x->recording;
    x->recording = false;
    const lt_var out = checkpoint_run(x, fn, arg, in);
    x->recording = recording;
    if (!recording || !lt_needs_grad(x, out) || out.slot == in.slot) return out;
    block_attr *attr = lt_exec_scratch(x, sizeof *attr);
    if (!attr) return LT_NO_VAR;
    *attr = (block_attr){ fn, arg };
    lt_exec_push(x, &(lt_node){ .op = &op_block, .in = { in }, .out = out, .attr = attr });
    return lt_exec_failed(x) ? LT_NO_VAR : out;
}

lt_var lt_block(lt_exec *x, lt_block_fn fn, const void *arg, lt_var in) {
    if (!lt_exec_need(x, in, "block")) return LT_NO_VAR;
    if (x->mode == LT_INFER) return infer_block(x, fn, arg, in);
    return x->recompute ? checkpoint_block(x, fn, arg, in) : fn(x, in, arg);
}

/* ---- taps ---- */

static bool anyone_wants(const lt_exec *x, const tap_attr *tap, bool grad) {
    for (size_t i = 0; i < x->n_observers; i++)
        if (x->observers[i].wants(x->observers[i].user, tap->site, tap->layer, tap->sub, grad)) return true;
    return false;
}

static void show(lt_exec *x, const tap_attr *tap, bool is_grad, lt_real *rows, size_t n_rows, size_t cols) {
    lt_buffer buffer = { .data = rows, .bytes = n_rows * cols * sizeof *rows };
    const lt_obs obs = { .site = tap->site,
                         .layer = tap->layer,
                         .sub = tap->sub,
                         .is_grad = is_grad,
                         .batch = x->batch,
                         .on_device = !x->backend->on_host,
                         .rows = lt_tensor_dense(LT_REAL_DTYPE, 2, (size_t[]){ n_rows, cols }, &buffer, 0) };
    for (size_t i = 0; i < x->n_observers && !lt_exec_failed(x); i++) {
        const lt_observer *o = &x->observers[i];
        if (!o->wants(o->user, tap->site, tap->layer, tap->sub, is_grad)) continue;
        const lt_status st = o->observe(o->user, &obs, &x->err);
        if (st != LT_OK) lt_exec_fail(x, st, "observer of %s, layer %d", lt_site_name(tap->site), tap->layer);
    }
}

static void tap_backward(lt_exec *x, const lt_node *node) {
    const lt_exec_value *value = &x->value[node->out.slot];
    show(x, node->attr, true, value->grad, value->rows, value->cols);
}

static const lt_op op_tap = { .name = "tap", .backward = tap_backward };

void lt_tap(lt_exec *x, lt_site site, int layer, int sub, lt_var v) {
    lt_exec_value *value = lt_exec_need(x, v, lt_site_name(site));
    if (!value) return;
    const tap_attr tap = { site, layer, sub };
    if (!x->silent) show(x, &tap, false, value->data, value->rows, value->cols);
    if (x->mode != LT_RECORD || lt_exec_failed(x) || !anyone_wants(x, &tap, true)) return;
    value->needs_grad = true; /* a wanted gradient: what follows is recorded even when nothing trains */
    if (!x->recording) return;
    tap_attr *attr = lt_exec_scratch(x, sizeof *attr);
    if (!attr) return;
    *attr = tap;
    lt_exec_push(x, &(lt_node){ .op = &op_tap, .in = { v }, .out = v, .attr = attr });
}

/* ---- the walk back ---- */

static void run_backward(lt_exec *x, const lt_node *node) {
    void (*backward)(lt_exec *, const lt_node *) = node->op->backward;
    if (!x->backend->on_host && node->op != &op_block && node->op != &op_tap) {
        const lt_backend_op *own = lt_backend_find_op(x->backend, node->op->name);
        backward = own ? own->backward : NULL;
    }
    if (!backward) {
        lt_exec_fail(x, LT_EUNSUPPORTED, "%s: backend %s has no backward", node->op->name, x->backend->name);
        return;
    }
    const lt_arena_mark mark = lt_arena_get_mark(x->values);
    backward(x, node);
    lt_arena_release(x->values, mark);
}

/* Ops behind this one have run back: is its result's own value of use to anybody still? */
static void spare_value(lt_exec *x, const lt_node *node) {
    lt_exec_value *value = &x->value[node->out.slot];
    const size_t count = value->rows * value->cols;
    if (x->n_outer > 0 && !node->op->reads_result && node->out.slot >= x->n_outer)
        lt_exec_spare(x, &value->data, count);
}

/* The same after it has run back, and the gradient that it has read. */
static void spare_result(lt_exec *x, const lt_node *node) {
    lt_exec_value *value = &x->value[node->out.slot];
    const size_t count = value->rows * value->cols;
    lt_exec_spare(x, &value->grad, count);
    if (node->op != &op_block || !value->data) return;
    lt_zero_pages(value->data, count * sizeof *value->data);
    value->data = NULL;
}

/* Nodes after base, last first. Gradients of inputs are made here, so that they outlive the scratch of the op. */
static void walk(lt_exec *x, size_t base) {
    while (x->n_tape > base && !lt_exec_failed(x)) {
        const lt_node node = x->tape[--x->n_tape];
        if (!x->value[node.out.slot].grad && node.op != &op_tap) continue; /* nothing came from above */
        if (node.op != &op_tap) spare_value(x, &node);
        for (int i = 0; i < LT_NODE_IN; i++)
            if (lt_needs_grad(x, node.in[i])) lt_exec_make_grad(x, &x->value[node.in[i].slot], node.in[i].slot);
        if (!lt_exec_failed(x)) run_backward(x, &node);
        if (node.op != &op_tap) spare_result(x, &node);
    }
}

void lt_backward(lt_exec *x, lt_var v, const lt_real *seed) {
    const lt_exec_value *value = lt_exec_need(x, v, "backward");
    if (!value) return;
    if (x->mode != LT_RECORD) {
        lt_exec_fail(x, LT_EUSAGE, "backward: nothing is recorded");
        return;
    }
    lt_real *grad = value->needs_grad ? lt_grad(x, v) : NULL;
    if (grad)
        for (size_t i = 0; i < value->rows * value->cols; i++) grad[i] += seed ? seed[i] : (lt_real)1;
    walk(x, 0);
    x->n_tape = 0;
}
