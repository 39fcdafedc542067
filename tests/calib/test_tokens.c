/* SPDX-License-Identifier: Apache-2.0 */
/* Token files, data files and recipes. */
#include "calib/calib_test.h"

#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "calib/mt19937.h"

/* ---- Python's generator ---- */

static json_t *member(const json_t *j, const char *key) {
    json_t *v = json_object_get(j, key);
    assert_non_null(v);
    return v;
}

static void draws_as_python_does(void **state) {
    (void)state;
    json_t *golden;
    lt_err err = { 0 };
    assert_ok(lt_json_load(&golden, TEST_NEED_SHARED("data/golden/rng.json"), &err), &err);
    static const struct {
        const char *u32, *uniform;
        uint64_t seed;
    } seeds[] = { { "u32_seed0", "random_seed0", 0 }, { "u32_seed1234", "random_seed1234", 1234 } };
    lt_mt19937 r;
    for (size_t s = 0; s < LT_COUNTOF(seeds); s++) {
        const json_t *words = member(golden, seeds[s].u32), *reals = member(golden, seeds[s].uniform);
        lt_mt19937_seed(&r, seeds[s].seed);
        for (size_t i = 0; i < json_array_size(words); i++)
            assert_int_equal(lt_mt19937_u32(&r), json_integer_value(json_array_get(words, i)));
        lt_mt19937_seed(&r, seeds[s].seed);
        for (size_t i = 0; i < json_array_size(reals); i++)
            assert_true(lt_mt19937_uniform(&r) == json_number_value(json_array_get(reals, i)));
    }
    const json_t *below = member(golden, "randbelow_1000_seed1234");
    lt_mt19937_seed(&r, 1234);
    for (size_t i = 0; i < json_array_size(below); i++)
        assert_int_equal(lt_mt19937_below(&r, 1000), json_integer_value(json_array_get(below, i)));
    json_decref(golden);
}

/* Python 3: random.Random(seed).getrandbits(32), for seeds of one and of two words */
static void seeds_of_any_size(void **state) {
    (void)state;
    lt_mt19937 r;
    lt_mt19937_seed(&r, 3);
    assert_int_equal(lt_mt19937_u32(&r), 1022050301u);
    lt_mt19937_seed(&r, (uint64_t)1 << 40);
    assert_int_equal(lt_mt19937_u32(&r), 445128065u);
}

/* ---- token files ---- */

static void token_files_round_trip(void **state) {
    (void)state;
    lt_tokens t = ct_random_tokens(5, 9, 100, 1), back = { 0 };
    lt_err err = { 0 };
    t.row_start[2] = 20; /* rows need not be equal */
    assert_ok(lt_tokens_seal(&t, &err), &err);
    assert_ok(lt_tokens_save(&t, test_path("a.tokens"), &err), &err);
    assert_ok(lt_tokens_load(&back, test_path("a.tokens"), &err), &err);
    assert_int_equal(back.n_rows, 5);
    assert_memory_equal(back.ids, t.ids, t.n_ids * sizeof *t.ids);
    assert_memory_equal(back.row_start, t.row_start, 6 * sizeof *t.row_start);
    assert_memory_equal(back.content_id, t.content_id, 5 * sizeof *t.content_id);
    assert_string_equal(back.hash, t.hash);
    assert_string_equal(back.source, "test");
    assert_true(back.isolated);
    lt_tokens_clear(&t);
    lt_tokens_clear(&back);
}

static void content_ids_are_digests_of_the_row_alone(void **state) {
    (void)state;
    const int32_t ids[] = { 1, 2, 3, 1, 2, 3, 1, 2, 4 };
    lt_tokens t = ct_tokens(ids, 3, 3);
    assert_true(t.content_id[0] == t.content_id[1] && t.content_id[0] != t.content_id[2]);
    assert_true(t.content_id[0] == 0x4636993d3e1da4e9u); /* sha256 of 01000000 02000000 03000000 */
    lt_tokens_clear(&t);
}

static void a_matrix_of_ids_is_a_token_set(void **state) {
    (void)state;
    const size_t shape[] = { 2, 3 };
    const int64_t wide[] = { 5, 6, 7, 8, 9, 10 };
    lt_st_writer *w;
    lt_tokens t = { 0 };
    lt_err err = { 0 };
    assert_ok(lt_st_writer_create(&w, test_path("m.safetensors"), &err), &err);
    assert_ok(lt_st_writer_declare(w, "ids", LT_I64, 2, shape, &err), &err);
    assert_ok(lt_st_writer_begin(w, &err), &err);
    assert_ok(lt_st_writer_bytes(w, wide, sizeof wide, &err), &err);
    assert_ok(lt_st_writer_commit(w, &err), &err);
    const lt_tokens_opts o = { .seq_len = 4 };
    assert_ok(lt_tokens_from_data(&t, test_path("m.safetensors"), NULL, 11, &o, &err), &err);
    assert_int_equal(t.n_rows, 2);
    assert_int_equal(t.row_start[1], 3);
    assert_int_equal(t.ids[5], 10);
    lt_tokens_clear(&t);
    assert_fails(lt_tokens_from_data(&t, test_path("m.safetensors"), NULL, 10, &o, &err), &err, LT_EDATA,
                 "vocabulary of 10");
    assert_fails(lt_tokens_load(&t, TEST_NEED_SHARED("golden/compress/tokens.safetensors"), &err), &err, LT_EDATA,
                 "more than one");
}

static void broken_token_files_are_refused(void **state) {
    (void)state;
    lt_tokens t = ct_random_tokens(3, 4, 100, 1), back = { 0 };
    size_t n;
    lt_err err = { 0 };
    assert_ok(lt_tokens_save(&t, test_path("a.tokens"), &err), &err);
    char *data = test_read_file(test_path("a.tokens"), &n);
    for (size_t cut = 0; cut < n; cut += 7) {
        test_write_file(test_path("cut.tokens"), data, cut);
        assert_true(lt_tokens_load(&back, test_path("cut.tokens"), NULL) != LT_OK);
    }
    const size_t ids_at = n - 3 * 8 - 4 * 8 - 12 * 4;
    data[ids_at] ^= 1;
    test_write_file(test_path("flip.tokens"), data, n);
    assert_fails(lt_tokens_load(&back, test_path("flip.tokens"), &err), &err, LT_EDATA, "does not match its hash");
    data[ids_at + 3] |= (char)0x80;
    test_write_file(test_path("flip.tokens"), data, n);
    assert_fails(lt_tokens_load(&back, test_path("flip.tokens"), &err), &err, LT_EDATA, "negative id");
    data[n - 3 * 8 - 4 * 8] = 1; /* the first row start */
    test_write_file(test_path("flip.tokens"), data, n);
    assert_fails(lt_tokens_load(&back, test_path("flip.tokens"), &err), &err, LT_EDATA, "row starts");
    lt_free(data);
    lt_tokens_clear(&t);
}

static void batches_hold_whole_rows(void **state) {
    (void)state;
    lt_tokens t = ct_random_tokens(7, 10, 50, 1);
    lt_batch *b;
    size_t n, rows = 0;
    lt_err err = { 0 };
    assert_ok(lt_tokens_batches(&b, &n, &t, 25, &err), &err);
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < b[i].n_pieces; p++, rows++) {
            assert_int_equal(b[i].piece[p].row, 10 * p);
            assert_int_equal(b[i].piece[p].pos0, 0);
            assert_int_equal(b[i].piece[p].seq, rows);
            assert_int_equal(b[i].piece[p].parent, -1);
            assert_memory_equal(b[i].ids + b[i].piece[p].row, t.ids + t.row_start[rows], 40);
        }
    assert_int_equal(rows, 7);
    lt_batches_free(b, n);
    assert_ok(lt_tokens_batches(&b, &n, &t, 1, &err), &err); /* a row is never cut */
    assert_int_equal(n, 7);
    lt_batches_free(b, n);
    lt_tokens_clear(&t);
}

/* ---- text ---- */

static void write_gzip(const char *path, const char *text, const char *mode) {
    gzFile f = gzopen(path, mode);
    assert_non_null(f);
    assert_int_equal(gzwrite(f, text, (unsigned)strlen(text)), (int)strlen(text));
    assert_int_equal(gzclose(f), Z_OK);
}

static void assert_text(const char *path, const char *want, size_t n) {
    char *text;
    size_t bytes;
    lt_err err = { 0 };
    assert_ok(lt_text_read(&text, &bytes, path, &err), &err);
    assert_int_equal(bytes, n);
    assert_memory_equal(text, want, n);
    assert_int_equal(text[n], 0);
    lt_free(text);
}

static void compressed_text_is_known_by_its_magic(void **state) {
    (void)state;
    char *big = calloc(1, 3000001), *packed = malloc(ZSTD_compressBound(3000000));
    for (size_t i = 0; i < 3000000; i++) big[i] = (char)('a' + i % 26);
    test_write_file(test_path("plain"), "abc", 3);
    assert_text(test_path("plain"), "abc", 3);
    write_gzip(test_path("z"), big, "wb");
    assert_text(test_path("z"), big, 3000000);
    write_gzip(test_path("z"), "abc", "wb");
    write_gzip(test_path("z"), "def", "ab"); /* two members */
    assert_text(test_path("z"), "abcdef", 6);
    const size_t n = ZSTD_compress(packed, ZSTD_compressBound(3000000), big, 3000000, 3);
    test_write_file(test_path("zst"), packed, n);
    assert_text(test_path("zst"), big, 3000000);
    char *text;
    size_t bytes;
    lt_err err = { 0 };
    test_write_file(test_path("zst"), packed, n - 5);
    assert_fails(lt_text_read(&text, &bytes, test_path("zst"), &err), &err, LT_EDATA, "zstd");
    packed[20] ^= 0x55;
    test_write_file(test_path("zst"), packed, n);
    assert_true(lt_text_read(&text, &bytes, test_path("zst"), NULL) != LT_OK || (lt_free(text), true));
    size_t zn;
    char *z = test_read_file(test_path("z"), &zn);
    test_write_file(test_path("z"), z, zn - 4);
    assert_fails(lt_text_read(&text, &bytes, test_path("z"), &err), &err, LT_EDATA, "gzip");
    test_write_file(test_path("z"), z, 1);
    assert_text(test_path("z"), z, 1); /* too short for the magic */
    lt_free(z);
    free(big);
    free(packed);
}

static lt_status parse(lt_docs *d, const char *name, const char *text, lt_err *err) {
    return lt_docs_parse(d, lt_strdup(text), strlen(text), name, NULL, err);
}

static void rows_of_jsonl_are_documents(void **state) {
    (void)state;
    lt_docs d;
    lt_err err = { 0 };
    assert_ok(parse(&d, "x.jsonl",
                    "{\"text\": \"one\\u0000\"}\n\n  {\"text\": \"\", \"more\": 1}\r\n{\"text\": \"drei \\u00fc\"}",
                    &err),
              &err);
    assert_int_equal(d.n, 3);
    assert_int_equal(d.doc[0].bytes, 4);
    assert_int_equal(d.doc[1].bytes, 0);
    assert_string_equal(d.doc[2].text, "drei \xc3\xbc");
    lt_docs_clear(&d);
    assert_ok(parse(&d, "x.txt", "{\"text\": \"known by its first line\"}\n", &err), &err);
    assert_true(d.jsonl);
    lt_docs_clear(&d);
    assert_ok(parse(&d, "x.txt", "{ no JSON at all\n", &err), &err);
    assert_false(d.jsonl);
    assert_int_equal(d.doc[0].bytes, 17);
    lt_docs_clear(&d);
}

static void instructions_go_through_the_published_template(void **state) {
    (void)state;
    lt_docs d;
    lt_err err = { 0 };
    assert_ok(parse(&d, "x",
                    "{\"instruction\": \"Add.\", \"input\": \"1 2\", \"output\": \"3\"}\n{\"instruction\": \"Greet.\", "
                    "\"input\": \"\", \"output\": \"Hi\"}\n",
                    &err),
              &err);
    assert_string_equal(
        d.doc[0].text,
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that "
        "appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n3");
    assert_string_equal(
        d.doc[1].text,
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nGreet.\n\n### Response:\nHi");
    assert_true(d.eos);
    lt_docs_clear(&d);
}

static void bad_rows_are_named_by_line(void **state) {
    (void)state;
    static const struct {
        const char *text;
        lt_status code;
        const char *says;
    } bad[] = { { "{\"text\": \"a\"}\n{\"text\": ", LT_EDATA, "line 2" },
                { "{\"text\": \"a\"}\n[1]", LT_EDATA, "line 2: row is not a JSON object" },
                { "{\"text\": 7}", LT_EDATA, "\"text\" is not a string" },
                { "{\"page\": \"x\"}", LT_EDATA, "neither \"text\" nor" },
                { "{\"messages\": []}", LT_EUNSUPPORTED, "chat template" },
                { "{\"instruction\": \"x\"}", LT_EDATA, "without \"output\"" },
                { "{\"instruction\": \"x\", \"output\": 3}", LT_EDATA, "output" } };
    lt_docs d;
    lt_err err = { 0 };
    for (size_t i = 0; i < LT_COUNTOF(bad); i++)
        assert_fails(parse(&d, "x.jsonl", bad[i].text, &err), &err, bad[i].code, bad[i].says);
}

static void lines_join_as_the_papers_see_them(void **state) {
    (void)state;
    lt_docs d;
    char *text;
    size_t n;
    lt_err err = { 0 };
    assert_ok(parse(&d, "x", " \n = Title = \n \n text\n", &err), &err);
    assert_ok(lt_docs_join(&text, &n, &d, &err), &err);
    assert_string_equal(text, "\n\n = Title = \n\n\n\n\n text\n");
    lt_free(text);
    lt_docs_clear(&d);
    assert_ok(parse(&d, "x", "", &err), &err);
    assert_ok(lt_docs_join(&text, &n, &d, &err), &err);
    assert_int_equal(n, 0);
    lt_free(text);
    lt_docs_clear(&d);
    assert_ok(lt_docs_read(&d, TEST_NEED_SHARED("data/wiki.test.raw"), NULL, &err), &err);
    assert_ok(lt_docs_join(&text, &n, &d, &err), &err);
    assert_int_equal(n, 1296370); /* spec evaluation §10 */
    lt_free(text);
    lt_docs_clear(&d);
}

/* ---- recipes, on the golden tokenizer ---- */

typedef struct wiki {
    lt_tokenizer *tok;
    const char *text;
} wiki;

static wiki open_wiki(void) {
    wiki w = { 0 };
    lt_err err = { 0 };
    assert_ok(lt_tokenizer_open(&w.tok, TEST_NEED_SHARED("golden/compress/tiny-llama"), &err), &err);
    w.text = TEST_NEED_SHARED("data/wiki.test.raw");
    return w;
}

static lt_tokens make(const char *recipe, const wiki *w, const char *path, size_t seq_len, size_t rows, uint64_t seed) {
    const lt_tokens_opts o = { .recipe = recipe, .seq_len = seq_len, .max_rows = rows, .seed = seed };
    lt_tokens t;
    lt_err err = { 0 };
    assert_ok(lt_tokens_from_data(&t, path, w->tok, 512, &o, &err), &err);
    assert_string_equal(t.recipe, recipe ? recipe : "plain");
    assert_string_equal(t.tokenizer_hash, lt_tokenizer_hash(w->tok));
    return t;
}

static void the_papers_windows_are_the_golden_ones(void **state) {
    (void)state;
    wiki w = open_wiki();
    lt_tokens golden = ct_golden_tokens("test"), all = make("wikitext", &w, w.text, 256, 0, 0),
              some = make("wikitext", &w, w.text, 256, 40, 0);
    assert_int_equal(all.n_rows, 634574 / 256);
    assert_int_equal(some.n_rows, 40);
    assert_memory_equal(some.ids, golden.ids, golden.n_ids * sizeof *golden.ids);
    assert_memory_equal(all.ids, golden.ids, golden.n_ids * sizeof *golden.ids);
    assert_string_equal(some.source, "wiki.test.raw");
    lt_tokens_clear(&golden), lt_tokens_clear(&all), lt_tokens_clear(&some);
    lt_tokenizer_destroy(w.tok);
}

/* With one token a byte of ASCII at most, windows are where Python's randint puts them. */
static void svdllm_draws_its_windows(void **state) {
    (void)state;
    wiki w = open_wiki();
    lt_tokens t = make("svdllm", &w, w.text, 32, 5, 3);
    lt_docs d;
    char *text;
    size_t n, chars = 0;
    lt_err err = { 0 };
    lt_mt19937 r;
    assert_ok(lt_docs_read(&d, w.text, NULL, &err), &err);
    assert_ok(lt_docs_join(&text, &n, &d, &err), &err);
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)text[i] & 0xc0) != 0x80;
    lt_mt19937_seed(&r, 3);
    assert_int_equal(t.n_rows, 5);
    assert_true(t.isolated);
    for (size_t row = 0; row < 5; row++) {
        const size_t first = lt_mt19937_below(&r, (uint32_t)(chars - 32));
        size_t from = 0, to, k;
        for (k = 0; k < first || ((unsigned char)text[from] & 0xc0) == 0x80; from++)
            k += ((unsigned char)text[from] & 0xc0) != 0x80;
        for (to = from, k = 0; k < 320 || ((unsigned char)text[to] & 0xc0) == 0x80; to++)
            k += ((unsigned char)text[to] & 0xc0) != 0x80;
        int32_t *ids;
        size_t n_ids;
        assert_ok(lt_tokenizer_encode(w.tok, text + from, to - from, true, &ids, &n_ids, &err), &err);
        assert_memory_equal(t.ids + 32 * row, ids, 32 * sizeof *ids);
        lt_free(ids);
    }
    lt_free(text);
    lt_docs_clear(&d);
    lt_tokens_clear(&t);
    lt_tokenizer_destroy(w.tok);
}

static void plain_concatenates_documents(void **state) {
    (void)state;
    wiki w = open_wiki();
    static const char rows[] =
        "{\"text\": \"The tower is 324 metres tall.\"}\n{\"text\": \" It was built in 1889.\"}\n";
    test_write_file(test_path("two.jsonl"), rows, strlen(rows));
    lt_tokens t = make(NULL, &w, test_path("two.jsonl"), 5, 0, 0);
    int32_t *a, *b, joined[128];
    size_t n, m;
    lt_err err = { 0 };
    assert_ok(lt_tokenizer_encode(w.tok, "The tower is 324 metres tall.", 29, true, &a, &n, &err), &err);
    assert_ok(lt_tokenizer_encode(w.tok, " It was built in 1889.", 22, true, &b, &m, &err), &err);
    memcpy(joined, a, n * sizeof *a);
    memcpy(joined + n, b, m * sizeof *b);
    assert_int_equal(t.n_rows, (n + m) / 5);
    assert_memory_equal(t.ids, joined, t.n_ids * sizeof *joined);
    lt_free(a), lt_free(b);
    lt_tokens_clear(&t);
    lt_tokenizer_destroy(w.tok);
}

static void assert_row(const lt_tokens *t, size_t row, const lt_tokenizer *tok, const char *text, size_t most) {
    int32_t *ids;
    size_t n;
    lt_err err = { 0 };
    assert_ok(lt_tokenizer_encode(tok, text, strlen(text), true, &ids, &n, &err), &err);
    assert_int_equal(t->row_start[row + 1] - t->row_start[row], lt_min_size(n, most));
    assert_memory_equal(t->ids + t->row_start[row], ids, lt_min_size(n, most) * sizeof *ids);
    lt_free(ids);
}

/* Lines of a text, or rows of JSONL, each alone; blank ones count towards the limit. */
static void rows_are_tokenised_alone(void **state) {
    (void)state;
    wiki w = open_wiki();
    static const char text[] =
        " = The tower = \n \n The tower is 324 metres tall , about the same height as a house .\n"
        "x\n It was built in 1889 .\n",
                      rows[] = "{\"text\": \"The tower is tall.\"}\n{\"text\": \"\"}\n{\"text\": \" Two.\"}\n";
    test_write_file(test_path("lines.txt"), text, strlen(text));
    test_write_file(test_path("rows.jsonl"), rows, strlen(rows));
    lt_tokens t = make("rows", &w, test_path("lines.txt"), 12, 0, 0);
    const size_t n = t.n_rows;
    assert_row(&t, 0, w.tok, " = The tower = \n", 12);
    assert_row(&t, 1, w.tok, " The tower is 324 metres tall , about the same height as a house .\n", 12);
    assert_row(&t, n - 1, w.tok, " It was built in 1889 .\n", 12);
    assert_int_equal(t.row_start[2] - t.row_start[1], 12);
    assert_true(t.isolated && t.row_start[n] == t.n_ids);
    lt_tokens_clear(&t);
    t = make("rows", &w, test_path("lines.txt"), 12, 3, 0);
    assert_int_equal(t.n_rows, 2);
    lt_tokens_clear(&t);
    t = make("rows", &w, test_path("rows.jsonl"), 12, 0, 0);
    assert_int_equal(t.n_rows, 2);
    assert_row(&t, 0, w.tok, "The tower is tall.", 12);
    assert_row(&t, 1, w.tok, " Two.", 12);
    lt_tokens_clear(&t);
    lt_tokenizer_destroy(w.tok);
}

/* Minitron's stream: an end-of-text id after every document, never fewer rows than asked for. */
static void minitron_ends_every_document(void **state) {
    (void)state;
    wiki w = open_wiki();
    static const char rows[] =
        "{\"text\": \"The tower is 324 metres tall.\"}\n{\"text\": \" It was built in 1889.\"}\n";
    test_write_file(test_path("two.jsonl"), rows, strlen(rows));
    lt_tokens t = make("minitron", &w, test_path("two.jsonl"), 5, 5, 0), too_few;
    int32_t *a, *b;
    size_t n, m;
    lt_err err = { 0 };
    const int32_t eos = lt_tokenizer_eos(w.tok);
    assert_ok(lt_tokenizer_encode(w.tok, "The tower is 324 metres tall.", 29, true, &a, &n, &err), &err);
    assert_ok(lt_tokenizer_encode(w.tok, " It was built in 1889.", 22, true, &b, &m, &err), &err);
    assert_int_equal(t.n_rows, 5);
    assert_true(n + m + 2 >= 25 && t.n_ids == 25);
    assert_memory_equal(t.ids, a, n * sizeof *a);
    assert_int_equal(t.ids[n], eos);
    assert_memory_equal(t.ids + n + 1, b, lt_min_size(m, 24 - n) * sizeof *b);
    const lt_tokens_opts many = { .recipe = "minitron", .seq_len = 5 };
    assert_fails(lt_tokens_from_data(&too_few, test_path("two.jsonl"), w.tok, 512, &many, &err), &err, LT_EDATA,
                 "1024 rows of 5 need 5120");
    lt_free(a), lt_free(b);
    lt_tokens_clear(&t);
    lt_tokenizer_destroy(w.tok);
}

static void too_little_text_is_refused_with_counts(void **state) {
    (void)state;
    wiki w = open_wiki();
    lt_tokens t;
    lt_err err = { 0 };
    test_write_file(test_path("empty.txt"), "", 0);
    test_write_file(test_path("short.txt"), "A few words only.", 17);
    static const char *const recipes[] = { "plain", "svdllm", "wikitext" };
    for (size_t i = 0; i < LT_COUNTOF(recipes); i++) {
        const lt_tokens_opts o = { .recipe = recipes[i], .seq_len = 64 };
        assert_fails(lt_tokens_from_data(&t, test_path("empty.txt"), w.tok, 512, &o, &err), &err, LT_EDATA,
                     "one row needs 64");
        assert_fails(lt_tokens_from_data(&t, test_path("short.txt"), w.tok, 512, &o, &err), &err, LT_EDATA,
                     "too little text");
    }
    const lt_tokens_opts unknown = { .recipe = "c4", .seq_len = 64 }, none = { .seq_len = 0 };
    assert_fails(lt_tokens_from_data(&t, test_path("short.txt"), w.tok, 512, &unknown, &err), &err, LT_EUSAGE,
                 "unknown recipe \"c4\"");
    assert_fails(lt_tokens_from_data(&t, test_path("short.txt"), w.tok, 512, &none, &err), &err, LT_EUSAGE, "0 tokens");
    assert_fails(
        lt_tokens_from_data(&t, test_path("no such file"), w.tok, 512, &(lt_tokens_opts){ .seq_len = 4 }, &err), &err,
        LT_EIO, "no such file");
    lt_tokenizer_destroy(w.tok);
}

static void tokens_of_another_tokenizer_are_refused(void **state) {
    (void)state;
    wiki w = open_wiki();
    lt_tokens t = ct_random_tokens(4, 8, 512, 1), back;
    lt_err err = { 0 };
    assert_ok(lt_tokens_save(&t, test_path("other.tokens"), &err), &err);
    const lt_tokens_opts o = { .seq_len = 8, .max_rows = 3 };
    assert_fails(lt_tokens_from_data(&back, test_path("other.tokens"), w.tok, 512, &o, &err), &err, LT_EDATA,
                 "another tokenizer");
    strcpy(t.tokenizer_hash, lt_tokenizer_hash(w.tok));
    assert_ok(lt_tokens_save(&t, test_path("ours.tokens"), &err), &err);
    assert_ok(lt_tokens_from_data(&back, test_path("ours.tokens"), w.tok, 512, &o, &err), &err);
    assert_int_equal(back.n_rows, 3);
    assert_int_equal(back.n_ids, 24);
    lt_tokens_clear(&t), lt_tokens_clear(&back);
    lt_tokenizer_destroy(w.tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_as_python_does),
        cmocka_unit_test(seeds_of_any_size),
        cmocka_unit_test(token_files_round_trip),
        cmocka_unit_test(content_ids_are_digests_of_the_row_alone),
        cmocka_unit_test(a_matrix_of_ids_is_a_token_set),
        cmocka_unit_test(broken_token_files_are_refused),
        cmocka_unit_test(batches_hold_whole_rows),
        cmocka_unit_test(compressed_text_is_known_by_its_magic),
        cmocka_unit_test(rows_of_jsonl_are_documents),
        cmocka_unit_test(instructions_go_through_the_published_template),
        cmocka_unit_test(bad_rows_are_named_by_line),
        cmocka_unit_test(lines_join_as_the_papers_see_them),
        cmocka_unit_test(the_papers_windows_are_the_golden_ones),
        cmocka_unit_test(svdllm_draws_its_windows),
        cmocka_unit_test(plain_concatenates_documents),
        cmocka_unit_test(rows_are_tokenised_alone),
        cmocka_unit_test(minitron_ends_every_document),
        cmocka_unit_test(too_little_text_is_refused_with_counts),
        cmocka_unit_test(tokens_of_another_tokenizer_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
