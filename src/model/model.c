/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "model/weights.h"

/* ---- opening ---- */

/* What path stands for: a folder with config.json, or a GGUF file; an output folder holds one of them. */
static lt_status resolve(char **out, bool *gguf, const char *path, lt_err *err) {
    static const struct {
        const char *folder, *mark;
        bool gguf;
    } places[] = { { NULL, "config.json", false }, { "model", "config.json", false }, { NULL, "model.gguf", true } };
    if (!lt_path_exists(path)) return lt_fail(err, LT_EIO, "no such file or folder (%s)", path);
    if (!lt_path_is_dir(path)) {
        *gguf = true;
        *out = lt_strdup(path);
        return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    }
    for (size_t i = 0; i < LT_COUNTOF(places); i++) {
        char *folder = places[i].folder ? lt_path_join(path, places[i].folder) : lt_strdup(path);
        char *mark = folder ? lt_path_join(folder, places[i].mark) : NULL;
        if (!mark) {
            lt_free(folder);
            return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
        }
        if (lt_path_exists(mark)) {
            *gguf = places[i].gguf;
            *out = *gguf ? mark : folder;
            lt_free(*gguf ? folder : mark);
            return LT_OK;
        }
        lt_free(folder);
        lt_free(mark);
    }
    return lt_fail(err, LT_EDATA, "folder is not a model: no config.json, model/config.json or model.gguf (%s)", path);
}

/* The stop ids that generation uses stand in generation_config.json, where there is one. */
static lt_status read_generation_config(lt_config *c, const char *folder, lt_err *err) {
    char *path = lt_path_join(folder, "generation_config.json");
    json_t *j = NULL;
    lt_status st = path ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", folder);
    if (st == LT_OK && lt_path_exists(path)) {
        st = lt_json_load(&j, path, err);
        if (st == LT_OK) st = lt_config_read_stops(c, j, path, err);
    }
    if (j) json_decref(j);
    lt_free(path);
    return st;
}

static lt_status read_hf_config(lt_model *m, lt_err *err) {
    const char *type;
    char *path = lt_path_join(m->path, "config.json");
    lt_status st = path ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", m->path);
    if (st != LT_OK) return st;
    LT_GO(lt_json_load(&m->config.raw, path, err));
    if (!json_is_object(m->config.raw)) {
        st = lt_fail(err, LT_EDATA, "config is not an object (%s)", path);
        goto done;
    }
    LT_GO(lt_json_string(&type, m->config.raw, "model_type", "", path, err));
    if ((st = lt_family_find(&m->family, type, err)) != LT_OK) {
        st = lt_context(err, st, "%s", path);
        goto done;
    }
    m->config.bos = -1;
    LT_GO(lt_family_read_config(m->family, &m->config, m->config.raw, path, err));
    st = read_generation_config(&m->config, m->path, err);
done:
    lt_free(path);
    return st;
}

static lt_status read_gguf_config(lt_model *m, lt_err *err) {
    const lt_gguf *g = m->weights->gguf;
    const char *arch = lt_gguf_string(g, "general.architecture", NULL);
    if (!arch) return lt_fail(err, LT_EDATA, "metadata is missing (%s: general.architecture)", m->path);
    char key[160];
    uint64_t window = 0;
    snprintf(key, sizeof key, "%.80s.attention.sliding_window", arch);
    const bool slides = lt_gguf_u64(g, key, &window) && window > 0;
    const lt_status st = lt_family_find_gguf(&m->family, arch, slides, err);
    if (st != LT_OK) return lt_context(err, st, "%s", m->path);
    LT_TRY(lt_family_read_gguf(m->family, &m->config, g, err));
    return lt_weights_rename_gguf(m->weights, m->family, &m->config, err);
}

static lt_status make_frequencies(lt_model *m, lt_err *err) {
    for (size_t i = 0; i < m->config.n_ropes; i++) {
        m->inv_freq[i] = lt_calloc(lt_max_size(1, m->config.rope[i].dim / 2), sizeof **m->inv_freq);
        if (!m->inv_freq[i]) return lt_fail(err, LT_ENOMEM, "out of memory (%s: rotary frequencies)", m->path);
        lt_rope_frequencies(m->inv_freq[i], &m->config.rope[i]);
    }
    return LT_OK;
}

static lt_status open_resolved(lt_model *m, bool gguf, lt_err *err) {
    if (gguf) {
        LT_TRY(lt_weights_open_gguf(&m->weights, m->path, err));
        LT_TRY(read_gguf_config(m, err));
    } else {
        LT_TRY(read_hf_config(m, err));
        LT_TRY(lt_weights_open_folder(&m->weights, m->path, err));
        LT_TRY(lt_weights_add_prefix(m->weights, m->family, err));
    }
    snprintf(m->config.model_type, sizeof m->config.model_type, "%s",
             json_string_value(json_object_get(m->config.raw, "model_type")));
    m->layer = lt_calloc(m->config.n_layers, sizeof *m->layer);
    if (!m->layer) return lt_fail(err, LT_ENOMEM, "out of memory (%s: %zu layers)", m->path, m->config.n_layers);
    LT_TRY(make_frequencies(m, err));
    return lt_model_bind(m, err);
}

lt_status lt_model_open(lt_model **out, const char *path, lt_err *err) {
    bool gguf = false;
    lt_model *m = lt_calloc(1, sizeof *m);
    if (!m) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", path);
    lt_status st = resolve(&m->path, &gguf, path, err);
    if (st == LT_OK) st = open_resolved(m, gguf, err);
    if (st != LT_OK)
        lt_model_destroy(m);
    else
        *out = m;
    return st;
}

lt_status lt_model_open_config(lt_model **out, const char *folder, lt_err *err) {
    lt_model *m = lt_calloc(1, sizeof *m);
    if (m) m->path = lt_strdup(folder);
    lt_status st = m && m->path ? read_hf_config(m, err) : lt_fail(err, LT_ENOMEM, "out of memory (%s)", folder);
    if (st != LT_OK)
        lt_model_destroy(m);
    else
        *out = m;
    return st;
}

void lt_model_destroy(lt_model *m) {
    if (!m) return;
    for (size_t i = 0; i < LT_MAX_ROPES; i++) lt_free(m->inv_freq[i]);
    lt_config_clear(&m->config);
    lt_weights_close(m->weights);
    lt_free(m->layer);
    lt_free(m->path);
    lt_free(m);
}

bool lt_model_is_gguf(const lt_model *m) {
    return m->weights && m->weights->gguf != NULL;
}
const lt_gguf *lt_model_gguf(const lt_model *m) {
    return m->weights->gguf;
}

/* ---- gradients ---- */

static lt_status give_grad(lt_model *m, lt_param *p, lt_err *err) {
    if (p->grad) return LT_OK;
    p->grad = lt_calloc(lt_max_size(1, lt_tensor_count(&p->t)), sizeof *p->grad);
    if (!p->grad) return lt_fail(err, LT_ENOMEM, "out of memory (%s: gradient)", p->name);
    return lt_weights_own(m->weights, p->grad, err);
}

lt_status lt_model_make_trainable(lt_model *m, lt_err *err) {
    lt_param_info p;
    for (size_t i = 0; lt_model_param(m, i, &p); i++)
        LT_TRY(give_grad(m, (lt_param *)p.param, err)); /* m is ours to change */
    if (m->config.tied) m->head.stage[0].w.grad = m->embed.grad;
    return LT_OK;
}

void lt_model_zero_grads(lt_model *m) {
    lt_param_info p;
    for (size_t i = 0; lt_model_param(m, i, &p); i++)
        if (p.param->grad) memset(p.param->grad, 0, lt_tensor_count(&p.param->t) * sizeof *p.param->grad);
}
