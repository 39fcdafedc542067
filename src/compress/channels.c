/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/channels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linalg/decomp.h"
#include "linalg/gemm.h"

enum { ROUNDS = 64 };
#define RIDGE 1e-4 /* of the mean of C's diagonal */

typedef struct work {
    size_t m, n, most; /* most: channels of a round */
    double *w, *ci;    /* [m, n]; C⁻¹ [n, n] */
    double *cj, *l;    /* (C⁻¹)_J: [most, n]; its columns J, then their Cholesky factor [most, most] */
    double *wj, *t;    /* [m, most], [most, max(m, n)] */
    bool *gone;
    struct scored {
        double cost;
        size_t index;
    } * score;
} work;

static void work_clear(work *k) {
    lt_free(k->w);
    lt_free(k->ci);
    lt_free(k->cj);
    lt_free(k->l);
    lt_free(k->wj);
    lt_free(k->t);
    lt_free(k->gone);
    lt_free(k->score);
}

static lt_status work_init(work *k, size_t m, size_t n, size_t most, lt_err *err) {
    *k = (work){ m, n, most, .w = lt_calloc(m * n, sizeof(double)) };
    k->ci = lt_calloc(n * n, sizeof(double));
    k->cj = lt_calloc(most * n, sizeof(double));
    k->l = lt_calloc(most * most, sizeof(double));
    k->wj = lt_calloc(m * most, sizeof(double));
    k->t = lt_calloc(most * lt_max_size(m, n), sizeof(double));
    k->gone = lt_calloc(n, sizeof *k->gone);
    k->score = lt_calloc(n, sizeof *k->score);
    return k->w && k->ci && k->cj && k->l && k->wj && k->t && k->gone && k->score
               ? LT_OK
               : lt_fail(err, LT_ENOMEM, "channels: no memory for %zu of them", n);
}

static lt_status check_finite(const double *x, size_t n, const char *what, lt_err *err) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return lt_fail(err, LT_EDATA, "%s holds a value that is not finite (entry %zu: %g)", what, i, x[i]);
    return LT_OK;
}

/* ci = (C + ridge)⁻¹ by the Cholesky factor: L⁻ᵀ L⁻¹. */
static lt_status invert(work *k, const double *c, lt_err *err) {
    const size_t n = k->n;
    double *l = lt_calloc(n * n, sizeof *l), mean = 0.0;
    int info;
    if (!l) return lt_fail(err, LT_ENOMEM, "channels: no memory for %zu of them", n);
    lt_unpack_lower(l, c, n);
    for (size_t i = 0; i < n; i++) mean += l[i * n + i] / (double)n;
    if (!(mean > 0.0)) mean = 1.0; /* nothing was ever active: all channels are alike */
    for (size_t i = 0; i < n; i++) l[i * n + i] += RIDGE * mean;
    lt_chol_serial(n, l, &info);
    for (size_t i = 0; i < n; i++) k->ci[i * n + i] = 1.0;
    if (info == 0) {
        lt_trsm_serial(n, n, l, false, k->ci);
        lt_trsm_serial(n, n, l, true, k->ci);
    }
    lt_free(l);
    return info == 0 ? LT_OK
                     : lt_fail(err, LT_EDATA, "channels: the input Gram is not positive semi-definite (row %d)", info);
}

static int by_cost(const void *pa, const void *pb) {
    const struct scored *a = pa, *b = pb;
    if (a->cost != b->cost) return a->cost < b->cost ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* score: the channels that are left, cheapest first; their number. */
static size_t rank_channels(work *k) {
    size_t left = 0;
    for (size_t j = 0; j < k->n; j++)
        if (!k->gone[j]) k->score[left++] = (struct scored){ 0.0, j };
    for (size_t i = 0; i < k->m; i++)
        for (size_t s = 0; s < left; s++) {
            const double v = k->w[i * k->n + k->score[s].index];
            k->score[s].cost += v * v;
        }
    for (size_t s = 0; s < left; s++) k->score[s].cost /= k->ci[k->score[s].index * (k->n + 1)];
    qsort(k->score, left, sizeof *k->score, by_cost);
    return left;
}

static void gather(work *k, size_t q) {
    for (size_t a = 0; a < q; a++) {
        const size_t j = k->score[a].index;
        memcpy(k->cj + a * k->n, k->ci + j * k->n, k->n * sizeof(double));
        for (size_t b = 0; b < q; b++) k->l[a * q + b] = k->ci[j * k->n + k->score[b].index];
        for (size_t i = 0; i < k->m; i++) k->wj[i * q + a] = k->w[i * k->n + j];
        k->gone[j] = true;
    }
}

static void clear_gone(work *k, size_t q) {
    for (size_t a = 0; a < q; a++)
        for (size_t i = 0; i < k->m; i++) k->w[i * k->n + k->score[a].index] = 0.0;
}

/* The q cheapest go: with (C⁻¹)_JJ = L Lᵀ and V = L⁻¹ (C⁻¹)_J,  C⁻¹ -= Vᵀ V,  W -= (L⁻¹ W_Jᵀ)ᵀ V. */
static lt_status remove_channels(work *k, size_t q, lt_err *err) {
    const size_t n = k->n, m = k->m;
    int info;
    gather(k, q);
    lt_chol_serial(q, k->l, &info);
    if (info) return lt_fail(err, LT_EDATA, "channels: the input Gram is too close to singular");
    for (size_t i = 0; i < m; i++)
        for (size_t a = 0; a < q; a++) k->t[a * m + i] = k->wj[i * q + a];
    lt_trsm_serial(q, m, k->l, false, k->t);
    lt_trsm_serial(q, n, k->l, false, k->cj);
    lt_gemm_f64_serial(true, false, m, n, q, -1.0, k->t, m, k->cj, n, 1.0, k->w, n);
    lt_gemm_f64_serial(true, false, n, n, q, -1.0, k->cj, n, k->cj, n, 1.0, k->ci, n);
    clear_gone(k, q);
    return LT_OK;
}

/* ‖(W - W0) C‖ in its own metric over tr(W0 C W0ᵀ) */
static lt_status error_of(double *out, const work *k, const double *w0, const double *c, lt_err *err) {
    const size_t m = k->m, n = k->n;
    double *full = lt_calloc(n * n, sizeof *full), *d = lt_calloc(m * n, sizeof *d), *t = lt_calloc(m * n, sizeof *t);
    double e = 0.0, all = 0.0;
    if (full && d && t) {
        lt_unpack_lower(full, c, n);
        lt_gemm_f64_serial(false, false, m, n, n, 1.0, w0, n, full, n, 0.0, t, n);
        for (size_t i = 0; i < m * n; i++) all += t[i] * w0[i], d[i] = k->w[i] - w0[i];
        lt_gemm_f64_serial(false, false, m, n, n, 1.0, d, n, full, n, 0.0, t, n);
        for (size_t i = 0; i < m * n; i++) e += t[i] * d[i];
    }
    const bool ok = full && d && t;
    lt_free(full);
    lt_free(d);
    lt_free(t);
    *out = all > 0.0 ? e / all : 0.0;
    return ok ? LT_OK : lt_fail(err, LT_ENOMEM, "channels: no memory for %zu of them", n);
}

lt_status lt_channels_select(size_t *index, double *rel_error, size_t keep, size_t m, size_t n, const double *w,
                             const double *c, lt_err *err) {
    LT_REQUIRE(err, keep >= 1 && keep <= n, "channels: %zu of %zu", keep, n);
    const size_t most = lt_max_size(1, (n - keep + ROUNDS - 1) / ROUNDS);
    work k = { 0 };
    lt_status st;
    LT_GO(check_finite(w, m * n, "weight", err));
    LT_GO(check_finite(c, n * (n + 1) / 2, "input Gram", err));
    LT_GO(work_init(&k, m, n, most, err));
    memcpy(k.w, w, m * n * sizeof *w);
    LT_GO(invert(&k, c, err));
    for (size_t left = n; left > keep; left -= lt_min_size(most, left - keep)) {
        rank_channels(&k);
        LT_GO(remove_channels(&k, lt_min_size(most, left - keep), err));
    }
    for (size_t j = 0, i = 0; j < n; j++)
        if (!k.gone[j]) index[i++] = j;
    st = error_of(rel_error, &k, w, c, err);
done:
    work_clear(&k);
    return st;
}

size_t lt_channels_scratch_bytes(size_t m, size_t n) {
    return sizeof(double) * (3 * m * n + 3 * n * n);
}
