/* SPDX-License-Identifier: Apache-2.0 */
/* model/spill.h - room for new weights: in memory up to a limit, beyond it in nameless files, from where they come back
 * when they are read (lt_tensor_drop gives their pages back). Zeroed: all in memory. */
#ifndef LT_MODEL_SPILL_H
#define LT_MODEL_SPILL_H

#include "core/tensor.h"

typedef struct lt_spill {
    char *folder; /* NULL: none */
    size_t limit, held;
} lt_spill;
lt_status lt_spill_begin(lt_spill *s, size_t limit, const char *folder, lt_err *err);
/* What of max_memory new weights may hold; SIZE_MAX: there is no limit. */
size_t lt_spill_limit(const lt_ctx *ctx);
void lt_spill_clear(lt_spill *s); /* room that was taken stays */
/* name: of what it is for, in errors. */
lt_status lt_spill_take(lt_buffer *out, lt_spill *s, size_t bytes, const char *name, lt_err *err);
void lt_spill_give(lt_buffer *b); /* of take, or zeroed */

#endif
