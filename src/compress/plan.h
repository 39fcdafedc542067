/* SPDX-License-Identifier: Apache-2.0 */
/* compress/plan.h - the plan: a readable list of cuts, "lathe-plan/1" (docs/formats/plan.md), and what a kind of cut
 * can do.
 *
 * All layers, modules and indices name the parent model. Unknown members, duplicate cuts, unknown modules and ranks
 * above break-even (unless "force": true) are LT_EDATA naming the cut. A kind of cut is one file cut_<kind>.c and one
 * line in cuts.c. */
#ifndef LT_COMPRESS_PLAN_H
#define LT_COMPRESS_PLAN_H

#include "calib/stats.h"
#include "model/overlay.h"

/* Of what a cut changes. linear_params: the part of params that is weights of linears inside the layers. */
typedef struct lt_cost {
    double params, linear_params, bytes;
} lt_cost;
struct lt_cut_kind;
/* A cut is its JSON object plus what its kind parsed from it. */
typedef struct lt_cut {
    const struct lt_cut_kind *kind;
    json_t *json;
    void *parsed;
} lt_cut;
typedef struct lt_plan {
    json_t *head; /* format, model, stats, for, made_by, cost: everything but cuts; owned */
    lt_cut *cuts;
    size_t n_cuts, cap_cuts;
    json_t *targets; /* "kind target" of every cut: finds duplicates */
} lt_plan;

/* Errors of fits over the energy of the outputs. */
typedef struct lt_fit_errors {
    double sum;
    size_t n;
} lt_fit_errors;
typedef struct lt_apply_in {
    const lt_model *model;
    const lt_stats *stats; /* NULL when no cut needs it */
    lt_team *team;
    const lt_ctx *ctx;
    lt_dtype dtype;          /* of factors; LT_N_DTYPES: the module's own (block types: bf16) */
    const lt_tokens *tokens; /* NULL when no cut needs them */
    lt_fit_errors *errors;   /* out: what the fits left, where their metric tells; NULL: not asked for */
    const char *journal;     /* folder for what is fitted, so that the same call goes on behind it; NULL: none */
    double journal_seconds;  /* of fits from stats that a kill may cost; those fitted to tokens are kept by layers */
} lt_apply_in;
struct lt_drift_item;
typedef struct lt_cut_kind {
    const char *kind;                             /* "rank" */
    lt_status (*parse)(lt_cut *cut, lt_err *err); /* members, types, ranges; no model needed */
    void (*clear)(lt_cut *cut);
    const char *(*target)(const lt_cut *cut); /* what it cuts, for duplicates and messages */
    lt_status (*check)(const lt_cut *cut, const lt_model *m, lt_err *err);
    bool (*touches)(const lt_cut *cut, const lt_module *m);  /* does it change this module? */
    lt_cost (*before)(const lt_cut *cut, const lt_model *m); /* of a checked cut */
    lt_cost (*after)(const lt_cut *cut, const lt_model *m);
    bool (*needs_stats)(const lt_cut *cut);
    /* Fits all cuts of this kind into the overlay (a batch, so that decompositions run in parallel). */
    lt_status (*fit)(lt_overlay *o, const lt_cut *const *cuts, size_t n, const lt_apply_in *in, lt_err *err);
    /* Is a module fitted with tokens, once every cut of every kind is in (drift.h)? Then fit has left it alone, and
     * item says how. NULL: never. */
    bool (*drift)(const lt_cut *cut, const lt_model *m, struct lt_drift_item *item);
} lt_cut_kind;
extern const lt_cut_kind *const lt_cut_kinds[]; /* NULL-terminated, in the order of application */

void lt_plan_clear(lt_plan *p);
lt_status lt_plan_load(lt_plan *p, const char *path, lt_err *err);
lt_status lt_plan_parse(lt_plan *p, const char *text, size_t bytes, const char *name, lt_err *err);
char *lt_plan_text(const lt_plan *p); /* one cut per line; lt_free; NULL: out of memory */
lt_status lt_plan_save(const lt_plan *p, const char *path, lt_err *err); /* the same, atomically */
lt_status lt_plan_add(lt_plan *p, json_t *cut, lt_err *err);             /* steals cut; parses it; duplicates refused */
bool lt_plan_needs_stats(const lt_plan *p);
bool lt_plan_needs_tokens(const lt_plan *p, const lt_model *m);
/* Against the model (names, shapes, break-even, model hash; model_hash NULL: not compared) and, when given, the stats
 * (hash). */
lt_status lt_plan_check(const lt_plan *p, const lt_model *m, const char *model_hash, const lt_stats *s, lt_err *err);
/* Fills head.cost: linears_kept, params_kept, params [before, after], bytes [before, after]; "predicted" is kept. The
 * cuts are checked first. */
lt_status lt_plan_cost(lt_plan *p, const lt_model *m, lt_err *err);
/* Checks the cuts against the model, then runs every kind in order over a new overlay, then the pass with tokens. */
lt_status lt_plan_apply(lt_overlay *o, const lt_plan *p, const lt_apply_in *in, lt_err *err);

#endif
