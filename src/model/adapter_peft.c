/* SPDX-License-Identifier: Apache-2.0 */
/* PEFT folders. Reading: every tensor must have a place in the model, and every place that the config targets must have
 * its tensors, so that an adapter of another model never goes unnoticed. */
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "model/adapter_impl.h"
#include "nn/stage.h"

static const char prefix[] = "base_model.model.";
static const char config_name[] = "adapter_config.json", weights_name[] = "adapter_model.safetensors";

/* ---- reading ---- */

typedef struct reader {
    lt_adapters *a;
    const char *path; /* of the weights */
    bool *used;       /* [tensors of the file] */
    lt_err *err;
} reader;

/* folder, or folder/adapter */
static lt_status resolve(char **out, const char *folder, lt_err *err) {
    if (!lt_path_exists(folder)) return lt_fail(err, LT_EIO, "no such folder (%s)", folder);
    static const char *const places[] = { "", "adapter" };
    for (size_t i = 0; i < LT_COUNTOF(places); i++) {
        char *dir = *places[i] ? lt_path_join(folder, places[i]) : lt_strdup(folder);
        char *mark = dir ? lt_path_join(dir, config_name) : NULL;
        const bool there = mark && lt_path_exists(mark);
        lt_free(mark);
        if (there) {
            *out = dir;
            return LT_OK;
        }
        lt_free(dir);
        if (!mark) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", folder);
    }
    return lt_fail(err, LT_EDATA, "folder is not an adapter: no %s (%s)", config_name, folder);
}

static lt_status read_config(lt_lora_config *out, const char *dir, lt_err *err) {
    char *path = lt_path_join(dir, config_name), *text = NULL;
    size_t bytes;
    if (!path) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", dir);
    lt_status st = lt_file_read(&text, &bytes, path, 0, err);
    if (st == LT_OK) st = lt_lora_config_parse(out, text, bytes, path, err);
    lt_free(text);
    lt_free(path);
    return st;
}

/* Index of a tensor by its name in the model; SIZE_MAX: absent. */
static size_t find_tensor(const reader *r, const char *module, const char *suffix) {
    char name[320];
    const int n = snprintf(name, sizeof name, "%s%s%s", prefix, module, suffix);
    if (n < 0 || (size_t)n >= sizeof name) return SIZE_MAX;
    for (size_t lo = 0, hi = lt_safetensors_count(r->a->file); lo < hi;) {
        const size_t mid = lo + (hi - lo) / 2;
        const int order = strcmp(name, lt_safetensors_at(r->a->file, mid)->name);
        if (order == 0) return mid;
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return SIZE_MAX;
}

static lt_status fill(const reader *r, const lt_param *to, size_t tensor) {
    const lt_st_entry *e = lt_safetensors_at(r->a->file, tensor);
    const lt_tensor *t = &e->tensor;
    char got[128], want[128];
    if (!lt_dtype_get(t->dtype)->is_float)
        return lt_fail(r->err, LT_EUNSUPPORTED, "adapter weights of this dtype are not supported (%s: %s: %s)", r->path,
                       e->name, lt_dtype_get(t->dtype)->name);
    if (t->rank != 2 || t->size[0] != to->t.size[0] || t->size[1] != to->t.size[1])
        return lt_fail(r->err, LT_EDATA, "adapter does not fit the model: shape is %s, expected %s (%s: %s)",
                       lt_tensor_describe(t, got, sizeof got), lt_tensor_describe(&to->t, want, sizeof want), r->path,
                       e->name);
    float *out = (float *)to->t.buffer->data;
    for (size_t i = 0; i < t->size[0]; i++) lt_tensor_row_f32(out + i * t->size[1], t, i, 0, t->size[1]);
    r->used[tensor] = true;
    return LT_OK;
}

static lt_status read_place(const reader *r, const lt_adapter_place *p) {
    bool wanted;
    lt_lora_opts opts;
    lt_adapter_entry *e;
    LT_TRY(lt_lora_config_targets(&wanted, &r->a->config, p->module, p->head, r->err));
    const size_t a = find_tensor(r, p->module, ".lora_A.weight"), b = find_tensor(r, p->module, ".lora_B.weight");
    if (!wanted) return LT_OK; /* tensors of it stay unused and are reported */
    if (a == SIZE_MAX || b == SIZE_MAX)
        return lt_fail(r->err, LT_EDATA,
                       "adapter does not fit the model: it has no %s for a module that it targets (%s: %s)",
                       a == SIZE_MAX ? "lora_A" : "lora_B", r->path, p->module);
    LT_TRY(lt_lora_config_opts(&opts, &r->a->config, p->module, r->err));
    LT_TRY(lt_adapters_put(r->a, p, &opts, &e, r->err));
    LT_TRY(fill(r, &e->adapter.a, a));
    return fill(r, &e->adapter.b, b);
}

/* A stored parameter of the model by its name. tied: the head's own view of the table is a parameter too. */
static lt_param *find_param(lt_model *m, const char *name, bool *head) {
    lt_param_info p;
    char of_head[256];
    *head = false;
    const int n = snprintf(of_head, sizeof of_head, "%s.weight", m->head.name ? m->head.name : "");
    if (m->config.tied && n > 0 && (size_t)n < sizeof of_head && strcmp(of_head, name) == 0) {
        *head = true;
        return &m->head.stage[0].w;
    }
    for (size_t i = 0; lt_model_param(m, i, &p); i++) {
        if (strcmp(p.param->name, name) != 0) continue;
        *head = p.slot == LT_SLOT_HEAD || p.slot == LT_SLOT_EMBED;
        return (lt_param *)p.param; /* of a model that is ours to change */
    }
    return NULL;
}

static bool same_shape(const lt_tensor *a, const lt_tensor *b) {
    return lt_tensor_count(a) == lt_tensor_count(b) && lt_tensor_rows(a) == lt_tensor_rows(b) && a->rank <= 2;
}

/* The model's name of a whole parameter: PEFT puts the layer below a head or table that it adapts. lt_free */
static char *whole_name(const char *name) {
    static const char below[] = ".base_layer";
    char *own = lt_strdup(name + strlen(prefix));
    char *at = own ? strstr(own, below) : NULL;
    if (at) memmove(at, at + strlen(below), strlen(at + strlen(below)) + 1);
    return own;
}

/* A whole parameter: modules_to_save, or a head or table whose own weights PEFT adds. */
static lt_status check_whole(const reader *r, const lt_st_entry *e, lt_adapter_swap *s) {
    char got[128], want[128];
    s->place = find_param(r->a->m, s->name, &s->head);
    if (!s->place)
        return lt_fail(r->err, LT_EDATA, "adapter does not fit the model: it has no such module (%s: %s)", r->path,
                       e->name);
    if (!lt_dtype_get(e->tensor.dtype)->is_float)
        return lt_fail(r->err, LT_EUNSUPPORTED, "adapter weights of this dtype are not supported (%s: %s)", r->path,
                       e->name);
    if (!same_shape(&e->tensor, &s->place->t))
        return lt_fail(r->err, LT_EDATA, "adapter does not fit the model: shape is %s, the model's %s (%s: %s)",
                       lt_tensor_describe(&e->tensor, got, sizeof got),
                       lt_tensor_describe(&s->place->t, want, sizeof want), r->path, e->name);
    return LT_OK;
}

static lt_status read_whole(const reader *r, size_t tensor) {
    const lt_st_entry *e = lt_safetensors_at(r->a->file, tensor);
    lt_adapter_swap s = { .name = whole_name(e->name) };
    if (!s.name) return lt_fail(r->err, LT_ENOMEM, "out of memory (%s)", r->path);
    const lt_status st = check_whole(r, e, &s);
    if (st != LT_OK) {
        lt_free(s.name);
        return st;
    }
    const lt_param fresh = { .t = e->tensor };
    LT_TRY(lt_adapters_swap(r->a, &s, &fresh, r->err));
    r->used[tensor] = true;
    return LT_OK;
}

static bool ends_with(const char *s, const char *end) {
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* What no target has taken. */
static lt_status read_rest(const reader *r, size_t tensor) {
    static const struct {
        const char *part, *what;
    } foreign[] = { { ".lora_magnitude_vector", "DoRA" },
                    { ".lora_embedding_", "LoRA of an embedding table" },
                    { ".lora_B.bias", "a bias of lora_B" } };
    const char *name = lt_safetensors_at(r->a->file, tensor)->name;
    if (r->used[tensor]) return LT_OK;
    for (size_t i = 0; i < LT_COUNTOF(foreign); i++)
        if (strstr(name, foreign[i].part))
            return lt_fail(r->err, LT_EUNSUPPORTED, "%s is not supported (%s: %s)", foreign[i].what, r->path, name);
    if (strncmp(name, prefix, strlen(prefix)) != 0)
        return lt_fail(r->err, LT_EDATA, "tensor name does not begin with %s (%s: %s)", prefix, r->path, name);
    if (ends_with(name, ".lora_A.weight") || ends_with(name, ".lora_B.weight"))
        return lt_fail(
            r->err, LT_EDATA,
            "adapter does not fit the model: the model has no such linear, or target_modules does not name it "
            "(%s: %s)",
            r->path, name);
    return read_whole(r, tensor);
}

static lt_status read_all(const reader *r) {
    lt_adapter_place p;
    for (size_t i = 0; lt_adapter_place_at(r->a->m, i, &p); i++) LT_TRY(read_place(r, &p));
    for (size_t i = 0; i < lt_safetensors_count(r->a->file); i++) LT_TRY(read_rest(r, i));
    if (r->a->n == 0 && r->a->n_swaps == 0)
        return lt_fail(r->err, LT_EDATA,
                       "adapter does not fit the model: its target_modules name none of its linears (%s)", r->path);
    return LT_OK;
}

static lt_status read_weights(lt_adapters *a, const char *dir, lt_err *err) {
    char *path = lt_path_join(dir, weights_name);
    if (!path) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", dir);
    lt_status st = lt_safetensors_open(&a->file, path, err);
    reader r = { .a = a, .path = path, .err = err };
    if (st == LT_OK) {
        r.used = lt_calloc(lt_max_size(1, lt_safetensors_count(a->file)), sizeof *r.used);
        st = r.used ? read_all(&r) : lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    }
    lt_free(r.used);
    lt_free(path);
    return st;
}

lt_status lt_adapters_open(lt_adapters **out, lt_model *m, const char *folder, lt_err *err) {
    char *dir;
    lt_adapters *a;
    LT_TRY(resolve(&dir, folder, err));
    lt_status st = lt_adapters_create(&a, m, err);
    if (st == LT_OK) {
        st = read_config(&a->config, dir, err);
        if (st == LT_OK) st = read_weights(a, dir, err);
        if (st == LT_OK) {
            a->folder = dir;
            *out = a;
            return LT_OK;
        }
        lt_adapters_destroy(a);
    }
    lt_free(dir);
    return st;
}

lt_status lt_adapters_hash(const lt_adapters *a, char hex[LT_HASH_HEX], lt_err *err) {
    static const char *const names[] = { config_name, weights_name };
    char each[2][LT_HASH_HEX] = { { 0 } };
    LT_REQUIRE(err, a->folder, "adapters: not read from a folder");
    for (size_t i = 0; i < LT_COUNTOF(names); i++) {
        char *path = lt_path_join(a->folder, names[i]);
        const lt_status st =
            path ? lt_hash_file(path, each[i], err) : lt_fail(err, LT_ENOMEM, "out of memory (%s)", a->folder);
        lt_free(path);
        LT_TRY(st);
    }
    lt_hash_bytes(each, sizeof each, hex);
    return LT_OK;
}

/* ---- writing: the names ---- */

/* What follows the layer's number, and where every layer has the same: "self_attn.q_proj". The whole name outside of
 * layers. */
static const char *end_of(const char *module) {
    for (const char *p = module; (p = strchr(p, '.')); p++) {
        const size_t digits = strspn(p + 1, "0123456789");
        if (digits > 0 && p[1 + digits] == '.') return p + 2 + digits;
    }
    return module;
}

static bool has_entry(const lt_adapters *a, const char *module) {
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->entry[i]->module, module) == 0) return true;
    return false;
}

/* Is every stage that this end names adapted? Then the end stands for them all. A linear that is dense here may be
 * factored in another layer, where the name would be that of the pair, which peft cannot adapt. */
static bool end_is_complete(const lt_adapters *a, const char *end) {
    lt_adapter_place p;
    const size_t n = strlen(end);
    for (size_t i = 0; lt_adapter_place_at(a->m, i, &p); i++) {
        if (p.factor && lt_adapter_named(p.linear, end, n)) return false;
        if (lt_adapter_named(p.module, end, n) && !has_entry(a, p.module)) return false;
    }
    return true;
}

static bool holds(const json_t *list, const char *name) {
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), name) == 0) return true;
    return false;
}

static json_t *target_list(const lt_adapters *a) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < a->n; i++) {
        const char *end = end_of(a->entry[i]->module);
        const char *name = holds(list, end) || end_is_complete(a, end) ? end : a->entry[i]->module;
        if (!holds(list, name)) json_array_append_new(list, json_string(name));
    }
    return list;
}

/* ---- writing: the files ---- */

static void put_patterns(json_t *config, const lt_adapters *a) {
    const lt_lora_opts *main = &a->entry[0]->opts;
    json_t *ranks = json_object(), *alphas = json_object();
    for (size_t i = 0; i < a->n; i++) {
        const lt_lora_opts *o = &a->entry[i]->opts;
        if (o->rank != main->rank) json_object_set_new(ranks, a->entry[i]->module, json_integer((json_int_t)o->rank));
        if (o->alpha != main->alpha) json_object_set_new(alphas, a->entry[i]->module, json_real(o->alpha));
    }
    json_object_set_new(config, "rank_pattern", ranks);
    json_object_set_new(config, "alpha_pattern", alphas);
}

static json_t *fresh_config(const lt_adapters *a) {
    const lt_lora_opts *main = &a->entry[0]->opts;
    json_t *c = json_pack("{s:s, s:n, s:s, s:n, s:b, s:b, s:b, s:n, s:f, s:f, s:s, s:I, s:o, s:s, s:b, s:b}",
                          "peft_type", "LORA", "auto_mapping", "base_model_name_or_path", "", "revision",
                          "inference_mode", 1, "fan_in_fan_out", (int)a->entry[0]->stage->in_out, "init_lora_weights",
                          1, "modules_to_save", "lora_alpha", main->alpha, "lora_dropout", main->dropout, "bias",
                          "none", "r", (json_int_t)main->rank, "target_modules", target_list(a), "task_type",
                          "CAUSAL_LM", "use_dora", 0, "use_rslora", (int)main->rslora);
    if (c) put_patterns(c, a);
    return c;
}

static lt_status write_config(const lt_adapters *a, const char *folder, const char *base, lt_err *err) {
    json_t *c = a->config.raw ? json_deep_copy(a->config.raw) : fresh_config(a);
    char *path = lt_path_join(folder, config_name);
    if (c && base) json_object_set_new(c, "base_model_name_or_path", json_string(base));
    const lt_status st = c && path ? lt_json_save(c, path, err) : lt_fail(err, LT_ENOMEM, "out of memory (%s)", folder);
    json_decref(c);
    lt_free(path);
    return st;
}

static lt_status declare(lt_st_writer *w, const char *name, const lt_tensor *t, lt_err *err) {
    char *full = lt_asprintf("%s%s", prefix, name);
    if (!full) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", name);
    const lt_status st = lt_st_writer_declare(w, full, t->dtype, t->rank, t->size, err);
    lt_free(full);
    return st;
}

static lt_status write_tensors(lt_st_writer *w, const lt_adapters *a, lt_err *err) {
    LT_TRY(lt_st_writer_meta(w, "format", "pt", err));
    for (size_t i = 0; i < 2 * a->n; i++) {
        const lt_param *p = lt_adapters_param(a, i);
        LT_TRY(declare(w, p->name, &p->t, err));
    }
    for (size_t i = 0; i < a->n_swaps; i++)
        if (a->swap[i]->name) LT_TRY(declare(w, a->swap[i]->name, &a->swap[i]->place->t, err));
    LT_TRY(lt_st_writer_begin(w, err));
    for (size_t i = 0; i < 2 * a->n; i++) {
        const lt_tensor *t = &lt_adapters_param(a, i)->t;
        LT_TRY(lt_st_writer_bytes(w, lt_host(t), lt_tensor_bytes(t), err));
    }
    for (size_t i = 0; i < a->n_swaps; i++) {
        const lt_tensor *t = &a->swap[i]->place->t;
        if (a->swap[i]->name) LT_TRY(lt_st_writer_bytes(w, lt_host(t), lt_tensor_bytes(t), err));
    }
    return LT_OK;
}

lt_status lt_adapters_save(const lt_adapters *a, const char *folder, const char *base, lt_err *err) {
    lt_st_writer *w;
    LT_REQUIRE(err, a->n > 0, "adapters: there is none to save");
    LT_TRY(lt_make_dirs(folder, err));
    char *path = lt_path_join(folder, weights_name);
    lt_status st = path ? lt_st_writer_create(&w, path, err) : lt_fail(err, LT_ENOMEM, "out of memory (%s)", folder);
    if (st == LT_OK) {
        st = write_tensors(w, a, err);
        if (st == LT_OK)
            st = lt_st_writer_commit(w, err);
        else
            lt_st_writer_abort(w);
    }
    lt_free(path);
    return st == LT_OK ? write_config(a, folder, base, err) : st;
}
