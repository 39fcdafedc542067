/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/probe.h - what planning tries ranks on: the mean NLL of a changed model on a text. */
#ifndef LT_PIPELINE_PROBE_H
#define LT_PIPELINE_PROBE_H

#include "compress/method.h"
#include "pipeline/subject.h"

typedef struct lt_text_probe {
    lt_probe probe; /* give &probe away; valid while this is */
    const lt_call_ctx *c;
    lt_tokens tokens;
    char what[96];
} lt_text_probe;
/* From --probe-data, --probe-rows and --probe-len; not given: *given false, nothing is opened. */
lt_status lt_text_probe_open(lt_text_probe *out, bool *given, const lt_call_ctx *c, const lt_subject *s, lt_err *err);
void lt_text_probe_clear(lt_text_probe *p);

#endif
