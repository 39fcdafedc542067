/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary frequencies: inv_freq[i] = theta^(-2i/dim), then the rule of the kind (transformers, modeling_rope_utils.py).
 */
#include "model/config.h"

#include <math.h>
#include <string.h>

static const double two_pi = 6.283185307179586476925286766559;

static double keep(double f, const lt_rope_config *r) {
    (void)r;
    return f;
}

static double divide(double f, const lt_rope_config *r) {
    return f / r->factor;
}

/* Llama 3.1: long waves are slowed by factor, short ones kept, those between blended linearly in 1/wavelength. */
static double llama3(double f, const lt_rope_config *r) {
    const double turns = r->original_max_positions * f / two_pi; /* of this frequency over the original context */
    if (turns < r->low_freq_factor) return f / r->factor;
    if (turns > r->high_freq_factor) return f;
    const double s = (turns - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return (1.0 - s) * f / r->factor + s * f;
}

static const struct rope_row {
    const char *name;
    double (*rule)(double f, const lt_rope_config *r);
    bool has_factor, has_bands;
} rows[LT_N_ROPE_KINDS] = {
    [LT_ROPE_DEFAULT] = { "default", keep, false, false },
    [LT_ROPE_LINEAR] = { "linear", divide, true, false },
    [LT_ROPE_LLAMA3] = { "llama3", llama3, true, true },
};

const char *lt_rope_kind_name(lt_rope_kind k) {
    return rows[k].name;
}

bool lt_rope_kind_find(const char *name, lt_rope_kind *out) {
    for (int k = 0; k < LT_N_ROPE_KINDS; k++) {
        if (strcmp(rows[k].name, name) != 0) continue;
        *out = (lt_rope_kind)k;
        return true;
    }
    return false;
}

void lt_rope_frequencies(double *inv_freq, const lt_rope_config *r) {
    for (size_t i = 0; i < r->dim / 2; i++)
        inv_freq[i] = rows[r->kind].rule(pow(r->theta, -2.0 * (double)i / (double)r->dim), r);
}

/* A member that the kind cannot do without: finite and positive. */
static lt_status need_positive(double *out, const json_t *o, const char *key, const char *where, lt_err *err) {
    json_t *j;
    LT_TRY(lt_json_need(&j, o, key, where, err));
    LT_TRY(lt_json_double(out, o, key, 0.0, where, err));
    if (isfinite(*out) && *out > 0.0) return LT_OK;
    return lt_fail(err, LT_EDATA, "rope %s is not a positive number (%s: %g)", key, where, *out);
}

/* One object of parameters, in either spelling. */
static lt_status read_object(lt_rope_config *r, const json_t *o, const char *field, const char *where, lt_err *err) {
    const char *type, *old;
    LT_TRY(lt_json_string(&old, o, "type", "default", where, err));
    LT_TRY(lt_json_string(&type, o, "rope_type", old, where, err));
    if (!lt_rope_kind_find(type, &r->kind))
        return lt_fail(err, LT_EUNSUPPORTED, "%s.rope_type is none of default, linear, llama3 (%s: %s)", field, where,
                       type);
    if (rows[r->kind].has_factor) LT_TRY(need_positive(&r->factor, o, "factor", where, err));
    if (!rows[r->kind].has_bands) return LT_OK;
    LT_TRY(need_positive(&r->low_freq_factor, o, "low_freq_factor", where, err));
    LT_TRY(need_positive(&r->high_freq_factor, o, "high_freq_factor", where, err));
    LT_TRY(need_positive(&r->original_max_positions, o, "original_max_position_embeddings", where, err));
    if (r->high_freq_factor > r->low_freq_factor) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s.high_freq_factor is not above low_freq_factor (%s: %g, %g)", field, where,
                   r->high_freq_factor, r->low_freq_factor);
}

static lt_status object_member(const json_t **out, const json_t *config, const char *key, const char *where,
                               lt_err *err) {
    const json_t *j = json_object_get(config, key);
    *out = NULL;
    if (!j || json_is_null(j)) return LT_OK;
    if (!json_is_object(j)) return lt_fail(err, LT_EDATA, "%s is not an object (%s)", key, where);
    *out = j;
    return LT_OK;
}

/* The base stands beside rope_scaling, or inside rope_parameters; twice with two values is a contradiction. */
static lt_status read_theta(double *theta, const json_t *config, const json_t *params, const char *where, lt_err *err) {
    double inner = 0.0;
    LT_TRY(lt_json_double(theta, config, "rope_theta", 0.0, where, err));
    if (params) LT_TRY(lt_json_double(&inner, params, "rope_theta", 0.0, where, err));
    if (inner != 0.0 && *theta != 0.0 && inner != *theta)
        return lt_fail(err, LT_EDATA, "rope_theta and rope_parameters.rope_theta differ (%s: %g, %g)", where, *theta,
                       inner);
    if (inner != 0.0) *theta = inner;
    if (*theta == 0.0) *theta = 10000.0;
    if (isfinite(*theta) && *theta > 0.0) return LT_OK;
    return lt_fail(err, LT_EDATA, "rope_theta is not a positive number (%s: %g)", where, *theta);
}

static bool same_rule(const lt_rope_config *a, const lt_rope_config *b) {
    return a->kind == b->kind && a->factor == b->factor && a->low_freq_factor == b->low_freq_factor &&
           a->high_freq_factor == b->high_freq_factor && a->original_max_positions == b->original_max_positions;
}

lt_status lt_rope_read(lt_rope_config *r, const json_t *config, const char *where, lt_err *err) {
    const json_t *scaling, *params;
    lt_rope_config a = { 0 }, b = { 0 };
    LT_TRY(object_member(&scaling, config, "rope_scaling", where, err));
    LT_TRY(object_member(&params, config, "rope_parameters", where, err));
    if (scaling) LT_TRY(read_object(&a, scaling, "rope_scaling", where, err));
    if (params) LT_TRY(read_object(&b, params, "rope_parameters", where, err));
    if (scaling && params && !same_rule(&a, &b))
        return lt_fail(err, LT_EDATA, "rope_scaling and rope_parameters differ (%s: %s, %s)", where, rows[a.kind].name,
                       rows[b.kind].name);
    const lt_rope_config got = params ? b : a;
    double theta;
    LT_TRY(read_theta(&theta, config, params, where, err));
    const size_t dim = r->dim;
    const bool interleaved = r->interleaved;
    *r = got;
    r->theta = theta;
    r->dim = dim;
    r->interleaved = interleaved;
    return LT_OK;
}

json_t *lt_rope_write(const lt_rope_config *r) {
    if (r->kind == LT_ROPE_DEFAULT) return json_null();
    json_t *o = json_pack("{s:s, s:f}", "rope_type", rows[r->kind].name, "factor", r->factor);
    if (!o || !rows[r->kind].has_bands) return o;
    int bad = json_object_set_new(o, "low_freq_factor", json_real(r->low_freq_factor));
    bad |= json_object_set_new(o, "high_freq_factor", json_real(r->high_freq_factor));
    bad |=
        json_object_set_new(o, "original_max_position_embeddings", json_integer((json_int_t)r->original_max_positions));
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

/* The blend s of a divisor f = 1 / ((1 - s)/F + s), inverted. */
static double blend_of(double f, double factor) {
    return (1.0 / f - 1.0 / factor) / (1.0 - 1.0 / factor);
}

static bool gives(const lt_rope_config *r, const float *factor, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const double f = pow(r->theta, -2.0 * (double)i / (double)r->dim);
        if (fabs(f / llama3(f, r) - (double)factor[i]) > 1e-4 * fabs((double)factor[i])) return false;
    }
    return true;
}

/* s is linear in the turns over the original context; only the ratios of (low, high, original) matter, so low = 1. With
 * one blended frequency or none the published high = 4 is assumed, which `gives` then checks. */
bool lt_rope_fit_llama3(lt_rope_config *r, const float *factor, size_t n) {
    double top = 1.0;
    for (size_t i = 0; i < n; i++) top = (double)factor[i] > top ? (double)factor[i] : top;
    lt_rope_config c = *r;
    c.kind = LT_ROPE_LLAMA3;
    c.factor = top;
    c.low_freq_factor = 1.0;
    c.high_freq_factor = 4.0;
    c.original_max_positions = 8192.0;
    size_t seen = 0;
    double f0 = 0.0, s0 = 0.0, f1 = 0.0, s1 = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double s = blend_of((double)factor[i], top);
        if (!(s > 1e-3 && s < 1.0 - 1e-3)) continue;
        f1 = pow(r->theta, -2.0 * (double)i / (double)r->dim);
        s1 = s;
        if (seen++ == 0) f0 = f1, s0 = s1;
    }
    if (seen >= 2) {
        const double slope = (s1 - s0) / (f1 - f0), at0 = s0 - slope * f0; /* at0 = -low / (high - low) */
        if (!(slope > 0.0 && at0 < 0.0)) return false;
        c.high_freq_factor = round((1.0 - 1.0 / at0) * 1000.0) / 1000.0;
        c.original_max_positions = round(slope * two_pi * (c.high_freq_factor - 1.0));
    } else if (seen == 1) {
        c.original_max_positions = round((1.0 + s0 * 3.0) * two_pi / f0);
    }
    if (top == 1.0)
        c = (lt_rope_config){
            .kind = LT_ROPE_DEFAULT, .theta = r->theta, .dim = r->dim, .interleaved = r->interleaved
        };
    for (size_t i = 0; top == 1.0 && i < n; i++)
        if (factor[i] != 1.0f) return false;
    if (top > 1.0 && !gives(&c, factor, n)) return false;
    *r = c;
    return true;
}
