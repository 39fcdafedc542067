/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/forward_input.h"

#include <string.h>

/* ---- integers of any stored width ---- */
static int64_t integer_at(const lt_tensor *t, size_t i) {
    const size_t bytes = lt_dtype_get(t->dtype)->bytes;
    const unsigned char *p = (const unsigned char *)lt_host(t) + i * bytes;
    int64_t i64;
    int32_t i32;
    uint32_t u32;
    uint16_t u16;
    switch (t->dtype) {
    case LT_I64:
        memcpy(&i64, p, sizeof i64);
        return i64;
    case LT_I32:
        memcpy(&i32, p, sizeof i32);
        return i32;
    case LT_U32:
        memcpy(&u32, p, sizeof u32);
        return u32;
    case LT_U16:
        memcpy(&u16, p, sizeof u16);
        return u16;
    case LT_I8:
        return (int8_t)*p;
    default:
        return *p; /* u8, bool */
    }
}

static bool is_integer(lt_dtype t) {
    return t == LT_I64 || t == LT_I32 || t == LT_U32 || t == LT_U16 || t == LT_I8 || t == LT_U8 || t == LT_BOOL;
}

typedef struct source {
    const lt_safetensors *file;
    const lt_tensor *ids, *mask, *position, *borders;
    size_t vocab_size;
} source;

/* An optional integer tensor; rows x cols must fit unless cols is SIZE_MAX. one_row: [1, cols] serves every row. */
static lt_status optional(const lt_tensor **out, const source *s, const char *name, bool one_row, lt_err *err) {
    char text[64], want[64];
    const lt_tensor *t = *out = lt_safetensors_find(s->file, name);
    if (!t) return LT_OK;
    const char *file = lt_safetensors_path(s->file);
    if (!is_integer(t->dtype))
        return lt_fail(err, LT_EDATA, "not integers (%s: %s: %s)", file, name,
                       lt_tensor_describe(t, text, sizeof text));
    if (t->rank == 2 && t->size[1] == s->ids->size[1] &&
        (t->size[0] == s->ids->size[0] || (one_row && t->size[0] == 1)))
        return LT_OK;
    return lt_fail(err, LT_EDATA, "shape differs from input_ids %s (%s: %s: %s)",
                   lt_tensor_describe(s->ids, want, sizeof want), file, name, lt_tensor_describe(t, text, sizeof text));
}

static lt_status find_tensors(source *s, lt_err *err) {
    char text[64];
    const char *file = lt_safetensors_path(s->file);
    LT_TRY(lt_safetensors_get(&s->ids, s->file, "input_ids", LT_N_DTYPES, 2, err));
    if (!is_integer(s->ids->dtype) || lt_tensor_count(s->ids) == 0)
        return lt_fail(err, LT_EDATA, "not a matrix of ids (%s: input_ids: %s)", file,
                       lt_tensor_describe(s->ids, text, sizeof text));
    LT_TRY(optional(&s->mask, s, "attention_mask", false, err));
    LT_TRY(optional(&s->position, s, "position_ids", true, err));
    s->borders = lt_safetensors_find(s->file, "cu_seqlens");
    if (!s->borders) return LT_OK;
    if (s->mask) return lt_fail(err, LT_EDATA, "attention_mask and cu_seqlens exclude each other (%s)", file);
    if (!is_integer(s->borders->dtype) || s->borders->rank != 1 || s->borders->size[0] < 2)
        return lt_fail(err, LT_EDATA, "not a list of borders (%s: cu_seqlens: %s)", file,
                       lt_tensor_describe(s->borders, text, sizeof text));
    return LT_OK;
}

/* ---- rows and pieces ---- */
typedef struct builder {
    source s;
    lt_forward_input *out;
    size_t T, border; /* border: next entry of cu_seqlens */
    int64_t last_position;
} builder;

static int64_t position_at(const builder *b, size_t row, size_t t) {
    const lt_tensor *p = b->s.position;
    return p ? integer_at(p, (p->size[0] == 1 ? 0 : row) * b->T + t) : -1;
}

static lt_status check_borders(const builder *b, size_t total, lt_err *err) {
    const lt_tensor *c = b->s.borders;
    if (!c) return LT_OK;
    const size_t n = c->size[0];
    const char *file = lt_safetensors_path(b->s.file);
    size_t row = 0; /* rows of input_ids whose begin was met */
    for (size_t i = 0; i < n; i++) {
        const int64_t v = integer_at(c, i), before = i ? integer_at(c, i - 1) : -1;
        if (v <= before || (uint64_t)v > total || (i == 0 && v != 0))
            return lt_fail(err, LT_EDATA, "borders must rise from 0 to %zu (%s: cu_seqlens[%zu]: %lld)", total, file, i,
                           (long long)v);
        if ((uint64_t)v % b->T == 0) row++;
    }
    if ((uint64_t)integer_at(c, n - 1) != total)
        return lt_fail(err, LT_EDATA, "the last border is not %zu (%s: cu_seqlens: %lld)", total, file,
                       (long long)integer_at(c, n - 1));
    if (row != total / b->T + 1)
        return lt_fail(err, LT_EDATA, "a document crosses rows of input_ids (%s: cu_seqlens)", file);
    return LT_OK;
}

/* Tokens of a row: [*lo, *hi) */
static lt_status kept_range(const builder *b, size_t row, size_t *lo, size_t *hi, lt_err *err) {
    const lt_tensor *m = b->s.mask;
    *lo = 0;
    *hi = b->T;
    if (!m) return LT_OK;
    while (*lo < b->T && integer_at(m, row * b->T + *lo) == 0) (*lo)++;
    while (*hi > *lo && integer_at(m, row * b->T + *hi - 1) == 0) (*hi)--;
    for (size_t t = *lo; t < *hi; t++)
        if (integer_at(m, row * b->T + t) == 0)
            return lt_fail(
                err, LT_EUNSUPPORTED,
                "a hole inside a row; only padding at the ends can be left out (%s: attention_mask[%zu, %zu])",
                lt_safetensors_path(b->s.file), row, t);
    return LT_OK;
}

/* Does token (row, t) begin a piece? */
static lt_status begins_piece(builder *b, size_t row, size_t t, bool first, bool *begins, lt_err *err) {
    const int64_t position = position_at(b, row, t);
    const bool continues = !b->s.position || position == b->last_position + 1;
    const char *file = lt_safetensors_path(b->s.file);
    if (b->s.position && (position < 0 || position > INT32_MAX))
        return lt_fail(err, LT_EDATA, "not a position (%s: position_ids[%zu, %zu]: %lld)", file, row, t,
                       (long long)position);
    *begins = first;
    if (b->s.borders) {
        const bool border = (uint64_t)integer_at(b->s.borders, b->border) == row * b->T + t;
        if (border) b->border++;
        *begins = border;
        if (!border && !continues)
            return lt_fail(err, LT_EDATA, "positions jump inside a document (%s: position_ids[%zu, %zu]: %lld)", file,
                           row, t, (long long)position);
    } else if (!continues)
        *begins = true;
    b->last_position = position;
    return LT_OK;
}

static lt_status add_token(builder *b, size_t row, size_t t, bool first, lt_err *err) {
    lt_forward_input *o = b->out;
    const int64_t id = integer_at(b->s.ids, row * b->T + t);
    bool begins;
    if (id < 0 || (uint64_t)id >= b->s.vocab_size)
        return lt_fail(err, LT_EDATA, "id outside the vocabulary of %zu (%s: input_ids[%zu, %zu]: %lld)",
                       b->s.vocab_size, lt_safetensors_path(b->s.file), row, t, (long long)id);
    LT_TRY(begins_piece(b, row, t, first, &begins, err));
    if (begins)
        o->piece[o->n_pieces++] = (lt_piece){ .row = o->n_rows,
                                              .pos0 = b->s.position ? (size_t)position_at(b, row, t) : 0,
                                              .parent = -1,
                                              .seq = (uint32_t)row };
    else {
        o->target[o->n_rows - 1] = (int32_t)id;
        o->n_targets++;
    }
    o->piece[o->n_pieces - 1].n++;
    o->ids[o->n_rows] = (int32_t)id;
    o->place[o->n_rows] = row * b->T + t;
    o->target[o->n_rows++] = -1;
    return LT_OK;
}

/* Pieces in order, whole, about max_tokens rows to a batch; their rows then count from the batch's first. */
static void make_batches(lt_forward_input *o, size_t max_tokens) {
    for (size_t p = 0, first = 0; p < o->n_pieces; p++) {
        lt_batch *b = o->n_batches ? &o->batch[o->n_batches - 1] : NULL;
        if (!b || (b->n_rows + o->piece[p].n > max_tokens && b->n_rows > 0)) {
            first = o->piece[p].row;
            o->batch_row[o->n_batches] = first;
            b = &o->batch[o->n_batches++];
            *b = (lt_batch){ .ids = o->ids + first, .piece = &o->piece[p] };
        }
        o->piece[p].row -= first;
        b->n_rows += o->piece[p].n;
        b->n_pieces++;
    }
}

static lt_status allocate(lt_forward_input *o, size_t total, lt_err *err) {
    o->ids = lt_calloc(total, sizeof *o->ids);
    o->target = lt_calloc(total, sizeof *o->target);
    o->place = lt_calloc(total, sizeof *o->place);
    o->piece = lt_calloc(total, sizeof *o->piece);
    o->batch = lt_calloc(total, sizeof *o->batch);
    o->batch_row = lt_calloc(total, sizeof *o->batch_row);
    const bool whole = o->ids && o->target && o->place && o->piece && o->batch && o->batch_row;
    return whole ? LT_OK : lt_fail(err, LT_ENOMEM, "input_ids: %zu tokens", total);
}

static lt_status build(builder *b, size_t max_tokens, lt_err *err) {
    lt_forward_input *o = b->out;
    const size_t total = lt_tensor_count(b->s.ids);
    o->B = b->s.ids->size[0];
    o->T = b->T = b->s.ids->size[1];
    LT_TRY(allocate(o, total, err));
    LT_TRY(check_borders(b, total, err));
    for (size_t row = 0; row < o->B; row++) {
        size_t lo, hi;
        LT_TRY(kept_range(b, row, &lo, &hi, err));
        for (size_t t = lo; t < hi; t++) LT_TRY(add_token(b, row, t, t == lo, err));
    }
    if (o->n_rows == 0)
        return lt_fail(err, LT_EDATA, "nothing but padding (%s: attention_mask)", lt_safetensors_path(b->s.file));
    make_batches(o, max_tokens);
    return LT_OK;
}

lt_status lt_forward_input_load(lt_forward_input *out, const lt_safetensors *file, size_t vocab_size, size_t max_tokens,
                                lt_err *err) {
    *out = (lt_forward_input){ 0 };
    builder b = { .s = { .file = file, .vocab_size = vocab_size }, .out = out };
    lt_status st = find_tensors(&b.s, err);
    if (st == LT_OK) st = build(&b, max_tokens, err);
    if (st != LT_OK) lt_forward_input_clear(out);
    return st;
}

void lt_forward_input_clear(lt_forward_input *in) {
    lt_free(in->ids);
    lt_free(in->target);
    lt_free(in->place);
    lt_free(in->piece);
    lt_free(in->batch);
    lt_free(in->batch_row);
    *in = (lt_forward_input){ 0 };
}
