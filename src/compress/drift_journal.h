/* SPDX-License-Identifier: Apache-2.0 */
/* compress/drift_journal.h - finished layers of an unfinished drift run, FOLDER/layer-00012.safetensors: the tensors of
 * the overlay's new linears, with a checksum; private to the room. Whose work the folder is is its owner's business. */
#ifndef LT_COMPRESS_DRIFT_JOURNAL_H
#define LT_COMPRESS_DRIFT_JOURNAL_H

#include "model/overlay.h"

lt_status lt_drift_journal_put(const char *folder, const lt_overlay *o, size_t layer, const lt_module *const *module,
                               size_t n, lt_err *err);
/* Back into the overlay, bit for bit; *found false: there is no such file, or it is damaged. */
lt_status lt_drift_journal_get(bool *found, const char *folder, lt_overlay *o, size_t layer,
                               const lt_module *const *module, size_t n, lt_err *err);

#endif
