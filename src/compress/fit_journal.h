/* SPDX-License-Identifier: Apache-2.0 */
/* compress/fit_journal.h - finished fits of an unfinished run, FOLDER/NAME.safetensors: the tensors of the overlay's
 * new linears and a number that goes with them, with a checksum; private to the room. Whose work the folder is is its
 * owner's business. */
#ifndef LT_COMPRESS_FIT_JOURNAL_H
#define LT_COMPRESS_FIT_JOURNAL_H

#include "model/overlay.h"

lt_status lt_fit_journal_put(const char *folder, const char *name, const lt_overlay *o, const lt_module *const *module,
                             size_t n, double value, lt_err *err);
/* Back into the overlay, bit for bit; *found false: there is no such file, or it is damaged. value NULL: not asked for.
 */
lt_status lt_fit_journal_get(bool *found, double *value, const char *folder, const char *name, lt_overlay *o,
                             const lt_module *const *module, size_t n, lt_err *err);

#endif
