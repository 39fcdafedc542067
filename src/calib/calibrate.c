/* SPDX-License-Identifier: Apache-2.0 */
#include "calib/calibrate.h"

#include <stdio.h>
#include <string.h>

#include "calib/gradients.h"
#include "calib/journal.h"

enum { BATCH_TOKENS = 2048 };
#define STATE_SECONDS 10.0 /* what a kill may cost; at every layer the file is 8 % of a forward pass */

/* One calibration at work. */
typedef struct work {
    const lt_calibrate_in *in;
    lt_calib_sites sites;
    lt_batch *batches;
    size_t n_batches;
    float *weights;           /* of all tokens; NULL: all 1 */
    char *machine, *settings; /* as the file tells them */
    json_t *site_list;
    lt_stat_set *sets;
    lt_stats_head head; /* of the file to be; borrows those */
    lt_journal journal;
    int layer; /* whose accumulators are running; -1: none */
} work;

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "calibrate: out of memory");
}

static void work_clear(work *w) {
    lt_calib_sites_clear(&w->sites);
    lt_batches_free(w->batches, w->n_batches);
    lt_free(w->weights);
    lt_journal_close(&w->journal);
    json_decref(w->site_list);
    lt_free(w->machine);
    lt_free(w->settings);
    lt_free(w->sets);
}

/* ---- batches and their weights ---- */

static lt_status weigh_tokens(work *w, lt_err *err) {
    const lt_tokens *t = w->in->tokens;
    const size_t skip = w->in->skip_first;
    if (skip == 0) return LT_OK;
    w->weights = lt_calloc(t->n_ids + 1, sizeof *w->weights);
    if (!w->weights) return no_memory(err);
    for (size_t r = 0; r < t->n_rows; r++)
        for (size_t i = t->row_start[r] + skip; i < t->row_start[r + 1]; i++) w->weights[i] = 1.0f;
    for (size_t b = 0; b < w->n_batches; b++) w->batches[b].weight = w->weights + (w->batches[b].ids - t->ids);
    return LT_OK;
}

static size_t counted_tokens(const work *w) {
    size_t n = 0;
    for (size_t i = 0; i < w->in->tokens->n_ids; i++) n += !w->weights || w->weights[i] > 0.0f;
    return n;
}

lt_status lt_tokens_check(const lt_tokens *t, const lt_model *m, const char *what, lt_err *err) {
    const size_t vocab = m->config.vocab_size, longest = m->config.max_positions;
    if (t->n_rows == 0) return lt_fail(err, LT_EDATA, "%s: no rows of tokens", what);
    for (size_t i = 0; i < t->n_ids; i++)
        if (t->ids[i] < 0 || (size_t)t->ids[i] >= vocab)
            return lt_fail(err, LT_EDATA, "id %zu is %d, outside the vocabulary of %zu", i, t->ids[i], vocab);
    for (size_t r = 0; r < t->n_rows; r++)
        if (longest && t->row_start[r + 1] - t->row_start[r] > longest)
            return lt_fail(err, LT_EDATA, "row %zu has %zu tokens, the model takes %zu", r,
                           t->row_start[r + 1] - t->row_start[r], longest);
    return LT_OK;
}

static size_t longest_row(const lt_tokens *t) {
    size_t most = 0;
    for (size_t r = 0; r < t->n_rows; r++) most = lt_max_size(most, t->row_start[r + 1] - t->row_start[r]);
    return most;
}

static lt_status work_init(work *w, const lt_calibrate_in *in, lt_err *err) {
    *w = (work){ .in = in, .layer = -1 };
    LT_TRY(lt_tokens_check(in->tokens, in->model, "calibrate", err));
    const lt_calib_what what = { in->stats | (in->spectrum ? 1u << LT_STAT_GRAM : 0u), in->grads, in->include_head,
                                 in->first_rows, in->spectrum != NULL };
    LT_TRY(lt_calib_sites_init(&w->sites, in->model, &what, err));
    LT_TRY(lt_tokens_batches(&w->batches, &w->n_batches, in->tokens, in->batch_tokens ? in->batch_tokens : BATCH_TOKENS,
                             err));
    LT_TRY(weigh_tokens(w, err));
    if (in->first_rows >= longest_row(in->tokens))
        return lt_fail(err, LT_EDATA, "calibrate: %zu positions apart leave no other in rows of %zu", in->first_rows,
                       longest_row(in->tokens));
    return counted_tokens(w) ? LT_OK
                             : lt_fail(err, LT_EDATA, "calibrate: skip_first %zu leaves no token", in->skip_first);
}

/* ---- memory ---- */

static lt_status plan_memory(lt_run_plan *out, const work *w, lt_err *err) {
    size_t layer = 0, rows = 0;
    for (size_t l = 0; l < w->sites.n_layers; l++) layer = lt_max_size(layer, lt_calib_sites_bytes(&w->sites, (int)l));
    for (size_t b = 0; b < w->n_batches; b++) rows = lt_max_size(rows, w->batches[b].n_rows);
    const size_t grads = lt_calib_sites_bytes(&w->sites, LT_CALIB_GRADS);
    const size_t extra = lt_calib_work_bytes(&w->sites, rows) + lt_calib_sites_bytes(&w->sites, LT_CALIB_HEAD) +
                         (grads ? grads + lt_calib_gradients_bytes(w->in->model, rows) : 0);
    const size_t limit = w->in->ctx ? w->in->ctx->max_memory : 0;
    return lt_run_make_plan(out, w->in->model, w->batches, w->n_batches, limit, extra, layer, 0, true, err);
}

lt_status lt_calibrate_predict(lt_run_plan *out, const lt_calibrate_in *in, lt_err *err) {
    work w;
    lt_status st = work_init(&w, in, err);
    if (st == LT_OK) st = plan_memory(out, &w, err);
    work_clear(&w);
    return st;
}

/* ---- settings and header ---- */

/* Kernels and BLAS decide the last bits; the number of threads does not. */
static char *machine_of(lt_team *team) {
    char text[256];
    lt_team_describe(team, text, sizeof text);
    char *threads = strrchr(text, ',');
    if (threads) *threads = 0;
    return lt_strdup(text);
}

static json_t *stat_names(lt_stat_set set) {
    json_t *list = json_array();
    for (size_t k = 0; k < LT_N_STATS; k++)
        if (set >> k & 1u) json_array_append_new(list, json_string(lt_stat_rows[k]->name));
    return list;
}

static lt_status parse_settings(json_t **out, const lt_calibrate_in *in, lt_err *err) {
    const char *text = in->settings ? in->settings : "{}";
    LT_TRY(lt_json_parse(out, text, strlen(text), "settings", err));
    if (json_is_object(*out)) return LT_OK;
    json_decref(*out);
    *out = NULL;
    return lt_fail(err, LT_EUSAGE, "calibrate: settings must be a JSON object");
}

/* What the file says of how it was made; merging compares it. */
static lt_status file_settings(json_t **out, const lt_calibrate_in *in, lt_err *err) {
    LT_TRY(parse_settings(out, in, err));
    int failed = json_object_set_new(*out, "stats", stat_names(in->stats)) ||
                 json_object_set_new(*out, "skip_first", json_integer((json_int_t)in->skip_first));
    if (in->grads) failed |= json_object_set_new(*out, "grads", stat_names(in->grads));
    if (in->first_rows) failed |= json_object_set_new(*out, "first_rows", json_integer((json_int_t)in->first_rows));
    if (in->spectrum) failed |= json_object_set_new(*out, "keep", json_string("spectra"));
    if (in->f32) failed |= json_object_set_new(*out, "store", json_string("f32"));
    if (!failed) return LT_OK;
    json_decref(*out);
    *out = NULL;
    return no_memory(err);
}

/* What must not change before the work is finished. */
static lt_status journal_settings(json_t **out, const lt_calibrate_in *in, const char *machine, lt_err *err) {
    json_t *settings;
    LT_TRY(file_settings(&settings, in, err));
    *out = json_pack("{s:s, s:s, s:s, s:b, s:I, s:s, s:o}", "model_hash", in->model_hash, "tokenizer_hash",
                     in->tokens->tokenizer_hash, "tokens_hash", in->tokens->hash, "include_head", (int)in->include_head,
                     "batch_tokens", (json_int_t)in->batch_tokens, "machine", machine, "settings", settings);
    return *out ? LT_OK : no_memory(err);
}

static json_t *sites_json(const lt_calib_sites *s) {
    json_t *sites = json_object();
    for (size_t i = 0; i < s->n; i++) {
        json_t *modules = json_array();
        for (size_t k = 0; k < s->site[i].n_modules; k++)
            json_array_append_new(modules, json_string(s->site[i].modules[k]));
        json_t *site = json_pack("{s:I, s:o}", "cols", (json_int_t)s->site[i].cols, "modules", modules);
        if (site && s->site[i].kind != LT_STATS_INPUT)
            json_object_set_new(site, "kind", json_string(lt_stats_kind_name(s->site[i].kind)));
        json_object_set_new(sites, s->site[i].name, site);
    }
    return sites;
}

static lt_status make_head(work *w, lt_err *err) {
    const lt_tokens *t = w->in->tokens;
    json_t *settings;
    LT_TRY(file_settings(&settings, w->in, err));
    w->settings = lt_json_canonical(settings);
    json_decref(settings);
    w->machine = machine_of(w->in->team);
    w->site_list = sites_json(&w->sites);
    w->sets = lt_calloc(w->sites.n + 1, sizeof *w->sets);
    if (!w->settings || !w->machine || !w->site_list || !w->sets) return no_memory(err);
    for (size_t i = 0; i < w->sites.n; i++) w->sets[i] = w->sites.site[i].kept;
    w->head = (lt_stats_head){ .id = { w->in->model_hash, t->tokenizer_hash, t->hash, w->settings },
                               .source = t->source ? t->source : "",
                               .machine = w->machine,
                               .sites = w->site_list,
                               .sets = w->sets,
                               .f32 = w->in->f32 };
    return LT_OK;
}

/* ---- the pass ---- */

static bool wants(void *user, lt_site site, int layer, int sub, bool grad) {
    const work *w = user;
    return !grad && sub == 0 && lt_calib_sites_find(&w->sites, site, layer) != NULL;
}

static lt_status start_layer(work *w, int layer, lt_err *err) {
    if (layer < 0 || layer == w->layer) return LT_OK;
    w->layer = layer;
    return lt_calib_sites_begin(&w->sites, layer, err);
}

static lt_status observe(void *user, const lt_obs *obs, lt_err *err) {
    work *w = user;
    LT_TRY(start_layer(w, obs->layer, err));
    return lt_calib_sites_observe(&w->sites, w->in->team, obs, err);
}

static lt_calib_site *input_of(const lt_calib_sites *s, int layer, const char *module) {
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = 0; s->site[i].layer == layer && s->site[i].kind == LT_STATS_INPUT && k < s->site[i].n_modules;
             k++)
            if (strcmp(s->site[i].modules[k], module) == 0) return &s->site[i];
    return NULL;
}

typedef struct deriving {
    const work *w;
    int layer;
} deriving;

/* The i-th site of the run, where it is a spectrum of this layer. */
static lt_status derive_one(void *user, size_t i, lt_err *err) {
    const deriving *d = user;
    const work *w = d->w;
    lt_calib_site *at = &w->sites.site[i];
    lt_module mod;
    if (at->kind != LT_STATS_SPECTRUM || at->layer != d->layer) return LT_OK;
    const lt_calib_site *in = input_of(&w->sites, d->layer, at->modules[0]);
    if (!in || !lt_model_find_module(w->in->model, at->modules[0], &mod))
        return lt_fail(err, LT_EINTERNAL, "a spectrum without inputs (%s)", at->name);
    *at->acc[LT_STAT_COUNT] = *in->acc[LT_STAT_COUNT];
    return w->in->spectrum(at->acc[LT_STAT_LAMBDA], at->acc[LT_STAT_TRACE], mod.linear, in->acc[LT_STAT_GRAM], err);
}

static lt_status derive_spectra(const work *w, int layer, lt_err *err) {
    deriving d = { w, layer };
    return w->in->spectrum ? lt_team_for(w->in->team, w->sites.n, derive_one, &d, err) : LT_OK;
}

static lt_status group_done(void *user, size_t first_layer, size_t n_layers, lt_err *err) {
    work *w = user;
    for (size_t l = first_layer; l < first_layer + n_layers; l++) {
        LT_TRY(
            start_layer(w, (int)l, err)); /* a layer that was dropped from the model has no sites and an empty file */
        LT_TRY(derive_spectra(w, (int)l, err));
        LT_TRY(lt_journal_put(&w->journal, &w->sites, (int)l, w->in->team, err));
        lt_calib_sites_end(&w->sites, (int)l);
    }
    w->layer = -1;
    return LT_OK;
}

/* The final norm is run for its taps only. */
static lt_status batch_done(void *user, size_t batch, lt_exec *x, lt_var final, lt_err *err) {
    (void)user, (void)batch, (void)x, (void) final, (void)err;
    return LT_OK;
}

static lt_status run(work *w, const lt_run_plan *plan, lt_err *err) {
    /* but for the Gram of a matrix unit, all that sums is lt_team_run */
    const lt_observer observer = { wants, observe, w, !w->in->team->k->unit };
    const bool head = !w->journal.head_done;
    if (w->journal.n_layers_done == w->sites.n_layers && !head) return LT_OK;
    const lt_run_in in = { .model = w->in->model,
                           .team = w->in->team,
                           .ctx = w->in->ctx,
                           .batches = w->batches,
                           .n_batches = w->n_batches,
                           .observers = &observer,
                           .n_observers = 1,
                           .first_layer = w->journal.n_layers_done,
                           .state_path = w->journal.state_path,
                           .state_seconds = w->in->state_every_layer ? 0.0 : STATE_SECONDS,
                           .plan = *plan,
                           .group_done = group_done,
                           .batch_done = head ? batch_done : NULL,
                           .check_finite = true,
                           .user = w };
    if (head) LT_TRY(lt_calib_sites_begin(&w->sites, -1, err));
    LT_TRY(lt_run(&in, err));
    return head ? lt_journal_put(&w->journal, &w->sites, LT_CALIB_HEAD, w->in->team, err) : LT_OK;
}

static lt_status run_gradients(work *w, lt_err *err) {
    if (w->journal.grads_done) return LT_OK;
    LT_TRY(lt_calib_sites_begin(&w->sites, LT_CALIB_GRADS, err));
    LT_TRY(lt_calib_gradients(&w->sites, w->in, w->batches, w->n_batches, err));
    LT_TRY(lt_journal_put(&w->journal, &w->sites, LT_CALIB_GRADS, w->in->team, err));
    lt_calib_sites_end(&w->sites, LT_CALIB_GRADS);
    return LT_OK;
}

static double flops_of(const work *w) {
    double flops = 0.0, per_token = 0.0;
    for (size_t b = 0; b < w->n_batches; b++) flops += lt_model_flops(w->in->model, &w->batches[b], 0);
    for (size_t i = 0; i < w->sites.n; i++) {
        const double d = (double)w->sites.site[i].cols;
        if (w->sites.site[i].kind != LT_STATS_FIRST && w->sites.site[i].set >> LT_STAT_GRAM & 1u)
            per_token += d * (d + 1.0); /* the Gram; other sums are of lower order */
    }
    if (w->in->grads) flops *= 4.0; /* forward, recomputed forward, and a backward of twice that */
    return flops + per_token * (double)counted_tokens(w);
}

/* Where model or text are at fault the same call would end here again: nothing is kept for it. */
static lt_status collect(work *w, const lt_run_plan *plan, lt_err *err) {
    lt_status st = run(w, plan, err);
    if (st == LT_OK) st = run_gradients(w, err);
    if (st == LT_EDATA) lt_journal_remove(&w->journal, NULL);
    return st;
}

static lt_status calibrate(lt_calibrate_out *out, work *w, lt_err *err) {
    json_t *settings = NULL;
    lt_run_plan plan;
    LT_TRY(plan_memory(&plan, w, err));
    LT_TRY(make_head(w, err));
    LT_TRY(journal_settings(&settings, w->in, w->machine, err));
    const lt_status st = lt_journal_open(&w->journal, w->in->out_path, settings, &w->sites, &w->head, err);
    json_decref(settings);
    if (st != LT_OK) return st;
    out->predicted_bytes = plan.predicted_bytes;
    out->resumed = w->journal.found && w->journal.n_layers_done > 0;
    out->resumed_layer = w->journal.n_layers_done;
    LT_TRY(collect(w, &plan, err));
    LT_TRY(lt_journal_finish(&w->journal, w->in->out_path, err));
    return lt_journal_remove(&w->journal, err);
}

lt_status lt_calibrate(lt_calibrate_out *out, const lt_calibrate_in *in, lt_err *err) {
    const double start = lt_seconds();
    lt_calibrate_out result = { 0 };
    work w;
    lt_status st;
    LT_GO(work_init(&w, in, err));
    LT_GO(calibrate(&result, &w, err));
    result.tokens = counted_tokens(&w);
    result.rows = in->tokens->n_rows;
    result.flops = flops_of(&w);
    result.seconds = lt_seconds() - start;
    *out = result;
done:
    work_clear(&w);
    return st;
}
