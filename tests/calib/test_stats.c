/* SPDX-License-Identifier: Apache-2.0 */
/* The stats file: what is written is read, and what does not hold together is refused. */
#include "support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "calib/stats_file.h"
#include "io/safetensors.h"

#define SITES                                                                                                          \
    "{\"a.mixer_in\": {\"cols\": 3, \"modules\": [\"a.q\", \"a.k\"]}, \"a.mlp_in\": {\"cols\": 2, \"modules\": "       \
    "[\"a.up\"]}}"

/* Values that tell site, accumulator and place. */
static lt_status values_of(void *user, const char *site, size_t cols, const lt_stat *stat, const double **values,
                           lt_err *err) {
    static double v[8];
    (void)user, (void)err;
    for (size_t i = 0; i < stat->doubles(cols); i++)
        v[i] = (double)strlen(site) + 10.0 * (double)(stat->name[0] + stat->name[1]) + 0.25 * (double)i;
    *values = v;
    return LT_OK;
}

static const char *write_stats(const char *name, lt_stat_set set) {
    const char *path = test_path(name);
    lt_err err = { 0 };
    json_t *sites;
    assert_ok(lt_json_parse(&sites, SITES, strlen(SITES), "sites", &err), &err);
    const lt_stats_head head = {
        .id = { "model", "tokenizer", "tokens", "{}" }, .source = "text", .machine = "machine", .sites = sites
    };
    assert_ok(lt_stats_write(path, &head, set, values_of, NULL, &err), &err);
    json_decref(sites);
    return path;
}

static void what_is_written_is_read(void **state) {
    (void)state;
    lt_stats *s;
    lt_stats_site site;
    const double *v;
    lt_err err = { 0 };
    assert_ok(lt_stats_open(&s, write_stats("good.stats", 1u | 2u | 16u), NULL, &err), &err); /* count, sum, gram */
    assert_int_equal(lt_stats_n_sites(s), 2);
    site = lt_stats_site_at(s, 0);
    assert_string_equal(site.name, "a.mixer_in");
    assert_int_equal(site.cols, 3);
    assert_int_equal(site.n_modules, 2);
    assert_string_equal(site.modules[1], "a.k");
    assert_true(lt_stats_site_of(s, "a.up", &site));
    assert_string_equal(site.name, "a.mlp_in");
    assert_false(lt_stats_site_of(s, "a.down", &site));
    assert_ok(lt_stats_values(&v, s, "a.mixer_in", "gram", &err), &err);
    assert_true(v[5] == 10.0 + 10.0 * ('g' + 'r') + 1.25);
    lt_stats_drop(s, "a.mixer_in");
    assert_true(v[5] == 10.0 + 10.0 * ('g' + 'r') + 1.25);
    assert_true(lt_stats_count(s, "a.mlp_in") == 8.0 + 10.0 * ('c' + 'o'));
    assert_true(lt_stats_count(s, "nowhere") == 0.0);
    assert_fails(lt_stats_values(&v, s, "a.mlp_in", "abssum", &err), &err, LT_EDATA, "stats lack abssum of a.mlp_in");
    assert_string_equal(lt_stats_meta(s, "model_hash"), "model");
    assert_string_equal(lt_stats_meta(s, "source"), "text");
    assert_ok(lt_stats_check_model(s, "model", &err), &err);
    assert_fails(lt_stats_check_model(s, "other", &err), &err, LT_EDATA, "another model");
    assert_int_equal(strlen(lt_stats_hash(s)), 64);
    lt_stats_close(s);
}

static lt_status from_memory(const char *data, size_t n, lt_err *err) {
    lt_stats *s = NULL;
    const lt_status st = lt_stats_from_memory(&s, data, n, "memory", err);
    lt_stats_close(s);
    return st;
}

static void every_cut_and_every_flipped_bit_is_noticed(void **state) {
    (void)state;
    size_t n;
    char *data = test_read_file(write_stats("good.stats", 1u | 2u | 16u), &n);
    lt_err err = { 0 };
    assert_ok(from_memory(data, n, &err), &err);
    for (size_t cut = 0; cut < n; cut++) {
        char *part = malloc(cut + 1); /* of exact size: reads behind it are seen */
        memcpy(part, data, cut);
        assert_true(from_memory(part, cut, NULL) == LT_EDATA);
        free(part);
    }
    for (size_t i = n - 18 * sizeof(double); i < n; i++) { /* the tensors */
        data[i] ^= 4;
        assert_true(from_memory(data, n, NULL) == LT_EDATA);
        data[i] ^= 4;
    }
    lt_free(data);
}

/* ---- files made wrong on purpose ---- */

typedef struct recipe {
    const char *format, *model, *sites, *hash, *extra;
    size_t gram;
    lt_dtype dtype;
    double count;
} recipe;
#define GOOD                                                                                                           \
    ((recipe){ "lathe-stats/1", "m", "{\"s\": {\"cols\": 2, \"modules\": [\"q\"]}}", "?", NULL, 3, LT_F64, 4.0 })

static lt_status open_made(const recipe *r, lt_err *err) {
    const char *path = test_path("made.stats");
    lt_st_writer *w;
    lt_stats *s = NULL;
    const double zeros[16] = { 0 };
    const size_t one = 1;
    const char *meta[][2] = { { "format", r->format }, { "model_hash", r->model }, { "tokenizer_hash", "t" },
                              { "tokens_hash", "x" },  { "settings", "{}" },       { "sites", r->sites },
                              { "hash", r->hash } };
    lt_err e = { 0 };
    assert_ok(lt_st_writer_create(&w, path, &e), &e);
    for (size_t i = 0; i < LT_COUNTOF(meta); i++)
        if (meta[i][1]) assert_ok(lt_st_writer_meta(w, meta[i][0], meta[i][1], &e), &e);
    assert_ok(lt_st_writer_declare(w, "s.count", LT_F64, 1, &one, &e), &e);
    assert_ok(lt_st_writer_declare(w, "s.gram", r->dtype, 1, &r->gram, &e), &e);
    if (r->extra) assert_ok(lt_st_writer_declare(w, r->extra, LT_F64, 1, &one, &e), &e);
    assert_ok(lt_st_writer_begin(w, &e), &e);
    assert_ok(lt_st_writer_bytes(w, &r->count, sizeof r->count, &e), &e);
    assert_ok(lt_st_writer_bytes(w, zeros, r->gram * lt_dtype_get(r->dtype)->bytes, &e), &e);
    if (r->extra) assert_ok(lt_st_writer_bytes(w, zeros, sizeof(double), &e), &e);
    assert_ok(lt_st_writer_commit(w, &e), &e);
    const lt_status st = lt_stats_open(&s, path, NULL, err);
    lt_stats_close(s);
    return st;
}

static void what_does_not_hold_together_is_refused(void **state) {
    (void)state;
    lt_err err = { 0 };
    recipe r = GOOD;
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "does not match its hash"); /* all else is right */
    r = GOOD, r.format = "lathe-stats/2";
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "is not a lathe-stats/1 file");
    r = GOOD, r.format = NULL;
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "is not a lathe-stats/1 file");
    r = GOOD, r.model = NULL;
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "header has no model_hash");
    r = GOOD, r.sites = NULL;
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "no sites");
    r = GOOD, r.sites = "{\"s\": ";
    assert_true(open_made(&r, NULL) == LT_EDATA);
    r = GOOD, r.sites = "[]";
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "sites are not an object");
    r = GOOD, r.sites = "{\"s\": {\"cols\": 0, \"modules\": []}}";
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "0 columns");
    r = GOOD, r.sites = "{\"s\": {\"cols\": 99999999999, \"modules\": []}}";
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "columns");
    r = GOOD, r.sites = "{\"s\": {\"cols\": 2, \"modules\": [7]}}";
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "module 0 is not a name");
    r = GOOD, r.sites = "{\"s\": {\"cols\": 2, \"modules\": [\"q\", \"q\"]}}";
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "fed by two sites");
    r = GOOD, r.gram = 4;
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "expected f64 [3]");
    r = GOOD, r.dtype = LT_I32;
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "expected f64 [3]");
    r = GOOD, r.sites = "{\"s\": {\"cols\": 2, \"kind\": \"third\", \"modules\": [\"q\"]}}";
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "unknown kind of site \"third\"");
    r = GOOD, r.extra = "t.gram";
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "belong to no site");
    r = GOOD, r.count = NAN;
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "not a number of tokens");
    r = GOOD, r.count = -1.0;
    assert_fails(open_made(&r, &err), &err, LT_EDATA, "not a number of tokens");
}

static void names_of_statistics(void **state) {
    (void)state;
    static const char *const some[] = { "gram", "sum" }, *const wrong[] = { "gramm" };
    lt_stat_set set;
    lt_err err = { 0 };
    assert_ok(lt_stat_set_parse(&set, some, 2, &err), &err);
    assert_int_equal(set, 1u | 2u | 16u);
    assert_fails(lt_stat_set_parse(&set, wrong, 1, &err), &err, LT_EUSAGE, "unknown statistic \"gramm\"");
}

static void settings_differ_by_name(void **state) {
    (void)state;
    static const char *const data[] = { "data", NULL };
    json_t *a = json_pack("{s:i, s:s, s:i}", "seq_len", 7, "data", "x", "rows", 2), *b = json_deep_copy(a);
    assert_null(lt_settings_differ(a, b, NULL));
    json_object_set_new(b, "data", json_string("y"));
    assert_string_equal(lt_settings_differ(a, b, NULL), "data");
    assert_null(lt_settings_differ(a, b, data));
    json_object_set_new(b, "more", json_true());
    assert_string_equal(lt_settings_differ(a, b, data), "more");
    json_decref(a);
    json_decref(b);
}

static lt_status open_again(void *user, lt_err *err) {
    lt_stats *s = NULL;
    const lt_status st = lt_stats_open(&s, user, NULL, err);
    lt_stats_close(s);
    return st;
}

static void running_out_of_memory_is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s", write_stats("good.stats", 31u));
    assert_true(test_every_allocation_fails(open_again, path) > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(every_cut_and_every_flipped_bit_is_noticed),
        cmocka_unit_test(what_does_not_hold_together_is_refused),
        cmocka_unit_test(names_of_statistics),
        cmocka_unit_test(settings_differ_by_name),
        cmocka_unit_test(running_out_of_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
