/* nn/exec.h - the execution context: values, parameters, tape, observers, sticky error.
 *
 * Model code is written once, as mathematics, against an lt_exec. In LT_INFER values live in an arena and are freed
 * at the end of each block; in LT_RECORD every op that a trainable parameter or a wanted gradient depends on is put
 * on a tape and lt_backward() walks it. All values are dense [rows, cols] matrices of lt_real: rows are the packed
 * tokens of the batch. After the first failure every op is a no-op that returns LT_NO_VAR; callers check
 * lt_exec_status() once per block. */
#ifndef LT_NN_EXEC_H
#define LT_NN_EXEC_H

#include "backend/backend.h"
#include "core/tensor.h"
#include "linalg/team.h"
#include "nn/real.h"

/* ---- the batch: packed rows plus pieces; padding never enters ---- */
struct lt_past;
typedef struct lt_piece {
    size_t row, n;  /* rows [row, row + n) of the batch */
    size_t pos0;    /* position of the first row */
    int32_t parent; /* piece whose rows (and ancestors) are this one's past; -1: past[] or nothing */
    uint32_t seq;   /* sequence id, for reports */
} lt_piece;
typedef struct lt_batch {
    size_t n_rows, n_pieces;
    const int32_t *ids;          /* [n_rows] */
    const float *weight;         /* [n_rows] token weights for statistics; NULL: all 1 */
    const lt_piece *piece;       /* in row order, covering all rows; a parent comes before its children */
    struct lt_past *const *past; /* [n_pieces] or NULL; entry NULL: none */
} lt_batch;

/* What attention reads of a session: K and V rows of one (layer, kv head) as a list of segments in position order. */
typedef struct lt_kv_segment {
    size_t n;          /* entries */
    lt_dtype dtype;    /* f32 f16 bf16 q8_0 */
    const void *k, *v; /* row i at k + i*k_stride bytes (after rope) */
    size_t k_stride, v_stride;
    const float *bias;  /* [n] added to the score after scaling and soft-cap; NULL: none */
    const int32_t *pos; /* [n] positions; NULL: pos0 + i */
    size_t pos0;
} lt_kv_segment;
typedef struct lt_past {
    size_t (*n_segments)(const struct lt_past *, int layer, size_t kv_head);
    lt_kv_segment (*segment)(const struct lt_past *, int layer, size_t kv_head, size_t i);
} lt_past; /* first member of a session (model/session.h) */

/* ---- parameters ---- */
typedef struct lt_param {
    const char *name; /* tensor name in the file: "model.layers.3.mlp.up_proj.weight" */
    lt_tensor t;      /* any float dtype; in double builds f64 */
    lt_real *grad;    /* same elements as stored, dense; NULL: frozen. Backward accumulates. */
} lt_param;
static inline bool lt_param_trainable(const lt_param *p) {
    return p && p->grad;
}

/* ---- sites and observers ---- */
typedef enum lt_site {
    LT_SITE_BLOCK_IN,
    LT_SITE_BLOCK_OUT,
    LT_SITE_MIXER_IN,
    LT_SITE_Q_PROJ,
    LT_SITE_K_PROJ,
    LT_SITE_V_PROJ,
    LT_SITE_Q_ACT,
    LT_SITE_K_ACT,
    LT_SITE_V_ACT,
    LT_SITE_Q_PRE_ROPE,
    LT_SITE_K_PRE_ROPE,
    LT_SITE_Q_POST_ROPE,
    LT_SITE_K_POST_ROPE,
    LT_SITE_MIXER_ACT,
    LT_SITE_MIXER_OUT,
    LT_SITE_MLP_IN,
    LT_SITE_MLP_ACT,
    LT_SITE_MLP_OUT,
    LT_SITE_POST_NORM,
    LT_SITE_FINAL_NORM_IN,
    LT_SITE_HEAD_IN,
    LT_SITE_STATE,
    LT_SITE_QKV_PROJ, /* outputs of fused or MLP linears, for gradients; sub of mlp_proj: gate, up, both fused */
    LT_SITE_MLP_PROJ,
    LT_N_SITES
} lt_site;
const char *lt_site_name(lt_site s); /* "mixer_in" */
typedef struct lt_obs {
    lt_site site;
    int layer, sub; /* layer -1: outside the layers; sub: 0, or which of several of a kind */
    bool is_grad, on_device;
    lt_tensor rows; /* [n_rows, cols], lt_real, valid during the call */
    const lt_batch *batch;
} lt_obs;
typedef struct lt_observer {
    bool (*wants)(void *user, lt_site site, int layer, int sub, bool grad);
    lt_status (*observe)(void *user, const lt_obs *obs, lt_err *err); /* an error becomes the exec's sticky error */
    void *user;
    bool may_hold; /* its loops are lt_team_run's: threads may be held (lt_team_hold) while it looks */
} lt_observer;

/* ---- execution ---- */
typedef enum lt_mode { LT_INFER, LT_RECORD } lt_mode;
typedef struct lt_var {
    uint32_t slot, gen;
} lt_var; /* a stale handle is a sticky LT_EINTERNAL, never wrong memory */
#define LT_NO_VAR ((lt_var){ 0, 0 })
static inline bool lt_is_var(lt_var v) {
    return v.slot != 0;
}

typedef struct lt_exec lt_exec;
typedef struct lt_exec_opts {
    const lt_backend *backend; /* NULL: cpu */
    lt_mode mode;
    bool recompute;               /* LT_RECORD: blocks keep their input only and are replayed */
    const lt_observer *observers; /* borrowed */
    size_t n_observers;
} lt_exec_opts;
lt_status lt_exec_create(lt_exec **out, lt_team *team, const lt_exec_opts *opts, lt_err *err);
void lt_exec_destroy(lt_exec *x);
/* Forgets all values and the tape, sets the batch (borrowed until the next begin; NULL: no rows), clears the sticky
 * error. A batch whose pieces do not cover its rows in order, or whose parents do not come first, is a sticky
 * LT_EUSAGE. */
void lt_exec_begin(lt_exec *x, const lt_batch *batch);
const lt_batch *lt_exec_batch(const lt_exec *x);
lt_team *lt_exec_team(const lt_exec *x);
lt_mode lt_exec_mode(const lt_exec *x);
bool lt_exec_observed(const lt_exec *x); /* there are observers */
bool lt_exec_may_hold(const lt_exec *x); /* no observer minds held threads */
bool lt_exec_silent(const lt_exec *x);   /* during a recompute: side effects (sessions) must not happen twice */
lt_status lt_exec_status(const lt_exec *x, lt_err *err); /* copies the sticky error */
void lt_exec_fail(lt_exec *x, lt_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));
size_t lt_exec_peak_bytes(const lt_exec *x);

size_t lt_rows(const lt_exec *x, lt_var v);
size_t lt_cols(const lt_exec *x, lt_var v);
lt_real *lt_data(lt_exec *x, lt_var v); /* NULL after a failure or for a stale handle */
/* Gradient, zeroed at first use; LT_RECORD only. That of an op's result is gone once its backward has run. */
lt_real *lt_grad(lt_exec *x, lt_var v);
/* The same for a backward that can also write: *add is false where nothing has been added yet, and then every entry
 * must be written. */
lt_real *lt_grad_add(lt_exec *x, lt_var v, bool *add);
bool lt_needs_grad(const lt_exec *x, lt_var v);
lt_var lt_input(lt_exec *x, size_t rows, size_t cols, const lt_real *data, bool needs_grad); /* copies */
/* Lives as long as a value made now; taken in an op's forward or backward: until that returns. NULL after a failure. */
void *lt_exec_scratch(lt_exec *x, size_t bytes);

/* ---- ops: one file and one row each ---- */
enum { LT_NODE_IN = 4, LT_NODE_PARAMS = 4 };
typedef struct lt_node {
    const struct lt_op *op;
    lt_var in[LT_NODE_IN], out;
    lt_param *param[LT_NODE_PARAMS];
    const void *attr; /* the op's own struct, copied into the exec */
    void *saved; /* what forward leaves for backward: saved_bytes(node), zeroed; NULL when the node is not recorded */
} lt_node;
typedef struct lt_op {
    const char *name;
    lt_status (*check)(const lt_exec *, const lt_node *, lt_err *); /* shapes and dtypes, before any work */
    void (*forward)(lt_exec *, const lt_node *);
    void (*backward)(lt_exec *, const lt_node *);            /* accumulates into inputs and parameters */
    size_t (*saved_bytes)(const lt_exec *, const lt_node *); /* NULL: none */
    bool reads_result;                                       /* backward reads the values that forward made */
} lt_op;
extern const lt_op *const lt_ops[]; /* NULL-terminated: the table that gradient tests walk */

/* Runs op on node (in, param, attr, filled by the typed wrapper) with an output of [rows, cols]; puts it on the tape
 * when something below needs a gradient. attr_bytes are copied. */
lt_var lt_apply(lt_exec *x, const lt_op *op, lt_node node, size_t attr_bytes, size_t rows, size_t cols);

/* The checkpoint node. fn maps the hidden state to the next one. LT_INFER: everything made inside is freed on return
 * and the result takes the place of `in` (whose handle goes stale) when the shapes agree. LT_RECORD with recompute:
 * only `in` is kept and fn runs again, silently, in backward. arg must stay valid until backward. */
typedef lt_var (*lt_block_fn)(lt_exec *x, lt_var in, const void *arg);
lt_var lt_block(lt_exec *x, lt_block_fn fn, const void *arg, lt_var in);

/* A named value passes; observers may look (forward now; gradients in backward, if wanted: then what follows is
 * recorded even when nothing trains). Tap a value before its consumers, or the gradient shown lacks theirs. */
void lt_tap(lt_exec *x, lt_site site, int layer, int sub, lt_var v);

/* Walks the tape from v, whose gradient is seeded with seed [rows, cols] (NULL: ones). Stops below the lowest node that
 * anything trainable needs. The tape is spent. */
void lt_backward(lt_exec *x, lt_var v, const lt_real *seed);

#endif
