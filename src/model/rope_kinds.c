/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary frequencies: inv_freq[i] = theta^(-2i/dim), then the rule of the kind (transformers, modeling_rope_utils.py).
 */
#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double two_pi = 6.283185307179586476925286766559;

/* of frequency i */
static double plain(size_t i, const lt_rope_config *r) {
    return pow(r->theta, -2.0 * (double)i / (double)r->dim);
}

static double divide(size_t i, const lt_rope_config *r) {
    return plain(i, r) / r->factor;
}

/* Llama 3.1: long waves are slowed by factor, short ones kept, those between blended linearly in 1/wavelength. */
static double llama3(size_t i, const lt_rope_config *r) {
    const double f = plain(i, r), turns = r->original_max_positions * f / two_pi; /* over the original context */
    if (turns < r->low_freq_factor) return f / r->factor;
    if (turns > r->high_freq_factor) return f;
    const double s = (turns - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return (1.0 - s) * f / r->factor + s * f;
}

/* The frequency, as a real index, that turns so often over the original context. */
static double index_of_turns(double turns, const lt_rope_config *r) {
    return (double)r->dim * log(r->original_max_positions / (turns * two_pi)) / (2.0 * log(r->theta));
}

/* YaRN (Peng et al. 2023, eq. 17 to 20): a ramp over the index, from kept (beta_fast turns) to slowed (beta_slow). */
static double yarn(size_t i, const lt_rope_config *r) {
    double low = index_of_turns(r->beta_fast, r), high = index_of_turns(r->beta_slow, r);
    if (r->truncate) low = floor(low), high = ceil(high);
    low = fmax(low, 0.0);
    high = fmin(high, (double)r->dim - 1.0);
    if (low == high) high += 0.001;
    const double s = fmin(fmax(((double)i - low) / (high - low), 0.0), 1.0), f = plain(i, r);
    return s * f / r->factor + (1.0 - s) * f;
}

static const struct rope_row {
    const char *name;
    double (*rule)(size_t i, const lt_rope_config *r);
    bool has_factor, has_bands, has_betas;
} rows[LT_N_ROPE_KINDS] = {
    [LT_ROPE_DEFAULT] = { "default", plain, false, false, false },
    [LT_ROPE_LINEAR] = { "linear", divide, true, false, false },
    [LT_ROPE_LLAMA3] = { "llama3", llama3, true, true, false },
    [LT_ROPE_YARN] = { "yarn", yarn, true, false, true },
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
    for (size_t i = 0; i < r->dim / 2; i++) inv_freq[i] = rows[r->kind].rule(i, r);
}

/* A member that the kind cannot do without: finite and positive. */
static lt_status need_positive(double *out, const json_t *o, const char *key, const char *where, lt_err *err) {
    json_t *j;
    LT_TRY(lt_json_need(&j, o, key, where, err));
    LT_TRY(lt_json_double(out, o, key, 0.0, where, err));
    if (isfinite(*out) && *out > 0.0) return LT_OK;
    return lt_fail(err, LT_EDATA, "rope %s is not a positive number (%s: %g)", key, where, *out);
}

/* The same, with a default for a member that is missing, null or 0 (transformers' `or`). */
static lt_status positive_or(double *out, const json_t *o, const char *key, double dflt, const char *where,
                             lt_err *err) {
    LT_TRY(lt_json_double(out, o, key, dflt, where, err));
    if (*out == 0.0) *out = dflt;
    if (isfinite(*out) && *out > 0.0) return LT_OK;
    return lt_fail(err, LT_EDATA, "rope %s is not a positive number (%s: %g)", key, where, *out);
}

/* transformers' get_mscale */
static double mscale_of(double factor, double mscale) {
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

/* all: max_position_embeddings, which transformers takes for a missing original context */
static lt_status read_betas(lt_rope_config *r, const json_t *o, const json_t *all, const char *field, const char *where,
                            lt_err *err) {
    double m, m_all, most;
    LT_TRY(positive_or(&r->beta_fast, o, "beta_fast", 32.0, where, err));
    LT_TRY(positive_or(&r->beta_slow, o, "beta_slow", 1.0, where, err));
    LT_TRY(lt_json_bool(&r->truncate, o, "truncate", true, where, err));
    LT_TRY(lt_json_double(&m, o, "mscale", 0.0, where, err));
    LT_TRY(lt_json_double(&m_all, o, "mscale_all_dim", 0.0, where, err));
    const bool both = m != 0.0 && m_all != 0.0;
    LT_TRY(positive_or(&r->attention_factor, o, "attention_factor",
                       both ? mscale_of(r->factor, m) / mscale_of(r->factor, m_all) : mscale_of(r->factor, 1.0), where,
                       err));
    LT_TRY(lt_json_double(&most, all, "max_position_embeddings", 0.0, where, err));
    LT_TRY(positive_or(&r->original_max_positions, o, "original_max_position_embeddings", most, where, err));
    if (r->beta_fast >= r->beta_slow) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s.beta_fast is below beta_slow (%s: %g, %g)", field, where, r->beta_fast,
                   r->beta_slow);
}

static lt_status read_bands(lt_rope_config *r, const json_t *o, const char *field, const char *where, lt_err *err) {
    LT_TRY(need_positive(&r->low_freq_factor, o, "low_freq_factor", where, err));
    LT_TRY(need_positive(&r->high_freq_factor, o, "high_freq_factor", where, err));
    LT_TRY(need_positive(&r->original_max_positions, o, "original_max_position_embeddings", where, err));
    if (r->high_freq_factor > r->low_freq_factor) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s.high_freq_factor is not above low_freq_factor (%s: %g, %g)", field, where,
                   r->high_freq_factor, r->low_freq_factor);
}

static const char *list_kinds(char *buf, size_t cap) {
    size_t used = 0;
    for (int k = 0; k < LT_N_ROPE_KINDS && used < cap; k++)
        used += (size_t)snprintf(buf + used, cap - used, "%s%s", k ? ", " : "", rows[k].name);
    return buf;
}

/* One object of parameters, in either spelling. */
static lt_status read_object(lt_rope_config *r, const json_t *o, const json_t *all, const char *field,
                             const char *where, lt_err *err) {
    const char *type, *old;
    char buf[128];
    LT_TRY(lt_json_string(&old, o, "type", "default", where, err));
    LT_TRY(lt_json_string(&type, o, "rope_type", old, where, err));
    if (!lt_rope_kind_find(type, &r->kind))
        return lt_fail(err, LT_EUNSUPPORTED, "%s.rope_type is none of %s (%s: %s)", field, list_kinds(buf, sizeof buf),
                       where, type);
    if (rows[r->kind].has_factor) LT_TRY(need_positive(&r->factor, o, "factor", where, err));
    if (rows[r->kind].has_betas) LT_TRY(read_betas(r, o, all, field, where, err));
    return rows[r->kind].has_bands ? read_bands(r, o, field, where, err) : LT_OK;
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
static lt_status read_theta(double *theta, const json_t *config, const char *key, double dflt, const json_t *params,
                            const char *where, lt_err *err) {
    double inner = 0.0;
    LT_TRY(lt_json_double(theta, config, key, 0.0, where, err));
    if (params) LT_TRY(lt_json_double(&inner, params, "rope_theta", 0.0, where, err));
    if (inner != 0.0 && *theta != 0.0 && inner != *theta)
        return lt_fail(err, LT_EDATA, "%s and rope_parameters.rope_theta differ (%s: %g, %g)", key, where, *theta,
                       inner);
    if (inner != 0.0) *theta = inner;
    if (*theta == 0.0) *theta = dflt;
    if (isfinite(*theta) && *theta > 0.0) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s is not a positive number (%s: %g)", key, where, *theta);
}

static bool same_rule(const lt_rope_config *a, const lt_rope_config *b) {
    return a->kind == b->kind && a->factor == b->factor && a->low_freq_factor == b->low_freq_factor &&
           a->high_freq_factor == b->high_freq_factor && a->original_max_positions == b->original_max_positions &&
           a->beta_fast == b->beta_fast && a->beta_slow == b->beta_slow && a->truncate == b->truncate &&
           a->attention_factor == b->attention_factor;
}

lt_status lt_rope_read(lt_rope_config *r, const json_t *config, const char *theta_key, double theta_dflt,
                       const char *where, lt_err *err) {
    const json_t *scaling, *params;
    lt_rope_config a = { .attention_factor = 1.0 }, b = { .attention_factor = 1.0 };
    LT_TRY(object_member(&scaling, config, "rope_scaling", where, err));
    LT_TRY(object_member(&params, config, "rope_parameters", where, err));
    const json_t *full = params ? json_object_get(params, "full_attention") : NULL; /* one object per kind of layer */
    if (json_is_object(full)) params = full;
    if (scaling) LT_TRY(read_object(&a, scaling, config, "rope_scaling", where, err));
    if (params) LT_TRY(read_object(&b, params, config, "rope_parameters", where, err));
    if (scaling && params && !same_rule(&a, &b))
        return lt_fail(err, LT_EDATA, "rope_scaling and rope_parameters differ (%s: %s, %s)", where, rows[a.kind].name,
                       rows[b.kind].name);
    const lt_rope_config got = params ? b : a;
    double theta;
    LT_TRY(read_theta(&theta, config, theta_key, theta_dflt, params, where, err));
    const size_t dim = r->dim;
    const bool interleaved = r->interleaved;
    *r = got;
    r->theta = theta;
    r->dim = dim;
    r->interleaved = interleaved;
    if (!rows[r->kind].has_betas || theta > 1.0) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s is not above 1, as %s needs (%s: %g)", theta_key, rows[r->kind].name, where,
                   theta);
}

json_t *lt_rope_write(const lt_rope_config *r) {
    if (r->kind == LT_ROPE_DEFAULT) return json_null();
    const struct rope_row *row = &rows[r->kind];
    json_t *o = json_pack("{s:s, s:f}", "rope_type", row->name, "factor", r->factor);
    int bad = o == NULL;
    if (row->has_bands) {
        bad |= json_object_set_new(o, "low_freq_factor", json_real(r->low_freq_factor));
        bad |= json_object_set_new(o, "high_freq_factor", json_real(r->high_freq_factor));
    }
    if (row->has_betas) {
        bad |= json_object_set_new(o, "beta_fast", json_real(r->beta_fast));
        bad |= json_object_set_new(o, "beta_slow", json_real(r->beta_slow));
        bad |= json_object_set_new(o, "attention_factor", json_real(r->attention_factor));
        if (!r->truncate) bad |= json_object_set_new(o, "truncate", json_false());
    }
    if (row->has_bands || row->has_betas)
        bad |= json_object_set_new(o, "original_max_position_embeddings",
                                   json_integer((json_int_t)r->original_max_positions));
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
        if (fabs(plain(i, r) / llama3(i, r) - (double)factor[i]) > 1e-4 * fabs((double)factor[i])) return false;
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
        f1 = plain(i, r);
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
        c = (lt_rope_config){ .kind = LT_ROPE_DEFAULT,
                              .theta = r->theta,
                              .dim = r->dim,
                              .interleaved = r->interleaved,
                              .attention_factor = 1.0 };
    for (size_t i = 0; top == 1.0 && i < n; i++)
        if (factor[i] != 1.0f) return false;
    if (top > 1.0 && !gives(&c, factor, n)) return false;
    *r = c;
    return true;
}
