/* SPDX-License-Identifier: Apache-2.0 */
/* From named tensors to the slots of the block: each row of the family's map asks for its tensors, in whichever form
 * they are stored. */
#include "model/weights.h"

#include <stdio.h>
#include <string.h>

#include "model/parts.h"

enum { NAME_CAP = 192 };

/* How a factored linear may be called (spec utilized-rank 6.2): names are the module's, or its stem's ("_proj" taken
 * off), plus these. */
static const struct form {
    const char *a, *b, *bias; /* A [out, r], B [r, in] */
    bool stem;
} forms[] = {
    { ".ALinear.weight", ".BLinear.weight", ".ALinear.bias", false },
    { ".A", ".B", ".bias", false },
    { "_u_proj.weight", "_v_proj.weight", "_u_proj.bias", true }, /* SVD-LLM */
};

typedef struct binder {
    lt_model *m;
    lt_weights *w;
    lt_err *err;
} binder;

static bool form_name(char *buf, const char *module, const struct form *f, const char *suffix) {
    size_t n = strlen(module);
    if (f && f->stem) {
        if (n < 5 || strcmp(module + n - 5, "_proj") != 0) return false;
        n -= 5;
    }
    const int got = snprintf(buf, NAME_CAP, "%.*s%s", (int)n, module, suffix);
    return got >= 0 && got < NAME_CAP;
}

static lt_weight *find(const binder *b, const char *module, const struct form *f, const char *suffix) {
    char name[NAME_CAP];
    return form_name(name, module, f, suffix) ? lt_weights_find(b->w, name) : NULL;
}

/* Binds e to p when it is a float tensor of the wanted shape; cols 0: a vector. */
static lt_status take(const binder *b, lt_param *p, lt_weight *e, size_t rows, size_t cols) {
    char got[128];
    const lt_tensor *t = &e->tensor;
    if (!lt_dtype_get(t->dtype)->is_float)
        return lt_fail(b->err, LT_EUNSUPPORTED, "weights of this dtype are not supported (%s: %s: %s)", e->file,
                       e->name, lt_dtype_get(t->dtype)->name);
    if (cols == 0 && !(t->rank == 1 && t->size[0] == rows))
        return lt_fail(b->err, LT_EDATA, "shape is %s, the config says [%zu] (%s: %s)",
                       lt_tensor_describe(t, got, sizeof got), rows, e->file, e->name);
    if (cols > 0 && !(t->rank >= 2 && lt_tensor_rows(t) == rows && lt_tensor_cols(t) == cols))
        return lt_fail(b->err, LT_EDATA, "shape is %s, the config says [%zu, %zu] (%s: %s)",
                       lt_tensor_describe(t, got, sizeof got), rows, cols, e->file, e->name);
    *p = (lt_param){ .name = e->name, .t = *t };
    e->used = true;
    return LT_OK;
}

static lt_status missing(const binder *b, const char *module, const struct form *f, const char *suffix) {
    char name[NAME_CAP];
    (void)form_name(name, module, f, suffix);
    return lt_fail(b->err, LT_EDATA, "tensor is missing (%s: %s)", b->m->path, name);
}

/* ---- linears ---- */

typedef struct found {
    const struct form *form;
    lt_weight *a, *b, *dense;
} found;

static lt_status find_linear(found *out, const binder *b, const char *module) {
    *out = (found){ .dense = find(b, module, NULL, ".weight") };
    for (size_t i = 0; i < LT_COUNTOF(forms); i++) {
        const struct form *f = &forms[i];
        lt_weight *ea = find(b, module, f, f->a), *eb = find(b, module, f, f->b);
        if (!ea && !eb) continue;
        const lt_weight *here = ea ? ea : eb;
        if (out->dense || out->form)
            return lt_fail(b->err, LT_EDATA, "module is stored twice (%s: %s and %s)", here->file, here->name,
                           out->dense ? out->dense->name : out->a->name);
        if (!ea || !eb) {
            char name[NAME_CAP];
            (void)form_name(name, module, f, ea ? f->b : f->a);
            return lt_fail(b->err, LT_EDATA, "one factor without the other (%s: %s without %s)", here->file, here->name,
                           name);
        }
        out->form = f;
        out->a = ea;
        out->b = eb;
    }
    return out->dense || out->form ? LT_OK : missing(b, module, NULL, ".weight");
}

static lt_status take_factors(const binder *b, lt_linear *l, const found *f, size_t out, size_t in) {
    const size_t rank = lt_tensor_rows(&f->b->tensor), inner = lt_tensor_cols(&f->a->tensor);
    char sa[128], sb[128];
    if (rank == 0 || rank != inner || f->a->tensor.rank < 2 || f->b->tensor.rank < 2)
        return lt_fail(b->err, LT_EDATA, "factors do not agree in rank: %s and %s (%s: %s, %s)",
                       lt_tensor_describe(&f->a->tensor, sa, sizeof sa),
                       lt_tensor_describe(&f->b->tensor, sb, sizeof sb), f->a->file, f->a->name, f->b->name);
    l->n_stages = 2;
    LT_TRY(take(b, &l->stage[0].w, f->b, rank, in));
    return take(b, &l->stage[1].w, f->a, out, rank);
}

/* A bias is there when the config says so; a factored module may also have gained one (affine modes). */
static lt_status take_bias(const binder *b, lt_linear *l, const lt_map_row *row, const found *f, size_t out) {
    const char *suffix = f->form ? f->form->bias : ".bias";
    const bool wanted = row->has_bias && lt_when_holds(row->bias, &b->m->config);
    lt_weight *e = find(b, l->name, f->form, suffix);
    if (!e) return wanted ? missing(b, l->name, f->form, suffix) : LT_OK;
    if (!wanted && !f->form) return LT_OK; /* left over: reported as unknown */
    return take(b, &l->bias, e, out, 0);
}

static lt_status bind_linear(const binder *b, lt_linear *l, const lt_map_row *row, const char *module, size_t out,
                             size_t in) {
    const bool in_out = row->in_out && !b->w->gguf; /* llama.cpp turns Conv1D around */
    found f;
    l->name = lt_weights_strdup(b->w, module);
    if (!l->name) return lt_fail(b->err, LT_ENOMEM, "out of memory (%s)", module);
    LT_TRY(find_linear(&f, b, module));
    if (f.form)
        LT_TRY(take_factors(b, l, &f, out, in));
    else {
        l->n_stages = 1;
        l->stage[0].in_out = in_out;
        LT_TRY(take(b, &l->stage[0].w, f.dense, in_out ? in : out, in_out ? out : in));
    }
    return take_bias(b, l, row, &f, out);
}

static bool is_stored(const binder *b, const char *module) {
    bool any = find(b, module, NULL, ".weight") != NULL;
    for (size_t i = 0; i < LT_COUNTOF(forms); i++)
        any |= find(b, module, &forms[i], forms[i].a) || find(b, module, &forms[i], forms[i].b);
    return any;
}

/* A fused matrix may be stored in parts, once one of them is factored: "<module>.q.BLinear.weight". */
static bool is_apart(const binder *b, const lt_map_row *row, const char *module) {
    char path[NAME_CAP];
    bool any = false;
    for (size_t i = 0; i < row->fused->n_parts; i++)
        any |= lt_part_path(path, sizeof path, module, row->fused->part[i].name) && is_stored(b, path);
    return any && !is_stored(b, module);
}

static lt_status bind_parts(const binder *b, lt_layer *layer, const lt_map_row *row, const char *module, size_t in,
                            const lt_layer_config *lc) {
    char path[NAME_CAP];
    for (size_t i = 0; i < row->fused->n_parts; i++) {
        const lt_fused_part *p = &row->fused->part[i];
        if (!lt_part_path(path, sizeof path, module, p->name))
            return lt_fail(b->err, LT_EINTERNAL, "tensor name is too long (%s)", module);
        LT_TRY(bind_linear(b, &layer->linear[p->slot], row, path, lt_axis_size(p->rows, &b->m->config, lc), in));
    }
    return LT_OK;
}

static lt_status bind_in_layer(const binder *b, lt_layer *layer, const lt_map_row *row, const char *module, size_t out,
                               size_t in, const lt_layer_config *lc) {
    lt_linear *l = &layer->linear[row->slot];
    if (row->fused && is_apart(b, row, module)) return bind_parts(b, layer, row, module, in, lc);
    LT_TRY(bind_linear(b, l, row, module, out, in));
    return row->fused ? lt_parts_make(l, l, row, &b->m->config, lc, b->w->arena, b->err) : LT_OK;
}

/* ---- one row of the map ---- */

static lt_status bind_vector(const binder *b, lt_param *p, const char *module, const char *suffix, size_t n) {
    lt_weight *e = find(b, module, NULL, suffix);
    return e ? take(b, p, e, n, 0) : missing(b, module, NULL, suffix);
}

static lt_status bind_table(const binder *b, lt_param *p, const char *module, size_t rows, size_t cols) {
    lt_weight *e = find(b, module, NULL, ".weight");
    return e ? take(b, p, e, rows, cols) : missing(b, module, NULL, ".weight");
}

static lt_status bind_norm(const binder *b, lt_norm_params *n, const lt_map_row *row, const char *module, size_t size) {
    n->kind = b->m->config.block.norm;
    n->eps = b->m->config.norm_eps;
    LT_TRY(bind_vector(b, &n->w, module, ".weight", size));
    return row->has_bias && lt_when_holds(row->bias, &b->m->config) ? bind_vector(b, &n->b, module, ".bias", size)
                                                                    : LT_OK;
}

static lt_status bind_row(const binder *b, const lt_map_row *row, size_t layer) {
    lt_model *m = b->m;
    const lt_layer_config *lc = &m->config.layer[layer];
    const size_t out = lt_axis_size(row->out, &m->config, lc), in = lt_axis_size(row->in, &m->config, lc);
    char module[NAME_CAP];
    if (!lt_map_name(module, sizeof module, row->hf, layer))
        return lt_fail(b->err, LT_EINTERNAL, "tensor name is too long (%s)", row->hf);
    if (row->slot < LT_N_LINEAR_SLOTS) return bind_in_layer(b, &m->layer[layer], row, module, out, in, lc);
    if (lt_slot_in_layer(row->slot))
        return bind_norm(b, &m->layer[layer].norm[row->slot - LT_N_LINEAR_SLOTS], row, module, out);
    switch (row->slot) {
    case LT_SLOT_POSITIONS:
        return bind_table(b, &m->positions, module, out, in);
    case LT_SLOT_PROJECT_IN:
        return bind_linear(b, &m->project_in, row, module, out, in);
    case LT_SLOT_PROJECT_OUT:
        return bind_linear(b, &m->project_out, row, module, out, in);
    case LT_SLOT_FINAL_NORM:
        return bind_norm(b, &m->final_norm, row, module, out);
    case LT_SLOT_HEAD:
        return bind_linear(b, &m->head, row, module, out, in);
    default:
        return bind_table(b, &m->embed, module, out, in);
    }
}

/* A tied model has one table. A file may hold a second copy of it; a different one means that the config or the file is
 * wrong. */
static lt_status bind_tied_head(const binder *b, const lt_map_row *row) {
    lt_model *m = b->m;
    m->head = (lt_linear){ .name = lt_weights_strdup(b->w, row->hf), .n_stages = 1, .stage = { { .w = m->embed } } };
    if (!m->head.name) return lt_fail(b->err, LT_ENOMEM, "out of memory (%s)", row->hf);
    lt_weight *e = find(b, row->hf, NULL, ".weight");
    if (!e) return LT_OK;
    lt_param copy;
    LT_TRY(take(b, &copy, e, lt_tensor_rows(&m->embed.t), lt_tensor_cols(&m->embed.t)));
    if (copy.t.dtype == m->embed.t.dtype &&
        memcmp(lt_host(&copy.t), lt_host(&m->embed.t), lt_tensor_bytes(&copy.t)) == 0)
        return LT_OK;
    return lt_fail(b->err, LT_EDATA, "head is tied by the config, but differs from the embedding (%s: %s)", e->file,
                   e->name);
}

/* Buffers that old checkpoints carry along and nothing reads. */
static bool is_known_leftover(const binder *b, const char *name) {
    static const char *const buffers[] = { ".rotary_emb.inv_freq", NULL };
    if (b->w->gguf) return strcmp(name, "rope_freqs.weight") == 0; /* read with the config */
    const char *const *lists[] = { buffers, b->m->family->leftovers };
    const size_t n = strlen(name);
    for (size_t i = 0; i < LT_COUNTOF(lists); i++)
        for (const char *const *end = lists[i]; end && *end; end++) {
            const size_t e = strlen(*end);
            if (n > e && strcmp(name + n - e, *end) == 0) return true;
        }
    return false;
}

/* ---- ranks that the config names ---- */

static lt_status check_rank(const binder *b, const char *field, const char *module, const json_t *value) {
    lt_module mod;
    const json_t *r = json_is_object(value) ? json_object_get(value, "rank") : value;
    if (!json_is_integer(r))
        return lt_fail(b->err, LT_EDATA, "%s has no integer rank (%s: %s)", field, b->m->path, module);
    if (!lt_model_find_module(b->m, module, &mod))
        return lt_fail(b->err, LT_EDATA, "%s names a module that the model has not (%s: %s)", field, b->m->path,
                       module);
    const size_t stored = lt_linear_rank(mod.linear);
    if (stored > 0 && (json_int_t)stored == json_integer_value(r)) return LT_OK;
    return lt_fail(b->err, LT_EDATA, "%s gives rank %lld, stored is %zu (0: dense) (%s: %s)", field,
                   (long long)json_integer_value(r), stored, b->m->path, module);
}

/* A table of ranks, when given, lists exactly the factored modules. */
static lt_status check_rank_table(const binder *b, const char *field) {
    const json_t *table = json_object_get(b->m->config.raw, field);
    if (!table || json_is_null(table)) return LT_OK;
    if (!json_is_object(table)) return lt_fail(b->err, LT_EDATA, "%s is not an object (%s)", field, b->m->path);
    const char *module;
    json_t *value;
    json_object_foreach((json_t *)table, module, value) LT_TRY(check_rank(b, field, module, value));
    lt_module mod;
    for (size_t i = 0; lt_model_module(b->m, i, &mod); i++)
        if (lt_linear_rank(mod.linear) > 0 && !json_object_get(table, mod.linear->name))
            return lt_fail(b->err, LT_EDATA, "module is factored but not in %s (%s: %s)", field, b->m->path,
                           mod.linear->name);
    return LT_OK;
}

static lt_status check_lowrank(const binder *b) {
    const json_t *raw = b->m->config.raw;
    size_t version;
    const char *schema;
    LT_TRY(lt_json_size(&version, raw, "low_rank_format_version", 1, b->m->path, b->err));
    LT_TRY(lt_json_string(&schema, raw, "low_rank_schema", "ABLinear", b->m->path, b->err));
    if (version != 1)
        return lt_fail(b->err, LT_EUNSUPPORTED, "low_rank_format_version is not 1 (%s: %zu)", b->m->path, version);
    if (strcmp(schema, "ABLinear") != 0 && strcmp(schema, "AB") != 0)
        return lt_fail(b->err, LT_EUNSUPPORTED, "low_rank_schema is none of ABLinear, AB (%s: %s)", b->m->path, schema);
    LT_TRY(check_rank_table(b, "low_rank_modules"));
    return check_rank_table(b, "truncation_ranks");
}

lt_status lt_model_bind(lt_model *m, lt_err *err) {
    const binder b = { m, m->weights, err };
    const lt_map_row *head = NULL;
    for (size_t i = 0; i < m->family->n_tensors; i++) {
        const lt_map_row *row = &m->family->tensors[i];
        if (row->slot == LT_SLOT_HEAD) head = row;
        if (!lt_when_holds(row->when, &m->config)) continue;
        const size_t n = lt_slot_in_layer(row->slot) ? m->config.n_layers : 1;
        for (size_t layer = 0; layer < n; layer++)
            if (m->config.layer[layer].present || !lt_slot_in_layer(row->slot)) LT_TRY(bind_row(&b, row, layer));
    }
    if (m->config.tied && head) LT_TRY(bind_tied_head(&b, head));
    for (size_t i = 0; i < m->weights->n_weights; i++) {
        const lt_weight *e = &m->weights->weight[i];
        if (!e->used && !is_known_leftover(&b, e->name))
            return lt_fail(err, LT_EDATA, "unknown tensor (%s: %s)", e->file, e->name);
    }
    m->head.softcap = m->config.logit_softcap;
    return check_lowrank(&b);
}
