/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/plan.h"

extern const lt_cut_kind lt_cut_keep, lt_cut_rank;
const lt_cut_kind *const lt_cut_kinds[] = { &lt_cut_keep, &lt_cut_rank, NULL };
