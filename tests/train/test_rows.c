/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of documents: what is a piece, what is predicted, what is dropped. */
#include "support/support.h"

#include <unistd.h>

#include "io/file.h"
#include "train/rows.h"

enum { N = LT_NOT_A_TARGET };

/* Documents of 3, 5 and 2 ids; the second one's first three are a prompt. */
static const int32_t ids[10] = { 1, 2, 3, 4 | N, 5 | N, 6 | N, 7, 8, 9, 10 };
static const uint64_t doc[3] = { 0, 3, 8 };

static lt_train_rows cut(size_t seq_len, bool isolated) {
    lt_train_rows r;
    lt_err err = { 0 };
    assert_ok(lt_train_rows_cut(&r, ids, NULL, 10, doc, 3, seq_len, isolated, &err), &err);
    return r;
}

static void documents_do_not_predict_one_another(void **state) {
    (void)state;
    lt_train_rows r = cut(10, true);
    lt_micro m = { 0 };
    lt_err err = { 0 };
    static const int32_t want[10] = { 2, 3, -1, -1, -1, 7, 8, -1, 10, -1 };
    assert_int_equal(r.n, 1);
    assert_int_equal(r.n_targets, 5);
    assert_ok(lt_micro_fill(&m, &r, (size_t[]){ 0 }, 1, &err), &err);
    assert_int_equal(m.batch.n_pieces, 3);
    assert_memory_equal(m.target, want, sizeof want);
    for (size_t i = 0; i < 10; i++) assert_int_equal(m.ids[i], lt_plain_id(ids[i]));
    assert_int_equal(m.n_targets, 5);
    lt_micro_clear(&m);
    lt_train_rows_clear(&r);
}

static void an_open_row_is_one_piece(void **state) {
    (void)state;
    lt_train_rows r = cut(10, false);
    lt_micro m = { 0 };
    lt_err err = { 0 };
    static const int32_t want[10] = { 2, 3, -1, -1, -1, 7, 8, 9, 10, -1 };
    assert_ok(lt_micro_fill(&m, &r, (size_t[]){ 0 }, 1, &err), &err);
    assert_int_equal(m.batch.n_pieces, 1);
    assert_memory_equal(m.target, want, sizeof want);
    assert_int_equal(r.n_targets, 6);
    lt_micro_clear(&m);
    lt_train_rows_clear(&r);
}

/* Every target is in one row, whatever the length; rows without any are counted and left out. */
static void rows_hold_what_they_count(void **state) {
    (void)state;
    for (size_t len = 2; len <= 11; len++) {
        for (int isolated = 0; isolated < 2; isolated++) {
            lt_train_rows r = cut(len, isolated);
            uint64_t sum = 0;
            for (size_t i = 0; i < r.n; i++) {
                lt_micro m = { 0 };
                lt_err err = { 0 };
                size_t n = 0, covered = 0;
                assert_ok(lt_micro_fill(&m, &r, &i, 1, &err), &err);
                for (size_t k = 0; k < m.batch.n_rows; k++) n += m.target[k] >= 0;
                for (size_t k = 0; k < m.batch.n_pieces; k++) covered += m.piece[k].n;
                assert_true(n > 0);
                assert_int_equal(n, r.targets[i]);
                assert_int_equal(covered, r.length[i]);
                sum += n;
                lt_micro_clear(&m);
            }
            assert_int_equal(sum, r.n_targets);
            assert_int_equal(r.n + r.n_dropped, (10 + len - 1) / len);
            lt_train_rows_clear(&r);
        }
    }
}

static void an_epoch_is_a_permutation_of_its_own(void **state) {
    (void)state;
    enum { ROWS = 257 };
    size_t a[ROWS], b[ROWS], again[ROWS];
    bool seen[ROWS] = { 0 };
    lt_train_rows_order(a, ROWS, 42, 0, true);
    lt_train_rows_order(b, ROWS, 42, 1, true);
    lt_train_rows_order(again, ROWS, 42, 0, true);
    assert_memory_equal(a, again, sizeof a);
    assert_memory_not_equal(a, b, sizeof a);
    for (size_t i = 0; i < ROWS; i++) {
        assert_true(a[i] < ROWS && !seen[a[i]]);
        seen[a[i]] = true;
    }
    lt_train_rows_order(a, ROWS, 42, 0, false);
    for (size_t i = 0; i < ROWS; i++) assert_int_equal(a[i], i);
}

static void a_given_row_without_a_target_is_named(void **state) {
    (void)state;
    static const uint64_t start[] = { 0, 3, 6, 8, 10 }; /* the second row is all prompt */
    lt_train_rows r;
    lt_err err = { 0 };
    assert_fails(lt_train_rows_given(&r, ids, NULL, start, 4, &err), &err, LT_EDATA, "row 1 of 3 tokens");
    assert_fails(lt_train_rows_cut(&r, ids, NULL, 10, doc, 3, 1, true, &err), &err, LT_EUSAGE, "rows of 1 tokens");
}

/* Looking at all of them, and taking rows from everywhere, does not make a file of ids resident. */
static void ids_in_a_file_are_not_kept_in_memory(void **state) {
    (void)state;
    enum { IDS = 16 << 20, LENGTH = 4096, SLACK = 16 << 20 };
    const char *path = test_path("many.ids");
    const uint64_t start[] = { 0 };
    lt_err err = { 0 };
    lt_buffer map;
    lt_train_rows r;
    lt_micro m = { 0 };
    test_write_file(path, "", 0);
    assert_int_equal(truncate(path, IDS * (long)sizeof *ids), 0);
    assert_ok(lt_map_open(&map, path, &err), &err);
    const size_t before = lt_current_rss_bytes();
    assert_ok(lt_train_rows_cut(&r, map.data, &map, IDS, start, 1, LENGTH, true, &err), &err);
    assert_true(lt_current_rss_bytes() < before + SLACK);
    for (size_t i = 0; i < r.n; i++) assert_ok(lt_micro_fill(&m, &r, &i, 1, &err), &err);
    assert_true(lt_current_rss_bytes() < before + SLACK);
    assert_int_equal(r.n, IDS / LENGTH);
    lt_micro_clear(&m);
    lt_train_rows_clear(&r);
    lt_map_close(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_do_not_predict_one_another),
        cmocka_unit_test(an_open_row_is_one_piece),
        cmocka_unit_test(rows_hold_what_they_count),
        cmocka_unit_test(an_epoch_is_a_permutation_of_its_own),
        cmocka_unit_test(a_given_row_without_a_target_is_named),
        cmocka_unit_test(ids_in_a_file_are_not_kept_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
