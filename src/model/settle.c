/* SPDX-License-Identifier: Apache-2.0 */
#include "model/settle.h"

#include "io/file.h"
#include "model/weights.h"

void lt_model_settle(const lt_model *m) {
    for (size_t i = 0; m->weights && i < m->weights->n_weights; i++) {
        lt_buffer *b = m->weights->weight[i].tensor.buffer;
        if (b && b->mapped) lt_map_settle(b); /* once: it is no map of a file any more */
    }
}
