/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of published code, to the token.
 *   svdllm:   Wang et al., SVD-LLM (ICLR 2025), calibration: rows joined by two newlines; max_rows times (256) a
 * character offset drawn with Python's randint(0, characters - seq_len - 1), 10 seq_len characters tokenised, the first
 * seq_len ids kept, shorter ones dropped. wikitext: the block protocol of GPTQ, Wanda, SVD-LLM (spec evaluation §10):
 * joined text, one tokenisation, whole windows. rows: every row of the data set alone, as the utilized-rank code reads
 * them (spec utilized-rank §8.1): the first max_rows rows, blank ones counted and left out, each tokenised alone and
 * cut to seq_len; those of one token predict nothing and are left out. */
#include <string.h>

#include "calib/mt19937.h"
#include "calib/recipe.h"

enum { PAPER_ROWS = 256, STRIDE = 1024 };

/* Byte offsets of every STRIDE-th character: Python's strings are indexed by code points. */
typedef struct char_index {
    const char *text;
    size_t bytes, n_chars, *at;
} char_index;

static bool starts_char(char c) {
    return ((unsigned char)c & 0xc0) != 0x80;
}

static lt_status index_chars(char_index *x, const char *text, size_t bytes, lt_err *err) {
    *x = (char_index){ text, bytes, 0, lt_calloc(bytes / STRIDE + 1, sizeof(size_t)) };
    if (!x->at) return lt_fail(err, LT_ENOMEM, "no memory for an index of %zu bytes", bytes);
    for (size_t i = 0; i < bytes; i++) {
        if (!starts_char(text[i])) continue;
        if (x->n_chars % STRIDE == 0) x->at[x->n_chars / STRIDE] = i;
        x->n_chars++;
    }
    return LT_OK;
}

/* Byte offset of character c, the end when there are fewer. */
static size_t byte_of(const char_index *x, size_t c) {
    if (c >= x->n_chars) return x->bytes;
    size_t i = x->at[c / STRIDE];
    for (size_t left = c % STRIDE; left > 0 || !starts_char(x->text[i]); i++)
        if (starts_char(x->text[i])) left--;
    return i;
}

static lt_status add_window(lt_ids *out, const char_index *x, size_t first, const lt_tokenizer *tok, size_t seq_len,
                            lt_err *err) {
    const size_t from = byte_of(x, first), to = byte_of(x, first + 10 * seq_len);
    int32_t *ids = NULL;
    size_t n = 0;
    LT_TRY(lt_tokenizer_encode(tok, x->text + from, to - from, true, &ids, &n, err));
    const lt_status st = n >= seq_len ? lt_ids_add(out, ids, seq_len, err) : LT_OK;
    lt_free(ids);
    return st;
}

static lt_status draw_windows(lt_ids *out, size_t *seen, const char_index *x, const lt_tokenizer *tok,
                              const lt_tokens_opts *o, lt_err *err) {
    lt_mt19937 rng;
    const size_t rows = o->max_rows ? o->max_rows : PAPER_ROWS;
    *seen = x->n_chars; /* at most: one token a character */
    if (x->n_chars <= o->seq_len) return LT_OK;
    LT_REQUIRE(err, x->n_chars <= UINT32_MAX && o->seq_len <= UINT32_MAX / 10,
               "svdllm: text or rows are too long for its sampler");
    lt_mt19937_seed(&rng, o->seed);
    for (size_t i = 0; i < rows; i++)
        LT_TRY(add_window(out, x, lt_mt19937_below(&rng, (uint32_t)(x->n_chars - o->seq_len)), tok, o->seq_len, err));
    return LT_OK;
}

static lt_status make_svdllm(lt_ids *out, size_t *seen, const lt_docs *docs, const lt_tokenizer *tok,
                             const lt_tokens_opts *o, lt_err *err) {
    char *text;
    size_t bytes;
    char_index x = { 0 };
    LT_TRY(lt_docs_join(&text, &bytes, docs, err));
    lt_status st = index_chars(&x, text, bytes, err);
    if (st == LT_OK) st = draw_windows(out, seen, &x, tok, o, err);
    lt_free(x.at);
    lt_free(text);
    return st;
}

static lt_status make_wikitext(lt_ids *out, size_t *seen, const lt_docs *docs, const lt_tokenizer *tok,
                               const lt_tokens_opts *o, lt_err *err) {
    char *text;
    size_t bytes, rows;
    LT_TRY(lt_docs_join(&text, &bytes, docs, err));
    const lt_status st = lt_tokenizer_encode(tok, text, bytes, true, &out->id, &out->n, err);
    lt_free(text);
    if (st != LT_OK) return st;
    *seen = out->cap = out->n;
    rows = out->n / o->seq_len;
    if (o->max_rows) rows = lt_min_size(rows, o->max_rows);
    out->n = rows * o->seq_len;
    return LT_OK;
}

static bool is_blank(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (!strchr(" \t\r\n", text[i])) return false;
    return true;
}

static lt_status add_row(lt_ids *out, const char *text, size_t bytes, const lt_tokenizer *tok, size_t seq_len,
                         lt_err *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    if (is_blank(text, bytes)) return LT_OK;
    LT_TRY(lt_tokenizer_encode(tok, text, bytes, true, &ids, &n, err));
    lt_status st = LT_OK;
    if (n >= 2 && (st = lt_ids_add(out, ids, lt_min_size(n, seq_len), err)) == LT_OK) st = lt_ids_end_row(out, err);
    lt_free(ids);
    return st;
}

/* Lines keep their newline, as the rows of WikiText do. */
static lt_status add_lines(lt_ids *out, size_t *left, const lt_doc *doc, const lt_tokenizer *tok, size_t seq_len,
                           lt_err *err) {
    for (size_t at = 0; at < doc->bytes && *left; --*left) {
        const char *end = memchr(doc->text + at, '\n', doc->bytes - at);
        const size_t n = end ? (size_t)(end - doc->text) + 1 - at : doc->bytes - at;
        LT_TRY(add_row(out, doc->text + at, n, tok, seq_len, err));
        at += n;
    }
    return LT_OK;
}

static lt_status make_rows(lt_ids *out, size_t *seen, const lt_docs *docs, const lt_tokenizer *tok,
                           const lt_tokens_opts *o, lt_err *err) {
    size_t left = o->max_rows ? o->max_rows : SIZE_MAX;
    LT_REQUIRE(err, o->seq_len >= 2, "rows: rows of %zu tokens predict nothing", o->seq_len);
    for (size_t i = 0; i < docs->n && left; i++) {
        const lt_doc *doc = &docs->doc[i];
        if (!docs->jsonl) {
            LT_TRY(add_lines(out, &left, doc, tok, o->seq_len, err));
            continue;
        }
        LT_TRY(add_row(out, doc->text, doc->bytes, tok, o->seq_len, err));
        left--;
    }
    *seen = out->n;
    return LT_OK;
}

extern const lt_recipe lt_recipe_svdllm, lt_recipe_wikitext, lt_recipe_rows;
const lt_recipe lt_recipe_svdllm = { "svdllm", "256 windows at random characters (SVD-LLM's calibration)", true, false,
                                     make_svdllm };
const lt_recipe lt_recipe_wikitext = { "wikitext", "one tokenisation, whole windows (the papers' perplexity)", false,
                                       true, make_wikitext };
const lt_recipe lt_recipe_rows = { "rows", "every row of the text alone, cut to the row length", true, false,
                                   make_rows };
