/* SPDX-License-Identifier: Apache-2.0 */
#include "model/save_list.h"

#include <string.h>

#include "linalg/gemm.h"
#include "model/round.h"

/* ---- the list ---- */

/* Takes name. */
static lt_status add(lt_save_list *s, char *name, lt_save_item it, lt_err *err) {
    if (!name) return lt_fail(err, LT_ENOMEM, "out of memory (save)");
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 256;
        lt_save_item *grown = lt_realloc(s->item, cap * sizeof *grown);
        if (!grown) {
            lt_free(name);
            return lt_fail(err, LT_ENOMEM, "out of memory (save)");
        }
        s->item = grown;
        s->cap = cap;
    }
    it.name = name;
    it.dtype = it.stored;
    s->item[s->n++] = it;
    return LT_OK;
}

static lt_status add_param(lt_save_list *s, char *name, const lt_param_info *p, lt_err *err) {
    const lt_tensor *t = &p->param->t;
    lt_save_item it = { .layer = p->layer,
                        .slot = p->slot,
                        .source = LT_SAVE_COPY,
                        .param = p->param,
                        .stored = t->dtype,
                        .rank = t->rank <= 1 ? 1 : 2 };
    it.size[0] = it.rank == 1 ? lt_tensor_count(t) : lt_tensor_rows(t);
    it.size[1] = it.rank == 1 ? 1 : lt_tensor_cols(t);
    return add(s, name, it, err);
}

static lt_status add_of(lt_save_list *s, const lt_module *mod, const char *suffix, const lt_param *p, lt_err *err) {
    const lt_param_info info = { p, mod->layer, mod->slot, true };
    return add_param(s, lt_asprintf("%s%s", mod->linear->name, suffix), &info, err);
}

static lt_status add_turned(lt_save_list *s, const lt_module *mod, lt_err *err) {
    const lt_param *p = &mod->linear->stage[0].w;
    const lt_save_item it = { .layer = mod->layer,
                              .slot = mod->slot,
                              .source = LT_SAVE_TURN,
                              .param = p,
                              .stored = p->t.dtype,
                              .rank = 2,
                              .size = { lt_tensor_cols(&p->t), lt_tensor_rows(&p->t) } };
    return add(s, lt_asprintf("%s.weight", mod->linear->name), it, err);
}

static lt_status add_product(lt_save_list *s, const lt_module *mod, lt_err *err) {
    const lt_linear *l = mod->linear;
    const size_t out = lt_linear_out(l), in = lt_linear_in(l);
    const bool in_out = mod->row && mod->row->in_out;
    const lt_save_item it = { .layer = mod->layer,
                              .slot = mod->slot,
                              .source = LT_SAVE_PRODUCT,
                              .linear = l,
                              .in_out = in_out,
                              .stored = l->stage[1].w.t.dtype,
                              .rank = 2,
                              .size = { in_out ? in : out, in_out ? out : in } };
    return add(s, lt_asprintf("%s.weight", l->name), it, err);
}

static bool must_have_bias(const lt_save_list *s, const lt_map_row *row) {
    return row && row->has_bias &&
           (row->bias == LT_ALWAYS || (row->bias == LT_IF_ATTN_BIAS && s->attn_bias) ||
            (row->bias == LT_IF_MLP_BIAS && s->mlp_bias));
}

bool lt_save_has_bias(const lt_save_list *s, const lt_module *mod) {
    return mod->linear->bias.name || must_have_bias(s, mod->row);
}

static lt_status add_bias(lt_save_list *s, const lt_module *mod, const char *suffix, lt_err *err) {
    const lt_linear *l = mod->linear;
    const bool expected = must_have_bias(s, mod->row);
    if (l->bias.name && !expected && s->form == LT_FORM_DENSE)
        return lt_fail(err, LT_EUNSUPPORTED, "a dense %s cannot hold a bias here (%s)", s->m->family->name, l->name);
    if (l->bias.name) return add_of(s, mod, suffix, &l->bias, err);
    if (!expected) return LT_OK;
    const lt_save_item it = { .layer = mod->layer,
                              .slot = mod->slot,
                              .source = LT_SAVE_ZERO,
                              .stored = l->stage[l->n_stages - 1].w.t.dtype,
                              .rank = 1,
                              .size = { lt_linear_out(l), 1 } };
    return add(s, lt_asprintf("%s%s", l->name, suffix), it, err);
}

/* What a fused matrix and its bias share as items, mod being one of its parts. */
static lt_save_item joined(const lt_save_list *s, const lt_module *mod) {
    const lt_layer *layer = &s->m->layer[mod->layer];
    lt_save_item it = { .layer = mod->layer,
                        .slot = mod->row->slot,
                        .source = LT_SAVE_JOIN,
                        .n_parts = mod->row->fused->n_parts,
                        .groups = mod->row->fused->by_head ? s->m->config.layer[mod->layer].n_k_heads : 1 };
    for (size_t i = 0; i < it.n_parts; i++) it.part[i] = &layer->linear[mod->row->fused->part[i].slot];
    it.stored = it.part[0]->stage[it.part[0]->n_stages - 1].w.t.dtype;
    return it;
}

static size_t joined_rows(const lt_save_item *it) {
    size_t rows = 0;
    for (size_t i = 0; i < it->n_parts; i++) rows += lt_linear_out(it->part[i]);
    return rows;
}

/* Parts stored apart, where the output has them in one matrix: the last of them brings the whole. */
static lt_status add_joined(lt_save_list *s, const lt_module *mod, lt_err *err) {
    const lt_fused *fused = mod->row->fused;
    lt_save_item it = joined(s, mod), bias = it;
    char module[256];
    if (mod->slot != fused->part[fused->n_parts - 1].slot) return LT_OK;
    if (!lt_map_name(module, sizeof module, mod->row->hf, (size_t)mod->layer))
        return lt_fail(err, LT_EINTERNAL, "tensor name is too long (%s)", mod->row->hf);
    const size_t out = joined_rows(&it), in = lt_linear_in(mod->linear);
    it.in_out = mod->row->in_out;
    it.rank = 2;
    it.size[0] = it.in_out ? in : out;
    it.size[1] = it.in_out ? out : in;
    LT_TRY(add(s, lt_asprintf("%s.weight", module), it, err));
    bool any = false;
    for (size_t i = 0; i < bias.n_parts; i++) {
        if (bias.part[i]->bias.name) bias.stored = bias.part[i]->bias.t.dtype;
        any |= bias.part[i]->bias.name != NULL;
    }
    if (any && !must_have_bias(s, mod->row))
        return lt_fail(err, LT_EUNSUPPORTED, "a dense %s cannot hold a bias here (%s)", s->m->family->name, module);
    if (!any && !must_have_bias(s, mod->row)) return LT_OK;
    bias.rank = 1;
    bias.size[0] = out, bias.size[1] = 1;
    return add(s, lt_asprintf("%s.bias", module), bias, err);
}

static lt_status add_module(lt_save_list *s, const lt_module *mod, lt_err *err) {
    static const struct {
        const char *a, *b, *bias;
    } names[] = { [LT_FORM_ABLINEAR] = { ".ALinear.weight", ".BLinear.weight", ".ALinear.bias" },
                  [LT_FORM_AB] = { ".A", ".B", ".bias" } };
    const lt_linear *l = mod->linear;
    if (s->form == LT_FORM_DENSE && lt_module_is_apart(mod)) return add_joined(s, mod, err);
    if (lt_module_is_apart(mod)) s->factored = true; /* a form of ours, whatever the parts are */
    if (lt_linear_rank(l) == 0 && l->stage[0].in_out != (mod->row && mod->row->in_out))
        LT_TRY(add_turned(s, mod, err));
    else if (lt_linear_rank(l) == 0)
        LT_TRY(add_of(s, mod, ".weight", &l->stage[0].w, err));
    else if (s->form == LT_FORM_DENSE)
        LT_TRY(add_product(s, mod, err));
    else {
        s->factored = true;
        LT_TRY(add_of(s, mod, names[s->form].a, &l->stage[1].w, err));
        LT_TRY(add_of(s, mod, names[s->form].b, &l->stage[0].w, err));
    }
    const bool factored = lt_linear_rank(l) > 0 && s->form != LT_FORM_DENSE;
    return add_bias(s, mod, factored ? names[s->form].bias : ".bias", err);
}

/* A bias that a fit added, in a dense output, turns the config's switch on for all its kind. */
static void find_new_biases(lt_save_list *s) {
    lt_module mod;
    s->attn_bias = s->m->config.attn_bias;
    s->mlp_bias = s->m->config.mlp_bias;
    for (size_t i = 0; s->form == LT_FORM_DENSE && lt_model_module(s->m, i, &mod); i++) {
        if (!mod.linear->bias.name || !mod.row || !mod.row->has_bias) continue;
        s->attn_bias |= mod.row->bias == LT_IF_ATTN_BIAS;
        s->mlp_bias |= mod.row->bias == LT_IF_MLP_BIAS;
    }
}

lt_status lt_save_list_make(lt_save_list *s, lt_err *err) {
    lt_param_info p;
    lt_module mod;
    if (lt_model_adapted(s->m))
        return lt_fail(err, LT_EUNSUPPORTED, "linear has adapters: merge them first (%s)", lt_model_adapted(s->m));
    find_new_biases(s);
    for (size_t i = 0; lt_model_param(s->m, i, &p); i++)
        if (!p.is_linear) LT_TRY(add_param(s, lt_strdup(p.param->name), &p, err));
    for (size_t i = 0; lt_model_module(s->m, i, &mod); i++)
        if (mod.layer >= 0 || !s->m->config.tied) LT_TRY(add_module(s, &mod, err));
    return LT_OK;
}

void lt_save_list_clear(lt_save_list *s) {
    for (size_t i = 0; i < s->n; i++) lt_free(s->item[i].name);
    lt_free(s->item);
    lt_team_destroy(s->team);
    s->item = NULL;
    s->team = NULL;
    s->n = s->cap = 0;
}

lt_status lt_save_item_set_dtype(lt_save_item *it, lt_dtype t, lt_err *err) {
    const lt_tensor shape = lt_tensor_dense(t, it->rank, it->size, NULL, 0);
    if (t != it->stored || it->source != LT_SAVE_COPY) LT_TRY(lt_round_check(t, it->size[it->rank - 1], it->name, err));
    it->dtype = t;
    it->bytes = lt_tensor_bytes(&shape);
    return LT_OK;
}

/* ---- the bytes ---- */

enum { SLICE_BYTES = 16 << 20, PRODUCT_ROWS = 256 };

/* Where the bytes of an item go. */
typedef struct sink {
    lt_save_list *s;
    lt_save_put put;
    void *to;
} sink;

static lt_status progress(const sink *k, size_t bytes, lt_err *err) {
    k->s->done += (double)bytes;
    return lt_progress(k->s->ctx, err, "save", k->s->done, k->s->bytes, "bytes");
}

/* Interleaved rotary order: row h*hd + 2j + s as written is row h*hd + s*hd/2 + j of the Hugging Face matrix. */
static size_t source_row(size_t head_dim, size_t r) {
    if (head_dim == 0) return r;
    const size_t i = r % head_dim;
    return r - i + i % 2 * (head_dim / 2) + i / 2;
}

/* Rows [r0, r0 + n) of a stored matrix as a view, so that their pages can go once written. */
static lt_tensor slice_of(const lt_tensor *t, size_t r0, size_t n) {
    lt_tensor v = *t;
    v.offset += lt_tensor_bytes(t) / lt_tensor_rows(t) * r0;
    v.size[0] = n;
    return v;
}

static lt_status write_rows(const sink *k, const lt_save_item *it, lt_err *err) {
    const lt_tensor *t = &it->param->t;
    const size_t rows = lt_tensor_rows(t), row_bytes = lt_tensor_bytes(t) / rows;
    for (size_t r = 0; r < rows; r++)
        LT_TRY(k->put(k->to, lt_tensor_row(t, source_row(it->head_dim, r)), row_bytes, err));
    lt_tensor_drop(t);
    return progress(k, rows * row_bytes, err);
}

static lt_status write_same(const sink *k, const lt_save_item *it, lt_err *err) {
    const lt_tensor *t = &it->param->t;
    if (it->head_dim || !lt_tensor_is_dense(t) || t->rank != 2) return write_rows(k, it, err);
    const size_t rows = lt_tensor_rows(t), row_bytes = lt_tensor_bytes(t) / rows;
    const size_t step = lt_max_size(1, SLICE_BYTES / lt_max_size(1, row_bytes));
    for (size_t r = 0; r < rows; r += step) {
        const lt_tensor part = slice_of(t, r, lt_min_size(step, rows - r));
        LT_TRY(k->put(k->to, lt_host(&part), lt_tensor_bytes(&part), err));
        lt_tensor_drop(&part);
        LT_TRY(progress(k, lt_tensor_bytes(&part), err));
    }
    return LT_OK;
}

/* Row r as written, of a matrix or (the one row of) a vector. */
static void widen_row(float *out, float *spare, const lt_save_item *it, size_t r) {
    const lt_tensor *t = &it->param->t;
    const size_t cols = lt_tensor_cols(t);
    const bool vector = it->rank == 1 && it->head_dim;
    lt_tensor_row_f32(vector ? spare : out, t, it->rank == 1 ? r : source_row(it->head_dim, r), 0, cols);
    for (size_t i = 0; vector && i < cols; i++) out[i] = spare[source_row(it->head_dim, i)];
}

static lt_status write_converted(const sink *k, const lt_save_item *it, lt_err *err) {
    const lt_tensor *t = &it->param->t;
    const size_t rows = lt_tensor_rows(t), cols = lt_max_size(1, lt_tensor_cols(t)), row_bytes = it->bytes / rows;
    float *wide = lt_calloc(2 * cols, sizeof *wide);
    void *row = lt_malloc(lt_max_size(1, row_bytes));
    lt_status st = wide && row ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", it->name);
    for (size_t r = 0; r < rows && st == LT_OK; r++) {
        widen_row(wide, wide + cols, it, r);
        lt_dtype_get(it->dtype)->from_f32(row, wide, cols);
        st = k->put(k->to, row, row_bytes, err);
    }
    lt_tensor_drop(t);
    lt_free(wide);
    lt_free(row);
    return st == LT_OK ? progress(k, it->bytes, err) : st;
}

/* A stage as f64, dense, its rows in the order they are written in. */
static double *widen(const lt_tensor *t, size_t head_dim) {
    const size_t rows = lt_tensor_rows(t), cols = lt_tensor_cols(t);
    double *out = lt_calloc(lt_max_size(1, rows * cols), sizeof *out);
    float *row = lt_malloc(lt_max_size(1, cols) * sizeof *row);
    for (size_t r = 0; out && row && r < rows; r++) {
        const size_t from = source_row(head_dim, r);
        if (t->dtype == LT_F64) {
            memcpy(out + r * cols, lt_tensor_row(t, from), cols * sizeof *out);
            continue;
        }
        lt_tensor_row_f32(row, t, from, 0, cols);
        for (size_t c = 0; c < cols; c++) out[r * cols + c] = (double)row[c];
    }
    lt_tensor_drop(t);
    if (!row) {
        lt_free(out);
        out = NULL;
    }
    lt_free(row);
    return out;
}

typedef struct product {
    double *a, *b, *c;
    float *buf;
    void *row;
} product;

static lt_status product_rows(const sink *k, const lt_save_item *it, const product *p, size_t r0, size_t n,
                              lt_err *err) {
    const size_t in = lt_linear_in(it->linear), rank = lt_linear_rank(it->linear), cols = it->size[1];
    if (it->in_out)
        lt_gemm_f64(k->s->team, true, true, n, cols, rank, 1.0, p->b + r0, in, p->a, rank, 0.0, p->c, cols);
    else
        lt_gemm_f64(k->s->team, false, false, n, cols, rank, 1.0, p->a + r0 * rank, rank, p->b, in, 0.0, p->c, cols);
    for (size_t r = 0; r < n; r++) {
        if (!lt_round_row(p->row, it->dtype, p->c + r * cols, 1, cols, p->buf))
            return lt_fail(err, LT_EDATA, "product is not finite as %s (%s: row %zu)", lt_dtype_get(it->dtype)->name,
                           it->name, r0 + r);
        LT_TRY(k->put(k->to, p->row, it->bytes / it->size[0], err));
    }
    return progress(k, it->bytes / it->size[0] * n, err);
}

static lt_status write_product(const sink *k, const lt_save_item *it, lt_err *err) {
    const size_t rows = it->size[0], cols = it->size[1];
    lt_save_list *s = k->s;
    if (!s->team) LT_TRY(lt_team_create(&s->team, s->ctx ? s->ctx->threads : 1, NULL, err));
    product p = { .a = widen(&it->linear->stage[1].w.t, it->head_dim),
                  .b = widen(&it->linear->stage[0].w.t, 0),
                  .c = lt_calloc(PRODUCT_ROWS * cols, sizeof(double)),
                  .buf = lt_calloc(2 * cols, sizeof(float)),
                  .row = lt_malloc(it->bytes / rows) };
    lt_status st =
        p.a && p.b && p.c && p.buf && p.row ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", it->name);
    for (size_t r = 0; r < rows && st == LT_OK; r += PRODUCT_ROWS)
        st = product_rows(k, it, &p, r, lt_min_size(PRODUCT_ROWS, rows - r), err);
    lt_free(p.a);
    lt_free(p.b);
    lt_free(p.c);
    lt_free(p.buf);
    lt_free(p.row);
    return st;
}

static lt_status write_turned(const sink *k, const lt_save_item *it, lt_err *err) {
    const size_t rows = it->size[0], cols = it->size[1];
    double *m = widen(&it->param->t, 0);
    float *buf = lt_calloc(2 * cols, sizeof *buf);
    void *row = lt_malloc(it->bytes / rows);
    lt_status st = m && buf && row ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", it->name);
    for (size_t r = 0; r < rows && st == LT_OK; r++)
        st = lt_round_row(row, it->dtype, m + r, rows, cols, buf)
                 ? k->put(k->to, row, it->bytes / rows, err)
                 : lt_fail(err, LT_EDATA, "weight is not finite as %s (%s: column %zu)", lt_dtype_get(it->dtype)->name,
                           it->name, r);
    lt_free(m);
    lt_free(buf);
    lt_free(row);
    return st == LT_OK ? progress(k, it->bytes, err) : st;
}

/* Row i of a part, in the whole: the parts of a group lie one after another. */
static size_t joined_row(const lt_save_item *it, size_t part, size_t i) {
    const size_t each = lt_linear_out(it->part[part]) / it->groups;
    size_t before = 0;
    for (size_t k = 0; k < part; k++) before += lt_linear_out(it->part[k]) / it->groups;
    return i / each * (joined_rows(it) / it->groups) + before + i % each;
}

/* [out, in] f64 of a linear, whatever it is made of. */
static double *values_of(const sink *k, const lt_linear *l) {
    const size_t out = lt_linear_out(l), in = lt_linear_in(l), rank = lt_linear_rank(l);
    double *b = widen(&l->stage[0].w.t, 0), *a = rank ? widen(&l->stage[1].w.t, 0) : NULL;
    if (rank == 0 && !l->stage[0].in_out) return b;
    double *w = b && (a || !rank) ? lt_calloc(lt_max_size(1, out * in), sizeof *w) : NULL;
    if (w && rank) lt_gemm_f64(k->s->team, false, false, out, in, rank, 1.0, a, rank, b, in, 0.0, w, in);
    for (size_t i = 0; w && !rank && i < out; i++)
        for (size_t j = 0; j < in; j++) w[i * in + j] = b[j * out + i];
    lt_free(a);
    lt_free(b);
    return w;
}

static lt_status join_part(double *whole, const sink *k, const lt_save_item *it, size_t part, lt_err *err) {
    const lt_linear *l = it->part[part];
    const size_t out = lt_linear_out(l), in = it->rank == 1 ? 1 : lt_linear_in(l);
    if (it->rank == 1 && !l->bias.name) return LT_OK; /* zeros */
    double *w = it->rank == 1 ? widen(&l->bias.t, 0) : values_of(k, l);
    if (!w) return lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", it->name);
    for (size_t i = 0; i < out; i++) memcpy(whole + joined_row(it, part, i) * in, w + i * in, in * sizeof *whole);
    lt_free(w);
    return LT_OK;
}

static lt_status write_joined(const sink *k, const lt_save_item *it, lt_err *err) {
    const size_t out = joined_rows(it), in = it->rank == 1 ? 1 : lt_linear_in(it->part[0]);
    const size_t rows = it->rank == 1 ? 1 : it->size[0], cols = it->rank == 1 ? out : it->size[1];
    if (!k->s->team) LT_TRY(lt_team_create(&k->s->team, k->s->ctx ? k->s->ctx->threads : 1, NULL, err));
    double *whole = lt_calloc(lt_max_size(1, out * in), sizeof *whole);
    float *buf = lt_calloc(2 * lt_max_size(1, cols), sizeof *buf);
    void *row = lt_malloc(lt_max_size(1, it->bytes / rows));
    lt_status st = whole && buf && row ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", it->name);
    for (size_t i = 0; i < it->n_parts && st == LT_OK; i++) st = join_part(whole, k, it, i, err);
    for (size_t r = 0; r < rows && st == LT_OK; r++)
        st = lt_round_row(row, it->dtype, whole + r * (it->in_out ? 1 : cols), it->in_out ? in : 1, cols, buf)
                 ? k->put(k->to, row, it->bytes / rows, err)
                 : lt_fail(err, LT_EDATA, "weight is not finite as %s (%s: row %zu)", lt_dtype_get(it->dtype)->name,
                           it->name, r);
    lt_free(whole);
    lt_free(buf);
    lt_free(row);
    return st == LT_OK ? progress(k, it->bytes, err) : st;
}

static lt_status write_zero(const sink *k, const lt_save_item *it, lt_err *err) {
    void *zero = lt_calloc(1, lt_max_size(1, it->bytes));
    if (!zero) return lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", it->name);
    const lt_status st = k->put(k->to, zero, it->bytes, err);
    lt_free(zero);
    return st == LT_OK ? progress(k, it->bytes, err) : st;
}

lt_status lt_save_item_write(lt_save_list *s, const lt_save_item *it, lt_save_put put, void *to, lt_err *err) {
    const sink k = { s, put, to };
    switch (it->source) {
    case LT_SAVE_COPY:
        /* a permuted vector is no strided view of rows */
        return it->dtype == it->stored && !(it->rank == 1 && it->head_dim) ? write_same(&k, it, err)
                                                                           : write_converted(&k, it, err);
    case LT_SAVE_TURN:
        return write_turned(&k, it, err);
    case LT_SAVE_PRODUCT:
        return write_product(&k, it, err);
    case LT_SAVE_ZERO:
        return write_zero(&k, it, err);
    case LT_SAVE_JOIN:
        return write_joined(&k, it, err);
    }
    return LT_OK;
}
