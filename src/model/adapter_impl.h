/* model/adapter_impl.h - inside of an adapter set, for adapter.c, adapter_peft.c and adapter_merge.c; and the settings
 * of adapter_config.json, for them and the fuzzer. */
#ifndef LT_MODEL_ADAPTER_IMPL_H
#define LT_MODEL_ADAPTER_IMPL_H

#include "io/json.h"
#include "io/safetensors.h"
#include "model/adapter.h"
#include "model/spill.h"

/* ---- adapter_config.json ---- */

typedef struct lt_lora_pattern lt_lora_pattern;
typedef struct lt_lora_config {
    json_t *raw; /* owned */
    char *where;
    size_t rank;
    double alpha, dropout;
    bool rslora;
    lt_lora_pattern *targets, *exclude, *save, *ranks, *alphas; /* NULL: not given */
    const json_t *layers;                                       /* borrowed from raw; NULL: all */
    lt_lora_pattern *layers_at;                                 /* pattern that ends in the layer's number */
    bool all_linear;
} lt_lora_config;
lt_status lt_lora_config_parse(lt_lora_config *out, const char *text, size_t bytes, const char *where, lt_err *err);
void lt_lora_config_clear(lt_lora_config *c);
/* Does target_modules (and what narrows it) name this module? head: the output head, which "all-linear" leaves out. */
lt_status lt_lora_config_targets(bool *yes, const lt_lora_config *c, const char *module, bool head, lt_err *err);
/* Options of a module: r, alpha and dropout after rank_pattern and alpha_pattern. */
lt_status lt_lora_config_opts(lt_lora_opts *out, const lt_lora_config *c, const char *module, lt_err *err);
static inline double lt_lora_scale(const lt_lora_opts *o) {
    return o->alpha / (o->rslora ? __builtin_sqrt((double)o->rank) : (double)o->rank);
}

/* ---- the set ---- */

typedef struct lt_adapter_entry {
    char *module, *name_a, *name_b;
    lt_stage *stage;
    bool head;
    lt_lora_opts opts;
    lt_adapter adapter; /* what the stage points at */
    lt_buffer a, b;
} lt_adapter_entry; /* each in memory of its own: it never moves */

/* A parameter of the model that the set has put another one in the place of. */
typedef struct lt_adapter_swap {
    lt_param *place, before;
    lt_buffer buffer; /* of the new one, by lt_spill_take; data NULL: it borrows from the file */
    char *name;       /* as in the adapter's file; NULL: a merged weight */
    bool head;        /* it is the output head or the table that a tied head shares */
} lt_adapter_swap;

struct lt_adapters {
    lt_model *m;
    bool was_changed; /* m->changed before */
    lt_adapter_entry **entry;
    size_t n, cap;
    lt_adapter_swap **swap;
    size_t n_swaps, cap_swaps;
    lt_spill spill;        /* room of merged weights */
    lt_lora_config config; /* raw NULL: not read from a folder */
    lt_safetensors *file;
    char *folder;
};

/* Stages of a model by the names that PEFT uses: iterate i from 0. */
typedef struct lt_adapter_place {
    char module[256];
    const char *linear; /* its linear's name */
    lt_stage *stage;
    int factor; /* 'A', 'B'; 0: dense */
    bool head;
} lt_adapter_place;
bool lt_adapter_place_at(lt_model *m, size_t i, lt_adapter_place *out);
/* Is name [n] the module's, or its end after a dot? */
bool lt_adapter_named(const char *module, const char *name, size_t n);

/* A new adapter with zeroed A [rank, in] and B [out, rank], in the place's stage. LT_EDATA: it has one. */
lt_status lt_adapters_put(lt_adapters *a, const lt_adapter_place *p, const lt_lora_opts *opts, lt_adapter_entry **out,
                          lt_err *err);
/* Takes s->buffer and s->name whatever happens; keeps what is there now and puts fresh in its place. */
lt_status lt_adapters_swap(lt_adapters *a, lt_adapter_swap *s, const lt_param *fresh, lt_err *err);

#endif
