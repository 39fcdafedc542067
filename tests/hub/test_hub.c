/* SPDX-License-Identifier: Apache-2.0 */
/* Names of models, and what the cache of the hub holds under them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hub/cache.h"
#include "hub/hub.h"
#include "io/file.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
static char root[64] = "/tmp/lathe-hub-XXXXXX";

static void put(const char *path, const char *text) {
    char *full = lt_path_join(root, path), *folder = lt_strdup(full);
    *strrchr(folder, '/') = '\0';
    assert_int_equal(lt_make_dirs(folder, NULL), LT_OK);
    assert_int_equal(lt_file_write(full, text, strlen(text), NULL), LT_OK);
    lt_free(folder);
    lt_free(full);
}

static int make_cache(void **state) {
    (void)state;
    if (!mkdtemp(root)) return -1;
    setenv("HF_HUB_CACHE", root, 1);
    put("models--org--name/refs/main", COMMIT);
    put("models--org--name/snapshots/" COMMIT "/config.json", "{}");
    put("models--org--name/refs/refs/pr/1", COMMIT);
    put("models--gpt2/snapshots/" COMMIT "/config.json", "{}");
    put("models--gpt2/refs/main", COMMIT "\n");
    put("models--bad--ref/refs/main", "../../escape");
    return 0;
}

static int drop_cache(void **state) {
    (void)state;
    return lt_remove_tree(root, NULL) == LT_OK ? 0 : -1;
}

static void finds(const char *name, const char *below) {
    char *path = NULL, *want = lt_path_join(root, below);
    lt_err err = { 0 };
    if (lt_hub_find(&path, name, &err) != LT_OK) fail_msg("%s: %s", name, err.message);
    assert_string_equal(path, want);
    lt_free(path);
    lt_free(want);
}

static void misses(const char *name, lt_status code, const char *part) {
    char *path = NULL;
    lt_err err = { 0 };
    assert_int_equal(lt_hub_find(&path, name, &err), code);
    assert_null(path);
    if (!strstr(err.message, part)) fail_msg("%s: no \"%s\" in: %s", name, part, err.message);
}

static void names_are_snapshots(void **state) {
    (void)state;
    finds("org/name", "models--org--name/snapshots/" COMMIT);
    finds("org/name@main", "models--org--name/snapshots/" COMMIT);
    finds("org/name@" COMMIT, "models--org--name/snapshots/" COMMIT);
    finds("org/name@refs/pr/1", "models--org--name/snapshots/" COMMIT);
    finds("org/name/config.json", "models--org--name/snapshots/" COMMIT "/config.json");
    finds("org/name@main/config.json", "models--org--name/snapshots/" COMMIT "/config.json");
    finds("gpt2", "models--gpt2/snapshots/" COMMIT);
}

static void a_path_that_exists_is_itself(void **state) {
    (void)state;
    char *path = NULL;
    assert_int_equal(lt_hub_find(&path, "/tmp", NULL), LT_OK);
    assert_string_equal(path, "/tmp");
    lt_free(path);
}

static void what_is_not_there_says_how_to_get_it(void **state) {
    (void)state;
    misses("org/other", LT_EIO, "`lathe pull org/other`");
    misses("org/name@v2", LT_EIO, "`lathe pull org/name --revision v2`");
    misses("org/name/none.gguf", LT_EIO, "does not hold it");
    misses("./org/name", LT_EIO, "no such file or folder");
    misses("org/name/../../x", LT_EIO, "no such file or folder");
    misses("org/name@", LT_EIO, "no such file or folder");
    misses("bad/ref", LT_EDATA, "names no commit");
}

static void hostile_names_are_no_paths(void **state) {
    (void)state;
    static const char *const files[] = { "", "/etc/passwd", "..", "a/../b", "a//b", "a/", "a\\b", "a\nb", "." };
    static const char *const etags[] = { "", "..", "a/b", ".hidden", "a b", "\"a\"" };
    for (size_t i = 0; i < LT_COUNTOF(files); i++) assert_false(lt_hub_is_file(files[i]));
    for (size_t i = 0; i < LT_COUNTOF(etags); i++) assert_false(lt_hub_is_etag(etags[i]));
    assert_true(lt_hub_is_file("onnx/model (1).bin"));
    assert_true(lt_hub_is_etag("content-network-etag"));
    assert_false(lt_hub_is_id("a--b/c", 6));
    assert_false(lt_hub_is_id("../c", 4));
    assert_false(lt_hub_is_revision("a/../b"));
    assert_false(lt_hub_is_commit("main"));
}

static void a_snapshot_knows_its_name(void **state) {
    (void)state;
    char *id = NULL;
    assert_int_equal(lt_hub_id_of(&id, "/x/models--org--name/snapshots/" COMMIT "/model.gguf", NULL), LT_OK);
    assert_string_equal(id, "org/name");
    lt_free(id);
    assert_int_equal(lt_hub_id_of(&id, "models--gpt2/snapshots/" COMMIT, NULL), LT_OK);
    assert_string_equal(id, "gpt2");
    lt_free(id);
    assert_int_equal(lt_hub_id_of(&id, "/x/snapshots/y", NULL), LT_OK);
    assert_null(id);
}

static void tokens_are_one_printable_word(void **state) {
    (void)state;
    char *token = NULL;
    setenv("HF_TOKEN", " hf_x\n", 1);
    assert_int_equal(lt_hub_token(&token, NULL), LT_OK);
    assert_string_equal(token, "hf_x");
    lt_free(token);
    setenv("HF_TOKEN", "a\r\nX-Evil: 1", 1);
    assert_int_equal(lt_hub_token(&token, NULL), LT_EDATA);
    unsetenv("HF_TOKEN");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_snapshots),
        cmocka_unit_test(a_path_that_exists_is_itself),
        cmocka_unit_test(what_is_not_there_says_how_to_get_it),
        cmocka_unit_test(hostile_names_are_no_paths),
        cmocka_unit_test(a_snapshot_knows_its_name),
        cmocka_unit_test(tokens_are_one_printable_word),
    };
    return cmocka_run_group_tests(tests, make_cache, drop_cache);
}
