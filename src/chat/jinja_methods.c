/* SPDX-License-Identifier: Apache-2.0 */
/* Methods of strings, dicts and loops; and v.name, v[key]. */
#include <string.h>

#include "chat/jinja_text.h"
#include "tokenizer/utf8.h"

static lt_status need_text(lt_jctx *c, lt_jv v, const char *what) {
    return v.kind == LT_J_STRING ? LT_OK : lt_j_bad(c, "%s: a str is needed, not %s", what, lt_j_type(v));
}

/* ---- strings ---- */

static lt_status stripped(lt_jctx *c, lt_jv self, const lt_jargs *a, bool front, bool back, lt_jv *out) {
    if (a->v[0].kind > LT_J_NONE) LT_TRY(need_text(c, a->v[0], "strip"));
    if (a->v[0].kind == LT_J_UNDEFINED) return lt_j_bad(c, "strip arg must be None or str, not Undefined");
    *out = self;
    lt_j_strip(out, a->v[0], front, back);
    return lt_j_work(c, (self.n - out->n) * (a->v[0].kind == LT_J_STRING ? a->v[0].n : 1));
}

static lt_status strip(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return stripped(c, self, a, true, true, out);
}

static lt_status lstrip(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return stripped(c, self, a, true, false, out);
}

static lt_status rstrip(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return stripped(c, self, a, false, true, out);
}

static lt_status upper(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    return lt_j_case(c, self, LT_J_UPPER, out);
}

static lt_status lower(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    return lt_j_case(c, self, LT_J_LOWER, out);
}

static lt_status title(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    return lt_j_case(c, self, LT_J_TITLE, out);
}

static lt_status capitalize(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    return lt_j_case(c, self, LT_J_CAPITALIZE, out);
}

static lt_status replace(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    LT_TRY(need_text(c, a->v[0], "replace"));
    LT_TRY(need_text(c, a->v[1], "replace"));
    return lt_j_replace(c, self, a->v[0], a->v[1], a->v[2], out);
}

static bool has_end(lt_jv s, lt_jv part, bool front) {
    return part.n <= s.n && memcmp(front ? s.s : s.s + s.n - part.n, part.s, part.n) == 0;
}

/* part: a string, or a tuple of which one will do */
static lt_status ends(lt_jctx *c, lt_jv self, const lt_jargs *a, bool front, lt_jv *out) {
    const lt_jv part = a->v[0];
    const bool tuple = part.kind == LT_J_LIST && part.form == LT_J_TUPLE;
    bool yes = false;
    if (a->v[1].kind != LT_J_UNSET) return lt_j_beyond(c, "startswith or endswith from a position");
    if (!tuple) LT_TRY(need_text(c, part, "startswith"));
    if (!tuple) yes = has_end(self, part, front);
    for (size_t i = 0; tuple && i < part.list->n && !yes; i++) {
        LT_TRY(need_text(c, part.list->v[i], "startswith"));
        yes = has_end(self, part.list->v[i], front);
    }
    *out = lt_j_bool(yes);
    return LT_OK;
}

static lt_status startswith(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return ends(c, self, a, true, out);
}

static lt_status endswith(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return ends(c, self, a, false, out);
}

static lt_status removeprefix(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    LT_TRY(need_text(c, a->v[0], "removeprefix"));
    const size_t n = has_end(self, a->v[0], true) ? a->v[0].n : 0;
    *out = lt_j_text(self.s + n, self.n - n);
    return LT_OK;
}

static lt_status removesuffix(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    LT_TRY(need_text(c, a->v[0], "removesuffix"));
    *out = lt_j_text(self.s, self.n - (has_end(self, a->v[0], false) ? a->v[0].n : 0));
    return LT_OK;
}

/* First (or last) place of part, in bytes; self.n + 1: none. */
static size_t place(lt_jv self, lt_jv part, bool last) {
    if (part.n > self.n) return self.n + 1;
    for (size_t i = 0; i <= self.n - part.n; i++) {
        const size_t at = last ? self.n - part.n - i : i;
        if (memcmp(self.s + at, part.s, part.n) == 0) return at;
    }
    return self.n + 1;
}

static lt_status found(lt_jctx *c, lt_jv self, const lt_jargs *a, bool last, lt_jv *out) {
    if (a->v[1].kind != LT_J_UNSET) return lt_j_beyond(c, "find from a position");
    LT_TRY(need_text(c, a->v[0], "find"));
    const size_t at = place(self, a->v[0], last);
    *out = lt_j_int(at > self.n ? -1 : (int64_t)lt_j_chars(self.s, at));
    return lt_j_work(c, self.n / 4);
}

static lt_status find(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return found(c, self, a, false, out);
}

static lt_status rfind(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return found(c, self, a, true, out);
}

static lt_status count(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    int64_t n = 0;
    if (a->v[1].kind != LT_J_UNSET) return lt_j_beyond(c, "count from a position");
    LT_TRY(need_text(c, a->v[0], "count"));
    if (a->v[0].n == 0) n = (int64_t)lt_j_chars(self.s, self.n) + 1;
    for (size_t at = 0; a->v[0].n > 0 && a->v[0].n <= self.n - at;) {
        const char *hit = memmem(self.s + at, self.n - at, a->v[0].s, a->v[0].n);
        if (!hit) break;
        at = (size_t)(hit - self.s) + a->v[0].n;
        n++;
    }
    *out = lt_j_int(n);
    return lt_j_work(c, self.n / 4);
}

/* Words between white space; most < 0: no limit. What is left after the last cut keeps its end. */
static lt_status split_blanks(lt_jctx *c, lt_jv s, int64_t most, lt_jv *out) {
    for (;; most--) {
        lt_j_strip(&s, lt_j_none(), true, false);
        if (s.n == 0) return LT_OK;
        size_t n = 0;
        while (n < s.n && most != 0 && !lt_j_space(lt_utf8_get(s.s + n))) n += lt_utf8_length(s.s[n]);
        if (most == 0) n = s.n;
        LT_TRY(lt_j_push(c, out->list, lt_j_text(s.s, n)));
        s = lt_j_text(s.s + n, s.n - n);
    }
}

static lt_status split_at(lt_jctx *c, lt_jv s, lt_jv sep, int64_t most, lt_jv *out) {
    for (; most != 0; most--) {
        const char *hit = memmem(s.s, s.n, sep.s, sep.n);
        if (!hit) break;
        const size_t n = (size_t)(hit - s.s);
        LT_TRY(lt_j_push(c, out->list, lt_j_text(s.s, n)));
        s = lt_j_text(hit + sep.n, s.n - n - sep.n);
    }
    return lt_j_push(c, out->list, s);
}

static lt_status split_at_back(lt_jctx *c, lt_jv s, lt_jv sep, int64_t most, lt_jv *out) {
    for (; most != 0; most--) {
        const size_t at = place(s, sep, true);
        LT_TRY(lt_j_work(c, s.n / 4));
        if (at > s.n) break;
        LT_TRY(lt_j_push(c, out->list, lt_j_text(s.s + at + sep.n, s.n - at - sep.n)));
        s.n = at;
    }
    LT_TRY(lt_j_push(c, out->list, s));
    lt_jv *v = out->list->v;
    for (size_t i = 0, k = out->list->n - 1; i < k; i++, k--) {
        const lt_jv swap = v[i];
        v[i] = v[k];
        v[k] = swap;
    }
    return LT_OK;
}

static lt_status cut(lt_jctx *c, lt_jv self, const lt_jargs *a, bool back, lt_jv *out) {
    int64_t most = -1;
    if (a->v[1].kind != LT_J_UNSET && !lt_j_integer(a->v[1], &most))
        return lt_j_bad(c, "split: maxsplit is no integer");
    if (most < 0) most = -1;
    LT_TRY(lt_j_list(c, out, LT_J_PLAIN));
    LT_TRY(lt_j_work(c, self.n / 4));
    if (a->v[0].kind == LT_J_UNSET || a->v[0].kind == LT_J_NONE) {
        if (back && most >= 0) return lt_j_beyond(c, "rsplit at blanks with a limit");
        return split_blanks(c, self, most, out);
    }
    LT_TRY(need_text(c, a->v[0], "split"));
    if (a->v[0].n == 0) return lt_j_bad(c, "empty separator");
    return back ? split_at_back(c, self, a->v[0], most, out) : split_at(c, self, a->v[0], most, out);
}

static lt_status split(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return cut(c, self, a, false, out);
}

static lt_status rsplit(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return cut(c, self, a, true, out);
}

static lt_status parted(lt_jctx *c, lt_jv self, const lt_jargs *a, bool back, lt_jv *out) {
    const lt_jv sep = a->v[0], none = lt_j_text("", 0);
    LT_TRY(need_text(c, sep, "partition"));
    if (sep.n == 0) return lt_j_bad(c, "empty separator");
    const size_t at = place(self, sep, back);
    const bool hit = at <= self.n;
    LT_TRY(lt_j_work(c, self.n / 4));
    LT_TRY(lt_j_list(c, out, LT_J_TUPLE));
    LT_TRY(lt_j_push(c, out->list, hit ? lt_j_text(self.s, at) : back ? none : self));
    LT_TRY(lt_j_push(c, out->list, hit ? sep : none));
    return lt_j_push(c, out->list, hit ? lt_j_text(self.s + at + sep.n, self.n - at - sep.n) : back ? self : none);
}

static lt_status partition(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return parted(c, self, a, false, out);
}

static lt_status rpartition(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return parted(c, self, a, true, out);
}

static lt_status splitlines(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    return lt_j_lines(c, self, lt_j_truth(a->v[0]), out);
}

static lt_status join(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    lt_jlist items;
    lt_tok_buf b = { 0 };
    lt_status st = LT_OK;
    LT_TRY(lt_j_items(c, a->v[0], &items));
    for (size_t i = 0; i < items.n && st == LT_OK; i++) {
        st = need_text(c, items.v[i], "join");
        if (st == LT_OK && i > 0) st = lt_j_print(c, &b, self, false);
        if (st == LT_OK) st = lt_j_print(c, &b, items.v[i], false);
    }
    if (st == LT_OK) return lt_j_copy_buf(c, out, &b);
    lt_tok_buf_clear(&b);
    return st;
}

static lt_status isspace_(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    const size_t n = self.n;
    (void)a;
    lt_j_strip(&self, lt_j_none(), true, false);
    *out = lt_j_bool(n > 0 && self.n == 0);
    return lt_j_work(c, n / 4);
}

static lt_status isdigit_(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    bool all = self.n > 0;
    (void)a;
    for (size_t i = 0; i < self.n; i++) {
        if ((unsigned char)self.s[i] >= 0x80) return lt_j_beyond(c, "isdigit of a character outside of ASCII");
        all = all && self.s[i] >= '0' && self.s[i] <= '9';
    }
    *out = lt_j_bool(all);
    return lt_j_work(c, self.n / 4);
}

static const lt_jfn string_methods[] = {
    { "strip", { "chars" }, strip },
    { "lstrip", { "chars" }, lstrip },
    { "rstrip", { "chars" }, rstrip },
    { "upper", { NULL }, upper },
    { "lower", { NULL }, lower },
    { "title", { NULL }, title },
    { "capitalize", { NULL }, capitalize },
    { "replace", { "old", "new", "count" }, replace },
    { "startswith", { "prefix", "start" }, startswith },
    { "endswith", { "suffix", "start" }, endswith },
    { "removeprefix", { "prefix" }, removeprefix },
    { "removesuffix", { "suffix" }, removesuffix },
    { "find", { "sub", "start" }, find },
    { "rfind", { "sub", "start" }, rfind },
    { "count", { "sub", "start" }, count },
    { "split", { "sep", "maxsplit" }, split },
    { "rsplit", { "sep", "maxsplit" }, rsplit },
    { "partition", { "sep" }, partition },
    { "rpartition", { "sep" }, rpartition },
    { "splitlines", { "keepends" }, splitlines },
    { "join", { "iterable" }, join },
    { "isspace", { NULL }, isspace_ },
    { "isdigit", { NULL }, isdigit_ },
};

/* ---- dicts ---- */

static lt_status items(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    return lt_j_pairs(c, self.dict, out);
}

static lt_status column(lt_jctx *c, const lt_jv *v, size_t n, lt_jv *out) {
    LT_TRY(lt_j_list(c, out, LT_J_VIEW));
    for (size_t i = 0; i < n; i++) LT_TRY(lt_j_push(c, out->list, v[i]));
    return LT_OK;
}

static lt_status keys(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    return column(c, self.dict->key, self.dict->n, out);
}

static lt_status values(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    (void)a;
    return column(c, self.dict->value, self.dict->n, out);
}

static lt_status get(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    const lt_jv *v;
    LT_TRY(lt_j_lookup(c, self.dict, a->v[0], &v));
    *out = v ? *v : a->v[1].kind == LT_J_UNSET ? lt_j_none() : a->v[1];
    return LT_OK;
}

static const lt_jfn dict_methods[] = {
    { "items", { NULL }, items },
    { "keys", { NULL }, keys },
    { "values", { NULL }, values },
    { "get", { "key", "default" }, get },
};

/* ---- loops ---- */

static lt_status cycle(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    if (a->n == 0) return lt_j_bad(c, "no items for cycling given");
    *out = a->v[self.loop->at % a->n];
    return LT_OK;
}

static lt_status changed(lt_jctx *c, lt_jv self, const lt_jargs *a, lt_jv *out) {
    bool same = false;
    if (a->n != 1) return lt_j_beyond(c, "loop.changed of several values");
    if (self.loop->changed.kind != LT_J_UNSET) LT_TRY(lt_j_equal(c, self.loop->changed, a->v[0], &same));
    self.loop->changed = a->v[0];
    *out = lt_j_bool(!same);
    return LT_OK;
}

static const lt_jfn loop_methods[] = {
    { "cycle", { "*" }, cycle },
    { "changed", { "*" }, changed },
};

const lt_jfn *lt_j_method(lt_jkind kind, const char *name, size_t n) {
    switch (kind) {
    case LT_J_STRING:
        return lt_j_row(string_methods, LT_COUNTOF(string_methods), name, n);
    case LT_J_DICT:
        return lt_j_row(dict_methods, LT_COUNTOF(dict_methods), name, n);
    case LT_J_LOOP:
        return lt_j_row(loop_methods, LT_COUNTOF(loop_methods), name, n);
    default:
        return NULL;
    }
}

/* ---- v.name and v[key] ---- */

/* Names that Python's types have and we do not: to look them up is an error, not an undefined value. */
static bool other_method(lt_jv v, lt_jv name) {
    static const char strings[] = " casefold center encode expandtabs format format_map index isalnum isalpha isascii "
                                  "isdecimal isidentifier islower isnumeric isprintable istitle isupper ljust "
                                  "maketrans rindex rjust swapcase translate zfill ",
                      dicts[] = " clear copy fromkeys pop popitem setdefault update ",
                      lists[] = " append clear copy count extend index insert pop remove reverse sort ";
    const char *in = v.kind == LT_J_STRING ? strings : v.kind == LT_J_DICT ? dicts : v.kind == LT_J_LIST ? lists : "";
    char word[32];
    if (name.n + 3 > sizeof word) return false;
    word[0] = ' ';
    memcpy(word + 1, name.s, name.n);
    memcpy(word + 1 + name.n, " ", 2);
    return memmem(in, strlen(in), word, name.n + 2) != NULL || v.kind >= LT_J_MACRO;
}

static lt_jv neighbour(const lt_jloop *l, bool before) {
    const size_t at = before ? l->at - 1 : l->at + 1; /* wraps to a large number in the first round */
    return at < l->items.n ? l->items.v[at] : lt_j_undefined(before ? "previtem" : "nextitem", 8);
}

/* depth counts recursive loops only, which are not in the subset. */
static bool loop_value(const lt_jloop *l, lt_jv name, lt_jv *out) {
    const int64_t at = (int64_t)l->at, n = (int64_t)l->items.n;
    const struct {
        const char *name;
        lt_jv value;
    } row[] = {
        { "index", lt_j_int(at + 1) },       { "index0", lt_j_int(at) },
        { "revindex", lt_j_int(n - at) },    { "revindex0", lt_j_int(n - at - 1) },
        { "first", lt_j_bool(at == 0) },     { "last", lt_j_bool(at + 1 == n) },
        { "length", lt_j_int(n) },           { "depth", lt_j_int(1) },
        { "depth0", lt_j_int(0) },           { "previtem", neighbour(l, true) },
        { "nextitem", neighbour(l, false) },
    };
    for (size_t i = 0; i < LT_COUNTOF(row); i++)
        if (lt_j_is(name, row[i].name)) return *out = row[i].value, true;
    return false;
}

static lt_status bound_method(lt_jctx *c, const lt_jfn *f, lt_jv v, lt_jv *out) {
    lt_jv *self = lt_j_alloc(c, 1, sizeof *self);
    if (!self) return lt_j_spent(c);
    *self = v;
    *out = (lt_jv){ .kind = LT_J_FUNCTION, .fn = f, .self = self };
    return LT_OK;
}

static lt_status undefined_has_no(lt_jctx *c, lt_jv v, lt_jv name) {
    const int n = name.kind == LT_J_STRING ? (int)lt_min_size(name.n, 60) : 0;
    return lt_j_bad(c, "'%.*s' is undefined and has no '%.*s'", (int)lt_min_size(v.n, 60), v.s, n, n ? name.s : "");
}

lt_status lt_j_attribute(lt_jctx *c, lt_jv v, lt_jv name, lt_jv *out) {
    const lt_jv *member = NULL;
    if (v.kind == LT_J_UNDEFINED) return undefined_has_no(c, v, name);
    const lt_jfn *f = lt_j_method((lt_jkind)v.kind, name.s, name.n);
    if (f) return bound_method(c, f, v, out);
    if (v.form == LT_J_SAFE || other_method(v, name))
        return lt_j_beyond(c, "%.*s of a %s", (int)lt_min_size(name.n, 60), name.s, lt_j_type(v));
    if (v.kind == LT_J_LOOP && loop_value(v.loop, name, out)) return LT_OK;
    if (v.kind == LT_J_DICT || v.kind == LT_J_NAMESPACE) member = lt_j_find(v.dict, name.s, name.n);
    *out = member ? *member : lt_j_undefined(name.s, name.n);
    return lt_j_work(c, v.kind == LT_J_DICT ? v.dict->n / 4 + 1 : 1);
}

static lt_status at_index(lt_jctx *c, lt_jv v, int64_t i, lt_jv *out) {
    int64_t n;
    LT_TRY(lt_j_length(c, v, &n));
    if (i < 0) i += n;
    *out = lt_j_undefined("index out of range", 18);
    if (i < 0 || i >= n) return LT_OK;
    if (v.kind == LT_J_LIST) {
        *out = v.list->v[i];
        return LT_OK;
    }
    const size_t at = lt_j_offset(v.s, v.n, (size_t)i);
    *out = lt_j_text(v.s + at, lt_utf8_length(v.s[at]));
    return lt_j_work(c, at / 16);
}

lt_status lt_j_item(lt_jctx *c, lt_jv v, lt_jv key, lt_jv *out) {
    const lt_jv *member = NULL;
    int64_t i;
    const bool hashable = key.kind < LT_J_LIST || key.form == LT_J_TUPLE;
    if (v.kind == LT_J_UNDEFINED) return undefined_has_no(c, v, key);
    if (v.kind == LT_J_DICT && hashable) LT_TRY(lt_j_lookup(c, v.dict, key, &member));
    if (member) {
        *out = *member;
        return LT_OK;
    }
    if (lt_j_integer(key, &i) && (v.kind == LT_J_STRING || (v.kind == LT_J_LIST && v.form <= LT_J_TUPLE)))
        return at_index(c, v, i, out);
    if (v.kind == LT_J_LIST && v.form == LT_J_VIEW) return lt_j_beyond(c, "an index of a range or view");
    if (key.kind == LT_J_STRING) return lt_j_attribute(c, v, key, out);
    *out = lt_j_undefined("item", 4);
    return LT_OK;
}

lt_status lt_j_path(lt_jctx *c, lt_jv v, lt_jv path, lt_jv *out) {
    int64_t i;
    *out = v;
    if (lt_j_integer(path, &i)) return lt_j_item(c, v, path, out);
    LT_TRY(need_text(c, path, "attribute"));
    for (size_t at = 0; at <= path.n;) {
        const char *dot = memchr(path.s + at, '.', path.n - at);
        const lt_jv part = lt_j_text(path.s + at, dot ? (size_t)(dot - path.s) - at : path.n - at);
        if (part.n > 0 && part.s[0] >= '0' && part.s[0] <= '9') return lt_j_beyond(c, "an attribute with an index");
        LT_TRY(lt_j_item(c, *out, part, out));
        at += part.n + 1;
    }
    return LT_OK;
}
