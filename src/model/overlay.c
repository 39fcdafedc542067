/* SPDX-License-Identifier: Apache-2.0 */
/* The changed model is a copy of the base's structs; each replaced linear owns its parts (factor or dense weight,
 * bias), found by the address of its slot. Nothing of the base is written. */
#include "model/overlay.h"

#include <string.h>

#include "model/parts.h"
#include "model/round.h"
#include "model/spill.h"

typedef struct part {
    lt_buffer buffer;
    char *name;
} part; /* tensors point at buffer, so parts never move */
enum { N_PARTS = 3, ARENA_BYTES = 16 << 10, NAME_CAP = 224 };
typedef struct replaced {
    part part[N_PARTS];
} replaced; /* stage 0, stage 1, bias */

struct lt_overlay {
    const lt_model *base;
    lt_model model;
    replaced *parts; /* [n_layers * LT_N_LINEAR_SLOTS + 1]: the linears, then the head */
    part embed;
    lt_arena *arena; /* layouts and names */
    lt_spill spill;  /* room of the parts */
};

/* ---- life ---- */

static size_t n_linears(const lt_model *m) {
    return m->config.n_layers * LT_N_LINEAR_SLOTS + 1;
}

static void part_clear(part *p) {
    lt_spill_give(&p->buffer);
    lt_free(p->name);
    *p = (part){ 0 };
}

static void replaced_clear(replaced *r) {
    for (int i = 0; i < N_PARTS; i++) part_clear(&r->part[i]);
}

static lt_status make_layout(lt_overlay *o, size_t layer, lt_slot slot, lt_err *err) {
    lt_linear *l = &o->model.layer[layer].linear[slot];
    if (!l->layout) return LT_OK;
    return lt_parts_make(l, l, lt_family_row(o->base->family, slot), &o->model.config, &o->model.config.layer[layer],
                         o->arena, err);
}

/* Parts are those of the model that holds the matrix. */
static lt_status make_parts(lt_overlay *o, lt_err *err) {
    for (size_t layer = 0; layer < o->model.config.n_layers; layer++)
        for (int slot = 0; slot < LT_N_LINEAR_SLOTS; slot++) LT_TRY(make_layout(o, layer, (lt_slot)slot, err));
    return LT_OK;
}

lt_status lt_overlay_create(lt_overlay **out, const lt_model *base, lt_err *err) {
    lt_overlay *o = lt_calloc(1, sizeof *o);
    const size_t layers = base->config.n_layers;
    if (o) {
        o->base = base;
        o->model = *base;
        o->model.changed = true;
        o->model.layer = lt_calloc(layers, sizeof *o->model.layer);
        o->model.config.layer = lt_calloc(layers, sizeof *o->model.config.layer);
        o->parts = lt_calloc(n_linears(base), sizeof *o->parts);
        o->arena = lt_arena_create(ARENA_BYTES);
    }
    if (!o || !o->model.layer || !o->model.config.layer || !o->parts || !o->arena) {
        lt_overlay_destroy(o);
        return lt_fail(err, LT_ENOMEM, "out of memory (overlay)");
    }
    memcpy(o->model.layer, base->layer, layers * sizeof *base->layer);
    memcpy(o->model.config.layer, base->config.layer, layers * sizeof *base->config.layer);
    const lt_status st = make_parts(o, err);
    if (st == LT_OK)
        *out = o;
    else
        lt_overlay_destroy(o);
    return st;
}

lt_status lt_overlay_spill(lt_overlay *o, size_t limit, const char *folder, lt_err *err) {
    return lt_spill_begin(&o->spill, limit, folder, err);
}

void lt_overlay_destroy(lt_overlay *o) {
    if (!o) return;
    for (size_t i = 0; o->parts && i < n_linears(o->base); i++) replaced_clear(&o->parts[i]);
    part_clear(&o->embed);
    lt_free(o->parts);
    lt_arena_destroy(o->arena);
    lt_spill_clear(&o->spill);
    lt_free(o->model.layer);
    lt_free(o->model.config.layer);
    lt_free(o);
}

const lt_model *lt_overlay_model(const lt_overlay *o) {
    return &o->model;
}

/* ---- finding ---- */

typedef struct place {
    lt_linear *linear;
    const lt_linear *base; /* may be a view of a part */
    replaced *parts;
    lt_module mod;
} place;

static const lt_linear *base_of(const lt_overlay *o, const lt_module *mod) {
    const lt_linear *l = lt_model_slot(o->base, (size_t)mod->layer, mod->slot);
    return l ? l : &o->base->layer[mod->layer].linear[mod->slot];
}

static place place_of(lt_overlay *o, const lt_module *mod) {
    if (mod->layer < 0) return (place){ &o->model.head, &o->base->head, &o->parts[n_linears(o->base) - 1], *mod };
    const size_t l = (size_t)mod->layer, i = l * LT_N_LINEAR_SLOTS + (size_t)mod->slot;
    return (place){ &o->model.layer[l].linear[mod->slot], base_of(o, mod), &o->parts[i], *mod };
}

static lt_status find_module(lt_module *mod, const lt_overlay *o, const char *module, lt_err *err) {
    if (!lt_model_find_module(o->base, module, mod))
        return lt_fail(err, LT_EDATA, "model has no such module (%s)", module);
    if (mod->layer < 0 && o->base->config.tied)
        return lt_fail(err, LT_EUNSUPPORTED, "the head is tied to the embedding and cannot be replaced alone (%s)",
                       module);
    return LT_OK;
}

/* ---- parts of fused matrices ---- */

static bool is_replaced(const replaced *r) {
    bool any = false;
    for (int i = 0; i < N_PARTS; i++) any |= r->part[i].name != NULL;
    return any;
}

/* The module of the base that mod is a part of. */
static lt_module whole_of(const lt_overlay *o, const lt_module *mod) {
    return (lt_module){ &o->base->layer[mod->layer].linear[mod->row->slot], mod->layer, mod->row->slot, mod->row };
}

/* The base's view, under the name of a linear that stands for itself. */
static lt_status set_view(lt_overlay *o, const lt_module *mod, size_t i, lt_err *err) {
    const place p = place_of(o, mod);
    const lt_linear *whole = mod->linear->whole;
    char *path = lt_arena_alloc(o->arena, NAME_CAP);
    if (!path) return lt_fail(err, LT_ENOMEM, "out of memory (overlay)");
    if (!lt_part_path(path, NAME_CAP, whole->name, whole->layout->parts[i].name))
        return lt_fail(err, LT_EINTERNAL, "tensor name is too long (%s)", whole->name);
    *p.linear = *p.base;
    p.linear->name = path;
    p.linear->whole = NULL;
    return LT_OK;
}

static lt_status set_apart(lt_overlay *o, const lt_module *mod, lt_err *err) {
    const lt_module whole = whole_of(o, mod);
    const place p = place_of(o, &whole);
    lt_module one;
    if (!lt_linear_present(p.linear)) return LT_OK; /* they are */
    if (is_replaced(p.parts))
        return lt_fail(err, LT_EUNSUPPORTED, "replaced as a whole, of which this is a part (%s)", mod->linear->name);
    for (size_t i = 0; lt_module_part(&whole, i, &one); i++) LT_TRY(set_view(o, &one, i, err));
    *p.linear = (lt_linear){ 0 };
    return LT_OK;
}

lt_status lt_overlay_set_apart(lt_overlay *o, const char *module, lt_err *err) {
    lt_module mod;
    LT_TRY(find_module(&mod, o, module, err));
    return mod.linear->whole ? set_apart(o, &mod, err) : LT_OK;
}

/* Back to what the base has there. */
static lt_status put_base(lt_overlay *o, const lt_module *mod, lt_err *err) {
    const place p = place_of(o, mod);
    *p.linear = *p.base;
    return mod->layer < 0 ? LT_OK : make_layout(o, (size_t)mod->layer, mod->slot, err);
}

/* Whole again, unless a part is still replaced. */
static lt_status join(lt_overlay *o, const lt_module *whole, lt_err *err) {
    lt_module one;
    bool any = false;
    for (size_t i = 0; lt_module_part(whole, i, &one); i++) any |= is_replaced(place_of(o, &one).parts);
    if (any) return LT_OK;
    for (size_t i = 0; lt_module_part(whole, i, &one); i++) *place_of(o, &one).linear = (lt_linear){ 0 };
    return put_base(o, whole, err);
}

static lt_status find_place(place *out, lt_overlay *o, const char *module, lt_err *err) {
    lt_module mod;
    LT_TRY(find_module(&mod, o, module, err));
    if (mod.linear->whole) LT_TRY(set_apart(o, &mod, err));
    *out = place_of(o, &mod);
    if (lt_linear_present(out->linear)) return LT_OK;
    return lt_fail(err, LT_EUNSUPPORTED, "parts of this matrix have been replaced (%s)", module);
}

static lt_status restore_part(lt_overlay *o, const lt_module *mod, lt_err *err) {
    const lt_module whole = whole_of(o, mod);
    lt_module one;
    if (lt_linear_present(place_of(o, &whole).linear)) return LT_OK; /* no part is replaced */
    replaced_clear(place_of(o, mod).parts);
    for (size_t i = 0; lt_module_part(&whole, i, &one); i++)
        if (one.slot == mod->slot) LT_TRY(set_view(o, &one, i, err));
    return join(o, &whole, err);
}

static lt_status restore_whole(lt_overlay *o, const lt_module *mod, lt_err *err) {
    const place p = place_of(o, mod);
    lt_module one;
    if (!lt_linear_present(p.linear)) { /* in parts */
        for (size_t i = 0; lt_module_part(mod, i, &one); i++) replaced_clear(place_of(o, &one).parts);
        return join(o, mod, err);
    }
    replaced_clear(p.parts);
    return put_base(o, mod, err);
}

lt_status lt_overlay_restore(lt_overlay *o, const char *module, lt_err *err) {
    lt_module mod;
    LT_TRY(find_module(&mod, o, module, err));
    return mod.linear->whole ? restore_part(o, &mod, err) : restore_whole(o, &mod, err);
}

/* ---- making parts ---- */

/* An empty tensor of p's own memory. Takes name. */
static lt_status part_make(part *p, lt_param *param, lt_overlay *o, char *name, lt_dtype t, int rank,
                           const size_t *size, lt_err *err) {
    const lt_tensor shape = lt_tensor_dense(t, rank, size, NULL, 0);
    *p = (part){ .name = name };
    if (!name) return lt_fail(err, LT_ENOMEM, "out of memory (overlay)");
    LT_TRY(lt_round_check(t, lt_tensor_cols(&shape), name, err));
    LT_TRY(lt_spill_take(&p->buffer, &o->spill, lt_tensor_bytes(&shape), name, err));
    *param = (lt_param){ .name = name, .t = lt_tensor_dense(t, rank, size, &p->buffer, 0) };
    return LT_OK;
}

/* values: element (r, c) at r*ld + c*step. */
static lt_status part_fill(part *p, const lt_param *param, const double *values, size_t ld, size_t step, lt_err *err) {
    const size_t rows = lt_tensor_rows(&param->t), cols = lt_tensor_cols(&param->t);
    float *buf = lt_malloc(2 * lt_max_size(1, cols) * sizeof *buf);
    if (!buf) return lt_fail(err, LT_ENOMEM, "out of memory (overlay: %s)", p->name);
    lt_status st = LT_OK;
    for (size_t r = 0; r < rows && st == LT_OK; r++) {
        void *dst = (char *)p->buffer.data + lt_tensor_bytes(&param->t) / rows * r;
        if (!lt_round_row(dst, param->t.dtype, values + r * ld, step, cols, buf))
            st = lt_fail(err, LT_EDATA, "value is not finite as %s (%s: row %zu)", lt_dtype_get(param->t.dtype)->name,
                         p->name, r);
    }
    lt_free(buf);
    return st;
}

/* The new linear is whole: it takes the place of the old one. */
static lt_status commit(lt_overlay *o, place *p, const lt_linear *l, replaced *fresh, lt_err *err) {
    const replaced old = *p->parts;
    *p->parts = *fresh;
    *p->linear = *l;
    lt_param *param[N_PARTS] = { &p->linear->stage[0].w, &p->linear->stage[1].w, &p->linear->bias };
    for (int i = 0; i < N_PARTS; i++) {
        if (!p->parts->part[i].name) continue;
        param[i]->t.buffer = &p->parts->part[i].buffer; /* the parts have moved */
        lt_tensor_drop(&param[i]->t);
    }
    *fresh = old;
    replaced_clear(fresh);
    return l->layout ? make_layout(o, (size_t)p->mod.layer, p->mod.slot, err) : LT_OK;
}

/* A bias that is this overlay's stays with the module. */
static void keep_bias(replaced *fresh, place *p) {
    if (fresh->part[2].name) return;
    fresh->part[2] = p->parts->part[2];
    p->parts->part[2] = (part){ 0 };
}

static lt_dtype bias_dtype(lt_dtype t) {
    return lt_dtype_get(t)->block > 1 ? LT_F32 : t;
}

lt_status lt_overlay_factor(lt_overlay *o, const char *module, size_t rank, const double *a, const double *b,
                            const double *bias, lt_dtype dtype, lt_err *err) {
    place p;
    LT_TRY(find_place(&p, o, module, err));
    const size_t out = lt_linear_out(p.linear), in = lt_linear_in(p.linear);
    LT_REQUIRE(err, rank >= 1, "overlay: rank 0 (%s)", module);
    replaced fresh = { 0 };
    lt_linear l = { .name = p.linear->name,
                    .n_stages = 2,
                    .bias = p.linear->bias,
                    .layout = p.linear->layout,
                    .softcap = p.base->softcap };
    lt_status st;
    LT_GO(part_make(&fresh.part[0], &l.stage[0].w, o, lt_asprintf("%s.BLinear.weight", l.name), dtype, 2,
                    (size_t[]){ rank, in }, err));
    LT_GO(part_make(&fresh.part[1], &l.stage[1].w, o, lt_asprintf("%s.ALinear.weight", l.name), dtype, 2,
                    (size_t[]){ out, rank }, err));
    LT_GO(part_fill(&fresh.part[0], &l.stage[0].w, b, in, 1, err));
    LT_GO(part_fill(&fresh.part[1], &l.stage[1].w, a, rank, 1, err));
    if (bias) {
        LT_GO(part_make(&fresh.part[2], &l.bias, o, lt_asprintf("%s.ALinear.bias", l.name), bias_dtype(dtype), 1, &out,
                        err));
        LT_GO(part_fill(&fresh.part[2], &l.bias, bias, out, 1, err));
    }
    keep_bias(&fresh, &p);
    st = commit(o, &p, &l, &fresh, err);
done:
    if (st != LT_OK) replaced_clear(&fresh);
    return st;
}

lt_status lt_overlay_dense(lt_overlay *o, const char *module, const double *w, lt_dtype dtype, lt_err *err) {
    place p;
    LT_TRY(find_place(&p, o, module, err));
    const size_t out = lt_linear_out(p.linear), in = lt_linear_in(p.linear);
    const bool in_out = p.base->stage[0].in_out;
    replaced fresh = { 0 };
    lt_linear l = { .name = p.linear->name,
                    .n_stages = 1,
                    .bias = p.linear->bias,
                    .layout = p.linear->layout,
                    .softcap = p.base->softcap };
    l.stage[0].in_out = in_out;
    lt_status st;
    LT_GO(part_make(&fresh.part[0], &l.stage[0].w, o, lt_asprintf("%s.weight", l.name), dtype, 2,
                    in_out ? (size_t[]){ in, out } : (size_t[]){ out, in }, err));
    LT_GO(part_fill(&fresh.part[0], &l.stage[0].w, w, in_out ? 1 : in, in_out ? in : 1, err));
    keep_bias(&fresh, &p);
    st = commit(o, &p, &l, &fresh, err);
done:
    if (st != LT_OK) replaced_clear(&fresh);
    return st;
}

/* ---- fewer channels of an MLP ---- */

typedef struct channels {
    const size_t *index;
    size_t n, d_ff;
} channels;

/* Channel i of a fused pair of blocks is in both. */
static size_t nth(const channels *c, size_t i) {
    return c->index[i % c->n] + i / c->n * c->d_ff;
}

/* Rows (or columns) nth(0 .. n - 1) of src into p, a matrix of its own. */
static lt_status take(part *p, lt_param *param, lt_overlay *o, const lt_tensor *src, const channels *c, size_t n,
                      bool columns, lt_err *err) {
    const lt_dtype t = lt_dtype_get(src->dtype)->block > 1 ? LT_BF16 : src->dtype;
    const size_t rows = columns ? lt_tensor_rows(src) : n, cols = columns ? n : lt_tensor_cols(src),
                 wide = lt_tensor_cols(src);
    LT_TRY(part_make(p, param, o, lt_strdup(param->name), t, src->rank,
                     (size_t[]){ src->rank == 1 ? cols : rows, cols }, err));
    float *row = lt_malloc(2 * lt_max_size(1, wide) * sizeof *row);
    double *values = lt_malloc(lt_max_size(1, cols) * sizeof *values);
    lt_status st = row && values ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (overlay: %s)", p->name);
    for (size_t r = 0; r < rows && st == LT_OK; r++) {
        lt_tensor_row_f32(row, src, columns ? r : nth(c, r), 0, wide);
        for (size_t j = 0; j < cols; j++) values[j] = (double)row[columns ? nth(c, j) : j];
        if (!lt_round_row((char *)p->buffer.data + p->buffer.bytes / rows * r, t, values, 1, cols, row))
            st = lt_fail(err, LT_EDATA, "value is not finite (%s: row %zu)", p->name, r);
    }
    lt_free(row);
    lt_free(values);
    lt_tensor_drop(src);
    return st;
}

static lt_status keep_channels(lt_overlay *o, size_t layer, lt_slot slot, const channels *c, lt_err *err) {
    place p = place_of(o, &(lt_module){ .layer = (int)layer, .slot = slot });
    const bool down = slot == LT_SLOT_DOWN;
    const size_t n = slot == LT_SLOT_GATE_UP ? 2 * c->n : c->n;
    replaced fresh = { 0 };
    lt_linear l = *p.base;
    lt_status st;
    if (!lt_linear_present(p.base) || p.base->whole) return LT_OK; /* not here, or with its siblings */
    if (p.base->n_stages != 1 || p.linear->n_stages != 1)
        return lt_fail(err, LT_EUNSUPPORTED, "channels of a factored linear cannot be taken (%s)", p.base->name);
    LT_GO(take(&fresh.part[0], &l.stage[0].w, o, &p.base->stage[0].w.t, c, n, down != l.stage[0].in_out, err));
    if (l.bias.name && !down) LT_GO(take(&fresh.part[2], &l.bias, o, &p.base->bias.t, c, n, true, err));
    st = commit(o, &p, &l, &fresh, err);
done:
    if (st != LT_OK) replaced_clear(&fresh);
    return st;
}

lt_status lt_overlay_keep_ff(lt_overlay *o, size_t layer, const size_t *index, size_t n, lt_err *err) {
    static const lt_slot slots[] = { LT_SLOT_GATE, LT_SLOT_UP, LT_SLOT_GATE_UP, LT_SLOT_DOWN };
    LT_REQUIRE(err, layer < o->base->config.n_layers && n >= 1, "overlay: %zu channels of layer %zu", n, layer);
    const channels c = { index, n, o->base->config.layer[layer].d_ff };
    for (size_t i = 0; i < n; i++)
        if (index[i] >= c.d_ff || (i && index[i] <= index[i - 1]))
            return lt_fail(err, LT_EDATA, "channel %zu of %zu is not one, or not in order (layer %zu)", index[i],
                           c.d_ff, layer);
    o->model.config.layer[layer].d_ff = n; /* layouts follow it */
    for (size_t i = 0; i < LT_COUNTOF(slots); i++) LT_TRY(keep_channels(o, layer, slots[i], &c, err));
    return LT_OK;
}

/* ---- another storage dtype for everything that is a matrix ---- */

static lt_status quantize_param(part *p, lt_param *param, lt_overlay *o, lt_dtype t, lt_err *err) {
    const lt_tensor src = param->t;
    const size_t rows = lt_tensor_rows(&src), cols = lt_tensor_cols(&src);
    LT_TRY(part_make(p, param, o, lt_strdup(param->name), t, 2, (size_t[]){ rows, cols }, err));
    float *buf = lt_malloc(lt_max_size(1, cols) * sizeof *buf);
    if (!buf) return lt_fail(err, LT_ENOMEM, "out of memory (overlay: %s)", p->name);
    for (size_t r = 0; r < rows; r++) {
        lt_tensor_row_f32(buf, &src, r, 0, cols);
        void *dst = (char *)p->buffer.data + p->buffer.bytes / rows * r;
        if (t == LT_F64)
            for (size_t c = 0; c < cols; c++) ((double *)dst)[c] = (double)buf[c];
        else
            lt_dtype_get(t)->from_f32(dst, buf, cols);
    }
    lt_free(buf);
    lt_tensor_drop(&src);
    return LT_OK;
}

static lt_status quantize_linear(lt_overlay *o, const lt_module *mod, lt_dtype t, lt_err *err) {
    place p = place_of(o, mod);
    replaced fresh = { 0 };
    lt_linear l = *p.linear;
    lt_status st = LT_OK;
    for (int s = 0; s < l.n_stages && st == LT_OK; s++) st = quantize_param(&fresh.part[s], &l.stage[s].w, o, t, err);
    if (st != LT_OK) {
        replaced_clear(&fresh);
        return st;
    }
    keep_bias(&fresh, &p);
    return commit(o, &p, &l, &fresh, err);
}

static lt_status quantize_embed(lt_overlay *o, lt_dtype t, lt_err *err) {
    lt_param embed = o->model.embed;
    part fresh = { 0 };
    const lt_status st = quantize_param(&fresh, &embed, o, t, err);
    if (st != LT_OK) {
        part_clear(&fresh);
        return st;
    }
    part_clear(&o->embed);
    o->embed = fresh;
    embed.t.buffer = &o->embed.buffer;
    o->model.embed = embed;
    if (o->base->config.tied) o->model.head.stage[0].w = embed;
    return LT_OK;
}

lt_status lt_overlay_quantize(lt_overlay *o, lt_dtype dtype, lt_err *err) {
    lt_module mod;
    LT_TRY(quantize_embed(o, dtype, err));
    for (size_t i = 0; lt_model_module(&o->model, i, &mod); i++)
        if (mod.layer >= 0 || !o->base->config.tied) LT_TRY(quantize_linear(o, &mod, dtype, err));
    return LT_OK;
}
