/* SPDX-License-Identifier: Apache-2.0 */
/* compress/lowrank_method.h - what the low-rank methods share: spectra of all targets, ranks by the allocator, one rank
 * cut each; private to the room. */
#ifndef LT_COMPRESS_LOWRANK_METHOD_H
#define LT_COMPRESS_LOWRANK_METHOD_H

#include "compress/batch.h"
#include "compress/method.h"
#include "compress/module_weight.h"
#include "compress/targets.h"

struct lt_choose_in;
typedef struct lt_lowrank_mode {
    lt_lowrank_how ranks, fit; /* whose spectra give the ranks; what is fitted */
    lt_affine affine;
    const char *balance; /* "auto": by dtype */
    double energy;       /* > 0: ranks by cumulative energy */
    size_t r_min;        /* floor of those; 0: max(16, 2 % of min(m, d)) */
    /* A method that finds the ranks itself; note: what it says of that in the plan. NULL: energy, file or budget. */
    lt_status (*choose)(size_t *rank, json_t *note, const struct lt_choose_in *c, lt_err *err);
    const void *user;
    const char
        *target;      /* of the fit: "original", "drift", "residual" (where it can be: else "drift"); NULL: original */
    const char *pass; /* of the last two: "site", "block" */
    double ridge;     /* of the last two */
} lt_lowrank_mode;
typedef struct lt_choose_in {
    const lt_plan_in *in;
    const lt_lowrank_mode *mode;
    const lt_targets *targets;
    const lt_curve *curve; /* [targets->n] */
} lt_choose_in;
/* The least k with cum_k >= e, e >= 1: the numerical rank (spec §2). lambda [n] descending. */
size_t lt_energy_rank(const double *lambda, size_t n, double e);
/* Parameters that all of them have; lt_lowrank_mode_read fills the members that they name. */
#define LT_LOWRANK_PARAMS(energy_default)                                                                              \
    { "balance",                                                                                                       \
      "choice",                                                                                                        \
      "auto",                                                                                                          \
      0,                                                                                                               \
      0,                                                                                                               \
      "auto|orth|balanced",                                                                                            \
      "how A and B share the scale; auto: balanced for 16-bit factors, orth otherwise" },                              \
        { "energy",                                                                                                    \
          "real",                                                                                                      \
          energy_default,                                                                                              \
          0,                                                                                                           \
          1,                                                                                                           \
          NULL,                                                                                                        \
          "ranks by this share of the spectrum instead of a budget; 0: by the budget" },                               \
    {                                                                                                                  \
        "r_min", "int", "0", 0, 1 << 20, NULL, "with energy: no rank below it; 0: max(16, 2 % of the smaller side)"    \
    }
/* For methods that may centre. */
#define LT_LOWRANK_AFFINE                                                                                              \
    {                                                                                                                  \
        "affine", "choice", "auto", 0, 0, "auto|all|off",                                                              \
            "auto: modules with a bias get the optimal new one (their outputs are centred first); all: every module"   \
    }
/* For methods whose ranks come from statistics. */
#define LT_LOWRANK_GUARD                                                                                               \
    {                                                                                                                  \
        "guard", "choice", "ranks", 0, 0, "ranks|all|off",                                                             \
            "where stats keep the first positions apart (--sink-rows): leave them out of the ranks, of ranks and "     \
            "fit, or of "                                                                                              \
            "nothing"                                                                                                  \
    }
void lt_lowrank_mode_read(lt_lowrank_mode *mode, const lt_method *m, const lt_plan_in *in);
/* Adds cuts, head.cost.predicted and, in the last entry of made_by, the dead modules that stayed dense. */
lt_status lt_plan_lowrank(lt_plan *p, const lt_plan_in *in, const lt_lowrank_mode *mode, lt_err *err);

/* A parameter of a method: what in->params says, else the row's default; NULL: the method has none of that name. The
 * params were checked before. */
const char *lt_method_choice(const lt_method *m, const json_t *params, const char *name);
double lt_method_number(const lt_method *m, const json_t *params, const char *name);

/* Is the output of the module added to the residual stream as it is? Then its fit may make up for what that has lost.
 */
bool lt_adds_to_residual(const lt_module *mod, const lt_model *m);

#endif
