/* SPDX-License-Identifier: Apache-2.0 */
#include "model/adapter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/adapter_impl.h"
#include "model/parts.h"
#include "nn/stage.h"

/* ---- life ---- */

lt_status lt_adapters_create(lt_adapters **out, lt_model *m, lt_err *err) {
    lt_adapters *a = lt_calloc(1, sizeof *a);
    if (!a) return lt_fail(err, LT_ENOMEM, "out of memory (adapters)");
    a->m = m;
    a->was_changed = m->changed;
    *out = a;
    return LT_OK;
}

static void entry_destroy(lt_adapter_entry *e) {
    if (!e) return;
    if (e->stage->adapters == &e->adapter) {
        e->stage->adapters = NULL;
        e->stage->n_adapters = 0;
    }
    lt_free(e->adapter.a.grad);
    lt_free(e->adapter.b.grad);
    lt_free(e->a.data);
    lt_free(e->b.data);
    lt_free(e->module);
    lt_free(e->name_a);
    lt_free(e->name_b);
    lt_free(e);
}

void lt_adapters_destroy(lt_adapters *a) {
    if (!a) return;
    for (size_t i = a->n_swaps; i-- > 0;) { /* backwards: a weight may have been replaced, then merged */
        *a->swap[i]->place = a->swap[i]->before;
        lt_spill_give(&a->swap[i]->buffer);
        lt_free(a->swap[i]->name);
        lt_free(a->swap[i]);
    }
    for (size_t i = 0; i < a->n; i++) entry_destroy(a->entry[i]);
    lt_parts_refresh(a->m);
    a->m->changed = a->was_changed;
    lt_lora_config_clear(&a->config);
    lt_safetensors_close(a->file);
    lt_spill_clear(&a->spill);
    lt_free(a->folder);
    lt_free(a->swap);
    lt_free(a->entry);
    lt_free(a);
}

const char *lt_adapters_folder(const lt_adapters *a) {
    return a->folder;
}

/* Room for one more pointer in *list. */
static bool grow(void *list, size_t n, size_t *cap) {
    void *old;
    if (n < *cap) return true;
    memcpy(&old, list, sizeof old);
    const size_t more = *cap ? 2 * *cap : 64;
    void *grown = lt_realloc(old, more * sizeof(void *));
    if (!grown) return false;
    memcpy(list, &grown, sizeof grown);
    *cap = more;
    return true;
}

/* ---- places ---- */

static bool place_of_linear(lt_linear *l, int stage, bool head, lt_adapter_place *out) {
    static const struct {
        const char *suffix;
        int factor;
    } names[] = { { ".BLinear", 'B' }, { ".ALinear", 'A' } };
    const bool dense = l->n_stages == 1;
    *out = (lt_adapter_place){
        .linear = l->name, .stage = &l->stage[stage], .factor = dense ? 0 : names[stage].factor, .head = head
    };
    const int n = snprintf(out->module, sizeof out->module, "%s%s", l->name, dense ? "" : names[stage].suffix);
    return n > 0 && (size_t)n < sizeof out->module;
}

bool lt_adapter_place_at(lt_model *m, size_t i, lt_adapter_place *out) {
    const lt_linear *l;
    for (size_t k = 0; lt_model_linear(m, k, &l); k++) {
        const size_t stages = (size_t)l->n_stages;
        if (i < stages) return place_of_linear((lt_linear *)l, (int)i, l == &m->head, out); /* m is ours to change */
        i -= stages;
    }
    return false;
}

/* ---- making ---- */

static lt_status make_matrix(lt_param *p, lt_buffer *b, char *name, size_t rows, size_t cols, lt_err *err) {
    if (!name) return lt_fail(err, LT_ENOMEM, "out of memory (adapters)");
    size_t n;
    if (!lt_mul_size(rows, cols, &n) || !lt_mul_size(n, sizeof(float), &b->bytes))
        return lt_fail(err, LT_EDATA, "adapter is too large (%s: [%zu, %zu])", name, rows, cols);
    b->data = lt_calloc(lt_max_size(1, n), sizeof(float));
    if (!b->data) return lt_fail(err, LT_ENOMEM, "out of memory (%s: %zu bytes)", name, b->bytes);
    *p = (lt_param){ .name = name, .t = lt_tensor_dense(LT_F32, 2, (size_t[]){ rows, cols }, b, 0) };
    return LT_OK;
}

lt_status lt_adapters_put(lt_adapters *a, const lt_adapter_place *p, const lt_lora_opts *opts, lt_adapter_entry **out,
                          lt_err *err) {
    if (p->stage->n_adapters) return lt_fail(err, LT_EDATA, "module has an adapter already (%s)", p->module);
    if (!grow(&a->entry, a->n, &a->cap)) return lt_fail(err, LT_ENOMEM, "out of memory (adapters)");
    lt_adapter_entry *e = lt_calloc(1, sizeof *e);
    if (!e) return lt_fail(err, LT_ENOMEM, "out of memory (adapters)");
    lt_status st;
    e->stage = p->stage;
    e->head = p->head;
    e->opts = *opts;
    e->module = lt_strdup(p->module);
    e->name_a = lt_asprintf("%s.lora_A.weight", p->module);
    e->name_b = lt_asprintf("%s.lora_B.weight", p->module);
    e->adapter.scale = lt_lora_scale(opts);
    if (!e->module) {
        st = lt_fail(err, LT_ENOMEM, "out of memory (adapters)");
        goto done;
    }
    LT_GO(make_matrix(&e->adapter.a, &e->a, e->name_a, opts->rank, lt_stage_in(p->stage), err));
    LT_GO(make_matrix(&e->adapter.b, &e->b, e->name_b, lt_stage_out(p->stage), opts->rank, err));
    e->stage->adapters = &e->adapter;
    e->stage->n_adapters = 1;
    a->entry[a->n++] = e;
    *out = e;
done:
    if (st != LT_OK) entry_destroy(e);
    return st;
}

lt_status lt_adapters_swap(lt_adapters *a, lt_adapter_swap *s, const lt_param *fresh, lt_err *err) {
    lt_adapter_swap *own = grow(&a->swap, a->n_swaps, &a->cap_swaps) ? lt_malloc(sizeof *own) : NULL;
    if (!own) {
        lt_spill_give(&s->buffer);
        lt_free(s->name);
        return lt_fail(err, LT_ENOMEM, "out of memory (adapters)");
    }
    *own = *s;
    own->before = *s->place;
    lt_param param = *fresh;
    if (own->buffer.data) param.t.buffer = &own->buffer;
    param.name = own->before.name; /* names live with the model */
    *own->place = param;
    a->swap[a->n_swaps++] = own;
    a->m->changed = true;
    return LT_OK;
}

/* ---- fresh ones by name ---- */

bool lt_adapter_named(const char *module, const char *name, size_t n) {
    const size_t len = strlen(module);
    return len >= n && strncmp(module + len - n, name, n) == 0 && (len == n || module[len - n - 1] == '.');
}

static bool factor_wanted(const lt_adapter_place *p, lt_lora_factors f) {
    return p->factor == 0 || f == LT_LORA_BOTH || p->factor == (f == LT_LORA_A ? 'A' : 'B');
}

/* The stage by its own name, or as a factor of the linear that is named. */
static bool answers(const lt_adapter_place *p, const char *name, size_t n, lt_lora_factors f) {
    if (n == 3 && strncmp(name, "all", 3) == 0) return !p->head && factor_wanted(p, f);
    return lt_adapter_named(p->module, name, n) || (lt_adapter_named(p->linear, name, n) && factor_wanted(p, f));
}

static void fill_fresh(lt_adapter_entry *e, uint64_t seed, uint32_t index) {
    lt_rng r = lt_rng_at(seed, LT_RNG_INIT, 0, index);
    const size_t n = lt_tensor_count(&e->adapter.a.t);
    const double bound = 1.0 / sqrt((double)lt_tensor_cols(&e->adapter.a.t));
    float *w = e->a.data;
    for (size_t i = 0; i < n; i++) w[i] = (float)(bound * (2.0 * lt_rng_uniform(&r) - 1.0));
}

/* The next name of a list with commas; false at its end. */
static bool next_name(const char **list, const char **name, size_t *n) {
    while (**list == ',') ++*list;
    *name = *list;
    *n = strcspn(*list, ",");
    *list += *n;
    return *n > 0;
}

static bool any_answers(const lt_adapter_place *p, const char *targets, lt_lora_factors factors) {
    const char *name;
    size_t n;
    while (next_name(&targets, &name, &n))
        if (answers(p, name, n, factors)) return true;
    return false;
}

static lt_status check_targets(lt_adapters *a, const char *targets, lt_lora_factors factors, lt_err *err) {
    const char *name;
    size_t n;
    lt_adapter_place p;
    LT_REQUIRE(err, targets[strspn(targets, ",")], "adapters: no target is named");
    while (next_name(&targets, &name, &n)) {
        size_t i = 0;
        while (lt_adapter_place_at(a->m, i, &p) && !answers(&p, name, n, factors)) i++;
        if (!lt_adapter_place_at(a->m, i, &p))
            return lt_fail(err, LT_EUSAGE, "no linear of the model answers to this name (%s: %.*s)", a->m->path, (int)n,
                           name);
    }
    return LT_OK;
}

lt_status lt_adapters_add(lt_adapters *a, const char *targets, lt_lora_factors factors, const lt_lora_opts *opts,
                          uint64_t seed, size_t *added, lt_err *err) {
    lt_adapter_place p;
    lt_adapter_entry *e;
    size_t n = 0;
    LT_REQUIRE(err, opts->rank >= 1, "adapters: rank 0");
    LT_REQUIRE(err, opts->dropout >= 0 && opts->dropout < 1, "adapters: dropout %g is outside [0, 1)", opts->dropout);
    LT_REQUIRE(err, isfinite(opts->alpha), "adapters: alpha is not a number");
    LT_TRY(check_targets(a, targets, factors, err));
    for (size_t i = 0; lt_adapter_place_at(a->m, i, &p); i++) {
        if (p.stage->n_adapters || !any_answers(&p, targets, factors)) continue;
        LT_TRY(lt_adapters_put(a, &p, opts, &e, err));
        fill_fresh(e, seed, (uint32_t)i);
        n++;
    }
    if (added) *added = n;
    return LT_OK;
}

/* ---- walking ---- */

bool lt_adapters_at(const lt_adapters *a, size_t i, lt_adapter_info *out) {
    if (i >= a->n) return false;
    *out = (lt_adapter_info){ a->entry[i]->module, &a->entry[i]->adapter };
    return true;
}

lt_param *lt_adapters_param(const lt_adapters *a, size_t i) {
    if (i / 2 >= a->n) return NULL;
    lt_adapter *x = &a->entry[i / 2]->adapter;
    return i % 2 ? &x->b : &x->a;
}

size_t lt_adapters_n_params(const lt_adapters *a) {
    size_t n = 0;
    for (size_t i = 0; i < 2 * a->n; i++) n += lt_tensor_count(&lt_adapters_param(a, i)->t);
    return n;
}

lt_status lt_adapters_make_trainable(lt_adapters *a, lt_err *err) {
    for (size_t i = 0; i < 2 * a->n; i++) {
        lt_param *p = lt_adapters_param(a, i);
        if (p->grad) continue;
        p->grad = lt_calloc(lt_max_size(1, lt_tensor_count(&p->t)), sizeof *p->grad);
        if (!p->grad) return lt_fail(err, LT_ENOMEM, "out of memory (%s: gradient)", p->name);
    }
    return LT_OK;
}

void lt_adapters_zero_grads(lt_adapters *a) {
    for (size_t i = 0; i < 2 * a->n; i++) {
        lt_param *p = lt_adapters_param(a, i);
        if (p->grad) memset(p->grad, 0, lt_tensor_count(&p->t) * sizeof *p->grad);
    }
}

void lt_adapters_set_masks(lt_adapters *a, uint64_t seed, uint32_t step) {
    for (size_t i = 0; i < a->n; i++) {
        a->entry[i]->adapter.dropout = a->entry[i]->opts.dropout;
        a->entry[i]->adapter.seed = seed + (uint64_t)i * UINT64_C(0x9E3779B97F4A7C15); /* streams that never meet */
        a->entry[i]->adapter.step = step;
    }
}
