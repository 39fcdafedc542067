/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/writing.h - one sequence as it is written: ids, their text, and where a stop string ends it.
 *
 * A stop string may lie across tokens, so the end of the text that could begin one is held back: what is settled stays.
 */
#ifndef LT_PIPELINE_WRITING_H
#define LT_PIPELINE_WRITING_H

#include "tokenizer/tokenizer.h"

typedef struct lt_stops {
    const char *const *text; /* [n], none empty */
    size_t n;
} lt_stops;

typedef struct lt_writing {
    const lt_tokenizer *tok; /* NULL: ids only */
    const lt_stops *stops;
    lt_decode_stream *stream;
    int32_t *ids;
    size_t n_ids, cap_ids;
    char *text; /* NUL-terminated, or NULL: nothing yet */
    size_t bytes, cap_text, settled;
    bool stopped; /* by a stop string, which is not in text */
} lt_writing;
/* What a token looks like may depend on those before it, so the prompt is told. Clear also after a failure. */
lt_status lt_writing_begin(lt_writing *w, const lt_tokenizer *tok, const lt_stops *stops, const int32_t *prompt,
                           size_t n_prompt, lt_err *err);
lt_status lt_writing_put(lt_writing *w, int32_t id, lt_err *err);
/* Nothing more comes: all of text is settled. */
void lt_writing_end(lt_writing *w);
void lt_writing_clear(lt_writing *w);

#endif
