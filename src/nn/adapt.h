/* nn/adapt.h - the adapters of a stage, or of a slice of its outputs: what they add, and their gradients.
 *
 *   y += t Bᵀ,  t = s (x ∘ mask / (1 - p)) Aᵀ
 *   dB += dyᵀ t,  dt = s dy B,  dA += dtᵀ (x ∘ mask / (1 - p)),  dx += (dt A) ∘ mask / (1 - p)
 * A recorded forward keeps t and the mask, a bit an entry, for backward. Rows of a mask come from a stream of their own
 * (seed, step, row), 16 bits an entry. */
#ifndef LT_NN_ADAPT_H
#define LT_NN_ADAPT_H

#include "nn/stage.h"

/* What forward leaves for backward, a multiple of 64 bytes. */
size_t lt_adapt_bytes(const lt_exec *x, const lt_stage *s, size_t n);
/* kept: lt_adapt_bytes(), or NULL: in scratch, and backward makes it again. y NULL: nothing is added, what is kept is
 * made. */
void lt_adapt_forward(lt_exec *x, const lt_stage *s, lt_span span, lt_real *y, const lt_real *in, size_t n, void *kept);
void lt_adapt_backward(lt_exec *x, const lt_stage *s, lt_span span, lt_real *dx, const lt_real *dy, const lt_real *in,
                       size_t n, void *kept);

#endif
