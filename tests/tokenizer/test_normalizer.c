/* SPDX-License-Identifier: Apache-2.0 */
/* Normalizers: every code point becomes what the reference makes of it, and so do sequences of marks. */
#include "tok_test.h"

#include "tokenizer/stage.h"
#include "tokenizer/utf8.h"

static lt_tok_stage stage_of(const char *json) {
    lt_tok_stage s = { 0 };
    const lt_tok_source in = { "test", NULL };
    json_t *j = NULL;
    lt_err err = { 0 };
    assert_int_equal(lt_json_parse(&j, json, strlen(json), "test", &err), LT_OK);
    if (lt_tok_stage_parse(&s, &lt_tok_normalizers, j, &in, &err) != LT_OK) fail_msg("%s", err.message);
    json_decref(j);
    return s;
}

static bool becomes(const lt_tok_stage *s, const char *in, size_t bytes, const char *want, size_t n_want) {
    lt_tok_text text;
    lt_tokenizer t = { .normalizer = *s };
    assert_int_equal(lt_tok_text_init(&text, in, bytes, NULL), LT_OK);
    assert_int_equal(lt_tok_normalize(&t, &text, NULL), LT_OK);
    const bool same = text.len == n_want && (n_want == 0 || memcmp(text.data, want, n_want) == 0);
    lt_tok_text_clear(&text);
    return same;
}

static bool in_ranges(const json_t *list, uint32_t c) {
    size_t i;
    json_t *range;
    json_array_foreach(list, i, range) if (c >= json_integer_value(json_array_get(range, 0)) &&
                                           c <= json_integer_value(json_array_get(range, 1))) return true;
    return false;
}

/* What the golden file says c becomes: "map", or one of the named ranges, or itself. */
static size_t expected(const json_t *j, uint32_t c, char *out) {
    char key[12];
    snprintf(key, sizeof key, "%04X", c);
    const json_t *to = json_object_get(json_object_get(j, "map"), key), *ranges = json_object_get(j, "ranges");
    if (to) {
        memcpy(out, json_string_value(to), json_string_length(to));
        return json_string_length(to);
    }
    if (in_ranges(json_object_get(ranges, "removed"), c)) return 0;
    if (in_ranges(json_object_get(ranges, "to_space"), c)) return lt_utf8_put(out, ' ');
    size_t n = lt_utf8_put(out, c);
    if (!in_ranges(json_object_get(ranges, "spaced"), c)) return n;
    out[0] = ' ';
    n = 1 + lt_utf8_put(out + 1, c);
    out[n] = ' ';
    return n + 1;
}

static void sweep(const char *file, const char *json) {
    char path[512], in[4], want[256];
    json_t *j = NULL, *range;
    lt_err err = { 0 };
    size_t i, wrong = 0, seen = 0;
    snprintf(path, sizeof path, GOLDEN "unicode/%s", file);
    if (lt_json_load(&j, path, &err) != LT_OK) fail_msg("%s", err.message);
    lt_tok_stage s = stage_of(json);
    json_array_foreach(json_object_get(j, "swept"), i, range) {
        for (uint32_t c = (uint32_t)json_integer_value(json_array_get(range, 0));
             c <= json_integer_value(json_array_get(range, 1)); c++) {
            if (c >= 0xAC00 && c <= 0xD7A3) continue; /* Hangul syllables are not in the files */
            if (c % 5 && ((c >= 0x3400 && c < 0xA000) || (c >= 0xE000 && c < 0xF900) || c >= 0x20000))
                continue; /* wide and dull */
            seen++;
            if (becomes(&s, in, lt_utf8_put(in, c), want, expected(j, c, want))) continue;
            if (wrong++ < 5) print_error("%s: U+%04X differs\n", file, c);
        }
    }
    print_message("%s: %zu code points, %zu wrong\n", file, seen, wrong);
    assert_int_equal(wrong, 0);
    lt_tok_stage_clear(&s);
    json_decref(j);
}

static void every_code_point_becomes_what_the_reference_makes_of_it(void **state) {
    (void)state;
    if (!have(GOLDEN "unicode")) skip();
    sweep("norm_nfc.json", "{\"type\":\"NFC\"}");
    sweep("norm_nfd.json", "{\"type\":\"NFD\"}");
    sweep("norm_nfkc.json", "{\"type\":\"NFKC\"}");
    sweep("norm_nfkd.json", "{\"type\":\"NFKD\"}");
    sweep("norm_lowercase.json", "{\"type\":\"Lowercase\"}");
    sweep("norm_strip_accents.json", "{\"type\":\"StripAccents\"}");
    sweep("norm_bert_cased.json", "{\"type\":\"BertNormalizer\",\"strip_accents\":null,\"lowercase\":false}");
    sweep("norm_bert_lower.json", "{\"type\":\"BertNormalizer\",\"strip_accents\":null,\"lowercase\":true}");
}

static void sequence_line(const json_t *line, size_t number, void *user) {
    static const char *const form[] = { "nfc", "nfd", "nfkc", "nfkd" };
    const lt_tok_stage *stage = user;
    const json_t *text = json_object_get(line, "text");
    for (size_t i = 0; i < LT_COUNTOF(form); i++) {
        const json_t *want = json_object_get(line, form[i]);
        if (!becomes(&stage[i], json_string_value(text), json_string_length(text), json_string_value(want),
                     json_string_length(want)))
            fail_msg("line %zu: %s differs", number, form[i]);
    }
}

static void sequences_of_marks_are_ordered_and_composed_as_the_reference_does(void **state) {
    (void)state;
    if (!have(GOLDEN "unicode")) skip();
    lt_tok_stage stage[] = { stage_of("{\"type\":\"NFC\"}"), stage_of("{\"type\":\"NFD\"}"),
                             stage_of("{\"type\":\"NFKC\"}"), stage_of("{\"type\":\"NFKD\"}") };
    each_line(GOLDEN "unicode/norm_sequences.jsonl", sequence_line, stage);
    for (size_t i = 0; i < LT_COUNTOF(stage); i++) lt_tok_stage_clear(&stage[i]);
}

/* Hangul: U+D55C = U+1112 U+1161 U+11AB, and what is composed already stays. */
static void hangul_composes_by_arithmetic(void **state) {
    (void)state;
    lt_tok_stage c = stage_of("{\"type\":\"NFC\"}"), d = stage_of("{\"type\":\"NFD\"}");
    for (uint32_t s = 0xAC00; s <= 0xD7A3; s += 7) {
        char syllable[4], jamo[12];
        const uint32_t i = s - 0xAC00, n = (uint32_t)lt_utf8_put(syllable, s);
        size_t len = lt_utf8_put(jamo, 0x1100 + i / 588);
        len += lt_utf8_put(jamo + len, 0x1161 + i % 588 / 28);
        if (i % 28) len += lt_utf8_put(jamo + len, 0x11A7 + i % 28);
        assert_true(becomes(&c, jamo, len, syllable, n));
        assert_true(becomes(&c, syllable, n, syllable, n));
        assert_true(becomes(&d, syllable, n, jamo, len));
    }
    lt_tok_stage_clear(&c);
    lt_tok_stage_clear(&d);
}

/* A megabyte of marks in falling order would take hours to sort by exchange of neighbours. */
static void a_megabyte_of_marks_is_not_quadratic(void **state) {
    (void)state;
    const size_t n = 1 << 20;
    char *s = malloc(n);
    for (size_t i = 0; i < n; i += 2) memcpy(s + i, i < n / 2 ? "\xCC\x81" : "\xCC\xA3", 2); /* classes 230 and 220 */
    lt_tok_text text;
    lt_tok_stage c = stage_of("{\"type\":\"NFC\"}");
    lt_tokenizer t = { .normalizer = c };
    lt_tok_text_init(&text, s, n, NULL);
    const double start = lt_seconds();
    assert_int_equal(lt_tok_normalize(&t, &text, NULL), LT_OK);
    assert_true(lt_seconds() - start < 20.0);
    assert_int_equal(text.len, n);
    assert_memory_equal(text.data, "\xCC\xA3", 2);
    lt_tok_text_clear(&text);
    lt_tok_stage_clear(&c);
    free(s);
}

static void small_normalizers_do_what_their_names_say(void **state) {
    (void)state;
    static const struct {
        const char *json, *in, *want;
    } row[] = {
        { "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}", " \t\xC2\xA0 a b \n", "a b" },
        { "{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}", " a ", " a" },
        { "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}", "   ", "" },
        { "{\"type\":\"Prepend\",\"prepend\":\"_\"}", "a", "_a" },
        { "{\"type\":\"Replace\",\"pattern\":{\"String\":\"aa\"},\"content\":\"b\"}", "aaaxaa", "baxb" },
        { "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"_\"}", "a  b   c d", "a_b_c d" },
        { "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x*\"},\"content\":\"-\"}", "a\xC3\xA9xb", "-a-\xC3\xA9-b-" },
        { "{\"type\":\"Lowercase\"}", "\xC4\xB0I\xC3\x89", "i\xCC\x87i\xC3\xA9" },
        { "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"StripAccents\"},{\"type\":"
          "\"Lowercase\"}]}",
          "\xC3\x89t\xC3\xA9", "ete" },
    };
    for (size_t i = 0; i < LT_COUNTOF(row); i++) {
        lt_tok_stage s = stage_of(row[i].json);
        if (!becomes(&s, row[i].in, strlen(row[i].in), row[i].want, strlen(row[i].want)))
            fail_msg("%s: \"%s\"", row[i].json, row[i].in);
        lt_tok_stage_clear(&s);
    }
}

/* Stages that double the text again and again end in an error, not in a swapping machine. */
static void growth_without_end_is_refused(void **state) {
    (void)state;
    char json[8192] = "{\"type\":\"Sequence\",\"normalizers\":[";
    for (int i = 0; i < 40; i++)
        strcat(json, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"},");
    strcpy(json + strlen(json) - 1, "]}");
    lt_tok_stage s = stage_of(json);
    lt_tokenizer t = { .normalizer = s };
    lt_tok_text text;
    lt_err err = { 0 };
    lt_tok_text_init(&text, "aaaa", 4, NULL);
    assert_int_equal(lt_tok_normalize(&t, &text, &err), LT_EUNSUPPORTED);
    lt_tok_text_clear(&text);
    lt_tok_stage_clear(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_becomes_what_the_reference_makes_of_it),
        cmocka_unit_test(sequences_of_marks_are_ordered_and_composed_as_the_reference_does),
        cmocka_unit_test(hangul_composes_by_arithmetic),
        cmocka_unit_test(a_megabyte_of_marks_is_not_quadratic),
        cmocka_unit_test(small_normalizers_do_what_their_names_say),
        cmocka_unit_test(growth_without_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
