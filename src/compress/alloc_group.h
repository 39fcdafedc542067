/* SPDX-License-Identifier: Apache-2.0 */
/* compress/alloc_group.h - the modules of one role across the layers: what SVD-LLM V2 and Swift-SVD share between;
 * private to the room. */
#ifndef LT_COMPRESS_ALLOC_GROUP_H
#define LT_COMPRESS_ALLOC_GROUP_H

#include "compress/method.h"

typedef struct lt_alloc_group {
    size_t *index, n; /* modules of one role and shape that may be cut, in model order */
} lt_alloc_group;
/* Modules alike to module `first`; n 0 when an earlier one is, so that a loop over all modules sees every group once.
 * lt_free(index). */
lt_status lt_alloc_group_of(lt_alloc_group *out, const lt_alloc_in *in, size_t first, lt_err *err);
/* sqrt of what is left at the uniform rank, by un-normalised Grams: the loss ℓ of both papers. */
double lt_alloc_loss(const lt_alloc_in *in, size_t module);
/* Rounded down to the alignment, within [1, r_max]. */
size_t lt_alloc_clip(const lt_alloc_in *in, size_t module, double rank);
/* LT_ETARGET when the ranks cost more than the budget. */
lt_status lt_alloc_within(const lt_alloc_in *in, const size_t *rank, const char *who, lt_err *err);

#endif
