/* SPDX-License-Identifier: Apache-2.0 */
#include "model/generate.h"

#include <math.h>
#include <string.h>

const char *lt_finish_name(lt_finish f) {
    static const char *const names[] = { "length", "eos", "stop" };
    return names[f];
}

typedef struct sequence {
    size_t request, n_new;
    uint32_t sample;
    lt_session *session;
    int32_t last;     /* chosen, not yet fed */
    int32_t *history; /* [max_new] what was chosen; NULL: nobody looks back */
    size_t kv;        /* bytes that its cache will have at its end */
} sequence;

/* A prompt that has been read, until the last of its samples runs. */
typedef struct opening {
    lt_session *session; /* NULL: none */
    size_t request, started;
    float *logits; /* [vocab] */
} opening;

typedef struct engine {
    const lt_generate_many_in *in;
    lt_generate_many_out *out;
    lt_exec *x;
    size_t vocab, next_request, n_running, kv;
    sequence *running; /* [batch] */
    opening open;
    lt_session **session; /* [batch] of a step */
    int32_t *ids;         /* [batch] */
    float *logits;        /* [batch, vocab] */
    float *changed;       /* [vocab] with penalties */
} engine;

/* ---- choosing ---- */

static bool is_eos(const lt_config *c, int32_t id) {
    for (size_t i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id) return true;
    return false;
}

static bool penalises(const lt_sampler *s) {
    return s->penalty != 0.0 && s->penalty != 1.0;
}

/* The logits that the sampler sees. */
static const float *adjust(engine *e, const sequence *q, const float *logits) {
    const lt_generate_many_in *in = e->in;
    const lt_request *r = &in->requests[q->request];
    const lt_config *c = &in->model->config;
    const bool early = q->n_new < in->min_new;
    if (!early && !penalises(&in->sampler)) return logits;
    memcpy(e->changed, logits, e->vocab * sizeof *logits);
    if (penalises(&in->sampler)) {
        lt_penalise(e->changed, logits, e->vocab, in->sampler.penalty, r->prompt, r->n_prompt);
        lt_penalise(e->changed, logits, e->vocab, in->sampler.penalty, q->history, q->n_new);
    }
    for (size_t i = 0; early && i < c->n_eos; i++)
        if (c->eos[i] >= 0 && (size_t)c->eos[i] < e->vocab) e->changed[c->eos[i]] = -INFINITY;
    return e->changed;
}

static void release(sequence *q) {
    lt_session_destroy(q->session);
    lt_free(q->history);
    *q = (sequence){ 0 };
}

static void end_sequence(engine *e, sequence *q, lt_finish why) {
    const lt_generate_many_in *in = e->in;
    if (in->on_end && in->on_end(in->user, q->request, q->sample, why) == LT_TOKEN_ABORT) e->out->aborted = true;
    e->kv -= q->kv;
    release(q);
}

/* The next id of q; a sequence that ends with it has no session any more. */
static lt_status choose(engine *e, sequence *q, const float *logits, lt_err *err) {
    const lt_generate_many_in *in = e->in;
    const size_t max_new = in->requests[q->request].max_new;
    LT_TRY(lt_sample(&q->last, adjust(e, q, logits), e->vocab, &in->sampler, (uint32_t)q->n_new, q->sample, err));
    const lt_token t = { q->request, q->n_new, q->sample, q->last, logits };
    if (q->history) q->history[q->n_new] = q->last;
    q->n_new++;
    e->out->n_new++;
    const lt_token_reply reply = in->on_token ? in->on_token(in->user, &t) : LT_TOKEN_NEXT;
    e->out->aborted |= reply == LT_TOKEN_ABORT;
    if (reply != LT_TOKEN_NEXT)
        end_sequence(e, q, LT_FINISH_STOP);
    else if (!in->ignore_eos && is_eos(&in->model->config, q->last))
        end_sequence(e, q, LT_FINISH_EOS);
    else if (q->n_new == max_new)
        end_sequence(e, q, LT_FINISH_LENGTH);
    return LT_OK;
}

/* ---- entering ---- */

static size_t kv_of(const engine *e, size_t request) {
    const lt_request *r = &e->in->requests[request];
    return lt_session_predict(e->in->model, e->in->kv_dtype, r->n_prompt + r->max_new);
}

static bool has_room(const engine *e, size_t request) {
    if (e->n_running == e->in->batch) return false;
    return e->n_running == 0 || e->in->kv_bytes == 0 || kv_of(e, request) <= e->in->kv_bytes - e->kv;
}

static lt_status read_prompt(engine *e, lt_err *err) {
    const lt_generate_many_in *in = e->in;
    const lt_request *r = &in->requests[e->next_request];
    const double start = lt_seconds();
    e->open.request = e->next_request++;
    e->open.started = 0;
    LT_TRY(lt_session_create(&e->open.session, in->model, in->kv_dtype, err));
    LT_TRY(lt_session_feed(e->open.session, e->x, in->model, r->prompt, r->n_prompt, 0, e->open.logits, err));
    e->out->n_prompt += r->n_prompt;
    e->out->prefill_s += lt_seconds() - start;
    return LT_OK;
}

/* The last sample takes the prompt's session, those before it share its pages. */
static lt_status start_sample(engine *e, lt_err *err) {
    const lt_request *r = &e->in->requests[e->open.request];
    sequence *q = &e->running[e->n_running];
    *q = (sequence){ .request = e->open.request, .sample = (uint32_t)e->open.started, .kv = kv_of(e, e->open.request) };
    if (e->open.started + 1 < r->n_samples)
        LT_TRY(lt_session_fork(&q->session, e->open.session, err));
    else {
        q->session = e->open.session;
        e->open.session = NULL;
    }
    e->kv += q->kv;
    e->open.started++;
    e->n_running++; /* from here on it is released with the others */
    if (penalises(&e->in->sampler) && !(q->history = lt_calloc(lt_max_size(1, r->max_new), sizeof *q->history)))
        return lt_fail(err, LT_ENOMEM, "out of memory (history of %zu tokens)", r->max_new);
    if (r->max_new == 0)
        end_sequence(e, q, LT_FINISH_LENGTH);
    else
        LT_TRY(choose(e, q, e->open.logits, err));
    if (!q->session) e->n_running--;
    return LT_OK;
}

static lt_status enter(engine *e, lt_err *err) {
    while (!e->out->aborted) {
        const size_t request = e->open.session ? e->open.request : e->next_request;
        if (request == e->in->n_requests || !has_room(e, request)) return LT_OK;
        if (!e->open.session) LT_TRY(read_prompt(e, err));
        LT_TRY(start_sample(e, err));
    }
    return LT_OK;
}

/* ---- stepping ---- */

static void count_cache(engine *e) {
    size_t bytes = 0;
    for (size_t i = 0; i < e->n_running; i++) bytes += lt_session_bytes(e->running[i].session);
    e->out->kv_bytes = lt_max_size(e->out->kv_bytes, bytes);
}

/* Those that ended leave; the order of the others stays. */
static void close_ranks(engine *e) {
    size_t n = 0;
    for (size_t i = 0; i < e->n_running; i++)
        if (e->running[i].session) e->running[n++] = e->running[i];
    e->n_running = n;
}

static lt_status step(engine *e, lt_err *err) {
    for (size_t i = 0; i < e->n_running; i++) {
        e->session[i] = e->running[i].session;
        e->ids[i] = e->running[i].last;
    }
    LT_TRY(lt_session_step(e->session, e->n_running, e->x, e->in->model, e->ids, e->logits, err));
    e->out->n_steps++;
    count_cache(e);
    for (size_t i = 0; i < e->n_running && !e->out->aborted; i++)
        LT_TRY(choose(e, &e->running[i], e->logits + i * e->vocab, err));
    close_ranks(e);
    return LT_OK;
}

static lt_status run(engine *e, lt_err *err) {
    const double start = lt_seconds();
    while (!e->out->aborted) {
        LT_TRY(enter(e, err));
        count_cache(e);
        if (e->n_running == 0 || e->out->aborted) break;
        LT_TRY(step(e, err));
    }
    e->out->decode_s = lt_seconds() - start - e->out->prefill_s;
    return LT_OK;
}

/* ---- life ---- */

static lt_status check_requests(const lt_generate_many_in *in, lt_err *err) {
    const size_t max = in->model->config.max_positions;
    LT_REQUIRE(err, in->batch >= 1, "generate: a batch of none");
    for (size_t i = 0; i < in->n_requests; i++) {
        const lt_request *r = &in->requests[i];
        LT_REQUIRE(err, r->n_prompt >= 1, "generate: the prompt is empty");
        LT_REQUIRE(err, r->n_samples >= 1 && r->n_samples <= UINT32_MAX, "generate: %zu samples", r->n_samples);
        if (r->n_prompt > max || r->max_new > max - r->n_prompt + 1)
            return lt_fail(err, LT_EDATA, "%zu prompt and %zu new tokens asked of a model that has %zu positions (%s)",
                           r->n_prompt, r->max_new, max, in->model->path);
    }
    return LT_OK;
}

static lt_status engine_create(engine *e, lt_err *err) {
    const size_t batch = e->in->batch;
    size_t logits;
    e->vocab = e->in->model->config.vocab_size;
    LT_REQUIRE(err, lt_mul_size(batch, e->vocab, &logits), "generate: a batch of %zu", batch);
    e->running = lt_calloc(batch, sizeof *e->running);
    e->session = lt_calloc(batch, sizeof(lt_session *));
    e->ids = lt_calloc(batch, sizeof *e->ids);
    e->logits = lt_calloc(logits, sizeof *e->logits);
    e->changed = lt_calloc(e->vocab, sizeof *e->changed);
    e->open.logits = lt_calloc(e->vocab, sizeof *e->open.logits);
    if (!e->running || !e->session || !e->ids || !e->logits || !e->changed || !e->open.logits)
        return lt_fail(err, LT_ENOMEM, "out of memory (logits of %zu x %zu)", batch, e->vocab);
    return lt_exec_create(&e->x, e->in->team, &(lt_exec_opts){ .mode = LT_INFER }, err);
}

static void engine_clear(engine *e) {
    lt_exec_destroy(e->x);
    for (size_t i = 0; i < e->n_running; i++) release(&e->running[i]); /* behind them: nothing that is owned */
    lt_session_destroy(e->open.session);
    lt_free(e->running);
    lt_free(e->session);
    lt_free(e->ids);
    lt_free(e->logits);
    lt_free(e->changed);
    lt_free(e->open.logits);
}

lt_status lt_generate_many(lt_generate_many_out *out, const lt_generate_many_in *in, lt_err *err) {
    *out = (lt_generate_many_out){ 0 };
    LT_TRY(check_requests(in, err));
    engine e = { .in = in, .out = out };
    lt_status st = engine_create(&e, err);
    if (st == LT_OK) st = run(&e, err);
    engine_clear(&e);
    return st;
}

size_t lt_generate_bytes(const lt_model *m, size_t longest_prompt, size_t batch) {
    const size_t rows = lt_max_size(batch, lt_min_size(longest_prompt, LT_FEED_ROWS));
    return lt_model_exec_bytes(m, rows) + (2 * batch + 3) * m->config.vocab_size * sizeof(float);
}

/* ---- one sequence ---- */

typedef struct single {
    const lt_generate_in *in;
    lt_finish finish;
} single;

static lt_token_reply single_token(void *user, const lt_token *t) {
    const single *s = user;
    return s->in->on_token && s->in->on_token(s->in->user, t->id, t->logits) != 0 ? LT_TOKEN_STOP : LT_TOKEN_NEXT;
}

static lt_token_reply single_end(void *user, size_t request, uint32_t sample, lt_finish why) {
    (void)request;
    (void)sample;
    ((single *)user)->finish = why;
    return LT_TOKEN_NEXT;
}

lt_status lt_generate(lt_generate_out *out, const lt_generate_in *in, lt_err *err) {
    single s = { .in = in };
    const lt_request request = { in->prompt, in->n_prompt, in->max_new, 1 };
    const lt_generate_many_in many = { .model = in->model,
                                       .team = in->team,
                                       .requests = &request,
                                       .n_requests = 1,
                                       .batch = 1,
                                       .min_new = in->min_new,
                                       .ignore_eos = in->ignore_eos,
                                       .sampler = in->sampler,
                                       .kv_dtype = in->kv_dtype,
                                       .on_token = single_token,
                                       .on_end = single_end,
                                       .user = &s };
    lt_generate_many_out got;
    *out = (lt_generate_out){ 0 };
    LT_TRY(lt_generate_many(&got, &many, err));
    *out = (lt_generate_out){ got.n_new, s.finish, got.prefill_s, got.decode_s, got.kv_bytes };
    return LT_OK;
}
