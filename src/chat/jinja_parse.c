/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens to a tree: Jinja 3.1's grammar, less what docs/formats/chat.md leaves out. */
#include <string.h>

#include "chat/jinja_ast.h"

typedef struct parser {
    lt_jctx *c;
    const lt_jtoken *t; /* the token that comes next */
    size_t loops;       /* for loops around it */
} parser;

static bool is_text(const lt_jtoken *t, lt_jtok type, const char *text) {
    return t->type == type && t->n == strlen(text) && memcmp(t->s, text, t->n) == 0;
}

static bool at_op(const parser *p, const char *text) {
    return is_text(p->t, LT_T_OP, text);
}

static bool at_word(const parser *p, const char *text) {
    return is_text(p->t, LT_T_NAME, text);
}

static void step(parser *p) {
    if (p->t->type != LT_T_END) p->t++;
    p->c->line = p->t->line;
}

static bool skip_op(parser *p, const char *text) {
    const bool is = at_op(p, text);
    if (is) step(p);
    return is;
}

static bool skip_word(parser *p, const char *text) {
    const bool is = at_word(p, text);
    if (is) step(p);
    return is;
}

static lt_status unexpected(const parser *p) {
    static const char *const name[] = { "the end of the template", "text", "{{", "}}", "{%", "%}" };
    if (p->t->type < LT_T_NAME) return lt_j_bad(p->c, "unexpected %s", name[p->t->type]);
    return lt_j_bad(p->c, "unexpected '%.*s'", (int)lt_min_size(p->t->n, 40), p->t->s);
}

static lt_status need_op(parser *p, const char *text) {
    return skip_op(p, text) ? LT_OK : unexpected(p);
}

static lt_status need_type(parser *p, lt_jtok type) {
    if (p->t->type != type) return unexpected(p);
    step(p);
    return LT_OK;
}

static lt_status need_name(parser *p, lt_jv *name) {
    if (p->t->type != LT_T_NAME) return unexpected(p);
    *name = lt_j_text(p->t->s, p->t->n);
    step(p);
    return LT_OK;
}

/* ---- nodes ---- */

static lt_jnode *node(const parser *p, lt_jnode_kind kind) {
    lt_jnode *n = lt_j_alloc(p->c, 1, sizeof *n);
    if (n) *n = (lt_jnode){ .kind = (uint8_t)kind, .line = p->t->line };
    return n;
}
/* Declares `n`, a new node, or leaves the function. */
#define NODE(n, kind)                                                                                                  \
    lt_jnode *n = node(p, kind);                                                                                       \
    if (!n) return lt_j_spent(p->c)

static lt_status add(const parser *p, lt_jnode *n, const lt_jnode *item, const char *key) {
    if (n->n == n->cap) {
        const size_t cap = n->cap ? 2 * n->cap : 4;
        const lt_jnode **more = lt_j_alloc(p->c, cap, sizeof(*more));
        const char **keys = lt_j_alloc(p->c, cap, sizeof(*keys));
        if (!more || !keys) return lt_j_spent(p->c);
        for (size_t i = 0; i < n->n; i++) {
            more[i] = n->item[i];
            keys[i] = n->key[i];
        }
        n->item = more;
        n->key = keys;
        n->cap = cap;
    }
    n->item[n->n] = item;
    n->key[n->n++] = key;
    return LT_OK;
}

static lt_status text_of(const parser *p, lt_jv name, const char **out) {
    lt_jv copy;
    LT_TRY(lt_j_copy(p->c, &copy, name.s, name.n));
    *out = copy.s;
    return LT_OK;
}

/* ---- expressions ---- */

typedef lt_status (*parse)(parser *p, const lt_jnode **out);
static lt_status expression(parser *p, const lt_jnode **out); /* with "a if b else c" */
static lt_status either(parser *p, const lt_jnode **out);     /* without */
static lt_status unary(parser *p, bool filters, const lt_jnode **out);

/* item, item ... as Python's bare tuples; one item without a comma is itself. */
static lt_status tuple(parser *p, parse item, const char *end, const lt_jnode **out) {
    NODE(list, LT_N_LIST);
    list->op = 't';
    bool comma = false;
    do {
        const lt_jnode *one;
        if (p->t->type == LT_T_PRINT_END || p->t->type == LT_T_BLOCK_END || at_op(p, ")") || (end && at_word(p, end)))
            break;
        LT_TRY(item(p, &one));
        LT_TRY(add(p, list, one, NULL));
    } while (skip_op(p, ",") && (comma = true));
    *out = list->n == 1 && !comma ? list->item[0] : list;
    return LT_OK;
}

static lt_status full_tuple(parser *p, parse item, const char *end, const lt_jnode **out) {
    const lt_jtoken *begin = p->t;
    LT_TRY(tuple(p, item, end, out));
    return p->t == begin ? unexpected(p) : LT_OK;
}

static lt_status list(parser *p, const lt_jnode **out) {
    NODE(n, LT_N_LIST);
    LT_TRY(need_op(p, "["));
    while (!at_op(p, "]")) {
        const lt_jnode *one;
        if (n->n > 0) LT_TRY(need_op(p, ","));
        if (at_op(p, "]")) break;
        LT_TRY(expression(p, &one));
        LT_TRY(add(p, n, one, NULL));
    }
    *out = n;
    return need_op(p, "]");
}

static lt_status dict(parser *p, const lt_jnode **out) {
    NODE(n, LT_N_DICT);
    LT_TRY(need_op(p, "{"));
    while (!at_op(p, "}")) {
        const lt_jnode *key, *value;
        if (n->n > 0) LT_TRY(need_op(p, ","));
        if (at_op(p, "}")) break;
        LT_TRY(expression(p, &key));
        LT_TRY(need_op(p, ":"));
        LT_TRY(expression(p, &value));
        LT_TRY(add(p, n, key, NULL));
        LT_TRY(add(p, n, value, NULL));
    }
    *out = n;
    return need_op(p, "}");
}

static bool is_any(lt_jv name, const char *const *list_, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (lt_j_is(name, list_[i])) return true;
    return false;
}

static lt_status name_or_word(parser *p, const lt_jnode **out) {
    static const char *const yes[] = { "true", "True" }, *const no[] = { "false", "False" },
                             *const none[] = { "none", "None" }, *const beyond[] = { "self",    "super",  "caller",
                                                                                     "varargs", "kwargs", "cycler",
                                                                                     "joiner",  "lipsum", "_",
                                                                                     "gettext" };
    NODE(n, LT_N_CONST);
    LT_TRY(need_name(p, &n->name));
    if (is_any(n->name, yes, 2))
        n->value = lt_j_bool(true);
    else if (is_any(n->name, no, 2))
        n->value = lt_j_bool(false);
    else if (is_any(n->name, none, 2))
        n->value = lt_j_none();
    else if (is_any(n->name, beyond, LT_COUNTOF(beyond)))
        return lt_j_beyond(p->c, "the name %.*s", (int)n->name.n, n->name.s);
    else
        n->kind = LT_N_NAME;
    *out = n;
    return LT_OK;
}

/* Strings side by side are one. */
static lt_status constant(parser *p, const lt_jnode **out) {
    NODE(n, LT_N_CONST);
    n->value = p->t->value;
    step(p);
    while (n->value.kind == LT_J_STRING && p->t->type == LT_T_CONST && p->t->value.kind == LT_J_STRING) {
        lt_tok_buf b = { 0 };
        lt_status st = lt_tok_buf_put(&b, n->value.s, n->value.n, p->c->err);
        if (st == LT_OK) st = lt_tok_buf_put(&b, p->t->value.s, p->t->value.n, p->c->err);
        if (st == LT_OK) st = lt_j_copy(p->c, &n->value, b.data, b.len);
        lt_tok_buf_clear(&b);
        LT_TRY(st);
        step(p);
    }
    *out = n;
    return LT_OK;
}

static lt_status primary(parser *p, const lt_jnode **out) {
    if (p->t->type == LT_T_NAME) return name_or_word(p, out);
    if (p->t->type == LT_T_CONST) return constant(p, out);
    if (at_op(p, "[")) return list(p, out);
    if (at_op(p, "{")) return dict(p, out);
    LT_TRY(need_op(p, "("));
    LT_TRY(tuple(p, expression, NULL, out));
    return need_op(p, ")");
}

static lt_status arguments(parser *p, lt_jnode *call) {
    bool named = false;
    LT_TRY(need_op(p, "("));
    while (!at_op(p, ")")) {
        const lt_jnode *value;
        const char *key = NULL;
        if (call->n > 0) LT_TRY(need_op(p, ","));
        if (at_op(p, ")")) break;
        if (at_op(p, "*") || at_op(p, "**")) return lt_j_beyond(p->c, "a call with * or **");
        if (p->t->type == LT_T_NAME && is_text(p->t + 1, LT_T_OP, "=")) {
            lt_jv name;
            LT_TRY(need_name(p, &name));
            LT_TRY(text_of(p, name, &key));
            step(p);
        }
        if (named && !key) return lt_j_bad(p->c, "positional argument behind a keyword argument");
        named = named || key;
        LT_TRY(expression(p, &value));
        LT_TRY(add(p, call, value, key));
    }
    return need_op(p, ")");
}

static lt_status call(parser *p, const lt_jnode **out) {
    NODE(n, LT_N_CALL);
    n->a = *out;
    *out = n;
    return arguments(p, n);
}

/* [x] or [from:to:step]; p stands behind the bracket */
static lt_status subscript(parser *p, const lt_jnode **out) {
    const lt_jnode *part[3] = { NULL, NULL, NULL };
    size_t colons = 0;
    NODE(n, LT_N_ITEM);
    n->a = *out;
    while (!at_op(p, "]")) {
        if (colons < 2 && skip_op(p, ":")) {
            colons++;
            continue;
        }
        if (part[colons]) return at_op(p, ",") ? lt_j_beyond(p->c, "an index with a comma") : unexpected(p);
        LT_TRY(expression(p, &part[colons]));
    }
    step(p);
    n->b = part[0];
    if (colons > 0) n->kind = LT_N_SLICE;
    for (size_t i = 0; i < 3 && colons > 0; i++) LT_TRY(add(p, n, part[i], NULL));
    *out = n;
    return colons > 0 || part[0] ? LT_OK : lt_j_bad(p->c, "an index is missing");
}

static lt_status attribute(parser *p, const lt_jnode **out) {
    const lt_jnode *index;
    NODE(n, LT_N_ATTR);
    n->a = *out;
    *out = n;
    if (p->t->type == LT_T_NAME) return need_name(p, &n->name);
    if (p->t->type != LT_T_CONST || p->t->value.kind != LT_J_INT) return unexpected(p);
    n->kind = LT_N_ITEM;
    LT_TRY(constant(p, &index));
    n->b = index;
    return LT_OK;
}

static lt_status postfix(parser *p, const lt_jnode **out) {
    for (;;) {
        if (skip_op(p, "."))
            LT_TRY(attribute(p, out));
        else if (skip_op(p, "["))
            LT_TRY(subscript(p, out));
        else if (at_op(p, "("))
            LT_TRY(call(p, out));
        else
            return LT_OK;
    }
}

static lt_status filter(parser *p, const lt_jnode **out) {
    lt_jv name;
    NODE(n, LT_N_FILTER);
    LT_TRY(need_name(p, &name));
    n->a = *out;
    n->name = name;
    n->filter = lt_j_filter(name.s, name.n);
    if (!n->filter) return lt_j_beyond(p->c, "the filter %.*s", (int)lt_min_size(name.n, 60), name.s);
    *out = n;
    return at_op(p, "(") ? arguments(p, n) : LT_OK;
}

static bool begins_operand(const parser *p) {
    if (at_word(p, "else") || at_word(p, "or") || at_word(p, "and")) return false;
    return p->t->type == LT_T_NAME || p->t->type == LT_T_CONST || at_op(p, "(") || at_op(p, "[") || at_op(p, "{");
}

/* The one argument of a test, in brackets or bare. */
static lt_status test_argument(parser *p, lt_jnode *n) {
    if (at_op(p, "(")) {
        LT_TRY(arguments(p, n));
        if (n->n > 1 || (n->n == 1 && n->key[0])) return lt_j_beyond(p->c, "a test with these arguments");
        n->b = n->n ? n->item[0] : NULL;
    } else if (begins_operand(p)) {
        if (at_word(p, "is")) return lt_j_bad(p->c, "You cannot chain multiple tests with is");
        LT_TRY(primary(p, &n->b));
        LT_TRY(postfix(p, &n->b));
    }
    const size_t given = n->b != NULL;
    if (given == n->test->args) return LT_OK;
    return lt_j_bad(p->c, "the test %s takes %zu arguments, not %zu", n->test->name, n->test->args, given);
}

static lt_status test(parser *p, const lt_jnode **out) {
    const bool negated = skip_word(p, "not");
    NODE(n, LT_N_TEST);
    n->a = *out;
    *out = n;
    LT_TRY(need_name(p, &n->name));
    n->test = lt_j_test(n->name.s, n->name.n);
    if (!n->test) return lt_j_beyond(p->c, "the test %.*s", (int)lt_min_size(n->name.n, 60), n->name.s);
    LT_TRY(test_argument(p, n));
    if (!negated) return LT_OK;
    NODE(no, LT_N_UNARY);
    no->op = '!';
    no->a = n;
    *out = no;
    return LT_OK;
}

static lt_status filters_and_tests(parser *p, const lt_jnode **out) {
    for (;;) {
        if (skip_op(p, "|"))
            LT_TRY(filter(p, out));
        else if (skip_word(p, "is"))
            LT_TRY(test(p, out));
        else if (at_op(p, "("))
            LT_TRY(call(p, out));
        else
            return LT_OK;
    }
}

static lt_status signed_(parser *p, const lt_jnode **out) {
    NODE(n, LT_N_UNARY);
    n->op = *p->t->s;
    step(p);
    LT_TRY(unary(p, false, &n->a));
    *out = n;
    return LT_OK;
}

static lt_status unary(parser *p, bool filters, const lt_jnode **out) {
    LT_TRY(lt_j_enter(p->c)); /* every way down comes through here */
    LT_TRY(at_op(p, "-") || at_op(p, "+") ? signed_(p, out) : primary(p, out));
    LT_TRY(postfix(p, out));
    if (filters) LT_TRY(filters_and_tests(p, out));
    p->c->depth--;
    return LT_OK;
}

static lt_status operand(parser *p, const lt_jnode **out) {
    return unary(p, true, out);
}

/* left OP right OP ...; op[i] is written name[i] */
static lt_status chain(parser *p, parse part, const char *const *name, const char *op, const lt_jnode **out) {
    LT_TRY(part(p, out));
    for (size_t i = 0; name[i];) {
        if (!skip_op(p, name[i])) {
            i++;
            continue;
        }
        NODE(n, LT_N_BINARY);
        n->op = op[i];
        n->a = *out;
        LT_TRY(part(p, &n->b));
        *out = n;
        i = 0;
    }
    return LT_OK;
}

static lt_status power(parser *p, const lt_jnode **out) {
    static const char *const name[] = { "**", NULL };
    return chain(p, operand, name, "p", out);
}

static lt_status product(parser *p, const lt_jnode **out) {
    static const char *const name[] = { "*", "//", "/", "%", NULL };
    return chain(p, power, name, "*f/%", out);
}

static lt_status joined(parser *p, const lt_jnode **out) {
    LT_TRY(product(p, out));
    if (!at_op(p, "~")) return LT_OK;
    NODE(n, LT_N_CONCAT);
    LT_TRY(add(p, n, *out, NULL));
    while (skip_op(p, "~")) {
        LT_TRY(product(p, out));
        LT_TRY(add(p, n, *out, NULL));
    }
    *out = n;
    return LT_OK;
}

static lt_status sum(parser *p, const lt_jnode **out) {
    static const char *const name[] = { "+", "-", NULL };
    return chain(p, joined, name, "+-", out);
}

static const char *comparison(parser *p) {
    static const char *const op[] = { "==", "!=", "<=", ">=", "<", ">" };
    for (size_t i = 0; i < LT_COUNTOF(op); i++)
        if (skip_op(p, op[i])) return op[i];
    if (skip_word(p, "in")) return "in";
    if (!at_word(p, "not") || !is_text(p->t + 1, LT_T_NAME, "in")) return NULL;
    step(p);
    step(p);
    return "not in";
}

static lt_status compared(parser *p, const lt_jnode **out) {
    LT_TRY(sum(p, out));
    NODE(n, LT_N_COMPARE);
    for (const char *op; (op = comparison(p)) != NULL;) {
        const lt_jnode *right;
        LT_TRY(sum(p, &right));
        LT_TRY(add(p, n, right, op));
    }
    n->a = *out;
    if (n->n > 0) *out = n;
    return LT_OK;
}

static lt_status negated(parser *p, const lt_jnode **out) {
    size_t nots = 0;
    while (skip_word(p, "not")) nots++;
    LT_TRY(compared(p, out));
    for (; nots > 0; nots--) {
        NODE(n, LT_N_UNARY);
        n->op = '!';
        n->a = *out;
        *out = n;
    }
    return LT_OK;
}

static lt_status logic(parser *p, parse part, const char *word, lt_jnode_kind kind, const lt_jnode **out) {
    LT_TRY(part(p, out));
    while (skip_word(p, word)) {
        NODE(n, kind);
        n->a = *out;
        LT_TRY(part(p, &n->b));
        *out = n;
    }
    return LT_OK;
}

static lt_status both(parser *p, const lt_jnode **out) {
    return logic(p, negated, "and", LT_N_AND, out);
}

static lt_status either(parser *p, const lt_jnode **out) {
    return logic(p, both, "or", LT_N_OR, out);
}

static lt_status expression(parser *p, const lt_jnode **out) {
    LT_TRY(lt_j_enter(p->c));
    LT_TRY(either(p, out));
    while (skip_word(p, "if")) {
        NODE(n, LT_N_COND);
        n->b = *out;
        LT_TRY(either(p, &n->a));
        if (skip_word(p, "else")) LT_TRY(expression(p, &n->c));
        *out = n;
    }
    p->c->depth--;
    return LT_OK;
}

/* ---- statements ---- */

static lt_status body(parser *p, const char *const *end, const lt_jnode **out);
static const char *const no_end[] = { NULL };

/* %} body {% one of end; p then stands behind the word that ended it, *last says which */
static lt_status block(parser *p, const char *const *end, const char **last, const lt_jnode **out) {
    skip_op(p, ":");
    LT_TRY(need_type(p, LT_T_BLOCK_END));
    LT_TRY(body(p, end, out));
    for (size_t i = 0; end[i]; i++)
        if (skip_word(p, end[i])) {
            *last = end[i];
            return LT_OK;
        }
    return lt_j_bad(p->c, "the template ends where '%s' should come", end[0]);
}

static lt_status one_block(parser *p, const char *end, const lt_jnode **out) {
    const char *const ends[] = { end, NULL }, *last;
    return block(p, ends, &last, out);
}

/* a, (b, c), ns.d */
static lt_status target(parser *p, const lt_jnode **out) {
    if (skip_op(p, "(")) {
        LT_TRY(full_tuple(p, target, NULL, out));
        return need_op(p, ")");
    }
    NODE(n, LT_N_NAME);
    LT_TRY(need_name(p, &n->name));
    *out = n;
    if (!skip_op(p, ".")) return LT_OK;
    NODE(at, LT_N_ATTR);
    at->a = n;
    *out = at;
    return need_name(p, &at->name);
}

static lt_status if_(parser *p, const lt_jnode **out) {
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    const char *last;
    NODE(n, LT_N_IF);
    LT_TRY(full_tuple(p, either, NULL, &n->a));
    LT_TRY(block(p, ends, &last, &n->b));
    *out = n;
    if (last == ends[1]) return one_block(p, "endif", &n->c);
    if (last == ends[2]) return LT_OK;
    LT_TRY(lt_j_enter(p->c));
    LT_TRY(if_(p, &n->c));
    p->c->depth--;
    return LT_OK;
}

static lt_status for_(parser *p, const lt_jnode **out) {
    static const char *const ends[] = { "endfor", "else", NULL };
    const char *last;
    const lt_jnode *inner, *otherwise = NULL;
    NODE(n, LT_N_FOR);
    LT_TRY(full_tuple(p, target, "in", &n->a));
    if (!skip_word(p, "in")) return unexpected(p);
    LT_TRY(full_tuple(p, either, "recursive", &n->b));
    if (skip_word(p, "if")) LT_TRY(expression(p, &n->c));
    if (at_word(p, "recursive")) return lt_j_beyond(p->c, "a recursive loop");
    p->loops++;
    LT_TRY(block(p, ends, &last, &inner));
    p->loops--;
    if (last == ends[1]) LT_TRY(one_block(p, "endfor", &otherwise));
    LT_TRY(add(p, n, inner, NULL));
    *out = n;
    return add(p, n, otherwise, NULL);
}

static lt_status set(parser *p, const lt_jnode **out) {
    NODE(n, LT_N_SET);
    LT_TRY(full_tuple(p, target, NULL, &n->a));
    *out = n;
    if (skip_op(p, "=")) return full_tuple(p, expression, NULL, &n->b);
    n->kind = LT_N_SET_BLOCK;
    while (skip_op(p, "|")) LT_TRY(filter(p, &n->c));
    return one_block(p, "endset", &n->b);
}

static lt_status macro(parser *p, const lt_jnode **out) {
    const size_t loops = p->loops;
    NODE(n, LT_N_MACRO);
    LT_TRY(need_name(p, &n->name));
    LT_TRY(need_op(p, "("));
    while (!at_op(p, ")")) {
        lt_jv name;
        const char *key;
        const lt_jnode *otherwise = NULL;
        if (n->n > 0) LT_TRY(need_op(p, ","));
        LT_TRY(need_name(p, &name));
        LT_TRY(text_of(p, name, &key));
        if (skip_op(p, "=")) LT_TRY(expression(p, &otherwise));
        LT_TRY(add(p, n, otherwise, key));
    }
    LT_TRY(need_op(p, ")"));
    p->loops = 0;
    *out = n;
    LT_TRY(one_block(p, "endmacro", &n->a));
    p->loops = loops;
    return LT_OK;
}

static lt_status with(parser *p, const lt_jnode **out) {
    NODE(n, LT_N_SCOPE);
    *out = n;
    while (p->t->type != LT_T_BLOCK_END) {
        lt_jv name;
        const char *key;
        const lt_jnode *value;
        if (n->n > 0) LT_TRY(need_op(p, ","));
        LT_TRY(need_name(p, &name));
        LT_TRY(text_of(p, name, &key));
        LT_TRY(need_op(p, "="));
        LT_TRY(expression(p, &value));
        LT_TRY(add(p, n, value, key));
    }
    return one_block(p, "endwith", &n->a);
}

/* transformers marks what the assistant says so; it writes what it holds. */
static lt_status generation(parser *p, const lt_jnode **out) {
    NODE(n, LT_N_SCOPE);
    *out = n;
    return one_block(p, "endgeneration", &n->a);
}

static lt_status leave(parser *p, lt_jnode_kind kind, const lt_jnode **out) {
    NODE(n, kind);
    *out = n;
    return p->loops > 0 ? LT_OK : lt_j_bad(p->c, "break or continue outside of a loop");
}

static lt_status break_(parser *p, const lt_jnode **out) {
    return leave(p, LT_N_BREAK, out);
}

static lt_status continue_(parser *p, const lt_jnode **out) {
    return leave(p, LT_N_CONTINUE, out);
}

static const struct {
    const char *word;
    parse run;
} statements[] = {
    { "if", if_ },       { "for", for_ },           { "set", set },
    { "macro", macro },  { "with", with },          { "generation", generation },
    { "break", break_ }, { "continue", continue_ },
};

static lt_status statement(parser *p, const lt_jnode **out) {
    if (p->t->type != LT_T_NAME) return unexpected(p);
    for (size_t i = 0; i < LT_COUNTOF(statements); i++)
        if (skip_word(p, statements[i].word)) {
            LT_TRY(statements[i].run(p, out));
            return need_type(p, LT_T_BLOCK_END);
        }
    return lt_j_beyond(p->c, "the statement {%% %.*s %%}", (int)lt_min_size(p->t->n, 60), p->t->s);
}

static lt_status part(parser *p, lt_jnode *to) {
    const lt_jtok type = p->t->type;
    const lt_jnode *item = NULL;
    NODE(n, type == LT_T_DATA ? LT_N_TEXT : LT_N_OUTPUT);
    if (type == LT_T_DATA) n->value = lt_j_text(p->t->s, p->t->n);
    if (type != LT_T_DATA && type != LT_T_PRINT && type != LT_T_BLOCK) return unexpected(p);
    step(p);
    if (type == LT_T_PRINT) {
        LT_TRY(full_tuple(p, expression, NULL, &n->a));
        LT_TRY(need_type(p, LT_T_PRINT_END));
    }
    if (type == LT_T_BLOCK) LT_TRY(statement(p, &item));
    return add(p, to, item ? item : n, NULL);
}

static bool at_end(const parser *p, const char *const *end) {
    if (p->t->type == LT_T_END) return true;
    for (size_t i = 0; end[i] && p->t->type == LT_T_BLOCK; i++)
        if (is_text(p->t + 1, LT_T_NAME, end[i])) return true;
    return false;
}

static lt_status body(parser *p, const char *const *end, const lt_jnode **out) {
    NODE(n, LT_N_BODY);
    LT_TRY(lt_j_enter(p->c));
    while (!at_end(p, end)) LT_TRY(part(p, n));
    if (p->t->type == LT_T_BLOCK) step(p);
    p->c->depth--;
    *out = n;
    return LT_OK;
}

lt_status lt_j_parse(lt_jctx *c, const char *text, size_t bytes, const lt_jnode **tree) {
    lt_jtoken *tokens = NULL;
    LT_TRY(lt_j_lex(c, text, bytes, &tokens));
    parser p = { .c = c, .t = tokens };
    c->line = tokens->line;
    LT_TRY(body(&p, no_end, tree));
    return p.t->type == LT_T_END ? LT_OK : unexpected(&p);
}
