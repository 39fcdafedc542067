/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/writing.h"

#include <string.h>

/* ---- stop strings ---- */

/* Where the first stop string begins at or after `from`; SIZE_MAX: nowhere. */
static size_t find_stop(const lt_stops *stops, const char *text, size_t bytes, size_t from) {
    size_t first = SIZE_MAX;
    for (size_t i = 0; i < stops->n; i++) {
        const size_t n = strlen(stops->text[i]);
        for (size_t at = from; at < first && at + n <= bytes; at++)
            if (memcmp(text + at, stops->text[i], n) == 0) first = at;
    }
    return first;
}

/* Bytes at the end of text that a stop string may begin with. */
static size_t may_begin_stop(const lt_stops *stops, const char *text, size_t bytes) {
    size_t longest = 0;
    for (size_t i = 0; i < stops->n; i++)
        for (size_t n = lt_min_size(strlen(stops->text[i]) - 1, bytes); n > longest; n--)
            if (memcmp(text + bytes - n, stops->text[i], n) == 0) longest = n;
    return longest;
}

/* ---- writing ---- */

static void *grow(void *old, size_t *cap, size_t need, size_t size) {
    size_t bytes, more = need + need / 2 + 16;
    if (need <= *cap) return old;
    void *grown = lt_mul_size(more, size, &bytes) ? lt_realloc(old, bytes) : NULL;
    if (grown) *cap = more;
    return grown;
}

lt_status lt_writing_begin(lt_writing *w, const lt_tokenizer *tok, const lt_stops *stops, const int32_t *prompt,
                           size_t n_prompt, lt_err *err) {
    const char *piece;
    size_t bytes;
    *w = (lt_writing){ .tok = tok, .stops = stops };
    if (!tok) return LT_OK;
    LT_TRY(lt_decode_stream_create(&w->stream, tok, true, err));
    for (size_t i = 0; i < n_prompt; i++)
        if (lt_tokenizer_token(tok, prompt[i])) /* models may have more ids than their tokenizer */
            LT_TRY(lt_decode_stream_push(w->stream, prompt[i], &piece, &bytes, err));
    return LT_OK;
}

static lt_status add_text(lt_writing *w, const char *piece, size_t bytes, lt_err *err) {
    char *text = grow(w->text, &w->cap_text, w->bytes + bytes + 1, 1);
    if (!text) return lt_fail(err, LT_ENOMEM, "generate: out of memory (text)");
    w->text = text;
    memcpy(text + w->bytes, piece, bytes);
    w->bytes += bytes;
    const size_t stop = find_stop(w->stops, text, w->bytes, w->settled);
    w->stopped = stop != SIZE_MAX;
    if (w->stopped) w->bytes = stop;
    text[w->bytes] = 0;
    w->settled = w->stopped ? w->bytes : w->bytes - may_begin_stop(w->stops, text, w->bytes);
    return LT_OK;
}

lt_status lt_writing_put(lt_writing *w, int32_t id, lt_err *err) {
    const char *piece = NULL;
    size_t bytes = 0;
    int32_t *ids = grow(w->ids, &w->cap_ids, w->n_ids + 1, sizeof *ids);
    if (!ids) return lt_fail(err, LT_ENOMEM, "generate: %zu tokens", w->n_ids + 1);
    w->ids = ids;
    ids[w->n_ids++] = id;
    if (w->stream && lt_tokenizer_token(w->tok, id)) LT_TRY(lt_decode_stream_push(w->stream, id, &piece, &bytes, err));
    return piece ? add_text(w, piece, bytes, err) : LT_OK;
}

void lt_writing_end(lt_writing *w) {
    w->settled = w->bytes;
    lt_decode_stream_destroy(w->stream);
    w->stream = NULL;
}

void lt_writing_clear(lt_writing *w) {
    lt_decode_stream_destroy(w->stream);
    lt_free(w->ids);
    lt_free(w->text);
    *w = (lt_writing){ 0 };
}
