/* model/save_list.h - what of a model is written, tensor by tensor, whatever the container; private to the model room.
 *
 * First the list (names of the Hugging Face checkpoint, sources, sizes), then a container gives each item its name and
 * dtype there, declares them, and has their bytes streamed: never more than one tensor in memory beside the maps, pages
 * of the source given back behind it. */
#ifndef LT_MODEL_SAVE_LIST_H
#define LT_MODEL_SAVE_LIST_H

#include "model/save.h"

/* TURN: a matrix whose stored rows are written as columns (Conv1D, from a container that turned it around). JOIN: a
 * fused matrix, or its bias, of parts that are stored apart, each dense or factored. */
typedef enum lt_save_source { LT_SAVE_COPY, LT_SAVE_TURN, LT_SAVE_PRODUCT, LT_SAVE_ZERO, LT_SAVE_JOIN } lt_save_source;
typedef struct lt_save_item {
    char *name;
    int layer; /* -1: outside the layers */
    lt_slot slot;
    lt_save_source source;
    const lt_param *param;    /* copy, turn */
    const lt_linear *linear;  /* product of its two stages */
    bool in_out;              /* product, join: written transposed */
    const lt_linear *part[3]; /* join, in the order of the rows */
    size_t n_parts, groups;   /* groups > 1: the parts alternate (nn/linear.h) */
    lt_dtype stored, dtype;   /* of the source; as written */
    size_t head_dim;          /* not 0: rows in interleaved rotary order, heads of that width */
    int rank;
    size_t size[2], bytes, shard;
} lt_save_item;

typedef struct lt_save_list {
    const lt_model *m;
    lt_save_form form;
    const lt_ctx *ctx;
    lt_team *team; /* for products; made at the first */
    lt_save_item *item;
    size_t n, cap;
    double bytes, done;
    bool factored;            /* something stays factored in the output */
    bool attn_bias, mlp_bias; /* of the output: an affine module of a dense output brings zeros for its siblings */
} lt_save_list;
/* m, form and ctx are set, the rest zero. Items have dtype as stored. */
lt_status lt_save_list_make(lt_save_list *s, lt_err *err);
/* A bias is written for the module: its own, or zeros because a sibling has one. */
bool lt_save_has_bias(const lt_save_list *s, const lt_module *mod);
void lt_save_list_clear(lt_save_list *s);
/* LT_EUNSUPPORTED naming the tensor where rows cannot be stored so. */
lt_status lt_save_item_set_dtype(lt_save_item *it, lt_dtype t, lt_err *err);

/* Takes the next bytes of an item. */
typedef lt_status (*lt_save_put)(void *to, const void *data, size_t bytes, lt_err *err);
lt_status lt_save_item_write(lt_save_list *s, const lt_save_item *it, lt_save_put put, void *to, lt_err *err);

#endif
