/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/stage.h"

#include <string.h>

static const lt_tok_model_row *const models[] = { &lt_tok_bpe, &lt_tok_unigram, &lt_tok_wordpiece };

static lt_status unknown_model(const char *type, const char *where, lt_err *err) {
    char known[128] = "";
    size_t len = 0;
    for (size_t i = 0; i < LT_COUNTOF(models); i++) {
        const size_t more = strlen(models[i]->type);
        if (len + more + 3 > sizeof known) break;
        if (i > 0) memcpy(known + len, ", ", 2), len += 2;
        memcpy(known + len, models[i]->type, more + 1);
        len += more;
    }
    return lt_fail(err, LT_EUNSUPPORTED, "unknown type of tokenizer model, known are %s (%s: %.80s)", known, where,
                   type);
}

lt_status lt_tok_model_find(const lt_tok_model_row **out, const json_t *j, const char *where, lt_err *err) {
    const char *type = NULL;
    if (!json_is_object(j)) return lt_fail(err, LT_EDATA, "not an object (%s: model)", where);
    LT_TRY(lt_json_string(&type, j, "type", NULL, where, err));
    for (size_t i = 0; i < LT_COUNTOF(models); i++) {
        if (type ? strcmp(models[i]->type, type) != 0 : !models[i]->recognise(j)) continue;
        *out = models[i];
        return LT_OK;
    }
    return unknown_model(type ? type : "no type given", where, err);
}
