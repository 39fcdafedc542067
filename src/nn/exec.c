/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/exec.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "nn/exec_impl.h"

enum { CHUNK_BYTES = 16 << 20 };

static const char *const site_names[LT_N_SITES] = {
    [LT_SITE_BLOCK_IN] = "block_in",
    [LT_SITE_BLOCK_OUT] = "block_out",
    [LT_SITE_MIXER_IN] = "mixer_in",
    [LT_SITE_Q_PROJ] = "q_proj",
    [LT_SITE_K_PROJ] = "k_proj",
    [LT_SITE_V_PROJ] = "v_proj",
    [LT_SITE_Q_ACT] = "q_act",
    [LT_SITE_K_ACT] = "k_act",
    [LT_SITE_V_ACT] = "v_act",
    [LT_SITE_Q_PRE_ROPE] = "q_pre_rope",
    [LT_SITE_K_PRE_ROPE] = "k_pre_rope",
    [LT_SITE_Q_POST_ROPE] = "q_post_rope",
    [LT_SITE_K_POST_ROPE] = "k_post_rope",
    [LT_SITE_MIXER_ACT] = "mixer_act",
    [LT_SITE_MIXER_OUT] = "mixer_out",
    [LT_SITE_MLP_IN] = "mlp_in",
    [LT_SITE_MLP_ACT] = "mlp_act",
    [LT_SITE_MLP_OUT] = "mlp_out",
    [LT_SITE_POST_NORM] = "post_norm",
    [LT_SITE_FINAL_NORM_IN] = "final_norm_in",
    [LT_SITE_HEAD_IN] = "head_in",
    [LT_SITE_STATE] = "state",
    [LT_SITE_QKV_PROJ] = "qkv_proj",
    [LT_SITE_MLP_PROJ] = "mlp_proj",
};

const char *lt_site_name(lt_site s) {
    return (size_t)s < LT_N_SITES ? site_names[s] : "?";
}

/* ---- life ---- */

lt_status lt_exec_create(lt_exec **out, lt_team *team, const lt_exec_opts *opts, lt_err *err) {
    static const lt_exec_opts defaults = { 0 };
    if (!opts) opts = &defaults;
    LT_REQUIRE(err, team, "exec: no team");
    lt_exec *x = lt_calloc(1, sizeof *x);
    if (!x) return lt_fail(err, LT_ENOMEM, "exec: no memory");
    x->team = team;
    x->backend = opts->backend ? opts->backend : &lt_backend_cpu;
    x->mode = opts->mode;
    x->recompute = opts->recompute;
    x->observers = opts->observers;
    x->n_observers = opts->n_observers;
    x->recording = x->mode == LT_RECORD;
    x->values = lt_arena_create(CHUNK_BYTES);
    x->kept = lt_arena_create(1 << 16);
    x->cap_values = 64;
    x->value = lt_calloc(x->cap_values, sizeof *x->value);
    x->n_values = 1;
    if (!x->values || !x->kept || !x->value) {
        lt_exec_destroy(x);
        return lt_fail(err, LT_ENOMEM, "exec: no memory");
    }
    lt_exec_begin(x, NULL);
    *out = x;
    return LT_OK;
}

void lt_exec_destroy(lt_exec *x) {
    if (!x) return;
    lt_arena_destroy(x->values);
    lt_arena_destroy(x->kept);
    lt_free(x->value);
    lt_free(x->tape);
    lt_free(x->spare);
    lt_free(x);
}

/* What ops rely on: pieces follow one another over all rows, parents come first. */
static lt_status check_batch(const lt_batch *b, lt_err *err) {
    size_t row = 0;
    for (size_t p = 0; p < b->n_pieces; p++) {
        const lt_piece *piece = &b->piece[p];
        LT_REQUIRE(err, piece->row == row && piece->n <= b->n_rows - row,
                   "batch: piece %zu has rows %zu + %zu, expected from %zu of %zu", p, piece->row, piece->n, row,
                   b->n_rows);
        LT_REQUIRE(err, piece->parent >= -1 && (piece->parent < 0 || (size_t)piece->parent < p),
                   "batch: piece %zu has parent %d", p, (int)piece->parent);
        LT_REQUIRE(err, piece->pos0 <= INT32_MAX - piece->n, "batch: piece %zu starts at position %zu", p, piece->pos0);
        row += piece->n;
    }
    LT_REQUIRE(err, row == b->n_rows, "batch: pieces cover %zu of %zu rows", row, b->n_rows);
    return LT_OK;
}

void lt_exec_begin(lt_exec *x, const lt_batch *batch) {
    static const lt_batch empty = { 0 };
    lt_frame_close(x, (lt_frame){ .n_values = 1 });
    lt_arena_release(x->kept, (lt_arena_mark){ 0 });
    x->ropes = NULL;
    x->n_tape = 0;
    x->n_spare = x->first_spare = 0;
    x->err = (lt_err){ 0 };
    x->batch = batch ? batch : &empty;
    check_batch(x->batch, &x->err);
}

const lt_batch *lt_exec_batch(const lt_exec *x) {
    return x->batch;
}
lt_team *lt_exec_team(const lt_exec *x) {
    return x->team;
}
lt_mode lt_exec_mode(const lt_exec *x) {
    return x->mode;
}
bool lt_exec_observed(const lt_exec *x) {
    return x->n_observers > 0;
}
bool lt_exec_may_hold(const lt_exec *x) {
    bool all = true;
    for (size_t i = 0; i < x->n_observers; i++) all = all && x->observers[i].may_hold;
    return all;
}
bool lt_exec_silent(const lt_exec *x) {
    return x->silent;
}
size_t lt_exec_peak_bytes(const lt_exec *x) {
    return lt_arena_peak_bytes(x->values) + lt_arena_peak_bytes(x->kept);
}

/* ---- sticky error ---- */

lt_status lt_exec_status(const lt_exec *x, lt_err *err) {
    return lt_exec_failed(x) ? lt_fail(err, x->err.code, "%s", x->err.message) : LT_OK;
}

void lt_exec_fail(lt_exec *x, lt_status code, const char *format, ...) {
    char text[sizeof x->err.message];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    lt_fail(&x->err, code, "%s", text);
}

/* ---- values ---- */

lt_exec_value *lt_exec_find(const lt_exec *x, lt_var v) {
    const bool alive = v.slot > 0 && v.slot < x->n_values && x->value[v.slot].gen == v.gen;
    return alive ? &x->value[v.slot] : NULL;
}

lt_exec_value *lt_exec_need(lt_exec *x, lt_var v, const char *who) {
    if (lt_exec_failed(x)) return NULL;
    lt_exec_value *value = lt_exec_find(x, v);
    if (!value) lt_exec_fail(x, LT_EINTERNAL, "%s: stale value (slot %u, generation %u)", who, v.slot, v.gen);
    return value;
}

static bool grow_values(lt_exec *x) {
    if (x->n_values < x->cap_values) return true;
    lt_exec_value *more = lt_realloc(x->value, 2 * x->cap_values * sizeof *more);
    if (!more) return false;
    memset(more + x->cap_values, 0, x->cap_values * sizeof *more);
    x->value = more;
    x->cap_values *= 2;
    return true;
}

lt_var lt_exec_new(lt_exec *x, size_t rows, size_t cols) {
    size_t count;
    lt_real *data = NULL;
    if (lt_mul_size(rows, cols, &count) && grow_values(x)) data = lt_arena_array(x->values, count, sizeof *data);
    if (!data) {
        lt_exec_fail(x, LT_ENOMEM, "exec: a value of %zu x %zu", rows, cols);
        return LT_NO_VAR;
    }
    const size_t slot = x->n_values++;
    const uint32_t gen = x->value[slot].gen;
    x->value[slot] = (lt_exec_value){ .data = data, .rows = rows, .cols = cols, .gen = gen };
    return (lt_var){ (uint32_t)slot, gen };
}

lt_frame lt_frame_open(const lt_exec *x) {
    return (lt_frame){ lt_arena_get_mark(x->values), x->n_values };
}

void lt_frame_close(lt_exec *x, lt_frame f) {
    for (size_t i = f.n_values; i < x->n_values; i++) x->value[i].gen++;
    x->n_values = f.n_values;
    lt_arena_release(x->values, f.mark);
}

size_t lt_rows(const lt_exec *x, lt_var v) {
    const lt_exec_value *value = lt_exec_find(x, v);
    return value ? value->rows : 0;
}

size_t lt_cols(const lt_exec *x, lt_var v) {
    const lt_exec_value *value = lt_exec_find(x, v);
    return value ? value->cols : 0;
}

lt_real *lt_data(lt_exec *x, lt_var v) {
    lt_exec_value *value = lt_exec_need(x, v, "data");
    return value ? value->data : NULL;
}

/* A spare of the right size, or new memory. */
static lt_real *grad_memory(lt_exec *x, size_t count) {
    for (size_t i = x->n_spare; i-- > x->first_spare;)
        if (x->spare[i].count == count) {
            lt_real *data = x->spare[i].data;
            x->spare[i] = x->spare[--x->n_spare];
            return data;
        }
    return lt_arena_array(x->values, count, sizeof(lt_real));
}

bool lt_exec_make_grad(lt_exec *x, lt_exec_value *value, uint32_t slot) {
    if (value->grad) return true;
    if (x->mode != LT_RECORD || slot < x->n_outer) {
        lt_exec_fail(x, LT_EINTERNAL, "gradient of slot %u: %s", slot,
                     x->mode == LT_RECORD ? "not an input of the block" : "nothing is recorded");
        return false;
    }
    value->grad = grad_memory(x, value->rows * value->cols);
    value->fresh = true;
    if (!value->grad) lt_exec_fail(x, LT_ENOMEM, "exec: a gradient of %zu x %zu", value->rows, value->cols);
    return value->grad;
}

/* Without memory for the list it is only not used again. */
void lt_exec_spare(lt_exec *x, lt_real **data, size_t count) {
    if (x->n_spare == x->cap_spare) {
        const size_t cap = x->cap_spare ? 2 * x->cap_spare : 16;
        lt_spare *more = lt_realloc(x->spare, cap * sizeof *more);
        if (more) {
            x->spare = more;
            x->cap_spare = cap;
        }
    }
    if (x->n_spare < x->cap_spare) x->spare[x->n_spare++] = (lt_spare){ *data, count };
    *data = NULL;
}

lt_real *lt_grad_add(lt_exec *x, lt_var v, bool *add) {
    lt_exec_value *value = lt_exec_need(x, v, "gradient");
    if (!value || !lt_exec_make_grad(x, value, v.slot)) return NULL;
    *add = !value->fresh;
    value->fresh = false;
    return value->grad;
}

lt_real *lt_grad(lt_exec *x, lt_var v) {
    bool add;
    lt_real *grad = lt_grad_add(x, v, &add);
    if (grad && !add) memset(grad, 0, lt_rows(x, v) * lt_cols(x, v) * sizeof *grad);
    return grad;
}

bool lt_needs_grad(const lt_exec *x, lt_var v) {
    const lt_exec_value *value = lt_exec_find(x, v);
    return value && value->needs_grad;
}

lt_var lt_input(lt_exec *x, size_t rows, size_t cols, const lt_real *data, bool needs_grad) {
    if (lt_exec_failed(x)) return LT_NO_VAR;
    const lt_var v = lt_exec_new(x, rows, cols);
    if (!lt_is_var(v)) return v;
    if (rows > 0 && cols > 0) memcpy(x->value[v.slot].data, data, rows * cols * sizeof *data);
    x->value[v.slot].needs_grad = needs_grad && x->mode == LT_RECORD;
    return v;
}

void *lt_exec_scratch(lt_exec *x, size_t bytes) {
    if (lt_exec_failed(x)) return NULL;
    void *p = lt_arena_alloc(x->values, bytes);
    if (!p) lt_exec_fail(x, LT_ENOMEM, "exec: %zu bytes of scratch", bytes);
    return p;
}

/* ---- ops ---- */

static bool needs_recording(const lt_exec *x, const lt_node *node) {
    if (x->mode != LT_RECORD) return false;
    for (int i = 0; i < LT_NODE_IN; i++)
        if (lt_needs_grad(x, node->in[i])) return true;
    for (int i = 0; i < LT_NODE_PARAMS; i++)
        if (lt_param_trainable(node->param[i])) return true;
    return false;
}

static bool inputs_alive(lt_exec *x, const lt_node *node) {
    for (int i = 0; i < LT_NODE_IN; i++)
        if (lt_is_var(node->in[i]) && !lt_exec_need(x, node->in[i], node->op->name)) return false;
    return true;
}

/* attr and saved of a node that goes on the tape move into the exec */
static bool keep_node(lt_exec *x, lt_node *node, size_t attr_bytes) {
    const size_t saved_bytes = node->op->saved_bytes ? node->op->saved_bytes(x, node) : 0;
    if (attr_bytes > 0) {
        void *attr = lt_exec_scratch(x, attr_bytes);
        if (!attr) return false;
        memcpy(attr, node->attr, attr_bytes);
        node->attr = attr;
    }
    if (saved_bytes > 0) {
        node->saved = lt_exec_scratch(x, saved_bytes);
        if (!node->saved) return false;
        memset(node->saved, 0, saved_bytes);
    }
    return true;
}

void lt_exec_push(lt_exec *x, const lt_node *node) {
    if (x->n_tape == x->cap_tape) {
        const size_t cap = x->cap_tape ? 2 * x->cap_tape : 64;
        lt_node *more = lt_realloc(x->tape, cap * sizeof *more);
        if (!more) {
            lt_exec_fail(x, LT_ENOMEM, "exec: a tape of %zu nodes", cap);
            return;
        }
        x->tape = more;
        x->cap_tape = cap;
    }
    x->tape[x->n_tape++] = *node;
}

static void run_forward(lt_exec *x, const lt_node *node) {
    const lt_backend_op *own = x->backend->on_host ? NULL : lt_backend_find_op(x->backend, node->op->name);
    const lt_arena_mark mark = lt_arena_get_mark(x->values);
    if (x->backend->on_host)
        node->op->forward(x, node);
    else if (own)
        own->forward(x, node);
    else
        lt_exec_fail(x, LT_EUNSUPPORTED, "%s: backend %s has no such op", node->op->name, x->backend->name);
    lt_arena_release(x->values, mark);
}

lt_var lt_apply(lt_exec *x, const lt_op *op, lt_node node, size_t attr_bytes, size_t rows, size_t cols) {
    node.op = op;
    if (lt_exec_failed(x) || !inputs_alive(x, &node)) return LT_NO_VAR;
    const lt_status st = op->check ? op->check(x, &node, &x->err) : LT_OK;
    if (st != LT_OK) {
        lt_exec_fail(x, st, "%s: refused", op->name); /* keeps the message of the check */
        return LT_NO_VAR;
    }
    node.out = lt_exec_new(x, rows, cols);
    if (!lt_is_var(node.out)) return LT_NO_VAR;
    const bool needs_grad = needs_recording(x, &node), record = needs_grad && x->recording;
    x->value[node.out.slot].needs_grad = needs_grad;
    if (record && !keep_node(x, &node, attr_bytes)) return LT_NO_VAR;
    run_forward(x, &node);
    if (record && !lt_exec_failed(x)) lt_exec_push(x, &node);
    return lt_exec_failed(x) ? LT_NO_VAR : node.out;
}
