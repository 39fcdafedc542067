/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/calibration.h"

#include <string.h>

#include "compress/method.h"
#include "pipeline/outdir.h"

/* ---- text ---- */
static lt_status seq_len(size_t *out, const lt_call_ctx *c, const lt_subject *s, lt_err *err) {
    const size_t most = s->o.model->config.max_positions;
    const bool given = lt_arg_given(c->args, "seq-len");
    *out = given ? (size_t)lt_arg_int(c->args, "seq-len") : lt_min_size(512, most);
    LT_REQUIRE(err, *out <= most, "--seq-len: %zu is more than the %zu positions of %s", *out, most, s->id);
    return LT_OK;
}

/* The rows of a token file are cut already. */
static void warn_of_rows(const lt_call_ctx *c, const char *data) {
    static const char *const cutting[] = { "seq-len", "max-rows", "recipe", "seed" };
    for (size_t i = 0; i < LT_COUNTOF(cutting) && lt_is_token_file(data); i++)
        if (lt_arg_given(c->args, cutting[i]))
            lt_log(c->ctx, LT_LOG_WARN, "--%s says nothing of a token file, whose rows are cut already (%s)",
                   cutting[i], data);
}

lt_status lt_calibration_tokens(lt_tokens *out, const lt_call_ctx *c, const lt_subject *s, size_t rows, lt_err *err) {
    lt_tokens_opts o = { .recipe = lt_arg_string(c->args, "recipe"),
                         .max_rows = rows ? rows : (size_t)lt_arg_int(c->args, "max-rows"),
                         .seed = (uint64_t)lt_arg_int(c->args, "seed") };
    LT_TRY(seq_len(&o.seq_len, c, s, err));
    warn_of_rows(c, lt_arg_string(c->args, "data"));
    return lt_subject_tokens(out, s, c, lt_arg_string(c->args, "data"), &o, err);
}

/* ---- which sums ---- */
enum { MAX_NAMES = 32, MAX_LIST = 512 };
typedef struct names {
    char text[MAX_LIST];
    const char *name[MAX_NAMES];
    size_t n;
} names;

/* "a, b" */
static lt_status split(names *out, const char *option, const char *list, lt_err *err) {
    LT_REQUIRE(err, strlen(list) < MAX_LIST, "--%s: the list is too long", option);
    strcpy(out->text, list);
    out->n = 0;
    char *rest = NULL;
    for (char *w = strtok_r(out->text, ", ", &rest); w; w = strtok_r(NULL, ", ", &rest)) {
        LT_REQUIRE(err, out->n < MAX_NAMES, "--%s: more than %d names", option, MAX_NAMES);
        out->name[out->n++] = w;
    }
    LT_REQUIRE(err, out->n > 0, "--%s: the list is empty", option);
    return LT_OK;
}

static lt_status parse_needs(lt_stat_needs *out, const char *const *name, size_t n, lt_err *err) {
    const char *input[MAX_NAMES], *grad[MAX_NAMES];
    size_t n_input = 0, n_grad = 0;
    lt_stat_needs more = { 0 };
    LT_REQUIRE(err, n <= MAX_NAMES, "calibrate: more than %d sums", MAX_NAMES);
    for (size_t i = 0; i < n; i++)
        if (strncmp(name[i], "output.", 7) == 0)
            return lt_fail(err, LT_EUSAGE, "calibrate: Grams of outputs are imported, not made: `lathe stats import`");
        else if (strncmp(name[i], "grad.", 5) == 0)
            grad[n_grad++] = name[i] + 5;
        else
            input[n_input++] = name[i];
    if (n_input) LT_TRY(lt_stat_set_parse(&more.inputs, input, n_input, err));
    if (n_grad) LT_TRY(lt_stat_set_parse(&more.grads, grad, n_grad, err));
    out->inputs |= more.inputs;
    out->grads |= more.grads;
    return LT_OK;
}

lt_status lt_stats_of_names(lt_stat_needs *out, const char *list, lt_err *err) {
    names n;
    *out = (lt_stat_needs){ 0 };
    LT_TRY(split(&n, "stats", list, err));
    return parse_needs(out, n.name, n.n, err);
}

lt_status lt_stats_of_methods(lt_stat_needs *out, const char *list, lt_err *err) {
    names n;
    LT_TRY(split(&n, "methods", list, err));
    *out = (lt_stat_needs){ 0 };
    for (size_t i = 0; i < n.n; i++) {
        const lt_method *m;
        const lt_weighting *w;
        const char *const *stats;
        size_t k = 0;
        if (lt_weighting_find(&w, n.name[i], NULL) == LT_OK)
            stats = w->stats;
        else {
            LT_TRY(lt_method_find(&m, n.name[i], err));
            stats = m->needs.stats;
        }
        while (stats && stats[k]) k++;
        LT_TRY(parse_needs(out, stats, k, err));
    }
    return LT_OK;
}

/* ---- the pass ---- */
/* "data" may differ between files that are merged; nothing else may. */
static json_t *settings_json(const lt_call_ctx *c, const lt_tokens *t) {
    json_t *call = lt_settings_new(c);
    const json_t *numbers = json_object_get(call, "numbers");
    json_t *s =
        json_pack("{s:O, s:I, s:b, s:{s:s?, s:s?, s:I}}", "numbers", numbers, "skip_first",
                  (json_int_t)lt_arg_int(c->args, "skip-first"), "include_head", lt_arg_flag(c->args, "include-head"),
                  "data", "source", t->source, "recipe", t->recipe, "rows", (json_int_t)t->n_rows);
    if (!lt_is_token_file(lt_arg_string(c->args, "data"))) /* which was made with a seed of its own */
        json_object_set_new(json_object_get(s, "data"), "seed", json_integer((json_int_t)lt_arg_int(c->args, "seed")));
    json_decref(call);
    return s;
}

lt_status lt_calibration_in(lt_calibrate_in *in, char **settings, const lt_call_ctx *c, const lt_subject *s,
                            const lt_tokens *t, lt_stat_needs stats, const char *out_path, lt_err *err) {
    json_t *j = settings_json(c, t);
    *settings = j ? lt_json_canonical(j) : NULL;
    json_decref(j);
    if (!*settings) return lt_fail(err, LT_ENOMEM, "calibrate: out of memory");
    const bool head = lt_arg_flag(c->args, "include-head");
    const size_t skip = (size_t)lt_arg_int(c->args, "skip-first"), sinks = (size_t)lt_arg_int(c->args, "sink-rows");
    LT_REQUIRE(err, sinks == 0 || sinks > skip, "--sink-rows: the first %zu positions are left out by --skip-first %zu",
               sinks, skip);
    if (head && s->o.model->config.tied)
        return lt_fail(err, LT_EUNSUPPORTED, "--include-head: the head is tied to the embedding (%s)",
                       s->o.model->path);
    *in = (lt_calibrate_in){ .model = s->o.model,
                             .model_hash = s->hash,
                             .tokens = t,
                             .stats = stats.inputs | 1u, /* counts always */
                             .grads = stats.grads,
                             .first_rows = sinks,
                             .f32 = strcmp(lt_arg_string(c->args, "store"), "f32") == 0,
                             .include_head = head,
                             .skip_first = skip,
                             .team = c->team,
                             .ctx = c->ctx,
                             .out_path = out_path,
                             .settings = *settings };
    return LT_OK;
}

/* Inputs of linears in a layer, each once: what attention, its output and the two halves of the MLP read. */
static void add_site(lt_estimate *e, const lt_calibrate_in *in, size_t cols) {
    for (size_t i = 0; i < LT_N_STATS; i++)
        if (in->stats >> i & 1) e->disk_bytes += lt_stat_rows[i]->doubles(cols) * sizeof(double);
    e->flops += (double)cols * (double)cols * (double)in->tokens->n_ids;
}

lt_status lt_calibration_estimate(lt_estimate *e, const lt_calibrate_in *in, lt_err *err) {
    const lt_config *c = &in->model->config;
    lt_run_plan plan;
    *e = (lt_estimate){ 0 };
    LT_TRY(lt_calibrate_predict(&plan, in, err));
    LT_TRY(lt_tokens_flops(&e->flops, in->model, in->tokens, false, err));
    e->memory_bytes = plan.predicted_bytes;
    for (size_t i = 0; i < c->n_layers; i++) {
        add_site(e, in, c->d_model);
        add_site(e, in, c->layer[i].n_q_heads * c->layer[i].v_dim);
        add_site(e, in, c->d_model);
        add_site(e, in, c->layer[i].d_ff);
    }
    if (in->include_head) add_site(e, in, c->d_embed);
    if (in->first_rows) e->disk_bytes *= 2;
    if (in->f32) e->disk_bytes /= 2;
    lt_module mod;
    for (size_t i = 0; in->grads && lt_model_module(in->model, i, &mod); i++)
        for (size_t k = 0; mod.layer >= 0 && k < LT_N_STATS; k++)
            if (in->grads >> k & 1)
                e->disk_bytes += lt_stat_rows[k]->doubles(lt_linear_out(mod.linear)) * (in->f32 ? 4 : 8);
    if (in->grads) e->flops *= 4.0;
    return LT_OK;
}
