/* SPDX-License-Identifier: Apache-2.0 */
/* chat/jinja_ast.h - a template as tokens and as a tree; both live in the arena of the context that made them. */
#ifndef LT_CHAT_JINJA_AST_H
#define LT_CHAT_JINJA_AST_H

#include "chat/jinja_value.h"

typedef enum lt_jtok {
    LT_T_END,
    LT_T_DATA,
    LT_T_PRINT, /* {{ */
    LT_T_PRINT_END,
    LT_T_BLOCK, /* {% */
    LT_T_BLOCK_END,
    LT_T_NAME,
    LT_T_CONST, /* string or number: value */
    LT_T_OP,    /* text: one or two characters */
} lt_jtok;
typedef struct lt_jtoken {
    lt_jtok type;
    int line;
    const char *s; /* not NUL-terminated */
    size_t n;
    lt_jv value;
} lt_jtoken;
/* Cuts a template as Jinja does with trim_blocks and lstrip_blocks, one newline at its end dropped; *tokens end with
 * LT_T_END. text must be valid UTF-8. */
lt_status lt_j_lex(lt_jctx *c, const char *text, size_t bytes, lt_jtoken **tokens);

typedef enum lt_jnode_kind {
    /* expressions */
    LT_N_CONST,  /* value */
    LT_N_NAME,   /* name */
    LT_N_LIST,   /* item; op 't': a tuple */
    LT_N_DICT,   /* item: key, value, key, value ... */
    LT_N_ATTR,   /* a.name */
    LT_N_ITEM,   /* a[b] */
    LT_N_SLICE,  /* a[item 0 : item 1 : item 2], each may be NULL */
    LT_N_CALL,   /* a(item ...), key[i]: name of a keyword argument */
    LT_N_FILTER, /* a | filter(item ...); a NULL: of a block */
    LT_N_TEST,   /* a is test(b) */
    LT_N_UNARY,  /* op '-' '+' '!' */
    LT_N_BINARY, /* a op b: + - * / f(loor) % p(ower) */
    LT_N_AND,
    LT_N_OR,
    LT_N_CONCAT,  /* item ~ ... */
    LT_N_COMPARE, /* a key[0] item[0] key[1] item[1] ... */
    LT_N_COND,    /* b if a else c; c may be NULL */
    /* statements */
    LT_N_TEXT,      /* value */
    LT_N_OUTPUT,    /* a */
    LT_N_BODY,      /* item ... */
    LT_N_IF,        /* a: then b, else c (may be NULL) */
    LT_N_FOR,       /* a in b if c (may be NULL): item[0], else item[1] (may be NULL) */
    LT_N_SET,       /* a = b */
    LT_N_SET_BLOCK, /* a = what b writes, through the filters c (may be NULL) */
    LT_N_MACRO,     /* name(key[i] = item[i], ...): a; item[i] NULL: no default */
    LT_N_SCOPE,     /* a in a scope of its own, with key[i] = item[i] */
    LT_N_BREAK,
    LT_N_CONTINUE,
} lt_jnode_kind;

typedef struct lt_jnode lt_jnode;
struct lt_jnode {
    uint8_t kind;
    char op;
    int line;
    const lt_jnode *a, *b, *c;
    const lt_jnode **item;
    const char **key;
    size_t n, cap; /* of item and key */
    lt_jv name;    /* a string */
    lt_jv value;
    const lt_jfn *filter;
    const lt_jtest *test;
};

/* LT_EDATA: a syntax error; LT_EUNSUPPORTED: a statement, filter or test outside of the subset. */
lt_status lt_j_parse(lt_jctx *c, const char *text, size_t bytes, const lt_jnode **tree);

/* vars: a dict of the template's variables. Appends to out. */
lt_status lt_j_run(lt_jctx *c, const lt_jnode *tree, lt_jv vars, lt_tok_buf *out);

#endif
