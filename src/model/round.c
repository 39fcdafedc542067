/* SPDX-License-Identifier: Apache-2.0 */
#include "model/round.h"

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
    for (size_t i = 0; i < cols; i++) {
        if (!isfinite(src[i * step])) return false;
        buf[i] = t == LT_F16 || t == LT_BF16 ? to_odd(src[i * step]) : (float)src[i * step];
        if (t == LT_F64) memcpy((double *)dst + i, &src[i * step], sizeof *src);
    }
    if (t == LT_F64) return true;
    d->from_f32(dst, buf, cols);
    d->to_f32(buf + cols, dst, cols);
    for (size_t i = 0; i < cols; i++)
        if (!isfinite(buf[cols + i])) return false;
    return true;
}
