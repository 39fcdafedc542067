/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming decode: what one more id adds to the text.
 *
 * The window holds the ids since the piece before the last; its decoding minus that of the part already shown is the
 * new piece. A decoding that ends in U+FFFD may end inside a character, so it waits (tokenizers 0.22, DecodeStream). */
#include "tokenizer/tokenizer.h"

#include <string.h>

#include "tokenizer/stage.h"

struct lt_decode_stream {
    const lt_tokenizer *t;
    bool skip_special;
    lt_tok_ids window;
    size_t shown; /* ids of the window whose text has been shown */
    char *prefix; /* their text */
    size_t prefix_bytes;
    char *text; /* of the whole window: the last piece is its end */
};

lt_status lt_decode_stream_create(lt_decode_stream **out, const lt_tokenizer *t, bool skip_special, lt_err *err) {
    lt_decode_stream *s = lt_calloc(1, sizeof *s);
    if (!s) return lt_fail(err, LT_ENOMEM, "no memory for a decoding stream");
    s->t = t;
    s->skip_special = skip_special;
    *out = s;
    return LT_OK;
}

void lt_decode_stream_destroy(lt_decode_stream *s) {
    if (!s) return;
    lt_tok_ids_clear(&s->window);
    lt_free(s->prefix);
    lt_free(s->text);
    lt_free(s);
}

static bool may_go_on(const char *text, size_t bytes) {
    return bytes >= 3 && memcmp(text + bytes - 3, "\xEF\xBF\xBD", 3) == 0;
}

static lt_status decode_window(const lt_decode_stream *s, char **text, size_t *bytes, lt_err *err) {
    return lt_tokenizer_decode(s->t, s->window.v, s->window.n, s->skip_special, text, bytes, err);
}

static lt_status set_prefix(lt_decode_stream *s, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(decode_window(s, &text, &bytes, err));
    lt_free(s->prefix);
    s->prefix = text;
    s->prefix_bytes = bytes;
    return LT_OK;
}

/* Nothing shown yet (special tokens, or half a character): what the window says on its own may count as shown. */
static lt_status start_prefix(lt_decode_stream *s, lt_err *err) {
    if (s->prefix_bytes > 0 || s->window.n == 0) return LT_OK;
    LT_TRY(set_prefix(s, err));
    if (may_go_on(s->prefix, s->prefix_bytes))
        s->prefix_bytes = 0;
    else
        s->shown = s->window.n;
    return LT_OK;
}

lt_status lt_decode_stream_push(lt_decode_stream *s, int32_t id, const char **piece, size_t *bytes, lt_err *err) {
    size_t n;
    *piece = NULL;
    *bytes = 0;
    if (!lt_tokenizer_token(s->t, id)) /* before it can spoil the window */
        return lt_fail(err, LT_EDATA, "token id outside the vocabulary (%d, vocabulary %zu)", id,
                       lt_tokenizer_vocab_size(s->t));
    LT_TRY(start_prefix(s, err));
    LT_TRY(lt_tok_ids_put(&s->window, id, err));
    lt_free(s->text);
    s->text = NULL;
    LT_TRY(decode_window(s, &s->text, &n, err));
    if (n <= s->prefix_bytes || may_go_on(s->text, n)) return LT_OK;
    if (memcmp(s->text, s->prefix ? s->prefix : "", s->prefix_bytes) != 0)
        return lt_fail(err, LT_EDATA, "decoding changed text that was already shown (token %d)", id);
    const size_t had = s->prefix_bytes, left = s->window.n - s->shown;
    memmove(s->window.v, s->window.v + s->shown, left * sizeof *s->window.v);
    s->window.n = left;
    s->shown = left;
    LT_TRY(set_prefix(s, err));
    *piece = s->text + had;
    *bytes = n - had;
    return LT_OK;
}
