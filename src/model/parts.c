/* SPDX-License-Identifier: Apache-2.0 */
#include "model/parts.h"

#include <stdio.h>
#include <string.h>

enum { NAME_CAP = 224 };

bool lt_part_path(char *buf, size_t cap, const char *module, const char *part) {
    const int n = snprintf(buf, cap, "%s.%s", module, part);
    return n >= 0 && (size_t)n < cap;
}

/* ---- views ---- */

/* Where a part lies in each group of rows. */
typedef struct extent {
    size_t groups, first, n, total; /* rows of one group: [first, first + n) of total */
} extent;

static extent extent_of(const lt_layout *layout, size_t part) {
    extent e = { .groups = layout->groups, .n = layout->parts[part].rows / layout->groups };
    for (size_t i = 0; i < layout->n_parts; i++) {
        const size_t rows = layout->parts[i].rows / layout->groups;
        if (i < part) e.first += rows;
        e.total += rows;
    }
    return e;
}

static size_t bytes_of(const lt_tensor *t, size_t elements) {
    const lt_dtype_row *d = lt_dtype_get(t->dtype);
    return elements / d->block * d->bytes;
}

/* Columns of a matrix stored [in, out], whose parts do not alternate. */
static lt_tensor columns_of(const lt_tensor *w, const extent *e) {
    lt_tensor v = *w;
    v.size[v.rank - 1] = e->n;
    v.offset += bytes_of(w, e->first);
    return v;
}

/* Rows; of the view [groups, parts, rows, in] that a container with another order gave, one of the second dimension. */
static lt_tensor rows_of(const lt_tensor *w, const extent *e, size_t part) {
    const size_t in = lt_tensor_cols(w), step = w->stride[w->rank - 2];
    lt_tensor v = *w;
    v.rank = 3;
    v.size[0] = e->groups, v.size[1] = e->n, v.size[2] = in;
    v.stride[0] = w->rank == 4 ? w->stride[0] : e->total * step;
    v.stride[1] = step, v.stride[2] = 1;
    v.offset += bytes_of(w, w->rank == 4 ? part * w->stride[1] : e->first * step);
    if (e->groups > 1) return v;
    v.rank = 2;
    v.size[0] = e->n, v.size[1] = in;
    v.stride[0] = step, v.stride[1] = 1;
    return v;
}

/* A bias whose parts alternate is no view: its entries are put together in `copy`. */
static lt_tensor bias_of(const lt_tensor *b, const extent *e, lt_buffer *copy) {
    if (e->groups == 1) return columns_of(b, e);
    const size_t each = bytes_of(b, e->n), rows = e->groups * e->n;
    for (size_t g = 0; g < e->groups; g++)
        memcpy((char *)copy->data + g * each, (const char *)lt_host(b) + bytes_of(b, g * e->total + e->first), each);
    return lt_tensor_dense(b->dtype, 1, &rows, copy, 0);
}

/* What belongs to a part beside its linear. */
typedef struct own {
    char module[NAME_CAP], weight[NAME_CAP], bias[NAME_CAP];
    lt_buffer copy; /* of an alternating bias */
} own;
typedef struct parts {
    lt_layout layout; /* the first member: a linear's layout is its parts */
    lt_layout_part part[3];
    lt_linear linear[3];
    own own[3];
} parts;

static void look(parts *p, const lt_linear *l, const lt_linear *home) {
    for (size_t i = 0; i < p->layout.n_parts; i++) {
        const extent e = extent_of(&p->layout, i);
        const lt_stage *s = &l->stage[0];
        own *o = &p->own[i];
        lt_linear *v = &p->linear[i];
        *v = (lt_linear){ .name = o->module, .n_stages = 1, .whole = home };
        v->stage[0].in_out = s->in_out;
        v->stage[0].w =
            (lt_param){ .name = o->weight, .t = s->in_out ? columns_of(&s->w.t, &e) : rows_of(&s->w.t, &e, i) };
        if (l->bias.name) v->bias = (lt_param){ .name = o->bias, .t = bias_of(&l->bias.t, &e, &o->copy) };
    }
}

/* ---- making ---- */

static bool name_part(own *o, const char *module, const char *part) {
    char path[NAME_CAP];
    return snprintf(o->module, NAME_CAP, "%s#%s", module, part) < NAME_CAP &&
           lt_part_path(path, sizeof path, module, part) &&
           snprintf(o->weight, NAME_CAP, "%s.weight", path) < NAME_CAP &&
           snprintf(o->bias, NAME_CAP, "%s.bias", path) < NAME_CAP;
}

static lt_status make_own(parts *p, size_t i, const lt_linear *l, lt_arena *arena, lt_err *err) {
    own *o = &p->own[i];
    o->copy = (lt_buffer){ 0 };
    if (!name_part(o, l->name, p->part[i].name))
        return lt_fail(err, LT_EINTERNAL, "tensor name is too long (%s)", l->name);
    if (p->layout.groups == 1 || !l->bias.name) return LT_OK;
    o->copy.bytes = bytes_of(&l->bias.t, p->part[i].rows);
    o->copy.data = lt_arena_alloc(arena, lt_max_size(1, o->copy.bytes));
    return o->copy.data ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", l->name);
}

lt_status lt_parts_make(lt_linear *l, const lt_linear *home, const lt_map_row *row, const lt_config *c,
                        const lt_layer_config *lc, lt_arena *arena, lt_err *err) {
    parts *p = lt_arena_alloc(arena, sizeof *p);
    if (!p) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", l->name);
    p->layout = (lt_layout){ .parts = p->part, .n_parts = row->fused->n_parts };
    p->layout.groups = row->fused->by_head ? lc->n_k_heads : 1;
    for (size_t i = 0; i < p->layout.n_parts; i++)
        p->part[i] = (lt_layout_part){ row->fused->part[i].name, lt_axis_size(row->fused->part[i].rows, c, lc) };
    l->layout = &p->layout;
    if (l->n_stages != 1) return LT_OK; /* the parts of a product have no weight */
    LT_REQUIRE(err, p->layout.groups == 1 || !row->in_out, "%s: parts of columns that alternate", l->name);
    for (size_t i = 0; i < p->layout.n_parts; i++) LT_TRY(make_own(p, i, l, arena, err));
    look(p, l, home);
    p->layout.part = p->linear;
    return LT_OK;
}

void lt_parts_refresh(lt_model *m) {
    lt_module mod, part;
    for (size_t i = 0; lt_model_module(m, i, &mod); i++)
        if (lt_module_part(&mod, 0, &part)) look((parts *)mod.linear->layout, mod.linear, mod.linear);
}
