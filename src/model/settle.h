/* model/settle.h - weights that are about to be read many times, in large pages.
 *
 * A decoding step reads every weight once; through the 4 KiB pages of a mapped file that is limited by address
 * translation (20 GB/s instead of 27, docs/performance.md). Each file's bytes move to memory of its own, at the
 * addresses where they are, so nothing that points to them changes; pages of the map are given back as they are copied.
 * From then on the kernel cannot drop them: for verbs that hold the whole model anyway. */
#ifndef LT_MODEL_SETTLE_H
#define LT_MODEL_SETTLE_H

#include "model/model.h"

/* Does nothing where the system has no large pages or no room; results do not depend on it. */
void lt_model_settle(const lt_model *m);

#endif
