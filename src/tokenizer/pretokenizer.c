/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-tokenizers: cut the text into the pieces that the model sees one at a time. */
#include "tokenizer/stage.h"

#include <string.h>

#include "tokenizer/finder.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

/* ---- ByteLevel: GPT-2's expression, then each byte becomes a printable symbol ---- */

typedef struct byte_level {
    bool add_prefix_space, use_regex;
} byte_level;

static lt_status byte_level_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    byte_level b;
    LT_TRY(lt_json_bool(&b.add_prefix_space, j, "add_prefix_space", true, in->where, err));
    LT_TRY(lt_json_bool(&b.use_regex, j, "use_regex", true, in->where, err));
    byte_level *p = lt_malloc(sizeof *p);
    if (!p) return lt_fail(err, LT_ENOMEM, "no memory for a pre-tokenizer (%s)", in->where);
    *p = b;
    *self = p;
    return LT_OK;
}

static lt_status prefix_space(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out,
                              lt_err *err) {
    (void)self;
    (void)first;
    if (in[0] != ' ') LT_TRY(lt_tok_buf_put(out, " ", 1, err));
    return lt_tok_buf_put(out, in, bytes, err);
}

static lt_status byte_level_run(const void *self, lt_tok_text *t, lt_err *err) {
    const byte_level *b = self;
    if (b->add_prefix_space) LT_TRY(lt_tok_text_rewrite(t, prefix_space, NULL, err));
    if (b->use_regex) LT_TRY(lt_tok_text_split(t, NULL, lt_scan_gpt2, LT_SPLIT_ISOLATED, false, err));
    t->symbols = true;
    return LT_OK;
}

/* ---- Split: any pattern, any of five ways to cut ---- */

typedef struct split {
    lt_finder *finder;
    lt_behavior behavior;
    bool invert;
} split;

static void split_destroy(void *self) {
    split *s = self;
    if (!s) return;
    lt_finder_destroy(s->finder);
    lt_free(s);
}

static lt_status behavior_of(lt_behavior *out, const char *name, const char *where, lt_err *err) {
    static const struct {
        const char *name;
        lt_behavior behavior;
    } known[] = {
        { "Isolated", LT_SPLIT_ISOLATED },
        { "Removed", LT_SPLIT_REMOVED },
        { "Contiguous", LT_SPLIT_CONTIGUOUS },
        { "MergedWithPrevious", LT_SPLIT_MERGED_WITH_PREVIOUS },
        { "MergedWithNext", LT_SPLIT_MERGED_WITH_NEXT },
    };
    for (size_t i = 0; i < LT_COUNTOF(known); i++) {
        if (strcmp(known[i].name, name) != 0) continue;
        *out = known[i].behavior;
        return LT_OK;
    }
    return lt_fail(err, LT_EUNSUPPORTED, "unknown behavior of a Split (%s: %.80s)", where, name);
}

static lt_status split_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    split s = { 0 };
    const char *behavior;
    json_t *pattern;
    LT_TRY(lt_json_string(&behavior, j, "behavior", "Isolated", in->where, err));
    LT_TRY(behavior_of(&s.behavior, behavior, in->where, err));
    LT_TRY(lt_json_bool(&s.invert, j, "invert", false, in->where, err));
    LT_TRY(lt_json_need(&pattern, j, "pattern", in->where, err));
    LT_TRY(lt_finder_parse(&s.finder, pattern, in->where, err));
    split *p = lt_malloc(sizeof *p);
    if (!p) {
        lt_finder_destroy(s.finder);
        return lt_fail(err, LT_ENOMEM, "no memory for a pre-tokenizer (%s)", in->where);
    }
    *p = s;
    *self = p;
    return LT_OK;
}

static lt_status split_run(const void *self, lt_tok_text *t, lt_err *err) {
    const split *s = self;
    return lt_tok_text_split(t, s->finder, NULL, s->behavior, s->invert, err);
}

/* ---- Digits: numbers apart, by Rust's char::is_numeric ---- */

static void scan_numeric(const char *s, size_t n, size_t from, size_t *start, size_t *end) {
    *start = LT_NO_MATCH;
    for (size_t at = from; at < n; at += lt_utf8_length(s[at])) {
        const unsigned char c = (unsigned char)s[at];
        if (c < 0x80 ? (unsigned)(c - '0') >= 10 : !(lt_uni_props(lt_utf8_get(s + at)) & LT_UNI_NUMERIC)) continue;
        *start = at;
        *end = at + lt_utf8_length(s[at]);
        return;
    }
}

static lt_status digits_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    bool individual;
    LT_TRY(lt_json_bool(&individual, j, "individual_digits", false, in->where, err));
    bool *p = lt_malloc(sizeof *p);
    if (!p) return lt_fail(err, LT_ENOMEM, "no memory for a pre-tokenizer (%s)", in->where);
    *p = individual;
    *self = p;
    return LT_OK;
}

static lt_status digits_run(const void *self, lt_tok_text *t, lt_err *err) {
    const bool *individual = self;
    return lt_tok_text_split(t, NULL, scan_numeric, *individual ? LT_SPLIT_ISOLATED : LT_SPLIT_CONTIGUOUS, false, err);
}

/* ---- Metaspace: blanks become a visible character that starts words ---- */

typedef enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } prepend_scheme;
typedef struct metaspace {
    char blank[5];
    prepend_scheme scheme;
    bool split;
    lt_finder *finder;
} metaspace;

static void metaspace_destroy(void *self) {
    metaspace *m = self;
    if (!m) return;
    lt_finder_destroy(m->finder);
    lt_free(m);
}

static lt_status scheme_of(prepend_scheme *out, const json_t *j, const char *where, lt_err *err) {
    static const char *const names[] = { "always", "first", "never" };
    const char *name;
    bool old; /* files before prepend_scheme say only this */
    LT_TRY(lt_json_string(&name, j, "prepend_scheme", "always", where, err));
    LT_TRY(lt_json_bool(&old, j, "add_prefix_space", true, where, err));
    for (unsigned i = 0; i < LT_COUNTOF(names); i++) {
        if (strcmp(names[i], name) != 0) continue;
        *out = old ? (prepend_scheme)i : PREPEND_NEVER;
        return LT_OK;
    }
    return lt_fail(err, LT_EUNSUPPORTED, "unknown prepend_scheme of Metaspace (%s: %.80s)", where, name);
}

static lt_status metaspace_fill(metaspace *m, const json_t *j, const char *where, lt_err *err) {
    const char *blank;
    LT_TRY(lt_json_string(&blank, j, "replacement", "\xE2\x96\x81", where, err));
    if (!*blank || lt_utf8_length(*blank) != strlen(blank))
        return lt_fail(err, LT_EDATA, "replacement is not one character (%s: \"%.80s\")", where, blank);
    memcpy(m->blank, blank, strlen(blank) + 1);
    LT_TRY(scheme_of(&m->scheme, j, where, err));
    LT_TRY(lt_json_bool(&m->split, j, "split", true, where, err));
    return lt_finder_literal(&m->finder, m->blank, strlen(m->blank), err);
}

static lt_status metaspace_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    metaspace *m = lt_calloc(1, sizeof *m);
    if (!m) return lt_fail(err, LT_ENOMEM, "no memory for a pre-tokenizer (%s)", in->where);
    const lt_status st = metaspace_fill(m, j, in->where, err);
    if (st == LT_OK)
        *self = m;
    else
        metaspace_destroy(m);
    return st;
}

static lt_status show_blanks(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    const metaspace *m = self;
    const size_t n = strlen(m->blank);
    const bool begins = in[0] == ' ' || (bytes >= n && memcmp(in, m->blank, n) == 0);
    if (!begins && (m->scheme == PREPEND_ALWAYS || (m->scheme == PREPEND_FIRST && first)))
        LT_TRY(lt_tok_buf_put(out, m->blank, n, err));
    for (size_t at = 0; at < bytes;) {
        const char *blank = memchr(in + at, ' ', bytes - at);
        const size_t end = blank ? (size_t)(blank - in) : bytes;
        LT_TRY(lt_tok_buf_put(out, in + at, end - at, err));
        if (blank) LT_TRY(lt_tok_buf_put(out, m->blank, n, err));
        at = end + (blank != NULL);
    }
    return LT_OK;
}

static lt_status metaspace_run(const void *self, lt_tok_text *t, lt_err *err) {
    const metaspace *m = self;
    LT_TRY(lt_tok_text_rewrite(t, show_blanks, m, err));
    return m->split ? lt_tok_text_split(t, m->finder, NULL, LT_SPLIT_MERGED_WITH_NEXT, false, err) : LT_OK;
}

/* ---- by properties of code points ---- */

/* The next code point that has the flag. */
static void scan_flag(unsigned flag, const char *s, size_t n, size_t from, size_t *start, size_t *end) {
    *start = LT_NO_MATCH;
    for (size_t at = from; at < n; at += lt_utf8_length(s[at])) {
        if (!(lt_uni_props(lt_utf8_get(s + at)) & flag)) continue;
        *start = at;
        *end = at + lt_utf8_length(s[at]);
        return;
    }
}

static void scan_white(const char *s, size_t n, size_t from, size_t *start, size_t *end) {
    scan_flag(LT_UNI_WHITE, s, n, from, start, end);
}

static void scan_punctuation(const char *s, size_t n, size_t from, size_t *start, size_t *end) {
    scan_flag(LT_UNI_PUNCT, s, n, from, start, end);
}

/* \w+|[^\w\s]+ of the regex crate */
static void scan_words(const char *s, size_t n, size_t from, size_t *start, size_t *end) {
    const unsigned kinds = LT_UNI_WORD | LT_UNI_WHITE;
    unsigned kind = LT_UNI_WHITE;
    size_t at = from;
    while (at < n && (kind = lt_uni_props(lt_utf8_get(s + at)) & kinds) == LT_UNI_WHITE) at += lt_utf8_length(s[at]);
    *start = at < n ? at : LT_NO_MATCH;
    while (at < n && (lt_uni_props(lt_utf8_get(s + at)) & kinds) == kind) at += lt_utf8_length(s[at]);
    *end = at;
}

static lt_status white_split_run(const void *self, lt_tok_text *t, lt_err *err) {
    (void)self;
    return lt_tok_text_split(t, NULL, scan_white, LT_SPLIT_REMOVED, false, err);
}

static lt_status white_run(const void *self, lt_tok_text *t, lt_err *err) {
    (void)self;
    return lt_tok_text_split(t, NULL, scan_words, LT_SPLIT_REMOVED, true, err);
}

static lt_status bert_run(const void *self, lt_tok_text *t, lt_err *err) {
    LT_TRY(white_split_run(self, t, err));
    return lt_tok_text_split(t, NULL, scan_punctuation, LT_SPLIT_ISOLATED, false, err);
}

static lt_status punctuation_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    const char *name;
    lt_behavior behavior, *p;
    LT_TRY(lt_json_string(&name, j, "behavior", "Isolated", in->where, err));
    LT_TRY(behavior_of(&behavior, name, in->where, err));
    *self = p = lt_malloc(sizeof *p);
    if (!p) return lt_fail(err, LT_ENOMEM, "no memory for a pre-tokenizer (%s)", in->where);
    *p = behavior;
    return LT_OK;
}

static lt_status punctuation_run(const void *self, lt_tok_text *t, lt_err *err) {
    return lt_tok_text_split(t, NULL, scan_punctuation, *(const lt_behavior *)self, false, err);
}

static const lt_tok_row rows[] = {
    { .type = "BertPreTokenizer", .pretokenize = bert_run },
    { .type = "ByteLevel", .parse = byte_level_parse, .pretokenize = byte_level_run },
    { .type = "Digits", .parse = digits_parse, .pretokenize = digits_run },
    { .type = "Metaspace", .parse = metaspace_parse, .destroy = metaspace_destroy, .pretokenize = metaspace_run },
    { .type = "Punctuation", .parse = punctuation_parse, .pretokenize = punctuation_run },
    { .type = "Split", .parse = split_parse, .destroy = split_destroy, .pretokenize = split_run },
    { .type = "Whitespace", .pretokenize = white_run },
    { .type = "WhitespaceSplit", .pretokenize = white_split_run },
};
const lt_tok_table lt_tok_pretokenizers = { "pre_tokenizer", "pretokenizers", rows, LT_COUNTOF(rows) };

lt_status lt_tok_pretokenize(const lt_tok_stage *s, lt_tok_text *text, lt_err *err) {
    for (size_t i = 0; i < s->n; i++) {
        LT_TRY(lt_tok_text_spell_out(text, err)); /* only a stage behind ByteLevel needs to see symbols */
        LT_TRY(s->part[i].row->pretokenize(s->part[i].self, text, err));
    }
    return LT_OK;
}
