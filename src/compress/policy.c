/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/yaml.h"

enum { MIN_RANK = 4, MAX_RANK = 8192, N_ROLES = LT_N_LINEAR_SLOTS + 1 };

#define ONES                                                                                                           \
    [LT_SLOT_Q] = 1.0, [LT_SLOT_K] = 1.0, [LT_SLOT_V] = 1.0, [LT_SLOT_QKV] = 1.0, [LT_SLOT_O] = 1.0,                   \
    [LT_SLOT_GATE] = 1.0, [LT_SLOT_UP] = 1.0, [LT_SLOT_GATE_UP] = 1.0, [LT_SLOT_DOWN] = 1.0, [LT_SLOT_HEAD] = 1.0

/* Fused qkv has no multiplier, as in the published table; the fused half of an MLP has that of its parts. */
const lt_policy lt_policies[] = {
    { "uniform", { ONES }, MIN_RANK, MAX_RANK },
    { "qkv_heavier",
      { [LT_SLOT_Q] = 1.25,
        [LT_SLOT_K] = 1.10,
        [LT_SLOT_V] = 1.25,
        [LT_SLOT_QKV] = 1.0,
        [LT_SLOT_O] = 1.0,
        [LT_SLOT_GATE] = 0.85,
        [LT_SLOT_UP] = 0.85,
        [LT_SLOT_GATE_UP] = 0.85,
        [LT_SLOT_DOWN] = 0.85,
        [LT_SLOT_HEAD] = 1.0 },
      MIN_RANK,
      MAX_RANK },
    { "mlp_heavier",
      { [LT_SLOT_Q] = 0.85,
        [LT_SLOT_K] = 0.85,
        [LT_SLOT_V] = 0.85,
        [LT_SLOT_QKV] = 1.0,
        [LT_SLOT_O] = 0.85,
        [LT_SLOT_GATE] = 1.25,
        [LT_SLOT_UP] = 1.25,
        [LT_SLOT_GATE_UP] = 1.25,
        [LT_SLOT_DOWN] = 1.10,
        [LT_SLOT_HEAD] = 1.0 },
      MIN_RANK,
      MAX_RANK },
    { "", { 0 }, 0, 0 },
};

const lt_policy *lt_policy_find(const char *name) {
    for (const lt_policy *p = lt_policies; p->name[0]; p++)
        if (strcmp(p->name, name) == 0) return p;
    return NULL;
}

size_t lt_policy_rank(const lt_policy *p, lt_slot role, size_t rank, double scale, size_t most) {
    const double r = nearbyint((double)rank * p->multiplier[role] * scale); /* ties to even */
    const size_t lo = lt_min_size(p->min_rank, most);
    return r <= (double)lo ? lo : r >= (double)most ? most : (size_t)r;
}

/* ---- from a file ---- */

static lt_slot role_at(size_t i) {
    return i < LT_N_LINEAR_SLOTS ? (lt_slot)i : LT_SLOT_HEAD;
}

static lt_status unknown(const char *what, const char *name, const char *where, lt_err *err) {
    char list[128] = "";
    size_t used = 0;
    for (size_t i = 0; i < N_ROLES && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", lt_slot_role(role_at(i)));
    return lt_fail(err, LT_EDATA, "unknown %s \"%.40s\" (there are: %s, default) (%s)", what, name, list, where);
}

static lt_status read_multiplier(double *out, const json_t *o, const char *role, const char *where, lt_err *err) {
    LT_TRY(lt_json_double(out, o, role, 1.0, where, err));
    if (*out > 0.0 && *out <= 1000.0) return LT_OK;
    return lt_fail(err, LT_EDATA, "a multiplier must be above 0 and at most 1000 (%s: %s: %g)", where, role, *out);
}

static lt_status read_multipliers(lt_policy *p, const json_t *o, const char *where, lt_err *err) {
    double dflt = 1.0;
    const char *role;
    json_t *value;
    if (!json_is_object(o)) return lt_fail(err, LT_EDATA, "multipliers must be roles with numbers (%s)", where);
    LT_TRY(read_multiplier(&dflt, o, "default", where, err));
    for (size_t i = 0; i < N_ROLES; i++) p->multiplier[role_at(i)] = dflt;
    json_object_foreach((json_t *)o, role, value) {
        size_t i = 0;
        while (i < N_ROLES && strcmp(lt_slot_role(role_at(i)), role) != 0) i++;
        if (i < N_ROLES)
            LT_TRY(read_multiplier(&p->multiplier[role_at(i)], o, role, where, err));
        else if (strcmp(role, "default") != 0)
            return unknown("role", role, where, err);
    }
    return LT_OK;
}

static lt_status read_policy(lt_policy *p, const json_t *j, const char *where, lt_err *err) {
    static const char *const known[] = { "name", "description", "multipliers", "min_rank", "max_rank" };
    const char *key, *name;
    json_t *value, *multipliers;
    if (!json_is_object(j)) return lt_fail(err, LT_EDATA, "not a policy: no mapping (%s)", where);
    json_object_foreach((json_t *)j, key, value) {
        bool found = false;
        for (size_t i = 0; i < LT_COUNTOF(known); i++) found |= strcmp(key, known[i]) == 0;
        if (!found) return lt_fail(err, LT_EDATA, "unknown member \"%.40s\" of a policy (%s)", key, where);
    }
    LT_TRY(lt_json_string(&name, j, "name", lt_path_name(where), where, err));
    snprintf(p->name, sizeof p->name, "%s", name);
    LT_TRY(lt_json_size(&p->min_rank, j, "min_rank", MIN_RANK, where, err));
    LT_TRY(lt_json_size(&p->max_rank, j, "max_rank", MAX_RANK, where, err));
    if (p->min_rank < 1 || p->max_rank < p->min_rank)
        return lt_fail(err, LT_EDATA, "ranks from %zu to %zu (%s)", p->min_rank, p->max_rank, where);
    LT_TRY(lt_json_need(&multipliers, j, "multipliers", where, err));
    return read_multipliers(p, multipliers, where, err);
}

lt_status lt_policy_parse(lt_policy *out, const char *text, size_t bytes, const char *name, lt_err *err) {
    lt_policy p = { 0 };
    json_t *j;
    LT_TRY(lt_yaml_parse(&j, text, bytes, name, err));
    const lt_status st = read_policy(&p, j, name, err);
    json_decref(j);
    if (st == LT_OK) *out = p;
    return st;
}

lt_status lt_policy_load(lt_policy *out, const char *path, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(lt_file_read(&text, &bytes, path, 1 << 20, err));
    const lt_status st = lt_policy_parse(out, text, bytes, path, err);
    lt_free(text);
    return st;
}
