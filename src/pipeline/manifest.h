/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/manifest.h - what stands beside the weights of a model that lathe wrote: where it comes from (lathe.json,
 * README.md) and the parent's tokenizer, generation settings and licences (docs/formats/model.md). The same bytes for
 * the same call: no dates, hosts, paths or thread counts. */
#ifndef LT_PIPELINE_MANIFEST_H
#define LT_PIPELINE_MANIFEST_H

#include "compress/plan.h"
#include "pipeline/command.h"
#include "tokenizer/tokenizer.h"

#define LT_MANIFEST_NAME "lathe.json"
typedef struct lt_lineage {
    const lt_call_ctx *c;
    const json_t *settings; /* of the call (outdir.h) */
    const lt_model *parent;
    const char *parent_hash;
    const lt_tokenizer *tokenizer; /* of the parent; NULL: none */
    const lt_plan *plan;           /* NULL: nothing was cut */
    const char *plan_hash;         /* SHA-256 of plan.json */
    const lt_stats *stats;         /* NULL: none were needed */
    const json_t *training;        /* what was trained and how; NULL: nothing was */
    const char *form;              /* "ablinear" */
    json_t *adapter;               /* that was merged into the parent (subject.h); NULL: none */
} lt_lineage;
/* "SmolLM2-135M" of a folder, a GGUF or an output folder's model/; lt_free, NULL: out of memory. */
char *lt_model_id(const lt_model *m);

/* The parent's tokenizer files, generation settings and licences, byte for byte; a GGUF's tokenizer is written as
 * tokenizer.json. */
lt_status lt_companions_copy(const lt_lineage *l, const char *folder, lt_err *err);
/* Where the lathe.json of an opened model stands: in its folder, beside a model.gguf; NULL: of another GGUF there is
 * none (or out of memory). lt_free. */
char *lt_manifest_path(const lt_model *m);
/* lathe.json of the model in folder, opened as made. */
lt_status lt_manifest_write(const lt_lineage *l, const lt_model *made, const char *made_hash, const char *folder,
                            lt_err *err);
/* README.md; measured: rows [[what, parent, this model], ...] of a result table, NULL: none. */
lt_status lt_card_write(const lt_lineage *l, const lt_model *made, const json_t *measured, const char *folder,
                        lt_err *err);

#endif
