/* SPDX-License-Identifier: Apache-2.0 */
/* Frequencies against the formulas of transformers' modeling_rope_utils, written down a second time in its own order of
 * operations. */
#include "model_test.h"

static lt_rope_config base(size_t dim, double theta) {
    return (lt_rope_config){ .kind = LT_ROPE_DEFAULT, .theta = theta, .dim = dim };
}

static lt_rope_config llama3(double theta, size_t dim, double factor, double high, double original) {
    return (lt_rope_config){ .kind = LT_ROPE_LLAMA3,
                             .theta = theta,
                             .dim = dim,
                             .factor = factor,
                             .low_freq_factor = 1.0,
                             .high_freq_factor = high,
                             .original_max_positions = original };
}

/* transformers' _compute_yarn_parameters, in its order */
static void reference_yarn(double *out, const lt_rope_config *r) {
    const double pi = 3.14159265358979323846;
    double low = (double)r->dim * log(r->original_max_positions / (r->beta_fast * 2.0 * pi)) / (2.0 * log(r->theta));
    double high = (double)r->dim * log(r->original_max_positions / (r->beta_slow * 2.0 * pi)) / (2.0 * log(r->theta));
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    if (low < 0.0) low = 0.0;
    if (high > (double)r->dim - 1.0) high = (double)r->dim - 1.0;
    if (low == high) high += 0.001;
    for (size_t i = 0; i < r->dim / 2; i++) {
        double ramp = ((double)i - low) / (high - low);
        ramp = ramp < 0.0 ? 0.0 : ramp > 1.0 ? 1.0 : ramp;
        const double pos = pow(r->theta, 2.0 * (double)i / (double)r->dim);
        out[i] = 1.0 / (r->factor * pos) * ramp + 1.0 / pos * (1.0 - ramp);
    }
}

static void reference_llama3(double *out, const lt_rope_config *r) {
    const double pi = 3.14159265358979323846, low = r->original_max_positions / r->low_freq_factor,
                 high = r->original_max_positions / r->high_freq_factor;
    for (size_t i = 0; i < r->dim / 2; i++) {
        const double inv = 1.0 / pow(r->theta, 2.0 * (double)i / (double)r->dim), wave = 2.0 * pi / inv;
        double y = wave > low ? inv / r->factor : inv;
        const double smooth =
            (r->original_max_positions / wave - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
        if (!(wave < high) && !(wave > low)) y = (1.0 - smooth) * y / r->factor + smooth * y;
        out[i] = y;
    }
}

static void default_and_linear_follow_the_power_law(void **state) {
    (void)state;
    double f[8];
    lt_rope_config r = base(16, 10000.0);
    lt_rope_frequencies(f, &r);
    for (size_t i = 0; i < 8; i++)
        assert_close_f64(&f[i], &(double){ exp(-log(10000.0) * 2.0 * (double)i / 16.0) }, 1, 0.0, 1e-14);
    r.kind = LT_ROPE_LINEAR;
    r.factor = 4.0;
    lt_rope_frequencies(f, &r);
    assert_close_f64(&f[3], &(double){ exp(-log(10000.0) * 6.0 / 16.0) / 4.0 }, 1, 0.0, 1e-14);
}

static void llama3_follows_the_reference(void **state) {
    (void)state;
    const lt_rope_config cases[] = { llama3(500000.0, 128, 8.0, 4.0, 8192.0), llama3(500000.0, 64, 32.0, 4.0, 8192.0),
                                     llama3(10000.0, 12, 8.0, 4.0, 64.0) };
    for (size_t c = 0; c < LT_COUNTOF(cases); c++) {
        double got[64], want[64];
        lt_rope_frequencies(got, &cases[c]);
        reference_llama3(want, &cases[c]);
        assert_close_f64(got, want, cases[c].dim / 2, 0.0, 1e-13);
    }
}

static void yarn_follows_the_reference(void **state) {
    (void)state;
    static const struct {
        double theta, factor, original, fast, slow;
        size_t dim;
        bool truncate;
    } cases[] = { { 10000.0, 8.0, 64.0, 4.0, 1.0, 12, true },
                  { 500000.0, 4.0, 8192.0, 32.0, 1.0, 128, true },
                  { 10000.0, 40.0, 4096.0, 32.0, 1.0, 64, false },
                  { 10000.0, 2.0, 7.0, 32.0, 1.0, 8, true } };
    for (size_t c = 0; c < LT_COUNTOF(cases); c++) {
        double got[64], want[64];
        const lt_rope_config r = { .kind = LT_ROPE_YARN,
                                   .theta = cases[c].theta,
                                   .dim = cases[c].dim,
                                   .factor = cases[c].factor,
                                   .original_max_positions = cases[c].original,
                                   .beta_fast = cases[c].fast,
                                   .beta_slow = cases[c].slow,
                                   .truncate = cases[c].truncate };
        lt_rope_frequencies(got, &r);
        reference_yarn(want, &r);
        assert_close_f64(got, want, r.dim / 2, 0.0, 1e-13);
    }
}

/* What a GGUF stores of llama3 scaling is enough to get the parameters back. */
static void llama3_parameters_are_found_from_divisors(void **state) {
    (void)state;
    const lt_rope_config cases[] = { llama3(500000.0, 128, 8.0, 4.0, 8192.0), llama3(500000.0, 64, 32.0, 4.0, 8192.0),
                                     llama3(10000.0, 64, 4.0, 3.0, 100.0) };
    for (size_t c = 0; c < LT_COUNTOF(cases); c++) {
        double plain[64], scaled[64], again[64];
        float factor[64];
        lt_rope_config r = base(cases[c].dim, cases[c].theta);
        lt_rope_frequencies(plain, &r);
        lt_rope_frequencies(scaled, &cases[c]);
        for (size_t i = 0; i < r.dim / 2; i++) factor[i] = (float)(plain[i] / scaled[i]);
        assert_true(lt_rope_fit_llama3(&r, factor, r.dim / 2));
        assert_int_equal(r.kind, LT_ROPE_LLAMA3);
        assert_true(r.factor == cases[c].factor && r.original_max_positions == cases[c].original_max_positions);
        assert_true(r.high_freq_factor == cases[c].high_freq_factor);
        lt_rope_frequencies(again, &r);
        assert_close_f64(again, scaled, r.dim / 2, 0.0, 1e-9);
        factor[r.dim / 4] *= 1.5f;
        r = base(cases[c].dim, cases[c].theta);
        assert_false(lt_rope_fit_llama3(&r, factor, r.dim / 2));
        assert_int_equal(r.kind, LT_ROPE_DEFAULT);
    }
    const float ones[4] = { 1.0f, 1.0f, 1.0f, 1.0f };
    lt_rope_config r = base(8, 10000.0);
    assert_true(lt_rope_fit_llama3(&r, ones, 4));
    assert_int_equal(r.kind, LT_ROPE_DEFAULT);
}

static lt_status read_text(lt_rope_config *r, const char *text, lt_err *err) {
    json_t *j;
    LT_TRY(lt_json_parse(&j, text, strlen(text), "config.json", err));
    *r = base(16, 0.0);
    const lt_status st = lt_rope_read(r, j, "rope_theta", 10000.0, "config.json", err);
    json_decref(j);
    return st;
}

static void both_spellings_say_the_same(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"rope_theta\": 5e5, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": "
        "1.0, \"high_freq_factor\": 4, "
        "\"original_max_position_embeddings\": 8192}}",
        "{\"rope_theta\": 500000, \"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
        "\"high_freq_factor\": 4, "
        "\"original_max_position_embeddings\": 8192}}",
        "{\"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": \"llama3\", \"factor\": 8.0, "
        "\"low_freq_factor\": 1.0, "
        "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}",
    };
    for (size_t i = 0; i < LT_COUNTOF(texts); i++) {
        lt_err err = { 0 };
        lt_rope_config r;
        assert_ok(read_text(&r, texts[i], &err), &err);
        assert_int_equal(r.kind, LT_ROPE_LLAMA3);
        assert_true(r.theta == 500000.0 && r.factor == 8.0 && r.low_freq_factor == 1.0 && r.high_freq_factor == 4.0 &&
                    r.original_max_positions == 8192.0 && r.dim == 16);
    }
    static const char *const plain[] = { "{}", "{\"rope_scaling\": null, \"rope_theta\": 10000.0}",
                                         "{\"rope_parameters\": {\"rope_type\": \"default\"}}",
                                         "{\"rope_scaling\": {\"rope_type\": \"default\"}}" };
    for (size_t i = 0; i < LT_COUNTOF(plain); i++) {
        lt_err err = { 0 };
        lt_rope_config r;
        assert_ok(read_text(&r, plain[i], &err), &err);
        assert_true(r.kind == LT_ROPE_DEFAULT && r.theta == 10000.0);
    }
}

static void bad_parameters_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *text;
        lt_status code;
        const char *word;
    } cases[] = {
        { "{\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 4}}", LT_EUNSUPPORTED,
          "rope_scaling.rope_type" },
        { "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}", LT_EDATA, "original_max_position" },
        { "{\"rope_theta\": 1, \"max_position_embeddings\": 64, \"rope_scaling\": {\"rope_type\": \"yarn\", "
          "\"factor\": "
          "4}}",
          LT_EDATA, "rope_theta" },
        { "{\"max_position_embeddings\": 64, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, "
          "\"beta_fast\": 0.5}}",
          LT_EDATA, "beta_fast" },
        { "{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4}}", LT_EUNSUPPORTED, "dynamic" },
        { "{\"rope_parameters\": {\"rope_type\": \"longrope\"}}", LT_EUNSUPPORTED, "rope_parameters.rope_type" },
        { "{\"rope_scaling\": {\"rope_type\": \"linear\"}}", LT_EDATA, "factor" },
        { "{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 0}}", LT_EDATA, "factor" },
        { "{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": \"2\"}}", LT_EDATA, "factor" },
        { "{\"rope_scaling\": {\"rope_type\": 3}}", LT_EDATA, "rope_type" },
        { "{\"rope_scaling\": 4}", LT_EDATA, "rope_scaling" },
        { "{\"rope_theta\": -1}", LT_EDATA, "rope_theta" },
        { "{\"rope_theta\": 1e4, \"rope_parameters\": {\"rope_theta\": 1e5}}", LT_EDATA, "rope_theta" },
        { "{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2}, \"rope_parameters\": {\"rope_type\": "
          "\"default\"}}",
          LT_EDATA, "differ" },
        { "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": "
          "1, "
          "\"original_max_position_embeddings\": 64}}",
          LT_EDATA, "high_freq_factor" },
        { "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": "
          "4}}",
          LT_EDATA, "original_max_position_embeddings" },
    };
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_err err = { 0 };
        lt_rope_config r;
        assert_fails(read_text(&r, cases[i].text, &err), &err, cases[i].code, cases[i].word);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_and_linear_follow_the_power_law),
        cmocka_unit_test(llama3_follows_the_reference),
        cmocka_unit_test(yarn_follows_the_reference),
        cmocka_unit_test(llama3_parameters_are_found_from_divisors),
        cmocka_unit_test(both_spellings_say_the_same),
        cmocka_unit_test(bad_parameters_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
