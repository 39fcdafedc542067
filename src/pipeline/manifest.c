/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hub/hub.h"
#include "io/file.h"
#include "pipeline/args.h"
#include "pipeline/result.h"
#include "tokenizer/save.h"

static lt_status no_memory(const char *what, lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "%s: out of memory", what);
}

/* ---- names ---- */
char *lt_model_id(const lt_model *m) {
    char *known = NULL;
    if (lt_hub_id_of(&known, m->path, NULL) != LT_OK || known) return known;
    char *path = lt_strdup(m->path);
    if (!path) return NULL;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') path[--n] = 0;
    if (n > 5 && strcmp(path + n - 5, ".gguf") == 0) path[n - 5] = 0;
    char *name = (char *)lt_path_name(path);
    if (strcmp(name, "model") == 0 && name > path + 1) { /* DIR/model: DIR says more */
        name[-1] = 0;
        name = (char *)lt_path_name(path);
    }
    char *id = lt_strdup(*name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 ? name : "model");
    lt_free(path);
    return id;
}

/* ---- files of the parent ---- */
static bool is_companion(const char *name) {
    static const char *const starts[] = { "tokenizer",    "vocab",
                                          "merges",       "special_tokens_map",
                                          "added_tokens", "chat_template",
                                          "spiece",       "sentencepiece",
                                          "LICENSE",      "LICENCE",
                                          "NOTICE",       "COPYING",
                                          "USE_POLICY",   "generation_config.json" };
    for (size_t i = 0; i < LT_COUNTOF(starts); i++)
        if (strncmp(name, starts[i], strlen(starts[i])) == 0) return true;
    return false;
}

/* What is there already was written with the model. Folders are not followed. */
static lt_status copy_one(const char *from_folder, const char *name, const char *to_folder, lt_err *err) {
    char *from = lt_path_join(from_folder, name), *to = lt_path_join(to_folder, name);
    lt_status st = from && to ? LT_OK : no_memory(name, err);
    if (st == LT_OK && !lt_path_is_dir(from) && !lt_path_exists(to)) st = lt_copy_file(from, to, err);
    lt_free(from);
    lt_free(to);
    return st;
}

lt_status lt_companions_copy(const lt_lineage *l, const char *folder, lt_err *err) {
    char **names;
    size_t n;
    if (lt_model_is_gguf(l->parent))
        return l->tokenizer ? lt_tokenizer_save_gguf(lt_model_gguf(l->parent), folder, err) : LT_OK;
    LT_TRY(lt_list_dir(&names, &n, l->parent->path, err));
    lt_status st = LT_OK;
    for (size_t i = 0; i < n; i++) {
        if (st == LT_OK && is_companion(names[i])) st = copy_one(l->parent->path, names[i], folder, err);
        lt_free(names[i]);
    }
    lt_free(names);
    return st;
}

/* ---- lathe.json ---- */
char *lt_manifest_path(const lt_model *m) {
    if (!lt_model_is_gguf(m)) return lt_path_join(m->path, LT_MANIFEST_NAME);
    if (strcmp(lt_path_name(m->path), "model.gguf") != 0) return NULL;
    char *folder = lt_path_folder(m->path), *path = folder ? lt_path_join(folder, LT_MANIFEST_NAME) : NULL;
    lt_free(folder);
    return path;
}

/* "rank model.layers.0.mlp.up_proj: rank 120, metric input, ..." */
static json_t *cut_in_words(const lt_cut *cut) {
    char *text = NULL;
    size_t n = 0;
    const char *key;
    json_t *v;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    fprintf(f, "%s %s:", cut->kind->kind, cut->kind->target(cut));
    const char *comma = "";
    json_object_foreach(cut->json, key, v) {
        if (strcmp(key, "kind") == 0 ||
            (json_is_string(v) && strcmp(json_string_value(v), cut->kind->target(cut)) == 0))
            continue;
        char *value = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6));
        fprintf(f, "%s %s %s", comma, key, value ? value : "?");
        free(value);
        comma = ",";
    }
    json_t *words = fclose(f) == 0 ? json_string(text) : NULL;
    free(text);
    return words;
}

static json_t *cuts_in_words(const lt_plan *p) {
    json_t *list = json_array();
    for (size_t i = 0; p && list && i < p->n_cuts; i++)
        if (json_array_append_new(list, cut_in_words(&p->cuts[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static json_t *size_json(const lt_model *m, const char *hash) {
    return json_pack("{s:s, s:I, s:I, s:I}", "hash", hash, "params", (json_int_t)lt_model_n_params(m), "linear_params",
                     (json_int_t)lt_model_n_linear_params(m), "bytes", (json_int_t)lt_model_bytes(m));
}

/* What the parent says of its own parent, when lathe wrote it. NULL: nothing. */
static json_t *grandparent(const lt_model *parent) {
    char *path = lt_manifest_path(parent);
    json_t *j = path ? json_load_file(path, 0, NULL) : NULL, *its = json_incref(json_object_get(j, "parent"));
    json_decref(j);
    lt_free(path);
    return its;
}

static json_t *stats_json(const lt_stats *s) {
    static const char *const keys[] = { "tokens_hash", "tokenizer_hash", "recipe", "source" };
    if (!s) return json_null();
    json_t *o = json_pack("{s:s}", "hash", lt_stats_hash(s));
    for (size_t i = 0; i < LT_COUNTOF(keys); i++)
        if (lt_stats_meta(s, keys[i])) json_object_set_new(o, keys[i], json_string(lt_stats_meta(s, keys[i])));
    const char *settings = lt_stats_meta(s, "settings");
    json_t *parsed = settings ? json_loads(settings, 0, NULL) : NULL;
    if (parsed) json_object_set_new(o, "settings", parsed);
    return o;
}

lt_status lt_manifest_write(const lt_lineage *l, const lt_model *made, const char *made_hash, const char *folder,
                            lt_err *err) {
    char *id = lt_model_id(l->parent), *path = lt_path_join(folder, LT_MANIFEST_NAME);
    json_t *parent = size_json(l->parent, l->parent_hash), *own = size_json(made, made_hash);
    json_t *made_by = l->plan ? json_object_get(l->plan->head, "made_by") : NULL;
    json_t *j = NULL, *older = grandparent(l->parent);
    if (older) json_object_set_new(parent, "parent", older);
    if (l->adapter) json_object_set(parent, "adapter", l->adapter);
    if (id && path && parent && own && json_object_set_new(parent, "id", json_string(id)) == 0)
        j = json_pack("{s:s, s:{s:s, s:s}, s:s, s:s, s:O, s:O, s:s?, s:o, s:O, s:o?, s:o}", "format", "lathe-model/1",
                      "tool", "name", "lathe", "version", lt_version(), "verb", l->c->verb, "form", l->form, "model",
                      own, "parent", parent, "plan_hash", l->plan_hash, "stats", stats_json(l->stats), "settings",
                      (json_t *)l->settings, "made_by", made_by ? json_incref(made_by) : NULL, "cuts",
                      cuts_in_words(l->plan));
    if (j && l->training) json_object_set(j, "training", (json_t *)l->training);
    const lt_status st = j ? lt_json_save(j, path, err) : no_memory(LT_MANIFEST_NAME, err);
    json_decref(j);
    json_decref(parent);
    json_decref(own);
    lt_free(path);
    lt_free(id);
    return st;
}

/* ---- README.md ---- */
/* A number or text of a table cell; jansson writes numbers the same way in every locale. */
static void put_value(FILE *f, const json_t *v) {
    if (json_is_string(v)) {
        fputs(json_string_value(v), f);
        return;
    }
    char *text = v && !json_is_null(v) ? json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)) : NULL;
    fputs(text ? text : "", f);
    free(text);
}

static void put_sizes(FILE *f, const lt_lineage *l, const lt_model *made) {
    fprintf(f, "| | parent | this model |\n|---|---|---|\n");
    fprintf(f, "| parameters | %zu | %zu |\n", lt_model_n_params(l->parent), lt_model_n_params(made));
    fprintf(f, "| of them in linears of the layers | %zu | %zu |\n", lt_model_n_linear_params(l->parent),
            lt_model_n_linear_params(made));
    fprintf(f, "| bytes of weights | %zu | %zu |\n", lt_model_bytes(l->parent), lt_model_bytes(made));
}

static void put_measured(FILE *f, const json_t *measured) {
    size_t i, k;
    json_t *row, *v;
    json_array_foreach(measured, i, row) {
        json_array_foreach(row, k, v) {
            fputs("| ", f);
            put_value(f, v);
            fputc(' ', f);
        }
        fputs("|\n", f);
    }
}

static void put_options(FILE *f, const lt_lineage *l) {
    const char *key;
    json_t *v;
    fprintf(f, "`lathe %s` %s", l->c->verb, lt_version());
    const char *before = " with ";
    json_object_foreach((json_t *)lt_args_json(l->c->args), key, v) {
        if (!json_object_get(l->settings, key) || !lt_arg_given(l->c->args, key)) continue; /* paths are not told */
        fprintf(f, "%s`--%s ", before, key);
        put_value(f, v);
        fputs("`", f);
        before = ", ";
    }
    fputs(".\n", f);
}

static void put_method(FILE *f, const lt_lineage *l) {
    size_t i;
    json_t *by;
    if (!l->plan) return;
    fprintf(f, "\n%zu cuts, each listed in `%s`. Made by:\n\n", l->plan->n_cuts, LT_MANIFEST_NAME);
    json_array_foreach(json_object_get(l->plan->head, "made_by"), i, by) {
        fputs("    ", f);
        put_value(f, by);
        fputc('\n', f);
    }
}

/* "- steps: 120" for each thing told; nested ones as JSON */
static void put_training(FILE *f, const lt_lineage *l) {
    const char *key;
    json_t *v;
    if (!l->training) return;
    fprintf(f, "\nTrained on from %s:\n\n", l->plan ? "what the cuts left" : "the parent");
    json_object_foreach((json_t *)l->training, key, v) {
        fprintf(f, "- %s: ", key);
        put_value(f, v);
        fputc('\n', f);
    }
}

static bool is_factored(const lt_model *m) {
    lt_module mod;
    for (size_t i = 0; lt_model_module(m, i, &mod); i++)
        if (mod.linear->n_stages > 1) return true;
    return false;
}

static void put_loading(FILE *f, const lt_model *made) {
    fputs("\n## Loading\n\n", f);
    if (lt_model_is_gguf(made)) {
        fputs("`model.gguf` is for llama.cpp and what stands on it; lathe opens it too.\n", f);
        return;
    }
    if (!is_factored(made)) {
        fputs("A stock Hugging Face folder: every loader of this architecture opens it.\n", f);
        return;
    }
    fputs(
        "Factored linears y = A(Bx) + b are stored as two plain ones, `<module>.BLinear.weight` and "
        "`<module>.ALinear.weight`; `config.json`\n"
        "names them under `low_rank_modules`. lathe opens this folder, and so does transformers with "
        "`trust_remote_code=True`: the\n"
        "classes are in `modeling_lowrank.py`. For other loaders,\n"
        "`lathe export THIS --to hf-dense -o DIR` multiplies the factors out: the same function, without the saving.\n",
        f);
}

static void put_card(FILE *f, const lt_lineage *l, const lt_model *made, const char *id, const json_t *measured) {
    fprintf(f, "---\ntags:\n- lathe\n---\n\n# %s, %s by lathe\n\n", id,
            l->plan       ? "compressed"
            : l->training ? "trained"
            : l->adapter  ? "merged"
                          : "exported");
    json_t *older = grandparent(l->parent);
    fprintf(f, "Parent: %s (hash `%.16s`)", id, l->parent_hash);
    if (json_is_string(json_object_get(older, "id")))
        fprintf(f, ", itself made from %s", json_string_value(json_object_get(older, "id")));
    json_decref(older);
    if (l->adapter)
        fprintf(f, ", with the adapter %s (hash `%.16s`) merged", json_string_value(json_object_get(l->adapter, "id")),
                json_string_value(json_object_get(l->adapter, "hash")));
    fputs(".\n\n", f);
    put_sizes(f, l, made);
    put_measured(f, measured);
    fputs("\nMade by ", f);
    put_options(f, l);
    put_method(f, l);
    put_training(f, l);
    if (l->stats && lt_stats_meta(l->stats, "source"))
        fprintf(f, "\nStatistics from `%s` (hash `%.16s`).\n", lt_stats_meta(l->stats, "source"),
                lt_stats_hash(l->stats));
    put_loading(f, made);
    fputs("\nThe parent's licence and terms apply to this model too.\n", f);
}

lt_status lt_card_write(const lt_lineage *l, const lt_model *made, const json_t *measured, const char *folder,
                        lt_err *err) {
    char *id = lt_model_id(l->parent), *path = lt_path_join(folder, "README.md"), *text = NULL;
    size_t n = 0;
    FILE *f = id && path ? open_memstream(&text, &n) : NULL;
    if (f) put_card(f, l, made, id, measured);
    const bool whole = f && !ferror(f);
    lt_status st = f && fclose(f) == 0 && whole ? LT_OK : no_memory("README.md", err);
    if (st == LT_OK) st = lt_file_write(path, text, n, err);
    free(text);
    lt_free(path);
    lt_free(id);
    return st;
}
