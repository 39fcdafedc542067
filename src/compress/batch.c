/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compress/module_weight.h"

/* One site of a chunk, as its modules want it. */
typedef struct site {
    lt_stats_site at;
    lt_lowrank_how how;
    bool affine, factored;
    const lt_linear *linear; /* one that it feeds */
    lt_metric_form *form;
} site;
typedef struct order {
    double cost;
    size_t index;
} order;
typedef struct chunk {
    const lt_batch_in *in;
    lt_lowrank_job *jobs;
    size_t n_jobs;
    site *sites;
    size_t n_sites, *site_of; /* [n_jobs]; SIZE_MAX: no metric */
    order *order;             /* [n_jobs] */
} chunk;

enum { CHUNK_BYTES = 128 << 20 };

static size_t job_m(const lt_lowrank_job *j) {
    return lt_linear_out(j->linear);
}
static size_t job_d(const lt_lowrank_job *j) {
    return lt_linear_in(j->linear);
}

/* ---- cutting into chunks ---- */

static size_t result_bytes(const lt_lowrank_job *j) {
    return sizeof(double) * (j->rank * (job_m(j) + job_d(j)) + job_m(j));
}
static size_t work_bytes(const lt_lowrank_job *j) {
    const size_t m = job_m(j), d = job_d(j);
    const size_t left = j->how.left ? 4 * m * m + m * d : 0, measure = j->measure ? 2 * (d * d + m * d) : 0;
    return lt_lowrank_scratch_bytes(m, d, j->rank) + sizeof(double) * (m * d + left + measure);
}

static lt_status find_site(lt_stats_site *out, const lt_lowrank_job *j, const lt_batch_in *in, lt_err *err) {
    bool whole;
    if (!in->stats)
        return lt_fail(err, LT_EUSAGE, "metric \"%s\" needs stats (%s)", lt_metric_name(j->how.metric),
                       j->linear->name);
    if (!lt_stats_of_linear(in->stats, LT_STATS_INPUT, j->linear, out, &whole))
        return lt_fail(err, LT_EDATA, "the stats have no site that feeds this module: calibrate it first (%s)",
                       j->linear->name);
    if (out->cols == job_d(j)) return LT_OK;
    return lt_fail(err, LT_EDATA, "the stats have %zu columns, the module %zu inputs (%s: %s)", out->cols, job_d(j),
                   j->linear->name, out->name);
}

static int form_of(const lt_lowrank_how *how) {
    return lt_metric_get(how->metric)->form;
}

static bool same_site(const site *s, const lt_stats_site *at, const lt_lowrank_job *j) {
    return s->affine == j->affine && form_of(&s->how) == form_of(&j->how) && s->how.rest == j->how.rest &&
           s->how.alpha == j->how.alpha && strcmp(s->at.name, at->name) == 0;
}

/* Adds the job's site to the chunk, or finds it there; *bytes grows by what is new. */
static lt_status join_site(chunk *c, size_t job, size_t *bytes, lt_err *err) {
    const lt_lowrank_job *j = &c->jobs[job];
    lt_stats_site at;
    c->site_of[job] = SIZE_MAX;
    *bytes += result_bytes(j);
    if (form_of(&j->how) == LT_FORM_NONE || form_of(&j->how) == LT_FORM_OUTPUT) return LT_OK;
    LT_TRY(find_site(&at, j, c->in, err));
    size_t i = 0;
    while (i < c->n_sites && !same_site(&c->sites[i], &at, j)) i++;
    const bool factored = job_m(j) > job_d(j) && form_of(&j->how) != LT_FORM_GRAM_SUM;
    if (i == c->n_sites) {
        c->sites[c->n_sites++] = (site){ .at = at, .how = j->how, .affine = j->affine, .linear = j->linear };
        *bytes += lt_metric_form_bytes(at.cols, false);
    }
    if (factored && !c->sites[i].factored)
        *bytes += lt_metric_form_bytes(at.cols, true) - lt_metric_form_bytes(at.cols, false);
    c->sites[i].factored |= factored;
    c->site_of[job] = i;
    return LT_OK;
}

/* How many bytes a chunk may hold: CHUNK_BYTES, or less under a tight max_memory. */
static size_t chunk_limit(const lt_batch_in *in) {
    if (!in->ctx || !in->ctx->max_memory) return CHUNK_BYTES;
    return lt_min_size(CHUNK_BYTES, in->ctx->max_memory / 4);
}

/* Takes jobs [0, c->n_jobs) while they fit, at least one. */
static lt_status take_jobs(chunk *c, size_t left, lt_err *err) {
    size_t bytes = 0;
    for (c->n_jobs = c->n_sites = 0; c->n_jobs < left; c->n_jobs++) {
        size_t more = bytes;
        const size_t n_sites = c->n_sites;
        LT_TRY(join_site(c, c->n_jobs, &more, err));
        if (c->n_jobs > 0 && more > chunk_limit(c->in)) {
            c->n_sites = n_sites;
            break;
        }
        bytes = more;
    }
    return LT_OK;
}

static lt_status check_memory(const chunk *c, lt_err *err) {
    const lt_ctx *ctx = c->in->ctx;
    size_t need = 0, work = 0;
    if (!ctx || !ctx->max_memory) return LT_OK;
    for (size_t i = 0; i < c->n_sites; i++) need += lt_metric_form_bytes(c->sites[i].at.cols, c->sites[i].factored);
    for (size_t i = 0; i < c->n_jobs; i++)
        need += result_bytes(&c->jobs[i]), work = lt_max_size(work, work_bytes(&c->jobs[i]));
    need += work * (size_t)c->in->team->threads + lt_current_rss_bytes();
    if (need <= ctx->max_memory) return LT_OK;
    return lt_fail(err, LT_ENOMEM, "needs %zu MB, the limit is %zu MB: %zu MB short; fewer threads need less (%s)",
                   need >> 20, ctx->max_memory >> 20, ((need - ctx->max_memory) >> 20) + 1, c->jobs[0].linear->name);
}

/* ---- running a chunk ---- */

/* <site>.<stat>; with the first positions' part, where the stats keep one and it is not to be left out. */
static lt_status load_sum(double **out, const lt_stats *stats, const site *s, const char *stat, lt_err *err) {
    lt_stats_site first;
    double *more = NULL;
    bool whole;
    LT_TRY(lt_stats_load(out, stats, s->at.name, stat, err));
    if (s->how.rest || !lt_stats_of_linear(stats, LT_STATS_FIRST, s->linear, &first, &whole)) return LT_OK;
    const lt_status st = lt_stats_load(&more, stats, first.name, stat, err);
    const size_t d = s->at.cols, n = strcmp(stat, "gram") == 0 ? d * (d + 1) / 2 : strcmp(stat, "count") == 0 ? 1 : d;
    for (size_t i = 0; st == LT_OK && i < n; i++) (*out)[i] += more[i];
    lt_free(more);
    if (st == LT_OK) return LT_OK;
    lt_free(*out);
    *out = NULL;
    return st;
}

/* a_j = (mean |x_j|)^alpha + 1e-6 */
static lt_status abs_form(site *s, const double *abssum, double count, lt_err *err) {
    const size_t d = s->at.cols;
    double *a = lt_calloc(d, sizeof *a);
    if (!a) return lt_fail(err, LT_ENOMEM, "no memory for %zu columns", d);
    lt_status st = count > 0.0 ? LT_OK : lt_fail(err, LT_EDATA, "the stats count no token (%s)", s->at.name);
    for (size_t i = 0; i < d; i++) a[i] = pow(abssum[i] / count, s->how.alpha) + 1e-6;
    if (st == LT_OK) st = lt_metric_form_diagonal(&s->form, d, a, s->factored, err);
    lt_free(a);
    return st;
}

static lt_status prepare_site(void *user, size_t i, lt_err *err) {
    const chunk *c = user;
    site *s = &c->sites[i];
    const int form = form_of(&s->how);
    const bool with_sum = s->affine || form == LT_FORM_GRAM_SUM;
    double *values = NULL, *sum = NULL, *count = NULL;
    lt_status st;
    LT_GO(load_sum(&values, c->in->stats, s, form == LT_FORM_ABS ? "abssum" : "gram", err));
    LT_GO(load_sum(&count, c->in->stats, s, "count", err));
    if (with_sum) LT_GO(load_sum(&sum, c->in->stats, s, "sum", err));
    st = form == LT_FORM_ABS
             ? abs_form(s, values, *count, err)
             : lt_metric_form_create(&s->form, s->at.cols, values, sum, *count, s->affine, s->factored, err);
done:
    lt_free(values);
    lt_free(sum);
    lt_free(count);
    return st == LT_OK ? LT_OK : lt_context(err, st, "%s", s->linear->name);
}

/* What only one module needs beside its weight. */
typedef struct own {
    double *w, *bias, *left, *out_gram, *gram;
} own;

static void own_clear(own *o) {
    lt_free(o->w);
    lt_free(o->bias);
    lt_free(o->left);
    lt_free(o->out_gram);
    lt_free(o->gram);
}

/* The Gram of a part's outputs is that of the whole's, at its rows: packed, in place, since rows ascend. */
static void take_rows(double *gram, const lt_linear *part) {
    const size_t m = lt_linear_out(part);
    for (size_t i = 0, k = 0; i < m; i++) {
        const size_t r = lt_part_row(part, i);
        for (size_t j = 0; j <= i; j++) gram[k++] = gram[r * (r + 1) / 2 + lt_part_row(part, j)];
    }
}

static lt_status load_kind(double **out, const lt_batch_in *in, lt_stats_kind kind, const lt_linear *l, lt_err *err) {
    lt_stats_site at;
    bool whole;
    if (!in->stats || !lt_stats_of_linear(in->stats, kind, l, &at, &whole))
        return lt_fail(err, LT_EDATA, "the stats have no %s Gram of this module", lt_stats_kind_name(kind));
    if (at.cols != lt_linear_out(whole ? l->whole : l))
        return lt_fail(err, LT_EDATA, "the stats have %zu columns, the module %zu outputs (%s)", at.cols,
                       lt_linear_out(whole ? l->whole : l), at.name);
    LT_TRY(lt_stats_load(out, in->stats, at.name, "gram", err));
    if (whole) take_rows(*out, l);
    return LT_OK;
}

static lt_status load_output(double **out, const lt_batch_in *in, const lt_linear *l, lt_err *err) {
    lt_stats_site at;
    bool whole;
    const bool clean = in->stats && lt_stats_of_linear(in->stats, LT_STATS_OUTPUT, l, &at, &whole);
    return load_kind(out, in, clean ? LT_STATS_OUTPUT : LT_STATS_BIASED, l, err);
}

static lt_status load_all_rows(double **gram, const lt_batch_in *in, const lt_lowrank_job *j, lt_err *err) {
    site s = { .linear = j->linear };
    LT_TRY(find_site(&s.at, j, in, err));
    return load_sum(gram, in->stats, &s, "gram", err);
}

static lt_status load_own(own *o, lt_lowrank_in *in, const lt_lowrank_job *j, const lt_batch_in *batch, lt_err *err) {
    const int form = form_of(&j->how);
    o->w = lt_calloc(in->m * in->d, sizeof(double));
    if (!o->w) return lt_fail(err, LT_ENOMEM, "no memory for a %zu x %zu weight", in->m, in->d);
    LT_TRY(lt_module_weight(o->w, j->linear, err));
    if (form == LT_FORM_GRAM_SUM) {
        o->bias = lt_calloc(in->m, sizeof(double));
        if (!o->bias) return lt_fail(err, LT_ENOMEM, "no memory for a bias of %zu", in->m);
        LT_TRY(lt_module_bias(o->bias, j->linear, err));
    }
    if (j->how.left) LT_TRY(load_kind(&o->left, batch, LT_STATS_GRAD, j->linear, err));
    if (form == LT_FORM_OUTPUT) LT_TRY(load_output(&o->out_gram, batch, j->linear, err));
    if (j->measure) LT_TRY(load_all_rows(&o->gram, batch, j, err));
    in->w = o->w;
    in->bias = o->bias;
    in->left = o->left;
    in->damping = j->how.damping;
    in->nested = j->nested;
    in->out_gram = o->out_gram;
    in->project = j->how.metric == LT_METRIC_PROJECTED;
    return LT_OK;
}

static lt_status new_factors(lt_lowrank_job *j, lt_err *err) {
    j->a = lt_calloc(j->rank * job_m(j), sizeof(double));
    j->b = lt_calloc(j->rank * job_d(j), sizeof(double));
    j->bias_delta = j->affine ? lt_calloc(job_m(j), sizeof(double)) : NULL;
    return j->a && j->b && (!j->affine || j->bias_delta)
               ? LT_OK
               : lt_fail(err, LT_ENOMEM, "no memory for factors of rank %zu", j->rank);
}

static lt_status run_spectrum(lt_lowrank_job *j, const lt_lowrank_in *in, lt_err *err) {
    LT_TRY(lt_lowrank_spectrum(j->lambda, &j->total, in, err));
    for (size_t k = 0; k < in->m * in->d; k++) j->weight_norm2 += in->w[k] * in->w[k];
    return LT_OK;
}

static lt_status run_fit(lt_lowrank_job *j, const lt_lowrank_in *in, const own *o, lt_err *err) {
    const lt_lowrank_in outputs = { .m = in->m, .d = in->d, .w = in->w, .c = o->gram };
    LT_TRY(new_factors(j, err));
    LT_TRY(lt_lowrank_fit(j->a, j->b, j->bias_delta, &j->error, j->rank, in, err));
    if (!j->measure) return LT_OK;
    LT_TRY(lt_lowrank_error(&j->out_error, &outputs, j->rank, j->a, j->b, err));
    return lt_lowrank_error(&j->out_total, &outputs, 0, NULL, NULL, err);
}

static lt_status run_job(void *user, size_t i, lt_err *err) {
    const chunk *c = user;
    lt_lowrank_job *j = &c->jobs[c->order[i].index];
    lt_lowrank_in in = { .m = job_m(j), .d = job_d(j), .affine = j->affine, .balance = j->balance, .form = j->form };
    own o = { 0 };
    lt_status st = load_own(&o, &in, j, c->in, err);
    if (st == LT_OK) st = j->rank ? run_fit(j, &in, &o, err) : run_spectrum(j, &in, err);
    own_clear(&o);
    return st == LT_OK ? LT_OK : lt_context(err, st, "%s", j->linear->name);
}

static int by_cost(const void *pa, const void *pb) {
    const order *a = pa, *b = pb;
    if (a->cost != b->cost) return a->cost > b->cost ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

static void put_in_order(chunk *c) {
    for (size_t i = 0; i < c->n_jobs; i++) {
        const double m = (double)job_m(&c->jobs[i]), d = (double)job_d(&c->jobs[i]), n = m < d ? m : d;
        c->order[i] = (order){ m * d * n + d * d * n, i };
    }
    qsort(c->order, c->n_jobs, sizeof *c->order, by_cost);
}

static lt_status run_chunk(chunk *c, lt_err *err) {
    LT_TRY(check_memory(c, err));
    LT_TRY(lt_team_for(c->in->team, c->n_sites, prepare_site, c, err));
    for (size_t i = 0; i < c->n_jobs; i++)
        c->jobs[i].form = c->site_of[i] == SIZE_MAX ? NULL : c->sites[c->site_of[i]].form;
    put_in_order(c);
    LT_TRY(lt_team_for(c->in->team, c->n_jobs, run_job, c, err));
    for (size_t i = 0; c->in->done && i < c->n_jobs; i++) LT_TRY(c->in->done(c->in->user, &c->jobs[i], err));
    return LT_OK;
}

static void clear_chunk(chunk *c) {
    for (size_t i = 0; i < c->n_sites; i++) lt_metric_form_destroy(c->sites[i].form);
    for (size_t i = 0; i < c->n_jobs; i++) {
        lt_lowrank_job *j = &c->jobs[i];
        lt_free(j->a);
        lt_free(j->b);
        lt_free(j->bias_delta);
        j->a = j->b = j->bias_delta = NULL;
        j->form = NULL;
    }
}

lt_status lt_lowrank_batch(lt_lowrank_job *jobs, size_t n, const lt_batch_in *in, lt_err *err) {
    chunk c = { .in = in };
    lt_status st = LT_OK;
    c.sites = lt_calloc(n + 1, sizeof *c.sites);
    c.site_of = lt_calloc(n + 1, sizeof *c.site_of);
    c.order = lt_calloc(n + 1, sizeof *c.order);
    if (!c.sites || !c.site_of || !c.order) LT_GO(lt_fail(err, LT_ENOMEM, "no memory for %zu modules", n));
    for (size_t first = 0; first < n && st == LT_OK; first += c.n_jobs) {
        c.jobs = jobs + first;
        LT_GO(lt_progress(in->ctx, err, in->stage, (double)first, (double)n, "modules"));
        LT_GO(take_jobs(&c, n - first, err));
        st = run_chunk(&c, err);
        clear_chunk(&c);
    }
    if (st == LT_OK) st = lt_progress(in->ctx, err, in->stage, (double)n, (double)n, "modules");
done:
    lt_free(c.sites);
    lt_free(c.site_of);
    lt_free(c.order);
    return st;
}
