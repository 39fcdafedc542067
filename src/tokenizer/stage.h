/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/stage.h - the pipeline as tables of rows.
 *
 * tokenizer.json names each part by "type". A stage is a list of parts (a "Sequence" is flattened into it); a part is a
 * row of the stage's table and the data its parse function made. The tables are in normalizer.c, pretokenizer.c,
 * postprocessor.c, decoder.c and model.c; a new kind is a new row there. */
#ifndef LT_TOKENIZER_STAGE_H
#define LT_TOKENIZER_STAGE_H

#include "core/hash.h"
#include "io/json.h"
#include "tokenizer/added.h"
#include "tokenizer/text.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocab.h"

/* What parse functions see: where the JSON came from, and the vocabulary for those that name tokens. */
typedef struct lt_tok_source {
    const char *where;
    const lt_tokenizer *tokenizer;
} lt_tok_source;

typedef struct lt_tok_row {
    const char *type;
    /* NULL: no parameters. On failure *self stays NULL. */
    lt_status (*parse)(void **self, const json_t *j, const lt_tok_source *in, lt_err *err);
    void (*destroy)(void *self); /* NULL: lt_free */
    lt_tok_rewrite normalize;
    lt_status (*pretokenize)(const void *self, lt_tok_text *t, lt_err *err);
    lt_status (*process)(const void *self, lt_tok_ids *ids, lt_err *err);
    lt_status (*decode)(const void *self, lt_tok_text *t, lt_err *err); /* one span per token */
} lt_tok_row;

typedef struct lt_tok_table {
    const char *stage;   /* member of tokenizer.json, for messages */
    const char *members; /* where a "Sequence" keeps its parts */
    const lt_tok_row *row;
    size_t n;
} lt_tok_table;
extern const lt_tok_table lt_tok_normalizers, lt_tok_pretokenizers, lt_tok_postprocessors, lt_tok_decoders;

typedef struct lt_tok_part {
    const lt_tok_row *row;
    void *self;
} lt_tok_part;
typedef struct lt_tok_stage {
    lt_tok_part *part;
    size_t n, cap;
} lt_tok_stage;
/* j NULL or null: an empty stage. An unknown type is LT_EUNSUPPORTED that names it and lists the known ones. */
lt_status lt_tok_stage_parse(lt_tok_stage *s, const lt_tok_table *table, const json_t *j, const lt_tok_source *in,
                             lt_err *err);
void lt_tok_stage_clear(lt_tok_stage *s);

/* The model turns spans into ids. */
typedef struct lt_tok_model_row {
    const char *type;
    bool (*recognise)(const json_t *j); /* old files have no "type" */
    /* Adds its vocabulary to *v; what decides ids goes into the digest. */
    lt_status (*parse)(void **self, lt_vocab *v, const json_t *j, const char *where, lt_hash *digest, lt_err *err);
    void (*destroy)(void *self);
    lt_status (*run)(const void *self, const lt_vocab *v, lt_tok_text *t, lt_tok_ids *out,
                     lt_err *err); /* may spell t out */
} lt_tok_model_row;
lt_status lt_tok_model_find(const lt_tok_model_row **out, const json_t *j, const char *where, lt_err *err);
extern const lt_tok_model_row lt_tok_bpe, lt_tok_unigram, lt_tok_wordpiece;

struct lt_tokenizer {
    lt_vocab vocab;
    lt_added added;
    lt_tok_stage normalizer, pretokenizer, postprocessor, decoder;
    const lt_tok_model_row *model;
    void *model_self;
    int32_t bos, eos;
    char hash[LT_HASH_HEX];
};

/* Builds a tokenizer from the tree of a tokenizer.json. */
lt_status lt_tokenizer_from_tree(lt_tokenizer **out, const json_t *root, const char *where, lt_err *err);
/* The id of "bos_token": "<s>" or {"content": "<s>", ...} in a tokenizer_config.json, -1: none of that text; false: no
 * such member (null is a member: none). */
bool lt_tok_named(int32_t *id, const lt_tokenizer *t, const json_t *config, const char *key);
/* The tree of the tokenizer.json that a GGUF's vocabulary came from, in the members that from_tree reads; ids -1: none.
 */
lt_status lt_tokenizer_gguf_tree(json_t **out, int32_t *bos, int32_t *eos, const struct lt_gguf *g, lt_err *err);
/* What lies beside merges.txt in a folder without tokenizer.json; all but vocab may be NULL. */
typedef struct lt_tok_vocab_files {
    json_t *vocab, *added;                  /* vocab.json, added_tokens.json */
    const json_t *config, *special, *model; /* tokenizer_config.json, special_tokens_map.json, config.json */
} lt_tok_vocab_files;
/* The tree of the tokenizer.json that transformers makes of them, and the special tokens by role ("bos_token"). Classes
 * GPT2Tokenizer and Qwen2Tokenizer; what cannot be known is LT_EUNSUPPORTED. */
lt_status lt_tok_vocab_tree(json_t **root, json_t **names, const lt_tok_vocab_files *f, const char *folder,
                            const char *where, lt_err *err);
/* The list of a merges.txt, [["t", "h"], ...]. Blank lines are no merges; any other that is not two tokens with a blank
 * between them is LT_EDATA with its number. */
lt_status lt_tok_merges_parse(json_t **out, const char *text, size_t bytes, const char *where, lt_err *err);
/* The tree of a folder's tokenizer, and its tokenizer_config.json (NULL: none). */
lt_status lt_tokenizer_folder_tree(json_t **root, json_t **config, const char *folder, lt_err *err);
/* Replace is a row of two tables. */
lt_status lt_tok_replace_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err);
void lt_tok_replace_destroy(void *self);
lt_status lt_tok_replace_run(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err);

lt_status lt_tok_normalize(const lt_tokenizer *t, lt_tok_text *text, lt_err *err);
lt_status lt_tok_pretokenize(const lt_tok_stage *s, lt_tok_text *text, lt_err *err);

#endif
