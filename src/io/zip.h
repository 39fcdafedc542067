/* SPDX-License-Identifier: Apache-2.0 */
/* io/zip.h - the directory of a ZIP file whose entries are stored, not packed: where each lies. Zip64 included.
 *
 * Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14-16 (ends). Every
 * offset and count is checked against the bytes of the file; names are unique text. LT_EUNSUPPORTED: packed or
 * encrypted entries, several disks; else LT_EDATA. */
#ifndef LT_IO_ZIP_H
#define LT_IO_ZIP_H

#include "core/core.h"

typedef struct lt_zip_entry {
    char *name;
    size_t offset, bytes; /* of the contents */
} lt_zip_entry;
typedef struct lt_zip {
    lt_zip_entry *entry; /* [n] sorted by name */
    size_t n;
} lt_zip;

/* where: the file's name, for messages. Keeps nothing of data. */
lt_status lt_zip_parse(lt_zip *out, const void *data, size_t bytes, const char *where, lt_err *err);
void lt_zip_clear(lt_zip *z);
const lt_zip_entry *lt_zip_find(const lt_zip *z, const char *name); /* NULL: absent */

#endif
