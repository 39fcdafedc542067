/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/save.h"

#include <stdlib.h>
#include <string.h>

#include "io/gguf.h"
#include "io/file.h"
#include "io/json.h"
#include "support/support.h"

static lt_gguf *need_gguf(void) {
    const char *path = getenv("LATHE_TEST_GGUF");
    if (!path) {
        print_message("skipped: LATHE_TEST_GGUF is not set\n");
        skip();
    }
    lt_gguf *g = NULL;
    lt_err err = { 0 };
    assert_ok(lt_gguf_open(&g, path, &err), &err);
    return g;
}

static void check_text(const lt_tokenizer *a, const lt_tokenizer *b, const char *text) {
    lt_err err = { 0 };
    int32_t *ia, *ib;
    size_t na, nb;
    assert_ok(lt_tokenizer_encode(a, text, strlen(text), true, &ia, &na, &err), &err);
    assert_ok(lt_tokenizer_encode(b, text, strlen(text), true, &ib, &nb, &err), &err);
    assert_int_equal(na, nb);
    assert_memory_equal(ia, ib, na * sizeof *ia);
    lt_free(ia);
    lt_free(ib);
}

static void saved_tokenizer_gives_the_ids_of_its_gguf(void **state) {
    (void)state;
    lt_gguf *g = need_gguf();
    lt_tokenizer *a = NULL, *b = NULL;
    lt_err err = { 0 };
    const char *folder = test_path("saved");
    assert_ok(lt_make_dirs(folder, &err), &err);
    assert_ok(lt_tokenizer_from_gguf(&a, g, &err), &err);
    assert_ok(lt_tokenizer_save_gguf(g, folder, &err), &err);
    assert_ok(lt_tokenizer_open(&b, folder, &err), &err);
    assert_int_equal(lt_tokenizer_vocab_size(a), lt_tokenizer_vocab_size(b));
    assert_int_equal(lt_tokenizer_bos(a), lt_tokenizer_bos(b));
    assert_int_equal(lt_tokenizer_eos(a), lt_tokenizer_eos(b));
    for (int32_t i = 0; i < (int32_t)lt_tokenizer_vocab_size(a); i++)
        assert_int_equal(lt_tokenizer_is_special(a, i), lt_tokenizer_is_special(b, i));
    static const char *const texts[] = { "", "Hello world 12345", "<|im_start|>user\nhi<|im_end|>",
                                         "  two\t tabs\n\n\xc3\xa9\xe4\xbd\xa0 don't" };
    for (size_t i = 0; i < LT_COUNTOF(texts); i++) check_text(a, b, texts[i]);
    lt_tokenizer_destroy(a);
    lt_tokenizer_destroy(b);
    lt_gguf_close(g);
}

static void config_names_special_tokens_and_the_chat_template(void **state) {
    (void)state;
    lt_gguf *g = need_gguf();
    lt_err err = { 0 };
    json_t *j = NULL;
    assert_ok(lt_make_dirs(test_path("config"), &err), &err);
    assert_ok(lt_tokenizer_save_gguf(g, test_path("config"), &err), &err);
    assert_ok(lt_json_load(&j, test_path("config/tokenizer_config.json"), &err), &err);
    size_t n;
    const char *chat = lt_gguf_string(g, "tokenizer.chat_template", &n);
    assert_non_null(json_object_get(j, "eos_token"));
    if (chat) assert_string_equal(json_string_value(json_object_get(j, "chat_template")), chat);
    json_decref(j);
    lt_gguf_close(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_tokenizer_gives_the_ids_of_its_gguf),
        cmocka_unit_test(config_names_special_tokens_and_the_chat_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
