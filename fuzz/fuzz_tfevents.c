/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "io/tfevents.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* What is kept is kept again; later steps never keep less. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    const size_t all = lt_tfevents_whole(data, bytes, INT64_MAX), some = lt_tfevents_whole(data, bytes, 2);
    if (some > all || all > bytes || lt_tfevents_whole(data, all, INT64_MAX) != all) abort();
    if (lt_tfevents_whole(data, some, 2) != some) abort();
    return 0;
}
