/* SPDX-License-Identifier: Apache-2.0 */
/* A conversation as ids. Where an answer begins and ends is found by rendering the messages before it (with the words
 * that ask for an answer) and those up to it: their ids are beginnings of the whole, and where a template writes a
 * longer conversation differently, the common beginning counts. */
#include <string.h>

#include "train/corpus_row.h"

typedef struct talk {
    const lt_corpus_in *in;
    const json_t *row, *messages;
    const lt_ids *whole;
} talk;

/* How many ids of the whole the first n messages make. */
static lt_status shared_ids(size_t *shared, const talk *t, size_t n, bool ask, lt_err *err) {
    json_t *part = json_copy((json_t *)t->row), *first = json_array();
    int32_t *ids = NULL;
    size_t n_ids = 0, k = 0;
    for (size_t i = 0; first && i < n; i++) json_array_append(first, json_array_get(t->messages, i));
    lt_status st = part && first && json_object_set(part, "messages", first) == 0
                       ? LT_OK
                       : lt_fail(err, LT_ENOMEM, "no memory for messages");
    if (st == LT_OK && n > 0) st = lt_chat_encode(t->in->chat, t->in->tok, part, ask, &ids, &n_ids, err);
    while (k < n_ids && k < t->whole->n && ids[k] == t->whole->id[k]) k++;
    *shared = k;
    lt_free(ids);
    json_decref(first);
    json_decref(part);
    return st;
}

static bool is_answer(const json_t *message) {
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && strcmp(role, "assistant") == 0;
}

static lt_status mark(bool *answers, const talk *t, bool *target, lt_err *err) {
    const size_t n = json_array_size(t->messages);
    for (size_t i = 0; i < n; i++) {
        size_t begin, end;
        if (!is_answer(json_array_get(t->messages, i))) continue;
        LT_TRY(shared_ids(&begin, t, i, true, err));
        LT_TRY(shared_ids(&end, t, i + 1, false, err));
        for (size_t k = begin; k < end; k++) target[k] = *answers = true;
    }
    return LT_OK;
}

static lt_status add_marked(lt_ids *out, const talk *t, const char *name, lt_err *err) {
    bool answers = false, *target = lt_calloc(t->whole->n + 1, sizeof *target);
    if (!target) return lt_fail(err, LT_ENOMEM, "no memory for messages");
    lt_status st = mark(&answers, t, target, err);
    if (st == LT_OK && !answers)
        st = lt_fail(err, LT_EDATA, "messages without an assistant's answer: nothing to train on (%s)", name);
    for (size_t i = 0; st == LT_OK && i < t->whole->n; i++)
        if (!target[i]) t->whole->id[i] |= LT_NOT_A_TARGET;
    lt_free(target);
    return st == LT_OK ? lt_ids_add(out, t->whole->id, t->whole->n, err) : st;
}

lt_status lt_corpus_messages(lt_ids *out, const lt_corpus_in *in, const json_t *row, const char *name, lt_err *err) {
    const json_t *messages = json_object_get(row, "messages");
    lt_ids whole = { 0 };
    if (!json_is_array(messages)) return lt_fail(err, LT_EDATA, "\"messages\" is not a list (%s)", name);
    if (!in->chat)
        return lt_fail(err, LT_EDATA, "\"messages\" need a chat template: %s (%s)",
                       in->why_no_chat ? in->why_no_chat : "the model has none", name);
    LT_TRY(lt_chat_encode(in->chat, in->tok, row, false, &whole.id, &whole.n, err));
    const talk t = { .in = in, .row = row, .messages = messages, .whole = &whole };
    const lt_status st = add_marked(out, &t, name, err);
    lt_free(whole.id);
    return st;
}
