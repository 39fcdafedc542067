/* SPDX-License-Identifier: Apache-2.0 */
/* tests/cli/helper.c - what a shell script cannot do.
 *
 *   pick IN OUT NEW=OLD ...          copies tensors of a safetensors file under other names
 *   close A NAME B NAME ATOL         |a - b| <= ATOL everywhere, shapes equal, any float types
 *   close-grads A B RTOL             every grad.* of B stands in A; gap <= RTOL x the largest entry of all
 *   jsonl A KEY B KEY                line by line the values of two keys are equal
 *   get FILE PATH                    a value of a JSON file: "value.tokens", "ids" (compact); "a/b.c" where keys hold
 * dots strip FILE                       a result without what may differ between runs poke FILE TENSOR INDEX VALUE
 * changes one number of an f32 tensor in place Exit code 0: it holds. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "io/file.h"
#include "io/safetensors.h"

static int complain(const lt_err *err) {
    fprintf(stderr, "helper: %s\n", err->message);
    return 1;
}

static int pick(int argc, char **argv) {
    lt_err err = { 0 };
    lt_safetensors *in;
    lt_st_writer *w;
    if (lt_safetensors_open(&in, argv[0], &err) != LT_OK || lt_st_writer_create(&w, argv[1], &err) != LT_OK)
        return complain(&err);
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 2; i < argc; i++) {
            char name[128];
            const char *equals = strchr(argv[i], '=');
            snprintf(name, sizeof name, "%.*s", (int)(equals - argv[i]), argv[i]);
            const lt_tensor *t = lt_safetensors_find(in, equals + 1);
            if (!t) return fprintf(stderr, "helper: no tensor %s\n", equals + 1), 1;
            const lt_status st = pass == 0 ? lt_st_writer_declare(w, name, t->dtype, t->rank, t->size, &err)
                                           : lt_st_writer_bytes(w, lt_host(t), lt_tensor_bytes(t), &err);
            if (st != LT_OK) return complain(&err);
        }
        if (pass == 0 && lt_st_writer_begin(w, &err) != LT_OK) return complain(&err);
    }
    if (lt_st_writer_commit(w, &err) != LT_OK) return complain(&err);
    lt_safetensors_close(in);
    return 0;
}

static double value_at(const lt_tensor *t, size_t i) {
    const lt_dtype_row *row = lt_dtype_get(t->dtype);
    const char *p = (const char *)lt_host(t) + i * row->bytes;
    double d;
    float f;
    if (t->dtype == LT_F64) return memcpy(&d, p, sizeof d), d;
    row->to_f32(&f, p, 1);
    return f;
}

static bool same_shape(const lt_tensor *a, const lt_tensor *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->size[i] != b->size[i]) return false;
    return true;
}

/* largest gap; NaN anywhere is infinite */
static double gap(const lt_tensor *a, const lt_tensor *b) {
    double worst = 0;
    for (size_t i = 0; i < lt_tensor_count(a); i++) {
        const double d = fabs(value_at(a, i) - value_at(b, i));
        worst = fmax(worst, isnan(d) ? INFINITY : d);
    }
    return worst;
}

static int close_to(char **argv) {
    lt_err err = { 0 };
    lt_safetensors *fa, *fb;
    const lt_tensor *a, *b;
    char ta[96], tb[96];
    if (lt_safetensors_open(&fa, argv[0], &err) != LT_OK || lt_safetensors_open(&fb, argv[2], &err) != LT_OK ||
        lt_safetensors_get(&a, fa, argv[1], LT_N_DTYPES, -1, &err) != LT_OK ||
        lt_safetensors_get(&b, fb, argv[3], LT_N_DTYPES, -1, &err) != LT_OK)
        return complain(&err);
    if (!same_shape(a, b))
        return fprintf(stderr, "helper: %s is %s, %s is %s\n", argv[1], lt_tensor_describe(a, ta, sizeof ta), argv[3],
                       lt_tensor_describe(b, tb, sizeof tb)),
               1;
    const double worst = gap(a, b);
    printf("%s: gap %.3g (%s)\n", argv[1], worst, argv[4]);
    lt_safetensors_close(fa);
    lt_safetensors_close(fb);
    return worst <= atof(argv[4]) ? 0 : 1;
}

static int close_grads(char **argv) {
    lt_err err = { 0 };
    lt_safetensors *fa, *fb;
    if (lt_safetensors_open(&fa, argv[0], &err) != LT_OK || lt_safetensors_open(&fb, argv[1], &err) != LT_OK)
        return complain(&err);
    double largest = 0, worst = 0;
    size_t n = 0;
    for (size_t i = 0; i < lt_safetensors_count(fb); i++) {
        const lt_st_entry *e = lt_safetensors_at(fb, i);
        if (strncmp(e->name, "grad.", 5) != 0) continue;
        const lt_tensor *a = lt_safetensors_find(fa, e->name);
        if (!a || !same_shape(a, &e->tensor))
            return fprintf(stderr, "helper: %s is missing or misshapen\n", e->name), 1;
        for (size_t k = 0; k < lt_tensor_count(a); k++) largest = fmax(largest, fabs(value_at(&e->tensor, k)));
        worst = fmax(worst, gap(a, &e->tensor));
        n++;
    }
    printf("%zu gradients: gap %.3g of %.3g (%s)\n", n, worst, largest, argv[2]);
    lt_safetensors_close(fa);
    lt_safetensors_close(fb);
    return n > 0 && worst <= atof(argv[2]) * largest ? 0 : 1;
}

static json_t *next_line(FILE *f, char **line, size_t *cap) {
    const ssize_t n = getline(line, cap, f);
    return n > 0 ? json_loadb(*line, (size_t)n, JSON_ALLOW_NUL, NULL) : NULL;
}

static int jsonl(char **argv) {
    FILE *fa = fopen(argv[0], "r"), *fb = fopen(argv[2], "r");
    char *line = NULL;
    size_t cap = 0, n = 0, wrong = 0;
    if (!fa || !fb) return fprintf(stderr, "helper: %s or %s cannot be read\n", argv[0], argv[2]), 1;
    for (;;) {
        json_t *a = next_line(fa, &line, &cap), *b = next_line(fb, &line, &cap);
        if (!a && !b) break;
        n++;
        const bool equal = a && b && json_equal(json_object_get(a, argv[1]), json_object_get(b, argv[3]));
        if (!equal && wrong++ < 3) fprintf(stderr, "helper: line %zu: %s and %s differ\n", n, argv[1], argv[3]);
        json_decref(a);
        json_decref(b);
    }
    printf("%zu lines, %zu differ\n", n, wrong);
    free(line);
    fclose(fa);
    fclose(fb);
    return n > 0 && wrong == 0 ? 0 : 1;
}

static int get(char **argv) {
    json_t *all = json_load_file(argv[0], 0, NULL), *v = all;
    const char *separator = strchr(argv[1], '/') ? "/" : ".";
    for (char *key = strtok(argv[1], separator); v && key; key = strtok(NULL, separator))
        v = json_is_array(v) ? json_array_get(v, (size_t)atoi(key)) : json_object_get(v, key);
    if (!v) return fprintf(stderr, "helper: no %s in %s\n", argv[1], argv[0]), 1;
    if (json_is_string(v))
        printf("%s\n", json_string_value(v));
    else {
        json_dumpf(v, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
        putchar('\n');
    }
    json_decref(all);
    return 0;
}

/* tensor of ids as "1,2,3" */
static int print_ids(char **argv) {
    lt_err err = { 0 };
    lt_safetensors *f;
    const lt_tensor *t;
    if (lt_safetensors_open(&f, argv[0], &err) != LT_OK ||
        lt_safetensors_get(&t, f, argv[1], LT_I64, -1, &err) != LT_OK)
        return complain(&err);
    const size_t n = lt_tensor_cols(t); /* of a matrix: its first row */
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        memcpy(&id, (const char *)lt_host(t) + i * sizeof id, sizeof id);
        printf(i ? ",%lld" : "%lld", (long long)id);
    }
    putchar('\n');
    lt_safetensors_close(f);
    return 0;
}

static int strip(char **argv) {
    json_t *all = json_load_file(argv[0], 0, NULL);
    if (!json_is_object(all)) return fprintf(stderr, "helper: %s is no JSON object\n", argv[0]), 1;
    json_object_del(all, "run");
    json_dumpf(all, stdout, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(all);
    return 0;
}

static int poke(char **argv) {
    lt_err err = { 0 };
    lt_safetensors *f;
    const lt_tensor *t;
    if (lt_safetensors_open(&f, argv[0], &err) != LT_OK ||
        lt_safetensors_get(&t, f, argv[1], LT_F32, -1, &err) != LT_OK)
        return complain(&err);
    const float value = strtof(argv[3], NULL);
    const size_t at = t->offset + (size_t)atol(argv[2]) * sizeof value;
    lt_safetensors_close(f);
    FILE *file = fopen(argv[0], "r+b");
    const bool ok = file && fseek(file, (long)at, SEEK_SET) == 0 && fwrite(&value, sizeof value, 1, file) == 1;
    return !(file && fclose(file) == 0 && ok);
}

/* An event file without its wall times: of every record the bytes behind "\x09" and eight of time, as hex. */
static int events(char **argv) {
    enum { HEAD = 12, FOOT = 4, TIME = 9 };
    lt_err err = { 0 };
    char *data;
    size_t n, at = 0;
    if (lt_file_read(&data, &n, argv[0], 0, &err) != LT_OK) return complain(&err);
    while (n - at >= HEAD + TIME + FOOT) {
        uint64_t length;
        memcpy(&length, data + at, sizeof length);
        if (length < TIME || length > n - at - HEAD - FOOT) break;
        for (size_t i = TIME; i < length; i++) printf("%02x", (unsigned)(unsigned char)data[at + HEAD + i]);
        putchar('\n');
        at += HEAD + FOOT + length;
    }
    lt_free(data);
    return at != n && fprintf(stderr, "helper: %s ends within a record\n", argv[0]);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "pick") == 0 && argc > 4) return pick(argc - 2, argv + 2);
    if (strcmp(what, "close") == 0 && argc == 7) return close_to(argv + 2);
    if (strcmp(what, "close-grads") == 0 && argc == 5) return close_grads(argv + 2);
    if (strcmp(what, "jsonl") == 0 && argc == 6) return jsonl(argv + 2);
    if (strcmp(what, "get") == 0 && argc == 4) return get(argv + 2);
    if (strcmp(what, "strip") == 0 && argc == 3) return strip(argv + 2);
    if (strcmp(what, "events") == 0 && argc == 3) return events(argv + 2);
    if (strcmp(what, "poke") == 0 && argc == 6) return poke(argv + 2);
    if (strcmp(what, "ids") == 0 && argc == 4) return print_ids(argv + 2);
    fprintf(stderr, "helper: wrong arguments\n");
    return 2;
}
