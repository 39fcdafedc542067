/* model/save.h - a model (base or overlay) as a Hugging Face folder: config.json, model.safetensors or shards,
 * generation_config.json, licence.
 *
 * Written to PATH.tmp-* first, renamed when whole. Tokenizer files and lathe.json are the pipeline's. */
#ifndef LT_MODEL_SAVE_H
#define LT_MODEL_SAVE_H

#include "model/model.h"

/* How factored linears are stored (spec utilized-rank §6.2). */
typedef enum lt_save_form { LT_FORM_ABLINEAR, LT_FORM_AB, LT_FORM_DENSE } lt_save_form;
typedef struct lt_save_opts {
    lt_save_form form;
    lt_dtype dtype;     /* of the written weights; LT_N_DTYPES: as stored (block types become bf16, said in the log) */
    size_t shard_bytes; /* 0: 5 GB; one shard is model.safetensors */
    const char *method; /* for low_rank_method; NULL: "" */
} lt_save_opts;
/* folder must not exist. LT_FORM_DENSE multiplies A·B in f64. Factored: model_type and architectures of the family's
 * lowrank names, low_rank_* and truncation_ranks fields. Streams: never more than one tensor in memory beside the maps.
 */
lt_status lt_model_save(const lt_model *m, const char *folder, const lt_save_opts *opts, const lt_ctx *ctx,
                        lt_err *err);

#endif
