/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/batch.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "compress/module_weight.h"

/* One site of the batch, as its modules want it; form: while a chunk has jobs of it. */
typedef struct site {
    lt_stats_site at;
    lt_lowrank_how how;
    bool affine;
    lt_factor factor;
    const lt_linear *linear; /* one that it feeds */
    lt_metric_form *form;
} site;
typedef struct order {
    double cost;
    size_t index;
} order;
typedef struct work {
    const lt_batch_in *in;
    site *sites;
    size_t n_sites;
    lt_batch_load *load; /* [n] of all jobs */
} work;
typedef struct chunk {
    const work *all;
    lt_lowrank_job *jobs;
    const lt_batch_load *load;
    size_t n_jobs;
    size_t n_all;       /* jobs of the batch */
    atomic_size_t done; /* of those */
    order *order;       /* [n_jobs] */
    size_t *site_of;    /* [n_sites] those of its jobs, each once */
    size_t n_sites;
} chunk;

/* A chunk grows to this many bytes of metrics and results, and further until each thread has some jobs: they differ in
 * length, and who is done first waits for the others. */
enum { CHUNK_BYTES = 128 << 20, JOBS_PER_THREAD = 4 };

static size_t job_m(const lt_lowrank_job *j) {
    return lt_linear_out(j->linear);
}
static size_t job_d(const lt_lowrank_job *j) {
    return lt_linear_in(j->linear);
}

/* ---- memory ---- */

static size_t result_bytes(const lt_batch_load *l) {
    return l->rank ? sizeof(double) * (l->rank * (l->m + l->d) + l->m) : 0;
}

static size_t work_bytes(const lt_batch_load *l) {
    const size_t m = l->m, d = l->d;
    const size_t left = l->left ? 4 * m * m + m * d : 0, measure = l->measure ? 2 * (d * d + m * d) : 0;
    return lt_lowrank_scratch_bytes(m, d, l->rank) + sizeof(double) * (m * d + left + measure) + l->weight_bytes;
}

static bool first_of_site(const lt_batch_load *load, size_t i) {
    size_t k = 0;
    while (k < i && load[k].site != load[i].site) k++;
    return k == i && load[i].site != SIZE_MAX;
}

/* The largest of the numbers put in, as many as there are threads: what runs at one time at the worst. */
typedef struct largest {
    size_t *bytes; /* [most] */
    size_t n, most, sum;
} largest;
/* What a chunk asks of memory; grows with each job, which costs no look at those before but for their sites. */
typedef struct need {
    largest making, running; /* metrics are made first, then jobs are run */
    size_t kept;             /* metrics and results, which stay while the chunk runs */
} need;

static bool need_create(need *x, int threads) {
    const size_t most = (size_t)threads;
    *x = (need){ .making = { .most = most }, .running = { .most = most } };
    x->making.bytes = lt_calloc(2 * most, sizeof(size_t));
    if (x->making.bytes) x->running.bytes = x->making.bytes + most;
    return x->making.bytes != NULL;
}

static void need_clear(need *x) {
    lt_free(x->making.bytes);
}

static void need_nothing(need *x) {
    x->making.n = x->making.sum = x->running.n = x->running.sum = x->kept = 0;
}

static void put_in(largest *l, size_t bytes) {
    size_t at = 0;
    if (l->n < l->most) {
        at = l->n++;
        l->bytes[at] = 0;
    }
    for (size_t i = 0; l->n == l->most && i < l->n; i++)
        if (l->bytes[i] < l->bytes[at]) at = i;
    if (l->bytes[at] >= bytes) return;
    l->sum += bytes - l->bytes[at];
    l->bytes[at] = bytes;
}

/* Peak of a chunk of the jobs 0..i; those before i are in. */
static size_t need_with(need *x, const lt_batch_load *load, size_t i) {
    put_in(&x->running, work_bytes(&load[i]));
    x->kept += result_bytes(&load[i]);
    if (first_of_site(load, i)) {
        put_in(&x->making, lt_metric_form_making_bytes(load[i].d, load[i].factor));
        x->kept += lt_metric_form_bytes(load[i].d, load[i].factor);
    }
    return x->kept + lt_max_size(x->running.sum, x->making.sum);
}

/* How many of the n jobs are a chunk, at least one; *bytes: its peak. */
static size_t take_jobs(size_t *bytes, const lt_batch_load *load, size_t n, size_t memory, need *x) {
    size_t taken = 1;
    need_nothing(x);
    *bytes = need_with(x, load, 0);
    for (; taken < n; taken++) {
        const size_t more = need_with(x, load, taken);
        const bool enough = taken >= JOBS_PER_THREAD * x->running.most;
        if (more > memory || (enough && x->kept > CHUNK_BYTES)) break;
        *bytes = more;
    }
    return taken;
}

static void even_out(lt_batch_load *load, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n && load[i].site != SIZE_MAX; k++)
            if (load[k].site == load[i].site && load[k].factor > load[i].factor) load[i].factor = load[k].factor;
}

size_t lt_lowrank_batch_bytes(lt_batch_load *load, size_t n, int threads, size_t memory) {
    need x;
    size_t peak = 0;
    const bool ready = need_create(&x, threads);
    even_out(load, n);
    for (size_t i = 0, bytes; ready && i < n;) {
        i += take_jobs(&bytes, load + i, n - i, memory, &x);
        peak = lt_max_size(peak, bytes);
    }
    need_clear(&x);
    return peak;
}

size_t lt_lowrank_batch_memory(const lt_ctx *ctx) {
    const size_t may = ctx && ctx->max_memory ? ctx->max_memory : lt_machine_memory() / 2, has = lt_current_rss_bytes();
    return may > has ? may - has : 0;
}

static lt_status check_memory(const work *w, const lt_lowrank_job *first, size_t peak, size_t memory, lt_err *err) {
    const lt_ctx *ctx = w->in->ctx;
    if (!ctx || !ctx->max_memory || peak <= memory) return LT_OK;
    const size_t limit = ctx->max_memory >> 20, over = ((peak - memory) >> 20) + 1;
    return lt_fail(err, LT_ENOMEM, "needs %zu MiB for this module alone, the limit is %zu MiB: %zu MiB short (%s)",
                   limit + over, limit, over, first->linear->name);
}

/* ---- sites ---- */

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

/* The number of the job's site, which is new or known; SIZE_MAX: it has none. */
static lt_status site_of(size_t *out, work *w, const lt_lowrank_job *j, lt_err *err) {
    lt_stats_site at;
    *out = SIZE_MAX;
    if (form_of(&j->how) == LT_FORM_NONE || form_of(&j->how) == LT_FORM_OUTPUT) return LT_OK;
    LT_TRY(find_site(&at, j, w->in, err));
    size_t i = 0;
    while (i < w->n_sites && !same_site(&w->sites[i], &at, j)) i++;
    if (i == w->n_sites)
        w->sites[w->n_sites++] = (site){ .at = at, .how = j->how, .affine = j->affine, .linear = j->linear };
    *out = i;
    return LT_OK;
}

static lt_status load_of(lt_batch_load *out, work *w, const lt_lowrank_job *j, lt_err *err) {
    const size_t m = job_m(j), d = job_d(j);
    const bool biased = form_of(&j->how) == LT_FORM_GRAM_SUM;
    *out = (lt_batch_load){ .m = m,
                            .d = d,
                            .rank = j->rank,
                            .weight_bytes = lt_tensor_bytes(&j->linear->stage[0].w.t),
                            .factor = biased ? LT_FACTOR_NONE : lt_factor_for(m, d),
                            .left = j->how.left,
                            .measure = j->measure };
    return site_of(&out->site, w, j, err);
}

static lt_status load_all(work *w, const lt_lowrank_job *jobs, size_t n, lt_err *err) {
    for (size_t i = 0; i < n; i++) LT_TRY(load_of(&w->load[i], w, &jobs[i], err));
    even_out(w->load, n);
    for (size_t i = 0; i < n; i++)
        if (w->load[i].site != SIZE_MAX) w->sites[w->load[i].site].factor = w->load[i].factor;
    return LT_OK;
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
    if (st == LT_OK) st = lt_metric_form_diagonal(&s->form, d, a, s->factor, err);
    lt_free(a);
    return st;
}

static lt_status prepare_site(void *user, size_t i, lt_err *err) {
    const chunk *c = user;
    site *s = &c->all->sites[c->site_of[i]];
    const int form = form_of(&s->how);
    const bool with_sum = s->affine || form == LT_FORM_GRAM_SUM;
    double *values = NULL, *sum = NULL, *count = NULL;
    lt_status st;
    LT_GO(load_sum(&values, c->all->in->stats, s, form == LT_FORM_ABS ? "abssum" : "gram", err));
    LT_GO(load_sum(&count, c->all->in->stats, s, "count", err));
    if (with_sum) LT_GO(load_sum(&sum, c->all->in->stats, s, "sum", err));
    st = form == LT_FORM_ABS
             ? abs_form(s, values, *count, err)
             : lt_metric_form_create(&s->form, s->at.cols, values, sum, *count, s->affine, s->factor, err);
done:
    lt_free(values);
    lt_free(sum);
    lt_free(count);
    return st == LT_OK ? LT_OK : lt_context(err, st, "%s", s->linear->name);
}

/* What only one module needs beside its weight. */
typedef struct own {
    double *w, *bias, *left, *out_gram;
    double *gram, *sum, *count; /* of all rows, to measure with */
} own;

static void own_clear(own *o) {
    lt_free(o->w);
    lt_free(o->bias);
    lt_free(o->left);
    lt_free(o->out_gram);
    lt_free(o->gram);
    lt_free(o->sum);
    lt_free(o->count);
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

static lt_status load_all_rows(own *o, const lt_batch_in *in, const lt_lowrank_job *j, lt_err *err) {
    site s = { .linear = j->linear };
    LT_TRY(find_site(&s.at, j, in, err));
    LT_TRY(load_sum(&o->gram, in->stats, &s, "gram", err));
    if (!j->affine) return LT_OK;
    LT_TRY(load_sum(&o->sum, in->stats, &s, "sum", err));
    return load_sum(&o->count, in->stats, &s, "count", err);
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
    if (j->measure) LT_TRY(load_all_rows(o, batch, j, err));
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

static lt_status measure(lt_lowrank_job *j, const lt_lowrank_in *in, const own *o, lt_err *err) {
    lt_lowrank_in outputs = { .m = in->m, .d = in->d, .w = in->w, .c = o->gram, .sum = o->sum };
    LT_TRY(lt_lowrank_error(&j->out_total, &outputs, 0, NULL, NULL, err));
    if (!j->affine) return lt_lowrank_error(&j->out_error, &outputs, j->rank, j->a, j->b, err);
    outputs.count = *o->count;
    return lt_lowrank_affine_error(&j->out_error, &outputs, j->rank, j->a, j->b, j->bias_delta, err);
}

static lt_status run_fit(lt_lowrank_job *j, const lt_lowrank_in *in, const own *o, lt_err *err) {
    LT_TRY(new_factors(j, err));
    LT_TRY(lt_lowrank_fit(j->a, j->b, j->bias_delta, &j->error, &j->total, j->rank, in, err));
    return j->measure ? measure(j, in, o, err) : LT_OK;
}

/* From the caller's own thread alone, which may stop the rest: a large chunk takes minutes. */
static lt_status tell(const chunk *c, lt_err *err) {
    const lt_batch_in *in = c->all->in;
    if (lt_team_thread() != 0) return LT_OK;
    return lt_progress(in->ctx, err, in->stage, (double)atomic_load(&c->done), (double)c->n_all, "modules");
}

static lt_status run_job(void *user, size_t i, lt_err *err) {
    chunk *c = user;
    LT_TRY(tell(c, err));
    lt_lowrank_job *j = &c->jobs[c->order[i].index];
    lt_lowrank_in in = { .m = job_m(j), .d = job_d(j), .affine = j->affine, .balance = j->balance, .form = j->form };
    own o = { 0 };
    lt_status st = load_own(&o, &in, j, c->all->in, err);
    if (st == LT_OK) st = j->rank ? run_fit(j, &in, &o, err) : run_spectrum(j, &in, err);
    own_clear(&o);
    atomic_fetch_add(&c->done, 1);
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

/* The sites of the chunk's jobs, each once. */
static void list_sites(chunk *c) {
    c->n_sites = 0;
    for (size_t i = 0; i < c->n_jobs; i++)
        if (first_of_site(c->load, i)) c->site_of[c->n_sites++] = c->load[i].site;
}

static lt_status run_chunk(chunk *c, lt_err *err) {
    const lt_batch_in *in = c->all->in;
    list_sites(c);
    LT_TRY(lt_team_for(in->team, c->n_sites, prepare_site, c, err));
    for (size_t i = 0; i < c->n_jobs; i++)
        c->jobs[i].form = c->load[i].site == SIZE_MAX ? NULL : c->all->sites[c->load[i].site].form;
    put_in_order(c);
    LT_TRY(lt_team_for(in->team, c->n_jobs, run_job, c, err));
    return in->done ? in->done(in->user, c->jobs, c->n_jobs, err) : LT_OK;
}

static void clear_chunk(chunk *c) {
    for (size_t i = 0; i < c->n_sites; i++) {
        site *s = &c->all->sites[c->site_of[i]];
        lt_metric_form_destroy(s->form);
        s->form = NULL;
    }
    for (size_t i = 0; i < c->n_jobs; i++) {
        lt_lowrank_job *j = &c->jobs[i];
        lt_free(j->a);
        lt_free(j->b);
        lt_free(j->bias_delta);
        j->a = j->b = j->bias_delta = NULL;
        j->form = NULL;
    }
}

static lt_status run_all(work *w, lt_lowrank_job *jobs, size_t n, chunk *c, need *x, lt_err *err) {
    const lt_batch_in *in = w->in;
    c->n_all = n;
    LT_TRY(load_all(w, jobs, n, err));
    for (size_t first = 0; first < n; first += c->n_jobs) {
        const size_t memory = lt_lowrank_batch_memory(in->ctx);
        size_t peak;
        LT_TRY(tell(c, err));
        c->jobs = jobs + first;
        c->load = w->load + first;
        c->n_jobs = take_jobs(&peak, c->load, n - first, memory, x);
        LT_TRY(check_memory(w, c->jobs, peak, memory, err));
        const lt_status st = run_chunk(c, err);
        clear_chunk(c);
        if (st != LT_OK) return st;
    }
    return tell(c, err);
}

lt_status lt_lowrank_batch(lt_lowrank_job *jobs, size_t n, const lt_batch_in *in, lt_err *err) {
    work w = { .in = in };
    chunk c = { .all = &w };
    need x;
    const bool ready = need_create(&x, in->team->threads);
    lt_status st;
    w.sites = lt_calloc(n + 1, sizeof *w.sites);
    w.load = lt_calloc(n + 1, sizeof *w.load);
    c.site_of = lt_calloc(n + 1, sizeof *c.site_of);
    c.order = lt_calloc(n + 1, sizeof *c.order);
    if (w.sites && w.load && c.site_of && c.order && ready)
        st = run_all(&w, jobs, n, &c, &x, err);
    else
        st = lt_fail(err, LT_ENOMEM, "no memory for %zu modules", n);
    lt_free(w.sites);
    lt_free(w.load);
    lt_free(c.site_of);
    lt_free(c.order);
    need_clear(&x);
    return st;
}
