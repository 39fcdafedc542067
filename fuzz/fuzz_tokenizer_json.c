/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer.h"
#include "tokenizer/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void must_be_utf8(const char *s, size_t n) {
    uint32_t cp;
    for (size_t at = 0; at < n; at += lt_utf8_length(s[at]))
        if (lt_utf8_read(s + at, n - at, &cp) < 0) abort();
}

/* Ids that encode gives are ids that decode takes, whole and one at a time. */
static void encode_and_decode(const lt_tokenizer *t) {
    static const char text[] = "a  <s>the\n'S 12\xC3\xA9\xE4\xB8\xAD\xCC\x81 \xF0\x9F\x98\x80\x00 <mask> ing!";
    int32_t *ids = NULL;
    size_t n = 0, n_text;
    char *back;
    lt_decode_stream *stream;
    if (lt_tokenizer_encode(t, text, sizeof text - 1, true, &ids, &n, NULL) != LT_OK) return;
    if (lt_tokenizer_decode(t, ids, n, false, &back, &n_text, NULL) != LT_OK) abort();
    must_be_utf8(back, n_text);
    lt_free(back);
    if (lt_decode_stream_create(&stream, t, true, NULL) != LT_OK) abort();
    for (size_t i = 0; i < n && i < 64; i++) {
        const char *piece;
        size_t n_piece;
        if (lt_decode_stream_push(stream, ids[i], &piece, &n_piece, NULL) != LT_OK) break;
        if (piece) must_be_utf8(piece, n_piece);
    }
    lt_decode_stream_destroy(stream);
    lt_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    lt_tokenizer *t = NULL;
    if (lt_tokenizer_from_json(&t, (const char *)data, bytes, "fuzz", &err) != LT_OK) {
        if (t || err.code == LT_OK || err.message[0] == 0 || strchr(err.message, '\n')) abort();
        return 0;
    }
    if (strlen(lt_tokenizer_hash(t)) != 64) abort();
    encode_and_decode(t);
    lt_tokenizer_destroy(t);
    return 0;
}
