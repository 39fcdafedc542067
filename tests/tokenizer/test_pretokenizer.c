/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting text: every code point is cut as the reference cuts it, and the scanners agree with the expressions they
 * stand for. */
#include "tok_test.h"

#include "tokenizer/finder.h"
#include "tokenizer/stage.h"
#include "tokenizer/utf8.h"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define CL100K(digits)                                                                                                 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                                               \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* ---- the sweep over all code points ---- */

typedef lt_status (*cut_fn)(const void *how, lt_tok_text *t, lt_err *err);

static lt_status cut_by_finder(const void *how, lt_tok_text *t, lt_err *err) {
    return lt_tok_text_split(t, how, NULL, LT_SPLIT_ISOLATED, false, err);
}

static lt_status cut_by_stage(const void *how, lt_tok_text *t, lt_err *err) {
    return lt_tok_pretokenize(how, t, err);
}

/* The probe of the golden files, a{c}a1{c}1 {c}{c} '{c}\n{c}., and where each of its 16 code points starts. */
static size_t make_probe(char *out, size_t offset[17], uint32_t c) {
    static const char frame[] = "a\1a1\1"
                                "1 \1\1 '\1\n\1."; /* \1 stands for c */
    size_t len = 0, n = 0;
    for (const char *p = frame; *p; p++) {
        offset[n++] = len;
        len += *p == 1 ? lt_utf8_put(out + len, c) : (out[len] = *p, (size_t)1);
    }
    offset[n] = len;
    return len;
}

static bool cut_as_told(cut_fn cut, const void *how, uint32_t c, const json_t *pieces) {
    char probe[64];
    size_t offset[17];
    lt_tok_text t;
    const size_t bytes = make_probe(probe, offset, c);
    assert_int_equal(lt_tok_text_init(&t, probe, bytes, NULL), LT_OK);
    assert_int_equal(cut(how, &t, NULL), LT_OK);
    bool same = t.spans.n == json_array_size(pieces);
    for (size_t i = 0; i < t.spans.n && same; i++) {
        const json_t *want = json_array_get(pieces, i);
        same = t.spans.v[i].start == offset[json_integer_value(json_array_get(want, 0))] &&
               t.spans.v[i].end == offset[json_integer_value(json_array_get(want, 1))];
    }
    lt_tok_text_clear(&t);
    return same;
}

/* stride > 1: dense below U+3000, every stride-th code point above */
static void sweep(const char *file, cut_fn cut, const void *how, uint32_t stride) {
    char path[512];
    json_t *j = NULL;
    lt_err err = { 0 };
    size_t wrong = 0, seen = 0, i, k;
    json_t *class, *range;
    snprintf(path, sizeof path, GOLDEN "unicode/%s", file);
    if (lt_json_load(&j, path, &err) != LT_OK) fail_msg("%s", err.message);
    json_array_foreach(json_object_get(j, "classes"), i, class) {
        const json_t *pieces = json_object_get(class, "pieces");
        json_array_foreach(json_object_get(class, "ranges"), k, range) {
            const uint32_t last = (uint32_t)json_integer_value(json_array_get(range, 1));
            for (uint32_t c = (uint32_t)json_integer_value(json_array_get(range, 0)); c <= last;
                 c += c < 0x3000 ? 1 : stride) {
                seen++;
                if (cut_as_told(cut, how, c, pieces)) continue;
                if (wrong++ < 5) print_error("%s: U+%04X is cut differently\n", file, c);
            }
        }
    }
    json_decref(j);
    print_message("%s: %zu code points, %zu wrong\n", file, seen, wrong);
    assert_int_equal(wrong, 0);
}

static void sweep_regex(const char *file, const char *pattern) {
    lt_finder *f;
    lt_err err = { 0 };
    if (lt_finder_regex(&f, pattern, strlen(pattern), file, &err) != LT_OK) fail_msg("%s", err.message);
    sweep(file, cut_by_finder, f, lt_scan_for(pattern, strlen(pattern)) ? 1 : 17);
    lt_finder_destroy(f);
    if (!lt_scan_for(pattern, strlen(pattern))) return;
    assert_int_equal(lt_finder_pcre2(&f, pattern, strlen(pattern), file, &err), LT_OK);
    sweep(file, cut_by_finder, f, 17);
    lt_finder_destroy(f);
}

static void sweep_stage(const char *file, const char *json) {
    lt_tok_stage s = { 0 };
    const lt_tok_source in = { file, NULL };
    json_t *j = NULL;
    lt_err err = { 0 };
    assert_int_equal(lt_json_parse(&j, json, strlen(json), file, &err), LT_OK);
    if (lt_tok_stage_parse(&s, &lt_tok_pretokenizers, j, &in, &err) != LT_OK) fail_msg("%s", err.message);
    json_decref(j);
    sweep(file, cut_by_stage, &s, 1);
    lt_tok_stage_clear(&s);
}

static void every_code_point_is_cut_as_the_reference_cuts_it(void **state) {
    (void)state;
    if (!have(GOLDEN "unicode")) skip();
    sweep_regex("pre_gpt2_regex.json", GPT2);
    sweep_regex("pre_llama3_regex.json", CL100K("\\p{N}{1,3}"));
    sweep_regex("pre_qwen2_regex.json", CL100K("\\p{N}"));
    sweep_regex("pre_deepseek_v3_regex3.json",
                "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
                "?[\\p{P}\\p{S}]+[\\r\\n]*|"
                "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
    sweep_stage("pre_digits.json", "{\"type\":\"Digits\",\"individual_digits\":true}");
    sweep_stage("pre_gpt2_regex.json", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}");
    sweep_stage("pre_bert.json", "{\"type\":\"BertPreTokenizer\"}");
    sweep_stage("pre_punctuation.json", "{\"type\":\"Punctuation\",\"behavior\":\"Isolated\"}");
    sweep_stage("pre_whitespace.json", "{\"type\":\"Whitespace\"}");
    sweep_stage("pre_whitespace_split.json", "{\"type\":\"WhitespaceSplit\"}");
}

/* ---- scanners against the expressions they stand for ---- */

static uint64_t random_state;
static uint32_t below(uint32_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

static size_t random_text(char *out, size_t n) {
    static const char *const part[] = { " ",
                                        " ",
                                        "  ",
                                        "\n",
                                        "\r\n",
                                        "\t",
                                        "'s",
                                        "'S",
                                        "'\xC5\xBF",
                                        "'re",
                                        "'LL",
                                        "'",
                                        "a",
                                        "Z",
                                        "q",
                                        "\xC3\xA9",
                                        "\xE4\xB8\xAD",
                                        "1",
                                        "22",
                                        "\xD9\xA3",
                                        "\xC2\xBD",
                                        "!",
                                        "-",
                                        "_",
                                        "\xE2\x80\x99",
                                        "\xCC\x81",
                                        "\xC2\x85",
                                        "\xC2\xA0",
                                        "\xE2\x80\x8B",
                                        "\x1C",
                                        "\xF0\x9F\x98\x80" };
    size_t len = 0;
    while (len + 4 < n) {
        const char *p = part[below(LT_COUNTOF(part))];
        memcpy(out + len, p, strlen(p));
        len += strlen(p);
    }
    return len;
}

static void assert_same_spans(const lt_tok_text *a, const lt_tok_text *b) {
    bool same = a->spans.n == b->spans.n;
    for (size_t i = 0; i < a->spans.n && same; i++)
        same = a->spans.v[i].start == b->spans.v[i].start && a->spans.v[i].end == b->spans.v[i].end;
    if (!same) fail_msg("cut differently: \"%.*s\"", (int)a->len, a->data);
}

static void scanners_are_the_expressions_they_replace(void **state) {
    (void)state;
    static const char *const pattern[] = { GPT2, CL100K("\\p{N}{1,3}"), CL100K("\\p{N}"), "\\p{N}{1,3}" };
    random_state = 2024;
    for (size_t p = 0; p < LT_COUNTOF(pattern); p++) {
        lt_finder *slow;
        const lt_scan scan = lt_scan_for(pattern[p], strlen(pattern[p]));
        assert_non_null(scan);
        assert_int_equal(lt_finder_pcre2(&slow, pattern[p], strlen(pattern[p]), "test", NULL), LT_OK);
        for (int i = 0; i < 3000; i++) {
            char text[40];
            lt_tok_text a, b;
            const size_t n = random_text(text, 8 + below(32));
            lt_tok_text_init(&a, text, n, NULL);
            lt_tok_text_init(&b, text, n, NULL);
            assert_int_equal(lt_tok_text_split(&a, NULL, scan, LT_SPLIT_ISOLATED, false, NULL), LT_OK);
            assert_int_equal(lt_tok_text_split(&b, slow, NULL, LT_SPLIT_ISOLATED, false, NULL), LT_OK);
            assert_same_spans(&a, &b);
            lt_tok_text_clear(&a);
            lt_tok_text_clear(&b);
        }
        lt_finder_destroy(slow);
    }
}

/* ---- behaviours of Split ---- */

static void assert_cut(const char *pattern_json, lt_behavior behavior, bool invert, const char *text,
                       const char *want) {
    json_t *j = NULL;
    lt_finder *f;
    lt_tok_text t;
    char got[256] = "";
    assert_int_equal(lt_json_parse(&j, pattern_json, strlen(pattern_json), "test", NULL), LT_OK);
    assert_int_equal(lt_finder_parse(&f, j, "test", NULL), LT_OK);
    lt_tok_text_init(&t, text, strlen(text), NULL);
    assert_int_equal(lt_tok_text_split(&t, f, NULL, behavior, invert, NULL), LT_OK);
    for (size_t i = 0; i < t.spans.n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", i ? "|" : "",
                 (int)(t.spans.v[i].end - t.spans.v[i].start), t.data + t.spans.v[i].start);
    assert_string_equal(got, want);
    lt_tok_text_clear(&t);
    lt_finder_destroy(f);
    json_decref(j);
}

/* The examples of the library's documentation, "the-final--countdown" cut at '-', and some at its edges. */
static void split_behaviours_are_those_of_the_documentation(void **state) {
    (void)state;
    const char *dash = "{\"String\":\"-\"}", *text = "the-final--countdown";
    assert_cut(dash, LT_SPLIT_REMOVED, false, text, "the|final|countdown");
    assert_cut(dash, LT_SPLIT_ISOLATED, false, text, "the|-|final|-|-|countdown");
    assert_cut(dash, LT_SPLIT_MERGED_WITH_PREVIOUS, false, text, "the-|final-|-|countdown");
    assert_cut(dash, LT_SPLIT_MERGED_WITH_NEXT, false, text, "the|-final|-|-countdown");
    assert_cut(dash, LT_SPLIT_CONTIGUOUS, false, text, "the|-|final|--|countdown");
    assert_cut(dash, LT_SPLIT_REMOVED, true, text, "-|-|-");
    assert_cut(dash, LT_SPLIT_MERGED_WITH_PREVIOUS, false, "--a-", "-|-|a-");
    assert_cut(dash, LT_SPLIT_MERGED_WITH_NEXT, false, "-a--", "-a|-|-");
    assert_cut("{\"Regex\":\"(?=[A-Z])\"}", LT_SPLIT_ISOLATED, false, "oneTwoThree", "one|Two|Three");
}

static void unfaithful_expressions_are_refused(void **state) {
    (void)state;
    static const char *const pattern[] = { "^a",      "[a&&b]", "[[a]b]", "\\p{Greek}",  "(?<n>a)",
                                           "\\bword", "\\1",    "a{2}+",  "\\",          "[",
                                           "(?m:.)",  "\\p{L",  "[a\\",   "\\x{110000}", "\\x{d800}" };
    for (size_t i = 0; i < LT_COUNTOF(pattern); i++) {
        lt_finder *f = NULL;
        lt_err err = { 0 };
        const lt_status st = lt_finder_regex(&f, pattern[i], strlen(pattern[i]), "test.json", &err);
        if (st != LT_EUNSUPPORTED && st != LT_EDATA) fail_msg("%s was taken", pattern[i]);
        assert_non_null(strstr(err.message, "test.json"));
    }
    lt_finder *f = NULL;
    lt_err err = { 0 };
    assert_int_equal(lt_finder_regex(&f, "(a", 2, "test.json", &err), LT_EDATA);
}

/* One megabyte in one piece must not be quadratic: each takes far below a second. */
static void long_pieces_are_cut_in_linear_time(void **state) {
    (void)state;
    static const char fill[] = { 'a', ' ', '\n', '!', '1' };
    const size_t n = 1 << 20;
    char *text = malloc(n);
    const char *pattern = CL100K("\\p{N}{1,3}");
    lt_finder *slow;
    assert_int_equal(lt_finder_pcre2(&slow, pattern, strlen(pattern), "test", NULL), LT_OK);
    for (size_t i = 0; i < LT_COUNTOF(fill); i++) {
        lt_tok_text t;
        memset(text, fill[i], n);
        text[n - 1] = 'z';
        lt_tok_text_init(&t, text, n, NULL);
        assert_int_equal(
            lt_tok_text_split(&t, NULL, lt_scan_for(pattern, strlen(pattern)), LT_SPLIT_ISOLATED, false, NULL), LT_OK);
        lt_tok_text_clear(&t);
        lt_tok_text_init(&t, text, n, NULL);
        assert_int_equal(lt_tok_text_split(&t, slow, NULL, LT_SPLIT_ISOLATED, false, NULL), LT_OK);
        lt_tok_text_clear(&t);
    }
    lt_finder_destroy(slow);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_cut_as_the_reference_cuts_it),
        cmocka_unit_test(scanners_are_the_expressions_they_replace),
        cmocka_unit_test(split_behaviours_are_those_of_the_documentation),
        cmocka_unit_test(unfaithful_expressions_are_refused),
        cmocka_unit_test(long_pieces_are_cut_in_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
