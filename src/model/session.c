/* SPDX-License-Identifier: Apache-2.0 */
/* One page: PAGE entries of K and V of one (layer, kv head), filled from the front. A page that two sessions share is
 * never written: the one that appends copies it first. A session's positions are those that its last layer has; rows
 * that a failed batch left in earlier layers are cut off by the next append. Pages that lie before the window of every
 * query to come are given back. */
#include "model/session.h"

#include <stdatomic.h>
#include <string.h>

enum { PAGE = 256 };

typedef struct page {
    atomic_uint refs;
    unsigned char *k, *v; /* [PAGE] rows behind this header */
} page;

typedef struct row { /* one (layer, kv head) */
    page **pages;
    size_t gone, n_pages, cap; /* the first `gone` are NULL: out of every window */
} row;

struct lt_session {
    lt_past past; /* first: a session is cast to it */
    const lt_model *model;
    lt_dtype dtype;
    size_t n_layers, last; /* last: the layer that completes a step */
    size_t *first_row;     /* [n_layers + 1] into rows */
    size_t *filled;        /* [n_layers] entries of each layer */
    row *rows;
};

static size_t row_bytes(lt_dtype t, size_t n) {
    const lt_dtype_row *d = lt_dtype_get(t);
    return n / d->block * d->bytes;
}

static size_t page_size(const lt_layer_config *c, lt_dtype t) {
    return PAGE * (row_bytes(t, c->qk_dim) + row_bytes(t, c->v_dim));
}

static const lt_layer_config *layer_of(const lt_session *s, size_t layer) {
    return &s->model->config.layer[layer];
}

static size_t page_bytes(const lt_session *s, size_t layer) {
    return page_size(layer_of(s, layer), s->dtype);
}

/* ---- pages ---- */

static page *page_create(const lt_session *s, size_t layer) {
    const size_t header = 64; /* rows stay aligned */
    page *p = lt_malloc(header + page_bytes(s, layer));
    if (!p) return NULL;
    atomic_init(&p->refs, 1);
    p->k = (unsigned char *)p + header;
    p->v = p->k + PAGE * row_bytes(s->dtype, layer_of(s, layer)->qk_dim);
    return p;
}

static void page_release(page *p) {
    if (p && atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1) lt_free(p);
}

static bool page_shared(const page *p) {
    return atomic_load_explicit(&((page *)p)->refs, memory_order_acquire) > 1;
}

/* Pages past the first n entries go. */
static void cut_row(row *r, size_t n) {
    const size_t keep = (n + PAGE - 1) / PAGE;
    while (r->n_pages > keep) page_release(r->pages[--r->n_pages]);
}

/* Pages whose entries no query at position `at` or later sees. */
static void drop_before(row *r, size_t at, size_t window) {
    if (window == 0 || at + 1 < window) return;
    for (; r->gone < r->n_pages && (r->gone + 1) * PAGE <= at + 1 - window; r->gone++) {
        page_release(r->pages[r->gone]);
        r->pages[r->gone] = NULL;
    }
}

/* The page that entry `at` goes to, unshared; NULL: out of memory. */
static page *writable_page(lt_session *s, size_t layer, row *r, size_t at) {
    const size_t i = at / PAGE;
    if (i < r->n_pages && !page_shared(r->pages[i])) return r->pages[i];
    if (i == r->cap) {
        const size_t cap = r->cap ? 2 * r->cap : 4;
        page **grown = lt_realloc(r->pages, cap * sizeof *grown);
        if (!grown) return NULL;
        r->pages = grown;
        r->cap = cap;
    }
    page *p = page_create(s, layer);
    if (!p) return NULL;
    if (i < r->n_pages) { /* copy on write */
        memcpy(p->k, r->pages[i]->k, page_bytes(s, layer));
        page_release(r->pages[i]);
    } else
        r->n_pages++;
    r->pages[i] = p;
    return p;
}

/* ---- the past, as attention reads it ---- */

static size_t visible(const lt_session *s, size_t layer) {
    return lt_min_size(s->filled[layer], s->filled[s->last]);
}

static size_t n_segments(const lt_past *p, int layer, size_t kv_head) {
    const lt_session *s = (const lt_session *)p;
    return (visible(s, (size_t)layer) + PAGE - 1) / PAGE - s->rows[s->first_row[layer] + kv_head].gone;
}

static lt_kv_segment segment(const lt_past *p, int layer, size_t kv_head, size_t i) {
    const lt_session *s = (const lt_session *)p;
    const lt_layer_config *c = layer_of(s, (size_t)layer);
    const row *r = &s->rows[s->first_row[layer] + kv_head];
    const page *pg = r->pages[i += r->gone];
    return (lt_kv_segment){ .n = lt_min_size(PAGE, visible(s, (size_t)layer) - i * PAGE),
                            .dtype = s->dtype,
                            .k = pg->k,
                            .v = pg->v,
                            .k_stride = row_bytes(s->dtype, c->qk_dim),
                            .v_stride = row_bytes(s->dtype, c->v_dim),
                            .pos0 = i * PAGE };
}

/* ---- life ---- */

static lt_status check_dtype(const lt_model *m, lt_dtype t, lt_err *err) {
    const lt_dtype_row *d = lt_dtype_get(t);
    if (t != LT_F32 && t != LT_F16 && t != LT_BF16 && t != LT_Q8_0)
        return lt_fail(err, LT_EUNSUPPORTED, "the cache holds f32, f16, bf16 or q8_0 (%s)", d->name);
    for (size_t l = 0; l < m->config.n_layers; l++)
        if (m->config.layer[l].qk_dim % d->block || m->config.layer[l].v_dim % d->block)
            return lt_fail(err, LT_EUNSUPPORTED,
                           "head_dim is not a multiple of %zu, so the cache cannot be %s (layer %zu: %zu)", d->block,
                           d->name, l, m->config.layer[l].qk_dim);
    return LT_OK;
}

static lt_status allocate(lt_session **out, const lt_model *m, lt_dtype t, lt_err *err) {
    lt_session *s = lt_calloc(1, sizeof *s);
    const size_t n = m->config.n_layers;
    size_t n_rows = 0;
    if (s) {
        *s = (lt_session){ .past = { n_segments, segment }, .model = m, .dtype = t, .n_layers = n };
        s->first_row = lt_calloc(n + 1, sizeof *s->first_row);
        s->filled = lt_calloc(n, sizeof *s->filled);
    }
    for (size_t l = 0; s && s->first_row && l < n; l++) {
        n_rows += m->config.layer[l].present ? m->config.layer[l].n_k_heads : 0;
        s->first_row[l + 1] = n_rows;
        if (m->config.layer[l].present) s->last = l;
    }
    if (s) s->rows = lt_calloc(lt_max_size(1, n_rows), sizeof *s->rows);
    if (!s || !s->first_row || !s->filled || !s->rows) {
        lt_session_destroy(s);
        return lt_fail(err, LT_ENOMEM, "out of memory (session)");
    }
    *out = s;
    return LT_OK;
}

lt_status lt_session_create(lt_session **out, const lt_model *m, lt_dtype kv_dtype, lt_err *err) {
    LT_TRY(check_dtype(m, kv_dtype, err));
    return allocate(out, m, kv_dtype, err);
}

static bool share_row(row *to, const row *from) {
    to->pages = from->n_pages ? lt_malloc(from->n_pages * sizeof *to->pages) : NULL;
    if (from->n_pages && !to->pages) return false;
    to->cap = to->n_pages = from->n_pages;
    to->gone = from->gone;
    for (size_t i = 0; i < from->n_pages; i++) {
        to->pages[i] = from->pages[i];
        if (to->pages[i]) atomic_fetch_add_explicit(&to->pages[i]->refs, 1, memory_order_relaxed);
    }
    return true;
}

lt_status lt_session_fork(lt_session **out, const lt_session *s, lt_err *err) {
    lt_session *f;
    LT_TRY(allocate(&f, s->model, s->dtype, err));
    memcpy(f->filled, s->filled, s->n_layers * sizeof *f->filled);
    for (size_t i = 0; i < s->first_row[s->n_layers]; i++)
        if (!share_row(&f->rows[i], &s->rows[i])) {
            lt_session_destroy(f);
            return lt_fail(err, LT_ENOMEM, "out of memory (session)");
        }
    *out = f;
    return LT_OK;
}

void lt_session_destroy(lt_session *s) {
    if (!s) return;
    for (size_t i = 0; s->rows && s->first_row && i < s->first_row[s->n_layers]; i++) {
        cut_row(&s->rows[i], 0);
        lt_free(s->rows[i].pages);
    }
    lt_free(s->rows);
    lt_free(s->filled);
    lt_free(s->first_row);
    lt_free(s);
}

size_t lt_session_positions(const lt_session *s) {
    return s->filled[s->last];
}
lt_past *lt_session_past(lt_session *s) {
    return &s->past;
}

size_t lt_session_bytes(const lt_session *s) {
    size_t bytes = 0;
    for (size_t l = 0; l < s->n_layers; l++)
        for (size_t r = s->first_row[l]; r < s->first_row[l + 1]; r++)
            bytes += (s->rows[r].n_pages - s->rows[r].gone) * page_bytes(s, l);
    return bytes;
}

size_t lt_session_predict(const lt_model *m, lt_dtype kv_dtype, size_t positions) {
    size_t bytes = 0;
    for (size_t l = 0; l < m->config.n_layers; l++) {
        const lt_layer_config *c = &m->config.layer[l];
        if (!c->present) continue;
        /* a window, the rows of one feed behind it, and what their ends share a page with */
        const size_t most = c->window ? lt_min_size(positions, c->window + LT_FEED_ROWS + 2 * PAGE) : positions;
        bytes += (most + PAGE - 1) / PAGE * c->n_k_heads * page_size(c, kv_dtype);
    }
    return bytes;
}

/* ---- growing ---- */

static lt_status append_head(lt_session *s, size_t layer, row *r, size_t at, const float *k, size_t ldk, const float *v,
                             size_t ldv, size_t n, lt_err *err) {
    const lt_layer_config *c = layer_of(s, layer);
    const size_t kb = row_bytes(s->dtype, c->qk_dim), vb = row_bytes(s->dtype, c->v_dim);
    void (*const store)(void *, const float *restrict, size_t) = lt_dtype_get(s->dtype)->from_f32;
    page *p = NULL;
    for (size_t i = 0; i < n; i++, at++) {
        if (!p || at % PAGE == 0) p = writable_page(s, layer, r, at);
        if (!p) return lt_fail(err, LT_ENOMEM, "out of memory (cache: layer %zu: position %zu)", layer, at);
        store(p->k + at % PAGE * kb, k + i * ldk, c->qk_dim);
        store(p->v + at % PAGE * vb, v + i * ldv, c->v_dim);
    }
    return LT_OK;
}

lt_status lt_session_append(lt_session *s, int layer, const float *k, size_t ldk, const float *v, size_t ldv, size_t n,
                            lt_err *err) {
    LT_REQUIRE(err, layer >= 0 && (size_t)layer < s->n_layers, "session: layer %d of %zu", layer, s->n_layers);
    const size_t l = (size_t)layer, at = visible(s, l);
    const lt_layer_config *c = layer_of(s, l);
    for (size_t h = 0; h < c->n_k_heads; h++) {
        row *r = &s->rows[s->first_row[l] + h];
        cut_row(r, at);
        LT_TRY(append_head(s, l, r, at, k + h * c->qk_dim, ldk, v + h * c->v_dim, ldv, n, err));
        drop_before(r, at, c->window); /* from `at` on: this step may fail in a later layer and be repeated */
    }
    s->filled[l] = at + n;
    return LT_OK;
}
