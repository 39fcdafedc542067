/* SPDX-License-Identifier: Apache-2.0 */
/* One row of JSON lines to train on. The tokenizer knows bytes and an end of text, the chat template is a short one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/corpus_row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { BYTES = 256, EOS = 256 };
static const char template[] = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% if m['role'] == "
                               "'assistant' %}{{ eos_token }}{% endif %}{% endfor %}";

static lt_tokenizer *byte_tokenizer(void) {
    static char text[8192];
    size_t used =
        (size_t)snprintf(text, sizeof text, "%s",
                         "{\"added_tokens\": [{\"id\": 256, \"content\": \"<e>\", \"special\": true}], \"decoder\": "
                         "{\"type\": \"ByteFallback\"}, \"model\": {\"type\": \"BPE\", \"byte_fallback\": true, "
                         "\"merges\": [], \"vocab\": {");
    for (int i = 0; i < BYTES; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "\"<0x%02X>\": %d, ", (unsigned)i, i);
    used += (size_t)snprintf(text + used, sizeof text - used, "\"<e>\": %d}}}", EOS);
    lt_tokenizer *t = NULL;
    if (lt_tokenizer_from_json(&t, text, used, "bytes", NULL) != LT_OK) abort();
    return t;
}

static lt_chat *short_chat(void) {
    lt_chat *chat = NULL;
    json_t *tokens = json_pack("{s:s}", "eos_token", "<e>");
    if (lt_chat_from_text(&chat, template, sizeof template - 1, "template", tokens, NULL) != LT_OK) abort();
    json_decref(tokens);
    return chat;
}

/* What is taken has ids of the tokenizer, and a document that is not empty ends its text. */
static void check(const lt_ids *ids) {
    for (size_t i = 0; i < ids->n; i++)
        if (lt_plain_id(ids->id[i]) < 0 || lt_plain_id(ids->id[i]) > EOS) abort();
    if (ids->n > 0 && lt_plain_id(ids->id[ids->n - 1]) != EOS) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static lt_tokenizer *tok;
    static lt_chat *chat;
    json_t *row = NULL;
    lt_err err = { 0 };
    lt_ids ids = { 0 };
    if (!tok) tok = byte_tokenizer(), chat = short_chat();
    if (lt_json_parse(&row, (const char *)data, bytes, "fuzz", NULL) != LT_OK) return 0;
    const lt_corpus_in in = { .tok = tok, .chat = chat, .vocab_size = EOS + 1, .eos = EOS };
    const lt_status st = lt_corpus_row(&ids, &in, row, "fuzz", &err);
    if (st == LT_OK)
        check(&ids);
    else if (err.code != st || err.message[0] == 0 || strchr(err.message, '\n'))
        abort();
    lt_free(ids.id);
    lt_free(ids.end);
    json_decref(row);
    return 0;
}
