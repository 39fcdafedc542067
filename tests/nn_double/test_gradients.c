/* SPDX-License-Identifier: Apache-2.0 */
/* Backward of every row of lt_ops[] against differences in double.
 *
 * L = sum seed ∘ op(inputs, parameters). Along a random direction u of one input or parameter,
 *   (8 (L(h) - L(-h)) - (L(2h) - L(-2h))) / 12h  =  <dL, u> + O(h⁴),  h = 1e-3.
 * Bound 1e-8 (1 + |dL|): h⁴ is 1e-12 times fifth derivatives that reach some thousands (a soft-cap, a sharp softmax),
 * rounding is 1e-16 |L| / h. relu's corner is kept out of reach by lifting its inputs off zero by 0.05. */
#include "nn/exec_impl.h"
#include "nn/fixture.h"

enum { MAX_IN = 3, MAX_PARAMS = 12 };

typedef struct gcase gcase;
typedef struct subject {
    fixture f;
    const gcase *c;
    size_t n_in;
    struct {
        size_t rows, cols;
        lt_real *data;
    } in[MAX_IN];
    size_t n_params;
    lt_param *param[MAX_PARAMS];
    lt_norm_params norm;
    lt_param table;
    lt_linear linear;
    int32_t *target;
    struct {
        lt_linear head;
        lt_real *in;
        int32_t *ids;
        lt_real *logp, *tail;
    } teacher;
    const lt_real *seed;
    bool inputs_need; /* gradients of the inputs are asked for */
} subject;

struct gcase {
    const char *op, *what;
    void (*make)(subject *);
    lt_var (*run)(subject *, const lt_var *in);
    const size_t *lengths;
    union {
        struct {
            lt_norm_kind kind;
            size_t d, group;
        } norm;
        lt_act act;
        struct {
            size_t heads, dim, n_freq;
            bool interleaved;
        } rope;
        lt_attn_params attn;
        struct {
            size_t in, out, rank;
            double scale, cap;
        } lin;
        struct {
            size_t in, out, rank;
            double scale;
            lt_kd_params p;
        } kd; /* begins as lin */
    } as;
};

static void need_input(subject *s, size_t rows, size_t cols, double scale) {
    s->in[s->n_in].rows = rows;
    s->in[s->n_in].cols = cols;
    s->in[s->n_in++].data = fix_normal(&s->f, rows * cols, scale);
}

static void need_param(subject *s, lt_param *p) {
    if (p->name && p->grad) s->param[s->n_params++] = p;
}

/* ---- the ops ---- */

static void make_embed(subject *s) {
    s->table = fix_param(&s->f, "table", 5, 7, 1, true); /* few rows: ids come again */
    fix_ids(&s->f, 5);
    need_param(s, &s->table);
}
static lt_var run_embed(subject *s, const lt_var *in) {
    (void)in;
    return lt_embed(s->f.x, &s->table, 1.5);
}

static void make_positions(subject *s) {
    s->table = fix_param(&s->f, "table", 9, 70, 1, true);
    for (size_t i = 0; i < s->f.batch.n_pieces; i++) s->f.piece[i].pos0 = i; /* positions come again */
    need_input(s, s->f.batch.n_rows, 70, 1);
    need_param(s, &s->table);
}
static lt_var run_positions(subject *s, const lt_var *in) {
    return lt_add_positions(s->f.x, in[0], &s->table, 2);
}

static void make_norm(subject *s) {
    const size_t width = s->c->as.norm.group ? s->c->as.norm.group : s->c->as.norm.d;
    need_input(s, s->f.batch.n_rows, s->c->as.norm.d, 1);
    s->norm = (lt_norm_params){ .kind = s->c->as.norm.kind,
                                .eps = 1e-2,
                                .w = fix_param(&s->f, "norm.weight", 0, width, 1, true) };
    if (s->norm.kind == LT_NORM_LAYER) s->norm.b = fix_param(&s->f, "norm.bias", 0, width, 1, true);
    need_param(s, &s->norm.w);
    need_param(s, &s->norm.b);
}
static lt_var run_norm(subject *s, const lt_var *in) {
    return lt_norm(s->f.x, in[0], &s->norm, s->c->as.norm.group);
}

static void make_two(subject *s) {
    need_input(s, s->f.batch.n_rows, 9, 1);
    need_input(s, s->f.batch.n_rows, 9, 1);
}
static lt_var run_add(subject *s, const lt_var *in) {
    return lt_add(s->f.x, in[0], in[1]);
}
static lt_var run_add_self(subject *s, const lt_var *in) {
    return lt_add(s->f.x, in[0], in[0]);
}

static void make_act(subject *s) {
    need_input(s, s->f.batch.n_rows, 130, 1.5);
    if (strcmp(s->c->op, "gated") == 0) need_input(s, s->f.batch.n_rows, 130, 1);
    for (size_t i = 0; s->c->as.act == LT_ACT_RELU && i < s->in[0].rows * s->in[0].cols; i++)
        s->in[0].data[i] += s->in[0].data[i] > 0 ? 0.05 : -0.05;
}
static lt_var run_gated(subject *s, const lt_var *in) {
    return lt_gated(s->f.x, in[0], in[1], s->c->as.act);
}
static lt_var run_activate(subject *s, const lt_var *in) {
    return lt_activate(s->f.x, in[0], s->c->as.act);
}

static void make_rope(subject *s) {
    need_input(s, s->f.batch.n_rows, s->c->as.rope.heads * s->c->as.rope.dim, 1);
}
static lt_var run_rope(subject *s, const lt_var *in) {
    static const double inv_freq[] = { 1, 0.3, 0.07 };
    const lt_rope_table *t = lt_rope_prepare(s->f.x, inv_freq, s->c->as.rope.n_freq, 1.25);
    return lt_rope(s->f.x, in[0], t, s->c->as.rope.heads, s->c->as.rope.dim, s->c->as.rope.interleaved);
}

static void make_attention(subject *s) {
    const lt_attn_params *p = &s->c->as.attn;
    need_input(s, s->f.batch.n_rows, p->n_q_heads * p->qk_dim, 1);
    need_input(s, s->f.batch.n_rows, p->n_kv_heads * p->qk_dim, 1);
    need_input(s, s->f.batch.n_rows, p->n_kv_heads * p->v_dim, 1);
}
static lt_var run_attention(subject *s, const lt_var *in) {
    return lt_attention(s->f.x, in[0], in[1], in[2], &s->c->as.attn);
}

static void make_linear(subject *s) {
    need_input(s, s->f.batch.n_rows, s->c->as.lin.in, 1);
    s->linear = fix_linear(&s->f, s->c->what, s->c->as.lin.in, s->c->as.lin.out, s->c->as.lin.rank);
    s->linear.softcap = s->c->as.lin.cap;
    for (int i = 0; i < s->linear.n_stages; i++) {
        lt_stage *stage = &s->linear.stage[i];
        need_param(s, &stage->w);
        for (size_t k = 0; k < stage->n_adapters; k++) {
            need_param(s, &stage->adapters[k].a);
            need_param(s, &stage->adapters[k].b);
        }
    }
    need_param(s, &s->linear.bias);
}
static lt_var run_linear(subject *s, const lt_var *in) {
    return lt_linear_fwd(s->f.x, in[0], &s->linear);
}
static lt_var run_logits(subject *s, const lt_var *in) {
    return lt_logits(s->f.x, in[0], &s->linear, s->c->as.lin.scale);
}

static void make_head(subject *s) {
    make_linear(s);
    s->target = fix_zeros(&s->f, s->f.batch.n_rows, sizeof *s->target);
    for (size_t i = 0; i < s->f.batch.n_rows; i++) s->target[i] = (int32_t)lt_rng_below(&s->f.rng, s->c->as.lin.out);
    if (s->f.batch.n_rows > 1) s->target[1] = -1;
    s->target[0] = (int32_t)s->c->as.lin.out - 1;
}
static lt_var run_head(subject *s, const lt_var *in) {
    return lt_head_nll(s->f.x, in[0], &s->linear, s->c->as.lin.scale, s->target, NULL);
}

enum { TEACHER_WIDTH = 4, TOP = 3 };

/* Three ids of each row: the last of the vocabulary, the target's neighbour, one at random. */
static void make_topk(subject *s, size_t n, size_t vocab) {
    s->teacher.ids = fix_zeros(&s->f, n * TOP, sizeof *s->teacher.ids);
    s->teacher.logp = fix_normal(&s->f, n * TOP, 0.3);
    s->teacher.tail = fix_zeros(&s->f, n, sizeof *s->teacher.tail);
    for (size_t i = 0; i < n; i++) {
        double left = 1;
        for (size_t k = 0; k < TOP; k++) {
            s->teacher.ids[i * TOP + k] = (int32_t)(k == 0 ? vocab - 1 : (i * 37 + k * 2) % (vocab - 1));
            s->teacher.logp[i * TOP + k] -= 2;
            left -= exp(s->teacher.logp[i * TOP + k]);
        }
        s->teacher.tail[i] = log(left);
    }
}

static void make_kd(subject *s) {
    make_head(s);
    const size_t n = s->f.batch.n_rows, vocab = s->c->as.kd.out;
    s->teacher.head = fix_linear(&s->f, "b f", TEACHER_WIDTH, vocab, 0);
    s->teacher.in = fix_normal(&s->f, n * TEACHER_WIDTH, 1);
    make_topk(s, n, vocab);
}
static lt_var run_kd(subject *s, const lt_var *in) {
    const lt_kd_teacher t = { lt_input(s->f.x, s->f.batch.n_rows, TEACHER_WIDTH, s->teacher.in, false),
                              &s->teacher.head, 0.8 };
    return lt_head_kd(s->f.x, in[0], &s->linear, s->c->as.kd.scale, &t, s->target, &s->c->as.kd.p);
}
static lt_var run_kd_topk(subject *s, const lt_var *in) {
    const lt_kd_topk t = { TOP, s->teacher.ids, s->teacher.logp, s->teacher.tail };
    return lt_head_kd_topk(s->f.x, in[0], &s->linear, s->c->as.kd.scale, &t, s->target, &s->c->as.kd.p);
}

static void make_one(subject *s) {
    need_input(s, s->f.batch.n_rows, 9, 1);
}
static lt_var run_take_rows(subject *s, const lt_var *in) {
    static const size_t index[] = { 2, 0, 2, 4, 2 };
    return lt_take_rows(s->f.x, in[0], index, LT_COUNTOF(index));
}
static lt_var run_take_cols(subject *s, const lt_var *in) {
    return lt_take_cols(s->f.x, in[0], 2, 5);
}

static lt_var run_take_part(subject *s, const lt_var *in) {
    static const lt_layout_part parts[] = { { "q", 3 }, { "k", 3 }, { "v", 3 } };
    static const lt_layout layout = { parts, 3, 3, NULL };
    return lt_take_part(s->f.x, in[0], &layout, 1);
}

#define ATTN(hq, hk, dk, dv, cap, win) .attn = { 0, hq, hk, dk, dv, 0.7, cap, win }
static const size_t one[] = { 1, SIZE_MAX }, some[] = { 4, 1, 0, 3, SIZE_MAX }, longer[] = { 70, 1, 131, SIZE_MAX },
                    blocks[] = { 600, 3, SIZE_MAX }, chunks[] = { 2100, SIZE_MAX }, tokens[] = { 1030, SIZE_MAX };
static const gcase cases[] = {
    { "embed", "", make_embed, run_embed, some, { { 0 } } },
    { "norm", "rms", make_norm, run_norm, some, { .norm = { LT_NORM_RMS, 9, 0 } } },
    { "norm", "rms by heads", make_norm, run_norm, some, { .norm = { LT_NORM_RMS, 12, 4 } } },
    { "norm", "rms plus 1", make_norm, run_norm, some, { .norm = { LT_NORM_RMS_PLUS1, 130, 0 } } },
    { "norm", "layer", make_norm, run_norm, some, { .norm = { LT_NORM_LAYER, 11, 0 } } },
    { "norm", "layer, one row", make_norm, run_norm, one, { .norm = { LT_NORM_LAYER, 70, 0 } } },
    { "norm", "layer by heads", make_norm, run_norm, longer, { .norm = { LT_NORM_LAYER, 10, 5 } } },
    { "add", "", make_two, run_add, some, { { 0 } } },
    { "add", "to itself", make_one, run_add_self, some, { { 0 } } },
    { "gated", "silu", make_act, run_gated, some, { .act = LT_ACT_SILU } },
    { "gated", "gelu", make_act, run_gated, some, { .act = LT_ACT_GELU } },
    { "gated", "gelu_tanh", make_act, run_gated, one, { .act = LT_ACT_GELU_TANH } },
    { "gated", "relu", make_act, run_gated, some, { .act = LT_ACT_RELU } },
    { "activate", "silu", make_act, run_activate, some, { .act = LT_ACT_SILU } },
    { "activate", "gelu", make_act, run_activate, some, { .act = LT_ACT_GELU } },
    { "activate", "gelu_tanh", make_act, run_activate, some, { .act = LT_ACT_GELU_TANH } },
    { "activate", "relu", make_act, run_activate, some, { .act = LT_ACT_RELU } },
    { "rope", "half", make_rope, run_rope, some, { .rope = { 2, 6, 3, false } } },
    { "rope", "half, partial", make_rope, run_rope, some, { .rope = { 3, 7, 2, false } } },
    { "rope", "interleaved", make_rope, run_rope, one, { .rope = { 2, 6, 3, true } } },
    { "rope", "interleaved, partial", make_rope, run_rope, some, { .rope = { 1, 8, 3, true } } },
    { "attention", "one row", make_attention, run_attention, one, { ATTN(2, 1, 3, 2, 0, 0) } },
    { "attention", "pieces", make_attention, run_attention, some, { ATTN(2, 2, 3, 3, 0, 0) } },
    { "attention", "groups of 3", make_attention, run_attention, longer, { ATTN(6, 2, 4, 3, 0, 0) } },
    { "attention", "window", make_attention, run_attention, longer, { ATTN(2, 1, 3, 3, 0, 5) } },
    { "attention", "soft-cap", make_attention, run_attention, longer, { ATTN(2, 1, 3, 3, 2.0, 0) } },
    { "attention", "two blocks of keys", make_attention, run_attention, blocks, { ATTN(2, 1, 3, 2, 0, 0) } },
    { "attention", "blocks, window, soft-cap", make_attention, run_attention, blocks, { ATTN(2, 2, 3, 2, 3.0, 530) } },
    { "attention", "four chunks", make_attention, run_attention, chunks, { ATTN(1, 1, 2, 2, 0, 0) } },
    { "linear", "b", make_linear, run_linear, some, { .lin = { 7, 5, 0, 1, 0 } } },
    { "linear", "t b", make_linear, run_linear, some, { .lin = { 7, 5, 0, 1, 0 } } },
    { "linear", "2 b", make_linear, run_linear, some, { .lin = { 7, 6, 3, 1, 0 } } },
    { "linear", "2 t", make_linear, run_linear, one, { .lin = { 7, 6, 3, 1, 0 } } },
    { "linear", "2 a b", make_linear, run_linear, some, { .lin = { 7, 6, 3, 1, 0 } } },
    { "linear", "a d", make_linear, run_linear, longer, { .lin = { 7, 6, 0, 1, 0 } } },
    { "linear", "2 a d f", make_linear, run_linear, some, { .lin = { 7, 6, 3, 1, 0 } } },
    { "linear", "a f", make_linear, run_linear, longer, { .lin = { 7, 6, 0, 1, 0 } } },
    { "linear", "2 a f t", make_linear, run_linear, longer, { .lin = { 7, 6, 3, 1, 0 } } },
    { "take_rows", "", make_one, run_take_rows, some, { { 0 } } },
    { "take_cols", "", make_one, run_take_cols, some, { { 0 } } },
    { "take_cols", "by group", make_one, run_take_part, some, { { 0 } } },
    { "positions", "", make_positions, run_positions, some, { { 0 } } },
    { "logits", "b", make_linear, run_logits, some, { .lin = { 7, 5, 0, 0.3, 0 } } },
    { "logits", "b lim", make_linear, run_logits, some, { .lin = { 7, 5, 0, 0.3, 1.5 } } },
    { "logits", "2 a", make_linear, run_logits, some, { .lin = { 7, 5, 2, 1, 0 } } },
    { "head_nll", "b", make_head, run_head, some, { .lin = { 7, 11, 0, 0.5, 0 } } },
    { "head_nll", "b lim", make_head, run_head, some, { .lin = { 7, 11, 0, 0.5, 1.5 } } },
    { "head_nll", "2 lim", make_head, run_head, some, { .lin = { 5, 2085, 3, 0.7, 2.0 } } },
    { "head_nll", "one row", make_head, run_head, one, { .lin = { 3, 2049, 0, 1, 0 } } },
    { "head_nll", "t b a", make_head, run_head, some, { .lin = { 4, 2085, 0, 1, 0 } } },
    { "head_nll", "2 a b", make_head, run_head, some, { .lin = { 5, 4101, 3, 0.7, 0 } } },
    { "head_nll", "a f", make_head, run_head, some, { .lin = { 4, 2085, 0, 1, 0 } } },
    { "head_nll", "many tokens 2", make_head, run_head, tokens, { .lin = { 3, 6, 2, 1, 0 } } },
    { "head_kd", "b", make_kd, run_kd, some, { .kd = { 5, 9, 0, 0.5, { LT_KD_FORWARD, 1, false, 0, 0 } } } },
    { "head_kd", "2 a", make_kd, run_kd, some, { .kd = { 5, 2085, 3, 1, { LT_KD_FORWARD, 2, true, 0, 0.3 } } } },
    { "head_kd",
      "reverse b",
      make_kd,
      run_kd,
      some,
      { .kd = { 5, 2085, 0, 1, { LT_KD_REVERSE, 1.5, false, 0, 0.25 } } } },
    { "head_kd", "jsd b", make_kd, run_kd, some, { .kd = { 5, 2085, 0, 1, { LT_KD_JSD, 2, false, 0.25, 0 } } } },
    { "head_kd",
      "many tokens 2",
      make_kd,
      run_kd,
      tokens,
      { .kd = { 3, 6, 2, 1, { LT_KD_JSD, 1, false, 0.5, 0.5 } } } },
    { "head_kd_topk",
      "trunc b",
      make_kd,
      run_kd_topk,
      some,
      { .kd = { 5, 9, 0, 0.5, { LT_KD_TRUNC, 2, true, 0, 0 } } } },
    { "head_kd_topk",
      "renorm 2 a",
      make_kd,
      run_kd_topk,
      some,
      { .kd = { 5, 2085, 3, 1, { LT_KD_RENORM, 0.7, false, 0, 0 } } } },
    { "head_kd_topk",
      "tail b",
      make_kd,
      run_kd_topk,
      some,
      { .kd = { 5, 2085, 0, 1, { LT_KD_TAIL, 1, false, 0, 0.4 } } } },
    { "head_kd_topk",
      "reverse b",
      make_kd,
      run_kd_topk,
      some,
      { .kd = { 5, 2085, 0, 1, { LT_KD_REVERSE_BUCKET, 1, false, 0, 0 } } } },
    { "head_kd_topk",
      "many tokens 2",
      make_kd,
      run_kd_topk,
      tokens,
      { .kd = { 3, 6, 2, 1, { LT_KD_TAIL, 1, false, 0, 0 } } } },
};

/* ---- the check ---- */

static double dot(const lt_real *a, const lt_real *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static lt_var run(subject *s, lt_var *in) {
    lt_err err = { 0 };
    lt_exec_begin(s->f.x, &s->f.batch);
    for (size_t i = 0; i < s->n_in; i++)
        in[i] = lt_input(s->f.x, s->in[i].rows, s->in[i].cols, s->in[i].data, s->inputs_need);
    const lt_var out = s->c->run(s, in);
    assert_ok(lt_exec_status(s->f.x, &err), &err);
    return out;
}

static double loss(subject *s) {
    lt_var in[MAX_IN];
    const lt_var out = run(s, in);
    return dot(lt_data(s->f.x, out), s->seed, lt_rows(s->f.x, out) * lt_cols(s->f.x, out));
}

static double loss_at(subject *s, lt_real *v, const lt_real *v0, const lt_real *u, double h, size_t n) {
    for (size_t i = 0; i < n; i++) v[i] = v0[i] + h * u[i];
    const double l = loss(s);
    memcpy(v, v0, n * sizeof *v);
    return l;
}

static void check_direction(subject *s, const char *name, lt_real *v, const lt_real *grad, size_t n) {
    if (n == 0) return;
    const double h = 1e-3;
    lt_real *u = fix_normal(&s->f, n, 1.0 / sqrt((double)n)), *v0 = fix_zeros(&s->f, n, sizeof *v0);
    memcpy(v0, v, n * sizeof *v);
    const double far = loss_at(s, v, v0, u, 2 * h, n) - loss_at(s, v, v0, u, -2 * h, n);
    const double near = loss_at(s, v, v0, u, h, n) - loss_at(s, v, v0, u, -h, n);
    const double want = (8 * near - far) / (12 * h), got = dot(grad, u, n),
                 bound = 1e-8 * (1 + sqrt(dot(grad, grad, n)));
    if (!(fabs(got - want) <= bound))
        fail_msg("%s (%s), %s: %.12g by the op, %.12g by differences, gap %.2g > %.2g", s->c->op, s->c->what, name, got,
                 want, fabs(got - want), bound);
}

/* gradients of a backward: inputs' first, then what was added to the parameters' */
typedef struct gradients {
    lt_real *g[MAX_IN + MAX_PARAMS];
} gradients;

static size_t count_of(const subject *s, size_t i) {
    return i < s->n_in ? s->in[i].rows * s->in[i].cols : lt_tensor_count(&s->param[i - s->n_in]->t);
}

static gradients backward(subject *s) {
    gradients g = { 0 };
    lt_var in[MAX_IN];
    lt_err err = { 0 };
    for (size_t i = 0; i < s->n_params; i++)
        if (s->param[i]->grad) memset(s->param[i]->grad, 0, count_of(s, s->n_in + i) * sizeof(lt_real));
    const lt_var out = run(s, in);
    assert_int_equal(s->f.x->n_tape, 1);
    assert_string_equal(s->f.x->tape[0].op->name, s->c->op);
    lt_backward(s->f.x, out, s->seed);
    assert_ok(lt_exec_status(s->f.x, &err), &err);
    for (size_t i = 0; i < s->n_in + s->n_params; i++) {
        const lt_real *from =
            i < s->n_in ? (s->inputs_need ? lt_grad(s->f.x, in[i]) : NULL) : s->param[i - s->n_in]->grad;
        if (!from) continue;
        g.g[i] = fix_zeros(&s->f, count_of(s, i), sizeof(lt_real));
        memcpy(g.g[i], from, count_of(s, i) * sizeof(lt_real));
    }
    return g;
}

static void subject_open(subject *s, const gcase *c, size_t index) {
    memset(s, 0, sizeof *s);
    fix_open(&s->f, 2, (lt_exec_opts){ .mode = LT_RECORD }, (uint32_t)index);
    fix_batch(&s->f, c->lengths);
    s->c = c;
    s->inputs_need = true;
    c->make(s);
    lt_var in[MAX_IN];
    const lt_var out = run(s, in);
    s->seed = fix_normal(&s->f, lt_rows(s->f.x, out) * lt_cols(s->f.x, out), 1);
}

static void gradients_agree_with_differences(void **state) {
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        subject s;
        subject_open(&s, &cases[i], i);
        const gradients g = backward(&s);
        for (size_t k = 0; k < s.n_in; k++) check_direction(&s, "input", s.in[k].data, g.g[k], count_of(&s, k));
        for (size_t k = 0; k < s.n_params; k++)
            check_direction(&s, s.param[k]->name, fix_values(s.param[k]), g.g[s.n_in + k], count_of(&s, s.n_in + k));
        fix_close(&s.f);
    }
}

static void every_op_has_a_case(void **state) {
    (void)state;
    for (size_t i = 0; lt_ops[i]; i++) {
        bool found = false;
        for (size_t k = 0; k < LT_COUNTOF(cases); k++) found |= strcmp(cases[k].op, lt_ops[i]->name) == 0;
        if (!found) fail_msg("op %s has no gradient case", lt_ops[i]->name);
    }
}

static void assert_same(const subject *s, const gradients *a, const gradients *b, size_t i) {
    if (!a->g[i] || !b->g[i]) return;
    if (memcmp(a->g[i], b->g[i], count_of(s, i) * sizeof(lt_real)) != 0)
        fail_msg("%s (%s): gradient %zu differs", s->c->op, s->c->what, i);
}

/* What is asked for does not change what the rest receives; frozen parameters leave the tape shorter, or empty. */
static void gradients_do_not_depend_on_what_else_is_wanted(void **state) {
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        subject s;
        subject_open(&s, &cases[i], i);
        const gradients all = backward(&s);
        if (s.n_in > 0 && s.n_params > 0) {
            s.inputs_need = false;
            const gradients params_only = backward(&s);
            for (size_t k = 0; k < s.n_params; k++) assert_same(&s, &all, &params_only, s.n_in + k);
            s.inputs_need = true;
            for (size_t k = 0; k < s.n_params; k++) s.param[k]->grad = NULL;
            const gradients inputs_only = backward(&s);
            for (size_t k = 0; k < s.n_in; k++) assert_same(&s, &all, &inputs_only, k);
        }
        for (size_t k = 0; k < s.n_params; k++) s.param[k]->grad = NULL;
        s.inputs_need = false;
        lt_var in[MAX_IN];
        run(&s, in);
        assert_int_equal(s.f.x->n_tape, 0);
        fix_close(&s.f);
    }
}

/* Backward adds: twice over the same parameters is twice the gradient. */
static void gradients_accumulate(void **state) {
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        subject s;
        subject_open(&s, &cases[i], i);
        const gradients once = backward(&s);
        lt_var in[MAX_IN];
        const lt_var out = run(&s, in);
        for (size_t k = 0; k < s.n_in; k++) memcpy(lt_grad(s.f.x, in[k]), once.g[k], count_of(&s, k) * sizeof(lt_real));
        lt_backward(s.f.x, out, s.seed);
        for (size_t k = 0; k < s.n_in + s.n_params; k++) {
            const lt_real *got = k < s.n_in ? lt_grad(s.f.x, in[k]) : s.param[k - s.n_in]->grad;
            for (size_t j = 0; j < count_of(&s, k); j++)
                if (fabs(got[j] - 2 * once.g[k][j]) > 1e-12 * (1 + fabs(got[j])))
                    fail_msg("%s (%s): %g after two, %g after one", s.c->op, s.c->what, got[j], once.g[k][j]);
        }
        fix_close(&s.f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_has_a_case),
        cmocka_unit_test(gradients_agree_with_differences),
        cmocka_unit_test(gradients_do_not_depend_on_what_else_is_wanted),
        cmocka_unit_test(gradients_accumulate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
