/* SPDX-License-Identifier: Apache-2.0 */
#include "train/corpus_row.h"

#include <stdio.h>
#include <string.h>

lt_status lt_corpus_text(lt_ids *out, const lt_corpus_in *in, const char *text, size_t bytes, bool special,
                         lt_err *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    LT_TRY(lt_tokenizer_encode(in->tok, text, bytes, special, &ids, &n, err));
    const lt_status st = lt_ids_add(out, ids, n, err);
    lt_free(ids);
    return st;
}

lt_status lt_corpus_end(lt_ids *out, const lt_corpus_in *in, lt_err *err) {
    if (in->eos < 0 || (out->n > 0 && out->id[out->n - 1] == in->eos)) return LT_OK;
    return lt_ids_add(out, &in->eos, 1, err);
}

static void mark_prompt(lt_ids *ids, size_t n) {
    for (size_t i = 0; i < n && i < ids->n; i++) ids->id[i] |= LT_NOT_A_TARGET;
}

/* Ids of the whole; the prompt's are as many as it has alone (as Stanford's training code counts them). */
static lt_status add_answer(lt_ids *out, const lt_corpus_in *in, const char *prompt, const char *whole, lt_err *err) {
    lt_ids alone = { 0 };
    lt_status st = lt_corpus_text(&alone, in, prompt, strlen(prompt), true, err);
    if (st == LT_OK) st = lt_corpus_text(out, in, whole, strlen(whole), true, err);
    if (st == LT_OK) st = lt_corpus_end(out, in, err);
    mark_prompt(out, alone.n);
    lt_free(alone.id);
    return st;
}

static lt_status alpaca(lt_ids *out, const lt_corpus_in *in, const json_t *row, const char *name, lt_err *err) {
    const char *instruction, *input, *output;
    LT_TRY(lt_json_string(&instruction, row, "instruction", NULL, name, err));
    LT_TRY(lt_json_string(&input, row, "input", NULL, name, err));
    LT_TRY(lt_json_string(&output, row, "output", NULL, name, err));
    if (!output) return lt_fail(err, LT_EDATA, "an instruction without \"output\" (%s)", name);
    char *prompt = lt_alpaca_text(instruction, input, ""), *whole = lt_alpaca_text(instruction, input, output);
    const lt_status st = prompt && whole ? add_answer(out, in, prompt, whole, err)
                                         : lt_fail(err, LT_ENOMEM, "no memory for a row (%s)", name);
    lt_free(prompt);
    lt_free(whole);
    return st;
}

static lt_status plain(lt_ids *out, const lt_corpus_in *in, const json_t *text, lt_err *err) {
    if (json_string_length(text) == 0) return LT_OK;
    LT_TRY(lt_corpus_text(out, in, json_string_value(text), json_string_length(text), true, err));
    return lt_corpus_end(out, in, err);
}

/* What was looked for, and what there is instead: a name is often all that is wrong. */
static lt_status no_field(const json_t *row, const char *name, lt_err *err) {
    char there[160] = "";
    size_t n = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)row, key, value) {
        if (n < sizeof there) n += (size_t)snprintf(there + n, sizeof there - n, "%s\"%.40s\"", n ? ", " : "", key);
    }
    return lt_fail(err, LT_EDATA, "row has none of \"text\", \"messages\", \"instruction\" with \"output\" but %s (%s)",
                   n ? there : "nothing", name);
}

lt_status lt_corpus_row(lt_ids *out, const lt_corpus_in *in, const json_t *row, const char *name, lt_err *err) {
    const json_t *text = json_object_get(row, "text");
    if (!json_is_object(row)) return lt_fail(err, LT_EDATA, "row is not a JSON object (%s)", name);
    if (json_is_string(text)) return plain(out, in, text, err);
    if (text && !json_is_null(text)) return lt_fail(err, LT_EDATA, "\"text\" is not a string (%s)", name);
    if (json_object_get(row, "messages")) return lt_corpus_messages(out, in, row, name, err);
    if (json_is_string(json_object_get(row, "instruction"))) return alpaca(out, in, row, name, err);
    return no_field(row, name, err);
}
