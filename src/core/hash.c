/* SPDX-License-Identifier: Apache-2.0 */
/* The plain SHA256_* calls, not EVP: they neither allocate nor fail, so update and finish need no status. */
#define OPENSSL_API_COMPAT 0x10100000L
#include "core/hash.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

struct lt_hash {
    SHA256_CTX sha;
};

lt_hash *lt_hash_create(void) {
    lt_hash *h = lt_malloc(sizeof *h);
    if (h) SHA256_Init(&h->sha);
    return h;
}

void lt_hash_update(lt_hash *h, const void *data, size_t bytes) {
    SHA256_Update(&h->sha, data, bytes);
}

static void finish(SHA256_CTX *sha, char hex[LT_HASH_HEX]) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_Final(digest, sha);
    for (size_t i = 0; i < sizeof digest; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[LT_HASH_HEX - 1] = 0;
}

void lt_hash_finish(lt_hash *h, char hex[LT_HASH_HEX]) {
    finish(&h->sha, hex);
    lt_free(h);
}

void lt_hash_bytes(const void *data, size_t bytes, char hex[LT_HASH_HEX]) {
    SHA256_CTX sha;
    SHA256_Init(&sha);
    SHA256_Update(&sha, data, bytes);
    finish(&sha, hex);
}

lt_status lt_hash_file(const char *path, char hex[LT_HASH_HEX], lt_err *err) {
    enum { PIECE = 1 << 18 };
    lt_status st = LT_OK;
    SHA256_CTX sha;
    SHA256_Init(&sha);
    char *piece = lt_malloc(PIECE);
    if (!piece) return lt_fail(err, LT_ENOMEM, "hash: %d bytes (%s)", PIECE, path);
    FILE *f = fopen(path, "rbe");
    if (!f) {
        st = lt_fail(err, LT_EIO, "cannot open (%s: %s)", path, strerror(errno));
        goto done;
    }
    for (size_t n; (n = fread(piece, 1, PIECE, f)) > 0;) SHA256_Update(&sha, piece, n);
    if (ferror(f)) st = lt_fail(err, LT_EIO, "cannot read (%s: %s)", path, strerror(errno));
    if (st == LT_OK) finish(&sha, hex);
done:
    if (f) fclose(f);
    lt_free(piece);
    return st;
}
