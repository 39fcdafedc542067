/* model/weights.h - name -> tensor over read-only maps, whatever the container; private to the model room.
 *
 * A folder gives model.safetensors, or the shards of model.safetensors.index.json, which must agree with the index;
 * where there is neither, pytorch_model.bin or its shards. A GGUF's tensors are renamed to Hugging Face names and q/k
 * rows are un-permuted by strided views: nothing is copied but permuted biases. */
#ifndef LT_MODEL_WEIGHTS_H
#define LT_MODEL_WEIGHTS_H

#include "io/safetensors.h"
#include "io/torch.h"
#include "model/family.h"

typedef struct lt_weight {
    const char *name, *file;
    const char *hf; /* GGUF: its Hugging Face name while the list is still sorted by the old ones */
    lt_tensor tensor;
    bool used; /* bound to a slot */
} lt_weight;
typedef struct lt_shard {
    lt_safetensors *st; /* one of the two */
    lt_torch *pt;
    const char *path;
} lt_shard;
typedef struct lt_weights {
    lt_shard *shard;
    size_t n_shards;
    lt_gguf *gguf;
    lt_weight *weight; /* [n_weights] sorted by name */
    size_t n_weights;
    lt_arena *arena; /* names and small owned tensors */
    void **owned;    /* what lives as long as the maps: gradients, copies; lt_free each */
    size_t n_owned;
} lt_weights;

lt_status lt_weights_open_folder(lt_weights **out, const char *folder, lt_err *err);
lt_status lt_weights_open_gguf(lt_weights **out, const char *path, lt_err *err);
void lt_weights_close(lt_weights *w);
/* Gives the tensors of a GGUF the names of the family's map; tensors that no row names keep theirs. */
lt_status lt_weights_rename_gguf(lt_weights *w, const lt_family *f, const lt_config *c, lt_err *err);
/* Checkpoints of the bare model leave the family's prefix off: then every tensor but the head's gets it. */
lt_status lt_weights_add_prefix(lt_weights *w, const lt_family *f, lt_err *err);
lt_weight *lt_weights_find(const lt_weights *w, const char *name); /* NULL: absent */
char *lt_weights_strdup(lt_weights *w, const char *s);             /* lives as long as w; NULL: out of memory */
/* Takes p, freed with w; LT_ENOMEM frees it at once. */
lt_status lt_weights_own(lt_weights *w, void *p, lt_err *err);

/* Fills the linears, norms and tables of m (config, family and weights are set): shapes against the config, factored
 * forms, biases, leftovers. Implemented in bind.c. */
struct lt_model;
lt_status lt_model_bind(struct lt_model *m, lt_err *err);

#endif
