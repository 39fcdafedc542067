/* SPDX-License-Identifier: Apache-2.0 */
#include "core/core.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

size_t lt_utf8_step(const char *p, size_t n) {
    static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
    const unsigned char *u = (const unsigned char *)p;
    if (n == 0) return 0;
    const unsigned first = u[0];
    const size_t more = first < 0x80   ? 0
                        : first < 0xc0 ? 4
                        : first < 0xe0 ? 1
                        : first < 0xf0 ? 2
                        : first < 0xf8 ? 3
                                       : 4;
    if (more == 4 || more >= n) return 0;
    uint32_t rune = more ? first & 0x3fu >> more : first;
    for (size_t k = 1; k <= more; k++) {
        if ((u[k] & 0xc0) != 0x80) return 0;
        rune = rune << 6 | (u[k] & 0x3fu);
    }
    return rune < least[more] || rune > 0x10ffff || (rune >= 0xd800 && rune <= 0xdfff) ? 0 : more + 1;
}

/* Names in hostile files may carry anything, and a full buffer may end inside a character. */
static void tidy(char *text) {
    for (size_t i = 0, n = strlen(text), step; i < n; i += step) {
        step = lt_utf8_step(text + i, n - i);
        const bool control = (unsigned char)text[i] < 0x20 || text[i] == 0x7f;
        if (step != 0 && !control) continue;
        text[i] = '?';
        step = 1;
    }
}

void lt_set_err(lt_err *err, lt_status code, const char *format, ...) {
    if (!err || err->code != LT_OK) return;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    tidy(err->message);
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
    tidy(err->message);
}
