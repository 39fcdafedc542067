/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/planning.h - making a plan as `plan` and `compress` ask for it, and what is said about one. */
#ifndef LT_PIPELINE_PLANNING_H
#define LT_PIPELINE_PLANNING_H

#include "compress/method.h"
#include "pipeline/estimate.h"
#include "pipeline/subject.h"

/* Option rows of both verbs but for "method" and "keep", which differ in what is required. */
#define LT_PLANNING_OPTIONS                                                                                                \
    {                                                                                                                      \
        "allocate",                                                                                                        \
        LT_OPT_STRING,                                                                                                     \
        NULL,                                                                                                              \
        0,                                                                                                                 \
        0,                                                                                                                 \
        NULL,                                                                                                              \
        false,                                                                                                             \
        "HOW",                                                                                                             \
        "who gets how much (`lathe list allocators`); default: global for a budget, else the ranks as they were found"     \
    },                                                                                                                     \
        { "weights",                                                                                                       \
          LT_OPT_STRING,                                                                                                   \
          NULL,                                                                                                            \
          0,                                                                                                               \
          0,                                                                                                               \
          "relative|unit|fisher|sens",                                                                                     \
          false,                                                                                                           \
          NULL,                                                                                                            \
          "global: what a module's error counts (`lathe list weights`); default: relative; unit where errors are the "     \
          "loss's own" },                                                                                                  \
        { "floor", LT_OPT_REAL, "0.5",                                                                                     \
          0,       1,           NULL,                                                                                      \
          false,   "SHARE",     "global: no module below this share of its uniform rank" },                                \
        { "allow-dense", LT_OPT_FLAG, "true", 0, 0, NULL, false, NULL, "global: a module may stay as it is" },             \
        { "errors",                                                                                                        \
          LT_OPT_FLAG,                                                                                                     \
          "true",                                                                                                          \
          0,                                                                                                               \
          0,                                                                                                               \
          NULL,                                                                                                            \
          false,                                                                                                           \
          NULL,                                                                                                            \
          "predict the error of each cut; --no-errors: plan at once, where ranks do not come from errors (uniform, "       \
          "policies, --ranks)" },                                                                                          \
        { "policy", LT_OPT_PATH, NULL,                                                                                     \
          0,        0,           NULL,                                                                                     \
          false,    "FILE",      "multipliers of ranks by role, YAML; for --allocate policy" },                            \
        { "ranks", LT_OPT_PATH, NULL, 0, 0, NULL, false, "FILE", "ranks from a rank file instead of a budget (--keep)" },  \
        { "probe-data",                                                                                                    \
          LT_OPT_PATH,                                                                                                     \
          NULL,                                                                                                            \
          0,                                                                                                               \
          0,                                                                                                               \
          NULL,                                                                                                            \
          false,                                                                                                           \
          "FILE",                                                                                                          \
          "text on which ranks are tried, where a method or allocator does that" },                                        \
        { "probe-rows", LT_OPT_INT, "32", 1, 0x1p40, NULL, false, "N", "rows of it" },                                     \
        { "probe-len", LT_OPT_INT, "512", 2, 1 << 24, NULL, false, "N", "tokens per row; at most the model's positions" }, \
        { "align", LT_OPT_INT, "1", 1, 4096, NULL, false, "N", "ranks of N and more are multiples of N" },                 \
        { "include", LT_OPT_STRING, NULL, 0, 0, NULL, true, "REGEX", "cut only modules whose name matches" },              \
        { "exclude", LT_OPT_STRING, NULL, 0, 0, NULL, true, "REGEX", "leave modules whose name matches alone" },           \
        { "parts",                                                                                                         \
          LT_OPT_FLAG,                                                                                                     \
          "false",                                                                                                         \
          0,                                                                                                               \
          0,                                                                                                               \
          NULL,                                                                                                            \
          false,                                                                                                           \
          NULL,                                                                                                            \
          "cut q, k, v (gate, up) of a fused matrix apart, each with its own rank; --include 'c_attn#q' names one" },      \
        { "param",                                                                                                         \
          LT_OPT_STRING,                                                                                                   \
          NULL,                                                                                                            \
          0,                                                                                                               \
          0,                                                                                                               \
          NULL,                                                                                                            \
          true,                                                                                                            \
          "NAME=VALUE",                                                                                                    \
          "a parameter of the method (`lathe list methods`)" },                                                            \
    {                                                                                                                      \
        "for", LT_OPT_STRING, "lathe", 0, 0, NULL, false, "LOADER",                                                        \
            "who must load the result: lathe, or hf (then export --to hf-dense)"                                           \
    }
#define LT_KEEP_HELP "what must be left: 0.8 or params=80% of all parameters, linears=0.8 of the linears, bytes=200M"

/* Method, allocator and loader are there (LT_EUNSUPPORTED: no method makes what the loader takes), and where a budget
 * is wanted something decides the ranks: --keep, --ranks, an energy, or a method that searches. For lt_command.check.
 */
lt_status lt_planning_check(const lt_args *a, bool budget, lt_err *err);
/* Fills p (which may hold cuts already) by `method`; names the model in it. stats NULL: none; keep NULL: the method
 * finds the ranks itself. frontier: filled instead of making cuts; NULL: none. */
lt_status lt_planning_make(lt_plan *p, const lt_call_ctx *c, const lt_subject *s, const lt_stats *stats,
                           const char *method, const char *keep, bool include_head, lt_frontier *frontier, lt_err *err);
/* What lt_planning_make would refuse whatever the stats are: for who still has to make them. */
lt_status lt_planning_foresee(const lt_call_ctx *c, const lt_subject *s, const char *method, const char *keep,
                              bool include_head, lt_err *err);
/* Spectra of every linear of the layers, as planning by this method needs them; with --no-errors it needs none. */
lt_status lt_planning_estimate(lt_estimate *e, const lt_call_ctx *c, const lt_model *m, const lt_method *method,
                               lt_err *err);
/* Fits of the plan's cuts; plan NULL: of every linear, at the largest rank that saves. */
lt_status lt_planning_estimate_fits(lt_estimate *e, const lt_call_ctx *c, const lt_model *m, const lt_plan *plan,
                                    lt_err *err);
/* Adds what fitting to drifted inputs costs: the text through both models, four forward passes with the sums; both
 * streams stay in memory. */
lt_status lt_planning_add_drift(lt_estimate *e, const lt_model *m, const lt_tokens *t, lt_err *err);
/* Adds "plan": {"hash", "cuts", "made_by"}, "cost" and a table with the linears' and the whole model's kept fractions.
 */
lt_status lt_planning_report(json_t *result, const lt_plan *p, const lt_model *m, lt_err *err);
/* SHA-256 of the plan's text. */
lt_status lt_planning_hash(char hex[LT_HASH_HEX], const lt_plan *p, lt_err *err);

#endif
