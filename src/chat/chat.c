/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/chat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chat/jinja_ast.h"
#include "io/file.h"
#include "io/gguf.h"

#define MOST_TEMPLATE ((size_t)1 << 20) /* bytes; real ones have less than 20,000 */

typedef struct variant {
    lt_arena *arena; /* holds the tree */
    const lt_jnode *tree;
} variant;

struct lt_chat {
    char *where;
    variant plain, tools; /* tools: for rows that bring some; may be absent */
    json_t *tokens;
};

void lt_chat_destroy(lt_chat *c) {
    if (!c) return;
    lt_arena_destroy(c->plain.arena);
    lt_arena_destroy(c->tools.arena);
    json_decref(c->tokens);
    lt_free(c->where);
    lt_free(c);
}

/* ---- opening ---- */

static lt_status check_utf8(const char *text, size_t bytes, const char *where, lt_err *err) {
    for (size_t at = 0; at < bytes;) {
        const size_t n = lt_utf8_step(text + at, bytes - at);
        if (n == 0) return lt_fail(err, LT_EDATA, "chat template is not UTF-8 (%s: byte %zu)", where, at);
        at += n;
    }
    return LT_OK;
}

static lt_status compile(variant *v, const char *text, size_t bytes, const char *where, lt_err *err) {
    lt_jctx c = { .err = err, .where = where, .line = 1 };
    if (bytes > MOST_TEMPLATE)
        return lt_fail(err, LT_EUNSUPPORTED, "chat template of more than %zu KiB (%s)", MOST_TEMPLATE >> 10, where);
    LT_TRY(check_utf8(text, bytes, where, err));
    v->arena = c.arena = lt_arena_create(64 * 1024);
    if (!v->arena) return lt_fail(err, LT_ENOMEM, "no memory for a chat template (%s)", where);
    return lt_j_parse(&c, text, bytes, &v->tree);
}

static lt_status create(lt_chat **out, const char *where, const json_t *tokens, lt_err *err) {
    lt_chat *c = lt_calloc(1, sizeof *c);
    if (c) {
        c->where = lt_strdup(where);
        c->tokens = tokens ? json_deep_copy(tokens) : json_object();
    }
    if (c && c->where && c->tokens) {
        *out = c;
        return LT_OK;
    }
    lt_chat_destroy(c);
    return lt_fail(err, LT_ENOMEM, "no memory for a chat template (%s)", where);
}

lt_status lt_chat_from_text(lt_chat **out, const char *text, size_t bytes, const char *where, const json_t *tokens,
                            lt_err *err) {
    lt_chat *c;
    LT_TRY(create(&c, where, tokens, err));
    const lt_status st = compile(&c->plain, text, bytes, c->where, err);
    if (st == LT_OK)
        *out = c;
    else
        lt_chat_destroy(c);
    return st;
}

static lt_status from_file(lt_chat **out, const char *path, const json_t *tokens, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(lt_file_read(&text, &bytes, path, MOST_TEMPLATE + 1, err));
    const lt_status st = lt_chat_from_text(out, text, bytes, path, tokens, err);
    lt_free(text);
    return st;
}

/* "chat_template" of tokenizer_config.json: a template, or [{"name", "template"}, ...] */
static lt_status from_member(lt_chat **out, const json_t *j, const char *where, const json_t *tokens, lt_err *err) {
    lt_chat *c = NULL;
    lt_status st = LT_OK;
    if (json_is_string(j))
        return lt_chat_from_text(out, json_string_value(j), json_string_length(j), where, tokens, err);
    if (!json_is_array(j)) return lt_fail(err, LT_EDATA, "neither a string nor a list (%s: chat_template)", where);
    LT_TRY(create(&c, where, tokens, err));
    for (size_t i = 0; i < json_array_size(j) && st == LT_OK; i++) {
        const json_t *one = json_array_get(j, i), *text = json_object_get(one, "template");
        const char *name = json_string_value(json_object_get(one, "name"));
        if (!name || !json_is_string(text))
            st = lt_fail(err, LT_EDATA, "template without a name or text (%s: chat_template[%zu])", where, i);
        variant *v = name && strcmp(name, "default") == 0 ? &c->plain : &c->tools;
        if (st != LT_OK || v->arena || (v == &c->tools && strcmp(name, "tool_use") != 0)) continue;
        st = compile(v, json_string_value(text), json_string_length(text), c->where, err);
    }
    if (st == LT_OK && !c->plain.tree)
        st = lt_fail(err, LT_EDATA, "no template named default (%s: chat_template)", where);
    if (st == LT_OK)
        *out = c;
    else
        lt_chat_destroy(c);
    return st;
}

/* ---- special tokens ---- */

static const char *const token_names[] = { "bos_token", "eos_token", "unk_token", "sep_token",
                                           "pad_token", "cls_token", "mask_token" };

/* Members of a configuration: a string, {"content": string}, or null: no such token. */
static lt_status take_tokens(json_t *tokens, const json_t *config, lt_err *err) {
    for (size_t i = 0; i < LT_COUNTOF(token_names); i++) {
        json_t *j = json_object_get(config, token_names[i]);
        if (!j || json_object_get(tokens, token_names[i])) continue;
        if (json_is_object(j)) j = json_object_get(j, "content");
        if (json_object_set(tokens, token_names[i], json_is_string(j) ? j : json_null()) != 0)
            return lt_fail(err, LT_ENOMEM, "no memory for special tokens");
    }
    return LT_OK;
}

static lt_status take_id(json_t *tokens, const char *name, const lt_tokenizer *tok, int32_t id, lt_err *err) {
    const char *text = tok && id >= 0 ? lt_tokenizer_token(tok, id) : NULL;
    if (!text || json_object_get(tokens, name)) return LT_OK;
    return json_object_set_new(tokens, name, json_string(text)) == 0
               ? LT_OK
               : lt_fail(err, LT_ENOMEM, "no memory for special tokens");
}

static lt_status take_tokenizer(json_t *tokens, const lt_tokenizer *tok, lt_err *err) {
    if (!tok) return LT_OK;
    LT_TRY(take_id(tokens, "bos_token", tok, lt_tokenizer_bos(tok), err));
    return take_id(tokens, "eos_token", tok, lt_tokenizer_eos(tok), err);
}

/* ---- a folder ---- */

static lt_status load_optional(json_t **out, const char *folder, const char *file, lt_err *err) {
    char *path = lt_path_join(folder, file);
    if (!path) return lt_fail(err, LT_ENOMEM, "no memory for a path (%s)", folder);
    const lt_status st = lt_path_exists(path) ? lt_json_load(out, path, err) : LT_OK;
    lt_free(path);
    return st;
}

typedef struct folder_files {
    json_t *config, *special, *tokens;
    char *jinja, *config_path;
} folder_files;

static lt_status read_folder(folder_files *f, const char *folder, const lt_tokenizer *tok, lt_err *err) {
    f->tokens = json_object();
    f->jinja = lt_path_join(folder, "chat_template.jinja");
    f->config_path = lt_path_join(folder, "tokenizer_config.json");
    if (!f->tokens || !f->jinja || !f->config_path) return lt_fail(err, LT_ENOMEM, "no memory for a path (%s)", folder);
    LT_TRY(load_optional(&f->config, folder, "tokenizer_config.json", err));
    LT_TRY(load_optional(&f->special, folder, "special_tokens_map.json", err));
    LT_TRY(take_tokens(f->tokens, f->config, err));
    LT_TRY(take_tokens(f->tokens, f->special, err));
    return take_tokenizer(f->tokens, tok, err);
}

static lt_status pick(lt_chat **out, const folder_files *f, const char *file, lt_err *err) {
    const json_t *member = json_object_get(f->config, "chat_template");
    if (file) return from_file(out, file, f->tokens, err);
    if (lt_path_exists(f->jinja)) return from_file(out, f->jinja, f->tokens, err);
    return member && !json_is_null(member) ? from_member(out, member, f->config_path, f->tokens, err) : LT_OK;
}

lt_status lt_chat_open(lt_chat **out, const char *folder, const lt_tokenizer *tok, const char *file, lt_err *err) {
    folder_files f = { 0 };
    *out = NULL;
    lt_status st = read_folder(&f, folder, tok, err);
    if (st == LT_OK) st = pick(out, &f, file, err);
    json_decref(f.config);
    json_decref(f.special);
    json_decref(f.tokens);
    lt_free(f.jinja);
    lt_free(f.config_path);
    return st;
}

/* ---- a GGUF ---- */

static lt_status from_metadata(lt_chat **out, const lt_gguf *g, const json_t *tokens, lt_err *err) {
    size_t n;
    const char *text = lt_gguf_string(g, "tokenizer.chat_template", &n);
    if (!text) return LT_OK;
    LT_TRY(lt_chat_from_text(out, text, n, lt_gguf_path(g), tokens, err));
    text = lt_gguf_string(g, "tokenizer.chat_template.tool_use", &n);
    const lt_status st = text ? compile(&(*out)->tools, text, n, (*out)->where, err) : LT_OK;
    if (st == LT_OK) return LT_OK;
    lt_chat_destroy(*out);
    *out = NULL;
    return st;
}

lt_status lt_chat_from_gguf(lt_chat **out, const lt_gguf *g, const lt_tokenizer *tok, const char *file, lt_err *err) {
    json_t *tokens = json_object();
    *out = NULL;
    lt_status st = tokens ? take_tokenizer(tokens, tok, err) : lt_fail(err, LT_ENOMEM, "no memory for special tokens");
    if (st == LT_OK) st = file ? from_file(out, file, tokens, err) : from_metadata(out, g, tokens, err);
    json_decref(tokens);
    return st;
}

/* ---- rendering ---- */

static lt_status set(lt_jctx *c, lt_jdict *vars, const char *name, const json_t *value) {
    lt_jv v;
    LT_TRY(lt_j_from_json(c, &v, value));
    return lt_j_put(c, vars, lt_j_text(name, strlen(name)), v);
}

static lt_status set_all(lt_jctx *c, lt_jdict *vars, const json_t *object) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value) /* the macro only reads */
        if (!json_is_null(value)) LT_TRY(set(c, vars, name, value));
    return LT_OK;
}

static lt_status variables(lt_jctx *c, const lt_chat *chat, const json_t *row, bool add_generation_prompt,
                           lt_jv *vars) {
    const json_t *messages = json_object_get(row, "messages"), *more = json_object_get(row, "chat_template_kwargs"),
                 *prompt = json_object_get(row, "add_generation_prompt");
    if (!json_is_array(messages)) return lt_fail(c->err, LT_EDATA, "\"messages\" is not a list");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (!json_is_object(json_array_get(messages, i)))
            return lt_fail(c->err, LT_EDATA, "message %zu is not an object", i);
    if (more && !json_is_object(more)) return lt_fail(c->err, LT_EDATA, "\"chat_template_kwargs\" is not an object");
    if (json_is_boolean(prompt)) add_generation_prompt = json_is_true(prompt);
    LT_TRY(lt_j_dict(c, vars, LT_J_DICT));
    LT_TRY(set_all(c, vars->dict, chat->tokens));
    if (more) LT_TRY(set_all(c, vars->dict, more));
    LT_TRY(set(c, vars->dict, "messages", messages));
    LT_TRY(set(c, vars->dict, "tools", json_object_get(row, "tools")));
    LT_TRY(set(c, vars->dict, "documents", json_object_get(row, "documents")));
    return lt_j_put(c, vars->dict, lt_j_text("add_generation_prompt", 21), lt_j_bool(add_generation_prompt));
}

static int64_t now(void) {
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    char *end;
    errno = 0;
    const long long seconds = fixed ? strtoll(fixed, &end, 10) : 0;
    return fixed && *fixed && *end == '\0' && errno == 0 ? seconds : (int64_t)time(NULL);
}

static lt_status render(const lt_chat *chat, lt_arena *arena, const json_t *row, bool add_generation_prompt,
                        lt_tok_buf *out, lt_err *err) {
    lt_jctx c = { .arena = arena, .err = err, .where = chat->where, .line = 1, .now = now() };
    const json_t *tools = json_object_get(row, "tools");
    const variant *v = chat->tools.tree && tools && !json_is_null(tools) ? &chat->tools : &chat->plain;
    lt_jv vars;
    LT_TRY(variables(&c, chat, row, add_generation_prompt, &vars));
    LT_TRY(lt_j_run(&c, v->tree, vars, out));
    return lt_tok_buf_reserve(out, 1, err);
}

lt_status lt_chat_render(const lt_chat *c, const json_t *row, bool add_generation_prompt, char **text, size_t *bytes,
                         lt_err *err) {
    lt_tok_buf out = { 0 };
    lt_arena *arena = lt_arena_create(64 * 1024);
    const lt_status st = arena ? render(c, arena, row, add_generation_prompt, &out, err)
                               : lt_fail(err, LT_ENOMEM, "no memory for a chat (%s)", c->where);
    lt_arena_destroy(arena);
    if (st != LT_OK) {
        lt_tok_buf_clear(&out);
        return st;
    }
    out.data[out.len] = '\0';
    *text = out.data;
    *bytes = out.len;
    return LT_OK;
}

lt_status lt_chat_encode(const lt_chat *c, const lt_tokenizer *tok, const json_t *row, bool add_generation_prompt,
                         int32_t **ids, size_t *n, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(lt_chat_render(c, row, add_generation_prompt, &text, &bytes, err));
    const lt_status st = lt_tokenizer_encode(tok, text, bytes, false, ids, n, err);
    lt_free(text);
    return st;
}

lt_status lt_chat_row(json_t **row, const char *system, const char *user, size_t user_bytes, lt_err *err) {
    json_t *j = json_pack("{s:[{s:s, s:s%}]}", "messages", "role", "user", "content", user, user_bytes);
    json_t *first = system ? json_pack("{s:s, s:s}", "role", "system", "content", system) : NULL;
    if (!j || (system && (!first || json_array_insert_new(json_object_get(j, "messages"), 0, first) != 0))) {
        json_decref(j);
        return lt_fail(err, LT_EDATA, "prompt or system message is not UTF-8");
    }
    *row = j;
    return LT_OK;
}
