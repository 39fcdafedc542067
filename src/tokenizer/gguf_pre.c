/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/gguf_pre.h"

#include <string.h>

#include "tokenizer/complete.h"

#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define GPT2 "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define NFC "{\"type\":\"NFC\"}"
#define SPLIT(regex) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\"}"
#define SEQUENCE(parts) "{\"type\":\"Sequence\",\"pretokenizers\":[" parts "]}"
#define SHORT_FORMS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define BLANKS "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define CL100K(digits)                                                                                                 \
    SHORT_FORMS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|" BLANKS
#define UPPER "\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}"
#define LOWER "\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}"
#define O200K(tail, digits)                                                                                            \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[" UPPER "]*[" LOWER "]+" tail "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[" UPPER "]+[" LOWER \
    "]*" tail "|" digits "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|" BLANKS
#define DIGITS3 "\\\\p{N}{1,3}"
#define DIGIT "\\\\p{N}"
#define DEEPSEEK                                                                                                       \
    "[!\\\"#$%&'()*+,\\\\-./"                                                                                          \
    ":;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+|[^\\\\r\\\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+|"            \
    " ?[\\\\p{P}\\\\p{S}]+[\\\\r\\\\n]*|" BLANKS
#define CJK "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+"

static const lt_gguf_pre pre_rows[] = {
    { { "gpt-2", "phi-2" }, NULL, GPT2, false, false },
    { { "olmo", "mpt" }, NFC, GPT2, false, false },
    { { "llama-bpe", "llama3", "llama-v3" }, NULL, SEQUENCE(SPLIT(CL100K(DIGITS3)) "," BYTES), true, true },
    { { "dbrx", "smaug-bpe" }, NULL, SEQUENCE(SPLIT(CL100K(DIGITS3)) "," BYTES), false, false },
    { { "qwen2", "deepseek-r1-qwen" }, NFC, SEQUENCE(SPLIT(CL100K(DIGIT)) "," BYTES), false, false },
    { { "smollm", "starcoder", "refact" },
      NULL,
      SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":true}," GPT2),
      false,
      false },
    { { "deepseek-v3" }, NULL, SEQUENCE(SPLIT(DIGITS3) "," SPLIT(CJK) "," SPLIT(DEEPSEEK) "," BYTES), false, false },
    { { "tekken" }, NULL, SEQUENCE(SPLIT(O200K("", DIGIT)) "," BYTES), true, true },
    { { "gpt-4o", "llama4" }, NULL, SEQUENCE(SPLIT(O200K(SHORT_FORMS "?", DIGITS3)) "," BYTES), false, false },
};

const lt_gguf_pre *lt_gguf_pre_find(const char *name) {
    for (size_t i = 0; i < LT_COUNTOF(pre_rows); i++)
        for (size_t k = 0; k < LT_COUNTOF(pre_rows[i].name) && pre_rows[i].name[k]; k++)
            if (strcmp(pre_rows[i].name[k], name) == 0) return &pre_rows[i];
    return NULL;
}

lt_status lt_gguf_pre_unknown(const char *name, const char *where, lt_err *err) {
    char known[256] = "";
    size_t len = 0;
    for (size_t i = 0; i < LT_COUNTOF(pre_rows); i++)
        for (size_t k = 0; k < LT_COUNTOF(pre_rows[i].name) && pre_rows[i].name[k]; k++) {
            const size_t more = strlen(pre_rows[i].name[k]);
            if (len + more + 3 > sizeof known) break;
            if (len > 0) memcpy(known + len, ", ", 2), len += 2;
            memcpy(known + len, pre_rows[i].name[k], more + 1);
            len += more;
        }
    return lt_fail(err, LT_EUNSUPPORTED, "unknown pre-tokenizer, known are %s (%s: tokenizer.ggml.pre: %.80s)", known,
                   where, name);
}

/* ---- by content ---- */

/* Two spellings of one pipeline become one: sequences flattened, defaults written out, what does not decide ids left
 * out. A pattern that matches everything may be "Isolated", or have what it does not match "Removed". */
static lt_status flatten(json_t *out, const json_t *part, const char *members, lt_err *err) {
    const json_t *inner = json_object_get(part, members);
    for (size_t i = 0; i < json_array_size(inner); i++) LT_TRY(flatten(out, json_array_get(inner, i), members, err));
    if (!part || json_is_null(part) || inner) return LT_OK;
    json_t *copy = json_deep_copy(part);
    if (json_array_append_new(out, copy) != 0) return lt_fail(err, LT_ENOMEM, "no memory for the tokenizer");
    LT_TRY(lt_tokenizer_complete_part(copy, err));
    json_object_del(copy, "trim_offsets");
    const char *behavior = json_string_value(json_object_get(copy, "behavior"));
    if (!behavior || strcmp(behavior, "Removed") != 0 || !json_is_true(json_object_get(copy, "invert"))) return LT_OK;
    const int failed = json_object_set_new(copy, "behavior", json_string("Isolated")) ||
                       json_object_set_new(copy, "invert", json_false());
    return failed ? lt_fail(err, LT_ENOMEM, "no memory for the tokenizer") : LT_OK;
}

static lt_status same_parts(bool *same, const json_t *part, const char *text, const char *members, lt_err *err) {
    json_t *a = json_array(), *b = json_array(), *row = NULL;
    lt_status st = a && b ? LT_OK : lt_fail(err, LT_ENOMEM, "no memory for the tokenizer");
    if (st == LT_OK && text) st = lt_json_parse(&row, text, strlen(text), "row", err);
    if (st == LT_OK) st = flatten(a, part, members, err);
    if (st == LT_OK) st = flatten(b, row, members, err);
    if (st == LT_OK) *same = json_equal(a, b);
    json_decref(row);
    json_decref(a);
    json_decref(b);
    return st;
}

lt_status lt_gguf_pre_of(const lt_gguf_pre **out, const json_t *root, lt_err *err) {
    const bool ignore = json_is_true(json_object_get(json_object_get(root, "model"), "ignore_merges"));
    *out = NULL;
    for (size_t i = 0; i < LT_COUNTOF(pre_rows) && !*out; i++) {
        const lt_gguf_pre *row = &pre_rows[i];
        bool norm = false, pre = false;
        LT_TRY(same_parts(&norm, json_object_get(root, "normalizer"), row->normalizer, "normalizers", err));
        if (norm)
            LT_TRY(same_parts(&pre, json_object_get(root, "pre_tokenizer"), row->pre_tokenizer, "pretokenizers", err));
        if (norm && pre && row->ignore_merges == ignore) *out = row;
    }
    return LT_OK;
}
