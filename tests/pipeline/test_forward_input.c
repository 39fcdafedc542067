/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/forward_input.h"

#include <string.h>

#include "support/support.h"

/* One tensor of a made-up input file; rank 0 ends a list. */
typedef struct given {
    const char *name;
    lt_dtype dtype;
    int rank;
    size_t size[2];
    const void *data;
} given;

static lt_status load(lt_forward_input *in, const given *g, size_t vocab, size_t max_tokens, lt_err *err) {
    const char *path = test_path("input.safetensors");
    lt_st_writer *w;
    lt_safetensors *file;
    assert_ok(lt_st_writer_create(&w, path, NULL), NULL);
    for (const given *t = g; t->rank; t++)
        assert_ok(lt_st_writer_declare(w, t->name, t->dtype, t->rank, t->size, NULL), NULL);
    assert_ok(lt_st_writer_begin(w, NULL), NULL);
    for (const given *t = g; t->rank; t++) {
        const size_t count = t->size[0] * (t->rank == 2 ? t->size[1] : 1);
        assert_ok(lt_st_writer_bytes(w, t->data, count * lt_dtype_get(t->dtype)->bytes, NULL), NULL);
    }
    assert_ok(lt_st_writer_commit(w, NULL), NULL);
    assert_ok(lt_safetensors_open(&file, path, NULL), NULL);
    const lt_status st = lt_forward_input_load(in, file, vocab, max_tokens, err);
    lt_safetensors_close(file);
    return st;
}

static const int64_t ids[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
static const int32_t ids32[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

static void rows_become_pieces_from_position_0(void **state) {
    lt_forward_input in;
    (void)state;
    const given g[] = { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { 0 } };
    assert_ok(load(&in, g, 100, 2048, NULL), NULL);
    assert_int_equal(in.n_rows, 8);
    assert_int_equal(in.n_pieces, 2);
    assert_int_equal(in.n_batches, 1);
    assert_int_equal(in.piece[1].row, 4);
    assert_int_equal(in.piece[1].pos0, 0);
    assert_int_equal(in.n_targets, 6);
    assert_int_equal(in.target[0], 2);
    assert_int_equal(in.target[3], -1);
    lt_forward_input_clear(&in);
}

static void batches_hold_whole_pieces(void **state) {
    lt_forward_input in;
    (void)state;
    const given g[] = { { "input_ids", LT_I32, 2, { 4, 2 }, ids32 }, { 0 } };
    assert_ok(load(&in, g, 100, 5, NULL), NULL);
    assert_int_equal(in.n_batches, 2);
    assert_int_equal(in.batch[1].n_rows, 4);
    assert_int_equal(in.batch[1].n_pieces, 2);
    assert_int_equal(in.batch[1].piece[0].row, 0);
    assert_int_equal(in.batch_row[1], 4);
    assert_int_equal(in.batch[1].ids[0], 5);
    lt_forward_input_clear(&in);
    assert_ok(load(&in, g, 100, 1, NULL), NULL); /* a piece is never cut */
    assert_int_equal(in.n_batches, 4);
    lt_forward_input_clear(&in);
}

static void padding_at_either_end_is_taken_out(void **state) {
    static const uint8_t mask[8] = { 0, 0, 1, 1, 1, 1, 1, 0 };
    static const int64_t positions[8] = { 1, 1, 0, 1, 0, 1, 2, 1 };
    lt_forward_input in;
    (void)state;
    for (int with = 0; with < 2; with++) {
        const given g[] = { { "input_ids", LT_I64, 2, { 2, 4 }, ids },
                            { "attention_mask", LT_U8, 2, { 2, 4 }, mask },
                            { "position_ids", LT_I64, with ? 2 : 0, { 2, 4 }, positions }, /* rank 0: not there */
                            { 0 } };
        assert_ok(load(&in, g, 100, 2048, NULL), NULL);
        assert_int_equal(in.n_rows, 5);
        assert_int_equal(in.n_pieces, 2);
        assert_int_equal(in.place[0], 2);
        assert_int_equal(in.ids[0], 3);
        assert_int_equal(in.place[2], 4);
        assert_int_equal(in.piece[1].n, 3);
        assert_int_equal(in.piece[0].pos0, 0);
        assert_int_equal(in.n_targets, 3);
        lt_forward_input_clear(&in);
    }
}

static void documents_of_a_packed_row_are_pieces(void **state) {
    static const int64_t positions[8] = { 0, 1, 2, 0, 1, 2, 3, 4 };
    static const int32_t borders[3] = { 0, 3, 8 };
    lt_forward_input in;
    (void)state;
    for (int how = 0; how < 3; how++) {
        const given by_position[] = { { "input_ids", LT_I64, 2, { 1, 8 }, ids },
                                      { "position_ids", LT_I64, 2, { 1, 8 }, positions },
                                      { 0 } };
        const given by_border[] = { { "input_ids", LT_I64, 2, { 1, 8 }, ids },
                                    { "cu_seqlens", LT_I32, 1, { 3, 1 }, borders },
                                    { 0 } };
        const given by_both[] = { { "input_ids", LT_I64, 2, { 1, 8 }, ids },
                                  { "cu_seqlens", LT_I32, 1, { 3, 1 }, borders },
                                  { "position_ids", LT_I64, 2, { 1, 8 }, positions },
                                  { 0 } };
        assert_ok(load(&in, how == 0 ? by_position : how == 1 ? by_border : by_both, 100, 2048, NULL), NULL);
        assert_int_equal(in.n_pieces, 2);
        assert_int_equal(in.piece[1].row, 3);
        assert_int_equal(in.piece[1].n, 5);
        assert_int_equal(in.target[2], -1);
        lt_forward_input_clear(&in);
    }
}

static void one_row_of_positions_serves_all(void **state) {
    static const int64_t positions[4] = { 5, 6, 7, 8 };
    lt_forward_input in;
    (void)state;
    const given g[] = { { "input_ids", LT_I64, 2, { 2, 4 }, ids },
                        { "position_ids", LT_I64, 2, { 1, 4 }, positions },
                        { 0 } };
    assert_ok(load(&in, g, 100, 2048, NULL), NULL);
    assert_int_equal(in.n_pieces, 2);
    assert_int_equal(in.piece[0].pos0, 5);
    assert_int_equal(in.piece[1].pos0, 5);
    lt_forward_input_clear(&in);
}

static void wrong_inputs_are_refused_by_name_and_place(void **state) {
    static const float reals[8] = { 0 };
    static const int64_t negative[8] = { 1, -2, 3, 4, 5, 6, 7, 8 }, hole[8] = { 1, 0, 1, 1, 1, 1, 1, 1 },
                         jump[8] = { 0, 1, 5, 6, 0, 1, 2, 3 };
    static const int64_t zeros[8] = { 0 }, borders_low[3] = { 1, 4, 8 }, borders_fall[3] = { 0, 6, 4 },
                         borders_short[3] = { 0, 4, 7 }, borders_long[3] = { 0, 4, 9 }, borders_cross[3] = { 0, 5, 8 },
                         borders_ok[3] = { 0, 4, 8 };
    const struct {
        given g[3];
        lt_status code;
        const char *says;
    } cases[] = {
        { { { "other", LT_I64, 2, { 2, 4 }, ids } }, LT_EDATA, "input_ids" },
        { { { "input_ids", LT_I64, 1, { 8, 1 }, ids } }, LT_EDATA, "input_ids" },
        { { { "input_ids", LT_F32, 2, { 2, 4 }, reals } }, LT_EDATA, "not a matrix of ids" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, negative } }, LT_EDATA, "input_ids[0, 1]: -2" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { "attention_mask", LT_I64, 2, { 4, 2 }, ids } },
          LT_EDATA,
          "shape differs" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { "attention_mask", LT_F32, 2, { 2, 4 }, reals } },
          LT_EDATA,
          "not integers" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { "attention_mask", LT_I64, 2, { 2, 4 }, hole } },
          LT_EUNSUPPORTED,
          "attention_mask[0, 1]" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { "attention_mask", LT_I64, 2, { 2, 4 }, zeros } },
          LT_EDATA,
          "nothing but padding" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { "position_ids", LT_I64, 2, { 2, 4 }, negative } },
          LT_EDATA,
          "position_ids[0, 1]: -2" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { "cu_seqlens", LT_I64, 1, { 3, 1 }, borders_low } },
          LT_EDATA,
          "cu_seqlens[0]: 1" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { "cu_seqlens", LT_I64, 1, { 3, 1 }, borders_fall } },
          LT_EDATA,
          "cu_seqlens[2]: 4" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { "cu_seqlens", LT_I64, 1, { 3, 1 }, borders_short } },
          LT_EDATA,
          "last border" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { "cu_seqlens", LT_I64, 1, { 3, 1 }, borders_long } },
          LT_EDATA,
          "cu_seqlens[2]: 9" },
        { { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { "cu_seqlens", LT_I64, 1, { 3, 1 }, borders_cross } },
          LT_EDATA,
          "crosses rows" },
    };
    (void)state;
    for (size_t i = 0; i < LT_COUNTOF(cases); i++) {
        lt_err err = { 0 };
        lt_forward_input in;
        assert_fails(load(&in, (const given[]){ cases[i].g[0], cases[i].g[1], { 0 } }, 9, 2048, &err), &err,
                     cases[i].code, cases[i].says);
    }
    lt_err err = { 0 };
    lt_forward_input in;
    const given small_vocab[] = { { "input_ids", LT_I64, 2, { 2, 4 }, ids }, { 0 } };
    assert_fails(load(&in, small_vocab, 8, 2048, &err), &err, LT_EDATA, "vocabulary of 8");
    const given both[] = { { "input_ids", LT_I64, 2, { 2, 4 }, ids },
                           { "cu_seqlens", LT_I64, 1, { 3, 1 }, borders_ok },
                           { "attention_mask", LT_I64, 2, { 2, 4 }, ids },
                           { 0 } };
    assert_fails(load(&in, both, 9, 2048, &err), &err, LT_EDATA, "exclude each other");
    const given jumping[] = { { "input_ids", LT_I64, 2, { 2, 4 }, ids },
                              { "cu_seqlens", LT_I64, 1, { 3, 1 }, borders_ok },
                              { "position_ids", LT_I64, 2, { 2, 4 }, jump },
                              { 0 } };
    assert_fails(load(&in, jumping, 9, 2048, &err), &err, LT_EDATA, "positions jump inside a document");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_become_pieces_from_position_0),
        cmocka_unit_test(batches_hold_whole_pieces),
        cmocka_unit_test(padding_at_either_end_is_taken_out),
        cmocka_unit_test(documents_of_a_packed_row_are_pieces),
        cmocka_unit_test(one_row_of_positions_serves_all),
        cmocka_unit_test(wrong_inputs_are_refused_by_name_and_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
