/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "chat/chat.h"
#include "core/core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char row_text[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \" Be nice. \"}, {\"role\": \"user\", "
    "\"content\": \"Hi \xC3\xA9\\n\"}, {\"role\": \"assistant\", \"content\": null, "
    "\"calls\": [{\"a\": 1.5, \"b\": [true, -3]}]}], \"tools\": [{\"name\": \"f\"}]}";

static void check_error(lt_status st, const lt_err *err) {
    if (st != LT_OK && (err->code != st || err->message[0] == 0 || strchr(err->message, '\n'))) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    lt_chat *chat = NULL;
    json_t *row = NULL;
    char *text = NULL;
    size_t n = 0;
    lt_status st = lt_chat_from_text(&chat, (const char *)data, bytes, "fuzz", NULL, &err);
    check_error(st, &err);
    if (st != LT_OK) return 0;
    if (lt_json_parse(&row, row_text, sizeof row_text - 1, "row", NULL) != LT_OK) abort();
    st = lt_chat_render(chat, row, true, &text, &n, &err);
    check_error(st, &err);
    for (size_t at = 0, step; st == LT_OK && at < n; at += step) /* what goes in as UTF-8 comes out as UTF-8 */
        if ((step = lt_utf8_step(text + at, n - at)) == 0) abort();
    lt_free(text);
    json_decref(row);
    lt_chat_destroy(chat);
    return 0;
}
