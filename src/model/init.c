/* SPDX-License-Identifier: Apache-2.0 */
#include "model/init.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"

enum { NAME_CAP = 200 };

typedef struct fresh {
    char name[NAME_CAP];
    int rank;
    size_t size[2];
    double mean, deviation;
} fresh;
/* What is done with each tensor, in the map's order; index counts them. */
typedef lt_status (*visit_fn)(void *user, const fresh *t, uint32_t index, lt_err *err);
typedef struct walk {
    const lt_model *m;
    double range;
    visit_fn visit;
    void *user;
    uint32_t index;
} walk;

static bool ends_branch(lt_slot s) {
    return s == LT_SLOT_O || s == LT_SLOT_DOWN;
}

static lt_status put(walk *w, const char *module, const char *suffix, int rank, size_t rows, size_t cols, double mean,
                     double deviation, lt_err *err) {
    fresh t = { .rank = rank, .size = { rows, cols }, .mean = mean, .deviation = deviation };
    if (snprintf(t.name, sizeof t.name, "%s.%s", module, suffix) >= (int)sizeof t.name)
        return lt_fail(err, LT_EINTERNAL, "tensor name is too long (%s)", module);
    return w->visit(w->user, &t, w->index++, err);
}

static lt_status walk_row(walk *w, const lt_map_row *row, size_t layer, lt_err *err) {
    const lt_config *c = &w->m->config;
    const lt_layer_config *lc = &c->layer[layer];
    const size_t out = lt_axis_size(row->out, c, lc), in = lt_axis_size(row->in, c, lc);
    const bool norm = strcmp(lt_slot_role(row->slot), "norm") == 0;
    const double narrow =
        w->m->family->residual_init && ends_branch(row->slot) ? 1 / sqrt(2.0 * (double)c->n_layers) : 1;
    char module[NAME_CAP];
    if (!lt_map_name(module, sizeof module, row->hf, layer))
        return lt_fail(err, LT_EINTERNAL, "tensor name is too long (%s)", row->hf);
    if (norm)
        LT_TRY(put(w, module, "weight", 1, out, 1, w->m->family->block.norm == LT_NORM_RMS_PLUS1 ? 0 : 1, 0, err));
    else
        LT_TRY(put(w, module, "weight", 2, row->in_out ? in : out, row->in_out ? out : in, 0, w->range * narrow, err));
    return row->has_bias && lt_when_holds(row->bias, c) ? put(w, module, "bias", 1, out, 1, 0, 0, err) : LT_OK;
}

static lt_status walk_all(const lt_model *m, double range, visit_fn visit, void *user, lt_err *err) {
    walk w = { .m = m, .range = range, .visit = visit, .user = user };
    for (size_t i = 0; i < m->family->n_tensors; i++) {
        const lt_map_row *row = &m->family->tensors[i];
        if (!lt_when_holds(row->when, &m->config)) continue;
        const size_t n = lt_slot_in_layer(row->slot) ? m->config.n_layers : 1;
        for (size_t layer = 0; layer < n; layer++) LT_TRY(walk_row(&w, row, layer, err));
    }
    return LT_OK;
}

typedef struct writing {
    lt_st_writer *w;
    uint64_t seed;
    const lt_ctx *ctx;
} writing;

static lt_status declare(void *user, const fresh *t, uint32_t index, lt_err *err) {
    (void)index;
    return lt_st_writer_declare(((writing *)user)->w, t->name, LT_F32, t->rank, t->size, err);
}

static lt_status draw(void *user, const fresh *t, uint32_t index, lt_err *err) {
    const writing *g = user;
    float *row = lt_malloc(t->size[1] * sizeof *row);
    lt_status st = row ? lt_progress(g->ctx, err, "fresh weights", index, 0, "tensors")
                       : lt_fail(err, LT_ENOMEM, "out of memory (%s)", t->name);
    for (size_t r = 0; st == LT_OK && r < t->size[0]; r++) {
        lt_rng rng = lt_rng_at(g->seed, LT_RNG_INIT, index, (uint32_t)r);
        for (size_t c = 0; c < t->size[1]; c++)
            row[c] = (float)(t->deviation > 0 ? t->mean + t->deviation * lt_rng_normal(&rng) : t->mean);
        st = lt_st_writer_bytes(g->w, row, t->size[1] * sizeof *row, err);
    }
    lt_free(row);
    return st;
}

static lt_status write_weights(const lt_model *m, const char *path, uint64_t seed, const lt_ctx *ctx, lt_err *err) {
    writing g = { .seed = seed, .ctx = ctx };
    double range;
    lt_status st;
    LT_TRY(lt_json_double(&range, m->config.raw, "initializer_range", 0.02, m->path, err));
    LT_TRY(lt_json_double(&range, m->config.raw, "init_std", range, m->path, err));
    LT_TRY(lt_st_writer_create(&g.w, path, err));
    LT_GO(lt_st_writer_meta(g.w, "format", "pt", err));
    LT_GO(walk_all(m, range, declare, &g, err));
    LT_GO(lt_st_writer_begin(g.w, err));
    LT_GO(walk_all(m, range, draw, &g, err));
    return lt_st_writer_commit(g.w, err);
done:
    lt_st_writer_abort(g.w);
    return st;
}

static lt_status init(const lt_model *m, const char *from, const char *folder, uint64_t seed, const lt_ctx *ctx,
                      lt_err *err) {
    const char *type = json_string_value(json_object_get(m->config.raw, "model_type"));
    if (m->family->lowrank_model_type && type && strcmp(type, m->family->lowrank_model_type) == 0)
        return lt_fail(err, LT_EUNSUPPORTED, "fresh weights are made for dense models only (%s: model_type: %s)", from,
                       type);
    LT_TRY(lt_make_dirs(folder, err));
    char *config = lt_path_join(folder, "config.json"), *weights = lt_path_join(folder, "model.safetensors");
    lt_status st = config && weights ? lt_copy_file(from, config, err) : lt_fail(err, LT_ENOMEM, "out of memory");
    if (st == LT_OK) st = write_weights(m, weights, seed, ctx, err);
    lt_free(config);
    lt_free(weights);
    return st;
}

lt_status lt_model_init(const char *config, const char *folder, uint64_t seed, const lt_ctx *ctx, lt_err *err) {
    lt_model *m;
    char *from = lt_path_join(config, "config.json");
    lt_status st = from ? lt_model_open_config(&m, config, err) : lt_fail(err, LT_ENOMEM, "out of memory");
    if (st == LT_OK) {
        st = init(m, from, folder, seed, ctx, err);
        lt_model_destroy(m);
    }
    lt_free(from);
    return st;
}
