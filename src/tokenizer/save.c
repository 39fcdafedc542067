/* SPDX-License-Identifier: Apache-2.0 */
/* The tree that the reader makes of a GGUF holds what decides ids; here it gets every member that the `tokenizers`
 * library insists on. Source: serialisation of tokenizers 0.22 (tokenizer.json written by it), tokenizer_config.json of
 * transformers 4.57. */
#include "tokenizer/save.h"

#include <string.h>

#include "io/file.h"
#include "io/gguf.h"
#include "tokenizer/complete.h"
#include "tokenizer/stage.h"

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "no memory for the tokenizer");
}

static lt_status complete_added(json_t *list, lt_err *err) {
    for (size_t i = 0; i < json_array_size(list); i++)
        LT_TRY(lt_tokenizer_complete(
            json_array_get(list, i),
            "{\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":false}", err));
    return LT_OK;
}

/* ---- the post-processor: the library names special tokens by their text ---- */
static const char *token_text(const lt_gguf *g, int32_t id) {
    size_t bytes;
    return id >= 0 ? lt_gguf_array_string(g, "tokenizer.ggml.tokens", (size_t)id, &bytes) : NULL;
}

static json_t *sequence(const char *name, int type_id) {
    return json_pack("{s:{s:s, s:i}}", "Sequence", "id", name, "type_id", type_id);
}

static json_t *special(const char *text, int type_id) {
    return json_pack("{s:{s:s, s:i}}", "SpecialToken", "id", text, "type_id", type_id);
}

/* front A back, or front A back front B back */
static json_t *template_of(const char *front, const char *back, bool pair) {
    json_t *list = json_array();
    int failed = list == NULL;
    for (int i = 0; i < (pair ? 2 : 1); i++) {
        if (front) failed |= json_array_append_new(list, special(front, i));
        failed |= json_array_append_new(list, sequence(i ? "B" : "A", i));
        if (back) failed |= json_array_append_new(list, special(back, i));
    }
    if (!failed) return list;
    json_decref(list);
    return NULL;
}

static int name_special(json_t *names, const char *text, int32_t id) {
    return text ? json_object_set_new(names, text,
                                      json_pack("{s:s, s:[i], s:[s]}", "id", text, "ids", (int)id, "tokens", text))
                : 0;
}

static bool template_has(const json_t *single, const char *which) {
    size_t i;
    json_t *piece;
    json_array_foreach(single, i, piece) {
        const char *id = json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));
        if (id && strcmp(id, which) == 0) return true;
    }
    return false;
}

static lt_status complete_template(json_t *root, const lt_gguf *g, int32_t bos, int32_t eos, lt_err *err) {
    const json_t *single = json_object_get(json_object_get(root, "post_processor"), "single");
    const char *front = template_has(single, "bos") ? token_text(g, bos) : NULL;
    const char *back = template_has(single, "eos") ? token_text(g, eos) : NULL;
    json_t *names = json_object(), *p = json_null();
    int failed = names == NULL || name_special(names, front, bos) || name_special(names, back, eos);
    if (!failed && (front || back))
        p = json_pack("{s:s, s:o, s:o, s:O}", "type", "TemplateProcessing", "single", template_of(front, back, false),
                      "pair", template_of(front, back, true), "special_tokens", names);
    failed |= json_object_set_new(root, "post_processor", p) != 0;
    json_decref(names);
    return failed ? no_memory(err) : LT_OK;
}

static lt_status complete_root(json_t *root, const lt_gguf *g, int32_t bos, int32_t eos, lt_err *err) {
    static const char *const stages[] = { "normalizer", "pre_tokenizer", "decoder", "model" };
    LT_TRY(lt_tokenizer_complete(
        root,
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"normalizer\":null,\"pre_tokenizer\":"
        "null,\"decoder\":null}",
        err));
    LT_TRY(complete_added(json_object_get(root, "added_tokens"), err));
    for (size_t i = 0; i < LT_COUNTOF(stages); i++)
        LT_TRY(lt_tokenizer_complete_part(json_object_get(root, stages[i]), err));
    return complete_template(root, g, bos, eos, err);
}

/* ---- tokenizer_config.json ---- */
static int set_token(json_t *o, const char *member, const lt_gguf *g, const char *key) {
    uint64_t id;
    lt_gguf_type type;
    size_t n;
    if (!lt_gguf_u64(g, key, &id) || !lt_gguf_array(g, "tokenizer.ggml.tokens", &type, &n) || id >= n) return 0;
    return json_object_set_new(o, member, json_string(token_text(g, (int32_t)id)));
}

static json_t *make_config(const lt_gguf *g) {
    json_t *o =
        json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "clean_up_tokenization_spaces", 0);
    int failed = o == NULL;
    failed = failed || set_token(o, "bos_token", g, "tokenizer.ggml.bos_token_id") ||
             set_token(o, "eos_token", g, "tokenizer.ggml.eos_token_id") ||
             set_token(o, "unk_token", g, "tokenizer.ggml.unknown_token_id") ||
             set_token(o, "pad_token", g, "tokenizer.ggml.padding_token_id");
    size_t bytes;
    const char *chat = lt_gguf_string(g, "tokenizer.chat_template", &bytes);
    if (!failed && chat) failed = json_object_set_new(o, "chat_template", json_stringn(chat, bytes)) != 0;
    if (!failed) return o;
    json_decref(o);
    return NULL;
}

static lt_status save_in(const json_t *j, const char *folder, const char *name, lt_err *err) {
    char *path = lt_path_join(folder, name);
    const lt_status st = path && j ? lt_json_save(j, path, err) : no_memory(err);
    lt_free(path);
    return st;
}

lt_status lt_tokenizer_save_gguf(const lt_gguf *g, const char *folder, lt_err *err) {
    json_t *root;
    int32_t bos, eos;
    LT_TRY(lt_tokenizer_gguf_tree(&root, &bos, &eos, g, err));
    json_t *config = make_config(g);
    lt_status st = complete_root(root, g, bos, eos, err);
    if (st == LT_OK) st = save_in(root, folder, "tokenizer.json", err);
    if (st == LT_OK) st = save_in(config, folder, "tokenizer_config.json", err);
    json_decref(config);
    json_decref(root);
    return st;
}
