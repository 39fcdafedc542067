/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.json to a tokenizer. ("truncation" and "padding" are not read: they concern callers who make batches.) */
#include "tokenizer/stage.h"

#include <string.h>

#include "io/file.h"

/* ---- added tokens ---- */

/* The library numbers added tokens itself: a token of the vocabulary keeps its id, a new one gets the next free id
 * behind the vocabulary. A file that says otherwise would mean different ids to different readers. */
static lt_status place_token(lt_tokenizer *t, const char *content, size_t bytes, int64_t id, int64_t next,
                             const char *where, lt_err *err) {
    const int32_t known = lt_vocab_find(&t->vocab, content, bytes);
    if (known < 0 && id == next) return lt_vocab_add(&t->vocab, id, content, bytes, 0, where, err);
    if (known >= 0 && known == id) return LT_OK;
    return lt_fail(err, LT_EDATA, "added token with an id that is not its own (%s: \"%.80s\": %lld, must be %lld)",
                   where, content, (long long)id, (long long)(known >= 0 ? known : next));
}

static lt_status added_token(lt_tokenizer *t, const json_t *j, int64_t *next, const char *where, lt_err *err) {
    const json_t *id = json_object_get(j, "id"), *content = json_object_get(j, "content");
    lt_added_token a;
    bool special;
    if (!json_is_integer(id) || !json_is_string(content))
        return lt_fail(err, LT_EDATA, "added token without id or content (%s: added_tokens)", where);
    const char *s = json_string_value(content);
    const size_t bytes = json_string_length(content);
    if (bytes == 0) return LT_OK; /* as the library does */
    LT_TRY(lt_json_bool(&a.single_word, j, "single_word", false, where, err));
    LT_TRY(lt_json_bool(&a.lstrip, j, "lstrip", false, where, err));
    LT_TRY(lt_json_bool(&a.rstrip, j, "rstrip", false, where, err));
    LT_TRY(lt_json_bool(&a.normalized, j, "normalized", true, where, err));
    LT_TRY(lt_json_bool(&special, j, "special", false, where, err));
    LT_TRY(place_token(t, s, bytes, json_integer_value(id), *next, where, err));
    a.id = (int32_t)json_integer_value(id);
    if (a.id >= *next) *next = (int64_t)a.id + 1;
    unsigned *flags = &t->vocab.entry[a.id].flags;
    if (*flags & LT_VOCAB_ADDED)
        return lt_fail(err, LT_EDATA, "added token listed twice (%s: \"%.80s\": %d)", where, s, a.id);
    *flags |= LT_VOCAB_ADDED | (special ? LT_VOCAB_SPECIAL : 0);
    return lt_added_put(&t->added, a, err);
}

static lt_status parse_added(lt_tokenizer *t, const json_t *root, const char *where, lt_err *err) {
    const json_t *list = json_object_get(root, "added_tokens");
    int64_t next = (int64_t)t->vocab.count;
    if (!list || json_is_null(list)) return LT_OK;
    if (!json_is_array(list)) return lt_fail(err, LT_EDATA, "not a list (%s: added_tokens)", where);
    for (size_t i = 0; i < json_array_size(list); i++)
        LT_TRY(added_token(t, json_array_get(list, i), &next, where, err));
    return LT_OK;
}

/* Needs the normalizer: tokens with normalized = true are looked for in normalised form. */
static lt_status index_added(lt_tokenizer *t, lt_err *err) {
    for (size_t i = 0; i < t->added.n; i++) {
        size_t bytes;
        const char *content = lt_vocab_get(&t->vocab, t->added.token[i].id, &bytes);
        lt_tok_text text;
        LT_TRY(lt_tok_text_init(&text, content, bytes, err));
        lt_status st = t->added.token[i].normalized ? lt_tok_normalize(t, &text, err) : LT_OK;
        if (st == LT_OK && text.spans.n > 0)
            st = lt_added_index(&t->added, i, text.data + text.spans.v[0].start,
                                text.spans.v[0].end - text.spans.v[0].start, err);
        lt_tok_text_clear(&text);
        LT_TRY(st);
    }
    return LT_OK;
}

/* ---- the whole ---- */

static void digest_vocab(const lt_tokenizer *t, lt_hash *digest) {
    for (size_t id = 0; id < t->vocab.size; id++) {
        const lt_vocab_entry *e = &t->vocab.entry[id];
        if (!(e->flags & LT_VOCAB_PRESENT)) continue;
        const uint32_t head[3] = { (uint32_t)id, e->bytes, e->flags };
        lt_hash_update(digest, head, sizeof head);
        lt_hash_update(digest, t->vocab.text + e->start, e->bytes);
    }
    for (size_t i = 0; i < t->added.n; i++) {
        const lt_added_token *a = &t->added.token[i];
        const unsigned char flags[4] = { a->single_word, a->lstrip, a->rstrip, a->normalized };
        lt_hash_update(digest, &a->id, sizeof a->id);
        lt_hash_update(digest, flags, sizeof flags);
    }
}

static lt_status digest_stage(lt_hash *digest, const json_t *root, const char *stage, const char *where, lt_err *err) {
    const json_t *j = json_object_get(root, stage);
    char *text = j ? lt_json_canonical(j) : lt_strdup("null");
    if (!text) return lt_fail(err, LT_ENOMEM, "no memory for the hash (%s)", where);
    lt_hash_update(digest, text, strlen(text) + 1);
    lt_free(text);
    return LT_OK;
}

static lt_status fill(lt_tokenizer *t, const json_t *root, const char *where, lt_hash *digest, lt_err *err) {
    const lt_tok_source in = { where, t };
    const lt_tok_model_row *model = NULL;
    json_t *j = NULL;
    LT_TRY(lt_json_need(&j, root, "model", where, err));
    LT_TRY(lt_tok_model_find(&model, j, where, err));
    LT_TRY(model->parse(&t->model_self, &t->vocab, j, where, digest, err));
    t->model = model;
    LT_TRY(parse_added(t, root, where, err));
    LT_TRY(lt_tok_stage_parse(&t->normalizer, &lt_tok_normalizers, json_object_get(root, "normalizer"), &in, err));
    LT_TRY(
        lt_tok_stage_parse(&t->pretokenizer, &lt_tok_pretokenizers, json_object_get(root, "pre_tokenizer"), &in, err));
    LT_TRY(lt_tok_stage_parse(&t->postprocessor, &lt_tok_postprocessors, json_object_get(root, "post_processor"), &in,
                              err));
    LT_TRY(lt_tok_stage_parse(&t->decoder, &lt_tok_decoders, json_object_get(root, "decoder"), &in, err));
    LT_TRY(index_added(t, err));
    digest_vocab(t, digest);
    LT_TRY(digest_stage(digest, root, "normalizer", where, err));
    LT_TRY(digest_stage(digest, root, "pre_tokenizer", where, err));
    return digest_stage(digest, root, "post_processor", where, err);
}

lt_status lt_tokenizer_from_tree(lt_tokenizer **out, const json_t *root, const char *where, lt_err *err) {
    if (!json_is_object(root)) return lt_fail(err, LT_EDATA, "not a JSON object (%s)", where);
    lt_tokenizer *t = lt_calloc(1, sizeof *t);
    lt_hash *digest = lt_hash_create();
    if (!t || !digest) {
        char unused[LT_HASH_HEX];
        if (digest) lt_hash_finish(digest, unused);
        lt_free(t);
        return lt_fail(err, LT_ENOMEM, "no memory for a tokenizer (%s)", where);
    }
    t->bos = t->eos = -1;
    const lt_status st = fill(t, root, where, digest, err);
    lt_hash_finish(digest, t->hash);
    if (st == LT_OK)
        *out = t;
    else
        lt_tokenizer_destroy(t);
    return st;
}

lt_status lt_tokenizer_from_json(lt_tokenizer **out, const char *text, size_t bytes, const char *name, lt_err *err) {
    json_t *root = NULL;
    LT_TRY(lt_json_parse(&root, text, bytes, name, err));
    const lt_status st = lt_tokenizer_from_tree(out, root, name, err);
    json_decref(root);
    return st;
}

/* ---- a folder ---- */

/* A file that need not be there: *out is NULL then. */
static lt_status load_optional(json_t **out, const char *folder, const char *file, lt_err *err) {
    char *path = lt_path_join(folder, file);
    if (!path) return lt_fail(err, LT_ENOMEM, "no memory for a path (%s)", folder);
    const lt_status st = lt_path_exists(path) ? lt_json_load(out, path, err) : LT_OK;
    lt_free(path);
    return st;
}

/* transformers lets this member of tokenizer_config.json overrule the pre-tokenizer. */
static lt_status overrule_prefix_space(json_t *root, const json_t *config, lt_err *err) {
    json_t *pre = json_object_get(root, "pre_tokenizer"), *wanted = json_object_get(config, "add_prefix_space");
    if (!json_is_boolean(wanted) || !json_object_get(pre, "add_prefix_space")) return LT_OK;
    return json_object_set(pre, "add_prefix_space", wanted) == 0
               ? LT_OK
               : lt_fail(err, LT_ENOMEM, "no memory for a JSON value");
}

bool lt_tok_named(int32_t *id, const lt_tokenizer *t, const json_t *config, const char *key) {
    const json_t *j = json_object_get(config, key);
    if (!j) return false;
    if (json_is_object(j)) j = json_object_get(j, "content");
    *id = json_is_string(j) ? lt_vocab_find(&t->vocab, json_string_value(j), json_string_length(j)) : -1;
    return true;
}

/* "eos_token_id": 2 or [2, 3], of which the first counts */
static void numbered_token(int32_t *id, const lt_tokenizer *t, const json_t *config, const char *key) {
    const json_t *j = json_object_get(config, key);
    if (json_is_array(j)) j = json_array_get(j, 0);
    if (json_is_integer(j) && lt_vocab_has(&t->vocab, json_integer_value(j), LT_VOCAB_PRESENT))
        *id = (int32_t)json_integer_value(j);
}

typedef struct folder_files {
    json_t *root, *config, *special, *generation;
} folder_files;

static lt_status holds(bool *there, const char *folder, const char *file, lt_err *err) {
    char *path = lt_path_join(folder, file);
    if (!path) return lt_fail(err, LT_ENOMEM, "no memory for a path (%s)", folder);
    *there = lt_path_exists(path);
    lt_free(path);
    return LT_OK;
}

static lt_status is_old(bool *old, const char *folder, lt_err *err) {
    bool whole, vocab, merges;
    LT_TRY(holds(&whole, folder, "tokenizer.json", err));
    LT_TRY(holds(&vocab, folder, "vocab.json", err));
    LT_TRY(holds(&merges, folder, "merges.txt", err));
    *old = !whole && vocab && merges;
    return LT_OK;
}

lt_status lt_tokenizer_there(bool *there, const char *folder, lt_err *err) {
    LT_TRY(holds(there, folder, "tokenizer.json", err));
    return *there ? LT_OK : is_old(there, folder, err);
}

/* The roles that the class fills by default count as if the config named them. */
static lt_status build_root(folder_files *f, const lt_tok_vocab_files *v, const char *folder, const char *where,
                            lt_err *err) {
    json_t *names;
    LT_TRY(lt_tok_vocab_tree(&f->root, &names, v, folder, where, err));
    if (!f->config) f->config = json_object();
    const int failed = json_object_update(f->config, names);
    json_decref(names);
    return failed ? lt_fail(err, LT_ENOMEM, "no memory for a JSON value") : LT_OK;
}

static lt_status load_old(folder_files *f, const char *folder, const char *where, lt_err *err) {
    json_t *vocab = NULL, *added = NULL, *model = NULL;
    lt_status st = load_optional(&vocab, folder, "vocab.json", err);
    if (st == LT_OK) st = load_optional(&added, folder, "added_tokens.json", err);
    if (st == LT_OK) st = load_optional(&model, folder, "config.json", err);
    if (st == LT_OK)
        st = build_root(f, &(lt_tok_vocab_files){ vocab, added, f->config, f->special, model }, folder, where, err);
    json_decref(vocab);
    json_decref(added);
    json_decref(model);
    return st;
}

static lt_status load_files(folder_files *f, bool old, const char *folder, const char *where, lt_err *err) {
    if (!old) LT_TRY(lt_json_load(&f->root, where, err));
    LT_TRY(load_optional(&f->config, folder, "tokenizer_config.json", err));
    LT_TRY(load_optional(&f->special, folder, "special_tokens_map.json", err));
    LT_TRY(load_optional(&f->generation, folder, "generation_config.json", err));
    return old ? load_old(f, folder, where, err) : LT_OK;
}

static void clear_files(folder_files *f) {
    json_decref(f->root);
    json_decref(f->config);
    json_decref(f->special);
    json_decref(f->generation);
}

/* *where: the file that messages name; lt_free. */
static lt_status open_files(folder_files *f, char **where, const char *folder, lt_err *err) {
    bool old;
    *where = NULL;
    LT_TRY(is_old(&old, folder, err));
    *where = lt_path_join(folder, old ? "vocab.json" : "tokenizer.json");
    if (!*where) return lt_fail(err, LT_ENOMEM, "no memory for a path (%s)", folder);
    LT_TRY(load_files(f, old, folder, *where, err));
    return overrule_prefix_space(f->root, f->config, err);
}

lt_status lt_tokenizer_folder_tree(json_t **root, json_t **config, const char *folder, lt_err *err) {
    folder_files f = { 0 };
    char *where;
    const lt_status st = open_files(&f, &where, folder, err);
    if (st == LT_OK) {
        *root = json_incref(f.root);
        *config = json_incref(f.config);
    }
    clear_files(&f);
    lt_free(where);
    return st;
}

static void find_ends(lt_tokenizer *t, const folder_files *f) {
    if (!lt_tok_named(&t->bos, t, f->config, "bos_token") && !lt_tok_named(&t->bos, t, f->special, "bos_token"))
        numbered_token(&t->bos, t, f->generation, "bos_token_id");
    if (!lt_tok_named(&t->eos, t, f->config, "eos_token") && !lt_tok_named(&t->eos, t, f->special, "eos_token"))
        numbered_token(&t->eos, t, f->generation, "eos_token_id");
}

lt_status lt_tokenizer_open(lt_tokenizer **out, const char *folder, lt_err *err) {
    folder_files f = { 0 };
    lt_tokenizer *t = NULL;
    char *where;
    lt_status st = open_files(&f, &where, folder, err);
    if (st == LT_OK) st = lt_tokenizer_from_tree(&t, f.root, where, err);
    if (st == LT_OK) {
        find_ends(t, &f);
        *out = t;
    }
    clear_files(&f);
    lt_free(where);
    return st;
}
