/* model/adapter.h - low-rank adapters on the linears of an opened model, read and written as PEFT folders.
 *
 *   y = x Wᵀ + s (drop(x) Aᵀ) Bᵀ,  s = alpha / r, or alpha / sqrt(r) with rslora (Kalajdzievski 2023)
 * Hu et al. 2021. An adapter sits on one stage: on a dense linear X, or on one factor of a factored one, called
 * X.ALinear and X.BLinear as transformers calls them there. File format: docs/formats/adapter.md.
 *
 * A set belongs to one model and changes nothing but the adapters of its stages (and what modules_to_save replaces);
 * destroying it restores the model. Whoever copies the model (an overlay) must be gone before the set. */
#ifndef LT_MODEL_ADAPTER_H
#define LT_MODEL_ADAPTER_H

#include "linalg/team.h"
#include "model/model.h"

typedef struct lt_adapters lt_adapters;

typedef struct lt_lora_opts {
    size_t rank;
    double alpha;
    double dropout; /* of the adapter's input in training; [0, 1) */
    bool rslora;
} lt_lora_opts;
/* Which factors of a factored linear a target that names the linear stands for. */
typedef enum lt_lora_factors { LT_LORA_BOTH, LT_LORA_A, LT_LORA_B } lt_lora_factors;

/* No adapters yet. */
lt_status lt_adapters_create(lt_adapters **out, lt_model *m, lt_err *err);
/* A PEFT folder (adapter_config.json, adapter_model.safetensors), or an output folder that holds adapter/. All of it
 * must fit the model: LT_EDATA names the module and both shapes. What is not LoRA on linears is LT_EUNSUPPORTED naming
 * the field. A later failure leaves the model as it was. */
lt_status lt_adapters_open(lt_adapters **out, lt_model *m, const char *folder, lt_err *err);
void lt_adapters_destroy(lt_adapters *a);             /* NULL is fine */
const char *lt_adapters_folder(const lt_adapters *a); /* that holds its files; NULL: not read from one */
/* SHA-256 over both files. */
lt_status lt_adapters_hash(const lt_adapters *a, char hex[LT_HASH_HEX], lt_err *err);

/* Fresh adapters: A uniform in +-1/sqrt(in), B zero, f32; the model's outputs do not change. targets: "all" (every
 * linear but the head), or names with commas; a name is a module or its end after a dot ("q_proj", "mlp.up_proj",
 * "q_proj.BLinear", "lm_head"). A name that no module answers to is LT_EUSAGE; a stage that has one already is passed
 * over. *added (may be NULL): how many. */
lt_status lt_adapters_add(lt_adapters *a, const char *targets, lt_lora_factors factors, const lt_lora_opts *opts,
                          uint64_t seed, size_t *added, lt_err *err);

/* In the order of the model's modules: A and B of each. NULL past the end. Tensors are dense f32 in memory of the set:
 * an optimiser may write there (lt_host, const cast away). */
typedef struct lt_adapter_info {
    const char *module; /* of the stage: "model.layers.0.self_attn.q_proj" or "....q_proj.ALinear" */
    lt_adapter *adapter;
} lt_adapter_info;
bool lt_adapters_at(const lt_adapters *a, size_t i, lt_adapter_info *out);
lt_param *lt_adapters_param(const lt_adapters *a, size_t i); /* "<module>.lora_A.weight", then "...lora_B.weight" */
size_t lt_adapters_n_params(const lt_adapters *a);           /* elements */
/* Gives every A and B a zeroed gradient (freed with the set). */
lt_status lt_adapters_make_trainable(lt_adapters *a, lt_err *err);
void lt_adapters_zero_grads(lt_adapters *a);
/* From now on recorded forwards use dropout: the masks of the next one and its backward. step: a number that no other
 * micro-batch of the run has. */
void lt_adapters_set_masks(lt_adapters *a, uint64_t seed, uint32_t step);

/* adapter_config.json and adapter_model.safetensors into folder (made when missing; each file is whole or not there).
 * base: for base_model_name_or_path; NULL: as read. */
lt_status lt_adapters_save(const lt_adapters *a, const char *folder, const char *base, lt_err *err);

/* Adds every adapter to its weight (f64 sums, rounded once to dtype; LT_N_DTYPES: as stored, block types as bf16) in
 * memory of the set, so that whoever reads weights sees them; the stages then have no adapters. A tied head with an
 * adapter, or one that modules_to_save parted from its table, is LT_EUNSUPPORTED. */
lt_status lt_adapters_merge(lt_adapters *a, lt_dtype dtype, lt_team *team, lt_err *err);
/* Merged weights beyond so many bytes lie in nameless files in folder (model/spill.h). Without it all are in memory. */
lt_status lt_adapters_spill(lt_adapters *a, size_t limit, const char *folder, lt_err *err);
/* What merge would refuse, before there is anything to merge. */
lt_status lt_adapters_check_merge(const lt_adapters *a, lt_err *err);
size_t lt_adapters_merge_bytes(const lt_adapters *a, lt_dtype dtype); /* memory that takes */

#endif
