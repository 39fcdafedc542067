/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of a changed model: what was read, with the sizes of now under the names of the family's row. */
#include "model/family.h"

static bool uniform(const lt_config *c) {
    for (size_t i = 0; i < c->n_layers; i++) {
        const lt_layer_config *a = &c->layer[0], *b = &c->layer[i];
        if (!b->present || b->n_q_heads != a->n_q_heads || b->n_k_heads != a->n_k_heads || b->qk_dim != a->qk_dim ||
            b->d_ff != a->d_ff)
            return false;
    }
    return true;
}

static int set_width(json_t *j, const char *key, size_t value) {
    return key ? json_object_set_new(j, key, json_integer((json_int_t)value)) : 0;
}

static int set_layer_types(json_t *j, const lt_config *c) {
    json_t *types = json_array();
    int bad = types == NULL;
    for (size_t i = 0; i < c->n_layers; i++)
        bad |= json_array_append_new(types, json_string(c->layer[i].window ? "sliding_attention" : "full_attention"));
    return bad | json_object_set_new(j, "layer_types", types);
}

lt_status lt_family_write_config(const lt_family *f, json_t **out, const lt_config *c, lt_err *err) {
    if (!uniform(c))
        return lt_fail(err, LT_EUNSUPPORTED, "layers differ in size, which config.json of %s cannot say", f->name);
    const lt_config_row *r = &f->config;
    const lt_layer_config *l = &c->layer[0];
    json_t *j = json_deep_copy(c->raw);
    int bad = j == NULL;
    bad |= set_width(j, r->d_model, c->d_model);
    bad |= set_width(j, r->d_ff, l->d_ff);
    bad |= set_width(j, r->n_layers, c->n_layers);
    bad |= set_width(j, r->n_heads, l->n_q_heads);
    bad |= set_width(j, r->n_kv_heads, l->n_k_heads);
    bad |= set_width(j, r->head_dim, l->qk_dim);
    bad |= set_width(j, "vocab_size", c->vocab_size);
    bad |= set_width(j, r->max_positions, c->max_positions);
    bad |= json_object_set_new(j, "tie_word_embeddings", json_boolean(c->tied));
    if (r->attn_bias) bad |= json_object_set_new(j, r->attn_bias, json_boolean(c->attn_bias));
    if (r->mlp_bias) bad |= json_object_set_new(j, r->mlp_bias, json_boolean(c->mlp_bias));
    if (r->typed) bad |= set_layer_types(j, c);
    if (bad) {
        json_decref(j);
        return lt_fail(err, LT_ENOMEM, "out of memory (config.json)");
    }
    *out = j;
    return LT_OK;
}
