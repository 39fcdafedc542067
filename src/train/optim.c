/* SPDX-License-Identifier: Apache-2.0 */
#include "train/optim.h"

#include <math.h>

enum { PIECE = 1 << 16 };

typedef struct piece {
    size_t slice, begin, n;
} piece;

struct lt_optim {
    const lt_slice *slice;
    piece *piece;
    double *sum;
    size_t n_pieces;
    lt_team *team; /* of the running call */
    /* of the running update */
    float scale, new1, new2, keep2, keep_value[2], rate, root, eps; /* keep_value: without and with decay */
};

static size_t count_pieces(const lt_slice *slices, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += (slices[i].n + PIECE - 1) / PIECE;
    return count;
}

lt_status lt_optim_create(lt_optim **out, const lt_slice *slices, size_t n, lt_err *err) {
    lt_optim *o = lt_calloc(1, sizeof *o);
    const size_t count = count_pieces(slices, n);
    if (o) {
        o->slice = slices;
        o->piece = lt_calloc(count + 1, sizeof *o->piece);
        o->sum = lt_calloc(count + 1, sizeof *o->sum);
    }
    if (!o || !o->piece || !o->sum) {
        lt_optim_destroy(o);
        return lt_fail(err, LT_ENOMEM, "no memory for an optimiser of %zu tensors", n);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t at = 0; at < slices[i].n; at += PIECE)
            o->piece[o->n_pieces++] = (piece){ i, at, lt_min_size(PIECE, slices[i].n - at) };
    *out = o;
    return LT_OK;
}

void lt_optim_destroy(lt_optim *o) {
    if (!o) return;
    lt_free(o->piece);
    lt_free(o->sum);
    lt_free(o);
}

static lt_status sum_piece(void *user, size_t i, lt_err *err) {
    lt_optim *o = user;
    const piece *p = &o->piece[i];
    (void)err;
    o->sum[i] = o->team->k->sumsq(o->slice[p->slice].grad + p->begin, p->n);
    return LT_OK;
}

double lt_optim_norm(lt_optim *o, lt_team *team) {
    double total = 0.0;
    o->team = team;
    (void)lt_team_for(team, o->n_pieces, sum_piece, o, NULL); /* pieces cannot fail */
    for (size_t i = 0; i < o->n_pieces; i++) total += o->sum[i];
    return sqrt(total);
}

/* Written so that compilers make vectors of it. */
static void update(const lt_optim *o, float *restrict value, float *restrict grad, float *restrict m, float *restrict v,
                   size_t n, float keep_value) {
    const float scale = o->scale, new1 = o->new1, keep2 = o->keep2, new2 = o->new2, rate = o->rate, root = o->root,
                eps = o->eps;
    for (size_t i = 0; i < n; i++) {
        const float g = grad[i] * scale;
        const float mi = m[i] + new1 * (g - m[i]), vi = keep2 * v[i] + new2 * g * g;
        value[i] = keep_value * value[i] - rate * (mi / (sqrtf(vi) * root + eps));
        m[i] = mi;
        v[i] = vi;
        grad[i] = 0.0f;
    }
}

static lt_status update_piece(void *user, size_t i, lt_err *err) {
    lt_optim *o = user;
    const piece *p = &o->piece[i];
    const lt_slice *s = &o->slice[p->slice];
    (void)err;
    update(o, s->value + p->begin, s->grad + p->begin, s->m + p->begin, s->v + p->begin, p->n,
           o->keep_value[s->decays]);
    return LT_OK;
}

void lt_optim_step(lt_optim *o, lt_team *team, const lt_adamw *a, double lr, double scale, uint64_t t) {
    o->team = team;
    o->scale = (float)scale;
    o->new1 = (float)(1.0 - a->beta1);
    o->new2 = (float)(1.0 - a->beta2);
    o->keep2 = (float)a->beta2;
    o->keep_value[0] = 1.0f;
    o->keep_value[1] = (float)(1.0 - lr * a->decay);
    o->rate = (float)(lr / (1.0 - pow(a->beta1, (double)t)));
    o->root = (float)(1.0 / sqrt(1.0 - pow(a->beta2, (double)t)));
    o->eps = (float)a->eps;
    (void)lt_team_for(team, o->n_pieces, update_piece, o, NULL);
}
