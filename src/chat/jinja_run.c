/* SPDX-License-Identifier: Apache-2.0 */
/* Walking the tree. A body writes to env.out; names are looked for from the innermost scope outwards, then among the
 * variables of the rendering, then among the global functions. */
#include <math.h>
#include <string.h>

#include "chat/jinja_ast.h"

/* Lives in the arena, because a macro keeps the scope it was defined in. */
typedef struct scope {
    struct scope *parent;
    lt_jdict vars;
} scope;

struct lt_jmacro {
    const lt_jnode *node;
    scope *scope;
};

typedef struct env {
    lt_jctx *c;
    const lt_jdict *vars;
    scope *scope;
    lt_tok_buf *out;
} env;

typedef enum flow { ON, BREAK, CONTINUE } flow;

static lt_status eval(env *e, const lt_jnode *n, lt_jv *out);
static lt_status exec(env *e, const lt_jnode *n, flow *f);

static lt_status push_scope(env *e, scope *parent) {
    scope *s = lt_j_alloc(e->c, 1, sizeof *s);
    if (!s) return lt_j_spent(e->c);
    *s = (scope){ .parent = parent };
    e->scope = s;
    return LT_OK;
}

/* ---- names and arguments ---- */

static lt_status find_name(env *e, const lt_jnode *n, lt_jv *out) {
    const lt_jv *v = NULL;
    for (const scope *s = e->scope; s && !v; s = s->parent) v = lt_j_find(&s->vars, n->name.s, n->name.n);
    if (!v) v = lt_j_find(e->vars, n->name.s, n->name.n);
    const lt_jfn *f = v ? NULL : lt_j_global(n->name.s, n->name.n);
    *out = v ? *v : f ? (lt_jv){ .kind = LT_J_FUNCTION, .fn = f } : lt_j_undefined(n->name.s, n->name.n);
    return lt_j_work(e->c, 4);
}

static lt_status eval_args(env *e, const lt_jnode *n, lt_jargs *a) {
    *a = (lt_jargs){ lt_j_alloc(e->c, n->n + 1, sizeof *a->v), n->key, n->n };
    if (!a->v) return lt_j_spent(e->c);
    for (size_t i = 0; i < n->n; i++) LT_TRY(eval(e, n->item[i], &a->v[i]));
    return LT_OK;
}

static lt_status bind(env *e, const lt_jnode *m, const lt_jargs *a) {
    for (size_t i = 0; i < a->n; i++) {
        size_t k = i;
        if (a->name && a->name[i])
            for (k = 0; k < m->n && strcmp(m->key[k], a->name[i]) != 0;) k++;
        if (k >= m->n) return lt_j_bad(e->c, "macro %.*s has no such argument", (int)m->name.n, m->name.s);
        if (lt_j_find(&e->scope->vars, m->key[k], strlen(m->key[k])))
            return lt_j_bad(e->c, "macro %.*s: %s is given twice", (int)m->name.n, m->name.s, m->key[k]);
        LT_TRY(lt_j_put(e->c, &e->scope->vars, lt_j_text(m->key[k], strlen(m->key[k])), a->v[i]));
    }
    for (size_t k = 0; k < m->n; k++) {
        const lt_jv key = lt_j_text(m->key[k], strlen(m->key[k]));
        lt_jv v = lt_j_undefined(key.s, key.n);
        if (lt_j_find(&e->scope->vars, key.s, key.n)) continue;
        if (m->item[k]) LT_TRY(eval(e, m->item[k], &v));
        LT_TRY(lt_j_put(e->c, &e->scope->vars, key, v));
    }
    return LT_OK;
}

/* What a body writes, as a string. */
static lt_status capture(env *e, const lt_jnode *body, lt_jv *out) {
    lt_tok_buf b = { 0 };
    env inner = *e;
    flow f = ON;
    inner.out = &b;
    const lt_status st = exec(&inner, body, &f);
    if (st == LT_OK) return lt_j_copy_buf(e->c, out, &b);
    lt_tok_buf_clear(&b);
    return st;
}

static lt_status call_macro(env *e, const struct lt_jmacro *m, const lt_jargs *a, lt_jv *out) {
    env inner = *e;
    const int line = e->c->line;
    LT_TRY(push_scope(&inner, m->scope));
    LT_TRY(bind(&inner, m->node, a));
    LT_TRY(capture(&inner, m->node->a, out));
    e->c->line = line;
    return LT_OK;
}

static lt_status eval_call(env *e, const lt_jnode *n, lt_jv *out) {
    lt_jv f;
    lt_jargs a;
    LT_TRY(eval(e, n->a, &f));
    LT_TRY(eval_args(e, n, &a));
    if (f.kind == LT_J_MACRO) return call_macro(e, f.macro, &a, out);
    if (f.kind == LT_J_FUNCTION) return lt_j_apply(e->c, f.fn, f.self ? *f.self : lt_j_none(), &a, out);
    if (f.kind == LT_J_UNDEFINED) return lt_j_bad(e->c, "'%.*s' is undefined", (int)lt_min_size(f.n, 80), f.s);
    return lt_j_bad(e->c, "'%s' object is not callable", lt_j_type(f));
}

/* ---- arithmetic ---- */

static lt_status no_operator(env *e, char op, lt_jv a, lt_jv b) {
    if (a.kind == LT_J_UNDEFINED || b.kind == LT_J_UNDEFINED) {
        const lt_jv u = a.kind == LT_J_UNDEFINED ? a : b;
        return lt_j_bad(e->c, "'%.*s' is undefined", (int)lt_min_size(u.n, 80), u.s);
    }
    return lt_j_bad(e->c, "unsupported operand types for %s: '%s' and '%s'",
                    op == 'f'   ? "//"
                    : op == 'p' ? "**"
                                : (const char[]){ op, '\0' },
                    lt_j_type(a), lt_j_type(b));
}

static int64_t floor_div(int64_t a, int64_t b) {
    const int64_t q = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

static bool int_power(int64_t base, int64_t exponent, int64_t *out) {
    int64_t r = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(r, base, &r)) return false;
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) return false;
    }
    *out = r;
    return true;
}

static lt_status integers(env *e, char op, int64_t a, int64_t b, lt_jv *out) {
    int64_t r = 0;
    bool overflow = false;
    if (strchr("/f%", op) && b == 0) return lt_j_bad(e->c, "division by zero");
    switch (op) {
    case '+':
        overflow = __builtin_add_overflow(a, b, &r);
        break;
    case '-':
        overflow = __builtin_sub_overflow(a, b, &r);
        break;
    case '*':
        overflow = __builtin_mul_overflow(a, b, &r);
        break;
    case '/':
        *out = lt_j_float((double)a / (double)b);
        return LT_OK;
    case 'f':
        overflow = b == -1 && a == INT64_MIN;
        break;
    case '%':
        r = b == -1 ? 0 : a % b + (a % b != 0 && (a % b < 0) != (b < 0) ? b : 0);
        break;
    default:
        overflow = b >= 0 && !int_power(a, b, &r);
    }
    if (overflow) return lt_j_beyond(e->c, "an integer of more than 64 bits");
    if (op == 'f') r = floor_div(a, b);
    *out = op == 'p' && b < 0 ? lt_j_float(pow((double)a, (double)b)) : lt_j_int(r);
    return LT_OK;
}

static lt_status reals(env *e, char op, double a, double b, lt_jv *out) {
    if (strchr("/f%", op) && b == 0) return lt_j_bad(e->c, "division by zero");
    double r = 0;
    switch (op) {
    case '+':
        r = a + b;
        break;
    case '-':
        r = a - b;
        break;
    case '*':
        r = a * b;
        break;
    case '/':
        r = a / b;
        break;
    case 'f':
        r = floor(a / b);
        break;
    case '%':
        r = fmod(a, b);
        if (r != 0 && (r < 0) != (b < 0)) r += b;
        break;
    default:
        r = pow(a, b);
    }
    *out = lt_j_float(r);
    return LT_OK;
}

static lt_status add_texts(env *e, lt_jv a, lt_jv b, lt_jv *out) {
    if (a.form == LT_J_SAFE || b.form == LT_J_SAFE) return lt_j_beyond(e->c, "adding to what `safe` gave");
    char *s = lt_j_alloc(e->c, a.n + b.n + 1, 1);
    if (!s) return lt_j_spent(e->c);
    memcpy(s, a.s, a.n);
    memcpy(s + a.n, b.s, b.n);
    s[a.n + b.n] = '\0';
    *out = lt_j_text(s, a.n + b.n);
    return lt_j_work(e->c, out->n / 16 + 1);
}

static lt_status add_lists(env *e, lt_jv a, lt_jv b, lt_jv *out) {
    LT_TRY(lt_j_list(e->c, out, (lt_jform)a.form));
    for (size_t i = 0; i < a.list->n; i++) LT_TRY(lt_j_push(e->c, out->list, a.list->v[i]));
    for (size_t i = 0; i < b.list->n; i++) LT_TRY(lt_j_push(e->c, out->list, b.list->v[i]));
    return LT_OK;
}

/* string * integer */
static lt_status repeat(env *e, lt_jv s, int64_t times, lt_jv *out) {
    size_t bytes;
    const size_t count = times > 0 ? (size_t)times : 0;
    if (!lt_mul_size(s.n, count, &bytes)) bytes = SIZE_MAX;
    char *to = lt_j_alloc(e->c, bytes, 1);
    if (!to) return lt_j_spent(e->c);
    for (size_t i = 0; i < count && s.n > 0; i++) memcpy(to + i * s.n, s.s, s.n);
    *out = lt_j_text(to, bytes);
    return lt_j_work(e->c, bytes / 16 + 1);
}

static lt_status binary(env *e, char op, lt_jv a, lt_jv b, lt_jv *out) {
    int64_t i, k;
    double x, y;
    if (lt_j_integer(a, &i) && lt_j_integer(b, &k)) return integers(e, op, i, k, out);
    if (lt_j_number(a, &x) && lt_j_number(b, &y)) return reals(e, op, x, y, out);
    if (op == '+' && a.kind == LT_J_STRING && b.kind == LT_J_STRING) return add_texts(e, a, b, out);
    if (op == '+' && a.kind == LT_J_LIST && b.kind == LT_J_LIST && a.form == b.form && a.form <= LT_J_TUPLE)
        return add_lists(e, a, b, out);
    if (op == '*' && a.kind == LT_J_STRING && lt_j_integer(b, &k)) return repeat(e, a, k, out);
    if (op == '*' && b.kind == LT_J_STRING && lt_j_integer(a, &i)) return repeat(e, b, i, out);
    if (op == '%' && a.kind == LT_J_STRING) return lt_j_beyond(e->c, "formatting a string with %%");
    if (op == '*' && (a.kind == LT_J_LIST || b.kind == LT_J_LIST)) return lt_j_beyond(e->c, "repeating a list");
    return no_operator(e, op, a, b);
}

static lt_status unary(env *e, const lt_jnode *n, lt_jv *out) {
    lt_jv v;
    int64_t i;
    LT_TRY(eval(e, n->a, &v));
    if (n->op == '!')
        *out = lt_j_bool(!lt_j_truth(v));
    else if (v.kind == LT_J_FLOAT)
        *out = lt_j_float(n->op == '-' ? -v.f : v.f);
    else if (lt_j_integer(v, &i))
        return integers(e, n->op, 0, i, out);
    else
        return no_operator(e, n->op, v, v);
    return LT_OK;
}

/* ---- the other expressions ---- */

static lt_status relate(env *e, lt_jv a, const char *op, lt_jv b, bool *out) {
    int order;
    if (strcmp(op, "in") == 0) return lt_j_contains(e->c, a, b, out);
    if (strcmp(op, "not in") == 0 || strcmp(op, "!=") == 0) {
        LT_TRY(*op == 'n' ? lt_j_contains(e->c, a, b, out) : lt_j_equal(e->c, a, b, out));
        *out = !*out;
        return LT_OK;
    }
    if (strcmp(op, "==") == 0) return lt_j_equal(e->c, a, b, out);
    LT_TRY(lt_j_order(e->c, a, b, op, &order));
    *out = order != LT_J_UNORDERED &&
           ((op[0] == '<' && order < 0) || (op[0] == '>' && order > 0) || (op[1] == '=' && order == 0));
    return LT_OK;
}

static lt_status compare(env *e, const lt_jnode *n, lt_jv *out) {
    lt_jv left, right;
    bool holds = true;
    LT_TRY(eval(e, n->a, &left));
    for (size_t i = 0; i < n->n && holds; i++) {
        LT_TRY(eval(e, n->item[i], &right));
        LT_TRY(relate(e, left, n->key[i], right, &holds));
        left = right;
    }
    *out = lt_j_bool(holds);
    return LT_OK;
}

static lt_status concat(env *e, const lt_jnode *n, lt_jv *out) {
    lt_tok_buf b = { 0 };
    lt_status st = LT_OK;
    for (size_t i = 0; i < n->n && st == LT_OK; i++) {
        lt_jv v;
        st = eval(e, n->item[i], &v);
        if (st == LT_OK) st = lt_j_print(e->c, &b, v, false);
    }
    if (st == LT_OK) return lt_j_copy_buf(e->c, out, &b);
    lt_tok_buf_clear(&b);
    return st;
}

static lt_status eval_list(env *e, const lt_jnode *n, lt_jv *out) {
    LT_TRY(lt_j_list(e->c, out, n->op == 't' ? LT_J_TUPLE : LT_J_PLAIN));
    for (size_t i = 0; i < n->n; i++) {
        lt_jv v;
        LT_TRY(eval(e, n->item[i], &v));
        LT_TRY(lt_j_push(e->c, out->list, v));
    }
    return LT_OK;
}

static lt_status eval_dict(env *e, const lt_jnode *n, lt_jv *out) {
    LT_TRY(lt_j_dict(e->c, out, LT_J_DICT));
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        lt_jv key, value;
        LT_TRY(eval(e, n->item[i], &key));
        LT_TRY(eval(e, n->item[i + 1], &value));
        LT_TRY(lt_j_put(e->c, out->dict, key, value));
    }
    return LT_OK;
}

/* One bound of a slice as Python clamps it. */
static lt_status bound(env *e, const lt_jnode *n, int64_t missing, int64_t length, int64_t step, int64_t *out) {
    lt_jv v;
    int64_t i;
    *out = missing;
    if (!n) return LT_OK;
    LT_TRY(eval(e, n, &v));
    if (v.kind == LT_J_NONE) return LT_OK;
    if (!lt_j_integer(v, &i)) return lt_j_bad(e->c, "slice indices must be integers or None");
    if (i < 0) i = i < -length ? -1 : i + length;
    if (i < 0) i = step < 0 ? -1 : 0;
    if (i >= length) i = step < 0 ? length - 1 : length;
    *out = i;
    return LT_OK;
}

static lt_status slice_step(env *e, const lt_jnode *n, int64_t *step) {
    lt_jv v;
    *step = 1;
    if (!n) return LT_OK;
    LT_TRY(eval(e, n, &v));
    if (v.kind == LT_J_NONE) return LT_OK;
    if (!lt_j_integer(v, step)) return lt_j_bad(e->c, "slice indices must be integers or None");
    if (*step == 0) return lt_j_bad(e->c, "slice step cannot be zero");
    if (*step > INT32_MAX || *step < -INT32_MAX) return lt_j_beyond(e->c, "a slice step of more than 31 bits");
    return LT_OK;
}

static lt_status join_items(env *e, const lt_jlist *l, lt_jv *out) {
    lt_tok_buf b = { 0 };
    lt_status st = LT_OK;
    for (size_t i = 0; i < l->n && st == LT_OK; i++) st = lt_tok_buf_put(&b, l->v[i].s, l->v[i].n, e->c->err);
    if (st == LT_OK) return lt_j_copy_buf(e->c, out, &b);
    lt_tok_buf_clear(&b);
    return st;
}

static lt_status slice(env *e, const lt_jnode *n, lt_jv *out) {
    lt_jv v, kept;
    lt_jlist items;
    int64_t step, from, to;
    LT_TRY(eval(e, n->a, &v));
    if (v.kind == LT_J_UNDEFINED) return lt_j_bad(e->c, "'%.*s' is undefined", (int)lt_min_size(v.n, 80), v.s);
    if (v.form == LT_J_SAFE) return lt_j_beyond(e->c, "a part of what `safe` gave");
    if (v.kind != LT_J_STRING && (v.kind != LT_J_LIST || v.form > LT_J_TUPLE)) {
        *out = lt_j_undefined("slice", 5); /* Jinja swallows the failure */
        return LT_OK;
    }
    LT_TRY(lt_j_items(e->c, v, &items));
    const int64_t length = (int64_t)items.n;
    LT_TRY(slice_step(e, n->item[2], &step));
    LT_TRY(bound(e, n->item[0], step < 0 ? length - 1 : 0, length, step, &from));
    LT_TRY(bound(e, n->item[1], step < 0 ? -1 : length, length, step, &to));
    LT_TRY(lt_j_list(e->c, &kept, v.kind == LT_J_LIST ? (lt_jform)v.form : LT_J_PLAIN));
    for (int64_t i = from; step > 0 ? i < to : i > to; i += step) LT_TRY(lt_j_push(e->c, kept.list, items.v[i]));
    *out = kept;
    return v.kind == LT_J_STRING ? join_items(e, kept.list, out) : LT_OK;
}

static lt_status eval_filter(env *e, const lt_jnode *n, lt_jv in, lt_jv *out) {
    lt_jargs a;
    LT_TRY(eval_args(e, n, &a));
    return lt_j_apply(e->c, n->filter, in, &a, out);
}

static lt_status eval_test(env *e, const lt_jnode *n, lt_jv *out) {
    lt_jv v, arg = lt_j_none();
    bool holds = false;
    LT_TRY(eval(e, n->a, &v));
    if (n->b) LT_TRY(eval(e, n->b, &arg));
    LT_TRY(lt_j_work(e->c, 1));
    LT_TRY(n->test->run(e->c, v, arg, &holds));
    *out = lt_j_bool(holds);
    return LT_OK;
}

static lt_status eval_two(env *e, const lt_jnode *n, lt_jv *out) {
    lt_jv a, b;
    LT_TRY(eval(e, n->a, &a));
    LT_TRY(eval(e, n->b, &b));
    e->c->line = n->line;
    return n->kind == LT_N_ITEM ? lt_j_item(e->c, a, b, out) : binary(e, n->op, a, b, out);
}

static lt_status eval_inner(env *e, const lt_jnode *n, lt_jv *out) {
    lt_jv v;
    switch (n->kind) {
    case LT_N_CONST:
        *out = n->value;
        return LT_OK;
    case LT_N_NAME:
        return find_name(e, n, out);
    case LT_N_LIST:
        return eval_list(e, n, out);
    case LT_N_DICT:
        return eval_dict(e, n, out);
    case LT_N_SLICE:
        return slice(e, n, out);
    case LT_N_CALL:
        return eval_call(e, n, out);
    case LT_N_TEST:
        return eval_test(e, n, out);
    case LT_N_UNARY:
        return unary(e, n, out);
    case LT_N_ITEM:
    case LT_N_BINARY:
        return eval_two(e, n, out);
    case LT_N_CONCAT:
        return concat(e, n, out);
    case LT_N_COMPARE:
        return compare(e, n, out);
    default:
        break;
    }
    LT_TRY(eval(e, n->a, &v));
    switch (n->kind) {
    case LT_N_ATTR:
        return lt_j_attribute(e->c, v, n->name, out);
    case LT_N_FILTER:
        return eval_filter(e, n, v, out);
    case LT_N_COND:
        if (!lt_j_truth(v) && !n->c) *out = lt_j_undefined("if without else", 15);
        return lt_j_truth(v) ? eval(e, n->b, out) : n->c ? eval(e, n->c, out) : LT_OK;
    default:
        break;
    }
    *out = v;
    return lt_j_truth(v) == (n->kind == LT_N_AND) ? eval(e, n->b, out) : LT_OK;
}

static lt_status eval(env *e, const lt_jnode *n, lt_jv *out) {
    LT_TRY(lt_j_enter(e->c));
    e->c->line = n->line;
    LT_TRY(lt_j_work(e->c, 1));
    const lt_status st = eval_inner(e, n, out);
    e->c->depth--;
    return st;
}

/* ---- statements ---- */

static lt_status assign(env *e, const lt_jnode *target, lt_jv v);

static lt_status assign_each(env *e, const lt_jnode *target, lt_jv v) {
    lt_jlist items;
    LT_TRY(lt_j_items(e->c, v, &items));
    if (items.n != target->n) return lt_j_bad(e->c, "%zu values for %zu names", items.n, target->n);
    for (size_t i = 0; i < items.n; i++) LT_TRY(assign(e, target->item[i], items.v[i]));
    return LT_OK;
}

static lt_status assign(env *e, const lt_jnode *target, lt_jv v) {
    lt_jv ns;
    if (target->kind == LT_N_LIST) return assign_each(e, target, v);
    if (target->kind == LT_N_NAME) return lt_j_put(e->c, &e->scope->vars, target->name, v);
    LT_TRY(eval(e, target->a, &ns));
    if (ns.kind != LT_J_NAMESPACE) return lt_j_bad(e->c, "cannot assign attribute on non-namespace object");
    return lt_j_put(e->c, ns.dict, target->name, v);
}

/* The items that the loop's condition lets through. */
static lt_status chosen(env *e, const lt_jnode *n, lt_jlist *items) {
    lt_jlist kept = { 0 };
    scope *outer = e->scope;
    for (size_t i = 0; i < items->n && n->c; i++) {
        lt_jv v;
        LT_TRY(push_scope(e, outer));
        LT_TRY(assign(e, n->a, items->v[i]));
        LT_TRY(eval(e, n->c, &v));
        if (lt_j_truth(v)) LT_TRY(lt_j_push(e->c, &kept, items->v[i]));
    }
    e->scope = outer;
    if (n->c) *items = kept;
    return LT_OK;
}

static lt_status one_round(env *e, const lt_jnode *n, lt_jloop *loop, scope *outer, flow *f) {
    LT_TRY(push_scope(e, outer));
    LT_TRY(lt_j_put(e->c, &e->scope->vars, lt_j_text("loop", 4), (lt_jv){ .kind = LT_J_LOOP, .loop = loop }));
    LT_TRY(assign(e, n->a, loop->items.v[loop->at]));
    LT_TRY(exec(e, n->item[0], f));
    if (*f == CONTINUE) *f = ON;
    return LT_OK;
}

static lt_status exec_for(env *e, const lt_jnode *n, flow *f) {
    scope *outer = e->scope;
    lt_jv v;
    lt_jloop *loop = lt_j_alloc(e->c, 1, sizeof *loop);
    if (!loop) return lt_j_spent(e->c);
    *loop = (lt_jloop){ 0 };
    LT_TRY(eval(e, n->b, &v));
    LT_TRY(lt_j_items(e->c, v, &loop->items));
    LT_TRY(chosen(e, n, &loop->items));
    for (; loop->at < loop->items.n && *f == ON; loop->at++) LT_TRY(one_round(e, n, loop, outer, f));
    *f = ON;
    LT_TRY(push_scope(e, outer));
    if (loop->items.n == 0 && n->item[1]) LT_TRY(exec(e, n->item[1], f)); /* its break leaves the loop around */
    e->scope = outer;
    return LT_OK;
}

static lt_status exec_set(env *e, const lt_jnode *n) {
    lt_jv v;
    scope *outer = e->scope;
    if (n->kind == LT_N_SET) {
        LT_TRY(eval(e, n->b, &v));
        return assign(e, n->a, v);
    }
    LT_TRY(push_scope(e, outer));
    LT_TRY(capture(e, n->b, &v));
    e->scope = outer;
    const lt_jnode *filter[LT_J_MOST_DEPTH];
    size_t n_filters = 0;
    for (const lt_jnode *f = n->c; f; f = f->a) {
        if (n_filters == LT_COUNTOF(filter)) return lt_j_beyond(e->c, "a chain of %zu filters", n_filters);
        filter[n_filters++] = f;
    }
    while (n_filters > 0) LT_TRY(eval_filter(e, filter[--n_filters], v, &v));
    return assign(e, n->a, v);
}

static lt_status exec_macro(env *e, const lt_jnode *n) {
    struct lt_jmacro *m = lt_j_alloc(e->c, 1, sizeof *m);
    if (!m) return lt_j_spent(e->c);
    *m = (struct lt_jmacro){ n, e->scope };
    return lt_j_put(e->c, &e->scope->vars, n->name, (lt_jv){ .kind = LT_J_MACRO, .macro = m });
}

static lt_status exec_scope(env *e, const lt_jnode *n, flow *f) {
    scope *outer = e->scope, *inner;
    LT_TRY(push_scope(e, outer));
    inner = e->scope;
    for (size_t i = 0; i < n->n; i++) {
        lt_jv v;
        e->scope = outer; /* values do not see each other */
        LT_TRY(eval(e, n->item[i], &v));
        e->scope = inner;
        LT_TRY(lt_j_put(e->c, &inner->vars, lt_j_text(n->key[i], strlen(n->key[i])), v));
    }
    LT_TRY(exec(e, n->a, f));
    e->scope = outer;
    return LT_OK;
}

static lt_status exec_body(env *e, const lt_jnode *n, flow *f) {
    for (size_t i = 0; i < n->n && *f == ON; i++) LT_TRY(exec(e, n->item[i], f));
    return LT_OK;
}

static lt_status exec_inner(env *e, const lt_jnode *n, flow *f) {
    lt_jv v;
    switch (n->kind) {
    case LT_N_BODY:
        return exec_body(e, n, f);
    case LT_N_TEXT:
        return lt_j_print(e->c, e->out, n->value, false);
    case LT_N_OUTPUT:
        LT_TRY(eval(e, n->a, &v));
        return lt_j_print(e->c, e->out, v, false);
    case LT_N_IF:
        LT_TRY(eval(e, n->a, &v));
        if (lt_j_truth(v)) return exec(e, n->b, f);
        return n->c ? exec(e, n->c, f) : LT_OK;
    case LT_N_FOR:
        return exec_for(e, n, f);
    case LT_N_MACRO:
        return exec_macro(e, n);
    case LT_N_SCOPE:
        return exec_scope(e, n, f);
    case LT_N_BREAK:
        *f = BREAK;
        return LT_OK;
    case LT_N_CONTINUE:
        *f = CONTINUE;
        return LT_OK;
    default:
        return exec_set(e, n);
    }
}

static lt_status exec(env *e, const lt_jnode *n, flow *f) {
    LT_TRY(lt_j_enter(e->c));
    e->c->line = n->line;
    const lt_status st = exec_inner(e, n, f);
    e->c->depth--;
    return st;
}

lt_status lt_j_run(lt_jctx *c, const lt_jnode *tree, lt_jv vars, lt_tok_buf *out) {
    env e = { .c = c, .vars = vars.dict, .out = out };
    flow f = ON;
    LT_TRY(push_scope(&e, NULL));
    return exec(&e, tree, &f);
}
