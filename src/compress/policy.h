/* SPDX-License-Identifier: Apache-2.0 */
/* compress/policy.h - how much rank each role of a linear gets, relative to the others (spec utilized-rank §4.1).
 *
 *   r' = clip(round_half_even(r · multiplier · s), min_rank, break-even)
 * with s the largest factor that keeps the cost of the ranks r: the budget is preserved. s = 1 with max_rank instead of
 * break-even is what the utilized-rank code does (lt_policy_rank). */
#ifndef LT_COMPRESS_POLICY_H
#define LT_COMPRESS_POLICY_H

#include "model/model.h"

typedef struct lt_policy {
    char name[64];
    double multiplier[LT_N_SLOTS]; /* by role; 1 where none is said */
    size_t min_rank, max_rank;
} lt_policy;
/* "uniform", "qkv_heavier", "mlp_heavier"; NULL: no such row. */
const lt_policy *lt_policy_find(const char *name);
extern const lt_policy lt_policies[]; /* ended by an empty name */
/* YAML: name, description, multipliers: {role: number, default: number}, min_rank (4), max_rank (8192). Unknown members
 * and roles (there are q, k, v, qkv, o, gate, up, gate_up, down, head) are LT_EDATA naming them. */
lt_status lt_policy_load(lt_policy *out, const char *path, lt_err *err);
lt_status lt_policy_parse(lt_policy *out, const char *text, size_t bytes, const char *name, lt_err *err);
/* round_half_even(rank · multiplier · scale), within [min_rank, most] */
size_t lt_policy_rank(const lt_policy *p, lt_slot role, size_t rank, double scale, size_t most);

#endif
