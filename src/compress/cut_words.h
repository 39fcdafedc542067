/* SPDX-License-Identifier: Apache-2.0 */
/* compress/cut_words.h - what kinds of cuts read alike from their JSON; private to the room. */
#ifndef LT_COMPRESS_CUT_WORDS_H
#define LT_COMPRESS_CUT_WORDS_H

#include "io/json.h"

/* LT_EDATA naming the first member that is not in known [n]. */
lt_status lt_cut_check_members(const json_t *cut, const char *const *known, size_t n, lt_err *err);

/* How a module is fitted to the inputs of the changed model (drift.h), as a cut says it. */
typedef struct lt_cut_drift {
    bool on, residual, block; /* residual: and to what the residual stream has lost; block: pass "block" */
    double ridge;
} lt_cut_drift;
/* From `member`, "drift", "residual" or the word for none of it; "pass"; "ridge". */
lt_status lt_cut_read_drift(lt_cut_drift *out, const json_t *cut, const char *member, const char *none, lt_err *err);

#endif
