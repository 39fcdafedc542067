/* SPDX-License-Identifier: Apache-2.0 */
#include "model/round.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Rounds to odd, so that the later rounding to 16 bits is the only one that counts (Boldo & Melquiond 2008). */
static float to_odd(double v) {
    union {
        float f;
        uint32_t u;
    } b = { .f = (float)v };
    if ((double)b.f == v || isnan(v)) return b.f;
    if (fabs((double)b.f) > fabs(v)) b.u--; /* towards zero */
    b.u |= 1u;
    return b.f;
}

/* The same for what is a normal number in f32, without a branch: bits that have no room there are one sticky bit. */
static inline float normal_to_odd(double v) {
    union {
        double f;
        uint64_t u;
    } b = { .f = v };
    const uint64_t rest = ((uint64_t)1 << (52 - 23)) - 1, sticky = ((b.u & rest) + rest) & ~rest;
    b.u = (b.u & ~rest) | sticky;
    return (float)b.f;
}

static bool has_subnormal(const float *x, size_t n) {
    unsigned any = 0;
    for (size_t i = 0; i < n; i++) any |= fabsf(x[i]) < FLT_MIN && x[i] != 0.0f;
    return any;
}

static void row_to_odd(float *to, const double *src, size_t step, size_t cols) {
    if (step == 1) /* a loop of its own: the compiler takes many at once */
        for (size_t i = 0; i < cols; i++) to[i] = normal_to_odd(src[i]);
    else
        for (size_t i = 0; i < cols; i++) to[i] = normal_to_odd(src[i * step]);
    if (!has_subnormal(to, cols)) return;
    for (size_t i = 0; i < cols; i++) to[i] = to_odd(src[i * step]);
}

lt_status lt_round_check(lt_dtype t, size_t cols, const char *name, lt_err *err) {
    const lt_dtype_row *d = lt_dtype_get(t);
    if (!d->is_float || (t != LT_F64 && !d->from_f32))
        return lt_fail(err, LT_EUNSUPPORTED, "weights cannot be written as %s (%s)", d->name, name);
    if (cols % d->block != 0)
        return lt_fail(err, LT_EUNSUPPORTED, "rows are not a multiple of %zu, as %s needs (%s: %zu)", d->block, d->name,
                       name, cols);
    return LT_OK;
}

bool lt_round_row(void *dst, lt_dtype t, const double *src, size_t step, size_t cols, float *buf) {
    const lt_dtype_row *d = lt_dtype_get(t);
    if (t == LT_F64) {
        for (size_t i = 0; i < cols; i++) {
            if (!isfinite(src[i * step])) return false;
            memcpy((double *)dst + i, &src[i * step], sizeof *src);
        }
        return true;
    }
    if (t == LT_F16 || t == LT_BF16)
        row_to_odd(buf, src, step, cols);
    else
        for (size_t i = 0; i < cols; i++) buf[i] = (float)src[i * step];
    if (!lt_all_finite(buf, cols)) return false;
    d->from_f32(dst, buf, cols);
    d->to_f32(buf + cols, dst, cols);
    return lt_all_finite(buf + cols, cols);
}
