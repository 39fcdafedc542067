/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/complete.h"

#include <string.h>

static const struct part_row {
    const char *type, *defaults;
} part_rows[] = {
    { "ByteLevel", "{\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}" },
    { "Split", "{\"behavior\":\"Isolated\",\"invert\":false}" },
    { "Digits", "{\"individual_digits\":false}" },
    { "BPE", "{\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
             "\"fuse_unk\":false,"
             "\"byte_fallback\":false,\"ignore_merges\":false}" },
};

lt_status lt_tokenizer_complete(json_t *object, const char *defaults, lt_err *err) {
    json_t *d = NULL;
    LT_TRY(lt_json_parse(&d, defaults, strlen(defaults), "defaults", err));
    const int failed = json_object_update_missing(object, d);
    json_decref(d);
    return failed ? lt_fail(err, LT_ENOMEM, "no memory for the tokenizer") : LT_OK;
}

/* A part of a stage, and the parts of a sequence. */
lt_status lt_tokenizer_complete_part(json_t *part, lt_err *err) {
    static const char *const lists[] = { "pretokenizers", "normalizers", "decoders" };
    const char *type = json_string_value(json_object_get(part, "type"));
    for (size_t i = 0; type && i < LT_COUNTOF(part_rows); i++)
        if (strcmp(type, part_rows[i].type) == 0) LT_TRY(lt_tokenizer_complete(part, part_rows[i].defaults, err));
    for (size_t i = 0; i < LT_COUNTOF(lists); i++) {
        json_t *list = json_object_get(part, lists[i]);
        for (size_t k = 0; k < json_array_size(list); k++)
            LT_TRY(lt_tokenizer_complete_part(json_array_get(list, k), err));
    }
    return LT_OK;
}
