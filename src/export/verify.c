/* SPDX-License-Identifier: Apache-2.0 */
/* Every stored number against its source, then the logits of a fixed batch: the first says which tensor is wrong, the
 * second that config and names mean the same to the loader. */
#include "export/export.h"

#include <math.h>
#include <string.h>

#include "linalg/gemm.h"

enum { PROBE_LONG = 24, PROBE_SHORT = 8, PROBE_ROWS = PROBE_LONG + PROBE_SHORT, BLOCK = 128 };

/* ---- tensors ---- */
static lt_status differs(lt_err *err, const char *name, size_t row, const char *what) {
    return lt_fail(err, LT_EVERIFY, "%s (%s: row %zu)", what, name, row);
}

static lt_status same_shape(const lt_param *a, const lt_param *b, lt_err *err) {
    char sa[128], sb[128];
    if (lt_tensor_rows(&a->t) == lt_tensor_rows(&b->t) && lt_tensor_cols(&a->t) == lt_tensor_cols(&b->t)) return LT_OK;
    return lt_fail(err, LT_EVERIFY, "shape is %s, its source has %s (%s)", lt_tensor_describe(&b->t, sb, sizeof sb),
                   lt_tensor_describe(&a->t, sa, sizeof sa), b->name);
}

static size_t row_bytes(const lt_tensor *t) {
    const lt_dtype_row *d = lt_dtype_get(t->dtype);
    return lt_tensor_cols(t) / d->block * d->bytes;
}

/* Same dtype: same bytes. Another: the source's value rounded once. */
lt_status lt_verify_values(const lt_param *a, const lt_param *b, lt_err *err) {
    LT_TRY(same_shape(a, b, err));
    const size_t rows = lt_tensor_rows(&a->t), cols = lt_tensor_cols(&a->t), bytes = row_bytes(&b->t);
    const lt_dtype_row *to = lt_dtype_get(b->t.dtype);
    const bool copied = a->t.dtype == b->t.dtype;
    if (!copied && !to->from_f32)
        return lt_fail(err, LT_EVERIFY, "stored as %s, which is never written (%s)", to->name, b->name);
    float *wide = copied ? NULL : lt_malloc(lt_max_size(cols, 1) * sizeof *wide);
    char *want = copied ? NULL : lt_malloc(lt_max_size(bytes, 1));
    lt_status st = copied || (wide && want) ? LT_OK : lt_fail(err, LT_ENOMEM, "verify: out of memory (%s)", b->name);
    for (size_t r = 0; r < rows && st == LT_OK; r++) {
        const void *expect = lt_tensor_row(&a->t, r);
        if (!copied) {
            lt_tensor_row_f32(wide, &a->t, r, 0, cols);
            to->from_f32(want, wide, cols);
            expect = want;
        }
        if (memcmp(expect, lt_tensor_row(&b->t, r), bytes) != 0)
            st = differs(err, b->name, r, "values are not those of the source");
    }
    lt_free(wide);
    lt_free(want);
    lt_tensor_drop(&a->t);
    lt_tensor_drop(&b->t);
    return st;
}

/* Rows of one are columns of the other (Conv1D from a container that turned it around). */
static lt_status same_turned(const lt_param *a, const lt_param *b, lt_err *err) {
    const size_t rows = lt_tensor_rows(&b->t), cols = lt_tensor_cols(&b->t), bytes = row_bytes(&b->t);
    const lt_dtype_row *to = lt_dtype_get(b->t.dtype);
    if (lt_tensor_rows(&a->t) != cols || lt_tensor_cols(&a->t) != rows || !to->from_f32)
        return lt_fail(err, LT_EVERIFY, "shape or dtype is not that of the source, turned (%s)", b->name);
    float *all = lt_calloc(rows * cols, sizeof *all), *row = lt_calloc(cols, sizeof *row);
    void *want = lt_malloc(lt_max_size(bytes, 1));
    lt_status st = all && row && want ? LT_OK : lt_fail(err, LT_ENOMEM, "verify: out of memory (%s)", b->name);
    for (size_t c = 0; st == LT_OK && c < cols; c++) lt_tensor_row_f32(all + c * rows, &a->t, c, 0, rows);
    for (size_t r = 0; st == LT_OK && r < rows; r++) {
        for (size_t c = 0; c < cols; c++) row[c] = all[c * rows + r];
        to->from_f32(want, row, cols);
        if (memcmp(want, lt_tensor_row(&b->t, r), bytes) != 0)
            st = differs(err, b->name, r, "values are not those of the source");
    }
    lt_free(all);
    lt_free(row);
    lt_free(want);
    return st;
}

static void widen_f64(double *out, const lt_tensor *t, float *buf) {
    const size_t rows = lt_tensor_rows(t), cols = lt_tensor_cols(t);
    for (size_t r = 0; r < rows; r++) {
        lt_tensor_row_f32(buf, t, r, 0, cols);
        for (size_t c = 0; c < cols; c++) out[r * cols + c] = (double)buf[c];
    }
}

/* A product A·B against what was written: got [m, d], or [d, m] when flipped (Conv1D). */
typedef struct product {
    size_t m, d, r;
    double *a, *b, *w; /* [m, r], [r, d], [BLOCK, d] */
    float *got, *buf, *back;
    void *stored;
    bool flip;
} product;

/* n numbers nearest to w that the dtype can hold, by way of f32 as the writer goes; n whole blocks. */
static void round_row(const product *p, const lt_dtype_row *d, const double *w, size_t n) {
    for (size_t i = 0; i < n; i++) p->buf[i] = (float)w[i];
    d->from_f32(p->stored, p->buf, n);
    d->to_f32(p->back, p->stored, n);
}

static void product_clear(product *p) {
    lt_free(p->a);
    lt_free(p->b);
    lt_free(p->w);
    lt_free(p->got);
    lt_free(p->buf);
    lt_free(p->back);
    lt_free(p->stored);
}

static lt_status product_init(product *p, const lt_linear *a, const lt_linear *b, lt_err *err) {
    const lt_tensor *got = &b->stage[0].w.t;
    const size_t cols = lt_tensor_cols(got);
    *p = (product){ .m = lt_linear_out(a), .d = lt_linear_in(a), .r = lt_linear_rank(a), .flip = b->stage[0].in_out };
    p->a = lt_calloc(p->m * p->r, sizeof *p->a);
    p->b = lt_calloc(p->r * p->d, sizeof *p->b);
    p->w = lt_calloc(BLOCK * p->d, sizeof *p->w);
    p->got = lt_calloc(p->m * p->d, sizeof *p->got);
    p->buf = lt_calloc(lt_max_size(p->d, p->r), sizeof *p->buf);
    p->back = lt_calloc(p->d, sizeof *p->back);
    p->stored = lt_calloc(p->d, sizeof(double));
    if (!p->a || !p->b || !p->w || !p->got || !p->buf || !p->back || !p->stored)
        return lt_fail(err, LT_ENOMEM, "verify: out of memory (%s)", b->name);
    widen_f64(p->a, &a->stage[1].w.t, p->buf);
    widen_f64(p->b, &a->stage[0].w.t, p->buf);
    for (size_t i = 0; i < lt_tensor_rows(got); i++) lt_tensor_row_f32(p->got + i * cols, got, i, 0, cols);
    return LT_OK;
}

/* Rows [i0, i0 + n). Sums in another order may move a value to the next number. */
static lt_status same_product_rows(const product *p, const lt_param *b, size_t i0, size_t n, lt_err *err) {
    const lt_dtype_row *to = lt_dtype_get(b->t.dtype);
    double scale = 0.0;
    for (size_t i = 0; i < n * p->d; i++) scale = fmax(scale, fabs(p->w[i]));
    for (size_t r = 0; r < n; r++) {
        const double *w = p->w + r * p->d;
        round_row(p, to, w, p->d);
        for (size_t col = 0; col < p->d; col++) {
            const double have = (double)(p->flip ? p->got[col * p->m + i0 + r] : p->got[(i0 + r) * p->d + col]);
            if (!(fabs(have - w[col]) <= fabs((double)p->back[col] - w[col]) + 1e-6 * scale))
                return differs(err, b->name, i0 + r, "values are not the product of the factors");
        }
    }
    return LT_OK;
}

static lt_status same_product(const lt_linear *a, const lt_linear *b, lt_team *team, lt_err *err) {
    const lt_param *got = &b->stage[0].w;
    const lt_dtype_row *to = lt_dtype_get(got->t.dtype);
    product p;
    if (lt_linear_out(b) != lt_linear_out(a) || lt_linear_in(b) != lt_linear_in(a) || !to->from_f32)
        return lt_fail(err, LT_EVERIFY, "shape or dtype is not that of the product (%s)", got->name);
    lt_status st = product_init(&p, a, b, err);
    for (size_t i0 = 0; i0 < p.m && st == LT_OK; i0 += BLOCK) {
        const size_t n = lt_min_size(BLOCK, p.m - i0);
        lt_gemm_f64(team, false, false, n, p.d, p.r, 1.0, p.a + i0 * p.r, p.r, p.b, p.d, 0.0, p.w, p.d);
        st = same_product_rows(&p, got, i0, n, err);
    }
    product_clear(&p);
    for (int s = 0; s < a->n_stages; s++) lt_tensor_drop(&a->stage[s].w.t);
    lt_tensor_drop(&got->t);
    return st;
}

/* A dense output of a model where some modules gained a bias brings zeros for the others. */
static lt_status zero_bias(const lt_param *b, lt_err *err) {
    for (size_t i = 0, n = lt_tensor_count(&b->t); i < n; i++) {
        float v;
        lt_tensor_row_f32(&v, &b->t, 0, i, 1);
        if (v != 0.0f) return lt_fail(err, LT_EVERIFY, "a bias that its source has not (%s)", b->name);
    }
    return LT_OK;
}

static lt_status same_bias(const lt_linear *a, const lt_linear *b, lt_err *err) {
    if (a->bias.name && b->bias.name) return lt_verify_values(&a->bias, &b->bias, err);
    if (b->bias.name) return zero_bias(&b->bias, err);
    return a->bias.name ? lt_fail(err, LT_EVERIFY, "the source's bias is missing (%s)", b->name) : LT_OK;
}

static lt_status same_linear(const lt_linear *a, const lt_linear *b, lt_team *team, lt_err *err) {
    if (!b->whole && strcmp(a->name, b->name) != 0)
        return lt_fail(err, LT_EVERIFY, "module %s stands where %s was", b->name, a->name);
    if (a->n_stages == 2 && b->n_stages == 1)
        LT_TRY(same_product(a, b, team, err));
    else if (a->n_stages != b->n_stages)
        return lt_fail(err, LT_EVERIFY, "factored, its source is dense (%s)", b->name);
    else if (a->stage[0].in_out != b->stage[0].in_out)
        LT_TRY(same_turned(&a->stage[0].w, &b->stage[0].w, err));
    else
        for (int s = 0; s < a->n_stages; s++) LT_TRY(lt_verify_values(&a->stage[s].w, &b->stage[s].w, err));
    return same_bias(a, b, err);
}

/* Linears, each part of a fused matrix counted when a has it apart. */
static size_t count_linears(const lt_model *b, const lt_model *a) {
    lt_module mod, part;
    size_t n = 0;
    for (size_t i = 0; lt_model_module(b, i, &mod); i++) {
        if (mod.layer < 0 || lt_linear_present(&a->layer[mod.layer].linear[mod.slot]))
            n++;
        else
            for (size_t k = 0; lt_module_part(&mod, k, &part); k++) n++;
    }
    return n;
}

static bool next_other(const lt_model *m, size_t *i, lt_param_info *p) {
    while (lt_model_param(m, (*i)++, p))
        if (!p->is_linear) return true;
    return false;
}

static lt_status same_tensors(const lt_model *a, const lt_model *b, lt_team *team, lt_err *err) {
    lt_module ma;
    lt_param_info pa, pb;
    if (a->config.tied != b->config.tied || a->config.n_layers != b->config.n_layers)
        return lt_fail(err, LT_EVERIFY, "the config does not describe the source (%s)", b->path);
    if (count_linears(a, a) != count_linears(b, a))
        return lt_fail(err, LT_EVERIFY, "not the source's number of linears (%s)", b->path);
    for (size_t i = 0; lt_model_module(a, i, &ma); i++) {
        const lt_linear *l = lt_model_counterpart(b, &ma); /* a part that stood alone may lie in a fused matrix again */
        if (!l) return lt_fail(err, LT_EVERIFY, "the source's linear is missing (%s: %s)", b->path, ma.linear->name);
        if (ma.slot != LT_SLOT_HEAD || !a->config.tied) LT_TRY(same_linear(ma.linear, l, team, err));
    }
    for (size_t i = 0, k = 0;;) {
        const bool more = next_other(a, &i, &pa);
        if (more != next_other(b, &k, &pb))
            return lt_fail(err, LT_EVERIFY, "not the source's number of tensors (%s)", b->path);
        if (!more) return LT_OK;
        LT_TRY(lt_verify_values(pa.param, pb.param, err));
    }
}

/* ---- logits ---- */
/* Two documents of at most n positions each; returns the rows. */
static size_t probe_pieces(lt_piece pieces[2], size_t n) {
    const size_t first = lt_min_size(PROBE_LONG, n), second = lt_min_size(PROBE_SHORT, n);
    pieces[0] = (lt_piece){ .n = first, .parent = -1 };
    pieces[1] = (lt_piece){ .row = first, .n = second, .parent = -1, .seq = 1 };
    return first + second;
}

static lt_status probe(float *logits, const lt_model *m, size_t positions, lt_team *team, lt_err *err) {
    int32_t ids[PROBE_ROWS];
    lt_piece pieces[2];
    const size_t rows = probe_pieces(pieces, positions);
    const lt_batch batch = { .n_rows = rows, .n_pieces = 2, .ids = ids, .piece = pieces };
    const lt_exec_opts opts = { .mode = LT_INFER };
    lt_rng rng = lt_rng_at(0, LT_RNG_TEST, 0, 0);
    for (size_t i = 0; i < PROBE_ROWS; i++) ids[i] = (int32_t)lt_rng_below(&rng, m->config.vocab_size);
    lt_exec *x;
    LT_TRY(lt_exec_create(&x, team, &opts, err));
    lt_exec_begin(x, &batch);
    lt_var h = lt_model_embed(x, m);
    for (size_t layer = 0; layer < m->config.n_layers; layer++) {
        h = lt_model_layer(x, m, layer, h);
        lt_layer_drop(m, layer); /* the model may be larger than memory */
    }
    const lt_real *z = lt_data(x, lt_model_logits(x, m, lt_model_final(x, m, h)));
    const lt_status st = lt_exec_status(x, err);
    if (z) memcpy(logits, z, rows * m->config.vocab_size * sizeof *logits);
    lt_exec_destroy(x);
    return st;
}

lt_status lt_verify_logits(double *gap, const lt_model *a, const lt_model *b, double max_gap, lt_team *team,
                           lt_err *err) {
    lt_piece pieces[2];
    const size_t positions = lt_min_size(a->config.max_positions, b->config.max_positions),
                 n = probe_pieces(pieces, positions) * a->config.vocab_size;
    float *za = lt_malloc(n * sizeof *za), *zb = lt_malloc(n * sizeof *zb);
    lt_status st = za && zb ? LT_OK : lt_fail(err, LT_ENOMEM, "verify: logits of %d rows: out of memory", PROBE_ROWS);
    if (st == LT_OK) st = probe(za, a, positions, team, err);
    if (st == LT_OK) st = probe(zb, b, positions, team, err);
    if (st == LT_OK) {
        double most = 0.0, far = 0.0;
        for (size_t i = 0; i < n; i++) {
            most = fmax(most, fabs((double)za[i]));
            /* a comparison that NaN fails */
            const double d = fabs((double)za[i] - (double)zb[i]);
            far = d <= far ? far : d;
            if (isnan(d)) break;
        }
        *gap = far == 0.0 ? 0.0 : far / most;
        if (!(*gap <= max_gap))
            st = lt_fail(err, LT_EVERIFY, "logits are off by %.3g of the largest; %.3g is allowed (%s)", *gap, max_gap,
                         b->path);
    }
    lt_free(za);
    lt_free(zb);
    return st;
}

static lt_status as_verify_failure(lt_status st, lt_err *err) {
    if (st != LT_EDATA && st != LT_EUNSUPPORTED) return st;
    if (err) err->code = LT_EVERIFY;
    return LT_EVERIFY;
}

static lt_status same_positions(const lt_model *source, const lt_model *m, lt_err *err) {
    const size_t want = lt_model_is_gguf(m) ? lt_gguf_positions(&source->config) : source->config.max_positions;
    if (m->config.max_positions == want) return LT_OK;
    return lt_fail(err, LT_EVERIFY, "%zu positions, its source has %zu (%s)", m->config.max_positions, want, m->path);
}

lt_status lt_verify_model(double *gap, const lt_model *source, const char *path, double max_gap, lt_team *team,
                          lt_err *err) {
    lt_model *m;
    double g = 0.0;
    lt_status st = lt_model_open(&m, path, err);
    if (st != LT_OK) return as_verify_failure(st, err);
    st = source->config.vocab_size == m->config.vocab_size
             ? LT_OK
             : lt_fail(err, LT_EVERIFY, "vocabulary of %zu, its source has %zu (%s)", m->config.vocab_size,
                       source->config.vocab_size, path);
    if (st == LT_OK) st = same_positions(source, m, err);
    if (st == LT_OK) st = same_tensors(source, m, team, err);
    if (st == LT_OK) st = lt_verify_logits(&g, source, m, max_gap, team, err);
    if (st == LT_OK && gap) *gap = g;
    lt_model_destroy(m);
    return as_verify_failure(st, err);
}
