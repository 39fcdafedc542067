/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/text.h - what flows through the pipeline: bytes cut into spans, and ids.
 *
 * A text starts as one span over the caller's bytes. Splitting stages replace the list of spans; stages that change
 * bytes write a new buffer. Spans with an id are finished tokens (added tokens) and are left alone by every stage. */
#ifndef LT_TOKENIZER_TEXT_H
#define LT_TOKENIZER_TEXT_H

#include "core/core.h"

/* Growing arrays; zeroed is empty. */
typedef struct lt_tok_buf {
    char *data;
    size_t len, cap;
} lt_tok_buf;
typedef struct lt_tok_ids {
    int32_t *v;
    size_t n, cap;
} lt_tok_ids;

lt_status lt_tok_buf_reserve(lt_tok_buf *b, size_t more, lt_err *err);
lt_status lt_tok_buf_put(lt_tok_buf *b, const void *data, size_t bytes, lt_err *err);
void lt_tok_buf_clear(lt_tok_buf *b);
lt_status lt_tok_ids_reserve(lt_tok_ids *ids, size_t more, lt_err *err);
lt_status lt_tok_ids_put(lt_tok_ids *ids, int32_t id, lt_err *err);
void lt_tok_ids_clear(lt_tok_ids *ids);

typedef struct lt_tok_span {
    size_t start, end; /* bytes of lt_tok_text.data */
    int32_t id;        /* >= 0: an added token */
    bool first;        /* begins where the caller's text begins */
} lt_tok_span;

typedef struct lt_tok_spans {
    lt_tok_span *v;
    size_t n, cap;
} lt_tok_spans;

typedef struct lt_tok_text {
    const char *data;
    size_t len;
    lt_tok_buf own; /* holds data once a stage has rewritten it */
    lt_tok_spans spans;
    size_t most;  /* bytes that no stage may exceed: a hostile file could double the text again and again */
    bool symbols; /* after ByteLevel: each byte of a span stands for its symbol of the byte alphabet */
} lt_tok_text;

/* lt_tok_text.most for a text of that many bytes. */
size_t lt_tok_text_most(size_t bytes);
/* Borrows data. */
lt_status lt_tok_text_init(lt_tok_text *t, const char *data, size_t bytes, lt_err *err);
/* Appends a span, also an empty one. */
lt_status lt_tok_spans_push(lt_tok_spans *spans, lt_tok_span span, lt_err *err);
void lt_tok_text_clear(lt_tok_text *t);
/* Appends a span; an empty one without id is dropped, as no stage ever shows one to the next. */
lt_status lt_tok_spans_put(lt_tok_spans *spans, lt_tok_span span, lt_err *err);
/* The spans of t become those of *spans, which is emptied. */
void lt_tok_text_set_spans(lt_tok_text *t, lt_tok_spans *spans);

/* Appends to out what becomes of one span; self is the stage's own data. */
typedef lt_status (*lt_tok_rewrite)(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out,
                                    lt_err *err);
/* Rewrites every span that has no id. LT_EUNSUPPORTED: the text grows beyond all measure. */
lt_status lt_tok_text_rewrite(lt_tok_text *t, lt_tok_rewrite rewrite, const void *self, lt_err *err);

/* The byte alphabet of GPT-2: each byte has a printable character, its own where Latin-1 has a printable one, else
 * U+0100 upwards (bytes_to_unicode in openai/gpt-2, encoder.py). */
uint32_t lt_tok_symbol(unsigned char byte);
int lt_tok_symbol_byte(uint32_t cp); /* -1: not a symbol */
/* Writes out the symbols that lt_tok_text.symbols only promises. */
lt_status lt_tok_text_spell_out(lt_tok_text *t, lt_err *err);

#endif
