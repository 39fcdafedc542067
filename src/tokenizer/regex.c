/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/finder.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

struct lt_finder {
    lt_scan scan;
    pcre2_code *code; /* NULL: literal or scan */
    char *literal;
    size_t literal_bytes;
};

/* ---- from Oniguruma's syntax to PCRE2's ---- */

typedef struct translator {
    const char *p, *end;
    lt_tok_buf out;
    const char *where, *pattern;
    lt_err *err;
} translator;

static lt_status refuse(translator *t, const char *what) {
    return lt_fail(t->err, LT_EUNSUPPORTED, "%s in a regular expression (%s: %.200s)", what, t->where, t->pattern);
}

static lt_status emit(translator *t, const char *s, size_t bytes) {
    return lt_tok_buf_put(&t->out, s, bytes, t->err);
}

static lt_status emit_text(translator *t, const char *s) {
    return emit(t, s, strlen(s));
}

/* A class that our tables decide: categories, or a flag. */
typedef struct class {
    uint32_t categories;
    unsigned flag;
    bool negated;
} class;

static bool class_has(const class *c, unsigned props) {
    return (lt_uni_in(props, c->categories) || (props & c->flag)) != c->negated;
}

/* The code points of a class, as the inside of [...]; runs that touch are joined. Surrogates are not in any subject. */
static lt_status emit_ranges(translator *t, const class *c) {
    const size_t n = lt_uni_n_runs();
    for (size_t i = 0; i < n;) {
        const lt_uni_run first = lt_uni_run_at(i++);
        const bool surrogate = first.first == 0xD800;
        if (surrogate || !class_has(c, first.props)) continue;
        uint32_t last = first.last;
        while (i < n && lt_uni_run_at(i).first != 0xD800 && class_has(c, lt_uni_run_at(i).props))
            last = lt_uni_run_at(i++).last;
        char text[40];
        const int bytes = snprintf(text, sizeof text, "\\x{%x}-\\x{%x}", first.first, last);
        LT_TRY(emit(t, text, (size_t)bytes));
    }
    return LT_OK;
}

static lt_status emit_class(translator *t, const class *c, bool inside) {
    if (!inside) LT_TRY(emit_text(t, "["));
    LT_TRY(emit_ranges(t, c));
    return inside ? LT_OK : emit_text(t, "]");
}

/* p{Name}, p{^Name}, P{Name} behind the backslash; p stands behind the letter. */
static lt_status property(translator *t, bool negated, class *c) {
    if (t->p == t->end || *t->p != '{') return refuse(t, "\\p without {");
    const char *name = ++t->p;
    if (t->p < t->end && *t->p == '^') {
        negated = !negated;
        name = ++t->p;
    }
    while (t->p < t->end && *t->p != '}') t->p++;
    if (t->p == t->end) return refuse(t, "unfinished \\p{");
    const size_t bytes = (size_t)(t->p++ - name);
    *c = (class){ lt_uni_categories(name, bytes), 0, negated };
    if (bytes == 3 && memcmp(name, "Han", 3) == 0) c->flag = LT_UNI_HAN;
    return c->categories || c->flag ? LT_OK : refuse(t, "unknown \\p{} property");
}

/* \s \d \w and their complements; false: no such letter. */
static bool shorthand(char letter, class *c) {
    switch (letter | 0x20) {
    case 's':
        *c = (class){ 0, LT_UNI_WHITE, letter == 'S' };
        return true;
    case 'd':
        *c = (class){ lt_uni_categories("Nd", 2), 0, letter == 'D' };
        return true;
    case 'w':
        *c = (class){ 0, LT_UNI_ONIG_WORD, letter == 'W' };
        return true;
    default:
        return false;
    }
}

/* \xHH or \x{H...}; p stands behind the x. */
static lt_status hex_escape(translator *t) {
    char text[16];
    unsigned cp = 0;
    int used = 0;
    const size_t left = (size_t)(t->end - t->p);
    char copy[12] = { 0 };
    memcpy(copy, t->p, lt_min_size(left, sizeof copy - 1));
    if (copy[0] == '{') {
        if (sscanf(copy, "{%6x}%n", &cp, &used) != 1 || used == 0) return refuse(t, "bad \\x{}");
    } else if (sscanf(copy, "%2x%n", &cp, &used) != 1 || cp > 0x7F) {
        return refuse(t, "bad \\x"); /* from 0x80 it would be a byte of UTF-8 to Oniguruma */
    }
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000)) return refuse(t, "bad code point");
    t->p += used;
    const int bytes = snprintf(text, sizeof text, "\\x{%x}", cp);
    return emit(t, text, (size_t)bytes);
}

static lt_status escape(translator *t, bool inside) {
    class c;
    if (++t->p == t->end) return refuse(t, "backslash at the end");
    const char letter = *t->p++;
    if (letter == 'p' || letter == 'P') {
        LT_TRY(property(t, letter == 'P', &c));
        return emit_class(t, &c, inside);
    }
    if (shorthand(letter, &c)) return emit_class(t, &c, inside);
    if (letter == 'x') return hex_escape(t);
    const bool plain = (unsigned char)letter < 0x80 && !((letter | 0x20) >= 'a' && (letter | 0x20) <= 'z') &&
                       !(letter >= '0' && letter <= '9');
    const bool control = strchr("rntfae", letter) != NULL; /* \v differs: a vertical tab to one, a class to the other */
    if (letter == '\0' || !(plain || control || (!inside && letter == 'A'))) return refuse(t, "unknown escape");
    const char pair[2] = { '\\', letter };
    return emit(t, pair, 2);
}

static lt_status bracket(translator *t) {
    LT_TRY(emit_text(t, "["));
    t->p++;
    if (t->p < t->end && *t->p == '^') {
        LT_TRY(emit_text(t, "^"));
        t->p++;
    }
    if (t->p < t->end && *t->p == ']') return refuse(t, "empty class");
    while (t->p < t->end && *t->p != ']') {
        if (*t->p == '[') return refuse(t, "class inside a class");
        if (*t->p == '&' && t->end - t->p > 1 && t->p[1] == '&') return refuse(t, "intersection of classes");
        if (*t->p == '\\')
            LT_TRY(escape(t, true));
        else
            LT_TRY(emit(t, t->p++, 1));
    }
    if (t->p == t->end) return refuse(t, "unfinished class");
    t->p++;
    return emit_text(t, "]");
}

static lt_status group(translator *t) {
    static const char *const forms[] = { "(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>" };
    for (size_t i = 0; i < LT_COUNTOF(forms); i++) {
        const size_t bytes = strlen(forms[i]);
        if ((size_t)(t->end - t->p) >= bytes && memcmp(t->p, forms[i], bytes) == 0) {
            t->p += bytes;
            return emit(t, forms[i], bytes);
        }
    }
    if (t->end - t->p > 1 && t->p[1] == '?') return refuse(t, "unknown group");
    t->p++;
    return emit_text(t, "(?:");
}

/* {n}, {n,}, {n,m}, {,m}; a '+' behind it is possessive to PCRE2 and a second quantifier to Ruby's syntax. */
static lt_status interval(translator *t) {
    const char *start = t->p++;
    if (t->p < t->end && *t->p == ',') {
        LT_TRY(emit_text(t, "{0"));
        start = t->p;
    }
    while (t->p < t->end && ((*t->p >= '0' && *t->p <= '9') || *t->p == ',')) t->p++;
    if (t->p == t->end || *t->p != '}') return refuse(t, "literal {");
    t->p++;
    if (t->p < t->end && *t->p == '+') return refuse(t, "quantifier behind an interval");
    return emit(t, start, (size_t)(t->p - start));
}

static lt_status translate(translator *t) {
    while (t->p < t->end) {
        switch (*t->p) {
        case '\\':
            LT_TRY(escape(t, false));
            break;
        case '[':
            LT_TRY(bracket(t));
            break;
        case '(':
            LT_TRY(group(t));
            break;
        case '{':
            LT_TRY(interval(t));
            break;
        case '^':
            return refuse(t, "anchor ^");
        case '$': /* the end of any line, in Ruby's syntax */
            t->p++;
            LT_TRY(emit_text(t, "(?m:$)"));
            break;
        default:
            LT_TRY(emit(t, t->p++, 1));
        }
    }
    return LT_OK;
}

static lt_status compile(lt_finder *f, const lt_tok_buf *pattern, const translator *t, lt_err *err) {
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR why[128];
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return lt_fail(err, LT_ENOMEM, "no memory for a regular expression (%s)", t->where);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    f->code = pcre2_compile((PCRE2_SPTR)(pattern->len ? pattern->data : ""), pattern->len,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!f->code) {
        pcre2_get_error_message(code, why, sizeof why);
        return lt_fail(err, LT_EDATA, "bad regular expression: %s (%s: %.200s)", (const char *)why, t->where,
                       t->pattern);
    }
    (void)pcre2_jit_compile(f->code,
                            PCRE2_JIT_COMPLETE); /* where there is no JIT the interpreter does the same, slower */
    return LT_OK;
}

lt_status lt_finder_pcre2(lt_finder **out, const char *pattern, size_t bytes, const char *where, lt_err *err) {
    translator t = { .p = pattern, .end = pattern + bytes, .where = where, .pattern = pattern, .err = err };
    lt_finder *f = lt_calloc(1, sizeof *f);
    if (!f) return lt_fail(err, LT_ENOMEM, "no memory for a regular expression (%s)", where);
    lt_status st = translate(&t);
    if (st == LT_OK) st = compile(f, &t.out, &t, err);
    lt_tok_buf_clear(&t.out);
    if (st == LT_OK)
        *out = f;
    else
        lt_finder_destroy(f);
    return st;
}

lt_status lt_finder_regex(lt_finder **out, const char *pattern, size_t bytes, const char *where, lt_err *err) {
    const lt_scan scan = lt_scan_for(pattern, bytes);
    if (!scan) return lt_finder_pcre2(out, pattern, bytes, where, err);
    *out = lt_calloc(1, sizeof **out);
    if (!*out) return lt_fail(err, LT_ENOMEM, "no memory for a regular expression (%s)", where);
    (*out)->scan = scan;
    return LT_OK;
}

lt_status lt_finder_literal(lt_finder **out, const char *text, size_t bytes, lt_err *err) {
    lt_finder *f = lt_calloc(1, sizeof *f);
    if (f) f->literal = lt_malloc(bytes + 1);
    if (!f || !f->literal) {
        lt_free(f);
        return lt_fail(err, LT_ENOMEM, "no memory for a pattern of %zu bytes", bytes);
    }
    memcpy(f->literal, text, bytes);
    f->literal_bytes = bytes;
    *out = f;
    return LT_OK;
}

lt_status lt_finder_parse(lt_finder **out, const json_t *j, const char *where, lt_err *err) {
    const json_t *regex = json_object_get(j, "Regex"), *string = json_object_get(j, "String");
    if (json_is_string(regex))
        return lt_finder_regex(out, json_string_value(regex), json_string_length(regex), where, err);
    if (json_is_string(string))
        return lt_finder_literal(out, json_string_value(string), json_string_length(string), err);
    return lt_fail(err, LT_EDATA, "pattern is neither Regex nor String (%s)", where);
}

void lt_finder_destroy(lt_finder *f) {
    if (!f) return;
    pcre2_code_free(f->code);
    lt_free(f->literal);
    lt_free(f);
}

/* ---- searching ---- */

lt_status lt_search_open(lt_search *s, const lt_finder *f, lt_scan scan, lt_err *err) {
    *s = (lt_search){ f, scan ? scan : f->scan, NULL };
    if (s->scan || !f->code) return LT_OK;
    s->match = pcre2_match_data_create(1, NULL);
    return s->match ? LT_OK : lt_fail(err, LT_ENOMEM, "no memory to match a regular expression");
}

void lt_search_close(lt_search *s) {
    pcre2_match_data_free(s->match);
    s->match = NULL;
}

static void find_literal(const lt_finder *f, const char *text, size_t n, size_t from, size_t *start, size_t *end) {
    const char *p = f->literal_bytes ? memmem(text + from, n - from, f->literal, f->literal_bytes) : NULL;
    *start = p ? (size_t)(p - text) : LT_NO_MATCH;
    *end = *start + f->literal_bytes;
}

static lt_status find_regex(const lt_search *s, const char *text, size_t n, size_t from, size_t *start, size_t *end,
                            lt_err *err) {
    int rc = pcre2_match(s->finder->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, s->match, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its state on the heap */
        rc = pcre2_match(s->finder->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match, NULL);
    *start = LT_NO_MATCH;
    if (rc == PCRE2_ERROR_NOMATCH) return LT_OK;
    if (rc < 0)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "tokenizer: a regular expression gave up at byte %zu of %zu (PCRE2 error %d)", from, n, rc);
    const PCRE2_SIZE *ovector = pcre2_get_ovector_pointer(s->match);
    *start = ovector[0];
    *end = ovector[1];
    return LT_OK;
}

lt_status lt_search_next(const lt_search *s, const char *text, size_t n, size_t from, size_t *start, size_t *end,
                         lt_err *err) {
    if (s->scan) {
        if (from < n)
            s->scan(text, n, from, start, end);
        else
            *start = LT_NO_MATCH;
        return LT_OK;
    }
    if (s->finder->code) return find_regex(s, text, n, from, start, end, err);
    find_literal(s->finder, text, n, from, start, end);
    return LT_OK;
}

lt_status lt_search_after(const lt_search *s, const char *text, size_t n, size_t *from, size_t *last, size_t *start,
                          size_t *end, lt_err *err) {
    for (*start = LT_NO_MATCH; *from <= n;) {
        LT_TRY(lt_search_next(s, text, n, *from, start, end, err));
        if (*start == LT_NO_MATCH) return LT_OK;
        if (*start < *end || *end != *last) {
            *from = *last = *end;
            return LT_OK;
        }
        *from += *from < n ? lt_utf8_length(text[*from]) : 1;
        *start = LT_NO_MATCH;
    }
    return LT_OK;
}

/* ---- cutting ---- */

/* Takes matches and gaps in order and decides what becomes of each; `held` waits for what comes next. */
typedef struct cutter {
    lt_behavior behavior;
    bool invert;
    lt_tok_span source, held;
    bool holding, held_match;
    lt_tok_spans out;
} cutter;

static lt_status put(cutter *c, size_t start, size_t end, lt_err *err) {
    const bool first = c->source.first && start == 0;
    return lt_tok_spans_put(&c->out, (lt_tok_span){ c->source.start + start, c->source.start + end, -1, first }, err);
}

static lt_status flush(cutter *c, lt_err *err) {
    if (!c->holding) return LT_OK;
    c->holding = false;
    return put(c, c->held.start, c->held.end, err);
}

static lt_status segment(cutter *c, size_t start, size_t end, bool is_match, lt_err *err) {
    is_match = is_match != c->invert;
    if (c->behavior == LT_SPLIT_ISOLATED) return put(c, start, end, err);
    if (c->behavior == LT_SPLIT_REMOVED) return is_match ? LT_OK : put(c, start, end, err);
    const bool joins = c->holding && (c->behavior == LT_SPLIT_CONTIGUOUS             ? is_match == c->held_match
                                      : c->behavior == LT_SPLIT_MERGED_WITH_PREVIOUS ? is_match && !c->held_match
                                                                                     : !is_match && c->held_match);
    if (joins) {
        c->held.end = end;
        if (c->behavior != LT_SPLIT_CONTIGUOUS) return flush(c, err); /* takes one neighbour only */
        return LT_OK;
    }
    LT_TRY(flush(c, err));
    c->held = (lt_tok_span){ start, end, -1, false };
    c->held_match = is_match;
    c->holding = true;
    return LT_OK;
}

static lt_status cut(cutter *c, const lt_search *search, const char *s, size_t n, lt_err *err) {
    size_t done = 0, from = 0, start, end;
    for (size_t last = LT_NO_MATCH;;) {
        LT_TRY(lt_search_after(search, s, n, &from, &last, &start, &end, err));
        if (start == LT_NO_MATCH) break;
        if (done < start) LT_TRY(segment(c, done, start, false, err));
        LT_TRY(segment(c, start, end, true, err));
        done = end;
    }
    if (done < n) LT_TRY(segment(c, done, n, false, err));
    return flush(c, err);
}

lt_status lt_tok_text_split(lt_tok_text *t, const lt_finder *f, lt_scan scan, lt_behavior behavior, bool invert,
                            lt_err *err) {
    lt_search search;
    LT_TRY(lt_search_open(&search, f, scan, err));
    cutter c = { .behavior = behavior, .invert = invert };
    lt_status st = LT_OK;
    for (size_t i = 0; i < t->spans.n && st == LT_OK; i++) {
        c.source = t->spans.v[i];
        if (c.source.id >= 0)
            st = lt_tok_spans_put(&c.out, c.source, err);
        else
            st = cut(&c, &search, t->data + c.source.start, c.source.end - c.source.start, err);
    }
    if (st == LT_OK) lt_tok_text_set_spans(t, &c.out);
    lt_free(c.out.v);
    lt_search_close(&search);
    return st;
}
