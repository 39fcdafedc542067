/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/sink.h - where text that a verb makes goes: a file (whole or not there), the caller's emit, or "text" of the
 * result. */
#ifndef LT_PIPELINE_SINK_H
#define LT_PIPELINE_SINK_H

#include "io/file.h"
#include "pipeline/command.h"

typedef struct lt_sink {
    const lt_call_ctx *c;
    lt_writer *writer; /* NULL: no file */
    char *buf;
    size_t used, cap;
} lt_sink;
/* path NULL or "-": no file */
lt_status lt_sink_open(lt_sink *s, const lt_call_ctx *c, const char *path, lt_err *err);
lt_status lt_sink_write(lt_sink *s, const char *text, size_t bytes, lt_err *err);
void lt_sink_flush(lt_sink *s); /* what is there goes to the caller's emit now */
/* Flushes; what nobody took becomes result["text"]. Frees in any case. */
lt_status lt_sink_finish(lt_sink *s, json_t *result, lt_err *err);
void lt_sink_abort(lt_sink *s); /* also after finish */

#endif
