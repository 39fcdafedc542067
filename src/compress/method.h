/* compress/method.h - how a plan is made: methods give error curves, one allocator spends the budget.
 *
 * A method is one file method_<name>.c and one line in methods.c; an allocator is a row of allocate.c. Low-rank modes are data (right metric x
 * target x centring) over one fit (lowrank.h). Spec utilized-rank §4.2, §4.3. */
#ifndef LT_COMPRESS_METHOD_H
#define LT_COMPRESS_METHOD_H

#include "compress/plan.h"

/* Parameters of a method or allocator: rows shared by the command line, recipes, lt_call and the docs. */
typedef struct lt_method_param { const char *name, *type, *dflt; double lo, hi; const char *choices, *help; } lt_method_param; /* type: "real", "int", "choice", "flag" */

/* What a budget says (design §6): fractions in (0, 1] or absolute counts. */
typedef enum lt_budget_of { LT_BUDGET_LINEARS, LT_BUDGET_PARAMS, LT_BUDGET_BYTES } lt_budget_of;
typedef struct lt_budget { lt_budget_of of; double fraction; double absolute; } lt_budget; /* one of the two is > 0 */
/* "0.8" and "params=70%": whole-model parameters; "linears=0.8"; "bytes=4.5G". A budget that is not reducible here is LT_EUSAGE. */
lt_status lt_budget_parse(lt_budget *out, const char *text, lt_err *err);

/* Error against rank of one module: tail[r] = error left at rank r, r = 0..n (tail[n] may be > 0 never). Descending lambda. */
typedef struct lt_curve {
    const char *module;
    size_t m, d;             /* out, in */
    size_t n;                /* number of lambda */
    double *lambda;          /* [n] descending, >= 0, in the unit of the method */
    double total;            /* sum that errors are relative to: tr G */
    size_t r_max;            /* largest rank that saves: ceil(md/(m+d)) - 1 */
} lt_curve;

typedef struct lt_plan_in {
    const lt_model *model;
    const char *model_hash;
    const lt_stats *stats;            /* may be NULL for methods that need none */
    lt_budget budget;
    const char *allocate;             /* "global" or "uniform": a row of the allocator table */
    const char *weights;              /* global: "relative" (default) or "unit" */
    double floor;                     /* global: r_min = max(1, floor(floor * uniform rank)); default 0.5 */
    bool allow_dense;                 /* default true */
    size_t align;                     /* ranks rounded down to a multiple before the fill; 1: off */
    const char *const *include, *const *exclude; /* NULL-terminated PCRE2 patterns on module names; NULL: all linears of the layers */
    bool include_head;                /* LT_EUNSUPPORTED for a tied head */
    const json_t *params;             /* of the method */
    const char *target_loader;        /* --for: "lathe", "hf"; stored in the plan */
    lt_team *team;
    const lt_ctx *ctx;
} lt_plan_in;
typedef struct lt_needs { const char *const *stats; bool tokens, probe; } lt_needs; /* stats: NULL-terminated names */
typedef struct lt_method {
    const char *name, *summary, *source;   /* paper */
    const lt_method_param *params;         /* NULL-name-terminated; NULL: none */
    lt_needs needs;
    lt_status (*plan)(lt_plan *p, const lt_plan_in *in, lt_err *err); /* adds cuts to p */
} lt_method;
extern const lt_method *const lt_methods[];
lt_status lt_method_find(const lt_method **out, const char *name, lt_err *err); /* LT_EUSAGE with the list and a suggestion */

/* Allocators: integer ranks for curves within budget_params (parameters of the curves' modules after compression); rank[i] = 0: stays dense. */
typedef struct lt_alloc_in { const lt_curve *curve; size_t n; double budget_params, keep; const char *weights; double floor; bool allow_dense; size_t align; } lt_alloc_in;
typedef struct lt_allocator { const char *name, *summary, *source; lt_status (*allocate)(size_t *rank, const lt_alloc_in *in, lt_err *err); } lt_allocator;
extern const lt_allocator *const lt_allocators[];
lt_status lt_allocator_find(const lt_allocator **out, const char *name, lt_err *err);
size_t lt_break_even_rank(size_t m, size_t d); /* largest r with r(m+d) < md; 0: none */

/* Fills p: head (model, stats, made_by) and cuts by `method`, then cost. LT_ETARGET with the nearest reachable when the budget cannot be met. */
lt_status lt_make_plan(lt_plan *p, const char *method, const lt_plan_in *in, lt_err *err);

#endif
