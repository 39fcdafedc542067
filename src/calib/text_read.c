/* SPDX-License-Identifier: Apache-2.0 */
/* A whole file as text, compressed or not. */
#include "calib/text_stream.h"
#include "calib/tokens.h"

enum { FIRST = 1 << 20 };

static lt_status read_all(char **text, size_t *used, lt_text_stream *s, const char *path, lt_err *err) {
    size_t cap = 0, n = 1;
    while (n > 0) {
        if (cap - *used < 2) { /* one byte stays for the NUL */
            cap = cap ? 2 * cap : FIRST;
            char *more = lt_realloc(*text, cap);
            if (!more) return lt_fail(err, LT_ENOMEM, "no memory for %zu bytes of text (%s)", cap, path);
            *text = more;
        }
        LT_TRY(lt_text_stream_read(s, *text + *used, cap - *used - 1, &n, err));
        *used += n;
    }
    (*text)[*used] = 0;
    return LT_OK;
}

lt_status lt_text_read(char **text, size_t *bytes, const char *path, lt_err *err) {
    lt_text_stream *s;
    char *made = NULL;
    size_t used = 0;
    LT_TRY(lt_text_stream_open(&s, path, err));
    const lt_status st = read_all(&made, &used, s, path, err);
    lt_text_stream_close(s);
    if (st != LT_OK) return lt_free(made), st;
    *text = made;
    *bytes = used;
    return LT_OK;
}
