/* SPDX-License-Identifier: Apache-2.0 */
/* calib/observe.h - the accumulators of sites, and the tap observer that feeds them; private to the room. */
#ifndef LT_CALIB_OBSERVE_H
#define LT_CALIB_OBSERVE_H

#include "calib/stats.h"

/* One distinct input of linears. */
typedef struct lt_calib_site {
    char *name; /* "model.layers.3.mlp_in" */
    int layer;  /* -1: the head */
    lt_site site;
    size_t cols;
    const char **modules; /* names borrowed from the model */
    size_t n_modules;
    double *acc[LT_N_STATS]; /* NULL: not collected, or not now */
} lt_calib_site;
typedef struct lt_calib_sites {
    lt_calib_site *site;
    size_t n;
    lt_stat_set set;
    size_t n_layers;
} lt_calib_sites; /* by layer, the head last */

lt_status lt_calib_sites_init(lt_calib_sites *s, const lt_model *m, lt_stat_set set, bool include_head, lt_err *err);
void lt_calib_sites_clear(lt_calib_sites *s);
/* Zeroed accumulators for the sites of a layer (-1: the head); those of a layer are freed again by end. */
lt_status lt_calib_sites_begin(lt_calib_sites *s, int layer, lt_err *err);
void lt_calib_sites_end(lt_calib_sites *s, int layer);
lt_calib_site *lt_calib_sites_find(const lt_calib_sites *s, lt_site site, int layer); /* NULL: nobody's input */
size_t lt_calib_sites_bytes(const lt_calib_sites *s, int layer);                      /* of its accumulators */
size_t lt_calib_work_bytes(const lt_calib_sites *s, size_t batch_rows);               /* of one observation, at most */

/* Adds the rows of an observation by their token weights: 0 leaves a row out, others scale. LT_EDATA: a value is not
 * finite. */
lt_status lt_calib_site_observe(lt_calib_site *s, lt_team *team, const lt_obs *obs, lt_err *err);

#endif
