/* SPDX-License-Identifier: Apache-2.0 */
/* What the tokenizer tests share: golden folders and lines of JSON. */
#ifndef TOK_TEST_H
#define TOK_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/file.h"
#include "io/gguf.h"
#include "io/json.h"
#include "tokenizer/tokenizer.h"

#define GOLDEN LT_SHARED_DIR "/golden/tokenizer/"

static inline bool have(const char *path) {
    if (lt_path_exists(path)) return true;
    printf("skipped: no %s\n", path);
    return false;
}

/* Calls f for each line of a JSON-lines file. */
static inline void each_line(const char *path, void (*f)(const json_t *line, size_t number, void *user), void *user) {
    char *text;
    size_t bytes;
    lt_err err = { 0 };
    if (lt_file_read(&text, &bytes, path, 0, &err) != LT_OK) fail_msg("%s", err.message);
    size_t number = 0;
    for (char *p = text, *end; p < text + bytes; p = end + 1) {
        json_t *line = NULL;
        end = memchr(p, '\n', (size_t)(text + bytes - p));
        if (!end) end = text + bytes;
        if (lt_json_parse(&line, p, (size_t)(end - p), path, &err) != LT_OK)
            fail_msg("line %zu: %s", number, err.message);
        f(line, ++number, user);
        json_decref(line);
    }
    lt_free(text);
}

static inline int32_t *ids_of(const json_t *list, size_t *n) {
    *n = json_array_size(list);
    int32_t *ids = lt_malloc((*n + 1) * sizeof *ids);
    for (size_t i = 0; i < *n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return ids;
}

static inline lt_tokenizer *open_folder(const char *path) {
    lt_tokenizer *t = NULL;
    lt_err err = { 0 };
    if (lt_tokenizer_open(&t, path, &err) != LT_OK) fail_msg("%s", err.message);
    return t;
}

static inline lt_tokenizer *open_gguf(const char *path) {
    lt_tokenizer *t = NULL;
    lt_gguf *g = NULL;
    lt_err err = { 0 };
    if (lt_gguf_open(&g, path, &err) != LT_OK || lt_tokenizer_from_gguf(&t, g, &err) != LT_OK)
        fail_msg("%s", err.message);
    lt_gguf_close(g);
    return t;
}

#endif
