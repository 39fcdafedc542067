/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/batch.h"

#include <stdlib.h>
#include <string.h>

#include "compress/module_weight.h"

/* One site of a chunk, as its modules want it. */
typedef struct site {
    lt_stats_site at;
    bool affine, factored;
    const char *module;
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
    return lt_lowrank_scratch_bytes(job_m(j), job_d(j), j->rank) + sizeof(double) * job_m(j) * job_d(j);
}

static lt_status find_site(lt_stats_site *out, const lt_lowrank_job *j, const lt_batch_in *in, lt_err *err) {
    if (!in->stats) return lt_fail(err, LT_EUSAGE, "metric \"input\" needs stats (%s)", j->linear->name);
    if (!lt_stats_site_of(in->stats, j->linear->name, out))
        return lt_fail(err, LT_EDATA, "the stats have no site that feeds this module: calibrate it first (%s)",
                       j->linear->name);
    if (out->cols == job_d(j)) return LT_OK;
    return lt_fail(err, LT_EDATA, "the stats have %zu columns, the module %zu inputs (%s: %s)", out->cols, job_d(j),
                   j->linear->name, out->name);
}

static bool same_site(const site *s, const lt_stats_site *at, bool affine) {
    return s->affine == affine && strcmp(s->at.name, at->name) == 0;
}

/* Adds the job's site to the chunk, or finds it there; *bytes grows by what is new. */
static lt_status join_site(chunk *c, size_t job, size_t *bytes, lt_err *err) {
    const lt_lowrank_job *j = &c->jobs[job];
    lt_stats_site at;
    c->site_of[job] = SIZE_MAX;
    *bytes += result_bytes(j);
    if (j->metric == LT_METRIC_WEIGHT) return LT_OK;
    LT_TRY(find_site(&at, j, c->in, err));
    size_t i = 0;
    while (i < c->n_sites && !same_site(&c->sites[i], &at, j->affine)) i++;
    const bool factored = job_m(j) > job_d(j);
    if (i == c->n_sites) {
        c->sites[c->n_sites++] = (site){ .at = at, .affine = j->affine, .module = j->linear->name };
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

static lt_status prepare_site(void *user, size_t i, lt_err *err) {
    const chunk *c = user;
    site *s = &c->sites[i];
    const lt_stats *stats = c->in->stats;
    const double *gram, *sum = NULL;
    lt_status st;
    LT_GO(lt_stats_values(&gram, stats, s->at.name, "gram", err));
    if (s->affine) LT_GO(lt_stats_values(&sum, stats, s->at.name, "sum", err));
    st = lt_metric_form_create(&s->form, s->at.cols, gram, sum, lt_stats_count(stats, s->at.name), s->affine,
                               s->factored, err);
    lt_stats_drop(stats, s->at.name);
done:
    return st == LT_OK ? LT_OK : lt_context(err, st, "%s", s->module);
}

static lt_status new_factors(lt_lowrank_job *j, lt_err *err) {
    j->a = lt_calloc(j->rank * job_m(j), sizeof(double));
    j->b = lt_calloc(j->rank * job_d(j), sizeof(double));
    j->bias_delta = j->affine ? lt_calloc(job_m(j), sizeof(double)) : NULL;
    return j->a && j->b && (!j->affine || j->bias_delta)
               ? LT_OK
               : lt_fail(err, LT_ENOMEM, "no memory for factors of rank %zu", j->rank);
}

static lt_status run_job(void *user, size_t i, lt_err *err) {
    const chunk *c = user;
    lt_lowrank_job *j = &c->jobs[c->order[i].index];
    lt_lowrank_in in = { .m = job_m(j), .d = job_d(j), .affine = j->affine, .balance = j->balance, .form = j->form };
    lt_status st;
    double *w = lt_calloc(in.m * in.d, sizeof(double));
    if (!w) LT_GO(lt_fail(err, LT_ENOMEM, "no memory for a %zu x %zu weight", in.m, in.d));
    in.w = w;
    LT_GO(lt_module_weight(w, j->linear, err));
    if (j->rank == 0) {
        LT_GO(lt_lowrank_spectrum(j->lambda, &j->total, &in, err));
        for (size_t k = 0; k < in.m * in.d; k++) j->weight_norm2 += w[k] * w[k];
    } else {
        LT_GO(new_factors(j, err));
        LT_GO(lt_lowrank_fit(j->a, j->b, j->bias_delta, &j->error, j->rank, &in, err));
    }
done:
    lt_free(w);
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
