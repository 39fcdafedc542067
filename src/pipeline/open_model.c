/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/open_model.h"

#include <string.h>

#include "hub/hub.h"
#include "io/file.h"
#include "model/spill.h"

static bool has_suffix(const char *text, const char *suffix) {
    const size_t n = strlen(text), m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

/* *there: whether folder/name exists */
static lt_status holds(bool *there, const char *folder, const char *name, lt_err *err) {
    char *path = lt_path_join(folder, name);
    if (!path) return lt_fail(err, LT_ENOMEM, "%s: out of memory", folder);
    *there = lt_path_exists(path);
    lt_free(path);
    return LT_OK;
}

static lt_status folder_tokenizer(lt_tokenizer **out, const char *folder, lt_err *err) {
    bool there;
    *out = NULL;
    LT_TRY(lt_tokenizer_there(&there, folder, err));
    return there ? lt_tokenizer_open(out, folder, err) : LT_OK;
}

static lt_status gguf_tokenizer(lt_tokenizer **out, const lt_gguf *g, lt_err *err) {
    *out = NULL;
    return lt_gguf_has(g, "tokenizer.ggml.tokens") ? lt_tokenizer_from_gguf(out, g, err) : LT_OK;
}

lt_status lt_model_tokenizer(lt_tokenizer **out, const lt_model *m, lt_err *err) {
    return lt_model_is_gguf(m) ? gguf_tokenizer(out, lt_model_gguf(m), err) : folder_tokenizer(out, m->path, err);
}

lt_status lt_open_model(lt_opened *out, const char *name, lt_with_tokenizer with, lt_err *err) {
    char *path;
    *out = (lt_opened){ 0 };
    LT_TRY(lt_hub_find(&path, name, err));
    lt_status st = lt_model_open(&out->model, path, err);
    lt_free(path);
    if (st == LT_OK && with != LT_TOKENIZER_NO) st = lt_model_tokenizer(&out->tokenizer, out->model, err);
    if (st == LT_OK && with == LT_TOKENIZER_NEEDED && !out->tokenizer)
        st = lt_fail(err, LT_EDATA, "%s: the model has no tokenizer (tokenizer.json, or vocab.json and merges.txt)",
                     out->model->path);
    if (st != LT_OK) lt_opened_clear(out);
    return st;
}

lt_status lt_merge_within(const lt_call_ctx *c, lt_adapters *a, lt_err *err) {
    if (!c->ctx->max_memory) return LT_OK;
    char *folder = lt_spill_folder(c->ctx, NULL);
    const lt_status st = folder ? lt_adapters_spill(a, lt_spill_limit(c->ctx), folder, err)
                                : lt_fail(err, LT_ENOMEM, "%s: out of memory", c->verb);
    lt_free(folder);
    return st;
}

static lt_status adapt(lt_opened *o, const lt_call_ctx *c, const char *folder, lt_adapt how, lt_err *err) {
    LT_TRY(lt_adapters_open(&o->adapters, o->model, folder, err));
    if (how != LT_ADAPT_MERGE) return LT_OK;
    LT_TRY(lt_merge_within(c, o->adapters, err));
    return lt_adapters_merge(o->adapters, LT_N_DTYPES, c->team, err);
}

lt_status lt_opened_adapt(lt_opened *o, const lt_call_ctx *c, lt_adapt how, lt_err *err) {
    const char *folder = how == LT_ADAPT_NO ? NULL : lt_arg_string(c->args, "adapter");
    const lt_status st = folder ? adapt(o, c, folder, how, err) : LT_OK;
    if (st != LT_OK) lt_opened_clear(o);
    return st;
}

void lt_opened_clear(lt_opened *o) {
    lt_adapters_destroy(o->adapters);
    lt_tokenizer_destroy(o->tokenizer);
    lt_model_destroy(o->model);
    *o = (lt_opened){ 0 };
}

static lt_status tokenizer_of_gguf(lt_tokenizer **out, const char *path, lt_err *err) {
    lt_gguf *g;
    LT_TRY(lt_gguf_open(&g, path, err));
    const lt_status st = gguf_tokenizer(out, g, err);
    lt_gguf_close(g);
    return st;
}

static lt_status tokenizer_of_json(lt_tokenizer **out, const char *path, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(lt_file_read(&text, &bytes, path, 0, err));
    const lt_status st = lt_tokenizer_from_json(out, text, bytes, path, err);
    lt_free(text);
    return st;
}

/* A folder: itself, then what an output folder may hold. */
static lt_status tokenizer_of_folder(lt_tokenizer **out, const char *path, lt_err *err) {
    LT_TRY(folder_tokenizer(out, path, err));
    if (*out) return LT_OK;
    char *model = lt_path_join(path, "model"), *gguf = lt_path_join(path, "model.gguf");
    lt_status st = model && gguf ? LT_OK : lt_fail(err, LT_ENOMEM, "%s: out of memory", path);
    if (st == LT_OK && lt_path_is_dir(model)) st = folder_tokenizer(out, model, err);
    if (st == LT_OK && !*out && lt_path_exists(gguf)) st = tokenizer_of_gguf(out, gguf, err);
    lt_free(model);
    lt_free(gguf);
    return st;
}

lt_status lt_open_tokenizer(lt_tokenizer **out, const char *name, lt_err *err) {
    char *path;
    *out = NULL;
    LT_TRY(lt_hub_find(&path, name, err));
    lt_status st = lt_path_is_dir(path)        ? tokenizer_of_folder(out, path, err)
                   : has_suffix(path, ".json") ? tokenizer_of_json(out, path, err)
                                               : tokenizer_of_gguf(out, path, err);
    lt_free(path);
    if (st != LT_OK || *out) return st;
    return lt_fail(
        err, LT_EDATA,
        "%s: no tokenizer there (looked for tokenizer.json, vocab.json with merges.txt, and a GGUF's tokens)", name);
}

/* ---- chat templates ---- */

lt_status lt_model_chat(lt_chat **out, const lt_model *m, const lt_tokenizer *tok, const char *file, lt_err *err) {
    return lt_model_is_gguf(m) ? lt_chat_from_gguf(out, lt_model_gguf(m), tok, file, err)
                               : lt_chat_open(out, m->path, tok, file, err);
}

static lt_status chat_of_gguf(lt_chat **out, const char *path, const lt_tokenizer *tok, const char *file, lt_err *err) {
    lt_gguf *g;
    LT_TRY(lt_gguf_open(&g, path, err));
    const lt_status st = lt_chat_from_gguf(out, g, tok, file, err);
    lt_gguf_close(g);
    return st;
}

/* The folder that a tokenizer.json named by path lies in. */
static lt_status chat_beside(lt_chat **out, const char *path, const lt_tokenizer *tok, const char *file, lt_err *err) {
    const size_t n = (size_t)(lt_path_name(path) - path);
    char *folder = n ? lt_asprintf("%.*s", (int)n, path) : lt_strdup(".");
    if (!folder) return lt_fail(err, LT_ENOMEM, "%s: out of memory", path);
    const lt_status st = lt_chat_open(out, folder, tok, file, err);
    lt_free(folder);
    return st;
}

static lt_status chat_of_folder(lt_chat **out, const char *path, const lt_tokenizer *tok, const char *file,
                                lt_err *err) {
    bool there, below, gguf;
    LT_TRY(lt_tokenizer_there(&there, path, err));
    LT_TRY(holds(&below, path, "model/tokenizer.json", err));
    LT_TRY(holds(&gguf, path, "model.gguf", err));
    if (there || (!below && !gguf)) return lt_chat_open(out, path, tok, file, err);
    char *inner = lt_path_join(path, below ? "model" : "model.gguf");
    if (!inner) return lt_fail(err, LT_ENOMEM, "%s: out of memory", path);
    const lt_status st = below ? lt_chat_open(out, inner, tok, file, err) : chat_of_gguf(out, inner, tok, file, err);
    lt_free(inner);
    return st;
}

lt_status lt_open_chat(lt_chat **out, const char *name, const lt_tokenizer *tok, const char *file, lt_err *err) {
    char *path;
    LT_TRY(lt_hub_find(&path, name, err));
    const lt_status st = lt_path_is_dir(path)        ? chat_of_folder(out, path, tok, file, err)
                         : has_suffix(path, ".json") ? chat_beside(out, path, tok, file, err)
                                                     : chat_of_gguf(out, path, tok, file, err);
    lt_free(path);
    return st;
}

lt_status lt_need_memory(const lt_call_ctx *c, size_t bytes, lt_err *err) {
    const size_t limit = c->ctx->max_memory;
    if (limit == 0 || bytes <= limit) return LT_OK;
    return lt_fail(err, LT_ENOMEM, "%s: needs about %zu MiB of memory, %zu MiB more than --max-memory allows", c->verb,
                   bytes >> 20, (bytes - limit + ((size_t)1 << 20) - 1) >> 20);
}
