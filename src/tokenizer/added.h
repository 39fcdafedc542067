/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/added.h - added tokens: strings found in the text before anything else looks at it.
 *
 * Tokens with normalized = false are looked for in the text as given, the others in the normalised text (and are
 * normalised themselves first). Leftmost match, longest of those that start there, matches do not overlap; flags are
 * applied afterwards, so a match refused by single_word still hides what lies inside it.
 * Source: behaviour of tokenizers 0.22 (AddedVocabulary). */
#ifndef LT_TOKENIZER_ADDED_H
#define LT_TOKENIZER_ADDED_H

#include "tokenizer/text.h"

typedef struct lt_added_token {
    int32_t id;
    bool single_word;    /* not between letters, digits, marks, '_' */
    bool lstrip, rstrip; /* takes the white space beside it */
    bool normalized;
} lt_added_token;

/* A trie over bytes; children of a node are a linked list. */
typedef struct lt_trie_node {
    int32_t child, next, token;
    unsigned char byte;
} lt_trie_node;
typedef struct lt_trie {
    lt_trie_node *node;
    size_t n, cap;
    int32_t root[256]; /* -1: no token starts with this byte; set by the first put */
} lt_trie;

typedef struct lt_added {
    lt_added_token *token;
    size_t n, cap;
    lt_trie raw, normal; /* hold indices of token */
} lt_added;

lt_status lt_added_put(lt_added *a, lt_added_token token, lt_err *err);
/* content: the string to look for, already normalised if the token is. An empty one is never found. */
lt_status lt_added_index(lt_added *a, size_t i, const char *content, size_t bytes, lt_err *err);
void lt_added_clear(lt_added *a);
/* Cuts the spans of t at the tokens of one kind. */
lt_status lt_added_split(const lt_added *a, bool normalized, lt_tok_text *t, lt_err *err);

#endif
