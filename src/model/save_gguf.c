/* SPDX-License-Identifier: Apache-2.0 */
/* A model as one GGUF file, as llama.cpp's convert_hf_to_gguf.py would write it: keys of the architecture, norms and
 * biases in f32, q and k rows in the order its rotary code wants, matrices whose rows are no whole blocks in f16.
 * Source: ggml/docs/gguf.md; llama.cpp, conversion of LlamaForCausalLM, Qwen2, Qwen3; gguf-py/gguf/constants.py. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/save.h"
#include "model/save_list.h"

typedef struct saver {
    lt_save_list list;
    const lt_save_opts *o;
    const char *arch;
    float *rope; /* [n_rope] divisors of the rotary frequencies, for llama3; NULL: none */
    size_t n_rope;
} saver;

/* ---- tensors: names and types of GGUF ---- */

static lt_status rename_item(const saver *s, lt_save_item *it, lt_err *err) {
    char name[160];
    const lt_map_row *row = lt_family_row(s->list.m->family, it->slot);
    const char *suffix = strrchr(it->name, '.');
    if (!row || !row->gguf)
        return lt_fail(err, LT_EUNSUPPORTED, "GGUF of %s has no such tensor (%s)", s->arch, it->name);
    if (!suffix || !lt_map_name(name, sizeof name, row->gguf, it->layer < 0 ? 0 : (size_t)it->layer))
        return lt_fail(err, LT_EINTERNAL, "tensor name is too long (%s)", it->name);
    char *renamed = lt_asprintf("%s%s", name, suffix);
    if (!renamed) return lt_fail(err, LT_ENOMEM, "out of memory (save: %s)", it->name);
    lt_free(it->name);
    it->name = renamed;
    if (row->gguf_permuted) it->head_dim = s->list.m->config.layer[it->layer].qk_dim;
    return LT_OK;
}

/* Is the table also (or only) the head? It decides every output, so q4_0 keeps it in q8_0, as llama-quantize keeps it
 * in more bits than the rest. */
static bool is_head(const saver *s, const lt_save_item *it) {
    return it->slot == LT_SLOT_HEAD || (it->slot == LT_SLOT_EMBED && s->list.m->config.tied);
}

static lt_dtype dtype_of(const saver *s, const lt_save_item *it) {
    lt_dtype t = s->o->dtype == LT_N_DTYPES ? it->stored : s->o->dtype;
    if (it->rank == 1 || t == LT_F64) return LT_F32;
    if (s->o->dtype == LT_Q4_0 && is_head(s, it)) t = LT_Q8_0;
    const bool copied = t == it->stored && it->source == LT_SAVE_COPY;
    if (!copied && !lt_dtype_get(t)->from_f32) t = LT_BF16;
    return it->size[1] % lt_dtype_get(t)->block == 0 ? t : LT_F16;
}

static lt_status place_items(saver *s, lt_err *err) {
    for (size_t i = 0; i < s->list.n; i++) {
        lt_save_item *it = &s->list.item[i];
        LT_TRY(lt_save_item_set_dtype(it, dtype_of(s, it), err));
        LT_TRY(rename_item(s, it, err));
        s->list.bytes += (double)it->bytes;
    }
    return LT_OK;
}

/* ---- keys ---- */

static const struct {
    lt_dtype dtype;
    uint32_t file_type;
} file_types[] = {
    { LT_F32, 0 },  { LT_F16, 1 },   { LT_Q4_0, 2 },  { LT_Q4_1, 3 },  { LT_Q8_0, 7 },  { LT_Q5_0, 8 },
    { LT_Q5_1, 9 }, { LT_Q4_K, 14 }, { LT_Q5_K, 16 }, { LT_Q6_K, 18 }, { LT_BF16, 32 },
};

/* general.file_type names the type of most weights. */
static uint32_t file_type(const saver *s) {
    size_t count[LT_N_DTYPES] = { 0 };
    lt_dtype most = LT_F32;
    for (size_t i = 0; i < s->list.n; i++) {
        const lt_save_item *it = &s->list.item[i];
        count[it->dtype] += it->size[0] * it->size[1];
        if (count[it->dtype] > count[most]) most = it->dtype;
    }
    for (size_t i = 0; i < LT_COUNTOF(file_types); i++)
        if (file_types[i].dtype == most) return file_types[i].file_type;
    return 0;
}

/* "135M", "1.2B": two digits at least. */
static void size_label(char *buf, size_t cap, size_t n_params) {
    static const struct {
        double unit;
        char letter;
    } units[] = { { 1e12, 'T' }, { 1e9, 'B' }, { 1e6, 'M' }, { 1e3, 'K' } };
    size_t u = 0;
    while (u + 1 < LT_COUNTOF(units) && (double)n_params < units[u].unit) u++;
    const double v = (double)n_params / units[u].unit;
    snprintf(buf, cap, "%.*f%c", v < 9.5 ? 1 : 0, v, units[u].letter);
}

/* A GGUF keeps the name that it has. */
static void put_name(const saver *s, lt_gguf_writer *w) {
    const lt_gguf *parent = lt_model_gguf(s->list.m);
    size_t n;
    const char *name = parent ? lt_gguf_string(parent, "general.name", &n) : NULL;
    if (name)
        lt_gguf_put_string(w, "general.name", name, n);
    else if (s->o->name)
        lt_gguf_put_text(w, "general.name", s->o->name);
}

static void put_general(const saver *s, lt_gguf_writer *w) {
    char label[32];
    size_label(label, sizeof label, lt_model_n_params(s->list.m));
    lt_gguf_put_text(w, "general.architecture", s->arch);
    lt_gguf_put_text(w, "general.type", "model");
    put_name(s, w);
    lt_gguf_put_text(w, "general.size_label", label);
    lt_gguf_put_u32(w, "general.file_type", file_type(s));
    lt_gguf_put_u32(w, "general.quantization_version", 2);
}

/* What a GGUF that the model was read from says beside that: licence, tags, sources. */
static void put_inherited(const saver *s, lt_gguf_writer *w) {
    static const char *const own[] = { "general.alignment", "general.file_type", "general.quantization_version" };
    const lt_gguf *g = lt_model_gguf(s->list.m);
    for (size_t i = 0; g && i < lt_gguf_n_keys(g); i++) {
        const char *key = lt_gguf_key(g, i);
        bool skip = strncmp(key, "general.", 8) != 0 || lt_gguf_writer_has(w, key);
        for (size_t k = 0; k < LT_COUNTOF(own); k++) skip |= strcmp(key, own[k]) == 0;
        if (!skip) lt_gguf_put_copy(w, g, i);
    }
}

static void put_size(const saver *s, lt_gguf_writer *w, const char *key, size_t v) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", s->arch, key);
    lt_gguf_put_u32(w, name, (uint32_t)v); /* widths are below 2^31 (config.h) */
}

static void put_real(const saver *s, lt_gguf_writer *w, const char *key, double v) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", s->arch, key);
    lt_gguf_put_f32(w, name, (float)v);
}

static lt_status put_scaling(saver *s, lt_gguf_writer *w, lt_err *err) {
    const lt_rope_config *r = &s->list.m->config.rope[0];
    char name[96];
    switch (r->kind) {
    case LT_ROPE_DEFAULT:
    case LT_ROPE_LLAMA3: /* a tensor says it */
        return LT_OK;
    case LT_ROPE_LINEAR:
        snprintf(name, sizeof name, "%s.rope.scaling.type", s->arch);
        lt_gguf_put_text(w, name, "linear");
        put_real(s, w, "rope.scaling.factor", r->factor);
        return LT_OK;
    default:
        return lt_fail(err, LT_EUNSUPPORTED, "rope type is not written as GGUF (%s: %s)", s->list.m->path,
                       lt_rope_kind_name(r->kind));
    }
}

static bool uniform(const lt_config *c) {
    const lt_layer_config *a = &c->layer[0];
    for (size_t i = 0; i < c->n_layers; i++) {
        const lt_layer_config *b = &c->layer[i];
        if (!b->present || b->n_q_heads != a->n_q_heads || b->n_k_heads != a->n_k_heads || b->qk_dim != a->qk_dim ||
            b->v_dim != a->v_dim || b->d_ff != a->d_ff || b->window != a->window)
            return false;
    }
    return true;
}

size_t lt_gguf_positions(const lt_config *c) {
    const size_t window = c->layer[0].window;
    return window == 0 ? c->max_positions : lt_min_size(window, c->max_positions);
}

static size_t positions(const saver *s) {
    const lt_config *c = &s->list.m->config;
    const size_t n = lt_gguf_positions(c);
    if (n < c->max_positions)
        lt_log(s->list.ctx, LT_LOG_WARN,
               "context_length is the sliding window, %zu of %zu positions: llama.cpp sees all (%s)", n,
               c->max_positions, s->list.m->path);
    return n;
}

static lt_status put_architecture(saver *s, lt_gguf_writer *w, lt_err *err) {
    const lt_config *c = &s->list.m->config;
    const lt_layer_config *l = &c->layer[0];
    if (!uniform(c) || c->n_ropes > 1)
        return lt_fail(err, LT_EUNSUPPORTED, "layers differ, which GGUF of %s cannot say (%s)", s->arch,
                       s->list.m->path);
    put_size(s, w, "block_count", c->n_layers);
    put_size(s, w, "context_length", positions(s));
    put_size(s, w, "embedding_length", c->d_model);
    put_size(s, w, "feed_forward_length", l->d_ff);
    put_size(s, w, "attention.head_count", l->n_q_heads);
    put_size(s, w, "attention.head_count_kv", l->n_k_heads);
    put_size(s, w, "attention.key_length", l->qk_dim);
    put_size(s, w, "attention.value_length", l->v_dim);
    if (l->window) put_size(s, w, "attention.sliding_window", l->window);
    put_real(s, w, "attention.layer_norm_rms_epsilon", c->norm_eps);
    put_size(s, w, "vocab_size", c->vocab_size);
    put_size(s, w, "rope.dimension_count", c->rope[0].dim);
    put_real(s, w, "rope.freq_base", c->rope[0].theta);
    return put_scaling(s, w, err);
}

/* rope_freqs.weight: what each frequency is divided by. */
static lt_status make_rope(saver *s, lt_err *err) {
    const lt_rope_config *r = &s->list.m->config.rope[0];
    if (r->kind != LT_ROPE_LLAMA3) return LT_OK;
    const double *inv = s->list.m->inv_freq[0];
    s->n_rope = r->dim / 2;
    s->rope = lt_calloc(lt_max_size(1, s->n_rope), sizeof *s->rope);
    if (!s->rope) return lt_fail(err, LT_ENOMEM, "out of memory (save: rope_freqs.weight)");
    for (size_t i = 0; i < s->n_rope; i++)
        s->rope[i] = (float)(pow(r->theta, -2.0 * (double)i / (double)r->dim) / inv[i]);
    return LT_OK;
}

/* ---- the file ---- */

static lt_status put(void *to, const void *data, size_t bytes, lt_err *err) {
    return lt_gguf_writer_bytes(to, data, bytes, err);
}

static lt_status fill(saver *s, lt_gguf_writer *w, const lt_gguf_more *more, lt_err *err) {
    put_general(s, w);
    put_inherited(s, w);
    LT_TRY(put_architecture(s, w, err));
    if (more) LT_TRY(more->put(more->self, w, err));
    for (size_t i = 0; i < s->list.n; i++) {
        const lt_save_item *it = &s->list.item[i];
        lt_gguf_declare(w, it->name, it->dtype, it->rank, it->size);
    }
    if (s->rope) lt_gguf_declare(w, "rope_freqs.weight", LT_F32, 1, &s->n_rope);
    LT_TRY(lt_gguf_writer_begin(w, err));
    for (size_t i = 0; i < s->list.n; i++) LT_TRY(lt_save_item_write(&s->list, &s->list.item[i], put, w, err));
    return s->rope ? lt_gguf_writer_bytes(w, s->rope, s->n_rope * sizeof *s->rope, err) : LT_OK;
}

static lt_status write_file(saver *s, const char *path, const lt_gguf_more *more, lt_err *err) {
    lt_gguf_writer *w;
    LT_TRY(lt_gguf_writer_create(&w, path, err));
    const lt_status st = fill(s, w, more, err);
    if (st == LT_OK) return lt_gguf_writer_commit(w, err);
    lt_gguf_writer_abort(w);
    return st;
}

lt_status lt_model_save_gguf(const lt_model *m, const char *path, const lt_save_opts *opts, const lt_gguf_more *more,
                             const lt_ctx *ctx, lt_err *err) {
    saver s = { .list = { .m = m, .form = LT_FORM_DENSE, .ctx = ctx }, .o = opts, .arch = m->family->gguf_arch };
    if (!s.arch) return lt_fail(err, LT_EUNSUPPORTED, "%s is not written as GGUF (%s)", m->family->name, m->path);
    lt_status st = lt_save_list_make(&s.list, err);
    if (st == LT_OK) st = place_items(&s, err);
    if (st == LT_OK) st = make_rope(&s, err);
    if (st == LT_OK) st = write_file(&s, path, more, err);
    lt_save_list_clear(&s.list);
    lt_free(s.rope);
    return st;
}
