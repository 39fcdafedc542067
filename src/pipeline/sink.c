/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/sink.h"

#include <string.h>

enum { EMIT_BYTES = 1 << 16 };

lt_status lt_sink_open(lt_sink *s, const lt_call_ctx *c, const char *path, lt_err *err) {
    *s = (lt_sink){ .c = c };
    return path && strcmp(path, "-") != 0 ? lt_writer_create(&s->writer, path, err) : LT_OK;
}

static void emit(lt_sink *s) {
    if (s->used) s->c->ctx->emit(s->c->ctx->user, s->buf, s->used);
    s->used = 0;
}

lt_status lt_sink_write(lt_sink *s, const char *text, size_t bytes, lt_err *err) {
    if (s->writer) return lt_writer_write(s->writer, text, bytes, err);
    size_t need;
    if (!lt_add_size(s->used, bytes, &need)) return lt_fail(err, LT_ENOMEM, "%s: the output is too long", s->c->verb);
    if (need > s->cap) {
        const size_t cap = need + need / 2;
        char *grown = lt_realloc(s->buf, cap);
        if (!grown) return lt_fail(err, LT_ENOMEM, "%s: %zu bytes of output", s->c->verb, cap);
        s->buf = grown;
        s->cap = cap;
    }
    memcpy(s->buf + s->used, text, bytes);
    s->used = need;
    if (s->c->ctx->emit && s->used >= EMIT_BYTES) emit(s);
    return LT_OK;
}

void lt_sink_flush(lt_sink *s) {
    if (!s->writer && s->c->ctx->emit) emit(s);
}

lt_status lt_sink_finish(lt_sink *s, json_t *result, lt_err *err) {
    lt_status st = LT_OK;
    if (s->writer) {
        lt_writer *w = s->writer;
        s->writer = NULL;
        st = lt_writer_commit(w, err);
    } else if (s->c->ctx->emit)
        emit(s);
    else if (json_object_set_new(result, "text", json_stringn(s->buf ? s->buf : "", s->used)) != 0)
        st = lt_fail(err, LT_EDATA, "%s: the output is not UTF-8 text", s->c->verb);
    lt_sink_abort(s);
    return st;
}

void lt_sink_abort(lt_sink *s) {
    if (s->writer) lt_writer_abort(s->writer);
    lt_free(s->buf);
    s->writer = NULL;
    s->buf = NULL;
    s->used = s->cap = 0;
}
