/* SPDX-License-Identifier: Apache-2.0 */
/* compress/method.h - how a plan is made: methods give error curves, one allocator spends the budget.
 *
 * A method is one file method_<name>.c and one line in methods.c; an allocator is one file alloc_<name>.c and one line
 * in allocators.c. Low-rank modes are data (right metric x target x centring) over one fit (lowrank.h). Spec
 * utilized-rank §4.2, §4.3. */
#ifndef LT_COMPRESS_METHOD_H
#define LT_COMPRESS_METHOD_H

#include "compress/plan.h"
#include "compress/policy.h"

/* Parameters of a method or allocator: rows shared by the command line, recipes, lt_call and the docs. */
typedef struct lt_method_param {
    const char *name, *type, *dflt;
    double lo, hi;
    const char *choices, *help;
} lt_method_param; /* type: "real", "int", "choice", "flag"; choices separated by '|' */

/* What a budget says (design §6): fractions in (0, 1] or absolute counts. */
typedef enum lt_budget_of { LT_BUDGET_LINEARS, LT_BUDGET_PARAMS, LT_BUDGET_BYTES, LT_N_BUDGETS } lt_budget_of;
typedef struct lt_budget {
    lt_budget_of of;
    double fraction;
    double absolute;
} lt_budget; /* one of the two is > 0 */
/* "0.8" and "params=70%": whole-model parameters; "linears=0.8"; "bytes=4.5G". A budget that is not reducible here is
 * LT_EUSAGE. */
lt_status lt_budget_parse(lt_budget *out, const char *text, lt_err *err);
const char *lt_budget_name(lt_budget_of of); /* "linears" */
bool lt_budget_given(const lt_budget *b);

/* Error against rank of one module: what is left at rank r is the sum of lambda[r..]. */
typedef struct lt_curve {
    const char *module;
    size_t m, d;    /* out, in */
    size_t n;       /* number of lambda */
    double *lambda; /* [n] descending, >= 0, in the unit of the method */
    double total;   /* sum that errors are relative to: tr G; <= 0: a dead module, stays dense */
    size_t r_max;   /* largest rank that saves: ceil(md/(m+d)) - 1 */
    double unit;    /* what one parameter of this module costs: 1, or its bytes */
    lt_slot role;
    int layer;
    double weight; /* what a unit of error costs, for weights "fisher" and "sens" */
} lt_curve;

/* Tries a changed model: the pipeline gives it, so that planning knows no evaluation. */
typedef struct lt_probe {
    lt_status (*score)(void *user, const lt_model *m, double *mean_nll, lt_err *err); /* may be inf, never NaN */
    void *user;
    const char *what; /* the text, for the plan */
} lt_probe;

/* Predicted error against budget: keeps go in, errors come out; NAN where the budget cannot be met. */
typedef struct lt_frontier {
    const double *keep; /* [n] fractions of `of` */
    size_t n;
    double *rel_error, *cut; /* [n] mean relative error; modules that are cut */
    lt_budget_of of;
} lt_frontier;

typedef struct lt_plan_in {
    const lt_model *model;
    const char *model_hash;
    const lt_stats *stats; /* may be NULL for methods that need none */
    lt_budget budget;
    const char *allocate; /* a row of the allocator table; NULL: "global" */
    const char *weights;  /* global: a row of lt_weightings; NULL: the method's, filled in by lt_make_plan */
    double floor;         /* global: r_min = max(1, floor(floor * uniform rank)); the usual value is 0.5 */
    bool allow_dense;     /* global: a module may stay as it is; usually true */
    bool without_errors;  /* no spectra: cuts say no error that they will cost. LT_EUSAGE where ranks come from them */
    size_t align;         /* ranks are multiples of it; 0 or 1: off */
    const char *const *include, *const *exclude; /* NULL-terminated POSIX extended regular expressions searched in
                                                    module names; NULL: all linears of the layers */
    bool include_head;                           /* LT_EUNSUPPORTED for a tied head */
    bool parts;           /* fused matrices in parts, each with a rank of its own; otherwise only those that a
                             pattern with a "#" or a rank file names */
    unsigned slots;       /* bit lt_slot: only these; 0: all. For methods that plan a part of the model another way */
    const json_t *params; /* of the method; NULL: defaults */
    const json_t *ranks;  /* of a rank file (compress/ranks.h): module -> rank, instead of a budget; NULL: none */
    const lt_policy *policy;   /* of allocator "policy" */
    const lt_probe *probe;     /* NULL: methods and allocators that try things fail */
    lt_frontier *frontier;     /* fill it instead of making cuts; NULL: make cuts */
    const char *target_loader; /* --for: "lathe", "hf"; stored in the plan; NULL: "lathe" */
    lt_team *team;
    const lt_ctx *ctx;
} lt_plan_in;
typedef struct lt_needs {
    const char *const *stats;
    bool tokens, probe;
} lt_needs; /* stats: NULL-terminated names */
typedef struct lt_method {
    const char *name, *summary, *source; /* paper */
    const lt_method_param *params;       /* NULL-name-terminated; NULL: none */
    lt_needs needs;
    lt_status (*plan)(lt_plan *p, const lt_plan_in *in, lt_err *err); /* adds cuts to p */
    const char *weights; /* of errors, unless the caller says: a row of lt_weightings; NULL: "relative" */
} lt_method;
extern const lt_method *const lt_methods[];
lt_status lt_method_find(const lt_method **out, const char *name,
                         lt_err *err); /* LT_EUSAGE with the list and a suggestion */

/* Allocators: integer ranks for curves within a budget; rank[i] = 0: stays dense. A module costs unit * r(m+d), or unit
 * * md when dense. */
typedef struct lt_alloc_in {
    const lt_curve *curve;
    size_t n;
    double budget; /* in the curves' units */
    double keep;   /* budget over the cost of all modules dense */
    const char *weights;
    double floor;
    bool allow_dense;
    size_t align;            /* >= 1 */
    const size_t *base;      /* ranks to start from, for policies; NULL: uniform ones */
    const lt_policy *policy; /* of the allocator's row, or from a file */
    struct lt_trial *trial;  /* of allocators that try ranks */
} lt_alloc_in;
/* what was reached on the way, for tests and reports; may be NULL */
typedef struct lt_alloc_trace {
    double mu;
    size_t *before_fill;
} lt_alloc_trace; /* before_fill [n] */
typedef struct lt_allocator {
    const char *name, *summary, *source;
    const char *policy; /* a row of lt_policies; NULL: none */
    bool probe;         /* tries ranks */
    bool spectra;       /* reads the curves' lambda */
    lt_status (*allocate)(size_t *rank, const lt_alloc_in *in, lt_alloc_trace *trace, lt_err *err);
} lt_allocator;
extern const lt_allocator *const lt_allocators[];
/* What the error of a module counts in the global allocator. */
typedef struct lt_weighting {
    const char *name, *summary;
    const char *const *stats; /* NULL-terminated, beside the method's */
    bool probe;
} lt_weighting;
extern const lt_weighting lt_weightings[]; /* relative, unit, fisher, sens; ended by a NULL name */
lt_status lt_weighting_find(const lt_weighting **out, const char *name, lt_err *err);
lt_status lt_allocator_find(const lt_allocator **out, const char *name, lt_err *err);
size_t lt_break_even_rank(size_t m, size_t d);           /* largest r with r(m+d) < md; 0: none */
size_t lt_uniform_rank(size_t m, size_t d, double keep); /* floor(keep md/(m+d)), at least 1 */
double lt_alloc_cost(const lt_alloc_in *in, const size_t *rank);

/* Eigenvalues of W C Wᵀ of a module [min(m, d)], and their sum; gram: packed C. What stats keep as spectra. */
lt_status lt_output_spectrum(double *lambda, double *total, const lt_linear *l, const double *gram, lt_err *err);
/* Fills p: head (model, stats, made_by) and cuts by `method`, then cost. LT_ETARGET with the nearest reachable when the
 * budget cannot be met. */
lt_status lt_make_plan(lt_plan *p, const char *method, const lt_plan_in *in, lt_err *err);
/* What it would refuse without a look at stats: parameters, names of rows, patterns, a tied head, a budget that rank 1
 * everywhere does not meet. For whoever has hours of work before it. */
lt_status lt_plan_check_request(const char *method, const lt_plan_in *in, lt_err *err);

#endif
