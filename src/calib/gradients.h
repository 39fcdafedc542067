/* SPDX-License-Identifier: Apache-2.0 */
/* calib/gradients.h - the backward pass of a calibration: sums over ∂ℓ/∂y of every linear's outputs; private to the
 * room.
 *
 * ℓ is the summed negative log-likelihood of a window's next tokens, so a row of the gradient does not depend on how
 * many windows there are. The whole model is differentiated batch by batch, blocks recomputed; sums are f64. */
#ifndef LT_CALIB_GRADIENTS_H
#define LT_CALIB_GRADIENTS_H

#include "calib/calibrate.h"
#include "calib/observe.h"

/* Into the accumulators of the gradient sites, which must have begun. */
lt_status lt_calib_gradients(const lt_calib_sites *s, const lt_calibrate_in *in, const lt_batch *batches, size_t n,
                             lt_err *err);
/* Beside the accumulators, at most. */
size_t lt_calib_gradients_bytes(const lt_model *m, size_t batch_rows);

#endif
