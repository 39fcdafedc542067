/* SPDX-License-Identifier: Apache-2.0 */
/*   W' = W + s B A   stored [out, in];   W'ᵀ = Wᵀ + s Aᵀ Bᵀ   stored [in, out] */
#include <string.h>

#include "linalg/gemm.h"
#include "model/adapter_impl.h"
#include "model/parts.h"
#include "model/round.h"

enum { ROWS = 256 };

static lt_dtype dtype_of(lt_dtype stored, lt_dtype asked) {
    if (asked != LT_N_DTYPES) return asked;
    return lt_dtype_get(stored)->block > 1 ? LT_BF16 : stored;
}

static double *widen(const lt_tensor *t) {
    const size_t n = lt_tensor_count(t);
    const float *from = lt_host(t);
    double *to = lt_calloc(lt_max_size(1, n), sizeof *to);
    for (size_t i = 0; to && i < n; i++) to[i] = (double)from[i];
    return to;
}

typedef struct merging {
    const lt_adapter_entry *e;
    lt_team *team;
    double *a, *b, *sum;
    float *row;
    size_t rows, cols;
    lt_param fresh;
} merging;

/* Rows [r0, r0 + n) of the weight as stored, in f64, with the product added. */
static void sum_rows(const merging *g, size_t r0, size_t n) {
    const size_t q = g->e->opts.rank;
    const lt_tensor *w = &g->e->stage->w.t;
    for (size_t r = 0; r < n; r++) {
        double *to = g->sum + r * g->cols;
        if (w->dtype == LT_F64) {
            memcpy(to, lt_tensor_row(w, r0 + r), g->cols * sizeof *to);
            continue;
        }
        lt_tensor_row_f32(g->row, w, r0 + r, 0, g->cols);
        for (size_t c = 0; c < g->cols; c++) to[c] = (double)g->row[c];
    }
    if (g->e->stage->in_out)
        lt_gemm_f64(g->team, true, true, n, g->cols, q, g->e->adapter.scale, g->a + r0, g->rows, g->b, q, 1.0, g->sum,
                    g->cols);
    else
        lt_gemm_f64(g->team, false, false, n, g->cols, q, g->e->adapter.scale, g->b + r0 * q, q, g->a, g->cols, 1.0,
                    g->sum, g->cols);
}

static lt_status merge_rows(const merging *g, lt_err *err) {
    const size_t bytes = lt_tensor_bytes(&g->fresh.t) / lt_max_size(1, g->rows);
    char *to = g->fresh.t.buffer->data;
    for (size_t r0 = 0; r0 < g->rows; r0 += ROWS) {
        const size_t n = lt_min_size(ROWS, g->rows - r0);
        sum_rows(g, r0, n);
        for (size_t r = 0; r < n; r++, to += bytes)
            if (!lt_round_row(to, g->fresh.t.dtype, g->sum + r * g->cols, 1, g->cols, g->row))
                return lt_fail(err, LT_EDATA, "merged weight is not finite as %s (%s: row %zu)",
                               lt_dtype_get(g->fresh.t.dtype)->name, g->e->module, r0 + r);
    }
    lt_tensor_drop(&g->e->stage->w.t);
    return LT_OK;
}

/* The merged weight in s->buffer. */
static lt_status make_merged(lt_adapter_swap *s, merging *g, lt_spill *spill, lt_dtype dtype, lt_err *err) {
    const lt_tensor *w = &g->e->stage->w.t;
    const lt_dtype to = dtype_of(w->dtype, dtype);
    g->rows = lt_tensor_rows(w);
    g->cols = lt_tensor_cols(w);
    g->fresh.t = lt_tensor_dense(to, 2, (size_t[]){ g->rows, g->cols }, &s->buffer, 0);
    LT_TRY(lt_round_check(to, g->cols, g->e->module, err));
    LT_TRY(lt_spill_take(&s->buffer, spill, lt_tensor_bytes(&g->fresh.t), g->e->module, err));
    g->a = widen(&g->e->adapter.a.t);
    g->b = widen(&g->e->adapter.b.t);
    g->sum = lt_calloc(ROWS, g->cols * sizeof *g->sum);
    g->row = lt_calloc(2, g->cols * sizeof *g->row);
    const lt_status st = g->a && g->b && g->sum && g->row ? merge_rows(g, err)
                                                          : lt_fail(err, LT_ENOMEM, "out of memory (%s)", g->e->module);
    lt_free(g->a);
    lt_free(g->b);
    lt_free(g->sum);
    lt_free(g->row);
    if (st == LT_OK)
        lt_tensor_drop(&g->fresh.t);
    else
        lt_spill_give(&s->buffer);
    return st;
}

static lt_status merge_entry(lt_adapters *a, lt_adapter_entry *e, lt_dtype dtype, lt_team *team, lt_err *err) {
    lt_adapter_swap s = { .place = &e->stage->w };
    merging g = { .e = e, .team = team };
    LT_TRY(make_merged(&s, &g, &a->spill, dtype, err));
    LT_TRY(lt_adapters_swap(a, &s, &g.fresh, err));
    e->stage->adapters = NULL;
    e->stage->n_adapters = 0;
    return LT_OK;
}

/* A tied model stores one table: a head of its own has no place there. */
lt_status lt_adapters_check_merge(const lt_adapters *a, lt_err *err) {
    bool parted = false;
    for (size_t i = 0; i < a->n; i++) parted |= a->entry[i]->head;
    for (size_t i = 0; i < a->n_swaps; i++) parted |= a->swap[i]->head;
    if (a->m->config.tied && parted)
        return lt_fail(
            err, LT_EUNSUPPORTED,
            "adapter parts the head from the embedding that it is tied to: it can run, but not be merged (%s)",
            a->m->path);
    return LT_OK;
}

lt_status lt_adapters_spill(lt_adapters *a, size_t limit, const char *folder, lt_err *err) {
    return lt_spill_begin(&a->spill, limit, folder, err);
}

lt_status lt_adapters_merge(lt_adapters *a, lt_dtype dtype, lt_team *team, lt_err *err) {
    LT_TRY(lt_adapters_check_merge(a, err));
    for (size_t i = 0; i < a->n; i++)
        if (a->entry[i]->stage->n_adapters) LT_TRY(merge_entry(a, a->entry[i], dtype, team, err));
    lt_parts_refresh(a->m);
    return LT_OK;
}

size_t lt_adapters_merge_bytes(const lt_adapters *a, lt_dtype dtype) {
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++) {
        const lt_tensor *w = &a->entry[i]->stage->w.t;
        const lt_dtype_row *to = lt_dtype_get(dtype_of(w->dtype, dtype));
        n += lt_tensor_count(w) / to->block * to->bytes;
    }
    return n;
}
