/* SPDX-License-Identifier: Apache-2.0 */
/* chat/jinja_value.h - the values of chat templates, with the meaning that Python gives them.
 *
 * Everything a rendering makes lives in one arena and goes with it. Strings are UTF-8 and count in code points. Work
 * and memory are budgets in steps and bytes, not in seconds, so that a template ends the same way on every machine. */
#ifndef LT_CHAT_JINJA_VALUE_H
#define LT_CHAT_JINJA_VALUE_H

#include "core/core.h"
#include "io/json.h"
#include "tokenizer/text.h"

typedef enum lt_jkind {
    LT_J_UNSET, /* no value at all: an argument that was not given */
    LT_J_UNDEFINED,
    LT_J_NONE,
    LT_J_BOOL,
    LT_J_INT,
    LT_J_FLOAT,
    LT_J_STRING,
    LT_J_LIST,
    LT_J_DICT,
    LT_J_NAMESPACE, /* a dict that `set` may change */
    LT_J_LOOP,
    LT_J_MACRO,
    LT_J_FUNCTION,
} lt_jkind;

/* What Python would call a list here: only the first two can be printed, only a generator has no length. */
typedef enum lt_jform { LT_J_PLAIN, LT_J_TUPLE, LT_J_VIEW, LT_J_GENERATOR, LT_J_SAFE } lt_jform;

struct lt_jctx;
struct lt_jfn;
struct lt_jmacro;
typedef struct lt_jlist lt_jlist;
typedef struct lt_jdict lt_jdict;

typedef struct lt_jv {
    uint8_t kind, form; /* form: of lists; LT_J_SAFE: of strings, what `safe` gives, only to be written */
    union {
        bool b;
        int64_t i;
        double f;
        const char *s;
        lt_jlist *list;
        lt_jdict *dict;
        struct lt_jloop *loop;
        const struct lt_jmacro *macro;
        const struct lt_jfn *fn;
    };
    union {
        size_t n;                 /* bytes of s; UNDEFINED: s is the name that was looked for */
        const struct lt_jv *self; /* FUNCTION: what the method is bound to; NULL: a global function */
    };
} lt_jv;

struct lt_jlist {
    lt_jv *v;
    size_t n, cap;
};
struct lt_jdict {
    lt_jv *key, *value;
    size_t n, cap;
};

typedef struct lt_jloop {
    lt_jlist items;
    size_t at;
    lt_jv changed; /* what changed() saw last; UNSET at first */
} lt_jloop;

/* A filter, method or global function. Arguments come in the order of param, UNSET where not given; with param[0] = "*"
 * they come as they are, names beside them. */
enum { LT_J_PARAMS = 5 };
typedef struct lt_jargs {
    lt_jv *v;
    const char **name; /* NULL: by position */
    size_t n;
} lt_jargs;
typedef struct lt_jfn {
    const char *name;
    const char *param[LT_J_PARAMS];
    lt_status (*call)(struct lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out);
} lt_jfn;

/* One rendering (or parsing). */
typedef struct lt_jctx {
    lt_arena *arena;
    lt_err *err;
    const char *where;
    int line;
    size_t work, bytes, depth; /* done so far; now */
    int64_t now;               /* seconds since 1970, for strftime_now */
    lt_status failed;          /* what lt_j_alloc's NULL meant */
} lt_jctx;
#define LT_J_MOST_WORK ((size_t)1 << 27)
#define LT_J_MOST_BYTES ((size_t)1 << 28)
#define LT_J_MOST_DEPTH 200

/* NULL: budget or memory is spent, and the error is set. */
void *lt_j_alloc(lt_jctx *c, size_t count, size_t size);
/* LT_EUNSUPPORTED when a rendering does not come to an end. */
lt_status lt_j_work(lt_jctx *c, size_t steps);
lt_status lt_j_enter(lt_jctx *c); /* deeper by one; pairs with c->depth-- when it succeeds */
/* Writes "<what> (<template>: line N)". bad: the template or its input is wrong (LT_EDATA). beyond: outside of the
 * subset that is documented (LT_EUNSUPPORTED), with the way out. Macros, so that the compiler sees which value comes
 * back. */
#define lt_j_bad(c, ...) lt_failed_((lt_j_set_bad((c), __VA_ARGS__), 0), LT_EDATA)
#define lt_j_beyond(c, ...) lt_failed_((lt_j_set_beyond((c), __VA_ARGS__), 0), LT_EUNSUPPORTED)
void lt_j_set_bad(const lt_jctx *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lt_j_set_beyond(const lt_jctx *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What lt_j_alloc's NULL meant. */
static inline lt_status lt_j_spent(const lt_jctx *c) {
    return c->failed == LT_EUNSUPPORTED ? LT_EUNSUPPORTED : LT_ENOMEM;
}

static inline lt_jv lt_j_none(void) {
    return (lt_jv){ .kind = LT_J_NONE };
}
static inline lt_jv lt_j_bool(bool b) {
    return (lt_jv){ .kind = LT_J_BOOL, .b = b };
}
static inline lt_jv lt_j_int(int64_t i) {
    return (lt_jv){ .kind = LT_J_INT, .i = i };
}
static inline lt_jv lt_j_float(double f) {
    return (lt_jv){ .kind = LT_J_FLOAT, .f = f };
}
static inline lt_jv lt_j_text(const char *s, size_t n) { /* borrows */
    return (lt_jv){ .kind = LT_J_STRING, .s = s, .n = n };
}
static inline lt_jv lt_j_undefined(const char *name, size_t n) { /* borrows */
    return (lt_jv){ .kind = LT_J_UNDEFINED, .s = name, .n = n };
}
lt_status lt_j_copy(lt_jctx *c, lt_jv *out, const char *s, size_t n);
lt_status lt_j_copy_buf(lt_jctx *c, lt_jv *out, lt_tok_buf *b); /* and clears b */
lt_status lt_j_list(lt_jctx *c, lt_jv *out, lt_jform form);
lt_status lt_j_push(lt_jctx *c, lt_jlist *l, lt_jv v);
lt_status lt_j_dict(lt_jctx *c, lt_jv *out, lt_jkind kind);
lt_status lt_j_put(lt_jctx *c, lt_jdict *d, lt_jv key, lt_jv value);
const lt_jv *lt_j_find(const lt_jdict *d, const char *key, size_t n); /* NULL: absent */
lt_status lt_j_lookup(lt_jctx *c, const lt_jdict *d, lt_jv key, const lt_jv **out);
lt_status lt_j_from_json(lt_jctx *c, lt_jv *out, const json_t *j);

static inline bool lt_j_is(lt_jv v, const char *text) {
    const size_t n = __builtin_strlen(text);
    return v.kind == LT_J_STRING && v.n == n && __builtin_memcmp(v.s, text, n) == 0;
}
const char *lt_j_type(lt_jv v); /* Python's name of its type */
bool lt_j_truth(lt_jv v);
bool lt_j_number(lt_jv v, double *f); /* bool, int, float */
bool lt_j_integer(lt_jv v, int64_t *i);
lt_status lt_j_equal(lt_jctx *c, lt_jv a, lt_jv b, bool *out);
enum { LT_J_UNORDERED = 2 };                                                  /* NaN */
lt_status lt_j_order(lt_jctx *c, lt_jv a, lt_jv b, const char *op, int *out); /* -1, 0, 1 or UNORDERED */
lt_status lt_j_contains(lt_jctx *c, lt_jv v, lt_jv in, bool *out);            /* v in in */
/* Items as iteration gives them: *out borrows or is new. A dict gives keys, a string its characters. */
lt_status lt_j_items(lt_jctx *c, lt_jv v, lt_jlist *out);
lt_status lt_j_length(lt_jctx *c, lt_jv v, int64_t *out);

/* str(v), or repr(v) as inside of a printed list; appends. */
lt_status lt_j_print(lt_jctx *c, lt_tok_buf *out, lt_jv v, bool repr);
lt_status lt_j_str(lt_jctx *c, lt_jv *out, lt_jv v);
typedef struct lt_jdump {
    bool ascii, sort, indented;
    int64_t indent;
    lt_jv between, after_key; /* separators */
} lt_jdump;
/* json.dumps */
lt_status lt_j_dump(lt_jctx *c, lt_tok_buf *out, lt_jv v, const lt_jdump *how);

bool lt_j_space(uint32_t cp);                                    /* str.isspace */
void lt_j_strip(lt_jv *s, lt_jv chars, bool front, bool back);   /* chars NONE or UNSET: white space */
size_t lt_j_chars(const char *s, size_t n);                      /* code points */
size_t lt_j_offset(const char *s, size_t n, size_t code_points); /* byte offset of a code point, at most n */

/* Tables: filters, global functions, methods by type. NULL: none of that name. */
const lt_jfn *lt_j_filter(const char *name, size_t n);
const lt_jfn *lt_j_global(const char *name, size_t n);
const lt_jfn *lt_j_method(lt_jkind kind, const char *name, size_t n);
/* Tests: x is NAME(arg). */
typedef struct lt_jtest {
    const char *name;
    size_t args;
    lt_status (*run)(lt_jctx *c, lt_jv v, lt_jv arg, bool *out);
} lt_jtest;
const lt_jtest *lt_j_test(const char *name, size_t n);
/* Sorts a's arguments by f's parameters and calls it. */
lt_status lt_j_apply(lt_jctx *c, const lt_jfn *f, lt_jv self, const lt_jargs *a, lt_jv *out);
/* v.name and v[key] as Jinja looks them up; UNDEFINED when absent. */
lt_status lt_j_attribute(lt_jctx *c, lt_jv v, lt_jv name, lt_jv *out);
lt_status lt_j_item(lt_jctx *c, lt_jv v, lt_jv key, lt_jv *out);
/* "a.b.0" as map(attribute=...) takes it */
lt_status lt_j_path(lt_jctx *c, lt_jv v, lt_jv path, lt_jv *out);

#endif
