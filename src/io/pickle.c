/* SPDX-License-Identifier: Apache-2.0 */
#include "io/pickle.h"

#include <stdlib.h>
#include <string.h>

/* ---- values ---- */

typedef enum kind {
    V_MARK,
    V_NONE,
    V_INT, /* and bools */
    V_REAL,
    V_TEXT,
    V_TUPLE,
    V_LIST, /* what it holds is not kept */
    V_DICT,
    V_GLOBAL,
    V_STORAGE,
    V_TENSOR
} kind;

typedef struct value {
    kind kind;
    union {
        int64_t i;
        const struct text *text;
        const struct tuple *tuple;
        struct dict *dict;
        const struct global *global;
        const struct storage *storage;
        const lt_pickle_tensor *tensor;
    } of;
} value;

typedef struct text {
    size_t bytes;
    char data[]; /* NUL-terminated */
} text;
typedef struct tuple {
    size_t n;
    value item[];
} tuple;
typedef struct pair {
    value key, item;
} pair;
typedef struct dict {
    pair *v;
    size_t n, cap;
} dict;
typedef struct storage {
    const char *key;
    lt_dtype dtype;
    uint64_t count;
} storage;

typedef struct vm {
    const uint8_t *start, *p, *end;
    lt_arena *a;
    value *stack, *memo;
    size_t depth, stack_cap, n_memo, memo_cap; /* n_memo: 1 + the largest index in use */
    bool stopped;
    const char *where;
    lt_err *err;
} vm;

static lt_status no_memory(const vm *m) {
    return lt_fail(m->err, LT_ENOMEM, "out of memory (%s: pickle)", m->where);
}

static lt_status broken(const vm *m, const char *what) {
    return lt_fail(m->err, LT_EDATA, "%s (%s: pickle: byte %zu)", what, m->where, (size_t)(m->p - m->start));
}

/* ---- bytes and stack ---- */

static lt_status take(vm *m, uint64_t n, const uint8_t **out) {
    if (n > (uint64_t)(m->end - m->p)) return broken(m, "pickle breaks off");
    *out = m->p;
    m->p += n;
    return LT_OK;
}

static lt_status take_int(vm *m, size_t n, uint64_t *out) {
    const uint8_t *p;
    LT_TRY(take(m, n, &p));
    *out = 0;
    for (size_t i = n; i-- > 0;) *out = *out << 8 | p[i];
    return LT_OK;
}

/* Grows *v, in the arena, to hold i. */
static lt_status reach(const vm *m, value **v, size_t *cap, size_t i) {
    if (i < *cap) return LT_OK;
    const size_t more = lt_max_size(2 * *cap, i + 64);
    value *grown = lt_arena_array(m->a, more, sizeof *grown);
    if (!grown) return no_memory(m);
    if (*cap) memcpy(grown, *v, *cap * sizeof *grown);
    memset(grown + *cap, 0, (more - *cap) * sizeof *grown); /* V_MARK: not set */
    *v = grown;
    *cap = more;
    return LT_OK;
}

static lt_status push(vm *m, value v) {
    LT_TRY(reach(m, &m->stack, &m->stack_cap, m->depth));
    m->stack[m->depth++] = v;
    return LT_OK;
}

static lt_status pop(vm *m, value *out) {
    if (m->depth == 0 || m->stack[m->depth - 1].kind == V_MARK) return broken(m, "nothing on the stack");
    *out = m->stack[--m->depth];
    return LT_OK;
}

static lt_status top(vm *m, kind k, value *out, const char *what) {
    if (m->depth == 0 || m->stack[m->depth - 1].kind != k) return broken(m, what);
    *out = m->stack[m->depth - 1];
    return LT_OK;
}

/* What lies above the last mark is taken away, with it. */
static lt_status to_mark(vm *m, const value **items, size_t *n) {
    size_t at = m->depth;
    while (at > 0 && m->stack[at - 1].kind != V_MARK) at--;
    if (at == 0) return broken(m, "no mark on the stack");
    *items = m->stack + at;
    *n = m->depth - at;
    m->depth = at - 1;
    return LT_OK;
}

/* ---- numbers and text ---- */

static lt_status push_int(vm *m, int64_t i) {
    return push(m, (value){ V_INT, { .i = i } });
}
static lt_status op_none(vm *m) {
    return push(m, (value){ V_NONE, { 0 } });
}
static lt_status op_true(vm *m) {
    return push_int(m, 1);
}
static lt_status op_false(vm *m) {
    return push_int(m, 0);
}

static lt_status push_uint(vm *m, size_t bytes) {
    uint64_t v;
    LT_TRY(take_int(m, bytes, &v));
    return push_int(m, (int64_t)v);
}
static lt_status op_binint1(vm *m) {
    return push_uint(m, 1);
}
static lt_status op_binint2(vm *m) {
    return push_uint(m, 2);
}
static lt_status op_binint(vm *m) {
    uint64_t v;
    LT_TRY(take_int(m, 4, &v));
    return push_int(m, (int64_t)(int32_t)(uint32_t)v);
}

/* Two's complement of any length; what does not fit is no size of ours. */
static lt_status op_long1(vm *m) {
    uint64_t n, v;
    LT_TRY(take_int(m, 1, &n));
    if (n > 8) return broken(m, "number of more than 8 bytes");
    LT_TRY(take_int(m, (size_t)n, &v));
    if (n > 0 && n < 8 && (v >> (8 * n - 1) & 1)) v |= UINT64_MAX << (8 * n);
    return push_int(m, (int64_t)v);
}

static lt_status op_binfloat(vm *m) {
    const uint8_t *p;
    LT_TRY(take(m, 8, &p));
    return push(m, (value){ V_REAL, { 0 } });
}

static lt_status push_text(vm *m, const uint8_t *p, size_t n) {
    text *t = lt_arena_alloc(m->a, sizeof *t + n + 1);
    if (!t) return no_memory(m);
    t->bytes = n;
    memcpy(t->data, p, n);
    t->data[n] = 0;
    return push(m, (value){ V_TEXT, { .text = t } });
}

static lt_status take_text(vm *m, size_t width) {
    uint64_t n;
    const uint8_t *p;
    LT_TRY(take_int(m, width, &n));
    LT_TRY(take(m, n, &p));
    return push_text(m, p, (size_t)n);
}
static lt_status op_text1(vm *m) {
    return take_text(m, 1);
}
static lt_status op_text4(vm *m) {
    return take_text(m, 4);
}
static lt_status op_text8(vm *m) {
    return take_text(m, 8);
}

/* ---- containers ---- */

static lt_status push_tuple(vm *m, const value *items, size_t n) {
    tuple *t = lt_arena_alloc(m->a, sizeof *t + n * sizeof *items); /* n values lie on the stack: no overflow */
    if (!t) return no_memory(m);
    t->n = n;
    if (n) memcpy(t->item, items, n * sizeof *items);
    return push(m, (value){ V_TUPLE, { .tuple = t } });
}

static lt_status short_tuple(vm *m, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (m->depth <= i || m->stack[m->depth - 1 - i].kind == V_MARK) return broken(m, "nothing on the stack");
    m->depth -= n;
    return push_tuple(m, m->stack + m->depth, n);
}
static lt_status op_tuple0(vm *m) {
    return push_tuple(m, NULL, 0);
}
static lt_status op_tuple1(vm *m) {
    return short_tuple(m, 1);
}
static lt_status op_tuple2(vm *m) {
    return short_tuple(m, 2);
}
static lt_status op_tuple3(vm *m) {
    return short_tuple(m, 3);
}
static lt_status op_tuple(vm *m) {
    const value *items;
    size_t n;
    LT_TRY(to_mark(m, &items, &n));
    return push_tuple(m, items, n);
}

static lt_status op_list(vm *m) {
    return push(m, (value){ V_LIST, { 0 } });
}
static lt_status op_append(vm *m) {
    value v;
    LT_TRY(pop(m, &v));
    return top(m, V_LIST, &v, "no list to append to");
}
static lt_status op_appends(vm *m) {
    const value *items;
    size_t n;
    value v;
    LT_TRY(to_mark(m, &items, &n));
    return top(m, V_LIST, &v, "no list to append to");
}

static lt_status op_dict(vm *m) {
    dict *d = lt_arena_alloc(m->a, sizeof *d);
    if (!d) return no_memory(m);
    *d = (dict){ 0 };
    return push(m, (value){ V_DICT, { .dict = d } });
}

static lt_status set_item(const vm *m, dict *d, value key, value item) {
    if (d->n == d->cap) {
        const size_t cap = d->cap ? 2 * d->cap : 8;
        pair *grown = lt_arena_array(m->a, cap, sizeof *grown);
        if (!grown) return no_memory(m);
        if (d->n) memcpy(grown, d->v, d->n * sizeof *grown);
        d->v = grown;
        d->cap = cap;
    }
    d->v[d->n++] = (pair){ key, item };
    return LT_OK;
}

static lt_status op_setitem(vm *m) {
    value key, item, d;
    LT_TRY(pop(m, &item));
    LT_TRY(pop(m, &key));
    LT_TRY(top(m, V_DICT, &d, "no dict to set an item of"));
    return set_item(m, d.of.dict, key, item);
}

static lt_status op_setitems(vm *m) {
    const value *items;
    size_t n;
    value d;
    LT_TRY(to_mark(m, &items, &n));
    LT_TRY(top(m, V_DICT, &d, "no dict to set items of"));
    if (n % 2 != 0) return broken(m, "key without a value");
    for (size_t i = 0; i < n; i += 2) LT_TRY(set_item(m, d.of.dict, items[i], items[i + 1]));
    return LT_OK;
}

/* Attributes of an OrderedDict (its _metadata): versions of modules, nothing that is read. */
static lt_status op_build(vm *m) {
    value state, d;
    LT_TRY(pop(m, &state));
    LT_TRY(top(m, V_DICT, &d, "attributes of something that is no dict"));
    return state.kind == V_DICT ? LT_OK : broken(m, "attributes that are no dict");
}

/* ---- the memo ---- */

static lt_status remember(vm *m, uint64_t i) {
    if (m->depth == 0 || m->stack[m->depth - 1].kind == V_MARK) return broken(m, "nothing on the stack to remember");
    if (i > (uint64_t)(m->end - m->start)) return broken(m, "index of the memo is beyond the pickle's length");
    LT_TRY(reach(m, &m->memo, &m->memo_cap, (size_t)i));
    m->memo[i] = m->stack[m->depth - 1];
    m->n_memo = lt_max_size(m->n_memo, (size_t)i + 1);
    return LT_OK;
}
static lt_status put(vm *m, size_t width) {
    uint64_t i;
    LT_TRY(take_int(m, width, &i));
    return remember(m, i);
}
static lt_status op_put1(vm *m) {
    return put(m, 1);
}
static lt_status op_put4(vm *m) {
    return put(m, 4);
}
static lt_status op_memoize(vm *m) {
    return remember(m, m->n_memo);
}
static lt_status get(vm *m, size_t width) {
    uint64_t i;
    LT_TRY(take_int(m, width, &i));
    if (i >= m->n_memo || m->memo[i].kind == V_MARK) return broken(m, "nothing remembered under that index");
    return push(m, m->memo[i]);
}
static lt_status op_get1(vm *m) {
    return get(m, 1);
}
static lt_status op_get4(vm *m) {
    return get(m, 4);
}

/* ---- what torch describes a tensor by ---- */

typedef struct global {
    const char *module, *name;
    lt_status (*build)(vm *m, const tuple *args); /* NULL: a storage's type */
    lt_dtype dtype;
} global;

static bool count_of(value v, uint64_t *out) {
    *out = (uint64_t)v.of.i;
    return v.kind == V_INT && v.of.i >= 0;
}

static bool read_sizes(size_t *out, const tuple *t) {
    uint64_t v;
    for (size_t i = 0; i < t->n; i++) {
        if (!count_of(t->item[i], &v) || v > INT64_MAX) return false;
        out[i] = (size_t)v;
    }
    return true;
}

/* offset + sum (size - 1) stride < count: inside the storage, in numbers that do not overflow. */
static bool fits(const lt_pickle_tensor *t) {
    size_t last = (size_t)t->offset, part, elements = 1;
    for (int i = 0; i < t->rank; i++) {
        if (t->size[i] == 0) return true;
        if (!lt_mul_size(elements, t->size[i], &elements) || elements > INT64_MAX / 16) return false;
        if (!lt_mul_size(t->size[i] - 1, t->stride[i], &part) || !lt_add_size(last, part, &last)) return false;
    }
    return last < t->storage_count;
}

/* (storage, offset, size, stride, requires_grad, hooks[, metadata]) */
static lt_status build_tensor(vm *m, const tuple *a) {
    lt_pickle_tensor *t = lt_arena_alloc(m->a, sizeof *t);
    if (!t) return no_memory(m);
    *t = (lt_pickle_tensor){ 0 };
    if (a->n < 6 || a->n > 7 || a->item[0].kind != V_STORAGE || !count_of(a->item[1], &t->offset) ||
        a->item[2].kind != V_TUPLE || a->item[3].kind != V_TUPLE || a->item[2].of.tuple->n != a->item[3].of.tuple->n)
        return broken(m, "arguments of _rebuild_tensor_v2 are not (storage, offset, size, stride, ...)");
    const storage *s = a->item[0].of.storage;
    const tuple *size = a->item[2].of.tuple;
    if (size->n > LT_MAX_RANK)
        return lt_fail(m->err, LT_EUNSUPPORTED, "tensor of rank above %d (%s: pickle: storage %s)", LT_MAX_RANK,
                       m->where, s->key);
    t->key = s->key;
    t->dtype = s->dtype;
    t->storage_count = s->count;
    t->rank = (int)size->n;
    if (!read_sizes(t->size, size) || !read_sizes(t->stride, a->item[3].of.tuple))
        return broken(m, "size or stride is not a number >= 0");
    if (!fits(t)) return broken(m, "tensor reaches beyond its storage");
    return push(m, (value){ V_TENSOR, { .tensor = t } });
}

/* (tensor, requires_grad, hooks) */
static lt_status build_parameter(vm *m, const tuple *a) {
    if (a->n != 3 || a->item[0].kind != V_TENSOR)
        return broken(m, "arguments of _rebuild_parameter are not (tensor, requires_grad, hooks)");
    return push(m, a->item[0]);
}

static lt_status build_dict(vm *m, const tuple *a) {
    return a->n == 0 ? op_dict(m) : broken(m, "OrderedDict with arguments");
}

static const global globals[] = {
    { "torch._utils", "_rebuild_tensor_v2", build_tensor, LT_N_DTYPES },
    { "torch._utils", "_rebuild_parameter", build_parameter, LT_N_DTYPES },
    { "collections", "OrderedDict", build_dict, LT_N_DTYPES },
    { "torch", "DoubleStorage", NULL, LT_F64 },
    { "torch", "FloatStorage", NULL, LT_F32 },
    { "torch", "HalfStorage", NULL, LT_F16 },
    { "torch", "BFloat16Storage", NULL, LT_BF16 },
    { "torch", "LongStorage", NULL, LT_I64 },
    { "torch", "IntStorage", NULL, LT_I32 },
    { "torch", "CharStorage", NULL, LT_I8 },
    { "torch", "ByteStorage", NULL, LT_U8 },
    { "torch", "BoolStorage", NULL, LT_BOOL },
};

static lt_status push_global(vm *m, const char *module, size_t n, const char *name, size_t k) {
    for (size_t i = 0; i < LT_COUNTOF(globals); i++) {
        const global *g = &globals[i];
        if (strlen(g->module) == n && memcmp(g->module, module, n) == 0 && strlen(g->name) == k &&
            memcmp(g->name, name, k) == 0)
            return push(m, (value){ V_GLOBAL, { .global = g } });
    }
    return lt_fail(m->err, LT_EUNSUPPORTED, "pickle names %.*s.%.*s, which is no part of a plain state dict (%s)",
                   (int)lt_min_size(n, 100), module, (int)lt_min_size(k, 100), name, m->where);
}

static lt_status take_line(vm *m, const char **out, size_t *n) {
    const uint8_t *nl = memchr(m->p, '\n', (size_t)(m->end - m->p));
    if (!nl) return broken(m, "pickle breaks off");
    *out = (const char *)m->p;
    *n = (size_t)(nl - m->p);
    m->p = nl + 1;
    return LT_OK;
}

static lt_status op_global(vm *m) {
    const char *module, *name;
    size_t n, k;
    LT_TRY(take_line(m, &module, &n));
    LT_TRY(take_line(m, &name, &k));
    return push_global(m, module, n, name, k);
}

static lt_status op_stack_global(vm *m) {
    value name, module;
    LT_TRY(pop(m, &name));
    LT_TRY(pop(m, &module));
    if (name.kind != V_TEXT || module.kind != V_TEXT) return broken(m, "name of a global is not text");
    return push_global(m, module.of.text->data, module.of.text->bytes, name.of.text->data, name.of.text->bytes);
}

static lt_status op_reduce(vm *m) {
    value args, f;
    LT_TRY(pop(m, &args));
    LT_TRY(pop(m, &f));
    if (f.kind != V_GLOBAL || !f.of.global->build || args.kind != V_TUPLE)
        return broken(m, "a call of something that cannot be called");
    return f.of.global->build(m, args.of.tuple);
}

/* ("storage", type, key, device, count) */
static lt_status op_persid(vm *m) {
    value id;
    LT_TRY(pop(m, &id));
    const tuple *t = id.kind == V_TUPLE ? id.of.tuple : NULL;
    storage *s = lt_arena_alloc(m->a, sizeof *s);
    if (!s) return no_memory(m);
    if (!t || t->n != 5 || t->item[0].kind != V_TEXT || strcmp(t->item[0].of.text->data, "storage") != 0 ||
        t->item[1].kind != V_GLOBAL || t->item[1].of.global->build || t->item[2].kind != V_TEXT ||
        !count_of(t->item[4], &s->count))
        return broken(m, "persistent id is not (\"storage\", type, key, device, count)");
    s->key = t->item[2].of.text->data;
    s->dtype = t->item[1].of.global->dtype;
    return push(m, (value){ V_STORAGE, { .storage = s } });
}

/* ---- the machine ---- */

static lt_status op_mark(vm *m) {
    return push(m, (value){ V_MARK, { 0 } });
}
static lt_status op_stop(vm *m) {
    m->stopped = true;
    return LT_OK;
}
static lt_status op_frame(vm *m) {
    const uint8_t *p;
    return take(m, 8, &p); /* a hint for readers of streams */
}
static lt_status op_proto(vm *m) {
    uint64_t version;
    LT_TRY(take_int(m, 1, &version));
    if (version >= 2 && version <= 5) return LT_OK;
    return lt_fail(m->err, LT_EUNSUPPORTED, "pickle protocol is none of 2 to 5 (%s: %llu)", m->where,
                   (unsigned long long)version);
}

/* By byte. A row without a function is known to Python and refused here by its name. */
static const struct opcode {
    const char *name;
    lt_status (*run)(vm *m);
} opcodes[256] = {
    ['('] = { "MARK", op_mark },
    ['.'] = { "STOP", op_stop },
    ['0'] = { "POP", NULL },
    ['1'] = { "POP_MARK", NULL },
    ['2'] = { "DUP", NULL },
    ['F'] = { "FLOAT", NULL },
    ['I'] = { "INT", NULL },
    ['J'] = { "BININT", op_binint },
    ['K'] = { "BININT1", op_binint1 },
    ['L'] = { "LONG", NULL },
    ['M'] = { "BININT2", op_binint2 },
    ['N'] = { "NONE", op_none },
    ['P'] = { "PERSID", NULL },
    ['Q'] = { "BINPERSID", op_persid },
    ['R'] = { "REDUCE", op_reduce },
    ['S'] = { "STRING", NULL },
    ['T'] = { "BINSTRING", op_text4 },
    ['U'] = { "SHORT_BINSTRING", op_text1 },
    ['V'] = { "UNICODE", NULL },
    ['X'] = { "BINUNICODE", op_text4 },
    ['a'] = { "APPEND", op_append },
    ['b'] = { "BUILD", op_build },
    ['c'] = { "GLOBAL", op_global },
    ['d'] = { "DICT", NULL },
    ['}'] = { "EMPTY_DICT", op_dict },
    ['e'] = { "APPENDS", op_appends },
    ['g'] = { "GET", NULL },
    ['h'] = { "BINGET", op_get1 },
    ['i'] = { "INST", NULL },
    ['j'] = { "LONG_BINGET", op_get4 },
    ['l'] = { "LIST", NULL },
    [']'] = { "EMPTY_LIST", op_list },
    ['o'] = { "OBJ", NULL },
    ['p'] = { "PUT", NULL },
    ['q'] = { "BINPUT", op_put1 },
    ['r'] = { "LONG_BINPUT", op_put4 },
    ['s'] = { "SETITEM", op_setitem },
    ['t'] = { "TUPLE", op_tuple },
    [')'] = { "EMPTY_TUPLE", op_tuple0 },
    ['u'] = { "SETITEMS", op_setitems },
    ['G'] = { "BINFLOAT", op_binfloat },
    ['B'] = { "BINBYTES", NULL },
    ['C'] = { "SHORT_BINBYTES", NULL },
    [0x80] = { "PROTO", op_proto },
    [0x81] = { "NEWOBJ", NULL },
    [0x82] = { "EXT1", NULL },
    [0x83] = { "EXT2", NULL },
    [0x84] = { "EXT4", NULL },
    [0x85] = { "TUPLE1", op_tuple1 },
    [0x86] = { "TUPLE2", op_tuple2 },
    [0x87] = { "TUPLE3", op_tuple3 },
    [0x88] = { "NEWTRUE", op_true },
    [0x89] = { "NEWFALSE", op_false },
    [0x8a] = { "LONG1", op_long1 },
    [0x8b] = { "LONG4", NULL },
    [0x8c] = { "SHORT_BINUNICODE", op_text1 },
    [0x8d] = { "BINUNICODE8", op_text8 },
    [0x8e] = { "BINBYTES8", NULL },
    [0x8f] = { "EMPTY_SET", NULL },
    [0x90] = { "ADDITEMS", NULL },
    [0x91] = { "FROZENSET", NULL },
    [0x92] = { "NEWOBJ_EX", NULL },
    [0x93] = { "STACK_GLOBAL", op_stack_global },
    [0x94] = { "MEMOIZE", op_memoize },
    [0x95] = { "FRAME", op_frame },
    [0x96] = { "BYTEARRAY8", NULL },
    [0x97] = { "NEXT_BUFFER", NULL },
    [0x98] = { "READONLY_BUFFER", NULL },
};

static lt_status step(vm *m) {
    uint64_t byte;
    LT_TRY(take_int(m, 1, &byte));
    const struct opcode *o = &opcodes[byte];
    if (o->run) return o->run(m);
    if (!o->name) return broken(m, "no opcode of pickle");
    return lt_fail(m->err, LT_EUNSUPPORTED,
                   "opcode %s is not needed for tensors and not carried out (%s: pickle: byte %zu)", o->name, m->where,
                   (size_t)(m->p - m->start) - 1);
}

/* ---- the dict ---- */

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static lt_status unique(const vm *m, const lt_pickle_tensor *t, size_t n) {
    const char **names = lt_arena_array(m->a, lt_max_size(1, n), sizeof *names);
    if (!names) return no_memory(m);
    for (size_t i = 0; i < n; i++) names[i] = t[i].name;
    if (n > 1) qsort(names, n, sizeof *names, by_name);
    for (size_t i = 1; i < n; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            return lt_fail(m->err, LT_EDATA, "tensor stands twice (%s: %s)", m->where, names[i]);
    return LT_OK;
}

static lt_status collect(lt_pickle_tensor **out, size_t *n, vm *m) {
    if (m->depth != 1 || m->stack[0].kind != V_DICT)
        return lt_fail(m->err, LT_EUNSUPPORTED, "pickle is not a dict of tensors (%s)", m->where);
    const dict *d = m->stack[0].of.dict;
    lt_pickle_tensor *t = lt_arena_array(m->a, lt_max_size(1, d->n), sizeof *t);
    if (!t) return no_memory(m);
    for (size_t i = 0; i < d->n; i++) {
        const value key = d->v[i].key, item = d->v[i].item;
        if (key.kind != V_TEXT || key.of.text->bytes == 0 || strlen(key.of.text->data) != key.of.text->bytes)
            return lt_fail(m->err, LT_EDATA, "name of a tensor is not text (%s: entry %zu)", m->where, i);
        if (item.kind != V_TENSOR)
            return lt_fail(m->err, LT_EUNSUPPORTED, "value is not a tensor (%s: %s)", m->where, key.of.text->data);
        t[i] = *item.of.tensor;
        t[i].name = key.of.text->data;
    }
    *out = t;
    *n = d->n;
    return unique(m, t, d->n);
}

lt_status lt_pickle_tensors(lt_pickle_tensor **out, size_t *n, lt_arena *a, const void *data, size_t bytes,
                            const char *where, lt_err *err) {
    const uint8_t *p = data;
    vm m = { .start = p, .p = p, .end = p + bytes, .a = a, .where = where, .err = err };
    while (!m.stopped) LT_TRY(step(&m));
    return collect(out, n, &m);
}
