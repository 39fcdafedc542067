/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/text_rows.h - what tokenize, detokenize and generate read: JSON lines, or plain text. */
#ifndef LT_PIPELINE_TEXT_ROWS_H
#define LT_PIPELINE_TEXT_ROWS_H

#include "pipeline/command.h"

typedef struct lt_text_rows {
    char *text; /* all of it, owned */
    size_t bytes, at, line;
    bool jsonl;
    const char *name;
} lt_text_rows;
/* path "-": standard input; gzip and zstd are undone. format: "jsonl", "text", or "auto": JSON lines when the first
 * line is a JSON object or array. */
lt_status lt_text_rows_open(lt_text_rows *r, const char *path, const char *format, lt_err *err);
void lt_text_rows_close(lt_text_rows *r);
/* Next line that is not blank, without its end; false: there is none. */
bool lt_text_rows_line(lt_text_rows *r, const char **line, size_t *bytes);
/* Next JSON line; *row NULL at the end; blank lines are passed over. */
lt_status lt_text_rows_next(lt_text_rows *r, json_t **row, lt_err *err);

#endif
