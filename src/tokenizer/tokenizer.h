/* tokenizer/tokenizer.h - text to ids and back, as Hugging Face's `tokenizers` does it for the same file.
 *
 * A tokenizer is a pipeline of rows: added tokens -> normalizer -> pre-tokenizer -> model -> post-processor, and a
 * decoder for the way back; each kind found in tokenizer.json ("type") or implied by GGUF's tokenizer.ggml.pre is one
 * row of a table in its own file. What no row covers is LT_EUNSUPPORTED naming the field.
 * Objects are immutable after opening; encode and decode may run in many threads at once. */
#ifndef LT_TOKENIZER_TOKENIZER_H
#define LT_TOKENIZER_TOKENIZER_H

#include "core/core.h"

struct lt_gguf;
typedef struct lt_tokenizer lt_tokenizer;

/* folder: holds tokenizer.json, or else vocab.json and merges.txt of a byte-level BPE whose class is named
 * (tokenizer_config.json and generation_config.json are read for bos/eos when there). */
lt_status lt_tokenizer_open(lt_tokenizer **out, const char *folder, lt_err *err);
/* Whether the folder holds those files. */
lt_status lt_tokenizer_there(bool *there, const char *folder, lt_err *err);
lt_status lt_tokenizer_from_json(lt_tokenizer **out, const char *text, size_t bytes, const char *name, lt_err *err);
lt_status lt_tokenizer_from_gguf(lt_tokenizer **out, const struct lt_gguf *g, lt_err *err);
void lt_tokenizer_destroy(lt_tokenizer *t);

/* ids: *n of them, lt_free. text is UTF-8 (may hold U+0000); invalid UTF-8 is LT_EDATA with the byte offset.
 * add_special: run the post-processor (BOS and the like). Time linear in bytes up to a log factor, also for one 1 MB
 * word. */
lt_status lt_tokenizer_encode(const lt_tokenizer *t, const char *text, size_t bytes, bool add_special, int32_t **ids,
                              size_t *n, lt_err *err);
/* *text NUL-terminated, lt_free; invalid sequences become U+FFFD as the reference does. An id outside the vocabulary is
 * LT_EDATA. */
lt_status lt_tokenizer_decode(const lt_tokenizer *t, const int32_t *ids, size_t n, bool skip_special, char **text,
                              size_t *bytes, lt_err *err);

/* Streaming decode: pieces never end inside a UTF-8 sequence. */
typedef struct lt_decode_stream lt_decode_stream;
lt_status lt_decode_stream_create(lt_decode_stream **out, const lt_tokenizer *t, bool skip_special, lt_err *err);
/* *piece NULL: nothing to show yet; else valid until the next call. */
lt_status lt_decode_stream_push(lt_decode_stream *s, int32_t id, const char **piece, size_t *bytes, lt_err *err);
void lt_decode_stream_destroy(lt_decode_stream *s);

size_t lt_tokenizer_vocab_size(const lt_tokenizer *t);               /* 1 + largest id */
const char *lt_tokenizer_token(const lt_tokenizer *t, int32_t id);   /* vocabulary string; NULL: no such id */
int32_t lt_tokenizer_find(const lt_tokenizer *t, const char *token); /* -1: absent */
int32_t lt_tokenizer_bos(const lt_tokenizer *t);                     /* -1: none */
int32_t lt_tokenizer_eos(const lt_tokenizer *t);                     /* -1: none */
bool lt_tokenizer_is_special(const lt_tokenizer *t, int32_t id);
/* SHA-256 over what decides ids: vocabulary, merges, added tokens, pipeline; same pipeline from JSON or GGUF need not
 * agree. */
const char *lt_tokenizer_hash(const lt_tokenizer *t);

#endif
