/* model/model.h - a model opened from a folder, a GGUF or an output folder; read-only, parsed lazily, run through
 * lt_exec.
 *
 * Names are Hugging Face module names whatever the container. Opening parses headers only; no weight is converted or
 * read. */
#ifndef LT_MODEL_MODEL_H
#define LT_MODEL_MODEL_H

#include "core/hash.h"
#include "model/family.h"

typedef struct lt_layer {
    lt_linear linear[LT_N_LINEAR_SLOTS];
    lt_norm_params norm[LT_N_NORM_SLOTS]; /* index: slot - LT_N_LINEAR_SLOTS; w.name NULL: absent */
} lt_layer;

typedef struct lt_model {
    const lt_family *family;
    lt_config config;
    lt_param embed, positions;         /* positions.name NULL: none are learned */
    lt_linear project_in, project_out; /* between the table's width and d_model; absent but for OPT-350m */
    lt_norm_params final_norm;
    lt_linear head;  /* tied: its stage is the embedding table (same buffer, same name) */
    lt_layer *layer; /* [config.n_layers] */
    double *inv_freq[LT_MAX_ROPES];
    char *path;                 /* what was opened: the folder with config.json, or the .gguf file */
    struct lt_weights *weights; /* maps and names; owned by the base model */
    bool changed;               /* an overlay's model: not what path holds */
} lt_model;

/* path: HF folder (single, sharded; dense or factored in any form of spec utilized-rank §6.2), .gguf file, or an output
 * folder DIR holding model/ or model.gguf. Missing, extra or misshapen tensors: LT_EDATA naming file, tensor and both
 * shapes. rotary inv_freq buffers and other known non-parameters are the only tensors that may be left over. */
lt_status lt_model_open(lt_model **out, const char *path, lt_err *err);
/* The config of a folder alone: no tensors are asked for, and nothing can be run. */
lt_status lt_model_open_config(lt_model **out, const char *folder, lt_err *err);
void lt_model_destroy(lt_model *m);
bool lt_model_is_gguf(const lt_model *m);
const lt_gguf *lt_model_gguf(const lt_model *m); /* NULL for folders */

/* Digest over canonical config and per tensor (name, dtype, shape, bytes), for factored models too, and over adapters
 * where there are any. Cached by path,
 * size, mtime under $XDG_CACHE_HOME/lathe (or ~/.cache/lathe); an unusable cache is not an error. Reads every byte
 * once; parallel by tensor. */
lt_status lt_model_hash(const lt_model *m, int threads, char hex[LT_HASH_HEX], lt_err *err);

/* Every linear of the layers and (index n) the head: iterate i from 0; NULL past the end. */
typedef struct lt_module {
    const lt_linear *linear;
    int layer;
    lt_slot slot;
    const lt_map_row *row;
} lt_module;
bool lt_model_module(const lt_model *m, size_t i, lt_module *out);
/* By name. "<module>#<part>" is a part of a fused matrix, as a view; also where the parts are stored apart, as
 * "<module>.<part>". */
bool lt_model_find_module(const lt_model *m, const char *name, lt_module *out);
/* Part i of a fused linear (q, k, v; gate, up), a view named "<module>#<part>"; false past the last, and where the
 * linear is not fused, or factored as a whole. */
bool lt_module_part(const lt_module *fused, size_t i, lt_module *out);
/* A part that is stored apart from its siblings: "<module>.<part>". */
bool lt_module_is_apart(const lt_module *m);
/* Is that what name means? Its own name, or the address "<module>#<part>" of a part that is stored apart. */
bool lt_module_is(const lt_module *m, const char *name);
/* May it have a bias in a dense model of the family? */
bool lt_module_may_have_bias(const lt_module *m);
/* The linear of a slot: the model's own, or a view of the fused matrix that has it; NULL: neither. */
const lt_linear *lt_model_slot(const lt_model *m, size_t layer, lt_slot slot);
/* What stands in m where `of` stands in its own model, whole or as a view; NULL: nothing does. */
const lt_linear *lt_model_counterpart(const lt_model *m, const lt_module *of);
/* Every linear: those, then the projections beside the table. */
bool lt_model_linear(const lt_model *m, size_t i, const lt_linear **out);
const char *lt_model_adapted(const lt_model *m); /* a linear with adapters (model/adapter.h); NULL: none has any */
/* Every stored parameter once (tied head not repeated): iterate i from 0. */
typedef struct lt_param_info {
    const lt_param *param;
    int layer;
    lt_slot slot;
    bool is_linear;
} lt_param_info;
bool lt_model_param(const lt_model *m, size_t i, lt_param_info *out);
size_t lt_model_n_params(const lt_model *m);        /* elements, tied table once */
size_t lt_model_n_linear_params(const lt_model *m); /* weights (no biases) of the linears in layers, as stored */
size_t lt_model_bytes(const lt_model *m);           /* of the stored tensors */
size_t lt_layer_bytes(const lt_model *m, size_t layer);
void lt_layer_drop(const lt_model *m, size_t layer); /* lt_tensor_drop on every weight of the layer */
/* Checks every weight of a layer (or -1: the rest) for NaN and Inf: LT_EDATA naming the tensor and index. */
lt_status lt_model_check_finite(const lt_model *m, int layer, lt_err *err);

/* Gives every stored parameter a zeroed gradient (freed with the model), so that LT_RECORD runs train all of them; a
 * tied head shares its table's. lt_model_zero_grads clears them again. */
lt_status lt_model_make_trainable(lt_model *m, lt_err *err);
void lt_model_zero_grads(lt_model *m);

/* ---- running: the batch is in x (lt_exec_begin) ---- */
lt_var lt_model_embed(lt_exec *x, const lt_model *m);                         /* [n, d_model] */
lt_var lt_model_layer(lt_exec *x, const lt_model *m, size_t layer, lt_var h); /* one lt_block, with taps */
lt_var lt_model_final(lt_exec *x, const lt_model *m, lt_var h);               /* final norm, projection; [n, d_embed] */
lt_var lt_model_logits(lt_exec *x, const lt_model *m, lt_var final);
lt_var lt_model_nll(lt_exec *x, const lt_model *m, lt_var final, const int32_t *target, int32_t *argmax);
/* all layers and the final norm */
lt_var lt_model_hidden(lt_exec *x, const lt_model *m);
/* bytes of exec values needed for n rows (LT_INFER), for memory prediction */
size_t lt_model_exec_bytes(const lt_model *m, size_t n_rows);
/* FLOPs of a forward over a batch: linears (as stored), attention over the visible pairs, head for n_head_rows rows */
double lt_model_flops(const lt_model *m, const lt_batch *b, size_t n_head_rows);

#endif
