/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and decoding speed on one thread: bench_tokenizer FOLDER TEXT_FILE [REPEATS]. One line of JSON. */
#include <stdio.h>
#include <stdlib.h>

#include "core/hash.h"
#include "io/file.h"
#include "tokenizer/tokenizer.h"

static int complain(const lt_err *err) {
    fprintf(stderr, "bench_tokenizer: %s\n", err->message);
    return (int)err->code;
}

int main(int argc, char **argv) {
    lt_tokenizer *t;
    lt_err err = { 0 };
    char *text, *back = NULL, hash[LT_HASH_HEX];
    int32_t *ids = NULL;
    size_t bytes, n = 0, n_back = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: bench_tokenizer FOLDER TEXT_FILE [REPEATS]\n");
        return LT_EUSAGE;
    }
    const int repeats = argc > 3 ? atoi(argv[3]) : 5;
    const double start = lt_seconds();
    if (lt_tokenizer_open(&t, argv[1], &err) != LT_OK || lt_file_read(&text, &bytes, argv[2], 0, &err) != LT_OK)
        return complain(&err);
    const double opened = lt_seconds();
    double encode = 1e30, decode = 1e30; /* best of the repeats */
    for (int i = 0; i < repeats; i++) {
        const double a = lt_seconds();
        lt_free(ids);
        if (lt_tokenizer_encode(t, text, bytes, false, &ids, &n, &err) != LT_OK) return complain(&err);
        const double b = lt_seconds();
        lt_free(back);
        if (lt_tokenizer_decode(t, ids, n, false, &back, &n_back, &err) != LT_OK) return complain(&err);
        const double c = lt_seconds();
        if (b - a < encode) encode = b - a;
        if (c - b < decode) decode = c - b;
    }
    lt_hash_bytes(ids, n * sizeof *ids, hash);
    printf("{\"bytes\": %zu, \"ids\": %zu, \"ids_sha256\": \"%s\", \"open_seconds\": %.4f, \"encode_mb_s\": %.1f, "
           "\"decode_mb_s\": %.1f}\n",
           bytes, n, hash, opened - start, (double)bytes / encode * 1e-6, (double)bytes / decode * 1e-6);
    lt_free(ids);
    lt_free(back);
    lt_free(text);
    lt_tokenizer_destroy(t);
    return 0;
}
