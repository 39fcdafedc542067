/* model/save.h - a model (base or overlay) as a Hugging Face folder: config.json, model.safetensors or shards,
 * generation_config.json, licence; or as a GGUF file.
 *
 * Written to PATH.tmp-* first, renamed when whole. Tokenizer files and lathe.json are the pipeline's. */
#ifndef LT_MODEL_SAVE_H
#define LT_MODEL_SAVE_H

#include "io/gguf_writer.h"
#include "model/model.h"

/* How factored linears are stored (spec utilized-rank §6.2). */
typedef enum lt_save_form { LT_FORM_ABLINEAR, LT_FORM_AB, LT_FORM_DENSE } lt_save_form;
typedef struct lt_save_opts {
    lt_save_form form;
    lt_dtype dtype;     /* of the written weights; LT_N_DTYPES: as stored (block types become bf16, said in the log) */
    size_t shard_bytes; /* 0: 5 GB; one shard is model.safetensors */
    const char *method; /* for low_rank_method; NULL: "" */
    const char *name;   /* general.name of a GGUF; NULL: none */
} lt_save_opts;
/* folder must not exist. LT_FORM_DENSE multiplies A·B in f64. Factored: model_type and architectures of the family's
 * lowrank names, low_rank_* and truncation_ranks fields. Streams: never more than one tensor in memory beside the maps.
 */
lt_status lt_model_save(const lt_model *m, const char *folder, const lt_save_opts *opts, const lt_ctx *ctx,
                        lt_err *err);

/* Keys that are not the model's own: the tokenizer's. */
typedef struct lt_gguf_more {
    lt_status (*put)(void *self, lt_gguf_writer *w, lt_err *err);
    void *self;
} lt_gguf_more;
/* One GGUF file for llama.cpp, streamed and renamed when whole (docs/formats/gguf.md); products of factors are
 * multiplied out, opts->form is not looked at. dtype LT_N_DTYPES: as stored; else f32, f16, bf16, q8_0 or q4_0 for
 * matrices, f16 where rows are no whole blocks; vectors are f32. LT_EUNSUPPORTED: a family without gguf_arch, layers
 * that differ. */
lt_status lt_model_save_gguf(const lt_model *m, const char *path, const lt_save_opts *opts, const lt_gguf_more *more,
                             const lt_ctx *ctx, lt_err *err);
/* Positions that such a file promises: no more than a window that all layers have. llama.cpp slides only where the
 * architecture alternates, and would see too much beyond it. Our reader takes the window from its key. */
size_t lt_gguf_positions(const lt_config *c);

#endif
