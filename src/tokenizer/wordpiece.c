/* SPDX-License-Identifier: Apache-2.0 */
/* WordPiece: from the left, the longest token that fits; tokens inside a word carry a prefix. A word that cannot be
 * covered, or is too long, is one unknown token. Devlin et al. 2018, tokenization.py (WordpieceTokenizer). */
#include "tokenizer/stage.h"

#include <string.h>

#include "tokenizer/utf8.h"

typedef struct wordpiece {
    char *prefix, *unk;
    size_t prefix_bytes;
    size_t longest; /* bytes of the longest token */
    size_t most;    /* characters of a word */
    int32_t unk_id; /* -1: not in the vocabulary */
} wordpiece;

static void wordpiece_destroy(void *self) {
    wordpiece *w = self;
    if (!w) return;
    lt_free(w->prefix);
    lt_free(w->unk);
    lt_free(w);
}

static lt_status text_of(char **out, const json_t *j, const char *key, const char *otherwise, const char *where,
                         lt_err *err) {
    const char *s;
    LT_TRY(lt_json_string(&s, j, key, otherwise, where, err));
    *out = lt_strdup(s);
    return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "no memory for %s (%s)", key, where);
}

static lt_status wordpiece_fill(wordpiece *w, lt_vocab *v, const json_t *j, const char *where, lt_hash *digest,
                                lt_err *err) {
    LT_TRY(text_of(&w->prefix, j, "continuing_subword_prefix", "##", where, err));
    LT_TRY(text_of(&w->unk, j, "unk_token", "[UNK]", where, err));
    LT_TRY(lt_json_size(&w->most, j, "max_input_chars_per_word", 100, where, err));
    LT_TRY(lt_vocab_parse(v, j, where, err));
    w->prefix_bytes = strlen(w->prefix);
    w->unk_id = lt_vocab_find_model(v, w->unk, strlen(w->unk));
    for (size_t id = 0; id < v->size; id++) w->longest = lt_max_size(w->longest, v->entry[id].bytes);
    const uint64_t most = w->most;
    lt_hash_update(digest, "WordPiece", 10);
    lt_hash_update(digest, &most, sizeof most);
    lt_hash_update(digest, w->prefix, w->prefix_bytes + 1);
    lt_hash_update(digest, w->unk, strlen(w->unk) + 1);
    return LT_OK;
}

static lt_status wordpiece_parse(void **self, lt_vocab *v, const json_t *j, const char *where, lt_hash *digest,
                                 lt_err *err) {
    wordpiece *w = lt_calloc(1, sizeof *w);
    if (!w) return lt_fail(err, LT_ENOMEM, "no memory for a WordPiece model (%s)", where);
    const lt_status st = wordpiece_fill(w, v, j, where, digest, err);
    if (st == LT_OK)
        *self = w;
    else
        wordpiece_destroy(w);
    return st;
}

/* Only files that name the type: an old one without merges looks like a word list, too. */
static bool wordpiece_recognise(const json_t *j) {
    (void)j;
    return false;
}

static size_t characters(const char *s, size_t n) {
    size_t count = 0;
    for (size_t at = 0; at < n; at += lt_utf8_length(s[at])) count++;
    return count;
}

/* The longest token at s[start, n), with the prefix unless it starts the word: its id and end; -1: none. */
static int32_t longest_at(const wordpiece *w, const lt_vocab *v, const char *s, size_t n, size_t start, lt_tok_buf *tmp,
                          size_t *end) {
    const size_t head = start > 0 ? w->prefix_bytes : 0;
    if (head >= w->longest) return -1;
    *end = n;
    if (n - start > w->longest - head) *end = lt_utf8_before(s, start + w->longest - head + 1); /* more cannot match */
    memcpy(tmp->data + head, s + start, *end - start); /* behind the prefix, written once */
    for (; *end > start; *end = lt_utf8_before(s, *end)) {
        const int32_t id = lt_vocab_find_model(v, tmp->data, head + *end - start);
        if (id >= 0) return id;
    }
    return -1;
}

static lt_status encode_word(const wordpiece *w, const lt_vocab *v, const char *s, size_t n, lt_tok_buf *tmp,
                             lt_tok_ids *out, lt_err *err) {
    const size_t mark = out->n;
    size_t end = n;
    bool whole = characters(s, n) <= w->most;
    for (size_t start = 0; start < n && whole; start = end) {
        if (start > 0) memcpy(tmp->data, w->prefix, w->prefix_bytes);
        const int32_t id = longest_at(w, v, s, n, start, tmp, &end);
        whole = id >= 0;
        if (whole) LT_TRY(lt_tok_ids_put(out, id, err));
    }
    if (whole) return LT_OK;
    out->n = mark;
    if (w->unk_id < 0)
        return lt_fail(err, LT_EDATA, "tokenizer: unknown token \"%.80s\" is not in the vocabulary", w->unk);
    return lt_tok_ids_put(out, w->unk_id, err);
}

static lt_status wordpiece_run(const void *self, const lt_vocab *v, lt_tok_text *t, lt_tok_ids *out, lt_err *err) {
    const wordpiece *w = self;
    lt_tok_buf tmp = { 0 };
    lt_status st = lt_tok_text_spell_out(t, err);
    if (st == LT_OK) st = lt_tok_buf_reserve(&tmp, w->prefix_bytes + w->longest + 1, err);
    for (size_t i = 0; i < t->spans.n && st == LT_OK; i++) {
        const lt_tok_span s = t->spans.v[i];
        if (s.id >= 0)
            st = lt_tok_ids_put(out, s.id, err);
        else
            st = encode_word(w, v, t->data + s.start, s.end - s.start, &tmp, out, err);
    }
    lt_tok_buf_clear(&tmp);
    return st;
}

const lt_tok_model_row lt_tok_wordpiece = { .type = "WordPiece",
                                            .recognise = wordpiece_recognise,
                                            .parse = wordpiece_parse,
                                            .destroy = wordpiece_destroy,
                                            .run = wordpiece_run };
