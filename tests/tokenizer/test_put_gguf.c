/* SPDX-License-Identifier: Apache-2.0 */
/* A folder's tokenizer written as GGUF keys gives the reference ids again, wherever a GGUF can say what decides them.
 */
#include "tok_test.h"

#include "support/support.h"
#include "tokenizer/save.h"

typedef struct row {
    const char *name, *pre; /* tokenizer.ggml.pre; NULL: the kind "llama" */
} row;

static lt_status put(const char *folder, size_t vocab, const char *path, lt_err *err) {
    lt_gguf_writer *w;
    LT_TRY(lt_gguf_writer_create(&w, path, err));
    lt_status st = lt_tokenizer_put_gguf(w, folder, vocab, -1, -1, NULL, err);
    if (st == LT_OK) st = lt_gguf_writer_begin(w, err);
    if (st == LT_OK) return lt_gguf_writer_commit(w, err);
    lt_gguf_writer_abort(w);
    return st;
}

typedef struct check {
    const lt_tokenizer *t;
    size_t records;
} check;

static void encode_line(const json_t *line, size_t number, void *user) {
    check *c = user;
    const json_t *text = json_object_get(line, "text"), *same = json_object_get(line, "gguf_same");
    size_t n, n_want;
    int32_t *ids, *want;
    lt_err err = { 0 };
    if (json_is_false(same)) return;
    want = ids_of(json_object_get(line, "ids"), &n_want);
    assert_ok(lt_tokenizer_encode(c->t, json_string_value(text), json_string_length(text),
                                  json_is_true(json_object_get(line, "add_special")), &ids, &n, &err),
              &err);
    if (n != n_want || memcmp(ids, want, n * sizeof *ids) != 0)
        fail_msg("line %zu: other ids: %.200s", number, json_string_value(text));
    c->records++;
    lt_free(ids);
    lt_free(want);
}

static void same_specials(const lt_tokenizer *a, const lt_tokenizer *b) {
    assert_int_equal(lt_tokenizer_eos(a), lt_tokenizer_eos(b));
    assert_int_equal(lt_tokenizer_vocab_size(a), lt_tokenizer_vocab_size(b));
    for (int32_t i = 0; i < (int32_t)lt_tokenizer_vocab_size(a); i++) {
        assert_int_equal(lt_tokenizer_is_special(a, i), lt_tokenizer_is_special(b, i));
        if (lt_tokenizer_token(a, i)) assert_string_equal(lt_tokenizer_token(a, i), lt_tokenizer_token(b, i));
    }
}

static void written_keys_give_the_reference_ids(void **state) {
    const row *r = *state;
    char path[512];
    lt_err err = { 0 };
    snprintf(path, sizeof path, GOLDEN "%s", r->name);
    if (!have(path)) skip();
    lt_tokenizer *source = open_folder(path);
    assert_ok(put(path, lt_tokenizer_vocab_size(source), test_path("put.gguf"), &err), &err);
    lt_tokenizer *t = open_gguf(test_path("put.gguf"));
    same_specials(source, t);
    check c = { .t = t };
    snprintf(path, sizeof path, GOLDEN "%s/cases.jsonl", r->name);
    each_line(path, encode_line, &c);
    print_message("%s: %zu records\n", r->name, c.records);
    assert_true(c.records > 100);
    lt_tokenizer_destroy(t);
    lt_tokenizer_destroy(source);
    lt_gguf *g;
    assert_ok(lt_gguf_open(&g, test_path("put.gguf"), &err), &err);
    assert_string_equal(lt_gguf_string(g, "tokenizer.ggml.model", NULL), r->pre ? "gpt2" : "llama");
    if (r->pre) assert_string_equal(lt_gguf_string(g, "tokenizer.ggml.pre", NULL), r->pre);
    lt_gguf_close(g);
}

static void what_a_gguf_cannot_say_is_refused_by_part(void **state) {
    (void)state;
    static const char *const rows[][2] = {
        { "unigram_t5", "model" },
        { "wordpiece", "model" },
        { "roberta", "pre-tokenizer" },
        { "bytes", "pre-tokenizer" },
    };
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        char path[512];
        lt_err err = { 0 };
        snprintf(path, sizeof path, GOLDEN "%s", rows[i][0]);
        if (!have(path)) skip();
        assert_fails(put(path, 65536, test_path("bad.gguf"), &err), &err, LT_EUNSUPPORTED, rows[i][1]);
        assert_false(lt_path_exists(test_path("bad.gguf")));
    }
}

static const char small[] =
    "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [[\"a\", \"b\"]]},"
    "\"added_tokens\": [{\"id\": 3, \"content\": \"<e>\", \"special\": true}],"
    "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true},"
    "\"decoder\": {\"type\": \"ByteLevel\"}}";

static const char *small_folder(const char *config) {
    lt_err err = { 0 };
    assert_ok(lt_make_dirs(test_path("small"), &err), &err);
    test_write_file(test_path("small/tokenizer.json"), small, sizeof small - 1);
    test_write_file(test_path("small/tokenizer_config.json"), config, strlen(config));
    return test_path("small");
}

static void ids_without_a_token_become_unused_ones(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_gguf *g;
    int64_t type;
    size_t n;
    const char *folder = small_folder("{\"eos_token\": \"<e>\"}");
    assert_ok(put(folder, 6, test_path("small.gguf"), &err), &err);
    assert_ok(lt_gguf_open(&g, test_path("small.gguf"), &err), &err);
    assert_string_equal(lt_gguf_array_string(g, "tokenizer.ggml.tokens", 5, &n), "[PAD5]");
    assert_true(lt_gguf_array_i64(g, "tokenizer.ggml.token_type", 5, &type) && type == 5);
    assert_true(lt_gguf_array_i64(g, "tokenizer.ggml.token_type", 3, &type) && type == 3);
    lt_gguf_close(g);
    assert_fails(put(folder, 3, test_path("small.gguf"), &err), &err, LT_EDATA, "4 tokens for a model of 3");
}

static void chat_templates_are_kept_by_name(void **state) {
    (void)state;
    lt_err err = { 0 };
    lt_gguf *g;
    const char *folder = small_folder("{\"chat_template\": [{\"name\": \"default\", \"template\": \"D\"}, "
                                      "{\"name\": \"tool_use\", \"template\": \"T\"}]}");
    assert_ok(put(folder, 4, test_path("small.gguf"), &err), &err);
    assert_ok(lt_gguf_open(&g, test_path("small.gguf"), &err), &err);
    assert_string_equal(lt_gguf_string(g, "tokenizer.chat_template", NULL), "D");
    assert_string_equal(lt_gguf_string(g, "tokenizer.chat_template.tool_use", NULL), "T");
    lt_gguf_close(g);
    test_write_file(test_path("small/chat_template.jinja"), "J", 1);
    assert_ok(put(folder, 4, test_path("small.gguf"), &err), &err);
    assert_ok(lt_gguf_open(&g, test_path("small.gguf"), &err), &err);
    assert_string_equal(lt_gguf_string(g, "tokenizer.chat_template", NULL), "J");
    lt_gguf_close(g);
}

static lt_status put_small(void *user, lt_err *err) {
    return put(user, 6, test_path("failing.gguf"), err);
}

static void failing_allocations_are_reported(void **state) {
    (void)state;
    test_every_allocation_fails(put_small, (void *)small_folder("{\"eos_token\": \"<e>\", \"chat_template\": \"x\"}"));
}

#define WRITTEN(name, pre)                                                                                             \
    {                                                                                                                  \
        "written " name, written_keys_give_the_reference_ids, NULL, NULL, &(row) {                                     \
            name, pre                                                                                                  \
        }                                                                                                              \
    }

int main(void) {
    const struct CMUnitTest tests[] = {
        WRITTEN("gpt2", "gpt-2"),
        WRITTEN("llama3", "llama-bpe"),
        WRITTEN("smollm_style", "smollm"),
        WRITTEN("smollm2", "smollm"),
        WRITTEN("qwen2", "qwen2"),
        WRITTEN("deepseek_v3", "deepseek-v3"),
        WRITTEN("llama2_legacy", NULL),
        cmocka_unit_test(what_a_gguf_cannot_say_is_refused_by_part),
        cmocka_unit_test(ids_without_a_token_become_unused_ones),
        cmocka_unit_test(chat_templates_are_kept_by_name),
        cmocka_unit_test(failing_allocations_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
