/* SPDX-License-Identifier: Apache-2.0 */
/* A Hugging Face folder: which shard takes which tensor, the shards, then the small files. */
#include "model/save.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "model/save_list.h"
#include "model/shipped.h"

typedef struct saver {
    lt_save_list list;
    const lt_save_opts *o;
    char *dir; /* the temporary folder */
    size_t n_shards;
    bool blocks; /* a block type was rounded to bf16 */
} saver;

/* ---- what goes where ---- */

static lt_dtype out_dtype(saver *s, lt_dtype stored) {
    if (s->o->dtype != LT_N_DTYPES) return s->o->dtype;
    if (lt_dtype_get(stored)->block == 1) return stored;
    s->blocks = true;
    return LT_BF16;
}

static lt_status set_dtypes(saver *s, lt_err *err) {
    for (size_t i = 0; i < s->list.n; i++) {
        lt_save_item *it = &s->list.item[i];
        LT_TRY(lt_save_item_set_dtype(it, out_dtype(s, it->stored), err));
        if (!lt_dtype_get(it->dtype)->safetensors)
            return lt_fail(err, LT_EUNSUPPORTED, "safetensors cannot hold %s (%s)", lt_dtype_get(it->dtype)->name,
                           it->name);
        s->list.bytes += (double)it->bytes;
    }
    return LT_OK;
}

static void make_shards(saver *s) {
    const size_t limit = s->o->shard_bytes ? s->o->shard_bytes : (size_t)5000000000;
    size_t used = 0;
    s->n_shards = 1;
    for (size_t i = 0; i < s->list.n; i++) {
        if (used > 0 && s->list.item[i].bytes > limit - lt_min_size(used, limit)) {
            s->n_shards++;
            used = 0;
        }
        used += s->list.item[i].bytes;
        s->list.item[i].shard = s->n_shards - 1;
    }
}

static void shard_name(const saver *s, size_t shard, char *buf, size_t cap) {
    if (s->n_shards == 1)
        snprintf(buf, cap, "model.safetensors");
    else
        snprintf(buf, cap, "model-%05zu-of-%05zu.safetensors", shard + 1, s->n_shards);
}

static lt_status put(void *to, const void *data, size_t bytes, lt_err *err) {
    return lt_st_writer_bytes(to, data, bytes, err);
}

static lt_status fill_shard(saver *s, lt_st_writer *w, size_t shard, lt_err *err) {
    LT_TRY(lt_st_writer_meta(w, "format", "pt", err)); /* transformers asks for it */
    for (size_t i = 0; i < s->list.n; i++)
        if (s->list.item[i].shard == shard)
            LT_TRY(lt_st_writer_declare(w, s->list.item[i].name, s->list.item[i].dtype, s->list.item[i].rank,
                                        s->list.item[i].size, err));
    LT_TRY(lt_st_writer_begin(w, err));
    for (size_t i = 0; i < s->list.n; i++)
        if (s->list.item[i].shard == shard) LT_TRY(lt_save_item_write(&s->list, &s->list.item[i], put, w, err));
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
    for (size_t i = 0; i < s->list.n; i++) {
        shard_name(s, s->list.item[i].shard, name, sizeof name);
        bad |= json_object_set_new(map, s->list.item[i].name, json_string(name));
    }
    json_t *index =
        bad ? NULL
            : json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)s->list.bytes, "weight_map", map);
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
    for (size_t i = 0; i < s->list.n; i++)
        if (s->list.item[i].source == LT_SAVE_PRODUCT ||
            (s->list.item[i].rank == 2 && s->list.item[i].param != &s->list.m->embed))
            return s->list.item[i].dtype;
    return s->list.item[0].dtype;
}

/* Which classes of the shipped Python load the folder; of the form "ab" there are none. */
static int set_auto_map(const saver *s, json_t *j) {
    const lt_family *f = s->list.m->family;
    char config[96], model[96];
    (void)json_object_del(j, "auto_map");
    if (s->o->form != LT_FORM_ABLINEAR) return 0;
    snprintf(config, sizeof config, "configuration_lowrank.%s", f->lowrank_config);
    snprintf(model, sizeof model, "modeling_lowrank.%s", f->lowrank_architecture);
    return json_object_set_new(j, "auto_map",
                               json_pack("{s:s, s:s}", "AutoConfig", config, "AutoModelForCausalLM", model));
}

/* The bias is told: a fit may add one where the stock module has none. */
static json_t *lowrank_record(const saver *s, const lt_module *mod) {
    return json_pack("{s:I, s:b}", "rank", (json_int_t)lt_linear_rank(mod->linear), "bias",
                     lt_save_has_bias(&s->list, mod));
}

/* A fused matrix that is stored in parts: their rows in order, and in how many runs they alternate. */
static json_t *parts_record(const saver *s, const lt_module *mod) {
    const lt_fused *fused = mod->row->fused;
    const lt_layer *layer = &s->list.m->layer[mod->layer];
    json_t *parts = json_array(), *rows = json_array();
    for (size_t i = 0; parts && rows && i < fused->n_parts; i++) {
        json_array_append_new(parts, json_string(fused->part[i].name));
        json_array_append_new(rows, json_integer((json_int_t)lt_linear_out(&layer->linear[fused->part[i].slot])));
    }
    return json_pack("{s:o, s:o, s:I}", "parts", parts, "rows", rows, "groups",
                     (json_int_t)(fused->by_head ? s->list.m->config.layer[mod->layer].n_k_heads : 1));
}

static int set_parts(const saver *s, json_t *j) {
    char module[256];
    lt_module mod;
    json_t *all = json_object();
    int bad = !all;
    for (size_t i = 0; lt_model_module(s->list.m, i, &mod); i++) {
        if (!lt_module_is_apart(&mod) || mod.slot != mod.row->fused->part[0].slot) continue;
        bad |= !lt_map_name(module, sizeof module, mod.row->hf, (size_t)mod.layer) ||
               json_object_set_new(all, module, parts_record(s, &mod));
    }
    (void)json_object_del(j, "low_rank_parts");
    if (json_object_size(all) > 0) bad |= json_object_set(j, "low_rank_parts", all);
    json_decref(all);
    return bad;
}

static int set_lowrank(const saver *s, json_t *j) {
    lt_module mod;
    json_t *modules = json_object(), *ranks = json_object();
    int bad = !modules || !ranks || set_parts(s, j);
    for (size_t i = 0; lt_model_module(s->list.m, i, &mod); i++) {
        const size_t r = lt_linear_rank(mod.linear);
        if (r == 0) continue;
        bad |= json_object_set_new(modules, mod.linear->name, lowrank_record(s, &mod));
        bad |= json_object_set_new(ranks, mod.linear->name, json_integer((json_int_t)r));
    }
    bad |= json_object_set_new(j, "model_type", json_string(s->list.m->family->lowrank_model_type));
    bad |= json_object_set_new(j, "architectures", json_pack("[s]", s->list.m->family->lowrank_architecture));
    bad |= json_object_set_new(j, "low_rank_schema", json_string(s->o->form == LT_FORM_AB ? "AB" : "ABLinear"));
    bad |= json_object_set_new(j, "low_rank_format_version", json_integer(1));
    bad |= json_object_set_new(j, "low_rank_method", json_string(s->o->method ? s->o->method : ""));
    bad |= json_object_set_new(j, "low_rank_modules", modules);
    bad |= set_auto_map(s, j);
    return bad | json_object_set_new(j, "truncation_ranks", ranks);
}

/* A dense output of a low-rank model is a stock model again. */
static int set_stock(const saver *s, json_t *j) {
    static const char *const fields[] = { "low_rank_schema",  "low_rank_format_version", "low_rank_method",
                                          "low_rank_modules", "truncation_ranks",        "is_compressed",
                                          "auto_map",         "low_rank_parts" };
    const char *type = json_string_value(json_object_get(j, "model_type"));
    const bool lowrank =
        json_object_get(j, "low_rank_modules") || json_object_get(j, "truncation_ranks") ||
        json_object_get(j, "is_compressed") ||
        (type && s->list.m->family->lowrank_model_type && strcmp(type, s->list.m->family->lowrank_model_type) == 0);
    if (!lowrank) return 0;
    for (size_t i = 0; i < LT_COUNTOF(fields); i++) json_object_del(j, fields[i]);
    return json_object_set_new(j, "model_type", json_string(s->list.m->family->model_types[0])) |
           json_object_set_new(j, "architectures", json_pack("[s]", s->list.m->family->architecture));
}

static lt_status write_config(saver *s, lt_err *err) {
    lt_config c = s->list.m->config;
    json_t *j;
    c.attn_bias = s->list.attn_bias;
    c.mlp_bias = s->list.mlp_bias;
    LT_TRY(lt_family_write_config(s->list.m->family, &j, &c, err));
    int bad = s->list.factored ? set_lowrank(s, j) : set_stock(s, j);
    bad |= json_object_set_new(j, "torch_dtype", json_string(torch_name(main_dtype(s))));
    if (json_object_get(j, "dtype")) bad |= json_object_set_new(j, "dtype", json_string(torch_name(main_dtype(s))));
    const lt_status st =
        bad ? lt_fail(err, LT_ENOMEM, "out of memory (save: config.json)") : save_json(s, j, "config.json", err);
    json_decref(j);
    return st;
}

static lt_status copy_from_parent(saver *s, const char *name, lt_err *err) {
    char *from = lt_path_join(s->list.m->path, name), *to = lt_path_join(s->dir, name);
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
    LT_TRY(lt_list_dir(&names, &n, s->list.m->path, err));
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
        json_t *v = json_object_get(s->list.m->config.raw, keys[i]);
        if (v && !json_is_null(v) && json_object_set(j, keys[i], v) != 0) {
            json_decref(j);
            j = NULL;
        }
    }
    const lt_status st = save_json(s, j, "generation_config.json", err);
    json_decref(j);
    return st;
}

static lt_status write_shipped(saver *s, const lt_shipped_file *files, lt_err *err) {
    for (const lt_shipped_file *f = files; f->name; f++) {
        char *path = lt_path_join(s->dir, f->name);
        const lt_status st = path ? lt_file_write(path, f->bytes, f->size, err)
                                  : lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", f->name);
        lt_free(path);
        LT_TRY(st);
    }
    return LT_OK;
}

static lt_status write_all(saver *s, lt_err *err) {
    bool has_generation = false;
    LT_TRY(lt_make_dirs(s->dir, err));
    for (size_t i = 0; i < s->n_shards; i++) LT_TRY(write_shard(s, i, err));
    if (s->n_shards > 1) LT_TRY(write_index(s, err));
    if (!lt_model_is_gguf(s->list.m)) LT_TRY(copy_parent_files(s, &has_generation, err));
    if (!has_generation) LT_TRY(make_generation_config(s, err));
    if (s->list.factored && s->o->form == LT_FORM_ABLINEAR) LT_TRY(write_shipped(s, lt_lowrank_files, err));
    LT_TRY(write_config(s, err));
    if (s->blocks)
        lt_log(s->list.ctx, LT_LOG_INFO, "block-quantised tensors were written as bf16 (%s)", s->list.m->path);
    return LT_OK;
}

lt_status lt_model_save(const lt_model *m, const char *folder, const lt_save_opts *opts, const lt_ctx *ctx,
                        lt_err *err) {
    LT_REQUIRE(err, opts->form >= LT_FORM_ABLINEAR && opts->form <= LT_FORM_DENSE, "save: form %d", (int)opts->form);
    if (lt_path_exists(folder)) return lt_fail(err, LT_EUSAGE, "output exists (%s)", folder);
    size_t n = strlen(folder);
    while (n > 1 && folder[n - 1] == '/') n--;
    saver s = { .list = { .m = m, .form = opts->form, .ctx = ctx },
                .o = opts,
                .dir = lt_asprintf("%.*s.tmp-%ld", (int)n, folder, (long)getpid()) };
    lt_status st = s.dir ? lt_save_list_make(&s.list, err) : lt_fail(err, LT_ENOMEM, "out of memory (save)");
    if (st == LT_OK) st = set_dtypes(&s, err);
    if (st == LT_OK) {
        make_shards(&s);
        st = write_all(&s, err);
        if (st == LT_OK) st = lt_rename(s.dir, folder, err);
        if (st != LT_OK) (void)lt_remove_tree(s.dir, NULL); /* the first error is the one to tell */
    }
    lt_save_list_clear(&s.list);
    lt_free(s.dir);
    return st;
}
