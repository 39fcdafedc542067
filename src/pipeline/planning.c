/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/planning.h"

#include <math.h>
#include <string.h>

#include "compress/batch.h"
#include "compress/module_weight.h"
#include "compress/ranks.h"
#include "model/spill.h"
#include "pipeline/probe.h"
#include "pipeline/result.h"

enum { MAX_PATTERNS = 32 };

static bool gives_energy(const lt_args *a, const lt_method *m) {
    for (const lt_method_param *p = m->params; p && p->name; p++)
        if (strcmp(p->name, "energy") == 0 && strcmp(p->dflt, "0") != 0) return true;
    for (size_t i = 0; i < lt_arg_count(a, "param"); i++)
        if (strncmp(lt_arg_at(a, "param", i), "energy=", 7) == 0) return true;
    return false;
}

static lt_status check_budget(const lt_args *a, const lt_method *m, lt_err *err) {
    lt_budget budget;
    const char *keep = lt_arg_string(a, "keep");
    LT_REQUIRE(err, keep || lt_arg_string(a, "ranks") || m->needs.probe || gives_energy(a, m),
               "how much must be left? --keep is missing (or --param energy=0.99, --ranks FILE)");
    return keep ? lt_budget_parse(&budget, keep, err) : LT_OK;
}

/* What another allocator would read is not passed over in silence. */
static lt_status check_allocator(const lt_args *a, const char *allocate, lt_err *err) {
    static const char *const of_global[] = { "weights", "floor", "allow-dense" };
    const lt_allocator *allocator;
    const char *name = allocate ? allocate : "global";
    LT_TRY(lt_allocator_find(&allocator, name, err));
    LT_REQUIRE(err, !allocator->probe || lt_arg_string(a, "probe-data"),
               "--allocate %s tries ranks on text: give --probe-data FILE", name);
    for (size_t i = 0; strcmp(name, "global") != 0 && i < LT_COUNTOF(of_global); i++)
        LT_REQUIRE(err, !lt_arg_given(a, of_global[i]), "--%s is for --allocate global, not for %s", of_global[i],
                   name);
    LT_REQUIRE(err, strcmp(name, "policy") == 0 || !lt_arg_string(a, "policy"),
               "--policy is for --allocate policy, not for %s", name);
    return LT_OK;
}

lt_status lt_planning_check(const lt_args *a, bool budget, lt_err *err) {
    const lt_method *m;
    const char *loader = lt_arg_string(a, "for");
    if (strcmp(loader, "lathe") != 0 && strcmp(loader, "hf") != 0)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "--for: no method makes what \"%.40s\" loads; there are lathe (factored linears) and hf (the "
                       "same, exported --to hf-dense)",
                       loader);
    LT_TRY(lt_method_find(&m, lt_arg_string(a, "method"), err));
    LT_REQUIRE(err, !m->needs.probe || lt_arg_string(a, "probe-data"),
               "method %s tries ranks on text: give --probe-data FILE", m->name);
    LT_TRY(check_allocator(a, lt_arg_string(a, "allocate"), err));
    return budget ? check_budget(a, m, err) : LT_OK;
}

static lt_status patterns(const char **out, const lt_args *a, const char *option, lt_err *err) {
    const size_t n = lt_arg_count(a, option);
    LT_REQUIRE(err, n <= MAX_PATTERNS, "--%s: more than %d patterns", option, MAX_PATTERNS);
    for (size_t i = 0; i < n; i++) out[i] = lt_arg_at(a, option, i);
    out[n] = NULL;
    return LT_OK;
}

/* "NAME=VALUE" */
static lt_status method_params(json_t **out, const lt_args *a, lt_err *err) {
    *out = json_object();
    for (size_t i = 0; *out && i < lt_arg_count(a, "param"); i++) {
        const char *text = lt_arg_at(a, "param", i), *equals = strchr(text, '=');
        if (!equals || equals == text) return lt_fail(err, LT_EUSAGE, "--param: \"%.60s\" is not NAME=VALUE", text);
        if (json_object_setn_new(*out, text, (size_t)(equals - text), json_string(equals + 1)) != 0)
            return lt_fail(err, LT_EUSAGE, "--param: \"%.60s\" is not UTF-8 text", text);
    }
    return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "plan: out of memory");
}

/* A plan as the call asks for it, with what is read from files beside model and stats. */
typedef struct request {
    lt_plan_in in; /* without stats */
    const char *include[MAX_PATTERNS + 1], *exclude[MAX_PATTERNS + 1];
    json_t *params, *ranks;
    lt_text_probe probe;
    lt_policy policy;
} request;

static lt_status read_ranks(json_t **out, const lt_call_ctx *c, const lt_subject *s, const char *path, lt_err *err) {
    char model[LT_HASH_HEX];
    LT_TRY(lt_ranks_load(out, model, path, err));
    if (*model && strcmp(model, s->hash) != 0)
        lt_log(c->ctx, LT_LOG_WARN, "the ranks were found on another model (%s: %s, model: %s)", path, model, s->hash);
    return LT_OK;
}

static lt_status read_files(request *x, const lt_call_ctx *c, const lt_subject *s, lt_err *err) {
    const char *policy = lt_arg_string(c->args, "policy"), *ranks = lt_arg_string(c->args, "ranks");
    bool probe = false;
    if (policy) LT_TRY(lt_policy_load(&x->policy, policy, err));
    if (ranks) LT_TRY(read_ranks(&x->ranks, c, s, ranks, err));
    LT_TRY(lt_text_probe_open(&x->probe, &probe, c, s, err));
    x->in.policy = policy ? &x->policy : NULL;
    x->in.ranks = x->ranks;
    x->in.probe = probe ? &x->probe.probe : NULL;
    return LT_OK;
}

/* To be cleared also where it fails. */
static lt_status request_init(request *x, const lt_call_ctx *c, const lt_subject *s, const char *keep,
                              bool include_head, lt_err *err) {
    const lt_args *a = c->args;
    *x = (request){ .in = { .model = s->o.model,
                            .model_hash = s->hash,
                            .allocate = lt_arg_string(a, "allocate"),
                            .weights = lt_arg_string(a, "weights"),
                            .floor = lt_arg_real(a, "floor"),
                            .allow_dense = lt_arg_flag(a, "allow-dense"),
                            .without_errors = !lt_arg_flag(a, "errors"),
                            .align = (size_t)lt_arg_int(a, "align"),
                            .include_head = include_head,
                            .parts = lt_arg_flag(a, "parts"),
                            .target_loader = lt_arg_string(a, "for"),
                            .team = c->team,
                            .ctx = c->ctx } };
    if (keep) LT_TRY(lt_budget_parse(&x->in.budget, keep, err));
    LT_TRY(patterns(x->include, a, "include", err));
    LT_TRY(patterns(x->exclude, a, "exclude", err));
    LT_TRY(method_params(&x->params, a, err));
    x->in.include = x->include[0] ? x->include : NULL;
    x->in.exclude = x->exclude[0] ? x->exclude : NULL;
    x->in.params = x->params;
    return read_files(x, c, s, err);
}

static void request_clear(request *x) {
    lt_text_probe_clear(&x->probe);
    json_decref(x->params);
    json_decref(x->ranks);
}

lt_status lt_planning_foresee(const lt_call_ctx *c, const lt_subject *s, const char *method, const char *keep,
                              bool include_head, lt_err *err) {
    request x;
    lt_status st = request_init(&x, c, s, keep, include_head, err);
    if (st == LT_OK) st = lt_plan_check_request(method, &x.in, err);
    request_clear(&x);
    return st;
}

lt_status lt_planning_make(lt_plan *p, const lt_call_ctx *c, const lt_subject *s, const lt_stats *stats,
                           const char *method, const char *keep, bool include_head, lt_frontier *frontier,
                           lt_err *err) {
    request x;
    lt_status st = request_init(&x, c, s, keep, include_head, err);
    x.in.stats = stats;
    x.in.frontier = frontier;
    if (st == LT_OK) st = lt_make_plan(p, method, &x.in, err);
    if (st == LT_OK && json_object_set_new(json_object_get(p->head, "model"), "id", json_string(s->id)) != 0)
        st = lt_fail(err, LT_ENOMEM, "plan: out of memory");
    if (st == LT_OK && strcmp(x.in.target_loader, "hf") == 0)
        lt_log(c->ctx, LT_LOG_INFO,
               "hf loads this plan's result once it is exported --to hf-dense, without the saving");
    request_clear(&x);
    return st;
}

/* ---- time and memory ---- */

typedef struct loads {
    lt_batch_load *load;
    size_t n;
    double flops;
    size_t factor_bytes;
} loads;

static lt_status loads_init(loads *l, size_t cap, lt_err *err) {
    *l = (loads){ .load = lt_calloc(cap + 1, sizeof *l->load) };
    return l->load ? LT_OK : lt_fail(err, LT_ENOMEM, "estimate: no memory for %zu modules", cap);
}

/* An eigenproblem runs far below the speed of products: 25 n^3 at their rate is about right for n in the hundreds to
 * thousands. rank 0: the spectrum. */
static void add_load(loads *l, const lt_module *mod, size_t rank, bool metric) {
    const size_t out = lt_linear_out(mod->linear), in = lt_linear_in(mod->linear), n = lt_min_size(out, in);
    const size_t site = (size_t)(mod->layer + 1) * LT_N_SITES + (size_t)lt_input_site(mod->slot);
    l->flops += 25.0 * (double)n * (double)n * (double)n + 2.0 * (double)out * (double)in * (double)(out + in);
    l->factor_bytes += rank * (out + in) * lt_dtype_get(lt_factor_dtype(mod->linear))->bytes;
    l->load[l->n++] = (lt_batch_load){ .m = out,
                                       .d = in,
                                       .rank = rank,
                                       .weight_bytes = lt_tensor_bytes(&mod->linear->stage[0].w.t),
                                       .site = metric ? site : SIZE_MAX,
                                       .factor = lt_factor_for(out, in) };
}

static size_t count_linears(const lt_model *m) {
    lt_module mod;
    size_t n = 0;
    while (lt_model_module(m, n, &mod)) n++;
    return n;
}

static lt_status add_linears(loads *l, const lt_model *m, bool fits, bool metric, lt_err *err) {
    lt_module mod;
    LT_TRY(loads_init(l, count_linears(m), err));
    for (size_t i = 0; lt_model_module(m, i, &mod); i++) {
        if (mod.layer < 0) continue;
        const size_t saves = lt_break_even_rank(lt_linear_out(mod.linear), lt_linear_in(mod.linear));
        if (!fits || saves) add_load(l, &mod, fits ? saves : 0, metric);
    }
    return LT_OK;
}

static lt_status add_cuts(loads *l, const lt_model *m, const lt_plan *p, lt_err *err) {
    lt_module mod;
    LT_TRY(loads_init(l, p->n_cuts, err));
    for (size_t i = 0; i < p->n_cuts; i++) {
        const lt_cut *c = &p->cuts[i];
        const json_int_t rank = json_integer_value(json_object_get(c->json, "rank"));
        if (rank > 0 && lt_model_find_module(m, c->kind->target(c), &mod))
            add_load(l, &mod, (size_t)rank, c->kind->needs_stats(c));
    }
    return LT_OK;
}

/* New weights beyond a limit go to files. What is kept of them is no room for the chunks that follow: the first has all
 * of it, the last the least. */
static void sum_up(lt_estimate *e, const lt_call_ctx *c, loads *l) {
    const size_t room = lt_lowrank_batch_memory(c->ctx), held = lt_min_size(l->factor_bytes, lt_spill_limit(c->ctx)),
                 left = room - lt_min_size(room, held);
    const size_t first = lt_lowrank_batch_bytes(l->load, l->n, c->ctx->threads, room),
                 last = lt_lowrank_batch_bytes(l->load, l->n, c->ctx->threads, left) + held;
    e->flops += l->flops;
    e->memory_bytes = lt_max_size(e->memory_bytes, lt_current_rss_bytes() + lt_max_size(first, last));
    lt_free(l->load);
}

/* Stats are read through as they are opened, one accumulator at a time. */
static size_t largest_gram_bytes(const lt_model *m) {
    lt_module mod;
    size_t most = 0;
    for (size_t i = 0; lt_model_module(m, i, &mod); i++)
        if (mod.layer >= 0) most = lt_max_size(most, lt_linear_in(mod.linear));
    return most * (most + 1) / 2 * sizeof(double);
}

lt_status lt_planning_estimate(lt_estimate *e, const lt_call_ctx *c, const lt_model *m, const lt_method *method,
                               lt_err *err) {
    loads l;
    const bool metric = method->needs.stats[0] != NULL;
    const size_t opening = lt_current_rss_bytes() + (metric ? largest_gram_bytes(m) : 0);
    e->memory_bytes = lt_max_size(e->memory_bytes, opening);
    if (!lt_arg_flag(c->args, "errors")) return LT_OK;
    LT_TRY(add_linears(&l, m, false, metric, err));
    sum_up(e, c, &l);
    return LT_OK;
}

lt_status lt_planning_estimate_fits(lt_estimate *e, const lt_call_ctx *c, const lt_model *m, const lt_plan *plan,
                                    lt_err *err) {
    loads l;
    LT_TRY(plan ? add_cuts(&l, m, plan, err) : add_linears(&l, m, true, true, err));
    sum_up(e, c, &l);
    return LT_OK;
}

lt_status lt_planning_add_drift(lt_estimate *e, const lt_model *m, const lt_tokens *t, lt_err *err) {
    double flops = 0.0;
    LT_TRY(lt_tokens_flops(&flops, m, t, false, err));
    e->flops += 4.0 * flops;
    e->memory_bytes += 2 * sizeof(float) * t->n_ids * m->config.d_model;
    return LT_OK;
}

lt_status lt_planning_hash(char hex[LT_HASH_HEX], const lt_plan *p, lt_err *err) {
    char *text = lt_plan_text(p);
    if (!text) return lt_fail(err, LT_ENOMEM, "plan: out of memory");
    lt_hash_bytes(text, strlen(text), hex);
    lt_free(text);
    return LT_OK;
}

static double at(const json_t *pair, size_t i) {
    return json_number_value(json_array_get(pair, i));
}

static void add_row(json_t *rows, const char *what, double before, double after) {
    lt_result_row(rows, "szzd", what, (size_t)before, (size_t)after, after / before);
}

lt_status lt_planning_report(json_t *result, const lt_plan *p, const lt_model *m, lt_err *err) {
    static const char *const columns[] = { "", "before", "after", "kept" };
    char hash[LT_HASH_HEX];
    json_t *cost = json_object_get(p->head, "cost"), *made_by = json_object_get(p->head, "made_by");
    const json_t *params = json_object_get(cost, "params"), *bytes = json_object_get(cost, "bytes");
    LT_TRY(lt_planning_hash(hash, p, err));
    json_object_set_new(result, "plan",
                        json_pack("{s:s, s:I, s:O?}", "hash", hash, "cuts", (json_int_t)p->n_cuts, "made_by", made_by));
    if (!cost) return LT_OK;
    json_object_set(result, "cost", cost);
    json_t *rows = lt_result_table(result, "", columns, LT_COUNTOF(columns));
    const double linears = (double)lt_model_n_linear_params(m);
    add_row(rows, "linears of the layers", linears,
            round(linears * json_number_value(json_object_get(cost, "linears_kept"))));
    add_row(rows, "parameters of the model", at(params, 0), at(params, 1));
    add_row(rows, "bytes", at(bytes, 0), at(bytes, 1));
    return LT_OK;
}
