/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of every family, by the names and defaults of its row. */
#include <math.h>
#include <string.h>

#include "model/family.h"

/* ---- what is not done ---- */

static bool asks(const json_t *v) {
    return v && !json_is_null(v) && !json_is_false(v) && !(json_is_integer(v) && json_integer_value(v) == 0);
}

static lt_status refuse(const char *const *fields, const json_t *j, const char *where, lt_err *err) {
    for (; fields && *fields; fields++)
        if (asks(json_object_get(j, *fields)))
            return lt_fail(err, LT_EUNSUPPORTED, "%s is not supported (%s)", *fields, where);
    return LT_OK;
}

/* Fields that change the mathematics of any family: what we do not do is refused by name. */
static lt_status refuse_all(const lt_config_row *r, const json_t *j, const char *where, lt_err *err) {
    static const char *const fields[] = { "quantization_config",
                                          "per_layer_config",
                                          "num_local_experts",
                                          "num_experts",
                                          "n_routed_experts",
                                          "add_cross_attention",
                                          "is_encoder_decoder",
                                          "text_config",
                                          "num_kv_shared_layers",
                                          "use_bidirectional_attention",
                                          NULL };
    double part = 1.0;
    LT_TRY(refuse(fields, j, where, err));
    LT_TRY(refuse(r->refused, j, where, err));
    if (r->rotary_part) return LT_OK;
    LT_TRY(lt_json_double(&part, j, "partial_rotary_factor", 1.0, where, err));
    if (part == 1.0) return LT_OK;
    return lt_fail(err, LT_EUNSUPPORTED, "partial_rotary_factor is not 1 (%s: %g)", where, part);
}

/* ---- widths and heads ---- */

static lt_status read_mathematics(lt_config *c, const lt_config_row *r, const json_t *j, const char *where,
                                  lt_err *err) {
    const char *act;
    LT_TRY(lt_json_string(&act, j, r->act, r->missing_act, where, err));
    if (!lt_act_find(act, &c->act))
        return lt_fail(err, LT_EUNSUPPORTED, "%s is not supported (%s: %s)", r->act, where, act);
    c->norm_eps = r->missing_eps;
    if (r->norm_eps) LT_TRY(lt_json_double(&c->norm_eps, j, r->norm_eps, r->missing_eps, where, err));
    if (c->norm_eps >= 0.0 && isfinite(c->norm_eps)) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s is not a number >= 0 (%s: %g)", r->norm_eps, where, c->norm_eps);
}

static lt_status read_softcap(lt_config *c, const lt_config_row *r, const json_t *j, const char *where, lt_err *err) {
    if (!r->logit_softcap) return LT_OK;
    LT_TRY(lt_json_double(&c->logit_softcap, j, r->logit_softcap, 0.0, where, err));
    if (c->logit_softcap >= 0.0 && isfinite(c->logit_softcap)) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s is not a positive number (%s: %g)", r->logit_softcap, where, c->logit_softcap);
}

static lt_status read_widths(lt_config *c, lt_layer_config *l, const lt_config_row *r, const json_t *j,
                             const char *where, lt_err *err) {
    LT_TRY(lt_config_width(&c->d_model, j, r->d_model, 0, where, err));
    LT_TRY(lt_config_width(&c->n_layers, j, r->n_layers, 0, where, err));
    LT_TRY(lt_config_width(&c->vocab_size, j, "vocab_size", 0, where, err));
    LT_TRY(lt_config_width(&c->max_positions, j, r->max_positions, r->missing_positions, where, err));
    LT_TRY(lt_config_width(&l->d_ff, j, r->d_ff, r->missing_ff * c->d_model, where, err));
    c->d_embed = c->d_model;
    return LT_OK;
}

static lt_status read_heads(lt_layer_config *l, const lt_config *c, const lt_config_row *r, const json_t *j,
                            const char *where, lt_err *err) {
    LT_TRY(lt_config_width(&l->n_q_heads, j, r->n_heads, 0, where, err));
    l->n_k_heads = l->n_q_heads;
    if (r->n_kv_heads && !json_is_null(json_object_get(j, r->n_kv_heads)))
        LT_TRY(lt_config_width(&l->n_k_heads, j, r->n_kv_heads,
                               r->missing_kv_heads ? r->missing_kv_heads : l->n_q_heads, where, err));
    l->n_v_heads = l->n_k_heads;
    const json_t *dim = r->head_dim ? json_object_get(j, r->head_dim) : NULL;
    if (!dim && r->missing_head_dim)
        l->qk_dim = r->missing_head_dim;
    else if (!dim || json_is_null(dim)) {
        if (c->d_model % l->n_q_heads != 0)
            return lt_fail(err, LT_EDATA, "%s is not a multiple of %s%s (%s: %zu, %zu)", r->d_model, r->n_heads,
                           r->head_dim ? ", and there is no head_dim" : "", where, c->d_model, l->n_q_heads);
        l->qk_dim = c->d_model / l->n_q_heads;
    } else
        LT_TRY(lt_config_width(&l->qk_dim, j, r->head_dim, 0, where, err));
    l->v_dim = l->qk_dim;
    return LT_OK;
}

static lt_status read_rope(lt_config *c, const lt_layer_config *l, const lt_config_row *r, const json_t *j,
                           const char *where, lt_err *err) {
    double part = 1.0;
    if (!r->theta) return LT_OK;
    const json_t *params = json_object_get(j, "rope_parameters");
    if (r->rotary_part) {
        LT_TRY(lt_json_double(&part, j, r->rotary_part, r->missing_part, where, err));
        if (json_is_object(params)) LT_TRY(lt_json_double(&part, params, "partial_rotary_factor", part, where, err));
        if (!(part > 0.0 && part <= 1.0))
            return lt_fail(err, LT_EDATA, "%s is not in (0, 1] (%s: %g)", r->rotary_part, where, part);
    }
    c->rope[0].dim = (size_t)((double)l->qk_dim * part);
    LT_TRY(lt_rope_read(&c->rope[0], j, r->theta, r->missing_theta, where, err));
    if (r->rotary_plain && c->rope[0].kind != LT_ROPE_DEFAULT)
        return lt_fail(err, LT_EUNSUPPORTED, "rope_scaling is not supported in this family (%s: %s)", where,
                       lt_rope_kind_name(c->rope[0].kind));
    c->n_ropes = 1;
    if (!r->local_rope) return LT_OK;
    c->rope[1] = (lt_rope_config){ .theta = c->rope[0].theta, .dim = c->rope[0].dim, .attention_factor = 1.0 };
    c->n_ropes = 2;
    if (!r->local_theta) return LT_OK;
    const json_t *local = json_is_object(params) ? json_object_get(params, "sliding_attention") : NULL;
    LT_TRY(lt_json_double(&c->rope[1].theta, j, r->local_theta, r->missing_local_theta, where, err));
    if (json_is_object(local))
        LT_TRY(lt_json_double(&c->rope[1].theta, local, "rope_theta", c->rope[1].theta, where, err));
    if (c->rope[1].theta > 0.0 && isfinite(c->rope[1].theta)) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s is not a positive number (%s: %g)", r->local_theta, where, c->rope[1].theta);
}

/* ---- layers ---- */

lt_status lt_family_make_layers(const lt_family *f, lt_config *c, lt_layer_config *l, const char *where, lt_err *err) {
    if (l->n_q_heads % l->n_k_heads != 0)
        return lt_fail(err, LT_EDATA, "attention heads are not a multiple of key-value heads (%s: %zu, %zu)", where,
                       l->n_q_heads, l->n_k_heads);
    if (f->config.theta && (c->rope[0].dim % 2 != 0 || c->rope[0].dim == 0))
        return lt_fail(err, LT_EDATA, "%zu columns of head_dim %zu cannot rotate in pairs (%s)", c->rope[0].dim,
                       l->qk_dim, where);
    l->present = true;
    l->mixer = LT_MIXER_SOFTMAX;
    l->qk_scale = 1.0 / sqrt((double)l->qk_dim);
    l->rope = f->config.theta ? 0 : -1;
    return lt_config_make_layers(c, l, where, err);
}

void lt_family_slide(const lt_family *f, lt_config *c, size_t layer, size_t window) {
    c->layer[layer].window = window;
    if (f->config.local_rope) c->layer[layer].rope = 1;
}

bool lt_family_slides_by_rule(const lt_family *f, size_t layer, size_t nth) {
    switch (f->config.rule) {
    case LT_LAYERS_FULL:
        return false;
    case LT_LAYERS_SLIDE:
        return true;
    case LT_LAYERS_SLIDE_LATE:
        return layer >= nth;
    case LT_LAYERS_SLIDE_BUT_NTH:
        return (layer + 1) % nth != 0;
    }
    return false;
}

static lt_status read_window(size_t *out, const lt_config_row *r, const json_t *j, const char *where, lt_err *err) {
    bool on = true;
    *out = 0;
    if (!r->window || json_is_null(json_object_get(j, r->window))) return LT_OK;
    if (r->window_switch) LT_TRY(lt_json_bool(&on, j, r->window_switch, false, where, err));
    if (!on || (!r->missing_window && !json_object_get(j, r->window))) return LT_OK;
    return lt_config_width(out, j, r->window, r->missing_window, where, err);
}

static lt_status slides_by_type(bool *out, const json_t *types, size_t layer, const char *where, lt_err *err) {
    const char *type = json_string_value(json_array_get(types, layer));
    *out = type && strcmp(type, "sliding_attention") == 0;
    if (*out || (type && strcmp(type, "full_attention") == 0)) return LT_OK;
    return lt_fail(err, LT_EUNSUPPORTED,
                   "layer_types has none of full_attention, sliding_attention (%s: layer %zu: %s)", where, layer,
                   type ? type : "not a string");
}

static lt_status read_kinds(const lt_family *f, lt_config *c, const json_t *j, const char *where, lt_err *err) {
    const lt_config_row *r = &f->config;
    const json_t *types = r->typed ? json_object_get(j, "layer_types") : NULL;
    size_t window, nth = r->missing_nth;
    if (types && json_is_null(types)) types = NULL;
    if (types && (!json_is_array(types) || json_array_size(types) != c->n_layers))
        return lt_fail(err, LT_EDATA, "layer_types is not a list of %zu kinds (%s: %zu)", c->n_layers, where,
                       json_array_size(types));
    LT_TRY(read_window(&window, r, j, where, err));
    if (r->nth) LT_TRY(lt_json_size(&nth, j, r->nth, r->missing_nth, where, err));
    if (r->rule == LT_LAYERS_SLIDE_BUT_NTH && nth == 0)
        return lt_fail(err, LT_EDATA, "%s is 0 (%s)", r->nth ? r->nth : "pattern", where);
    for (size_t i = 0; i < c->n_layers; i++) {
        bool slides = window > 0 && lt_family_slides_by_rule(f, i, nth);
        if (types) LT_TRY(slides_by_type(&slides, types, i, where, err));
        if (slides && window == 0)
            return lt_fail(err, LT_EDATA, "layer %zu slides, but %s gives no window (%s)", i,
                           r->window ? r->window : "nothing", where);
        if (slides) lt_family_slide(f, c, i, window);
    }
    return LT_OK;
}

/* ---- all ---- */

lt_status lt_family_read_config(const lt_family *f, lt_config *c, const json_t *j, const char *where, lt_err *err) {
    const lt_config_row *r = &f->config;
    lt_layer_config l = { 0 };
    c->block = f->block;
    c->embed_scale = c->logit_scale = 1.0;
    c->final_norm = true;
    LT_TRY(refuse_all(r, j, where, err));
    LT_TRY(read_mathematics(c, r, j, where, err));
    LT_TRY(read_softcap(c, r, j, where, err));
    LT_TRY(read_widths(c, &l, r, j, where, err));
    LT_TRY(read_heads(&l, c, r, j, where, err));
    LT_TRY(lt_json_bool(&c->tied, j, "tie_word_embeddings", r->missing_tied, where, err));
    c->attn_bias = r->missing_attn_bias;
    c->mlp_bias = r->missing_mlp_bias;
    if (r->attn_bias) LT_TRY(lt_json_bool(&c->attn_bias, j, r->attn_bias, r->missing_attn_bias, where, err));
    if (r->mlp_bias) LT_TRY(lt_json_bool(&c->mlp_bias, j, r->mlp_bias, r->missing_mlp_bias, where, err));
    c->bos = r->missing_bos;
    c->eos[0] = r->missing_eos;
    c->n_eos = r->missing_eos >= 0;
    LT_TRY(lt_config_read_stops(c, j, where, err));
    LT_TRY(read_rope(c, &l, r, j, where, err));
    LT_TRY(lt_family_make_layers(f, c, &l, where, err));
    LT_TRY(read_kinds(f, c, j, where, err));
    return f->read_rest ? f->read_rest(c, j, where, err) : LT_OK;
}
