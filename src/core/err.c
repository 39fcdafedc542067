/* SPDX-License-Identifier: Apache-2.0 */
#include "core/core.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One line that any terminal and any JSON text can hold: names in hostile files may carry control bytes, and a
 * message that fills the buffer may end inside a UTF-8 sequence. */
static void tidy(char *text, size_t cap) {
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    size_t n = strlen(text);
    if (n + 1 < cap) return;
    while (n > 0 && ((unsigned char)text[n - 1] & 0xc0) == 0x80) n--;
    if (n > 0 && (unsigned char)text[n - 1] >= 0xc0) n--;
    text[n] = 0;
}

void lt_set_err(lt_err *err, lt_status code, const char *format, ...) {
    if (!err || err->code != LT_OK) return;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    tidy(err->message, sizeof err->message);
    err->code = code;
}

void lt_add_context(lt_err *err, const char *format, ...) {
    if (!err || err->code == LT_OK) return;
    char head[sizeof err->message], whole[sizeof err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(head, sizeof head, format, args);
    va_end(args);
    size_t used = lt_min_size(strlen(head), sizeof whole - 3);
    memcpy(whole, head, used);
    memcpy(whole + used, ": ", 3);
    used += 2;
    const size_t rest = lt_min_size(strlen(err->message), sizeof whole - 1 - used);
    memcpy(whole + used, err->message, rest);
    whole[used + rest] = 0;
    memcpy(err->message, whole, sizeof whole);
    tidy(err->message, sizeof err->message);
}
