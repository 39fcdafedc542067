/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz/replay.c - feeds every file of the folders given to a fuzz target: yesterday's findings as today's test. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* The block is exactly as long as the file, so that the sanitizer sees a read past its end. */
static int replay_file(const char *path) {
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode)) {
        if (f) fclose(f);
        return 0;
    }
    const size_t bytes = (size_t)st.st_size;
    uint8_t *data = malloc(bytes ? bytes : 1);
    const int whole = data && fread(data, 1, bytes, f) == bytes;
    fclose(f);
    if (whole)
        LLVMFuzzerTestOneInput(data, bytes);
    else
        fprintf(stderr, "cannot read %s\n", path);
    free(data);
    return whole;
}

static size_t replay_folder(const char *folder) {
    char path[4096];
    size_t n = 0;
    DIR *d = opendir(folder);
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));) {
        const int used = snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (used > 0 && (size_t)used < sizeof path) n += (size_t)replay_file(path);
    }
    closedir(d);
    return n;
}

int main(int argc, char **argv) {
    size_t n = 0;
    for (int i = 1; i < argc; i++) n += replay_folder(argv[i]);
    printf("%zu inputs replayed\n", n);
    return n == 0;
}
