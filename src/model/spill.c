/* SPDX-License-Identifier: Apache-2.0 */
#include "model/spill.h"

#include "io/file.h"

enum { LEAST = 64 << 10 }; /* what is smaller is not worth a file */

lt_status lt_spill_begin(lt_spill *s, size_t limit, const char *folder, lt_err *err) {
    char *copy = lt_strdup(folder);
    if (!copy) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", folder);
    lt_free(s->folder);
    s->folder = copy;
    s->limit = limit;
    return LT_OK;
}

size_t lt_spill_limit(const lt_ctx *ctx) {
    return ctx->max_memory ? ctx->max_memory / 4 : SIZE_MAX;
}

void lt_spill_clear(lt_spill *s) {
    lt_free(s->folder);
    s->folder = NULL;
}

lt_status lt_spill_take(lt_buffer *out, lt_spill *s, size_t bytes, const char *name, lt_err *err) {
    if (s->folder && bytes >= LEAST && s->held + bytes > s->limit)
        return lt_context(err, lt_map_spill(out, bytes, s->folder, err), "%s", name);
    *out = (lt_buffer){ .data = lt_malloc(lt_max_size(1, bytes)), .bytes = bytes };
    if (!out->data) return lt_fail(err, LT_ENOMEM, "out of memory (%s: %zu bytes)", name, bytes);
    s->held += bytes;
    return LT_OK;
}

void lt_spill_give(lt_buffer *b) {
    if (b->mapped)
        lt_map_close(b);
    else
        lt_free(b->data);
    *b = (lt_buffer){ 0 };
}
