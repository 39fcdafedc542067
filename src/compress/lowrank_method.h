/* SPDX-License-Identifier: Apache-2.0 */
/* compress/lowrank_method.h - what the low-rank methods share: spectra of all targets, ranks by the allocator, one rank
 * cut each; private to the room. */
#ifndef LT_COMPRESS_LOWRANK_METHOD_H
#define LT_COMPRESS_LOWRANK_METHOD_H

#include "compress/lowrank.h"
#include "compress/method.h"

typedef struct lt_lowrank_mode {
    lt_metric metric;
    bool affine;         /* modules with a bias get the optimal one */
    const char *balance; /* "auto": by dtype */
} lt_lowrank_mode;
/* Adds cuts, head.cost.predicted and, in the last entry of made_by, the dead modules that stayed dense. */
lt_status lt_plan_lowrank(lt_plan *p, const lt_plan_in *in, const lt_lowrank_mode *mode, lt_err *err);

/* A parameter of a method as text: what in->params says, else the row's default. The params were checked before. */
const char *lt_method_choice(const lt_method *m, const json_t *params, const char *name);

#endif
