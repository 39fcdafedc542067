/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/cut_words.h"

#include <string.h>

lt_status lt_cut_check_members(const json_t *cut, const char *const *known, size_t n, lt_err *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)cut, key, value) {
        bool found = false;
        for (size_t i = 0; i < n; i++) found |= strcmp(key, known[i]) == 0;
        if (!found) return lt_fail(err, LT_EDATA, "unknown member \"%s\"", key);
    }
    return LT_OK;
}

lt_status lt_cut_read_drift(lt_cut_drift *out, const json_t *cut, const char *member, const char *none, lt_err *err) {
    const char *target, *pass;
    LT_TRY(lt_json_string(&target, cut, member, none, "plan", err));
    LT_TRY(lt_json_string(&pass, cut, "pass", "site", "plan", err));
    LT_TRY(lt_json_double(&out->ridge, cut, "ridge", 0.0, "plan", err));
    out->residual = strcmp(target, "residual") == 0;
    out->on = out->residual || strcmp(target, "drift") == 0;
    out->block = strcmp(pass, "block") == 0;
    if (!out->on && strcmp(target, none) != 0)
        return lt_fail(err, LT_EDATA, "unknown %s \"%s\" (%s, drift, residual)", member, target, none);
    if (!out->block && strcmp(pass, "site") != 0)
        return lt_fail(err, LT_EDATA, "unknown pass \"%s\" (site, block)", pass);
    if (!(out->ridge >= 0.0 && out->ridge <= 1.0))
        return lt_fail(err, LT_EDATA, "ridge %g is not within 0 and 1", out->ridge);
    return LT_OK;
}
