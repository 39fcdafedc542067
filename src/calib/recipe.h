/* SPDX-License-Identifier: Apache-2.0 */
/* calib/recipe.h - from a data file to rows of ids: documents, and the table of recipes; private to the room.
 *
 * A recipe is one function; files recipe_<group>.c hold them, recipes.c the table. */
#ifndef LT_CALIB_RECIPE_H
#define LT_CALIB_RECIPE_H

#include "calib/tokens.h"

/* The texts of a data file: one for plain text, one per row for JSONL. */
typedef struct lt_doc {
    const char *text;
    size_t bytes;
    bool templated; /* a chat: its template has written the special tokens */
} lt_doc;
typedef struct lt_docs {
    char *storage; /* the file, uncompressed */
    char **made;   /* texts made from several members (Alpaca, messages) */
    size_t n_made;
    lt_doc *doc;
    size_t n, cap;
    bool jsonl, eos; /* eos: the texts end where the model should stop */
    void *json;      /* parsed rows that texts point into */
} lt_docs;
/* o: the chat template for rows of "messages"; NULL: there is none. parse takes text. */
lt_status lt_docs_read(lt_docs *out, const char *path, const lt_tokens_opts *o, lt_err *err);
lt_status lt_docs_parse(lt_docs *out, char *text, size_t bytes, const char *name, const lt_tokens_opts *o, lt_err *err);
void lt_docs_clear(lt_docs *d);
/* Rows as the WikiText papers see them, joined by two newlines: a text file's lines (blank ones "", the others with
 * their newline), or the texts of JSONL. lt_free. */
lt_status lt_docs_join(char **text, size_t *bytes, const lt_docs *d, lt_err *err);

/* The published template of an instruction; output "": what the model is asked with. lt_free; NULL: out of memory. */
char *lt_alpaca_text(const char *instruction, const char *input, const char *output);

/* Ids growing at the end. */
typedef struct lt_ids {
    int32_t *id;
    size_t n, cap;
    size_t *end, n_ends, cap_ends; /* of rows that differ in length; NULL: all have seq_len */
} lt_ids;
lt_status lt_ids_add(lt_ids *ids, const int32_t *more, size_t n, lt_err *err);
lt_status lt_ids_end_row(lt_ids *ids, lt_err *err); /* what was added since the last one is a row */

typedef struct lt_recipe {
    const char *name, *summary;
    bool isolated;
    bool in_order; /* rows are the text's from its beginning: asking for more adds to them */
    /* appends whole rows of o->seq_len ids, or of at most so many, each ended; *seen: ids of the text before cutting,
     * for messages */
    lt_status (*make)(lt_ids *out, size_t *seen, const lt_docs *docs, const lt_tokenizer *tok, const lt_tokens_opts *o,
                      lt_err *err);
} lt_recipe;
extern const lt_recipe *const lt_recipes[]; /* NULL-terminated */

/* Finishes a set whose ids and row starts are there: content ids and hash. */
lt_status lt_tokens_seal(lt_tokens *t, lt_err *err);

#endif
