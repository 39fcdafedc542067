/* SPDX-License-Identifier: Apache-2.0 */
/* First a list of what will be written (name, source, dtype, shard), then the bytes of one tensor after another, pages
 * of the source given back behind them. */
#include "model/save.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "linalg/gemm.h"
#include "model/round.h"

typedef enum source { SRC_COPY, SRC_PRODUCT, SRC_ZERO } source;
typedef struct item {
    char *name;
    source source;
    const lt_param *param;   /* copy */
    const lt_linear *linear; /* product of its two stages */
    bool in_out;             /* product: written transposed */
    lt_dtype dtype;
    int rank;
    size_t size[2], bytes, shard;
} item;

typedef struct saver {
    const lt_model *m;
    const lt_save_opts *o;
    const lt_ctx *ctx;
    lt_team *team; /* for products; made at the first */
    char *dir;     /* the temporary folder */
    item *items;
    size_t n, cap, n_shards;
    double bytes, done;
    bool factored;            /* something stays factored in the output */
    bool attn_bias, mlp_bias; /* of the output: an affine module of a dense output brings zeros for its siblings */
    bool blocks;              /* a block type was rounded to bf16 */
} saver;

/* ---- the list ---- */

static lt_dtype out_dtype(saver *s, lt_dtype stored) {
    if (s->o->dtype != LT_N_DTYPES) return s->o->dtype;
    if (lt_dtype_get(stored)->block == 1) return stored;
    s->blocks = true;
    return LT_BF16;
}

/* Takes name. */
static lt_status add(saver *s, char *name, item it, lt_err *err) {
    if (!name) return lt_fail(err, LT_ENOMEM, "out of memory (save)");
    if (s->n == s->cap) {
        const size_t cap = s->cap ? 2 * s->cap : 256;
        item *grown = lt_realloc(s->items, cap * sizeof *grown);
        if (!grown) {
            lt_free(name);
            return lt_fail(err, LT_ENOMEM, "out of memory (save)");
        }
        s->items = grown;
        s->cap = cap;
    }
    const lt_tensor shape = lt_tensor_dense(it.dtype, it.rank, it.size, NULL, 0);
    it.name = name;
    it.bytes = lt_tensor_bytes(&shape);
    s->bytes += (double)it.bytes;
    s->items[s->n++] = it;
    return LT_OK;
}

static lt_status add_param(saver *s, char *name, const lt_param *p, lt_err *err) {
    item it = { .source = SRC_COPY, .param = p, .dtype = out_dtype(s, p->t.dtype), .rank = p->t.rank <= 1 ? 1 : 2 };
    it.size[0] = it.rank == 1 ? lt_tensor_count(&p->t) : lt_tensor_rows(&p->t);
    it.size[1] = lt_tensor_cols(&p->t);
    return add(s, name, it, err);
}

static lt_status add_product(saver *s, const lt_linear *l, bool in_out, lt_err *err) {
    const size_t out = lt_linear_out(l), in = lt_linear_in(l);
    const item it = { .source = SRC_PRODUCT,
                      .linear = l,
                      .in_out = in_out,
                      .dtype = out_dtype(s, l->stage[1].w.t.dtype),
                      .rank = 2,
                      .size = { in_out ? in : out, in_out ? out : in } };
    return add(s, lt_asprintf("%s.weight", l->name), it, err);
}

static bool must_have_bias(const saver *s, const lt_map_row *row) {
    return row && row->has_bias &&
           (row->bias == LT_ALWAYS || (row->bias == LT_IF_ATTN_BIAS && s->attn_bias) ||
            (row->bias == LT_IF_MLP_BIAS && s->mlp_bias));
}

static lt_status add_bias(saver *s, const lt_module *mod, const char *suffix, lt_err *err) {
    const lt_linear *l = mod->linear;
    const bool expected = must_have_bias(s, mod->row);
    if (l->bias.name && !expected && s->o->form == LT_FORM_DENSE)
        return lt_fail(err, LT_EUNSUPPORTED, "a dense %s cannot hold a bias here (%s)", s->m->family->name, l->name);
    if (l->bias.name) return add_param(s, lt_asprintf("%s%s", l->name, suffix), &l->bias, err);
    if (!expected) return LT_OK;
    const item it = { .source = SRC_ZERO,
                      .dtype = out_dtype(s, l->stage[l->n_stages - 1].w.t.dtype),
                      .rank = 1,
                      .size = { lt_linear_out(l), 1 } };
    return add(s, lt_asprintf("%s%s", l->name, suffix), it, err);
}

static lt_status add_module(saver *s, const lt_module *mod, lt_err *err) {
    static const struct {
        const char *a, *b, *bias;
    } names[] = { [LT_FORM_ABLINEAR] = { ".ALinear.weight", ".BLinear.weight", ".ALinear.bias" },
                  [LT_FORM_AB] = { ".A", ".B", ".bias" } };
    const lt_linear *l = mod->linear;
    if (lt_linear_rank(l) == 0)
        LT_TRY(add_param(s, lt_asprintf("%s.weight", l->name), &l->stage[0].w, err));
    else if (s->o->form == LT_FORM_DENSE)
        LT_TRY(add_product(s, l, mod->row && mod->row->in_out, err));
    else {
        s->factored = true;
        LT_TRY(add_param(s, lt_asprintf("%s%s", l->name, names[s->o->form].a), &l->stage[1].w, err));
        LT_TRY(add_param(s, lt_asprintf("%s%s", l->name, names[s->o->form].b), &l->stage[0].w, err));
    }
    const bool factored = lt_linear_rank(l) > 0 && s->o->form != LT_FORM_DENSE;
    return add_bias(s, mod, factored ? names[s->o->form].bias : ".bias", err);
}

/* A bias that a fit added, in a dense output, turns the config's switch on for all its kind. */
static void find_new_biases(saver *s) {
    lt_module mod;
    s->attn_bias = s->m->config.attn_bias;
    s->mlp_bias = s->m->config.mlp_bias;
    for (size_t i = 0; s->o->form == LT_FORM_DENSE && lt_model_module(s->m, i, &mod); i++) {
        if (!mod.linear->bias.name || !mod.row || !mod.row->has_bias) continue;
        s->attn_bias |= mod.row->bias == LT_IF_ATTN_BIAS;
        s->mlp_bias |= mod.row->bias == LT_IF_MLP_BIAS;
    }
}

static lt_status make_list(saver *s, lt_err *err) {
    lt_param_info p;
    lt_module mod;
    find_new_biases(s);
    for (size_t i = 0; lt_model_param(s->m, i, &p); i++)
        if (!p.is_linear) LT_TRY(add_param(s, lt_strdup(p.param->name), p.param, err));
    for (size_t i = 0; lt_model_module(s->m, i, &mod); i++)
        if (mod.layer >= 0 || !s->m->config.tied) LT_TRY(add_module(s, &mod, err));
    for (size_t i = 0; i < s->n; i++) {
        LT_TRY(lt_round_check(s->items[i].dtype, s->items[i].rank == 1 ? s->items[i].size[0] : s->items[i].size[1],
                              s->items[i].name, err));
        if (!lt_dtype_get(s->items[i].dtype)->safetensors)
            return lt_fail(err, LT_EUNSUPPORTED, "safetensors cannot hold %s (%s)",
                           lt_dtype_get(s->items[i].dtype)->name, s->items[i].name);
    }
    return LT_OK;
}

static void make_shards(saver *s) {
    const size_t limit = s->o->shard_bytes ? s->o->shard_bytes : (size_t)5000000000;
    size_t used = 0;
    s->n_shards = 1;
    for (size_t i = 0; i < s->n; i++) {
        if (used > 0 && s->items[i].bytes > limit - lt_min_size(used, limit)) {
            s->n_shards++;
            used = 0;
        }
        used += s->items[i].bytes;
        s->items[i].shard = s->n_shards - 1;
    }
}

/* ---- the bytes ---- */

enum { SLICE_BYTES = 16 << 20 };

static lt_status progress(saver *s, size_t bytes, lt_err *err) {
    s->done += (double)bytes;
    return lt_progress(s->ctx, err, "save", s->done, s->bytes, "bytes");
}

/* Rows [r0, r0 + n) of a stored matrix as a view, so that their pages can go once written. */
static lt_tensor slice_of(const lt_tensor *t, size_t r0, size_t n) {
    lt_tensor v = *t;
    v.offset += lt_tensor_bytes(t) / lt_tensor_rows(t) * r0;
    v.size[0] = n;
    return v;
}

static lt_status write_same(saver *s, lt_st_writer *w, const lt_tensor *t, lt_err *err) {
    const size_t rows = lt_tensor_rows(t), row_bytes = lt_tensor_bytes(t) / rows;
    if (!lt_tensor_is_dense(t) || t->rank != 2) { /* permuted rows, or a vector */
        for (size_t r = 0; r < rows; r++) LT_TRY(lt_st_writer_bytes(w, lt_tensor_row(t, r), row_bytes, err));
        lt_tensor_drop(t);
        return progress(s, rows * row_bytes, err);
    }
    const size_t step = lt_max_size(1, SLICE_BYTES / lt_max_size(1, row_bytes));
    for (size_t r = 0; r < rows; r += step) {
        const lt_tensor part = slice_of(t, r, lt_min_size(step, rows - r));
        LT_TRY(lt_st_writer_bytes(w, lt_host(&part), lt_tensor_bytes(&part), err));
        lt_tensor_drop(&part);
        LT_TRY(progress(s, lt_tensor_bytes(&part), err));
    }
    return LT_OK;
}

static lt_status write_converted(saver *s, lt_st_writer *w, const item *it, lt_err *err) {
    const lt_tensor *t = &it->param->t;
    const size_t rows = lt_tensor_rows(t), cols = lt_tensor_cols(t), row_bytes = it->bytes / rows;
    float *wide = lt_malloc(lt_max_size(1, cols) * sizeof *wide);
    void *row = lt_malloc(lt_max_size(1, row_bytes));
    lt_status st = wide && row ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", it->name);
    for (size_t r = 0; r < rows && st == LT_OK; r++) {
        lt_tensor_row_f32(wide, t, r, 0, cols);
        lt_dtype_get(it->dtype)->from_f32(row, wide, cols);
        st = lt_st_writer_bytes(w, row, row_bytes, err);
    }
    lt_tensor_drop(t);
    lt_free(wide);
    lt_free(row);
    return st == LT_OK ? progress(s, it->bytes, err) : st;
}

/* A stage as f64, dense. */
static double *widen(const lt_tensor *t) {
    const size_t rows = lt_tensor_rows(t), cols = lt_tensor_cols(t);
    double *out = lt_calloc(lt_max_size(1, rows * cols), sizeof *out);
    float *row = lt_malloc(lt_max_size(1, cols) * sizeof *row);
    for (size_t r = 0; out && row && r < rows; r++) {
        if (t->dtype == LT_F64) {
            memcpy(out + r * cols, lt_tensor_row(t, r), cols * sizeof *out);
            continue;
        }
        lt_tensor_row_f32(row, t, r, 0, cols);
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
enum { PRODUCT_ROWS = 256 };

static lt_status product_rows(saver *s, lt_st_writer *w, const item *it, const product *p, size_t r0, size_t n,
                              lt_err *err) {
    const size_t in = lt_linear_in(it->linear), k = lt_linear_rank(it->linear), cols = it->size[1];
    if (it->in_out)
        lt_gemm_f64(s->team, true, true, n, cols, k, 1.0, p->b + r0, in, p->a, k, 0.0, p->c, cols);
    else
        lt_gemm_f64(s->team, false, false, n, cols, k, 1.0, p->a + r0 * k, k, p->b, in, 0.0, p->c, cols);
    for (size_t r = 0; r < n; r++) {
        if (!lt_round_row(p->row, it->dtype, p->c + r * cols, 1, cols, p->buf))
            return lt_fail(err, LT_EDATA, "product is not finite as %s (%s: row %zu)", lt_dtype_get(it->dtype)->name,
                           it->name, r0 + r);
        LT_TRY(lt_st_writer_bytes(w, p->row, it->bytes / it->size[0], err));
    }
    return progress(s, it->bytes / it->size[0] * n, err);
}

static lt_status write_product(saver *s, lt_st_writer *w, const item *it, lt_err *err) {
    const size_t rows = it->size[0], cols = it->size[1];
    if (!s->team) LT_TRY(lt_team_create(&s->team, s->ctx ? s->ctx->threads : 1, NULL, err));
    product p = { .a = widen(&it->linear->stage[1].w.t),
                  .b = widen(&it->linear->stage[0].w.t),
                  .c = lt_calloc(PRODUCT_ROWS * cols, sizeof(double)),
                  .buf = lt_calloc(2 * cols, sizeof(float)),
                  .row = lt_malloc(it->bytes / rows) };
    lt_status st =
        p.a && p.b && p.c && p.buf && p.row ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", it->name);
    for (size_t r = 0; r < rows && st == LT_OK; r += PRODUCT_ROWS)
        st = product_rows(s, w, it, &p, r, lt_min_size(PRODUCT_ROWS, rows - r), err);
    lt_free(p.a);
    lt_free(p.b);
    lt_free(p.c);
    lt_free(p.buf);
    lt_free(p.row);
    return st;
}

static lt_status write_zero(saver *s, lt_st_writer *w, const item *it, lt_err *err) {
    void *zero = lt_calloc(1, lt_max_size(1, it->bytes));
    if (!zero) return lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", it->name);
    const lt_status st = lt_st_writer_bytes(w, zero, it->bytes, err);
    lt_free(zero);
    return st == LT_OK ? progress(s, it->bytes, err) : st;
}

static lt_status write_item(saver *s, lt_st_writer *w, const item *it, lt_err *err) {
    switch (it->source) {
    case SRC_COPY:
        return it->dtype == it->param->t.dtype ? write_same(s, w, &it->param->t, err) : write_converted(s, w, it, err);
    case SRC_PRODUCT:
        return write_product(s, w, it, err);
    case SRC_ZERO:
        return write_zero(s, w, it, err);
    }
    return LT_OK;
}

static void shard_name(const saver *s, size_t shard, char *buf, size_t cap) {
    if (s->n_shards == 1)
        snprintf(buf, cap, "model.safetensors");
    else
        snprintf(buf, cap, "model-%05zu-of-%05zu.safetensors", shard + 1, s->n_shards);
}

static lt_status fill_shard(saver *s, lt_st_writer *w, size_t shard, lt_err *err) {
    LT_TRY(lt_st_writer_meta(w, "format", "pt", err)); /* transformers asks for it */
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i].shard == shard)
            LT_TRY(
                lt_st_writer_declare(w, s->items[i].name, s->items[i].dtype, s->items[i].rank, s->items[i].size, err));
    LT_TRY(lt_st_writer_begin(w, err));
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i].shard == shard) LT_TRY(write_item(s, w, &s->items[i], err));
    return LT_OK;
}

static lt_status write_shard(saver *s, size_t shard, lt_err *err) {
    char name[64];
    lt_st_writer *w;
    shard_name(s, shard, name, sizeof name);
    char *path = lt_path_join(s->dir, name);
    lt_status st = path ? lt_st_writer_create(&w, path, err) : lt_fail(err, LT_ENOMEM, "out of memory (save)");
    if (st == LT_OK) {
        st = fill_shard(s, w, shard, err);
        if (st == LT_OK)
            st = lt_st_writer_commit(w, err);
        else
            lt_st_writer_abort(w);
    }
    lt_free(path);
    return st;
}

/* ---- the small files ---- */

static lt_status save_json(saver *s, const json_t *j, const char *name, lt_err *err) {
    char *path = lt_path_join(s->dir, name);
    const lt_status st =
        path && j ? lt_json_save(j, path, err) : lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", name);
    lt_free(path);
    return st;
}

static lt_status write_index(saver *s, lt_err *err) {
    char name[64];
    json_t *map = json_object();
    int bad = map == NULL;
    for (size_t i = 0; i < s->n; i++) {
        shard_name(s, s->items[i].shard, name, sizeof name);
        bad |= json_object_set_new(map, s->items[i].name, json_string(name));
    }
    json_t *index =
        bad ? NULL : json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)s->bytes, "weight_map", map);
    const lt_status st = save_json(s, index, "model.safetensors.index.json", err);
    json_decref(index);
    json_decref(map);
    return st;
}

static const char *torch_name(lt_dtype t) {
    return t == LT_F64 ? "float64" : t == LT_F16 ? "float16" : t == LT_BF16 ? "bfloat16" : "float32";
}

/* The dtype that a loader should take: that of the first matrix of a layer. */
static lt_dtype main_dtype(const saver *s) {
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i].source == SRC_PRODUCT || (s->items[i].rank == 2 && s->items[i].param != &s->m->embed))
            return s->items[i].dtype;
    return s->items[0].dtype;
}

static int set_lowrank(const saver *s, json_t *j) {
    lt_module mod;
    json_t *modules = json_object(), *ranks = json_object();
    int bad = !modules || !ranks;
    for (size_t i = 0; lt_model_module(s->m, i, &mod); i++) {
        const size_t r = lt_linear_rank(mod.linear);
        if (r == 0) continue;
        bad |= json_object_set_new(modules, mod.linear->name, json_pack("{s:I}", "rank", (json_int_t)r));
        bad |= json_object_set_new(ranks, mod.linear->name, json_integer((json_int_t)r));
    }
    bad |= json_object_set_new(j, "model_type", json_string(s->m->family->lowrank_model_type));
    bad |= json_object_set_new(j, "architectures", json_pack("[s]", s->m->family->lowrank_architecture));
    bad |= json_object_set_new(j, "low_rank_schema", json_string(s->o->form == LT_FORM_AB ? "AB" : "ABLinear"));
    bad |= json_object_set_new(j, "low_rank_format_version", json_integer(1));
    bad |= json_object_set_new(j, "low_rank_method", json_string(s->o->method ? s->o->method : ""));
    bad |= json_object_set_new(j, "low_rank_modules", modules);
    return bad | json_object_set_new(j, "truncation_ranks", ranks);
}

/* A dense output of a low-rank model is a stock model again. */
static int set_stock(const saver *s, json_t *j) {
    static const char *const fields[] = { "low_rank_schema",  "low_rank_format_version", "low_rank_method",
                                          "low_rank_modules", "truncation_ranks",        "is_compressed",
                                          "auto_map" };
    const char *type = json_string_value(json_object_get(j, "model_type"));
    const bool lowrank =
        json_object_get(j, "low_rank_modules") || json_object_get(j, "truncation_ranks") ||
        json_object_get(j, "is_compressed") ||
        (type && s->m->family->lowrank_model_type && strcmp(type, s->m->family->lowrank_model_type) == 0);
    if (!lowrank) return 0;
    for (size_t i = 0; i < LT_COUNTOF(fields); i++) json_object_del(j, fields[i]);
    return json_object_set_new(j, "model_type", json_string(s->m->family->model_types[0])) |
           json_object_set_new(j, "architectures", json_pack("[s]", s->m->family->architecture));
}

static lt_status write_config(saver *s, lt_err *err) {
    lt_config c = s->m->config;
    json_t *j;
    c.attn_bias = s->attn_bias;
    c.mlp_bias = s->mlp_bias;
    LT_TRY(s->m->family->write_config(&j, &c, err));
    int bad = s->factored ? set_lowrank(s, j) : set_stock(s, j);
    bad |= json_object_set_new(j, "torch_dtype", json_string(torch_name(main_dtype(s))));
    if (json_object_get(j, "dtype")) bad |= json_object_set_new(j, "dtype", json_string(torch_name(main_dtype(s))));
    const lt_status st =
        bad ? lt_fail(err, LT_ENOMEM, "out of memory (save: config.json)") : save_json(s, j, "config.json", err);
    json_decref(j);
    return st;
}

static lt_status copy_from_parent(saver *s, const char *name, lt_err *err) {
    char *from = lt_path_join(s->m->path, name), *to = lt_path_join(s->dir, name);
    const lt_status st =
        from && to ? lt_copy_file(from, to, err) : lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", name);
    lt_free(from);
    lt_free(to);
    return st;
}

static bool is_licence(const char *name) {
    static const char *const starts[] = { "LICENSE", "LICENCE", "NOTICE", "COPYING", "USE_POLICY" };
    for (size_t i = 0; i < LT_COUNTOF(starts); i++)
        if (strncmp(name, starts[i], strlen(starts[i])) == 0) return true;
    return false;
}

/* From the parent's folder: licences, and the settings of generation. */
static lt_status copy_parent_files(saver *s, bool *has_generation, lt_err *err) {
    char **names;
    size_t n;
    LT_TRY(lt_list_dir(&names, &n, s->m->path, err));
    lt_status st = LT_OK;
    for (size_t i = 0; i < n; i++) {
        const bool generation = strcmp(names[i], "generation_config.json") == 0;
        if (st == LT_OK && (generation || is_licence(names[i]))) st = copy_from_parent(s, names[i], err);
        *has_generation |= generation;
        lt_free(names[i]);
    }
    lt_free(names);
    return st;
}

static lt_status make_generation_config(saver *s, lt_err *err) {
    static const char *const keys[] = { "bos_token_id", "eos_token_id", "pad_token_id" };
    json_t *j = json_pack("{s:b}", "_from_model_config", 1);
    for (size_t i = 0; j && i < LT_COUNTOF(keys); i++) {
        json_t *v = json_object_get(s->m->config.raw, keys[i]);
        if (v && !json_is_null(v) && json_object_set(j, keys[i], v) != 0) {
            json_decref(j);
            j = NULL;
        }
    }
    const lt_status st = save_json(s, j, "generation_config.json", err);
    json_decref(j);
    return st;
}

static lt_status write_all(saver *s, lt_err *err) {
    bool has_generation = false;
    LT_TRY(lt_make_dirs(s->dir, err));
    for (size_t i = 0; i < s->n_shards; i++) LT_TRY(write_shard(s, i, err));
    if (s->n_shards > 1) LT_TRY(write_index(s, err));
    if (!lt_model_is_gguf(s->m)) LT_TRY(copy_parent_files(s, &has_generation, err));
    if (!has_generation) LT_TRY(make_generation_config(s, err));
    LT_TRY(write_config(s, err));
    if (s->blocks) lt_log(s->ctx, LT_LOG_INFO, "block-quantised tensors were written as bf16 (%s)", s->m->path);
    return LT_OK;
}

lt_status lt_model_save(const lt_model *m, const char *folder, const lt_save_opts *opts, const lt_ctx *ctx,
                        lt_err *err) {
    LT_REQUIRE(err, opts->form >= LT_FORM_ABLINEAR && opts->form <= LT_FORM_DENSE, "save: form %d", (int)opts->form);
    if (lt_path_exists(folder)) return lt_fail(err, LT_EUSAGE, "output exists (%s)", folder);
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') n--;
    saver s = { .m = m, .o = opts, .ctx = ctx, .dir = lt_asprintf("%.*s.tmp-%ld", (int)n, folder, (long)getpid()) };
    lt_status st = s.dir ? make_list(&s, err) : lt_fail(err, LT_ENOMEM, "out of memory (save)");
    if (st == LT_OK) {
        make_shards(&s);
        st = write_all(&s, err);
        if (st == LT_OK) st = lt_rename(s.dir, folder, err);
        if (st != LT_OK) (void)lt_remove_tree(s.dir, NULL); /* the first error is the one to tell */
    }
    for (size_t i = 0; i < s.n; i++) lt_free(s.items[i].name);
    lt_free(s.items);
    lt_free(s.dir);
    lt_team_destroy(s.team);
    return st;
}
