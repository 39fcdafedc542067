/* model/round.h - f64 results rounded once to a storage dtype; private to the model room. */
#ifndef LT_MODEL_ROUND_H
#define LT_MODEL_ROUND_H

#include "core/tensor.h"

/* Is t a dtype that rows of cols values can be written as? LT_EUNSUPPORTED naming the tensor. */
lt_status lt_round_check(lt_dtype t, size_t cols, const char *name, lt_err *err);
/* cols values of src, step apart, to dst in dtype t; false when a value is, or becomes, not finite. buf: 2 * cols
 * floats of scratch. */
bool lt_round_row(void *dst, lt_dtype t, const double *src, size_t step, size_t cols, float *buf);

#endif
