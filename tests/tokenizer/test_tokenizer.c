/* SPDX-License-Identifier: Apache-2.0 */
/* Properties of any tokenizer, and what is said about bad files. Needs no golden files. */
#include "tokenizer/tokenizer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/gguf.h"
#include "io/json.h"
#include "support/support.h"
#include "tokenizer/text.h"
#include "tokenizer/utf8.h"

/* ---- small tokenizers made here ---- */

typedef struct text {
    char *s;
    size_t n, cap;
} text;

static void add(text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (t->cap - t->n < 4096) t->s = realloc(t->s, t->cap = 2 * t->cap + 65536);
    t->n += (size_t)vsnprintf(t->s + t->n, t->cap - t->n, format, args);
    va_end(args);
}

#define BYTE_LEVEL                                                                                                     \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"}"

/* All 256 symbols, and tokens and merges of the word "the" and of runs of 'a'. */
static text byte_tokenizer(const char *merges, const char *rest) {
    text t = { 0 };
    add(&t, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (unsigned b = 0; b < 256; b++) {
        char utf8[5] = "";
        lt_utf8_put(utf8, lt_tok_symbol((unsigned char)b));
        add(&t, "%s\"%s%s\":%u", b ? "," : "", b == '"' || b == '\\' ? "\\" : "", utf8, b);
    }
    add(&t, ",\"th\":256,\"the\":257,\"aa\":258,\"aaaa\":259,\"\xC4\xA0the\":260},\"merges\":%s},%s}", merges, rest);
    return t;
}
#define MERGES "[\"t h\",\"th e\",\"a a\",\"aa aa\",\"\xC4\xA0 the\"]"
#define MERGE_PAIRS "[[\"t\",\"h\"],[\"th\",\"e\"],[\"a\",\"a\"],[\"aa\",\"aa\"],[\"\xC4\xA0\",\"the\"]]"

static lt_tokenizer *tokenizer_of(const text *t) {
    lt_tokenizer *tok = NULL;
    lt_err err = { 0 };
    assert_ok(lt_tokenizer_from_json(&tok, t->s, t->n, "test.json", &err), &err);
    return tok;
}

static lt_tokenizer *plain_tokenizer(void) {
    text t = byte_tokenizer(MERGES, BYTE_LEVEL);
    lt_tokenizer *tok = tokenizer_of(&t);
    free(t.s);
    return tok;
}

static void assert_ids(const lt_tokenizer *t, const char *s, size_t bytes, const int32_t *want, size_t n_want) {
    int32_t *ids;
    size_t n;
    lt_err err = { 0 };
    assert_ok(lt_tokenizer_encode(t, s, bytes, true, &ids, &n, &err), &err);
    assert_int_equal(n, n_want);
    for (size_t i = 0; i < n; i++) assert_int_equal(ids[i], want[i]);
    lt_free(ids);
}

/* ---- properties ---- */

static void merges_apply_by_rank_then_from_the_left(void **state) {
    (void)state;
    lt_tokenizer *t = plain_tokenizer();
    assert_ids(t, "the the", 7, (int32_t[]){ 257, 260 }, 2);
    assert_ids(t, "aaaaaaa", 7, (int32_t[]){ 259, 258, 'a' }, 3);
    assert_ids(t, "th'ae", 5, (int32_t[]){ 256, '\'', 'a', 'e' }, 4);
    assert_ids(t, "", 0, NULL, 0);
    lt_tokenizer_destroy(t);
}

static void text_comes_back_when_every_byte_has_a_symbol(void **state) {
    (void)state;
    lt_tokenizer *t = plain_tokenizer();
    lt_rng r = test_rng(1);
    for (int round = 0; round < 300; round++) {
        char s[400], *back;
        size_t len = 0, n, bytes;
        int32_t *ids;
        lt_err err = { 0 };
        while (len < sizeof s - 4) {
            uint32_t cp = (uint32_t)lt_rng_below(&r, lt_rng_below(&r, 2) ? 0x80 : 0x110000);
            if (cp >= 0xD800 && cp < 0xE000) cp = ' ';
            len += lt_utf8_put(s + len, cp);
        }
        assert_ok(lt_tokenizer_encode(t, s, len, false, &ids, &n, &err), &err);
        assert_ok(lt_tokenizer_decode(t, ids, n, false, &back, &bytes, &err), &err);
        assert_int_equal(bytes, len);
        assert_memory_equal(back, s, len);
        lt_free(back);
        lt_free(ids);
    }
    lt_tokenizer_destroy(t);
}

static void streamed_pieces_join_to_the_text(void **state) {
    (void)state;
    static const char s[] = "caf\xC3\xA9 \xF0\x9F\x98\x80 the end \xE4\xB8\xAD";
    lt_tokenizer *t = plain_tokenizer();
    lt_decode_stream *stream;
    char joined[64];
    int32_t *ids;
    size_t n, len = 0;
    lt_err err = { 0 };
    assert_ok(lt_tokenizer_encode(t, s, sizeof s - 1, false, &ids, &n, &err), &err);
    assert_ok(lt_decode_stream_create(&stream, t, false, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const char *piece;
        size_t bytes;
        uint32_t cp;
        assert_ok(lt_decode_stream_push(stream, ids[i], &piece, &bytes, &err), &err);
        if (!piece) continue;
        for (size_t at = 0; at < bytes; at += lt_utf8_length(piece[at]))
            assert_true(lt_utf8_read(piece + at, bytes - at, &cp) > 0);
        memcpy(joined + len, piece, bytes);
        len += bytes;
    }
    assert_int_equal(len, sizeof s - 1);
    assert_memory_equal(joined, s, len);
    const char *piece;
    size_t bytes;
    assert_fails(lt_decode_stream_push(stream, 99999, &piece, &bytes, &err), &err, LT_EDATA, "99999");
    assert_ok(lt_decode_stream_push(stream, 257, &piece, &bytes, &err), &err);
    assert_string_equal(piece, "the");
    lt_decode_stream_destroy(stream);
    lt_free(ids);
    lt_tokenizer_destroy(t);
}

/* Random merges of strings over {a, b, c} up to length 4, and the tokens they need. Long words take another way through
 * the model than short ones, and are cut where no token spans two characters: all must do what the definition says. */
typedef struct toy {
    char token[120][5];
    int n_tokens, left[60], right[60], joined[60], n_merges;
} toy;

static int toy_find(const toy *y, const char *s) {
    for (int i = 0; i < y->n_tokens; i++)
        if (strcmp(y->token[i], s) == 0) return i;
    return -1;
}

static void toy_make(toy *y, lt_rng *r) {
    *y = (toy){ 0 };
    for (unsigned len = 1, count = 3; len <= 4; len++, count *= 3) /* number k in base 3, as len letters */
        for (unsigned k = 0; k < count; k++, y->n_tokens++)
            for (unsigned i = 0, digits = k; i < len; i++, digits /= 3)
                y->token[y->n_tokens][len - 1 - i] = (char)('a' + digits % 3);
    const int n_merges = 2 + (int)lt_rng_below(r, 59);
    while (y->n_merges < n_merges) {
        char joined[10];
        const int a = (int)lt_rng_below(r, 39), b = (int)lt_rng_below(r, 39), k = y->n_merges;
        snprintf(joined, sizeof joined, "%s%s", y->token[a], y->token[b]);
        if (strlen(joined) > 4) continue;
        bool known = false;
        for (int i = 0; i < k; i++) known |= y->left[i] == a && y->right[i] == b;
        if (known) continue;
        y->left[k] = a;
        y->right[k] = b;
        y->joined[k] = toy_find(y, joined);
        y->n_merges++;
    }
}

static lt_tokenizer *toy_tokenizer(const toy *y) {
    text t = { 0 };
    add(&t, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int i = 0; i < y->n_tokens; i++) {
        bool needed = i < 3;
        for (int m = 0; m < y->n_merges; m++) needed |= y->left[m] == i || y->right[m] == i || y->joined[m] == i;
        if (needed) add(&t, "%s\"%s\":%d", i ? "," : "", y->token[i], i);
    }
    add(&t, "},\"merges\":[");
    for (int i = 0; i < y->n_merges; i++)
        add(&t, "%s\"%s %s\"", i ? "," : "", y->token[y->left[i]], y->token[y->right[i]]);
    add(&t, "]}}");
    lt_tokenizer *tok = tokenizer_of(&t);
    free(t.s);
    return tok;
}

static size_t toy_encode(const toy *y, const char *s, size_t n, int32_t *ids) {
    for (size_t i = 0; i < n; i++) ids[i] = s[i] - 'a';
    for (;;) {
        size_t at = 0;
        int best = y->n_merges;
        for (size_t i = 0; i + 1 < n; i++)
            for (int m = 0; m < best; m++)
                if (y->left[m] == ids[i] && y->right[m] == ids[i + 1]) {
                    best = m;
                    at = i;
                }
        if (best == y->n_merges) return n;
        ids[at] = y->joined[best];
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void words_of_any_length_follow_the_definition(void **state) {
    (void)state;
    lt_rng r = test_rng(2);
    for (int round = 0; round < 60; round++) {
        toy y;
        toy_make(&y, &r);
        lt_tokenizer *t = toy_tokenizer(&y);
        for (int i = 0; i < 40; i++) {
            char s[120];
            int32_t want[120];
            const size_t n = 1 + lt_rng_below(&r, sizeof s - 1);
            for (size_t k = 0; k < n; k++) s[k] = (char)('a' + lt_rng_below(&r, 3));
            assert_ids(t, s, n, want, toy_encode(&y, s, n, want));
        }
        lt_tokenizer_destroy(t);
    }
}

/* 2^20 bytes in one word: seconds would mean quadratic time. */
static void a_megabyte_word_is_not_quadratic(void **state) {
    (void)state;
    lt_tokenizer *t = plain_tokenizer();
    const size_t n = 1 << 20;
    char *s = malloc(n);
    int32_t *ids;
    size_t n_ids;
    memset(s, 'a', n);
    const double start = lt_seconds();
    assert_int_equal(lt_tokenizer_encode(t, s, n, false, &ids, &n_ids, NULL), LT_OK);
    assert_int_equal(n_ids, n / 4);
    assert_true(lt_seconds() - start < 20.0); /* 0.2 s without sanitizers */
    lt_free(ids);
    free(s);
    lt_tokenizer_destroy(t);
}

static void *encode_often(void *arg) {
    for (int i = 0; i < 50; i++) assert_ids(arg, "the aaaaaaa the", 15, (int32_t[]){ 257, ' ', 259, 258, 'a', 260 }, 6);
    return NULL;
}

static void one_tokenizer_serves_many_threads(void **state) {
    (void)state;
    lt_tokenizer *t = plain_tokenizer();
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, encode_often, t), 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    lt_tokenizer_destroy(t);
}

static void hash_is_of_meaning_not_of_spelling(void **state) {
    (void)state;
    text a = byte_tokenizer(MERGES, BYTE_LEVEL), b = byte_tokenizer(MERGE_PAIRS, "\"added_tokens\":[]," BYTE_LEVEL);
    text c = byte_tokenizer("[\"t h\",\"th e\",\"aa aa\",\"a a\",\"\xC4\xA0 the\"]", BYTE_LEVEL);
    lt_tokenizer *ta = tokenizer_of(&a), *tb = tokenizer_of(&b), *tc = tokenizer_of(&c);
    assert_string_equal(lt_tokenizer_hash(ta), lt_tokenizer_hash(tb));
    assert_string_not_equal(lt_tokenizer_hash(ta), lt_tokenizer_hash(tc));
    lt_tokenizer_destroy(ta);
    lt_tokenizer_destroy(tb);
    lt_tokenizer_destroy(tc);
    free(a.s);
    free(b.s);
    free(c.s);
}

static void bytes_that_are_not_utf8_are_named(void **state) {
    (void)state;
    lt_tokenizer *t = plain_tokenizer();
    static const struct {
        const char *s;
        size_t n;
        const char *where;
    } bad[] = {
        { "abc\xFF", 4, "offset 3" },
        { "\xC0\x80", 2, "offset 0" },
        { "12345678\xED\xA0\x80", 11, "offset 8" },
        { "a\xE4\xB8", 3, "offset 1" },
        { "\xF4\x90\x80\x80", 4, "offset 0" },
    };
    for (size_t i = 0; i < LT_COUNTOF(bad); i++) {
        int32_t *ids;
        size_t n;
        lt_err err = { 0 };
        assert_fails(lt_tokenizer_encode(t, bad[i].s, bad[i].n, false, &ids, &n, &err), &err, LT_EDATA, bad[i].where);
    }
    lt_tokenizer_destroy(t);
}

static void ids_outside_the_vocabulary_are_named(void **state) {
    (void)state;
    lt_tokenizer *t = plain_tokenizer();
    const int32_t bad[] = { -1, 261, INT32_MAX, INT32_MIN };
    for (size_t i = 0; i < LT_COUNTOF(bad); i++) {
        char *s, number[16];
        size_t n;
        lt_err err = { 0 };
        snprintf(number, sizeof number, "%d", bad[i]);
        assert_fails(lt_tokenizer_decode(t, &bad[i], 1, false, &s, &n, &err), &err, LT_EDATA, number);
        assert_null(lt_tokenizer_token(t, bad[i]));
        assert_false(lt_tokenizer_is_special(t, bad[i]));
    }
    assert_int_equal(lt_tokenizer_find(t, "no such token"), -1);
    assert_int_equal(lt_tokenizer_find(t, "the"), 257);
    lt_tokenizer_destroy(t);
}

/* ---- bad tokenizer.json ---- */

#define VOCAB "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2}"
#define MODEL "\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b\"]}"
#define ADDED(entry) "{" MODEL ",\"added_tokens\":[" entry "]}"

static void bad_files_get_one_line_that_names_the_fault(void **state) {
    (void)state;
    static const struct {
        const char *json;
        lt_status code;
        const char *says;
    } bad[] = {
        { "", LT_EDATA, "JSON" },
        { "{" MODEL, LT_EDATA, "JSON" },
        { "[]", LT_EDATA, "object" },
        { "{}", LT_EDATA, "model" },
        { "{\"model\":7}", LT_EDATA, "model" },
        { "{\"model\":{\"type\":\"Markov\"}}", LT_EUNSUPPORTED, "Markov" },
        { "{\"model\":{\"type\":\"BPE\",\"merges\":[]}}", LT_EDATA, "vocab" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}", LT_EDATA, "vocab" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", LT_EDATA, "\"a\"" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", LT_EDATA, "-1" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4294967296},\"merges\":[]}}", LT_EDATA, "4294967296" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":2147483647},\"merges\":[]}}", LT_EDATA, "2147483647" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", LT_EDATA, "twice" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", LT_EDATA, "JSON" },
        { "{\"model\":{\"type\":\"BPE\"," VOCAB "}}", LT_EDATA, "merges" },
        { "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a c\"]}}", LT_EDATA, "\"c\"" },
        { "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b\",[\"b\",\"a\"]]}}", LT_EDATA, "merge 1: \"ba\"" },
        { "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"ab\"]}}", LT_EDATA, "merge 0" },
        { "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[\"a b c\"]}}", LT_EDATA, "merge 0" },
        { "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[[\"a\",7]]}}", LT_EDATA, "merge 0" },
        { "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[7]}}", LT_EDATA, "merge 0" },
        { "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[],\"dropout\":0.1}}", LT_EUNSUPPORTED, "dropout" },
        { "{\"model\":{\"type\":\"BPE\"," VOCAB ",\"merges\":[],\"fuse_unk\":3}}", LT_EDATA, "fuse_unk" },
        { ADDED("{\"id\":3}"), LT_EDATA, "added_tokens" },
        { ADDED("{\"id\":4,\"content\":\"x\"}"), LT_EDATA, "4, must be 3" },
        { ADDED("{\"id\":3,\"content\":\"b\"}"), LT_EDATA, "3, must be 1" },
        { ADDED("{\"id\":-3,\"content\":\"x\"}"), LT_EDATA, "-3" },
        { ADDED("{\"id\":3,\"content\":\"x\"},{\"id\":3,\"content\":\"y\"}"), LT_EDATA, "must be 4" },
        { ADDED("{\"id\":1,\"content\":\"b\"},{\"id\":1,\"content\":\"b\"}"), LT_EDATA, "twice" },
        { ADDED("{\"id\":3,\"content\":\"x\",\"lstrip\":\"yes\"}"), LT_EDATA, "lstrip" },
        { "{" MODEL ",\"added_tokens\":7}", LT_EDATA, "added_tokens" },
        { "{" MODEL ",\"normalizer\":{\"type\":\"Spellcheck\"}}", LT_EUNSUPPORTED, "Spellcheck" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Guess\"}}", LT_EUNSUPPORTED, "ByteLevel" },
        { "{" MODEL ",\"pre_tokenizer\":[]}", LT_EDATA, "pre_tokenizer" },
        { "{" MODEL ",\"pre_tokenizer\":{}}", LT_EDATA, "pre_tokenizer" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\"}}", LT_EDATA, "pretokenizers" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\"}}", LT_EDATA, "pattern" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{},\"behavior\":\"Isolated\"}}", LT_EDATA,
          "Regex" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}}",
          LT_EDATA, "regular" },
        { "{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Eaten\"}}",
          LT_EUNSUPPORTED, "Eaten" },
        { "{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\"}}", LT_EDATA, "single" },
        { "{" MODEL
          ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]}}",
          LT_EDATA, "x" },
        { "{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}}",
          LT_EDATA, "sequence A" },
        { "{" MODEL
          ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
          "\"special_tokens\":{\"x\":{\"ids\":[9]}}}}",
          LT_EDATA, "9" },
        { "{" MODEL ",\"post_processor\":{\"type\":\"RobertaProcessing\",\"cls\":[\"a\",0],\"sep\":[\"b\",77]}}",
          LT_EDATA, "77" },
        { "{" MODEL ",\"decoder\":{\"type\":\"Guess\"}}", LT_EUNSUPPORTED, "Guess" },
        { "{" MODEL ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[\"decoder\"]}}", LT_EDATA, "decoder" },
        { "{" MODEL ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":{\"type\":\"Fuse\"}}}", LT_EDATA, "decoders" },
        { "{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}}", LT_EUNSUPPORTED,
          "Precompiled" },
    };
    for (size_t i = 0; i < LT_COUNTOF(bad); i++) {
        lt_tokenizer *t = NULL;
        lt_err err = { 0 };
        const lt_status st = lt_tokenizer_from_json(&t, bad[i].json, strlen(bad[i].json), "bad.json", &err);
        if (st != bad[i].code || !strstr(err.message, bad[i].says) || !strstr(err.message, "bad.json") ||
            strchr(err.message, '\n'))
            fail_msg("%s: status %d, \"%s\"", bad[i].json, (int)st, err.message);
        assert_null(t);
        assert_int_equal(lt_tokenizer_from_json(&t, bad[i].json, strlen(bad[i].json), "bad.json", NULL), bad[i].code);
    }
}

/* A file cut short anywhere is an error, never a crash or a smaller tokenizer. */
static void truncated_files_are_refused(void **state) {
    (void)state;
    text t = byte_tokenizer(MERGES, BYTE_LEVEL);
    for (size_t n = 0; n < t.n; n += 7) {
        lt_tokenizer *tok = NULL;
        lt_err err = { 0 };
        assert_fails(lt_tokenizer_from_json(&tok, t.s, n, "cut.json", &err), &err, LT_EDATA, "cut.json");
    }
    free(t.s);
}

static void a_folder_without_tokenizer_is_named(void **state) {
    (void)state;
    lt_tokenizer *t = NULL;
    lt_err err = { 0 };
    assert_fails(lt_tokenizer_open(&t, test_path("nothing"), &err), &err, LT_EIO, "tokenizer.json");
}

/* ---- folders ---- */

static void folder(const char *name, const char *rest, const char *config) {
    char path[64];
    text t = byte_tokenizer(MERGES, rest);
    lt_err err = { 0 };
    snprintf(path, sizeof path, "%s/tokenizer.json", name);
    assert_ok(lt_make_dirs(test_path(name), &err), &err);
    test_write_file(test_path(path), t.s, t.n);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", name);
    test_write_file(test_path(path), config, strlen(config));
    free(t.s);
}

static void config_names_ends_and_overrules_the_prefix_space(void **state) {
    (void)state;
    lt_tokenizer *t;
    lt_err err = { 0 };
    folder("named", BYTE_LEVEL,
           "{\"bos_token\":\"th\",\"eos_token\":{\"content\":\"the\",\"lstrip\":false},\"add_prefix_space\":true,"
           "\"model_max_length\":1000000000000000019884624838656}");
    assert_ok(lt_tokenizer_open(&t, test_path("named"), &err), &err);
    assert_int_equal(lt_tokenizer_bos(t), 256);
    assert_int_equal(lt_tokenizer_eos(t), 257);
    assert_ids(t, "the", 3, (int32_t[]){ 260 }, 1);
    lt_tokenizer_destroy(t);
    folder("null", BYTE_LEVEL, "{\"bos_token\":null}");
    test_write_file(test_path("null/generation_config.json"), "{\"bos_token_id\":5,\"eos_token_id\":[7,8]}", 39);
    assert_ok(lt_tokenizer_open(&t, test_path("null"), &err), &err);
    assert_int_equal(lt_tokenizer_bos(t), -1);
    assert_int_equal(lt_tokenizer_eos(t), 7);
    assert_ids(t, "the", 3, (int32_t[]){ 257 }, 1);
    lt_tokenizer_destroy(t);
}

/* ---- vocab.json and merges.txt ---- */

static const char *split_folder(const char *vocab, const char *merges, const char *config) {
    lt_err err = { 0 };
    assert_ok(lt_make_dirs(test_path("split"), &err), &err);
    test_write_file(test_path("split/vocab.json"), vocab, strlen(vocab));
    test_write_file(test_path("split/merges.txt"), merges, strlen(merges));
    test_write_file(test_path("split/tokenizer_config.json"), config, strlen(config));
    return test_path("split");
}

static text byte_vocab(void) {
    text t = { 0 };
    for (unsigned b = 0; b < 256; b++) {
        char utf8[5] = "";
        lt_utf8_put(utf8, lt_tok_symbol((unsigned char)b));
        add(&t, "%s\"%s%s\":%u", b ? "," : "{", b == '"' || b == '\\' ? "\\" : "", utf8, b);
    }
    add(&t, ",\"th\":256,\"</s>\":257}");
    return t;
}

#define ENDS "\"bos_token\":\"</s>\",\"eos_token\":\"</s>\",\"unk_token\":\"</s>\""
#define GPT2 "{\"tokenizer_class\":\"GPT2Tokenizer\"," ENDS "}"

static void split_files_need_no_tokenizer_json(void **state) {
    (void)state;
    lt_tokenizer *t;
    lt_err err = { 0 };
    text v = byte_vocab();
    const char *path = split_folder(v.s, "#version: 0.2\r\nt h\r\n\r\n",
                                    "{\"tokenizer_class\":\"GPT2Tokenizer\",\"add_bos_token\":true," ENDS "}");
    assert_ok(lt_tokenizer_open(&t, path, &err), &err);
    assert_int_equal(lt_tokenizer_bos(t), 257);
    assert_int_equal(lt_tokenizer_eos(t), 257);
    assert_true(lt_tokenizer_is_special(t, 257));
    int32_t *ids;
    size_t n;
    assert_ok(lt_tokenizer_encode(t, "the</s>", 7, true, &ids, &n, &err), &err);
    assert_int_equal(n, 4);
    assert_memory_equal(ids, ((int32_t[]){ 257, 256, 'e', 257 }), 4 * sizeof *ids);
    lt_free(ids);
    lt_tokenizer_destroy(t);
    /* no class is named: the model's family tells, also that of a factored model */
    const char *family = "{\"model_type\":\"lowrank_gpt2\"}";
    split_folder(v.s, "#version: 0.2\nt h\n", "{" ENDS "}");
    test_write_file(test_path("split/config.json"), family, strlen(family));
    assert_ok(lt_tokenizer_open(&t, test_path("split"), &err), &err);
    assert_ids(t, "th", 2, (int32_t[]){ 256 }, 1);
    lt_tokenizer_destroy(t);
    assert_ok(lt_remove_tree(test_path("split"), &err), &err);
    free(v.s);
}

static void bad_split_files_are_named(void **state) {
    (void)state;
    text v = byte_vocab();
    const struct {
        const char *vocab, *merges, *config;
        lt_status code;
        const char *says;
    } bad[] = {
        { v.s, "#version: 0.2\nt h\n", "{}", LT_EUNSUPPORTED, "none named" },
        { v.s, "#version: 0.2\nt h\n", "{\"tokenizer_class\":\"CLIPTokenizer\"}", LT_EUNSUPPORTED, "CLIPTokenizer" },
        { v.s, "#version: 0.2\nt h\n", "{\"tokenizer_class\":\"GPT2Tokenizer\"}", LT_EUNSUPPORTED, "<|endoftext|>" },
        { v.s, "t h\n", GPT2, LT_EUNSUPPORTED, "#version" },
        { v.s, "#version: 0.2\nt h", GPT2, LT_EUNSUPPORTED, "last line" },
        { v.s, "#version: 0.2\nth\n", GPT2, LT_EDATA, "line 2" },
        { v.s, "#version: 0.2\nt h e\n", GPT2, LT_EDATA, "line 2" },
        { v.s, "#version: 0.2\n\xff h\n", GPT2, LT_EDATA, "UTF-8" },
        { v.s, "#version: 0.2\nt nothing\n", GPT2, LT_EDATA, "nothing" },
        { "{\"a\":0}", "#version: 0.2\n", GPT2, LT_EUNSUPPORTED, "byte 0x00" },
        { "[]", "#version: 0.2\n", GPT2, LT_EDATA, "object" },
        { v.s, "#version: 0.2\n",
          "{\"tokenizer_class\":\"GPT2Tokenizer\"," ENDS ",\"added_tokens_decoder\":{\"x\":{}}}", LT_EDATA, "\"x\"" },
        { v.s, "#version: 0.2\n",
          "{\"tokenizer_class\":\"GPT2Tokenizer\"," ENDS ",\"added_tokens_decoder\":{\"900\":{\"content\":\"<x>\"}}}",
          LT_EDATA, "900" },
    };
    for (size_t i = 0; i < LT_COUNTOF(bad); i++) {
        lt_tokenizer *t = NULL;
        lt_err err = { 0 };
        const char *path = split_folder(bad[i].vocab, bad[i].merges, bad[i].config);
        const lt_status st = lt_tokenizer_open(&t, path, &err);
        if (st != bad[i].code || !strstr(err.message, bad[i].says) || strchr(err.message, '\n'))
            fail_msg("%zu: status %d, \"%s\"", i, (int)st, err.message);
        assert_null(t);
    }
    free(v.s);
}

/* ---- memory ---- */

static lt_status whole_life(void *user, lt_err *err) {
    const text *t = user;
    lt_tokenizer *tok = NULL;
    int32_t *ids = NULL;
    char *back = NULL;
    size_t n, bytes;
    lt_status st;
    lt_decode_stream *stream = NULL;
    const char *piece;
    LT_GO(lt_tokenizer_from_json(&tok, t->s, t->n, "test.json", err));
    LT_GO(lt_tokenizer_encode(tok, "the <x> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 48, true, &ids, &n, err));
    LT_GO(lt_tokenizer_decode(tok, ids, n, true, &back, &bytes, err));
    LT_GO(lt_decode_stream_create(&stream, tok, false, err));
    for (size_t i = 0; i < n; i++) LT_GO(lt_decode_stream_push(stream, ids[i], &piece, &bytes, err));
done:
    lt_decode_stream_destroy(stream);
    lt_free(ids);
    lt_free(back);
    lt_tokenizer_destroy(tok);
    return st;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    text t = byte_tokenizer(
        MERGES, "\"added_tokens\":[{\"id\":261,\"content\":\"<x>\",\"special\":true}],"
                "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"a\"},"
                "{\"type\":\"Replace\",\"pattern\":{\"String\":\"th\"},\"content\":\"th\"}]},"
                "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},"
                "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"x\":{\"ids\":[261]}}},"
                "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},{\"type\":\"Split\","
                "\"pattern\":{\"Regex\":\"\\\\p{N}{1,3}\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\","
                "\"add_prefix_space\":true}]},\"decoder\":{\"type\":\"ByteLevel\"}");
    assert_true(test_every_allocation_fails(whole_life, &t) > 20);
    free(t.s);
}

/* ---- GGUF ---- */

static void put_u32(text *g, uint32_t v) {
    for (int i = 0; i < 4; i++) add(g, "%c", 0), g->s[g->n - 1] = (char)(v >> (8 * i));
}

static void put_u64(text *g, uint64_t v) {
    put_u32(g, (uint32_t)v);
    put_u32(g, (uint32_t)(v >> 32));
}

static void put_string(text *g, const char *s) {
    put_u64(g, strlen(s));
    add(g, "%s", s);
}

typedef struct gguf_in {
    const char *model, *pre, *const *token, *const *merge;
    size_t n_tokens, n_types, n_merges;
    uint32_t bos, type;
} gguf_in;

static text gguf_bytes(const gguf_in *in) {
    text g = { 0 };
    add(&g, "GGUF");
    put_u32(&g, 3);
    put_u64(&g, 0);
    put_u64(&g, 6);
    put_string(&g, "tokenizer.ggml.model");
    put_u32(&g, LT_GGUF_STRING);
    put_string(&g, in->model);
    put_string(&g, "tokenizer.ggml.pre");
    put_u32(&g, LT_GGUF_STRING);
    put_string(&g, in->pre);
    put_string(&g, "tokenizer.ggml.tokens");
    put_u32(&g, LT_GGUF_ARRAY);
    put_u32(&g, LT_GGUF_STRING);
    put_u64(&g, in->n_tokens);
    for (size_t i = 0; i < in->n_tokens; i++) put_string(&g, in->token[i]);
    put_string(&g, "tokenizer.ggml.token_type");
    put_u32(&g, LT_GGUF_ARRAY);
    put_u32(&g, LT_GGUF_I32);
    put_u64(&g, in->n_types);
    for (size_t i = 0; i < in->n_types; i++) put_u32(&g, in->type);
    put_string(&g, "tokenizer.ggml.merges");
    put_u32(&g, LT_GGUF_ARRAY);
    put_u32(&g, LT_GGUF_STRING);
    put_u64(&g, in->n_merges);
    for (size_t i = 0; i < in->n_merges; i++) put_string(&g, in->merge[i]);
    put_string(&g, "tokenizer.ggml.bos_token_id");
    put_u32(&g, LT_GGUF_U32);
    put_u32(&g, in->bos);
    return g;
}

static lt_status from_gguf(const gguf_in *in, lt_tokenizer **t, lt_err *err) {
    text bytes = gguf_bytes(in);
    lt_gguf *g = NULL;
    assert_ok(lt_gguf_from_memory(&g, bytes.s, bytes.n, "bad.gguf", err), err);
    const lt_status st = lt_tokenizer_from_gguf(t, g, err);
    lt_gguf_close(g);
    free(bytes.s);
    return st;
}

static void bad_gguf_vocabularies_are_named(void **state) {
    (void)state;
    static const char *const tokens[] = { "a", "b", "ab", "<s>" }, *const twice[] = { "a", "b", "ab", "a" },
                             *const merge[] = { "a b" }, *const bad[] = { "a c" };
    static const struct {
        gguf_in in;
        lt_status code;
        const char *says;
    } row[] = {
        { { "gpt2", "gpt-2", tokens, merge, 4, 4, 1, 3, 1 }, LT_OK, "" },
        { { "gpt2", "guess", tokens, merge, 4, 4, 1, 3, 1 }, LT_EUNSUPPORTED, "smollm" },
        { { "rwkv", "gpt-2", tokens, merge, 4, 4, 1, 3, 1 }, LT_EUNSUPPORTED, "rwkv" },
        { { "gpt2", "gpt-2", twice, merge, 4, 4, 1, 3, 1 }, LT_EDATA, "token 3" },
        { { "gpt2", "gpt-2", tokens, bad, 4, 4, 1, 3, 1 }, LT_EDATA, "\"c\"" },
        { { "gpt2", "gpt-2", tokens, merge, 4, 3, 1, 3, 1 }, LT_EDATA, "3 types" },
        { { "gpt2", "gpt-2", tokens, merge, 4, 4, 1, 4, 1 }, LT_EDATA, "bos_token_id: 4" },
        { { "gpt2", "gpt-2", tokens, merge, 4, 4, 1, 3, 9 }, LT_EDATA, "type" },
    };
    for (size_t i = 0; i < LT_COUNTOF(row); i++) {
        lt_tokenizer *t = NULL;
        lt_err err = { 0 };
        const lt_status st = from_gguf(&row[i].in, &t, &err);
        if (st != row[i].code || !strstr(err.message, row[i].says) || (st && !strstr(err.message, "bad.gguf")))
            fail_msg("row %zu: status %d, \"%s\"", i, (int)st, err.message);
        lt_tokenizer_destroy(t);
    }
}

static void every_known_pre_tokenizer_opens(void **state) {
    (void)state;
    static const char *const tokens[] = { "a", "b", "ab", "<s>" }, *const merge[] = { "a b" };
    static const char *const names[] = { "gpt-2",     "phi-2",  "olmo",        "mpt",    "llama-bpe",        "llama3",
                                         "llama-v3",  "dbrx",   "smaug-bpe",   "qwen2",  "deepseek-r1-qwen", "smollm",
                                         "starcoder", "refact", "deepseek-v3", "tekken", "gpt-4o",           "llama4" };
    for (size_t i = 0; i < LT_COUNTOF(names); i++) {
        lt_tokenizer *t = NULL;
        lt_err err = { 0 };
        assert_ok(from_gguf(&(gguf_in){ "gpt2", names[i], tokens, merge, 4, 4, 1, 3, 1 }, &t, &err), &err);
        const bool front =
            strncmp(names[i], "llama-", 6) == 0 || strcmp(names[i], "llama3") == 0 || strcmp(names[i], "tekken") == 0;
        assert_ids(t, "ab", 2, front ? (int32_t[]){ 3, 2 } : (int32_t[]){ 2 }, front ? 2 : 1);
        lt_tokenizer_destroy(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_apply_by_rank_then_from_the_left),
        cmocka_unit_test(text_comes_back_when_every_byte_has_a_symbol),
        cmocka_unit_test(streamed_pieces_join_to_the_text),
        cmocka_unit_test(words_of_any_length_follow_the_definition),
        cmocka_unit_test(a_megabyte_word_is_not_quadratic),
        cmocka_unit_test(one_tokenizer_serves_many_threads),
        cmocka_unit_test(hash_is_of_meaning_not_of_spelling),
        cmocka_unit_test(bytes_that_are_not_utf8_are_named),
        cmocka_unit_test(ids_outside_the_vocabulary_are_named),
        cmocka_unit_test(bad_files_get_one_line_that_names_the_fault),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(a_folder_without_tokenizer_is_named),
        cmocka_unit_test(config_names_ends_and_overrules_the_prefix_space),
        cmocka_unit_test(split_files_need_no_tokenizer_json),
        cmocka_unit_test(bad_split_files_are_named),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(bad_gguf_vocabularies_are_named),
        cmocka_unit_test(every_known_pre_tokenizer_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
