/* SPDX-License-Identifier: Apache-2.0 */
/* compress/channels.h - which channels of an MLP its output can do without, once the others are refitted.
 *
 *   y = W a, a [d_ff] with Gram C:  leaving out the set J and refitting W to what stays costs
 *   tr(W_J [(C⁻¹)_JJ]⁻¹ W_Jᵀ),  and the refitted W is  W - W_J [(C⁻¹)_JJ]⁻¹ (C⁻¹)_J:
 * (optimal brain surgeon, Hassibi & Stork 1993, for whole columns as in Kurtic et al., ZipLM, 2023). Channels go in up
 * to ROUNDS rounds, the cheapest by their own cost first; W and C⁻¹ follow after each. All f64; a small ridge makes C
 * definite. */
#ifndef LT_COMPRESS_CHANNELS_H
#define LT_COMPRESS_CHANNELS_H

#include "core/core.h"

/* index [keep], ascending: what stays. w [m, n], c packed lower [n(n+1)/2]. *rel_error: what the refit leaves of
 * tr(W C Wᵀ). LT_EDATA: a value is not finite. Serial. */
lt_status lt_channels_select(size_t *index, double *rel_error, size_t keep, size_t m, size_t n, const double *w,
                             const double *c, lt_err *err);
size_t lt_channels_scratch_bytes(size_t m, size_t n);

#endif
