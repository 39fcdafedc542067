/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.json and merges.txt to the tree of the tokenizer.json that transformers makes of them.
 * Source: behaviour of transformers 4.57 (GPT2Converter and Qwen2Converter, the loading of added tokens). */
#include "tokenizer/stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "tokenizer/utf8.h"

/* ---- what the files do not say: it is known by the tokenizer's class ---- */

typedef struct class_row {
    const char *name;       /* without "Fast" */
    const char *model_type; /* of config.json, where no class is named; between spaces */
    const char *defaults;   /* of special tokens */
    const char *normalizer, *pre_tokenizer;
    bool add_bos;     /* "add_bos_token" counts */
    bool needs_first; /* the first line of merges.txt is dropped, whatever it says */
} class_row;

#define ENDOFTEXT "\"<|endoftext|>\""
static const class_row classes[] = {
    { "GPT2Tokenizer", " gpt2 opt ",
      "{\"bos_token\":" ENDOFTEXT ",\"eos_token\":" ENDOFTEXT ",\"unk_token\":" ENDOFTEXT "}", "null",
      "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}", true, true },
    { "Qwen2Tokenizer", " qwen2 qwen3 ",
      "{\"eos_token\":" ENDOFTEXT ",\"unk_token\":" ENDOFTEXT ",\"pad_token\":" ENDOFTEXT "}", "{\"type\":\"NFC\"}",
      "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
      "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+"
      "[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},"
      "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}]}",
      false, false },
};

typedef struct noted {
    int64_t id;
    json_t *token;
} noted;

typedef struct build {
    const char *where;
    const class_row *row;
    const json_t *vocab, *config;
    json_t *names; /* special tokens by their role */
    json_t *root;
    noted *added;
    size_t n, cap;
    lt_err *err;
} build;

static lt_status no_memory(const build *b) {
    return lt_fail(b->err, LT_ENOMEM, "no memory for a tokenizer (%s)", b->where);
}

/* ---- merges.txt: "#version" and a merge a line ---- */

static lt_status put_line(json_t *merges, const char *s, size_t n, size_t number, const char *where, lt_err *err) {
    uint32_t cp;
    int bytes;
    for (size_t at = 0; at < n; at += (size_t)bytes)
        if ((bytes = lt_utf8_read(s + at, n - at, &cp)) < 0)
            return lt_fail(err, LT_EDATA, "not UTF-8 (%s: line %zu)", where, number);
    const char *blank = memchr(s, ' ', n);
    const size_t left = blank ? (size_t)(blank - s) : n;
    if (left == 0 || left + 1 >= n || memchr(blank + 1, ' ', n - left - 1))
        return lt_fail(err, LT_EDATA, "merge is not two tokens (%s: line %zu: \"%.*s\")", where, number,
                       (int)lt_min_size(n, 80), s);
    return json_array_append_new(merges, json_pack("[s%, s%]", s, left, blank + 1, n - left - 1)) == 0
               ? LT_OK
               : lt_fail(err, LT_ENOMEM, "no memory for merges (%s)", where);
}

static lt_status put_lines(json_t *merges, const char *text, size_t bytes, const char *where, lt_err *err) {
    size_t number = 0;
    for (const char *s = text, *stop = text + bytes; s < stop; number++) {
        const char *end = memchr(s, '\n', (size_t)(stop - s));
        size_t n = (size_t)((end ? end : stop) - s);
        const char *next = s + n + (end != NULL);
        if (n > 0 && s[n - 1] == '\r') n--;
        const bool header = number == 0 && n >= 8 && memcmp(s, "#version", 8) == 0;
        if (n > 0 && !header) LT_TRY(put_line(merges, s, n, number + 1, where, err));
        s = next;
    }
    return LT_OK;
}

lt_status lt_tok_merges_parse(json_t **out, const char *text, size_t bytes, const char *where, lt_err *err) {
    json_t *merges = json_array();
    if (!merges) return lt_fail(err, LT_ENOMEM, "no memory for merges (%s)", where);
    const lt_status st = put_lines(merges, text, bytes, where, err);
    if (st == LT_OK)
        *out = merges;
    else
        json_decref(merges);
    return st;
}

/* transformers would lose a merge of a file without the line before the first or the end of the last. */
static lt_status whole_merges(const class_row *row, const char *text, size_t bytes, const char *where, lt_err *err) {
    if (!row->needs_first) return LT_OK;
    if (bytes < 8 || memcmp(text, "#version", 8) != 0)
        return lt_fail(err, LT_EUNSUPPORTED, "first line is not \"#version\"; readers differ on what it is then (%s)",
                       where);
    return text[bytes - 1] == '\n'
               ? LT_OK
               : lt_fail(err, LT_EUNSUPPORTED, "last line has no end; readers differ on whether it counts (%s)", where);
}

static lt_status load_merges(json_t **out, const class_row *row, const char *folder, lt_err *err) {
    char *path = lt_path_join(folder, "merges.txt"), *text;
    size_t bytes;
    if (!path) return lt_fail(err, LT_ENOMEM, "no memory for a path (%s)", folder);
    lt_status st = lt_file_read(&text, &bytes, path, 0, err);
    if (st == LT_OK) {
        st = whole_merges(row, text, bytes, path, err);
        if (st == LT_OK) st = lt_tok_merges_parse(out, text, bytes, path, err);
        lt_free(text);
    }
    lt_free(path);
    return st;
}

/* ---- added tokens ---- */

static lt_status note(build *b, int64_t id, json_t *token) {
    if (!token || json_object_set_new(token, "id", json_integer(id)) != 0) {
        json_decref(token);
        return no_memory(b);
    }
    if (b->n == b->cap) {
        const size_t cap = b->cap ? 2 * b->cap : 16;
        noted *p = lt_realloc(b->added, cap * sizeof *p);
        if (!p) {
            json_decref(token);
            return no_memory(b);
        }
        b->added = p;
        b->cap = cap;
    }
    b->added[b->n++] = (noted){ id, token };
    return LT_OK;
}

static json_t *find_noted(const build *b, const char *content) {
    for (size_t i = 0; i < b->n; i++) {
        const char *s = json_string_value(json_object_get(b->added[i].token, "content"));
        if (s && strcmp(s, content) == 0) return b->added[i].token;
    }
    return NULL;
}

/* A token with flags; what is not said about normalising follows from being special. */
static json_t *token_with(const json_t *flags, bool special) {
    json_t *token = json_deep_copy(flags);
    if (!token) return NULL;
    int failed = 0;
    if (!json_object_get(token, "normalized"))
        failed = json_object_set_new(token, "normalized", json_boolean(!special));
    if (special && !failed) failed = json_object_set_new(token, "special", json_true());
    if (!failed) return token;
    json_decref(token);
    return NULL;
}

/* "added_tokens_decoder": {"5": {"content": "<x>", ...}} of tokenizer_config.json */
static lt_status note_decoder(build *b, json_t *decoder) {
    const char *key;
    json_t *flags;
    if (!json_is_object(decoder))
        return lt_fail(b->err, LT_EDATA, "not an object (%s: added_tokens_decoder)", b->where);
    json_object_foreach(decoder, key, flags) {
        char *end;
        errno = 0;
        const long long id = strtoll(key, &end, 10);
        if (end == key || *end || errno || !json_is_object(flags))
            return lt_fail(b->err, LT_EDATA, "not an id with a token (%s: added_tokens_decoder: \"%.80s\")", b->where,
                           key);
        LT_TRY(note(b, id, token_with(flags, json_is_true(json_object_get(flags, "special")))));
    }
    return LT_OK;
}

static bool is_named(const json_t *one, const char *content) {
    const json_t *text = json_is_object(one) ? json_object_get(one, "content") : one;
    return json_is_string(text) && strcmp(json_string_value(text), content) == 0;
}

static bool is_special(const build *b, const char *content) {
    const char *role;
    json_t *value, *one;
    size_t i;
    json_object_foreach(b->names, role, value) {
        if (is_named(value, content)) return true;
        json_array_foreach(value, i, one) if (is_named(one, content)) return true;
    }
    return false;
}

/* added_tokens.json: {"<x>": 5} */
static lt_status note_list(build *b, json_t *list) {
    const char *content;
    json_t *id;
    if (list && !json_is_object(list))
        return lt_fail(b->err, LT_EDATA, "not an object (%s: added_tokens.json)", b->where);
    json_object_foreach(list, content, id) {
        const int special = is_special(b, content);
        if (!json_is_integer(id))
            return lt_fail(b->err, LT_EDATA, "token id is not an integer (%s: added_tokens.json: \"%.80s\")", b->where,
                           content);
        LT_TRY(note(b, json_integer_value(id),
                    json_pack("{s:s, s:b, s:b}", "content", content, "special", special, "normalized", !special)));
    }
    return LT_OK;
}

/* A special token, "<s>" or {"content": "<s>", ...}: one of the added ones, or of the vocabulary. */
static lt_status note_special(build *b, const char *role, const json_t *value) {
    const json_t *text = json_is_object(value) ? json_object_get(value, "content") : value;
    if (json_is_null(value)) return LT_OK;
    if (!json_is_string(text)) return lt_fail(b->err, LT_EDATA, "token without a text (%s: %s)", b->where, role);
    json_t *known = find_noted(b, json_string_value(text));
    if (known) return json_object_set_new(known, "special", json_true()) == 0 ? LT_OK : no_memory(b);
    const json_t *id = json_object_get(b->vocab, json_string_value(text));
    if (!json_is_integer(id))
        return lt_fail(b->err, LT_EUNSUPPORTED, "special token without an id (%s: %s: \"%.80s\")", b->where, role,
                       json_string_value(text));
    return note(b, json_integer_value(id),
                json_is_object(value) ? token_with(value, true)
                                      : json_pack("{s:O, s:b, s:b}", "content", text, "special", 1, "normalized", 0));
}

static lt_status note_specials(build *b) {
    const char *role;
    json_t *value, *one;
    size_t i;
    json_object_foreach(b->names, role, value) {
        if (!json_is_array(value)) LT_TRY(note_special(b, role, value));
        json_array_foreach(value, i, one) LT_TRY(note_special(b, role, one));
    }
    return LT_OK;
}

static int by_id(const void *pa, const void *pb) {
    const noted *a = pa, *b = pb;
    return (a->id > b->id) - (a->id < b->id);
}

static lt_status put_added(build *b) {
    json_t *list = json_array();
    int failed = json_object_set_new(b->root, "added_tokens", list);
    if (b->n > 1) qsort(b->added, b->n, sizeof *b->added, by_id);
    for (size_t i = 0; i < b->n && !failed; i++) failed = json_array_append(list, b->added[i].token);
    return failed ? no_memory(b) : LT_OK;
}

/* ---- special tokens by role ---- */

static lt_status take_roles(const build *b, const json_t *from) {
    static const char *const roles[] = { "bos_token", "eos_token", "unk_token",  "sep_token",
                                         "pad_token", "cls_token", "mask_token", "additional_special_tokens" };
    for (size_t i = 0; i < LT_COUNTOF(roles); i++) {
        json_t *value = json_object_get(from, roles[i]);
        if (value && json_object_set(b->names, roles[i], value) != 0) return no_memory(b);
    }
    return LT_OK;
}

/* ---- the whole ---- */

static lt_status set_text(const build *b, const char *stage, const char *text) {
    json_t *j = strcmp(text, "null") == 0 ? json_null() : NULL;
    if (!j) LT_TRY(lt_json_parse(&j, text, strlen(text), stage, b->err));
    return json_object_set_new(b->root, stage, j) == 0 ? LT_OK : no_memory(b);
}

static lt_status put_bos(const build *b) {
    bool wanted;
    LT_TRY(lt_json_bool(&wanted, b->config, "add_bos_token", false, b->where, b->err));
    if (!wanted || !b->row->add_bos) return set_text(b, "post_processor", "null");
    const json_t *bos = json_object_get(b->names, "bos_token");
    const json_t *text = json_is_object(bos) ? json_object_get(bos, "content") : bos;
    const json_t *token = json_is_string(text) ? find_noted(b, json_string_value(text)) : NULL;
    if (!token) return lt_fail(b->err, LT_EDATA, "add_bos_token without a bos_token (%s)", b->where);
    json_t *j = json_pack("{s:s, s:[{s:{s:O, s:i}}, {s:{s:s, s:i}}], s:{s:{s:O, s:[O], s:[O]}}}", "type",
                          "TemplateProcessing", "single", "SpecialToken", "id", text, "type_id", 0, "Sequence", "id",
                          "A", "type_id", 0, "special_tokens", json_string_value(text), "id", text, "ids",
                          json_object_get(token, "id"), "tokens", text);
    return j && json_object_set_new(b->root, "post_processor", j) == 0 ? LT_OK : no_memory(b);
}

/* Without one of the 256, readers differ on what becomes of its byte. */
static lt_status check_bytes(const build *b) {
    for (unsigned byte = 0; byte < 256; byte++) {
        char symbol[5] = "";
        lt_utf8_put(symbol, lt_tok_symbol((unsigned char)byte));
        if (!json_object_get(b->vocab, symbol))
            return lt_fail(b->err, LT_EUNSUPPORTED, "vocabulary without a token for byte 0x%02x (%s)", byte, b->where);
    }
    return LT_OK;
}

static lt_status put_all(build *b, json_t *merges, const lt_tok_vocab_files *f) {
    json_t *decoder = json_object_get(f->config, "added_tokens_decoder");
    json_t *model = json_pack("{s:s, s:O, s:O}", "type", "BPE", "vocab", f->vocab, "merges", merges);
    if (json_object_set_new(b->root, "model", model) != 0) return no_memory(b);
    LT_TRY(check_bytes(b));
    LT_TRY(take_roles(b, f->config));
    if (!decoder) LT_TRY(take_roles(b, f->special));
    LT_TRY(decoder ? note_decoder(b, decoder) : note_list(b, f->added));
    LT_TRY(note_specials(b));
    LT_TRY(put_added(b));
    LT_TRY(set_text(b, "normalizer", b->row->normalizer));
    LT_TRY(set_text(b, "pre_tokenizer", b->row->pre_tokenizer));
    LT_TRY(set_text(b, "decoder", "{\"type\":\"ByteLevel\"}"));
    return put_bos(b);
}

static bool same_class(const class_row *row, const char *name) {
    const size_t n = strlen(row->name);
    return strncmp(row->name, name, n) == 0 && (!name[n] || strcmp(name + n, "Fast") == 0);
}

/* A factored model is called after its family (docs/formats/model.md). */
static bool of_type(const class_row *row, const char *type) {
    static const char factored[] = "lowrank_";
    if (strncmp(type, factored, sizeof factored - 1) == 0) type += sizeof factored - 1;
    const size_t n = strlen(type);
    const char *at = n ? strstr(row->model_type, type) : NULL;
    return at && at[-1] == ' ' && at[n] == ' ';
}

static lt_status find_class(const class_row **out, const lt_tok_vocab_files *f, const char *where, lt_err *err) {
    const char *name = NULL, *type = NULL;
    LT_TRY(lt_json_string(&name, f->config, "tokenizer_class", NULL, where, err));
    if (!name) LT_TRY(lt_json_string(&name, f->model, "tokenizer_class", NULL, where, err));
    LT_TRY(lt_json_string(&type, f->model, "model_type", NULL, where, err));
    for (size_t i = 0; i < LT_COUNTOF(classes); i++) {
        *out = &classes[i];
        if (name ? same_class(*out, name) : type && of_type(*out, type)) return LT_OK;
    }
    return lt_fail(err, LT_EUNSUPPORTED, "tokenizer class unknown, known are GPT2Tokenizer, Qwen2Tokenizer (%s: %.80s)",
                   where, name ? name : "none named");
}

lt_status lt_tok_vocab_tree(json_t **root, json_t **names, const lt_tok_vocab_files *f, const char *folder,
                            const char *where, lt_err *err) {
    build b = { .where = where, .vocab = f->vocab, .config = f->config, .err = err };
    json_t *merges = NULL;
    if (!json_is_object(f->vocab)) return lt_fail(err, LT_EDATA, "not a JSON object (%s)", where);
    LT_TRY(find_class(&b.row, f, where, err));
    lt_status st = load_merges(&merges, b.row, folder, err);
    b.root = json_object();
    if (st == LT_OK) st = lt_json_parse(&b.names, b.row->defaults, strlen(b.row->defaults), "defaults", err);
    if (st == LT_OK) st = b.root ? put_all(&b, merges, f) : no_memory(&b);
    for (size_t i = 0; i < b.n; i++) json_decref(b.added[i].token);
    lt_free(b.added);
    json_decref(merges);
    if (st == LT_OK) {
        *root = b.root;
        *names = b.names;
        return LT_OK;
    }
    json_decref(b.root);
    json_decref(b.names);
    return st;
}
