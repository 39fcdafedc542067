/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/inspect_model.c - a model and its tokenizer in tables. */
#include "pipeline/inspect.h"

#include <stdio.h>
#include <string.h>

#include "pipeline/result.h"

#define COLUMNS(...)                                                                                                   \
    (const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *)

/* ---- the configuration ---- */
/* One number when all layers agree, else "smallest .. largest". */
static json_t *over_layers(const lt_model *m, size_t (*of)(const lt_layer_config *)) {
    size_t lo = SIZE_MAX, hi = 0;
    for (size_t l = 0; l < m->config.n_layers; l++) {
        if (!m->config.layer[l].present) continue;
        const size_t v = of(&m->config.layer[l]);
        lo = lt_min_size(lo, v);
        hi = lt_max_size(hi, v);
    }
    return lo >= hi ? json_integer((json_int_t)hi) : json_sprintf("%zu .. %zu", lo, hi);
}

static size_t q_heads(const lt_layer_config *c) {
    return c->n_q_heads;
}
static size_t kv_heads(const lt_layer_config *c) {
    return c->n_k_heads;
}
static size_t head_dim(const lt_layer_config *c) {
    return c->qk_dim;
}
static size_t d_ff(const lt_layer_config *c) {
    return c->d_ff;
}

static json_t *size_json(size_t n) {
    return json_integer((json_int_t)n);
}

static size_t present_layers(const lt_model *m) {
    size_t n = 0;
    for (size_t l = 0; l < m->config.n_layers; l++) n += m->config.layer[l].present;
    return n;
}

/* of the first token; attention adds to it as positions grow */
static double flops_of_one(const lt_model *m) {
    const int32_t id = 0;
    const lt_piece piece = { .n = 1, .parent = -1 };
    const lt_batch batch = { .n_rows = 1, .n_pieces = 1, .ids = &id, .piece = &piece };
    return lt_model_flops(m, &batch, 1);
}

static void config_table(const lt_inspect *in, const lt_model *m) {
    const lt_config *c = &m->config;
    const lt_props p = lt_props_begin(in->result, "model");
    lt_prop(&p, "path", json_string(m->path));
    lt_prop(&p, "container", json_string(lt_model_is_gguf(m) ? "gguf" : "safetensors"));
    lt_prop(&p, "family", json_string(m->family->name));
    lt_prop(&p, "model_type", json_string(c->model_type));
    lt_prop(&p, "layers", size_json(present_layers(m)));
    lt_prop(&p, "d_model", size_json(c->d_model));
    lt_prop(&p, "q_heads", over_layers(m, q_heads));
    lt_prop(&p, "kv_heads", over_layers(m, kv_heads));
    lt_prop(&p, "head_dim", over_layers(m, head_dim));
    lt_prop(&p, "d_ff", over_layers(m, d_ff));
    lt_prop(&p, "vocab_size", size_json(c->vocab_size));
    lt_prop(&p, "max_positions", size_json(c->max_positions));
    lt_prop(&p, "activation", json_string(lt_act_name(c->act)));
    for (size_t i = 0; i < c->n_ropes; i++)
        lt_prop(&p, i ? "rope_2" : "rope",
                json_sprintf("%s, theta %.17g, %zu columns", lt_rope_kind_name(c->rope[i].kind), c->rope[i].theta,
                             c->rope[i].dim));
    lt_prop(&p, "tied", json_boolean(c->tied));
    lt_prop(&p, "parameters", size_json(lt_model_n_params(m)));
    lt_prop(&p, "parameters_of_linears", size_json(lt_model_n_linear_params(m)));
    lt_prop(&p, "bytes|B", size_json(lt_model_bytes(m)));
    lt_prop(&p, "flops_per_token", json_real(flops_of_one(m)));
}

/* ---- parameters by role ---- */
typedef struct role {
    const char *name;
    size_t tensors, params, bytes;
    bool dtype[LT_N_DTYPES];
} role;

static void count_roles(role *roles, size_t *n, const lt_model *m) {
    lt_param_info p;
    for (size_t i = 0; lt_model_param(m, i, &p); i++) {
        const char *name = lt_slot_role(p.slot);
        size_t r = 0;
        while (r < *n && strcmp(roles[r].name, name) != 0) r++;
        if (r == *n) roles[(*n)++] = (role){ .name = name };
        roles[r].tensors++;
        roles[r].params += lt_tensor_count(&p.param->t);
        roles[r].bytes += lt_tensor_bytes(&p.param->t);
        roles[r].dtype[p.param->t.dtype] = true;
    }
}

static void role_table(const lt_inspect *in, const lt_model *m) {
    role roles[LT_N_SLOTS];
    size_t n = 0;
    count_roles(roles, &n, m);
    const double total = (double)lt_model_n_params(m);
    json_t *rows = lt_result_table(in->result, "parameters by role",
                                   COLUMNS("role", "tensors", "parameters", "share|%", "bytes|B", "dtypes"));
    for (size_t r = 0; r < n; r++) {
        json_t *dtypes = json_array();
        for (int t = 0; t < LT_N_DTYPES; t++)
            if (roles[r].dtype[t]) json_array_append_new(dtypes, json_string(lt_dtype_get((lt_dtype)t)->name));
        lt_result_row(rows, "szzdzj", roles[r].name, roles[r].tensors, roles[r].params,
                      100 * (double)roles[r].params / total, roles[r].bytes, dtypes);
    }
}

/* ---- modules ---- */
static void module_row(json_t *rows, const lt_module *mod) {
    const lt_linear *l = mod->linear;
    const size_t out = lt_linear_out(l), in = lt_linear_in(l), rank = lt_linear_rank(l);
    const double kept = rank ? (double)(rank * (out + in)) / ((double)out * (double)in) : 1.0;
    lt_result_row(rows, "szzjdsb", l->name, out, in, rank ? size_json(rank) : json_string(""), 100 * kept,
                  lt_dtype_get(l->stage[0].w.t.dtype)->name, (int)(l->bias.name != NULL));
}

static void module_table(const lt_inspect *in, const lt_model *m, bool factored_only) {
    lt_module mod;
    size_t n = 0;
    for (size_t i = 0; lt_model_module(m, i, &mod); i++) n += !factored_only || lt_linear_rank(mod.linear) > 0;
    if (n == 0) return;
    json_t *rows = lt_result_table(in->result, factored_only ? "factored modules" : "modules",
                                   COLUMNS("module", "out", "in", "rank", "kept|%", "dtype", "bias"));
    for (size_t i = 0; lt_model_module(m, i, &mod); i++)
        if (!factored_only || lt_linear_rank(mod.linear) > 0) module_row(rows, &mod);
}

static void tensor_table(const lt_inspect *in, const lt_model *m) {
    json_t *rows = lt_result_table(in->result, "tensors", COLUMNS("tensor", "type and shape", "bytes|B"));
    lt_param_info p;
    char text[96];
    for (size_t i = 0; lt_model_param(m, i, &p); i++)
        lt_result_row(rows, "ssz", p.param->name, lt_tensor_describe(&p.param->t, text, sizeof text),
                      lt_tensor_bytes(&p.param->t));
}

/* ---- memory ---- */
static size_t cache_bytes(const lt_model *m, size_t bytes_each) {
    size_t n = 0;
    for (size_t l = 0; l < m->config.n_layers; l++) {
        const lt_layer_config *c = &m->config.layer[l];
        if (c->present) n += c->n_k_heads * c->qk_dim + c->n_v_heads * c->v_dim;
    }
    return n * bytes_each;
}

static void memory_table(const lt_inspect *in, const lt_model *m) {
    size_t largest = 0;
    for (size_t l = 0; l < m->config.n_layers; l++) largest = lt_max_size(largest, lt_layer_bytes(m, l));
    const lt_props p = lt_props_begin(in->result, "memory");
    lt_prop(&p, "weights|B", size_json(lt_model_bytes(m)));
    lt_prop(&p, "largest layer|B", size_json(largest));
    lt_prop(&p, "values of 512 tokens|B", size_json(lt_model_exec_bytes(m, 512)));
    lt_prop(&p, "values of 2048 tokens|B", size_json(lt_model_exec_bytes(m, 2048)));
    lt_prop(&p, "cache of 1024 tokens, f32|B", size_json(1024 * cache_bytes(m, 4)));
    lt_prop(&p, "cache of 1024 tokens, f16|B", size_json(1024 * cache_bytes(m, 2)));
}

/* ---- tokenizer ---- */
void lt_inspect_tokenizer_table(json_t *result, const lt_tokenizer *tok) {
    const int32_t bos = lt_tokenizer_bos(tok), eos = lt_tokenizer_eos(tok);
    const lt_props p = lt_props_begin(result, "tokenizer");
    lt_prop(&p, "ids", size_json(lt_tokenizer_vocab_size(tok)));
    if (bos >= 0) lt_prop(&p, "bos", json_sprintf("%d", (int)bos));
    if (bos >= 0) lt_prop(&p, "bos_token", json_string(lt_tokenizer_token(tok, bos)));
    if (eos >= 0) lt_prop(&p, "eos", json_sprintf("%d", (int)eos));
    if (eos >= 0) lt_prop(&p, "eos_token", json_string(lt_tokenizer_token(tok, eos)));
    lt_prop(&p, "hash", json_string(lt_tokenizer_hash(tok)));
}

lt_status lt_inspect_tokenizer(const lt_inspect *in, lt_err *err) {
    lt_tokenizer *tok;
    LT_TRY(lt_open_tokenizer(&tok, in->path, err));
    lt_inspect_tokenizer_table(in->result, tok);
    lt_tokenizer_destroy(tok);
    return LT_OK;
}

/* A tokenizer that lathe cannot read is no reason not to show the model. */
static void tokenizer_of_model(const lt_inspect *in, const lt_model *m) {
    lt_tokenizer *tok = NULL;
    lt_err why = { 0 };
    if (lt_model_tokenizer(&tok, m, &why) != LT_OK) {
        const lt_props p = lt_props_begin(in->result, "tokenizer");
        lt_prop(&p, "not read", json_string(why.message));
    } else if (tok)
        lt_inspect_tokenizer_table(in->result, tok);
    lt_tokenizer_destroy(tok);
}

lt_status lt_inspect_model(const lt_inspect *in, lt_err *err) {
    lt_opened o;
    LT_TRY(lt_open_model(&o, in->path, LT_TOKENIZER_NO, err));
    config_table(in, o.model);
    role_table(in, o.model);
    module_table(in, o.model, !in->all);
    if (in->all) tensor_table(in, o.model);
    tokenizer_of_model(in, o.model);
    memory_table(in, o.model);
    lt_opened_clear(&o);
    return LT_OK;
}
