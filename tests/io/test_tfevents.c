/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <math.h>
#include <string.h>

#include "io/tfevents.h"

/* What TensorBoard's own writer (tensorboard 2.21, RecordWriter) makes of the same three events. */
static const unsigned char golden[] = {
    0x18, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa3, 0x7f, 0x4b, 0x22, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x44,
    0x8f, 0x40, 0x1a, 0x0d, 0x62, 0x72, 0x61, 0x69, 0x6e, 0x2e, 0x45, 0x76, 0x65, 0x6e, 0x74, 0x3a, 0x32, 0xab, 0xa3,
    0x33, 0x45, 0x1e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xd9, 0xdc, 0x12, 0x32, 0x09, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x4a, 0x8f, 0x40, 0x2a, 0x13, 0x0a, 0x11, 0x0a, 0x0a, 0x74, 0x72, 0x61, 0x69, 0x6e, 0x2f, 0x6c, 0x6f, 0x73,
    0x73, 0x15, 0x00, 0x00, 0x20, 0x40, 0x5e, 0x32, 0x65, 0x90, 0x1e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xd9,
    0xdc, 0x12, 0x32, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x52, 0x8f, 0x40, 0x10, 0x01, 0x2a, 0x11, 0x0a, 0x0f, 0x0a,
    0x08, 0x74, 0x72, 0x61, 0x69, 0x6e, 0x2f, 0x6c, 0x72, 0x15, 0x00, 0x00, 0x18, 0x40, 0x6b, 0x4e, 0x31, 0x1f,
};

static void write_events(const char *path, int64_t from, int64_t to) {
    lt_tfevents *f;
    lt_err err = { 0 };
    assert_ok(lt_tfevents_open(&f, path, from, 1000.5, &err), &err);
    for (int64_t step = from; step < to; step++)
        assert_ok(lt_tfevents_append(f, step % 2 ? "train/lr" : "train/loss", step, 1001.25 + (double)step,
                                     2.5 - (double)step * 0.125, &err),
                  &err);
    lt_tfevents_close(f);
}

static void bytes_are_those_of_tensorboards_writer(void **state) {
    (void)state;
    size_t n;
    write_events(test_path("a.tfevents.1"), 0, 2);
    char *got = test_read_file(test_path("a.tfevents.1"), &n);
    assert_int_equal(n, sizeof golden);
    assert_memory_equal(got, golden, n);
    lt_free(got);
}

/* Cut anywhere, then gone on from a step: the bytes of a run that was never cut. */
static void a_resumed_file_is_the_undisturbed_one(void **state) {
    (void)state;
    size_t n, m;
    write_events(test_path("whole.tfevents.1"), 0, 9);
    char *whole = test_read_file(test_path("whole.tfevents.1"), &n);
    const size_t first = lt_tfevents_whole(whole, n, 0);
    for (size_t cut = 0; cut <= n; cut++) {
        const char *path = test_path("cut.tfevents.1");
        if (cut > 0 && cut < first) { /* not even the first record: not ours to overwrite */
            assert_int_equal(lt_tfevents_whole(whole, cut, INT64_MAX), 0);
            continue;
        }
        const size_t left = lt_tfevents_whole(whole, cut, INT64_MAX);
        int64_t from = 0;
        while (from < 9 && lt_tfevents_whole(whole, n, from) < left) from++;
        if (from > 4) from = 4; /* the checkpoint is older than the file */
        test_write_file(path, whole, cut);
        write_events(path, from, 9);
        char *got = test_read_file(path, &m);
        assert_int_equal(m, n);
        assert_memory_equal(got, whole, n);
        lt_free(got);
    }
    lt_free(whole);
}

static void other_files_are_left_alone(void **state) {
    (void)state;
    lt_tfevents *f;
    lt_err err = { 0 };
    test_write_file(test_path("notes.txt"), "not events", 10);
    assert_fails(lt_tfevents_open(&f, test_path("notes.txt"), 0, 0, &err), &err, LT_EDATA, "not an event file");
    size_t n;
    char *text = test_read_file(test_path("notes.txt"), &n);
    assert_int_equal(n, 10);
    lt_free(text);
    assert_fails(lt_tfevents_open(&f, test_path("no/folder"), 0, 0, &err), &err, LT_EIO, "no/folder");
    assert_ok(lt_tfevents_open(&f, test_path("b.tfevents.1"), 0, 0, &err), &err);
    char tag[256];
    memset(tag, 'x', sizeof tag);
    tag[255] = 0;
    assert_fails(lt_tfevents_append(f, tag, 0, 0, 0, &err), &err, LT_EUSAGE, "tag of 255");
    lt_tfevents_close(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_those_of_tensorboards_writer),
        cmocka_unit_test(a_resumed_file_is_the_undisturbed_one),
        cmocka_unit_test(other_files_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
