/* SPDX-License-Identifier: Apache-2.0 */
/* Normalizers: rewrite the text between added tokens before it is cut. They never see an empty text. */
#include "tokenizer/stage.h"

#include <string.h>

#include "tokenizer/normal_form.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

/* ---- Prepend ---- */

static lt_status prepend_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    const char *prefix = NULL;
    LT_TRY(lt_json_string(&prefix, j, "prepend", NULL, in->where, err));
    if (!prefix) return lt_fail(err, LT_EDATA, "Prepend without text (%s: normalizer)", in->where);
    *self = lt_strdup(prefix);
    return *self ? LT_OK : lt_fail(err, LT_ENOMEM, "no memory for a normalizer (%s)", in->where);
}

static lt_status prepend(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    (void)first;
    LT_TRY(lt_tok_buf_put(out, self, strlen(self), err));
    return lt_tok_buf_put(out, in, bytes, err);
}

/* ---- normal forms ---- */

static lt_status nfc(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    (void)self, (void)first;
    return lt_normal_form(in, bytes, false, true, out, err);
}

static lt_status nfd(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    (void)self, (void)first;
    return lt_normal_form(in, bytes, false, false, out, err);
}

static lt_status nfkc(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    (void)self, (void)first;
    return lt_normal_form(in, bytes, true, true, out, err);
}

static lt_status nfkd(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    (void)self, (void)first;
    return lt_normal_form(in, bytes, true, false, out, err);
}

/* ---- single code points ---- */

/* Copies all but the code points that have one of the flags. */
static lt_status without(unsigned flags, const char *in, size_t bytes, lt_tok_buf *out, lt_err *err) {
    for (size_t at = 0, n; at < bytes; at += n) {
        n = lt_utf8_length(in[at]);
        if (!(lt_uni_props(lt_utf8_get(in + at)) & flags)) LT_TRY(lt_tok_buf_put(out, in + at, n, err));
    }
    return LT_OK;
}

static lt_status strip_accents(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out,
                               lt_err *err) {
    (void)self, (void)first;
    return without(LT_UNI_MARK, in, bytes, out, err);
}

static lt_status lowercase(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    (void)self, (void)first;
    for (size_t at = 0; at < bytes; at += lt_utf8_length(in[at])) {
        const uint32_t cp = lt_utf8_get(in + at);
        char lower[4];
        if (cp == 0x130) /* the one that becomes two: i and a dot above */
            LT_TRY(lt_tok_buf_put(out, "i\xCC\x87", 3, err));
        else
            LT_TRY(lt_tok_buf_put(out, lower, lt_utf8_put(lower, lt_uni_lower(cp)), err));
    }
    return LT_OK;
}

/* ---- Strip ---- */

typedef struct strip {
    bool left, right;
} strip;

static lt_status strip_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    strip s;
    LT_TRY(lt_json_bool(&s.left, j, "strip_left", false, in->where, err));
    LT_TRY(lt_json_bool(&s.right, j, "strip_right", false, in->where, err));
    strip *p = lt_malloc(sizeof *p);
    if (!p) return lt_fail(err, LT_ENOMEM, "no memory for a normalizer (%s)", in->where);
    *p = s;
    *self = p;
    return LT_OK;
}

static bool white_at(const char *in, size_t at) {
    return lt_uni_props(lt_utf8_get(in + at)) & LT_UNI_WHITE;
}

static lt_status strip_run(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    const strip *s = self;
    (void)first;
    size_t start = 0, end = bytes;
    while (s->left && start < end && white_at(in, start)) start += lt_utf8_length(in[start]);
    while (s->right && end > start && white_at(in, lt_utf8_before(in, end))) end = lt_utf8_before(in, end);
    return lt_tok_buf_put(out, in + start, end - start, err);
}

/* ---- BertNormalizer ---- */

typedef struct bert {
    bool clean, chinese, accents, lower;
} bert;

static lt_status bert_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    bert b;
    LT_TRY(lt_json_bool(&b.clean, j, "clean_text", true, in->where, err));
    LT_TRY(lt_json_bool(&b.chinese, j, "handle_chinese_chars", true, in->where, err));
    LT_TRY(lt_json_bool(&b.lower, j, "lowercase", true, in->where, err));
    LT_TRY(lt_json_bool(&b.accents, j, "strip_accents", b.lower, in->where, err)); /* null: as lowercase */
    bert *p = lt_malloc(sizeof *p);
    if (!p) return lt_fail(err, LT_ENOMEM, "no memory for a normalizer (%s)", in->where);
    *p = b;
    *self = p;
    return LT_OK;
}

static lt_status bert_clean(const char *in, size_t bytes, lt_tok_buf *out, lt_err *err) {
    for (size_t at = 0, n; at < bytes; at += n) {
        n = lt_utf8_length(in[at]);
        const unsigned props = lt_uni_props(lt_utf8_get(in + at));
        if (props & LT_UNI_BERT_REMOVED) continue;
        LT_TRY(props & LT_UNI_WHITE ? lt_tok_buf_put(out, " ", 1, err) : lt_tok_buf_put(out, in + at, n, err));
    }
    return LT_OK;
}

/* Devlin et al. 2018, tokenization.py, with the library's two slips at the ends of blocks D and E. */
static bool is_chinese(uint32_t cp) {
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) || (cp >= 0x20000 && cp <= 0x2A6DF) ||
           (cp >= 0x2A700 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) || (cp >= 0xF900 && cp <= 0xFAFF) ||
           (cp >= 0x2F800 && cp <= 0x2FA1F);
}

static lt_status bert_chinese(const char *in, size_t bytes, lt_tok_buf *out, lt_err *err) {
    for (size_t at = 0, n; at < bytes; at += n) {
        n = lt_utf8_length(in[at]);
        const bool chinese = is_chinese(lt_utf8_get(in + at));
        if (chinese) LT_TRY(lt_tok_buf_put(out, " ", 1, err));
        LT_TRY(lt_tok_buf_put(out, in + at, n, err));
        if (chinese) LT_TRY(lt_tok_buf_put(out, " ", 1, err));
    }
    return LT_OK;
}

/* Takes turns between two buffers; the last to be written is appended to out. */
static lt_status bert_steps(const bert *b, const char *in, size_t bytes, lt_tok_buf turn[2], lt_tok_buf *out,
                            lt_err *err) {
    LT_TRY(b->clean ? bert_clean(in, bytes, &turn[0], err) : lt_tok_buf_put(&turn[0], in, bytes, err));
    if (b->chinese) {
        LT_TRY(bert_chinese(turn[0].data, turn[0].len, &turn[1], err));
        turn[0].len = 0;
        LT_TRY(lt_tok_buf_put(&turn[0], turn[1].data, turn[1].len, err));
    }
    if (b->accents) {
        turn[1].len = 0;
        LT_TRY(lt_normal_form(turn[0].data, turn[0].len, false, false, &turn[1], err));
        turn[0].len = 0;
        LT_TRY(without(LT_UNI_BERT_MARK, turn[1].data, turn[1].len, &turn[0], err));
    }
    return b->lower ? lowercase(NULL, turn[0].data, turn[0].len, false, out, err)
                    : lt_tok_buf_put(out, turn[0].data, turn[0].len, err);
}

static lt_status bert_run(const void *self, const char *in, size_t bytes, bool first, lt_tok_buf *out, lt_err *err) {
    lt_tok_buf turn[2] = { { 0 }, { 0 } };
    (void)first;
    const lt_status st = bert_steps(self, in, bytes, turn, out, err);
    lt_tok_buf_clear(&turn[0]);
    lt_tok_buf_clear(&turn[1]);
    return st;
}

static const lt_tok_row rows[] = {
    { .type = "BertNormalizer", .parse = bert_parse, .normalize = bert_run },
    { .type = "Lowercase", .normalize = lowercase },
    { .type = "NFC", .normalize = nfc },
    { .type = "NFD", .normalize = nfd },
    { .type = "NFKC", .normalize = nfkc },
    { .type = "NFKD", .normalize = nfkd },
    { .type = "Prepend", .parse = prepend_parse, .normalize = prepend },
    { .type = "Replace",
      .parse = lt_tok_replace_parse,
      .destroy = lt_tok_replace_destroy,
      .normalize = lt_tok_replace_run },
    { .type = "Strip", .parse = strip_parse, .normalize = strip_run },
    { .type = "StripAccents", .normalize = strip_accents },
};
const lt_tok_table lt_tok_normalizers = { "normalizer", "normalizers", rows, LT_COUNTOF(rows) };

lt_status lt_tok_normalize(const lt_tokenizer *t, lt_tok_text *text, lt_err *err) {
    for (size_t i = 0; i < t->normalizer.n; i++)
        LT_TRY(lt_tok_text_rewrite(text, t->normalizer.part[i].row->normalize, t->normalizer.part[i].self, err));
    return LT_OK;
}
