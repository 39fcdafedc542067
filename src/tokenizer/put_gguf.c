/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer of a folder as the keys of a GGUF. A byte-level BPE keeps its merges and names its pipeline
 * (gguf_pre.h); a BPE over characters with bytes to fall back on is written as SentencePiece's, where a token's score
 * is minus the rank of the first merge that makes it: neighbours join in the same order. Source: llama.cpp,
 * convert_hf_to_gguf.py and gguf-py/gguf/vocab.py; src/llama-vocab.cpp for what readers do with them. */
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "tokenizer/gguf_pre.h"
#include "tokenizer/save.h"
#include "tokenizer/stage.h"

typedef struct putting {
    lt_gguf_writer *w;
    const char *folder;
    lt_tokenizer *t;
    json_t *root, *config; /* tokenizer.json; tokenizer_config.json or NULL */
    size_t n_tokens;       /* rows of the model's table */
    int32_t bos, eos, unk, pad;
    bool add_bos, add_eos;
    lt_err *err;
} putting;

static lt_status no_memory(const putting *p) {
    return lt_fail(p->err, LT_ENOMEM, "no memory for the tokenizer (%s)", p->folder);
}

static lt_status no_form(const putting *p, const char *part) {
    return lt_fail(p->err, LT_EUNSUPPORTED, "a GGUF has no name for this %s (%s/tokenizer.json)", part, p->folder);
}

/* ---- tokens ---- */

/* "<0x0A>", a byte that characters outside the vocabulary fall back on. */
static bool is_byte(const char *s, size_t bytes) {
    static const char hex[] = "0123456789ABCDEF";
    return bytes == 6 && memcmp(s, "<0x", 3) == 0 && s[5] == '>' && strchr(hex, s[3]) && strchr(hex, s[4]);
}

static int32_t type_of(const putting *p, size_t id, const char *s, size_t bytes, bool spm) {
    if (!s) return LT_GGUF_TOKEN_UNUSED;
    if (spm && (int32_t)id == p->unk) return LT_GGUF_TOKEN_UNKNOWN;
    if (spm && is_byte(s, bytes)) return LT_GGUF_TOKEN_BYTE;
    if (lt_vocab_has(&p->t->vocab, (int64_t)id, LT_VOCAB_SPECIAL)) return LT_GGUF_TOKEN_CONTROL;
    return lt_vocab_has(&p->t->vocab, (int64_t)id, LT_VOCAB_ADDED) ? LT_GGUF_TOKEN_USER : LT_GGUF_TOKEN_NORMAL;
}

static lt_status put_tokens(const putting *p, bool spm) {
    size_t bytes;
    if (p->t->vocab.size > p->n_tokens)
        return lt_fail(p->err, LT_EDATA, "%zu tokens for a model of %zu (%s/tokenizer.json)", p->t->vocab.size,
                       p->n_tokens, p->folder);
    lt_gguf_put_array(p->w, "tokenizer.ggml.tokens", LT_GGUF_STRING, p->n_tokens);
    for (size_t id = 0; id < p->n_tokens; id++) {
        char hole[32];
        const char *s = lt_vocab_get(&p->t->vocab, (int64_t)id, &bytes);
        if (!s) bytes = (size_t)snprintf(hole, sizeof hole, "[PAD%zu]", id);
        lt_gguf_add_string(p->w, s ? s : hole, bytes);
    }
    lt_gguf_put_array(p->w, "tokenizer.ggml.token_type", LT_GGUF_I32, p->n_tokens);
    for (size_t id = 0; id < p->n_tokens; id++) {
        const char *s = lt_vocab_get(&p->t->vocab, (int64_t)id, &bytes);
        lt_gguf_add_i32(p->w, type_of(p, id, s, bytes, spm));
    }
    return LT_OK;
}

/* ---- merges ---- */

/* "a b" or ["a", "b"]: both halves, which hold no space. */
static lt_status halves(const putting *p, const json_t *merge, const char *half[2], size_t bytes[2]) {
    if (json_is_array(merge)) {
        for (size_t i = 0; i < 2; i++) {
            half[i] = json_string_value(json_array_get(merge, i));
            bytes[i] = json_string_length(json_array_get(merge, i));
        }
    } else {
        half[0] = json_string_value(merge); /* the tokenizer was opened from the same list: there is a space */
        half[1] = strchr(half[0], ' ') + 1;
        bytes[0] = (size_t)(half[1] - half[0]) - 1;
        bytes[1] = json_string_length(merge) - bytes[0] - 1;
    }
    return memchr(half[0], ' ', bytes[0]) || memchr(half[1], ' ', bytes[1]) ? no_form(p, "merge of spaces") : LT_OK;
}

static lt_status put_merges(const putting *p) {
    const json_t *list = json_object_get(json_object_get(p->root, "model"), "merges");
    lt_gguf_put_array(p->w, "tokenizer.ggml.merges", LT_GGUF_STRING, json_array_size(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *half[2];
        size_t bytes[2];
        LT_TRY(halves(p, json_array_get(list, i), half, bytes));
        char *text = lt_malloc(bytes[0] + bytes[1] + 1);
        if (!text) return no_memory(p);
        memcpy(text, half[0], bytes[0]);
        text[bytes[0]] = ' ';
        memcpy(text + bytes[0] + 1, half[1], bytes[1]);
        lt_gguf_add_string(p->w, text, bytes[0] + bytes[1] + 1);
        lt_free(text);
    }
    return LT_OK;
}

/* score[id] = -rank of the first merge that makes the token; what no merge makes comes behind them all. */
static lt_status fill_scores(const putting *p, float *score) {
    const json_t *list = json_object_get(json_object_get(p->root, "model"), "merges");
    const size_t n = json_array_size(list);
    lt_tok_buf joined = { 0 };
    lt_status st = LT_OK;
    for (size_t id = 0; id < p->n_tokens; id++) score[id] = -(float)n;
    for (size_t i = n; i-- > 0 && st == LT_OK;) { /* backwards: the first merge has the last word */
        const char *half[2];
        size_t bytes[2];
        joined.len = 0;
        st = halves(p, json_array_get(list, i), half, bytes);
        if (st == LT_OK) st = lt_tok_buf_put(&joined, half[0], bytes[0], p->err);
        if (st == LT_OK) st = lt_tok_buf_put(&joined, half[1], bytes[1], p->err);
        const int32_t id = st == LT_OK ? lt_vocab_find(&p->t->vocab, joined.data, joined.len) : -1;
        if (id >= 0) score[id] = -(float)i;
    }
    lt_tok_buf_clear(&joined);
    return st;
}

static lt_status put_scores(const putting *p) {
    float *score = lt_calloc(lt_max_size(1, p->n_tokens), sizeof *score);
    lt_status st = score ? fill_scores(p, score) : no_memory(p);
    if (st == LT_OK) {
        lt_gguf_put_array(p->w, "tokenizer.ggml.scores", LT_GGUF_F32, p->n_tokens);
        for (size_t id = 0; id < p->n_tokens; id++) lt_gguf_add_f32(p->w, score[id]);
    }
    lt_free(score);
    return st;
}

/* ---- the two kinds ---- */

static lt_status put_bpe(const putting *p) {
    const lt_gguf_pre *pre;
    LT_TRY(lt_gguf_pre_of(&pre, p->root, p->err));
    if (!pre) return no_form(p, "pre-tokenizer");
    lt_gguf_put_text(p->w, "tokenizer.ggml.model", "gpt2");
    lt_gguf_put_text(p->w, "tokenizer.ggml.pre", pre->name[0]);
    LT_TRY(put_tokens(p, false));
    return put_merges(p);
}

#define BLANK "\xE2\x96\x81"
/* SentencePiece as GGUF knows it: blanks become U+2581, one is put in front or not, nothing else changes and nothing is
 * cut. Read off what the pipeline makes of a text that other normalisations would change. */
static lt_status blank_in_front(const putting *p, bool *front) {
    static const char in[] = "A  b\n1 \xEF\xBC\xA1 e\xCC\x81",
                      out[] = BLANK "A" BLANK BLANK "b\n1" BLANK "\xEF\xBC\xA1" BLANK "e\xCC\x81";
    const size_t blank = sizeof BLANK - 1, n = sizeof out - 1;
    lt_tok_text text;
    LT_TRY(lt_tok_text_init(&text, in, sizeof in - 1, p->err));
    lt_status st = lt_tok_normalize(p->t, &text, p->err);
    if (st == LT_OK) st = lt_tok_pretokenize(&p->t->pretokenizer, &text, p->err);
    if (st == LT_OK) {
        const lt_tok_span s = text.spans.n == 1 ? text.spans.v[0] : (lt_tok_span){ 0 };
        const size_t got = s.end - s.start;
        *front = got == n && memcmp(text.data + s.start, out, n) == 0;
        if (!*front && !(got == n - blank && memcmp(text.data + s.start, out + blank, got) == 0))
            st = no_form(p, "normalizer and pre-tokenizer");
    }
    lt_tok_text_clear(&text);
    return st;
}

static lt_status put_sentencepiece(const putting *p) {
    bool front;
    LT_TRY(blank_in_front(p, &front));
    lt_gguf_put_text(p->w, "tokenizer.ggml.model", "llama");
    lt_gguf_put_text(p->w, "tokenizer.ggml.pre", "default");
    LT_TRY(put_tokens(p, true));
    LT_TRY(put_scores(p));
    lt_gguf_put_bool(p->w, "tokenizer.ggml.add_space_prefix", front);
    return LT_OK;
}

/* ---- special tokens ---- */

/* What the post-processor puts around a text; more than one BOS and one EOS has no key. */
static lt_status read_ends(putting *p) {
    int32_t *with = NULL, *without = NULL;
    size_t n = 0, k = 0;
    lt_status st = lt_tokenizer_encode(p->t, "a", 1, true, &with, &n, p->err);
    if (st == LT_OK) st = lt_tokenizer_encode(p->t, "a", 1, false, &without, &k, p->err);
    for (size_t front = 0; st == LT_OK && front < 2; front++) {
        if (n < front + k || n - front - k > 1 || memcmp(with + front, without, k * sizeof *with) != 0) continue;
        p->add_bos = front == 1;
        p->add_eos = n - front - k == 1;
        if (p->add_bos && p->bos < 0) p->bos = with[0];
        if (p->add_eos && p->eos < 0) p->eos = with[n - 1];
        if ((p->add_bos && p->bos != with[0]) || (p->add_eos && p->eos != with[n - 1]))
            st = no_form(p, "post-processor");
        goto done;
    }
    if (st == LT_OK) st = no_form(p, "post-processor");
done:
    lt_free(with);
    lt_free(without);
    return st;
}

static void read_specials(putting *p, int32_t bos, int32_t eos) {
    const json_t *model = json_object_get(p->root, "model"), *unk = json_object_get(model, "unk_token");
    p->bos = p->t->bos >= 0 ? p->t->bos : bos;
    p->eos = p->t->eos >= 0 ? p->t->eos : eos;
    p->unk = p->pad = -1;
    if (!lt_tok_named(&p->unk, p->t, p->config, "unk_token") && json_is_string(unk))
        p->unk = lt_vocab_find(&p->t->vocab, json_string_value(unk), json_string_length(unk));
    lt_tok_named(&p->pad, p->t, p->config, "pad_token");
}

static void put_id(const putting *p, const char *key, int32_t id) {
    if (id >= 0 && (size_t)id < p->n_tokens) lt_gguf_put_u32(p->w, key, (uint32_t)id);
}

static void put_specials(const putting *p) {
    put_id(p, "tokenizer.ggml.bos_token_id", p->bos);
    put_id(p, "tokenizer.ggml.eos_token_id", p->eos);
    put_id(p, "tokenizer.ggml.unknown_token_id", p->unk);
    put_id(p, "tokenizer.ggml.padding_token_id", p->pad);
    lt_gguf_put_bool(p->w, "tokenizer.ggml.add_bos_token", p->add_bos);
    lt_gguf_put_bool(p->w, "tokenizer.ggml.add_eos_token", p->add_eos);
}

/* ---- chat template: a file, or a member of the config that is a text or a list of named texts ---- */

static void put_named_template(const putting *p, const char *name, const json_t *text) {
    char key[128];
    if (!name || !json_is_string(text)) return;
    if (strcmp(name, "default") == 0)
        snprintf(key, sizeof key, "tokenizer.chat_template");
    else
        snprintf(key, sizeof key, "tokenizer.chat_template.%.80s", name);
    if (!lt_gguf_writer_has(p->w, key))
        lt_gguf_put_string(p->w, key, json_string_value(text), json_string_length(text));
}

static lt_status put_chat_template(const putting *p) {
    char *path = lt_path_join(p->folder, "chat_template.jinja"), *text;
    size_t bytes, i;
    if (!path) return no_memory(p);
    const bool there = lt_path_exists(path);
    lt_status st = there ? lt_file_read(&text, &bytes, path, 0, p->err) : LT_OK;
    lt_free(path);
    LT_TRY(st);
    if (there) {
        lt_gguf_put_string(p->w, "tokenizer.chat_template", text, bytes);
        lt_free(text);
    }
    const json_t *own = json_object_get(p->config, "chat_template"), *one;
    put_named_template(p, "default", own);
    json_array_foreach(own, i, one)
        put_named_template(p, json_string_value(json_object_get(one, "name")), json_object_get(one, "template"));
    return LT_OK;
}

/* ---- the whole ---- */

static lt_status put_all(putting *p, int32_t bos, int32_t eos) {
    const json_t *model = NULL;
    LT_TRY(lt_tokenizer_open(&p->t, p->folder, p->err));
    LT_TRY(lt_tokenizer_folder_tree(&p->root, &p->config, p->folder, p->err));
    model = json_object_get(p->root, "model");
    read_specials(p, bos, eos);
    LT_TRY(read_ends(p));
    if (p->t->model != &lt_tok_bpe) return no_form(p, "model");
    LT_TRY(json_is_true(json_object_get(model, "byte_fallback")) ? put_sentencepiece(p) : put_bpe(p));
    put_specials(p);
    return put_chat_template(p);
}

lt_status lt_tokenizer_put_gguf(lt_gguf_writer *w, const char *folder, size_t vocab_size, int32_t bos, int32_t eos,
                                size_t *n_plain, lt_err *err) {
    putting p = { .w = w, .folder = folder, .n_tokens = vocab_size, .err = err };
    const lt_status st = put_all(&p, bos, eos);
    if (n_plain) *n_plain = 0;
    for (size_t i = 0; st == LT_OK && n_plain && i < p.t->added.n; i++) {
        const lt_added_token *a = &p.t->added.token[i];
        *n_plain += a->lstrip || a->rstrip || a->single_word;
    }
    lt_tokenizer_destroy(p.t);
    json_decref(p.root);
    json_decref(p.config);
    return st;
}
