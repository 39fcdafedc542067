/* SPDX-License-Identifier: Apache-2.0 */
/* Every record of the golden folders: ids, both decodings, and streamed pieces are those of the reference library. */
#include "support/support.h"
#include "tok_test.h"

typedef struct check {
    const lt_tokenizer *t;
    bool gguf;
    size_t records, wrong;
} check;

static void complain(check *c, size_t number, const char *what, const json_t *line) {
    if (c->wrong++ >= 3) return;
    char *text = json_dumps(json_object_get(line, "text"), JSON_ENCODE_ANY);
    print_error("line %zu (%s): %s differs, text %.200s\n", number,
                json_string_value(json_object_get(line, "category")), what, text ? text : "");
    free(text);
}

static bool decodes_to(const check *c, const int32_t *ids, size_t n, bool skip, const json_t *want) {
    char *text;
    size_t bytes;
    lt_err err = { 0 };
    if (lt_tokenizer_decode(c->t, ids, n, skip, &text, &bytes, &err) != LT_OK) {
        print_error("%s\n", err.message);
        return false;
    }
    const bool same = bytes == json_string_length(want) && memcmp(text, json_string_value(want), bytes) == 0;
    lt_free(text);
    return same;
}

static void encode_line(const json_t *line, size_t number, void *user) {
    check *c = user;
    if (c->gguf && !json_is_true(json_object_get(line, "gguf_same"))) return;
    const json_t *text = json_object_get(line, "text");
    size_t n, n_want;
    int32_t *ids, *want = ids_of(json_object_get(line, "ids"), &n_want);
    lt_err err = { 0 };
    c->records++;
    if (lt_tokenizer_encode(c->t, json_string_value(text), json_string_length(text),
                            json_is_true(json_object_get(line, "add_special")), &ids, &n, &err) != LT_OK)
        fail_msg("line %zu: %s", number, err.message);
    if (n != n_want || memcmp(ids, want, n * sizeof *ids) != 0) complain(c, number, "ids", line);
    if (!decodes_to(c, want, n_want, true, json_object_get(line, "decoded_skip_special")))
        complain(c, number, "decoded_skip_special", line);
    if (!decodes_to(c, want, n_want, false, json_object_get(line, "decoded_full")))
        complain(c, number, "decoded_full", line);
    lt_free(ids);
    lt_free(want);
}

static void stream_line(const json_t *line, size_t number, void *user) {
    check *c = user;
    size_t n;
    int32_t *ids = ids_of(json_object_get(line, "ids"), &n);
    const json_t *pieces = json_object_get(line, "pieces"), *stop = json_object_get(line, "error_at");
    lt_decode_stream *s;
    if (stop) n = (size_t)json_integer_value(stop);
    c->records++;
    assert_int_equal(lt_decode_stream_create(&s, c->t, json_is_true(json_object_get(line, "skip_special")), NULL),
                     LT_OK);
    for (size_t i = 0; i < n; i++) {
        const char *piece;
        size_t bytes;
        const json_t *want = json_array_get(pieces, i);
        lt_err err = { 0 };
        if (lt_decode_stream_push(s, ids[i], &piece, &bytes, &err) != LT_OK)
            fail_msg("line %zu: %s", number, err.message);
        if (json_is_null(want)
                ? piece == NULL
                : piece && bytes == json_string_length(want) && memcmp(piece, json_string_value(want), bytes) == 0)
            continue;
        complain(c, number, "piece", line);
        break;
    }
    lt_decode_stream_destroy(s);
    lt_free(ids);
}

static void finish(check *c, const char *name, size_t least) {
    print_message("%s: %zu records, %zu wrong\n", name, c->records, c->wrong);
    assert_int_equal(c->wrong, 0);
    assert_true(c->records >= least);
}

/* state: the folder's name */
static void folder_gives_the_reference_ids(void **state) {
    char path[512];
    const char *name = *state;
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (!have(path)) skip();
    lt_tokenizer *t = open_folder(path);
    check c = { .t = t }, s = { .t = t };
    snprintf(path, sizeof path, GOLDEN "%s/cases.jsonl", name);
    each_line(path, encode_line, &c);
    snprintf(path, sizeof path, GOLDEN "%s/stream.jsonl", name);
    each_line(path, stream_line, &s);
    finish(&c, name, 500);
    finish(&s, name, 40);
    lt_tokenizer_destroy(t);
}

/* ---- the same tokenizer as vocab.json and merges.txt ---- */

static void copy_optional(const char *name, const char *file, const char *folder) {
    char from[2048], to[2048];
    snprintf(from, sizeof from, GOLDEN "%s/%s", name, file);
    snprintf(to, sizeof to, "%s/%s", folder, file);
    if (lt_path_exists(from)) assert_int_equal(lt_copy_file(from, to, NULL), LT_OK);
}

static void write_merges(const json_t *merges, const char *path) {
    FILE *f = fopen(path, "w");
    size_t i;
    json_t *m;
    assert_non_null(f);
    fputs("#version: 0.2\n", f);
    json_array_foreach(merges, i, m) {
        if (json_is_string(m))
            fprintf(f, "%s\n", json_string_value(m));
        else
            fprintf(f, "%s %s\n", json_string_value(json_array_get(m, 0)), json_string_value(json_array_get(m, 1)));
    }
    fclose(f);
}

static void split_folder(const char *name, const char *folder) {
    char path[2048];
    json_t *root;
    lt_err err = { 0 };
    assert_int_equal(lt_make_dirs(folder, &err), LT_OK);
    snprintf(path, sizeof path, GOLDEN "%s/tokenizer.json", name);
    if (lt_json_load(&root, path, &err) != LT_OK) fail_msg("%s", err.message);
    const json_t *model = json_object_get(root, "model");
    snprintf(path, sizeof path, "%s/vocab.json", folder);
    assert_int_equal(lt_json_save(json_object_get(model, "vocab"), path, &err), LT_OK);
    snprintf(path, sizeof path, "%s/merges.txt", folder);
    write_merges(json_object_get(model, "merges"), path);
    copy_optional(name, "tokenizer_config.json", folder);
    copy_optional(name, "special_tokens_map.json", folder);
    json_decref(root);
}

static void vocab_and_merges_give_the_reference_ids(void **state) {
    char path[1024];
    const char *name = *state;
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (!have(path)) skip();
    snprintf(path, sizeof path, "%s", test_path(name));
    split_folder(name, path);
    lt_tokenizer *t = open_folder(path);
    check c = { .t = t };
    snprintf(path, sizeof path, GOLDEN "%s/cases.jsonl", name);
    each_line(path, encode_line, &c);
    finish(&c, name, 500);
    lt_tokenizer_destroy(t);
}

static void gguf_gives_the_reference_ids(void **state) {
    char path[512];
    const char *name = *state;
    snprintf(path, sizeof path, GOLDEN "%s/vocab.gguf", name);
    if (!have(path)) skip();
    lt_tokenizer *t = open_gguf(path);
    check c = { .t = t, .gguf = true };
    snprintf(path, sizeof path, GOLDEN "%s/cases.jsonl", name);
    each_line(path, encode_line, &c);
    finish(&c, name, 100);
    lt_tokenizer_destroy(t);
}

/* The released model's own file, where LATHE_TEST_GGUF names it. */
static void released_gguf_gives_the_reference_ids(void **state) {
    (void)state;
    const char *path = getenv("LATHE_TEST_GGUF");
    if (!path || !have(path) || !have(GOLDEN "smollm2")) {
        print_message("skipped: LATHE_TEST_GGUF names no file\n");
        skip();
    }
    lt_tokenizer *t = open_gguf(path);
    check c = { .t = t };
    each_line(GOLDEN "smollm2/cases.jsonl", encode_line, &c);
    finish(&c, "SmolLM2 GGUF", 500);
    assert_int_equal(lt_tokenizer_bos(t), 1);
    assert_int_equal(lt_tokenizer_eos(t), 2);
    lt_tokenizer_destroy(t);
}

#define FOLDER(name)                                                                                                   \
    { "folder " name, folder_gives_the_reference_ids, NULL, NULL, name }
#define SPLIT(name)                                                                                                    \
    { "vocab and merges " name, vocab_and_merges_give_the_reference_ids, NULL, NULL, name }
#define GGUF(name)                                                                                                     \
    { "gguf " name, gguf_gives_the_reference_ids, NULL, NULL, name }

int main(void) {
    const struct CMUnitTest tests[] = {
        SPLIT("gpt2"),
        SPLIT("opt"),
        SPLIT("qwen2"),
        FOLDER("gpt2"),
        FOLDER("llama3"),
        FOLDER("smollm_style"),
        FOLDER("smollm2"),
        FOLDER("olmo2"),
        FOLDER("opt"),
        FOLDER("roberta"),
        FOLDER("bytes"),
        FOLDER("deepseek_v3"),
        FOLDER("neox"),
        FOLDER("qwen2"),
        FOLDER("llama2_legacy"),
        FOLDER("llama2_metaspace"),
        FOLDER("gemma"),
        FOLDER("unigram_t5"),
        FOLDER("unigram_albert"),
        FOLDER("unigram_bytes"),
        FOLDER("wordpiece"),
        GGUF("gpt2"),
        GGUF("llama3"),
        GGUF("smollm_style"),
        GGUF("qwen2"),
        GGUF("deepseek_v3"),
        GGUF("llama2_legacy"),
        cmocka_unit_test(released_gguf_gives_the_reference_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
