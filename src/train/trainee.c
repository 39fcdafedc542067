/* SPDX-License-Identifier: Apache-2.0 */
/* Built in four steps: the structs are copied and adapters attached, every parameter that could train is listed, the
 * patterns choose, then values, gradients and moments get their places. */
#include "train/trainee.h"

#include <string.h>

#include "core/patterns.h"

enum { ALIGN = 16 }; /* floats: a cache line */

typedef struct cand {
    lt_param *param;
    bool adapter, decays, trains; /* adapter: value and gradient are the set's */
    bool in_layer;
    size_t offset; /* floats, into the moments, and into value and grad when not an adapter */
} cand;

struct lt_trainee_own {
    cand *cand;
    size_t n_cand, cap_cand;
    float *value, *grad, *m, *v;
    size_t n_values, n_moments; /* floats with padding */
    lt_buffer buffer;           /* of value */
    bool one_table;             /* the head is the embedding: not where an adapter has parted them */
};
typedef struct lt_trainee_own own;

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "no memory for what trains");
}

static void free_values(own *o) {
    lt_free(o->value);
    lt_free(o->grad);
    lt_free(o->m);
    lt_free(o->v);
    o->value = o->grad = o->m = o->v = NULL;
}

void lt_trainee_destroy(lt_trainee *t) {
    if (!t) return;
    own *o = t->own;
    lt_adapters_destroy(t->adapters); /* its stages are in the layers */
    if (o) {
        lt_free(o->cand);
        free_values(o);
    }
    lt_free(o);
    lt_free(t->model.layer);
    lt_free(t->param);
    lt_free(t->slice);
    lt_free(t);
}

size_t lt_trainee_bytes(const lt_trainee *t) {
    const size_t adapters = t->adapters ? 2 * lt_adapters_n_params(t->adapters) : 0;
    return (2 * t->own->n_values + 2 * t->own->n_moments + adapters) * sizeof(float);
}

void lt_trainee_rest(lt_trainee *t, size_t bytes) {
    const own *o = t->own;
    size_t i = 0;
    while (i < o->n_cand && !(o->cand[i].trains && o->cand[i].in_layer)) i++; /* a tied table is written first */
    if (i == o->n_cand || o->cand[i].adapter) return;
    const size_t first = o->cand[i].offset;
    lt_zero_pages(o->grad + first, lt_min_size(bytes, (o->n_values - first) * sizeof(float)));
}

/* ---- what could train ---- */

static lt_status add(own *o, lt_param *p, bool adapter, bool decays, bool in_layer, lt_err *err) {
    if (o->n_cand == o->cap_cand) {
        const size_t cap = o->cap_cand ? 2 * o->cap_cand : 256;
        cand *more = lt_realloc(o->cand, cap * sizeof *more);
        if (!more) return no_memory(err);
        o->cand = more;
        o->cap_cand = cap;
    }
    o->cand[o->n_cand++] =
        (cand){ .param = p, .adapter = adapter, .decays = decays, .trains = true, .in_layer = in_layer };
    return LT_OK;
}

static bool base_trains(lt_train_base base, const lt_param_info *p) {
    if (base == LT_TRAIN_ALL) return true;
    const bool head = p->slot == LT_SLOT_HEAD, norm = strcmp(lt_slot_role(p->slot), "norm") == 0;
    return base == LT_TRAIN_NORMS_HEAD && (norm || head);
}

static lt_status add_base(lt_trainee *t, const lt_trainee_opts *opts, lt_err *err) {
    lt_param_info p;
    for (size_t i = 0; lt_model_param(&t->model, i, &p); i++) {
        const bool matrix = p.is_linear && p.param->t.rank >= 2;
        if (base_trains(opts->base, &p)) /* the structs are ours to change */
            LT_TRY(add(t->own, (lt_param *)p.param, false, matrix || opts->decay == LT_DECAY_ALL, p.layer >= 0, err));
    }
    return LT_OK;
}

/* ---- adapters ---- */

static lt_status attach(lt_trainee *t, const lt_train_lora *l, lt_err *err) {
    lt_param *p;
    if (!l) return LT_OK;
    if (l->from)
        LT_TRY(lt_adapters_open(&t->adapters, &t->model, l->from, err));
    else {
        LT_TRY(lt_adapters_create(&t->adapters, &t->model, err));
        LT_TRY(lt_adapters_add(t->adapters, l->targets, l->factors, &l->opts, l->seed, NULL, err));
    }
    LT_TRY(lt_adapters_make_trainable(t->adapters, err));
    for (size_t i = 0; (p = lt_adapters_param(t->adapters, i)); i++) LT_TRY(add(t->own, p, true, true, true, err));
    return LT_OK;
}

/* ---- what does train ---- */

static lt_status choose(lt_trainee *t, const lt_trainee_opts *opts, lt_err *err) {
    own *o = t->own;
    lt_patterns freeze, only;
    LT_TRY(lt_patterns_init(&freeze, opts->freeze, err));
    lt_status st = lt_patterns_init(&only, opts->only, err);
    for (size_t i = 0; st == LT_OK && i < o->n_cand; i++) {
        const char *name = o->cand[i].param->name;
        o->cand[i].trains = !lt_patterns_match(&freeze, name) && (!only.n || lt_patterns_match(&only, name));
        t->n += o->cand[i].trains;
    }
    if (st == LT_OK && t->n == 0)
        st = lt_fail(err, LT_EUSAGE, "nothing trains: of %zu tensors of the preset the patterns leave none", o->n_cand);
    lt_patterns_clear(&freeze);
    lt_patterns_clear(&only);
    return st;
}

static size_t padded(size_t n) {
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static lt_status allocate(lt_trainee *t, lt_err *err) {
    own *o = t->own;
    for (size_t i = 0; i < o->n_cand; i++) {
        cand *c = &o->cand[i];
        const size_t n = lt_tensor_count(&c->param->t);
        if (!c->trains) continue;
        c->offset = o->n_moments; /* adapters come last: what has values of ours has the same place in all four */
        o->n_moments += padded(n);
        if (!c->adapter) o->n_values = o->n_moments;
        t->n_values += n;
    }
    o->value = lt_calloc(o->n_values + 1, sizeof(float));
    o->grad = lt_calloc(o->n_values + 1, sizeof(float));
    o->m = lt_calloc(o->n_moments + 1, sizeof(float));
    o->v = lt_calloc(o->n_moments + 1, sizeof(float));
    t->param = lt_calloc(t->n, sizeof *t->param);
    t->slice = lt_calloc(t->n, sizeof *t->slice);
    o->buffer = (lt_buffer){ .data = o->value, .bytes = o->n_values * sizeof(float) };
    if (o->value && o->grad && o->m && o->v && t->param && t->slice) return LT_OK;
    return lt_fail(err, LT_ENOMEM, "no memory to train %zu parameters: values, gradients and two moments", t->n_values);
}

/* Values in the order of the stored rows, as gradients are. */
static void copy_values(float *to, const lt_tensor *from) {
    const size_t rows = lt_tensor_rows(from), cols = lt_tensor_cols(from);
    for (size_t r = 0; r < rows; r++) lt_tensor_row_f32(to + r * cols, from, r, 0, cols);
}

/* f32 values of our own in the place of the stored ones. */
static void own_values(own *o, const cand *c) {
    const lt_tensor from = c->param->t;
    const size_t matrix[] = { lt_tensor_rows(&from), lt_tensor_cols(&from) };
    const bool flat = from.rank > 2; /* a view of a GGUF's rotary rows */
    copy_values(o->value + c->offset, &from);
    c->param->t =
        lt_tensor_dense(LT_F32, flat ? 2 : from.rank, flat ? matrix : from.size, &o->buffer, c->offset * sizeof(float));
    c->param->grad = o->grad + c->offset;
    lt_tensor_drop(&from);
}

static void settle(lt_trainee *t) {
    own *o = t->own;
    size_t k = 0;
    for (size_t i = 0; i < o->n_cand; i++) {
        const cand *c = &o->cand[i];
        if (!c->trains && c->adapter) {
            lt_free(c->param->grad);
            c->param->grad = NULL;
        }
        if (!c->trains) continue;
        if (!c->adapter) own_values(o, c);
        t->param[k] = c->param;
        t->slice[k++] = (lt_slice){ .value = (float *)lt_host(&c->param->t),
                                    .grad = c->param->grad,
                                    .m = o->m + c->offset,
                                    .v = o->v + c->offset,
                                    .n = lt_tensor_count(&c->param->t),
                                    .decays = c->decays };
    }
    if (o->one_table) t->model.head.stage[0].w = t->model.embed;
}

static bool is_one_table(const lt_model *m) {
    const lt_tensor *head = &m->head.stage[0].w.t, *table = &m->embed.t;
    return m->config.tied && head->buffer == table->buffer && head->offset == table->offset;
}

lt_status lt_trainee_create(lt_trainee **out, const lt_model *base, const lt_trainee_opts *opts, lt_err *err) {
    const size_t layers = base->config.n_layers;
    lt_trainee *t = lt_calloc(1, sizeof *t);
    lt_status st = LT_OK;
    if (t) {
        t->model = *base;
        t->model.changed = true;
        t->model.layer = lt_calloc(layers, sizeof *t->model.layer);
        t->own = lt_calloc(1, sizeof *t->own);
    }
    if (!t || !t->model.layer || !t->own) LT_GO(no_memory(err));
    memcpy(t->model.layer, base->layer, layers * sizeof *base->layer);
    LT_GO(add_base(t, opts, err));
    LT_GO(attach(t, opts->lora, err));
    t->own->one_table = is_one_table(&t->model);
    LT_GO(choose(t, opts, err));
    LT_GO(allocate(t, err));
    settle(t);
done:
    if (st == LT_OK)
        *out = t;
    else
        lt_trainee_destroy(t);
    return st;
}

/* ---- merging ---- */

lt_status lt_trainee_merge(lt_trainee *t, lt_dtype dtype, lt_team *team, lt_err *err) {
    if (t->adapters) LT_TRY(lt_adapters_merge(t->adapters, dtype, team, err));
    for (size_t i = 0; i < t->own->n_cand; i++)
        if (!t->own->cand[i].adapter) t->own->cand[i].param->grad = NULL;
    if (t->own->one_table) t->model.head.stage[0].w = t->model.embed;
    return LT_OK;
}

void lt_trainee_let_go(lt_trainee *t) {
    lt_adapters_destroy(t->adapters);
    free_values(t->own);
    t->adapters = NULL;
}
