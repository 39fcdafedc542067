/* SPDX-License-Identifier: Apache-2.0 */
/* Weights are the model room's to write, keys of the tokenizer the tokenizer room's; here they meet in one file. */
#include <string.h>

#include "export/export.h"
#include "io/file.h"
#include "tokenizer/save.h"

/* ---- writing ---- */

static lt_status copy_keys(lt_gguf_writer *w, const lt_gguf *g) {
    for (size_t i = 0; i < lt_gguf_n_keys(g); i++)
        if (strncmp(lt_gguf_key(g, i), "tokenizer.", 10) == 0) lt_gguf_put_copy(w, g, i);
    return LT_OK;
}

typedef struct putting {
    const lt_model *m;
    const lt_ctx *ctx;
} putting;

static lt_status put_tokenizer(void *self, lt_gguf_writer *w, lt_err *err) {
    const putting *p = self;
    const lt_model *m = p->m;
    const lt_config *c = &m->config;
    size_t n_plain = 0;
    bool there;
    if (lt_model_gguf(m)) return copy_keys(w, lt_model_gguf(m));
    LT_TRY(lt_tokenizer_there(&there, m->path, err));
    if (!there) {
        lt_gguf_put_text(w, "tokenizer.ggml.model", "no_vocab");
        return LT_OK;
    }
    LT_TRY(lt_tokenizer_put_gguf(w, m->path, c->vocab_size, c->bos, c->n_eos ? c->eos[0] : -1, &n_plain, err));
    if (n_plain > 0)
        lt_log(p->ctx, LT_LOG_WARN,
               "%zu added tokens lose lstrip, rstrip or single_word, which a GGUF cannot hold (%s)", n_plain, m->path);
    return LT_OK;
}

lt_status lt_export_gguf(const lt_model *m, const char *path, const lt_save_opts *o, const lt_ctx *ctx, lt_err *err) {
    putting p = { m, ctx };
    return lt_model_save_gguf(m, path, o, &(lt_gguf_more){ put_tokenizer, &p }, ctx, err);
}

/* ---- checking ---- */

static lt_status open_source(lt_tokenizer **out, const lt_model *m, lt_err *err) {
    bool there;
    *out = NULL;
    if (lt_model_gguf(m))
        return lt_gguf_has(lt_model_gguf(m), "tokenizer.ggml.tokens")
                   ? lt_tokenizer_from_gguf(out, lt_model_gguf(m), err)
                   : LT_OK;
    LT_TRY(lt_tokenizer_there(&there, m->path, err));
    return there ? lt_tokenizer_open(out, m->path, err) : LT_OK;
}

typedef struct texts {
    const lt_tokenizer *a, *b; /* source, written */
    const lt_gguf *g;
} texts;

/* Part of ordinary text: not a token that is looked for before all else, whose flags a GGUF may not hold. */
static bool is_word(const texts *t, size_t id) {
    int64_t type = 1;
    lt_gguf_array_i64(t->g, "tokenizer.ggml.token_type", id, &type);
    return type == 1 && lt_tokenizer_token(t->a, (int32_t)id);
}

static bool all_words(const texts *t, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] != lt_tokenizer_bos(t->a) && ids[i] != lt_tokenizer_eos(t->a) && !is_word(t, (size_t)ids[i]))
            return false;
    return true;
}

static lt_status same_ids(const texts *t, const char *text, size_t bytes, lt_err *err) {
    int32_t *x = NULL, *y = NULL;
    size_t n = 0, k = 0;
    lt_status st = lt_tokenizer_encode(t->a, text, bytes, true, &x, &n, err);
    if (st == LT_OK) st = lt_tokenizer_encode(t->b, text, bytes, true, &y, &k, err);
    if (st == LT_OK && (n != k || memcmp(x, y, n * sizeof *x) != 0) && all_words(t, x, n) && all_words(t, y, k))
        st = lt_fail(err, LT_EVERIFY, "the tokenizer gives other ids than its source (%s: text \"%.*s\")",
                     lt_gguf_path(t->g), (int)lt_min_size(bytes, 80), text);
    lt_free(x);
    lt_free(y);
    return st;
}

/* A text with every kind of character, then texts of words from all over the vocabulary. */
static lt_status same_texts(const texts *t, lt_err *err) {
    static const char mixed[] =
        "Hello, world! It's 12345.67 o'clock,\tI'LL be  back\n\n   indented\r\n x = {\"a\": [1, 2]}; "
        "\xC3\xA9\xC3\x9F \xD0\x9C\xD0\xB8\xD1\x80 \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80!";
    enum { WORDS = 8, TEXTS = 512 };
    const size_t size = lt_tokenizer_vocab_size(t->a), step = size / (WORDS * TEXTS) + 1;
    LT_TRY(same_ids(t, mixed, sizeof mixed - 1, err));
    for (size_t id = 0; id < size;) {
        int32_t ids[WORDS];
        char *text;
        size_t n = 0, bytes;
        for (; id < size && n < WORDS; id += step)
            if (is_word(t, id)) ids[n++] = (int32_t)id;
        LT_TRY(lt_tokenizer_decode(t->a, ids, n, true, &text, &bytes, err));
        const size_t blanks = strspn(text, " "); /* Metaspace does not double them, a GGUF's prefix does */
        const lt_status st = same_ids(t, text + blanks, bytes - blanks, err);
        lt_free(text);
        LT_TRY(st);
    }
    return LT_OK;
}

lt_status lt_export_gguf_check(const lt_model *source, const char *path, lt_err *err) {
    lt_tokenizer *a, *b = NULL;
    lt_gguf *g = NULL;
    LT_TRY(open_source(&a, source, err));
    lt_status st = a ? lt_gguf_open(&g, path, err) : LT_OK;
    if (st == LT_OK && a) st = lt_tokenizer_from_gguf(&b, g, err);
    if (st == LT_OK && a) st = same_texts(&(texts){ a, b, g }, err);
    lt_tokenizer_destroy(a);
    lt_tokenizer_destroy(b);
    lt_gguf_close(g);
    return st;
}
