/* SPDX-License-Identifier: Apache-2.0 */
#include "model/config.h"

#include <string.h>

void lt_config_clear(lt_config *c) {
    lt_free(c->layer);
    if (c->raw) json_decref(c->raw);
    *c = (lt_config){ 0 };
}

/* Far above any model; keeps a hostile config from asking for terabytes of layer records. */
enum { MAX_LAYERS = 65536 };

lt_status lt_config_make_layers(lt_config *c, const lt_layer_config *like, const char *where, lt_err *err) {
    if (c->n_layers == 0 || c->n_layers > MAX_LAYERS)
        return lt_fail(err, LT_EDATA, "number of layers is outside 1..%d (%s: %zu)", MAX_LAYERS, where, c->n_layers);
    c->layer = lt_calloc(c->n_layers, sizeof *c->layer);
    if (!c->layer) return lt_fail(err, LT_ENOMEM, "out of memory (%s: %zu layer records)", where, c->n_layers);
    for (size_t i = 0; i < c->n_layers; i++) {
        c->layer[i] = *like;
        c->layer[i].parent = i;
        c->layer[i].kv_source = (int)i;
    }
    return LT_OK;
}

static const struct {
    const char *name;
    lt_act act;
} acts[] = {
    { "silu", LT_ACT_SILU },          { "swish", LT_ACT_SILU },          { "gelu", LT_ACT_GELU },
    { "gelu_new", LT_ACT_GELU_TANH }, { "gelu_fast", LT_ACT_GELU_TANH }, { "gelu_pytorch_tanh", LT_ACT_GELU_TANH },
    { "relu", LT_ACT_RELU }
};

bool lt_act_find(const char *hf_name, lt_act *out) {
    for (size_t i = 0; i < LT_COUNTOF(acts); i++) {
        if (strcmp(acts[i].name, hf_name) != 0) continue;
        *out = acts[i].act;
        return true;
    }
    return false;
}

const char *lt_act_hf_name(lt_act act) {
    size_t i = 0;
    while (i + 1 < LT_COUNTOF(acts) && acts[i].act != act) i++;
    return acts[i].name;
}

lt_status lt_config_width(size_t *out, const json_t *o, const char *key, size_t dflt, const char *where, lt_err *err) {
    json_t *j;
    if (dflt == 0) LT_TRY(lt_json_need(&j, o, key, where, err));
    LT_TRY(lt_json_size(out, o, key, dflt, where, err));
    if (*out >= 1 && *out <= INT32_MAX) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s is outside 1..%d (%s: %zu)", key, INT32_MAX, where, *out);
}

static lt_status token_id(int32_t *out, const json_t *j, const char *key, const char *where, lt_err *err) {
    if (json_is_integer(j) && json_integer_value(j) >= 0 && json_integer_value(j) <= INT32_MAX) {
        *out = (int32_t)json_integer_value(j);
        return LT_OK;
    }
    return lt_fail(err, LT_EDATA, "%s is not a token id (%s)", key, where);
}

lt_status lt_config_read_stops(lt_config *c, const json_t *o, const char *where, lt_err *err) {
    const json_t *bos = json_object_get(o, "bos_token_id"), *eos = json_object_get(o, "eos_token_id");
    if (json_is_null(bos))
        c->bos = -1;
    else if (bos)
        LT_TRY(token_id(&c->bos, bos, "bos_token_id", where, err));
    if (!eos) return LT_OK;
    c->n_eos = 0;
    if (json_is_null(eos)) return LT_OK;
    const size_t n = json_is_array(eos) ? json_array_size(eos) : 1;
    if (n > LT_COUNTOF(c->eos))
        return lt_fail(err, LT_EUNSUPPORTED, "eos_token_id lists more than %zu ids (%s: %zu)", LT_COUNTOF(c->eos),
                       where, n);
    for (size_t i = 0; i < n; i++)
        LT_TRY(token_id(&c->eos[i], json_is_array(eos) ? json_array_get(eos, i) : eos, "eos_token_id", where, err));
    c->n_eos = n;
    return LT_OK;
}
