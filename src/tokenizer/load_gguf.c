/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer inside a GGUF file: its metadata are turned back into the tree of the tokenizer.json they came from.
 *
 * tokenizer.ggml.model = "gpt2" is byte-level BPE; the rest of the pipeline is only named, by tokenizer.ggml.pre: one
 * row here per name. "llama" is SentencePiece's BPE: scores instead of merges. Keys: ggml/docs/gguf.md; names and what
 * they stand for: llama.cpp, src/llama-vocab.cpp. */
#include "tokenizer/gguf_pre.h"
#include "tokenizer/stage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/gguf.h"
#include "tokenizer/utf8.h"

/* What is being built; every JSON value hangs in root at once, so one json_decref frees all. */
typedef struct build {
    const lt_gguf *g;
    const char *where;
    lt_err *err;
    json_t *root, *model, *vocab, *added;
    size_t n_tokens;
} build;

static lt_status no_memory(const build *b) {
    return lt_fail(b->err, LT_ENOMEM, "no memory for the tokenizer (%s)", b->where);
}

static lt_status set(const build *b, json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0 ? LT_OK : no_memory(b); /* steals value, also when it fails */
}

static lt_status set_text(const build *b, json_t *object, const char *key, const char *json) {
    json_t *j = NULL;
    if (!json) return LT_OK;
    LT_TRY(lt_json_parse(&j, json, strlen(json), b->where, b->err));
    return set(b, object, key, j);
}

static lt_status begin(build *b) {
    b->root = json_object();
    if (!b->root) return no_memory(b);
    LT_TRY(set(b, b->root, "added_tokens", json_array()));
    LT_TRY(set(b, b->root, "model", json_object()));
    b->added = json_object_get(b->root, "added_tokens");
    b->model = json_object_get(b->root, "model");
    LT_TRY(set(b, b->model, "type", json_string("BPE")));
    LT_TRY(set(b, b->model, "vocab", json_object()));
    b->vocab = json_object_get(b->model, "vocab");
    return LT_OK;
}

static lt_status add_token(build *b, size_t i, bool special) {
    size_t bytes;
    const char *s = lt_gguf_array_string(b->g, "tokenizer.ggml.tokens", i, &bytes);
    json_t *j = json_pack("{s:I, s:s%, s:b, s:b}", "id", (json_int_t)i, "content", s, bytes, "special", (int)special,
                          "normalized", 0);
    return j && json_array_append_new(b->added, j) == 0 ? LT_OK : no_memory(b);
}

static lt_status put_token(build *b, size_t i, int64_t type) {
    size_t bytes;
    const char *s = lt_gguf_array_string(b->g, "tokenizer.ggml.tokens", i, &bytes);
    if (memchr(s, '\0', bytes))
        return lt_fail(b->err, LT_EUNSUPPORTED, "token with a NUL byte (%s: token %zu)", b->where, i);
    if (json_object_getn(b->vocab, s, bytes))
        return lt_fail(b->err, LT_EDATA, "token in the vocabulary twice (%s: token %zu: \"%.80s\")", b->where, i, s);
    if (json_object_setn_new(b->vocab, s, bytes, json_integer((json_int_t)i)) != 0)
        return lt_fail(b->err, LT_EDATA, "token is not UTF-8 (%s: token %zu)", b->where, i);
    if (type < LT_GGUF_TOKEN_NORMAL || type > LT_GGUF_TOKEN_BYTE)
        return lt_fail(b->err, LT_EDATA, "unknown token type (%s: token %zu: %lld)", b->where, i, (long long)type);
    if (type == LT_GGUF_TOKEN_CONTROL || type == LT_GGUF_TOKEN_UNKNOWN || type == LT_GGUF_TOKEN_USER)
        return add_token(b, i, type != LT_GGUF_TOKEN_USER);
    return LT_OK;
}

static lt_status put_tokens(build *b) {
    lt_gguf_type type;
    size_t n_types = 0;
    if (!lt_gguf_array(b->g, "tokenizer.ggml.tokens", &type, &b->n_tokens) || type != LT_GGUF_STRING)
        return lt_fail(b->err, LT_EDATA, "no list of tokens (%s: tokenizer.ggml.tokens)", b->where);
    const bool typed = lt_gguf_array(b->g, "tokenizer.ggml.token_type", &type, &n_types);
    if (typed && n_types != b->n_tokens)
        return lt_fail(b->err, LT_EDATA, "%zu tokens with %zu types (%s: tokenizer.ggml.token_type)", b->n_tokens,
                       n_types, b->where);
    for (size_t i = 0; i < b->n_tokens; i++) {
        int64_t kind = LT_GGUF_TOKEN_NORMAL;
        if (typed && !lt_gguf_array_i64(b->g, "tokenizer.ggml.token_type", i, &kind))
            return lt_fail(b->err, LT_EDATA, "token type is not an integer (%s: token %zu)", b->where, i);
        LT_TRY(put_token(b, i, kind));
    }
    return LT_OK;
}

static lt_status put_merges(build *b) {
    lt_gguf_type type;
    size_t n;
    if (!lt_gguf_array(b->g, "tokenizer.ggml.merges", &type, &n) || type != LT_GGUF_STRING)
        return lt_fail(b->err, LT_EDATA, "no list of merges (%s: tokenizer.ggml.merges)", b->where);
    json_t *merges = json_array();
    LT_TRY(set(b, b->model, "merges", merges));
    for (size_t i = 0; i < n; i++) {
        size_t bytes;
        const char *s = lt_gguf_array_string(b->g, "tokenizer.ggml.merges", i, &bytes);
        if (json_array_append_new(merges, json_stringn(s, bytes)) != 0)
            return lt_fail(b->err, LT_EDATA, "merge is not UTF-8 (%s: merge %zu)", b->where, i);
    }
    return LT_OK;
}

/* id of a token that the metadata may name; -1: not named */
static lt_status special_id(const build *b, const char *key, int32_t *id) {
    uint64_t value;
    *id = -1;
    if (!lt_gguf_u64(b->g, key, &value)) return LT_OK;
    if (value >= b->n_tokens)
        return lt_fail(b->err, LT_EDATA, "id outside the vocabulary (%s: %s: %llu)", b->where, key,
                       (unsigned long long)value);
    *id = (int32_t)value;
    return LT_OK;
}

static bool flag(const build *b, const char *key, bool otherwise) {
    lt_gguf_bool(b->g, key, &otherwise);
    return otherwise;
}

/* BOS before and EOS behind the text, where the metadata ask for them. */
static lt_status put_template(build *b, int32_t bos, int32_t eos, bool add_bos) {
    const bool front = bos >= 0 && flag(b, "tokenizer.ggml.add_bos_token", add_bos);
    const bool back = eos >= 0 && flag(b, "tokenizer.ggml.add_eos_token", false);
    json_t *j = json_pack("{s:s, s:[], s:{s:{s:[i]}, s:{s:[i]}}}", "type", "TemplateProcessing", "single",
                          "special_tokens", "bos", "ids", (int)bos, "eos", "ids", (int)eos);
    if (!j) return no_memory(b);
    json_t *single = json_object_get(j, "single");
    int failed = 0;
    if (front) failed |= json_array_append_new(single, json_pack("{s:{s:s}}", "SpecialToken", "id", "bos"));
    failed |= json_array_append_new(single, json_pack("{s:{s:s}}", "Sequence", "id", "A"));
    if (back) failed |= json_array_append_new(single, json_pack("{s:{s:s}}", "SpecialToken", "id", "eos"));
    const lt_status st = set(b, b->root, "post_processor", j);
    return failed ? no_memory(b) : st;
}

static lt_status build_bpe(build *b, int32_t bos, int32_t eos) {
    size_t bytes;
    const char *pre = lt_gguf_string(b->g, "tokenizer.ggml.pre", &bytes);
    if (!pre) pre = "default";
    const lt_gguf_pre *row = lt_gguf_pre_find(pre);
    if (!row) return lt_gguf_pre_unknown(pre, b->where, b->err);
    LT_TRY(put_merges(b));
    LT_TRY(set(b, b->model, "ignore_merges", json_boolean(row->ignore_merges)));
    LT_TRY(set_text(b, b->root, "normalizer", row->normalizer));
    LT_TRY(set_text(b, b->root, "pre_tokenizer", row->pre_tokenizer));
    LT_TRY(set_text(b, b->root, "decoder", "{\"type\":\"ByteLevel\"}"));
    return put_template(b, bos, eos, row->add_bos);
}

/* ---- SentencePiece's BPE: any two neighbours whose joint is a token may merge, the joint of the best score first ----
 */

typedef struct joint {
    double score;
    size_t left, right, token, cut;
} joint; /* left, right in characters, cut in bytes */
typedef struct joints {
    joint *v;
    size_t n, cap;
} joints;

#define LONGEST_PIECE 512 /* bytes; SentencePiece's own limit is far below */

/* Best score first; of equals the longer left half, the longer right half, the smaller id: the order of the merges in
 * converted tokenizer.json files (transformers, convert_slow_tokenizer.py, generate_merges). */
static int joint_order(const void *pa, const void *pb) {
    const joint *a = pa, *b = pb;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->left != b->left) return a->left > b->left ? -1 : 1;
    if (a->right != b->right) return a->right > b->right ? -1 : 1;
    return a->token < b->token ? -1 : a->token > b->token;
}

static lt_status put_joint(const build *b, joints *js, joint j) {
    if (js->n == js->cap) {
        const size_t cap = js->cap ? 2 * js->cap : 4096;
        joint *v = lt_realloc(js->v, cap * sizeof *v);
        if (!v) return no_memory(b);
        js->v = v;
        js->cap = cap;
    }
    js->v[js->n++] = j;
    return LT_OK;
}

static size_t characters(const char *s, size_t n) {
    size_t count = 0;
    for (size_t at = 0; at < n; at += lt_utf8_length(s[at])) count++;
    return count;
}

/* Every way to cut one token in two tokens. */
static lt_status put_cuts(const build *b, joints *js, size_t token) {
    size_t n;
    double score;
    int64_t type = LT_GGUF_TOKEN_NORMAL;
    const char *s = lt_gguf_array_string(b->g, "tokenizer.ggml.tokens", token, &n);
    lt_gguf_array_i64(b->g, "tokenizer.ggml.token_type", token, &type);
    if (type != LT_GGUF_TOKEN_NORMAL) return LT_OK;
    if (n > LONGEST_PIECE)
        return lt_fail(b->err, LT_EUNSUPPORTED, "piece of %zu bytes (%s: token %zu)", n, b->where, token);
    if (!lt_gguf_array_f64(b->g, "tokenizer.ggml.scores", token, &score) || !isfinite(score))
        return lt_fail(b->err, LT_EDATA, "token without a score (%s: token %zu)", b->where, token);
    for (size_t cut = lt_utf8_length(*s); cut < n; cut += lt_utf8_length(s[cut])) {
        if (!json_object_getn(b->vocab, s, cut) || !json_object_getn(b->vocab, s + cut, n - cut)) continue;
        LT_TRY(put_joint(b, js, (joint){ score, characters(s, cut), characters(s + cut, n - cut), token, cut }));
    }
    return LT_OK;
}

static lt_status list_joints(const build *b, const joints *js) {
    json_t *merges = json_array();
    LT_TRY(set(b, b->model, "merges", merges));
    for (size_t i = 0; i < js->n; i++) {
        size_t n;
        const size_t cut = js->v[i].cut;
        const char *s = lt_gguf_array_string(b->g, "tokenizer.ggml.tokens", js->v[i].token, &n);
        if (json_array_append_new(merges, json_pack("[s%, s%]", s, cut, s + cut, n - cut)) != 0) return no_memory(b);
    }
    return LT_OK;
}

static lt_status put_joints(const build *b) {
    joints js = { 0 };
    lt_status st = LT_OK;
    for (size_t i = 0; i < b->n_tokens && st == LT_OK; i++) st = put_cuts(b, &js, i);
    if (js.n > 1) qsort(js.v, js.n, sizeof *js.v, joint_order);
    if (st == LT_OK) st = list_joints(b, &js);
    lt_free(js.v);
    return st;
}

#define SHOW_BLANKS "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}"
#define HIDE_BLANKS                                                                                                    \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" "                                  \
    "\"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"

static lt_status build_sentencepiece(build *b, int32_t bos, int32_t eos) {
    const bool prefix = flag(b, "tokenizer.ggml.add_space_prefix", true);
    int32_t unk;
    size_t bytes;
    LT_TRY(special_id(b, "tokenizer.ggml.unknown_token_id", &unk));
    if (unk >= 0) {
        const char *s = lt_gguf_array_string(b->g, "tokenizer.ggml.tokens", (size_t)unk, &bytes);
        LT_TRY(set(b, b->model, "unk_token", json_stringn(s, bytes)));
    }
    LT_TRY(put_joints(b));
    LT_TRY(set(b, b->model, "byte_fallback", json_true()));
    LT_TRY(set(b, b->model, "fuse_unk", json_true()));
    LT_TRY(set_text(
        b, b->root, "normalizer",
        prefix
            ? "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"}," SHOW_BLANKS
              "]}"
            : SHOW_BLANKS));
    LT_TRY(set_text(b, b->root, "decoder",
                    prefix ? "{\"type\":\"Sequence\",\"decoders\":[" HIDE_BLANKS
                             ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"
                           : "{\"type\":\"Sequence\",\"decoders\":[" HIDE_BLANKS "]}"));
    return put_template(b, bos, eos, true);
}

static const struct {
    const char *name;
    lt_status (*build)(build *b, int32_t bos, int32_t eos);
} models[] = {
    { "gpt2", build_bpe },
    { "llama", build_sentencepiece },
};

static lt_status build_model(build *b, int32_t bos, int32_t eos) {
    size_t bytes;
    const char *model = lt_gguf_string(b->g, "tokenizer.ggml.model", &bytes);
    for (size_t i = 0; i < LT_COUNTOF(models) && model; i++)
        if (strcmp(models[i].name, model) == 0) return models[i].build(b, bos, eos);
    return lt_fail(b->err, LT_EUNSUPPORTED, "unknown tokenizer model (%s: tokenizer.ggml.model: %.80s)", b->where,
                   model ? model : "absent");
}

lt_status lt_tokenizer_gguf_tree(json_t **out, int32_t *bos, int32_t *eos, const lt_gguf *g, lt_err *err) {
    build b = { .g = g, .where = lt_gguf_path(g), .err = err };
    lt_status st = begin(&b);
    if (st == LT_OK) st = put_tokens(&b);
    if (st == LT_OK) st = special_id(&b, "tokenizer.ggml.bos_token_id", bos);
    if (st == LT_OK) st = special_id(&b, "tokenizer.ggml.eos_token_id", eos);
    if (st == LT_OK) st = build_model(&b, *bos, *eos);
    if (st == LT_OK)
        *out = b.root;
    else
        json_decref(b.root);
    return st;
}

lt_status lt_tokenizer_from_gguf(lt_tokenizer **out, const lt_gguf *g, lt_err *err) {
    json_t *root;
    int32_t bos, eos;
    LT_TRY(lt_tokenizer_gguf_tree(&root, &bos, &eos, g, err));
    const lt_status st = lt_tokenizer_from_tree(out, root, lt_gguf_path(g), err);
    if (st == LT_OK) {
        (*out)->bos = bos;
        (*out)->eos = eos;
    }
    json_decref(root);
    return st;
}
