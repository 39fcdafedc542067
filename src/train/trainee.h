/* SPDX-License-Identifier: Apache-2.0 */
/* train/trainee.h - a model of which some parameters train: a copy of the structs of a read-only model, f32 values of
 * its own for what trains, LoRA adapters beside frozen matrices.
 *
 * What trains: the preset's parameters and adapters, less what --freeze matches, and only what --train-only matches.
 * LoRA is model/adapter.h; its tensors come last, in the order of the modules. */
#ifndef LT_TRAIN_TRAINEE_H
#define LT_TRAIN_TRAINEE_H

#include "model/adapter.h"
#include "train/optim.h"

typedef enum lt_train_base { LT_TRAIN_NONE, LT_TRAIN_NORMS_HEAD, LT_TRAIN_ALL } lt_train_base;
typedef enum lt_decay_what { LT_DECAY_MATRICES, LT_DECAY_ALL } lt_decay_what;
typedef struct lt_train_lora {
    lt_lora_opts opts;
    lt_lora_factors factors;
    const char *targets; /* as lt_adapters_add */
    uint64_t seed;
    const char *from; /* go on with the adapters of this PEFT folder instead; NULL: fresh ones */
} lt_train_lora;
typedef struct lt_trainee_opts {
    lt_train_base base;
    lt_decay_what decay;
    const lt_train_lora *lora;               /* NULL: no adapters */
    const char *const *freeze, *const *only; /* NULL or NULL-terminated extended regular expressions on names */
} lt_trainee_opts;

typedef struct lt_trainee {
    lt_model model;        /* run it */
    size_t n;              /* tensors that train, in a fixed order: the model's, then adapters by module */
    lt_param **param;      /* [n] names and shapes */
    lt_slice *slice;       /* [n] the same, flat */
    lt_adapters *adapters; /* NULL: none */
    size_t n_values;       /* of all */
    struct lt_trainee_own *own;
} lt_trainee;
/* base must outlive it. LT_EUSAGE: nothing trains, a target matches nothing, a pattern is no pattern. */
lt_status lt_trainee_create(lt_trainee **out, const lt_model *base, const lt_trainee_opts *o, lt_err *err);
void lt_trainee_destroy(lt_trainee *t);
/* W + s B A takes the place of W, rounded once to dtype (LT_N_DTYPES: as stored); nothing trains afterwards. */
lt_status lt_trainee_merge(lt_trainee *t, lt_dtype dtype, lt_team *team, lt_err *err);
/* After a merge, when what came of it is written: adapters and merged weights go. Of t only the numbers are left. */
void lt_trainee_let_go(lt_trainee *t);
/* Gradients are zeros. As many bytes as this give their memory back until they are written again: those of the first
 * layers, which are written when the values that a forward kept for the layers above are gone. */
void lt_trainee_rest(lt_trainee *t, size_t bytes);
/* Memory that lt_trainee_create takes for values, gradients and optimiser state. */
size_t lt_trainee_bytes(const lt_trainee *t);

#endif
