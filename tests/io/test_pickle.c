/* SPDX-License-Identifier: Apache-2.0 */
/* Pickles written by hand: each rule of the machine, and what breaks it. */
#include "io/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "support/support.h"

#define PROTO "\x80\x02"
#define TENSOR "ctorch._utils\n_rebuild_tensor_v2\n"
#define STORAGE "(U\7storagectorch\nFloatStorage\nU\0010U\3cpuK\x0atQ" /* key "0", 10 elements */
#define HOOKS                                                                                                          \
    "\x89"                                                                                                             \
    "ccollections\nOrderedDict\n)R"
/* {"a": tensor(offset, size, stride)} */
#define ONE(offset, size, stride) PROTO "}U\1a" TENSOR "(" STORAGE offset size stride HOOKS "tRs."

typedef struct bytes {
    const char *data;
    size_t n;
} bytes;
#define B(text) ((bytes){ (text), sizeof(text) - 1 })

static lt_status run(bytes b, lt_pickle_tensor *first, size_t *n, lt_err *err) {
    lt_arena *a = lt_arena_create(4096);
    lt_pickle_tensor *t;
    char *copy = malloc(b.n ? b.n : 1); /* exactly as long, so that the sanitizer sees a read past the end */
    assert_true(a && copy);
    memcpy(copy, b.data, b.n);
    const lt_status st = lt_pickle_tensors(&t, n, a, copy, b.n, "x.bin", err);
    if (st == LT_OK && *n && first) *first = t[0];
    free(copy);
    lt_arena_destroy(a);
    return st;
}

static void a_tensor_is_what_its_arguments_say(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_pickle_tensor t;
    size_t n;
    assert_ok(run(B(ONE("K\1", "K\3K\3\x86", "K\3K\1\x86")), &t, &n, &err), &err);
    assert_true(n == 1 && t.dtype == LT_F32 && t.rank == 2 && t.offset == 1 && t.storage_count == 10);
    assert_true(t.size[0] == 3 && t.size[1] == 3 && t.stride[0] == 3 && t.stride[1] == 1);
    assert_ok(run(B(ONE("K\x09", ")", ")")), &t, &n, &err), &err); /* a scalar */
    assert_int_equal(t.rank, 0);
    assert_ok(run(B(ONE("M\xe8\3", "K\0\x85", "K\1\x85")), &t, &n, &err),
              &err); /* of no elements the offset means nothing */
    assert_ok(run(B(PROTO "}."), NULL, &n, &err), &err);
    assert_int_equal(n, 0);
}

static void numbers_that_make_no_tensor_are_refused(void **state) {
    (void)state;
    static const struct {
        bytes b;
        const char *text;
    } rows[] = {
        { B(ONE("K\2", "K\3K\3\x86", "K\3K\1\x86")), "beyond its storage" },
        { B(ONE("J\xff\xff\xff\xff", "K\1\x85", "K\1\x85")), "arguments of _rebuild_tensor_v2" },
        { B(ONE("K\0", "J\xff\xff\xff\xff\x85", "K\1\x85")), "size or stride" },
        { B(ONE("K\0", "K\2K\2\x86", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\1\x86")), "beyond its storage" },
        { B(ONE("K\0", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\2\x86", "K\0K\0\x86")), "beyond its storage" },
        { B(ONE("K\0", "K\2\x85", "K\1K\1\x86")), "arguments of _rebuild_tensor_v2" },
        { B(ONE("U\1x", "K\2\x85", "K\1\x85")), "arguments of _rebuild_tensor_v2" },
        { B(PROTO "\x8a\x09"
                  "123456789."),
          "more than 8 bytes" },
        { B(PROTO "}U\0N"
                  "s."),
          "not text" },
        { B(PROTO "}U\3a\0bNs."), "not text" },
        { B(PROTO "(U\7storageNU\0010U\3cpuK\x0atQ."), "persistent id is not" },
        { B(PROTO "NQ."), "persistent id is not" },
    };
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        lt_err err = { 0 };
        size_t n;
        assert_fails(run(rows[i].b, NULL, &n, &err), &err, LT_EDATA, rows[i].text);
    }
}

static void a_misused_stack_is_refused(void **state) {
    (void)state;
    static const struct {
        bytes b;
        const char *text;
    } rows[] = {
        { B(""), "breaks off" },
        { B(PROTO), "breaks off" },
        { B(PROTO "X\xff\xff\xff\xff"
                  "a"),
          "breaks off" },
        { B(PROTO "\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
                  "a"),
          "breaks off" },
        { B(PROTO "ctorch"), "breaks off" },
        { B(PROTO "s."), "nothing on the stack" },
        { B(PROTO "(s."), "nothing on the stack" },
        { B(PROTO "\x87."), "nothing on the stack" },
        { B(PROTO "K\1(\x86."), "nothing on the stack" },
        { B(PROTO "t."), "no mark" },
        { B(PROTO "(u."), "no dict" },
        { B(PROTO "](K\1u."), "no dict" },
        { B(PROTO "}(K\1u."), "key without a value" },
        { B(PROTO "}K\1a."), "no list" },
        { B(PROTO "}K\1b."), "attributes that are no dict" },
        { B(PROTO "N}b."), "no dict" },
        { B(PROTO "q\1."), "nothing on the stack to remember" },
        { B(PROTO "}r\xff\xff\xff\xff."), "beyond the pickle" },
        { B(PROTO "}h\1."), "nothing remembered" },
        { B(PROTO "}q\3h\1."), "nothing remembered" },
        { B(PROTO "})R."), "cannot be called" },
        { B(PROTO "ctorch\nFloatStorage\n)R."), "cannot be called" },
        { B(PROTO "ccollections\nOrderedDict\nK\1\x85R."), "with arguments" },
        { B(PROTO "NN\x93."), "not text" },
        { B(PROTO "?."), "no opcode" },
    };
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        lt_err err = { 0 };
        size_t n;
        assert_fails(run(rows[i].b, NULL, &n, &err), &err, LT_EDATA, rows[i].text);
    }
}

static void what_would_execute_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        bytes b;
        const char *text;
    } rows[] = {
        { B(PROTO "cos\nsystem\nU\2ls\x85R."), "os.system" },
        { B("\x80\4\x8c\x08"
            "builtins\x8c\4exec\x93."),
          "builtins.exec" },
        { B(PROTO "ctorch.storage\n_load_from_bytes\n."), "torch.storage._load_from_bytes" },
        { B(PROTO "ctorch._utils\n_rebuild_tensor_v2x\n."), "_rebuild_tensor_v2x" },
        { B(PROTO "(ios\nsystem\n."), "opcode INST" },
        { B(PROTO "}2."), "opcode DUP" },
        { B(PROTO "\x82\1."), "opcode EXT1" },
        { B("\x80\1N."), "protocol" },
        { B("\x80\6N."), "protocol" },
        { B(PROTO "]."), "not a dict of tensors" },
        { B(PROTO "}}."), "not a dict of tensors" },
        { B(PROTO "}U\1aK\1s."), "value is not a tensor" },
    };
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        lt_err err = { 0 };
        size_t n;
        assert_fails(run(rows[i].b, NULL, &n, &err), &err, LT_EUNSUPPORTED, rows[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tensor_is_what_its_arguments_say),
        cmocka_unit_test(numbers_that_make_no_tensor_are_refused),
        cmocka_unit_test(a_misused_stack_is_refused),
        cmocka_unit_test(what_would_execute_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
