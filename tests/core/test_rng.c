/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <math.h>
#include <string.h>

#include "core/core.h"
#include "core/hash.h"

/* Random123 1.09, kat_vectors: philox4x32 10 rounds */
static void philox_gives_the_published_vectors(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } known[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { ~0u, ~0u, ~0u, ~0u }, { ~0u, ~0u }, { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (size_t i = 0; i < LT_COUNTOF(known); i++) {
        lt_rng r = { .used = 4 };
        memcpy(r.key, known[i].key, sizeof r.key);
        memcpy(r.counter, known[i].counter, sizeof r.counter);
        for (size_t k = 0; k < 4; k++) assert_int_equal(lt_rng_u32(&r), known[i].want[k]);
    }
}

static void streams_are_named_by_what_not_when(void **state) {
    (void)state;
    lt_rng a = lt_rng_at(5, LT_RNG_DATA, 2, 3), b = lt_rng_at(5, LT_RNG_DATA, 2, 3);
    lt_rng others[] = { lt_rng_at(6, LT_RNG_DATA, 2, 3), lt_rng_at(5, LT_RNG_INIT, 2, 3),
                        lt_rng_at(5, LT_RNG_DATA, 1, 3), lt_rng_at(5, LT_RNG_DATA, 2, 4),
                        lt_rng_at(5 + (1ull << 32), LT_RNG_DATA, 2, 3) };
    const uint32_t first = lt_rng_u32(&a);
    assert_int_equal(lt_rng_u32(&b), first);
    for (size_t i = 0; i < LT_COUNTOF(others); i++) assert_int_not_equal(lt_rng_u32(&others[i]), first);
}

/* Bounds: five standard errors of 2^18 draws. */
static void draws_have_the_moments_of_their_law(void **state) {
    (void)state;
    enum { N = 1 << 18 };
    lt_rng r = test_rng(0);
    double sum = 0, sum2 = 0, nsum = 0, nsum2 = 0, nsum4 = 0;
    for (int i = 0; i < N; i++) {
        const double u = lt_rng_uniform(&r), z = lt_rng_normal(&r);
        assert_true(u >= 0 && u < 1 && isfinite(z));
        sum += u, sum2 += u * u;
        nsum += z, nsum2 += z * z, nsum4 += z * z * z * z;
    }
    const double se = 5 / sqrt(N);
    assert_true(fabs(sum / N - 0.5) < se * sqrt(1 / 12.0) && fabs(sum2 / N - 1 / 3.0) < se * sqrt(4 / 45.0));
    assert_true(fabs(nsum / N) < se && fabs(nsum2 / N - 1) < se * sqrt(2) && fabs(nsum4 / N - 3) < se * sqrt(96));
}

static void below_is_even_over_its_range(void **state) {
    (void)state;
    enum { N = 70000 };
    lt_rng r = test_rng(1);
    size_t count[7] = { 0 };
    for (int i = 0; i < N; i++) {
        const uint64_t v = lt_rng_below(&r, 7);
        assert_true(v < 7);
        count[v]++;
    }
    for (int i = 0; i < 7; i++) assert_in_range(count[i], 10000 - 500, 10000 + 500);
    assert_int_equal(lt_rng_below(&r, 1), 0);
    assert_true(lt_rng_below(&r, UINT64_MAX) < UINT64_MAX);
}

/* FIPS 180-4 examples */
static void sha256_gives_the_published_digests(void **state) {
    (void)state;
    char hex[LT_HASH_HEX], again[LT_HASH_HEX];
    lt_hash_bytes("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    lt_hash_bytes("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    lt_hash *h = lt_hash_create();
    lt_hash_update(h, "a", 1);
    lt_hash_update(h, "bc", 2);
    lt_hash_finish(h, again);
    assert_string_equal(again, hex);
    test_write_file(test_path("abc"), "abc", 3);
    lt_err err = { 0 };
    memset(again, 0, sizeof again);
    assert_ok(lt_hash_file(test_path("abc"), again, &err), &err);
    assert_string_equal(again, hex);
    assert_fails(lt_hash_file(test_path("no"), again, &err), &err, LT_EIO, "no: No such file");
    assert_fails(lt_hash_file(test_dir(), again, &err), &err, LT_EIO, "Is a directory");
    lt_alloc_fail_after(0);
    assert_null(lt_hash_create());
    assert_fails(lt_hash_file(test_path("abc"), again, &err), &err, LT_ENOMEM, "abc");
    lt_alloc_fail_after(SIZE_MAX);
}

static void filling_is_drawing_one_by_one(void **state) {
    (void)state;
    for (size_t skip = 0; skip < 5; skip++)
        for (size_t n = 0; n < 14; n++) {
            lt_rng a = lt_rng_at(7, 1, 2, 3), b = a;
            uint32_t got[14];
            for (size_t i = 0; i < skip; i++) assert_int_equal(lt_rng_u32(&a), lt_rng_u32(&b));
            lt_rng_fill(&a, got, n);
            for (size_t i = 0; i < n; i++) assert_int_equal(got[i], lt_rng_u32(&b));
            assert_int_equal(lt_rng_u32(&a), lt_rng_u32(&b));
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filling_is_drawing_one_by_one),      cmocka_unit_test(philox_gives_the_published_vectors),
        cmocka_unit_test(streams_are_named_by_what_not_when), cmocka_unit_test(draws_have_the_moments_of_their_law),
        cmocka_unit_test(below_is_even_over_its_range),       cmocka_unit_test(sha256_gives_the_published_digests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
