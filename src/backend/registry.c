/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/backend.h"

#include <string.h>

static const lt_backend *const backends[] = { &lt_backend_cpu };

const lt_backend *lt_backend_find(const char *name) {
    for (size_t i = 0; i < LT_COUNTOF(backends); i++)
        if (strcmp(backends[i]->name, name) == 0) return backends[i];
    return NULL;
}

const lt_backend_op *lt_backend_find_op(const lt_backend *b, const char *op) {
    for (size_t i = 0; i < b->n_ops; i++)
        if (strcmp(b->ops[i].name, op) == 0) return &b->ops[i];
    return NULL;
}
