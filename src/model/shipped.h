/* model/shipped.h - files that lathe writes out as they are; their sources are in share/, their bytes in the library.
 */
#ifndef LT_MODEL_SHIPPED_H
#define LT_MODEL_SHIPPED_H

#include <stddef.h>

typedef struct lt_shipped_file {
    const char *name; /* NULL ends a table */
    const unsigned char *bytes;
    size_t size;
} lt_shipped_file;

/* share/modeling: the Python with which transformers loads factored folders (trust_remote_code); never run by lathe. */
extern const lt_shipped_file lt_lowrank_files[];

#endif
