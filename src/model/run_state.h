/* model/run_state.h - the hidden states of all batches at a border between groups: in memory, or in a file; private to
 * the runner.
 *
 * The file is safetensors: "hidden" f32 [rows, d_model], "checksum" u8 [64] (SHA-256 of hidden, hex), metadata
 * next_layer and batches (digest of ids and pieces). It is written beside the old one and renamed over it, so at any
 * instant one whole state exists. */
#ifndef LT_MODEL_RUN_STATE_H
#define LT_MODEL_RUN_STATE_H

#include "io/safetensors.h"
#include "model/runner.h"

typedef struct lt_run_state {
    const lt_batch *batches;
    size_t n_batches, d, n_rows;
    size_t *first_row;        /* [n_batches] */
    char digest[LT_HASH_HEX]; /* of the batches */
    float *hidden;            /* in memory; NULL: on disk */
    char *path;               /* of the file; NULL: memory only */
    bool temporary;           /* the file goes with this object */
    lt_safetensors *file;     /* the border reached (on disk) */
    lt_st_writer *next;       /* the border being written */
    lt_hash *hash;
} lt_run_state;

lt_status lt_run_state_init(lt_run_state *s, const lt_run_in *in, bool in_memory, lt_err *err);
void lt_run_state_clear(lt_run_state *s);
/* Reads the file; *next_layer is 0 when there is none. LT_EDATA: of other batches, damaged, or of another form. */
lt_status lt_run_state_load(lt_run_state *s, size_t *next_layer, lt_err *err);
/* Rows of a batch at the border reached. */
const float *lt_run_state_get(const lt_run_state *s, size_t batch);
void lt_run_state_release(const lt_run_state *s, size_t batch); /* its pages are not needed for now */
/* begin, put every batch in order, commit: the next border. */
lt_status lt_run_state_begin(lt_run_state *s, size_t next_layer, lt_err *err);
lt_status lt_run_state_put(lt_run_state *s, size_t batch, const float *rows, lt_err *err);
lt_status lt_run_state_commit(lt_run_state *s, size_t next_layer, lt_err *err);

#endif
