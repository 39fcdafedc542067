/* core/hash.h - SHA-256 (FIPS 180-4, by libcrypto) as lower-case hex; the only digest lathe uses. */
#ifndef LT_CORE_HASH_H
#define LT_CORE_HASH_H

#include "core/core.h"

#define LT_HASH_HEX 65 /* 64 digits and the final NUL */
typedef struct lt_hash lt_hash;
lt_hash *lt_hash_create(void); /* NULL: out of memory */
void lt_hash_update(lt_hash *h, const void *data, size_t bytes);
void lt_hash_finish(lt_hash *h, char hex[LT_HASH_HEX]); /* also destroys h */
void lt_hash_bytes(const void *data, size_t bytes, char hex[LT_HASH_HEX]);
lt_status lt_hash_file(const char *path, char hex[LT_HASH_HEX], lt_err *err);

#endif
