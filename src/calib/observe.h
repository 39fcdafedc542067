/* SPDX-License-Identifier: Apache-2.0 */
/* calib/observe.h - the accumulators of sites, and the tap observer that feeds them; private to the room. */
#ifndef LT_CALIB_OBSERVE_H
#define LT_CALIB_OBSERVE_H

#include "calib/stats.h"

/* One distinct input of linears, or another kind of site. */
typedef struct lt_calib_site {
    char *name; /* "model.layers.3.mlp_in" */
    int layer;  /* -1: the head; -2: gradients, which come from a pass of their own */
    lt_stats_kind kind;
    lt_site site;
    int at_layer, sub;     /* where the value passes */
    lt_stat_set set, kept; /* gathered; written */
    size_t cols;
    const char **modules; /* names borrowed from the model */
    size_t n_modules;
    double *acc[LT_N_STATS]; /* NULL: not collected, or not now */
} lt_calib_site;
typedef struct lt_calib_spare {
    double *acc;
    size_t n;
} lt_calib_spare;
typedef struct lt_calib_sites {
    lt_calib_site *site;
    size_t n;
    lt_calib_spare *spare; /* accumulators of layers that are done, [n_spare] */
    size_t n_spare;
    size_t n_layers;
    size_t first_rows; /* positions of each row that go to the sites of kind "first" */
} lt_calib_sites;      /* by layer, then the head, then gradients */
enum { LT_CALIB_HEAD = -1, LT_CALIB_GRADS = -2 };
typedef struct lt_calib_what {
    lt_stat_set inputs, grads; /* grads 0: no backward pass */
    bool include_head;
    size_t first_rows;
    bool spectra; /* of every module of the layers, instead of Grams */
} lt_calib_what;

lt_status lt_calib_sites_init(lt_calib_sites *s, const lt_model *m, const lt_calib_what *what, lt_err *err);
void lt_calib_sites_clear(lt_calib_sites *s);
/* Zeroed accumulators for the sites of a layer (-1: the head); end takes those of a layer away. */
lt_status lt_calib_sites_begin(lt_calib_sites *s, int layer, lt_err *err);
void lt_calib_sites_end(lt_calib_sites *s, int layer);
lt_calib_site *lt_calib_sites_find(const lt_calib_sites *s, lt_site site, int layer); /* NULL: nobody's input */
/* Gradient site of a tapped value. */
lt_calib_site *lt_calib_sites_grad(const lt_calib_sites *s, lt_site site, int layer, int sub);
size_t lt_calib_sites_bytes(const lt_calib_sites *s, int layer);        /* of its accumulators */
size_t lt_calib_work_bytes(const lt_calib_sites *s, size_t batch_rows); /* of one observation, at most */

/* Adds the rows of an observation by their token weights: 0 leaves a row out, others scale; first_rows splits the rows
 * of each window between the kinds "input" and "first" (0: no split). LT_EDATA: a value is not finite. */
lt_status lt_calib_site_observe(lt_calib_site *s, size_t first_rows, lt_team *team, const lt_obs *obs, lt_err *err);
/* Both kinds of a layer's site. */
lt_status lt_calib_sites_observe(const lt_calib_sites *s, lt_team *team, const lt_obs *obs, lt_err *err);

#endif
