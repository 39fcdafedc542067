/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file.h"

static void assert_holds(const char *path, const char *text) {
    size_t bytes;
    char *got = test_read_file(path, &bytes);
    assert_int_equal(bytes, strlen(text));
    assert_memory_equal(got, text, bytes);
    lt_free(got);
}

static void maps_show_whole_files(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_buffer b;
    test_write_file(test_path("m"), "hello", 5);
    assert_ok(lt_map_open(&b, test_path("m"), &err), &err);
    assert_true(b.bytes == 5 && b.mapped && memcmp(b.data, "hello", 5) == 0);
    lt_map_close(&b);
    test_write_file(test_path("empty"), "", 0);
    assert_ok(lt_map_open(&b, test_path("empty"), &err), &err);
    assert_true(b.bytes == 0 && b.data);
    lt_map_close(&b);
    assert_fails(lt_map_open(&b, test_path("missing"), &err), &err, LT_EIO, "missing: No such file");
    assert_fails(lt_map_open(&b, test_dir(), &err), &err, LT_EIO, "Is a directory");
    assert_fails(lt_map_open(&b, "/dev/null", &err), &err, LT_EIO, "not a regular file (/dev/null)");
}

/* Bytes and address stay, of any length; small files are left as they are. */
static void a_settled_map_is_the_same_to_its_readers(void **state) {
    (void)state;
    static const size_t sizes[] = { 5, 4 << 20, (9 << 20) + 4097, (21 << 20) - 1 };
    lt_err err = { 0 };
    for (size_t s = 0; s < LT_COUNTOF(sizes); s++) {
        unsigned char *bytes = malloc(sizes[s]);
        lt_buffer b;
        for (size_t i = 0; i < sizes[s]; i++) bytes[i] = (unsigned char)(i * 2654435761u >> 13);
        test_write_file(test_path("large"), bytes, sizes[s]);
        assert_ok(lt_map_open(&b, test_path("large"), &err), &err);
        const void *at = b.data;
        const bool settled = lt_map_settle(&b);
        assert_true(b.mapped != settled && b.data == at && b.bytes == sizes[s]);
        if (s == 0) assert_false(settled);
        assert_memory_equal(b.data, bytes, sizes[s]);
        assert_false(lt_map_settle(&b) && settled);
        lt_map_close(&b);
        free(bytes);
    }
}

static void read_gives_all_bytes_and_keeps_a_limit(void **state) {
    (void)state;
    lt_err err = { 0 };
    char *text, big[10000];
    size_t bytes;
    memset(big, 'x', sizeof big);
    test_write_file(test_path("big"), big, sizeof big);
    assert_ok(lt_file_read(&text, &bytes, test_path("big"), sizeof big, &err), &err);
    assert_true(bytes == sizeof big && text[bytes] == 0 && memcmp(text, big, bytes) == 0);
    lt_free(text);
    assert_fails(lt_file_read(&text, &bytes, test_path("big"), sizeof big - 1, &err), &err, LT_EDATA, "more than 9999");
    assert_fails(lt_file_read(&text, &bytes, "/dev/zero", 100000, &err), &err, LT_EDATA, "more than 100000");
    assert_ok(lt_file_read(&text, NULL, "/dev/null", 0, &err), &err);
    assert_string_equal(text, "");
    lt_free(text);
    for (size_t n = 0; n < 2; n++) {
        lt_alloc_fail_after(n);
        assert_fails(lt_file_read(&text, &bytes, n ? "/dev/zero" : test_path("big"), 0, &err), &err, LT_ENOMEM,
                     n ? "zero" : "big");
        lt_alloc_fail_after(SIZE_MAX);
    }
}

static void a_written_file_is_there_whole_or_not_at_all(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_writer *w;
    char *dir = lt_path_join(test_dir(), "atomic");
    assert_ok(lt_make_dirs(dir, &err), &err);
    const char *path = test_path("atomic/out");
    assert_ok(lt_writer_create(&w, path, &err), &err);
    assert_ok(lt_writer_write(w, "abc", 3, &err), &err);
    assert_false(lt_path_exists(path));
    assert_int_equal(lt_writer_offset(w), 3);
    lt_writer_abort(w);
    assert_int_equal(test_count_dir(dir), 0);
    assert_ok(lt_writer_create(&w, path, &err), &err);
    char *piece = lt_calloc(1, 600000); /* more than the buffer, between small pieces */
    assert_ok(lt_writer_write(w, "abc", 3, &err), &err);
    assert_ok(lt_writer_write(w, piece, 600000, &err), &err);
    assert_ok(lt_writer_write(w, "", 0, &err), &err);
    assert_ok(lt_writer_write(w, "def", 3, &err), &err);
    assert_int_equal(lt_writer_offset(w), 600006);
    assert_ok(lt_writer_commit(w, &err), &err);
    size_t bytes;
    char *got = test_read_file(path, &bytes);
    assert_int_equal(bytes, 600006);
    assert_true(memcmp(got, "abc", 3) == 0 && memcmp(got + 3, piece, 600000) == 0 &&
                memcmp(got + 600003, "def", 3) == 0);
    lt_free(got);
    lt_free(piece);
    assert_int_equal(test_count_dir(dir), 1);
    lt_writer_abort(NULL);
    lt_free(dir);
}

static void new_files_follow_the_umask(void **state) {
    (void)state;
    struct stat st;
    const mode_t old = umask(027);
    assert_int_equal(lt_file_write(test_path("mode"), "x", 1, NULL), LT_OK);
    umask(old);
    assert_int_equal(stat(test_path("mode"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

static void writing_through_a_link_keeps_the_link(void **state) {
    (void)state;
    struct stat st;
    test_write_file(test_path("target"), "old", 3);
    assert_int_equal(symlink("target", test_path("link")), 0);
    assert_int_equal(lt_file_write(test_path("link"), "new", 3, NULL), LT_OK);
    assert_int_equal(lstat(test_path("link"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_holds(test_path("target"), "new");
}

/* Run in a child, whose limits are its own. Exit status 0: all held. */
static int write_past_the_limit(const char *path) {
    lt_err err = { 0 };
    lt_writer *w;
    static char block[1 << 20];
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = { 3 << 19, 3 << 19 };
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    if (lt_writer_create(&w, path, &err) != LT_OK) return 2;
    if (lt_writer_write(w, block, sizeof block, &err) != LT_OK) return 3;
    if (lt_writer_write(w, block, sizeof block, &err) != LT_EIO) return 4;
    if (lt_writer_write(w, "more", 4, NULL) != LT_EIO) return 5; /* remembered */
    err = (lt_err){ 0 };
    if (lt_writer_commit(w, &err) != LT_EIO) return 6;
    return strstr(err.message, path) && strstr(err.message, strerror(EFBIG)) ? 0 : 7;
}

static void pieces_stay_and_are_added_to(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_pieces *p;
    const char *path = test_path("pieces");
    assert_ok(lt_pieces_open(&p, path, &err), &err);
    assert_ok(lt_pieces_put(p, 3, "lo", 2, &err), &err);
    lt_pieces_close(p);
    assert_ok(lt_pieces_open(&p, path, &err), &err);
    assert_ok(lt_pieces_put(p, 0, "hel", 3, &err), &err);
    assert_ok(lt_pieces_commit(p, &err), &err);
    assert_holds(path, "hello");
    assert_fails(lt_pieces_open(&p, test_path("no/such"), &err), &err, LT_EIO, "no/such");
    if (lt_path_exists("/dev/full")) {
        assert_ok(lt_pieces_open(&p, "/dev/full", &err), &err);
        assert_fails(lt_pieces_put(p, 0, "x", 1, &err), &err, LT_EIO, "/dev/full: No space left");
        lt_pieces_close(p);
    }
    assert_ok(lt_file_write_soon(path, "soon", 4, &err), &err);
    assert_holds(path, "soon");
}

static void a_full_disk_leaves_the_old_file_and_no_rest(void **state) {
    (void)state;
    lt_err err = { 0 };
    assert_ok(lt_make_dirs(test_path("full"), &err), &err);
    const char *path = test_path("full/out");
    test_write_file(path, "old", 3);
    const pid_t child = fork();
    if (child == 0) _exit(write_past_the_limit(path));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_holds(path, "old");
    assert_int_equal(test_count_dir(test_path("full")), 1);
}

static void devices_are_written_in_place(void **state) {
    (void)state;
    lt_err err = { 0 };
    struct stat st;
    assert_ok(lt_file_write("/dev/null", "x", 1, &err), &err);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    if (lt_path_exists("/dev/full"))
        assert_fails(lt_file_write("/dev/full", "x", 1, &err), &err, LT_EIO, "/dev/full: No space left");
}

static void what_cannot_be_written_is_named(void **state) {
    (void)state;
    lt_err err = { 0 };
    assert_fails(lt_file_write(test_path("no/such/dir"), "x", 1, &err), &err, LT_EIO, "no/such/dir: No such file");
    assert_fails(lt_file_write(test_dir(), "x", 1, &err), &err, LT_EIO, "Is a directory");
}

static lt_status copy_once(void *user, lt_err *err) {
    return lt_copy_file(user, test_path("copied"), err);
}

static void copies_are_equal_and_survive_failing_allocations(void **state) {
    (void)state;
    lt_err err = { 0 };
    test_write_file(test_path("source"), "\0\1\2", 3);
    test_path("copied");
    assert_true(test_every_allocation_fails(copy_once, (void *)test_path("source")) > 0);
    size_t bytes;
    char *got = test_read_file(test_path("copied"), &bytes);
    assert_true(bytes == 3 && memcmp(got, "\0\1\2", 3) == 0);
    lt_free(got);
    assert_fails(lt_copy_file(test_path("nothing"), test_path("copied"), &err), &err, LT_EIO, "nothing");
}

static void paths_join_and_split(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "", "b", "b" }, { "a", "/b", "/b" }
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        char *joined = lt_path_join(cases[i][0], cases[i][1]);
        assert_string_equal(joined, cases[i][2]);
        lt_free(joined);
    }
    assert_string_equal(lt_path_name("a/b/c.txt"), "c.txt");
    assert_string_equal(lt_path_name("c.txt"), "c.txt");
}

static void temporary_files_have_one_place(void **state) {
    (void)state;
    lt_err err = { 0 };
    const char *base = test_path("spill"), *inner = test_path("spill/in");
    const char *const missing = test_path("spill/not/yet/out");
    lt_ctx ctx = { 0 };
    char *folder;
    assert_ok(lt_make_dirs(inner, &err), &err);
    const struct {
        const char *scratch, *output, *tmpdir, *want;
    } cases[] = {
        { inner, missing, base, inner },
        { inner, NULL, base, inner },
        { NULL, test_path("spill/in/out"), base, inner },
        { NULL, missing, "/nowhere", base },
        { NULL, "out", base, "." },
        { NULL, "not/yet/out", base, "." },
        { NULL, "/no-such/out", base, "/" },
        { NULL, NULL, base, base },
        { NULL, NULL, "", "/tmp" },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        setenv("TMPDIR", cases[i].tmpdir, 1);
        ctx.scratch = cases[i].scratch;
        folder = lt_spill_folder(&ctx, cases[i].output);
        assert_string_equal(folder, cases[i].want);
        lt_free(folder);
    }
    unsetenv("TMPDIR");
    folder = lt_spill_folder(NULL, NULL);
    assert_string_equal(folder, "/tmp");
    lt_free(folder);
}

static void folders_are_made_listed_and_removed(void **state) {
    (void)state;
    lt_err err = { 0 };
    char **names;
    size_t n;
    const char *root = test_path("tree");
    assert_ok(lt_make_dirs(test_path("tree/b//c/"), &err), &err);
    assert_ok(lt_make_dirs(test_path("tree/b/c"), &err), &err);
    test_write_file(test_path("tree/z"), "z", 1);
    test_write_file(test_path("tree/a"), "a", 1);
    test_write_file(test_path("outside"), "o", 1);
    assert_int_equal(symlink(test_dir(), test_path("tree/b/c/up")), 0);
    assert_true(lt_path_is_dir(test_path("tree/b/c")) && !lt_path_is_dir(test_path("tree/a")));
    assert_fails(lt_make_dirs(test_path("tree/a/x"), &err), &err, LT_EIO, "tree/a: Not a directory");
    assert_ok(lt_list_dir(&names, &n, root, &err), &err);
    static const char *const want[] = { "a", "b", "z" };
    assert_int_equal(n, 3);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(names[i], want[i]);
        lt_free(names[i]);
    }
    lt_free(names);
    assert_fails(lt_list_dir(&names, &n, test_path("tree/none"), &err), &err, LT_EIO, "tree/none");
    assert_ok(lt_remove_tree(root, &err), &err);
    assert_false(lt_path_exists(root));
    assert_true(lt_path_exists(test_path("outside"))); /* the link was not followed */
    assert_ok(lt_remove_tree(root, &err), &err);
}

static void rename_replaces_and_stat_sees_size_and_time(void **state) {
    (void)state;
    lt_err err = { 0 };
    uint64_t bytes;
    int64_t mtime;
    test_write_file(test_path("from"), "12345", 5);
    test_write_file(test_path("to"), "x", 1);
    assert_ok(lt_rename(test_path("from"), test_path("to"), &err), &err);
    assert_ok(lt_file_stat(test_path("to"), &bytes, &mtime, &err), &err);
    assert_true(bytes == 5 && mtime > INT64_C(1500000000) * 1000000000);
    assert_fails(lt_file_stat(test_path("from"), &bytes, &mtime, &err), &err, LT_EIO, "from: No such file");
    assert_fails(lt_rename(test_path("from"), test_path("to"), &err), &err, LT_EIO, "from: No such file");
}

static void a_lock_has_one_holder(void **state) {
    (void)state;
    lt_err err = { 0 };
    int fd, second;
    assert_ok(lt_lock_acquire(&fd, test_path("locks/job"), &err), &err); /* makes the folder */
    assert_fails(lt_lock_acquire(&second, test_path("locks/job"), &err), &err, LT_EIO, "in use by another process");
    assert_int_equal(test_count_dir(test_path("locks")), 1); /* nothing beside it */
    assert_int_equal(test_count_dir(test_path("locks/job")), 0);
    lt_lock_release(fd);
    assert_ok(lt_lock_acquire(&fd, test_path("locks/job"), &err), &err);
    lt_lock_release(fd);
    test_write_file(test_path("locks/file"), "x", 1);
    assert_fails(lt_lock_acquire(&fd, test_path("locks/file/job"), &err), &err, LT_EIO, "locks/file");
}

/* The holder renames the folder: the name is free for another, who gets a folder of their own. */
static void a_renamed_folder_takes_its_lock_along(void **state) {
    (void)state;
    lt_err err = { 0 };
    int fd, second;
    assert_ok(lt_lock_acquire(&fd, test_path("renamed.partial"), &err), &err);
    assert_ok(lt_rename(test_path("renamed.partial"), test_path("renamed"), &err), &err);
    assert_ok(lt_lock_acquire(&second, test_path("renamed.partial"), &err), &err);
    lt_lock_release(second);
    lt_lock_release(fd);
    assert_true(lt_path_is_dir(test_path("renamed")) && lt_path_is_dir(test_path("renamed.partial")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_show_whole_files),
        cmocka_unit_test(a_settled_map_is_the_same_to_its_readers),
        cmocka_unit_test(read_gives_all_bytes_and_keeps_a_limit),
        cmocka_unit_test(a_written_file_is_there_whole_or_not_at_all),
        cmocka_unit_test(new_files_follow_the_umask),
        cmocka_unit_test(writing_through_a_link_keeps_the_link),
        cmocka_unit_test(pieces_stay_and_are_added_to),
        cmocka_unit_test(a_full_disk_leaves_the_old_file_and_no_rest),
        cmocka_unit_test(devices_are_written_in_place),
        cmocka_unit_test(what_cannot_be_written_is_named),
        cmocka_unit_test(copies_are_equal_and_survive_failing_allocations),
        cmocka_unit_test(paths_join_and_split),
        cmocka_unit_test(temporary_files_have_one_place),
        cmocka_unit_test(folders_are_made_listed_and_removed),
        cmocka_unit_test(rename_replaces_and_stat_sees_size_and_time),
        cmocka_unit_test(a_lock_has_one_holder),
        cmocka_unit_test(a_renamed_folder_takes_its_lock_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
