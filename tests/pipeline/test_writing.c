/* SPDX-License-Identifier: Apache-2.0 */
/* Stop strings end a text where they begin, wherever tokens are cut; what has been settled never changes. */
#include "support/support.h"

#include <stdlib.h>
#include <string.h>

#include "pipeline/writing.h"

static lt_tokenizer *tiny(void) {
    lt_tokenizer *t = NULL;
    lt_err err = { 0 };
    assert_ok(lt_tokenizer_open(&t, LT_TESTS_DIR "/../share/models/tiny-llama", &err), &err);
    return t;
}

static const char story[] =
    "The game began at noon. \xC3\xA9t\xC3\xA9 came; the players, 22 of them, came too.\n\nNo one "
    "had seen \xE2\x82\xAC"
    "5 so far away: the game is lost.";

/* Feeds the story token by token until it stops; gives the text. */
static void write_story(lt_writing *w, const lt_tokenizer *tok, const lt_stops *stops) {
    lt_err err = { 0 };
    int32_t *ids;
    size_t n, settled = 0;
    char *before = calloc(1, sizeof story);
    assert_ok(lt_tokenizer_encode(tok, story, sizeof story - 1, false, &ids, &n, &err), &err);
    assert_ok(lt_writing_begin(w, tok, stops, NULL, 0, &err), &err);
    for (size_t i = 0; i < n && !w->stopped; i++) {
        assert_ok(lt_writing_put(w, ids[i], &err), &err);
        assert_true(w->settled >= settled && w->settled <= w->bytes);
        if (settled > 0) assert_memory_equal(w->text, before, settled);
        settled = w->settled;
        if (settled > 0) memcpy(before, w->text, settled);
    }
    lt_writing_end(w);
    assert_int_equal(w->settled, w->bytes);
    lt_free(ids);
    free(before);
}

static void without_stops_the_text_is_that_of_the_tokens(void **state) {
    (void)state;
    lt_tokenizer *tok = tiny();
    const lt_stops none = { 0 };
    lt_writing w;
    write_story(&w, tok, &none);
    assert_string_equal(w.text, story);
    assert_false(w.stopped);
    lt_writing_clear(&w);
    lt_tokenizer_destroy(tok);
}

/* Every piece of 1 to 12 bytes, cut at characters, beside another stop string that half matches. */
static void every_piece_of_a_text_can_stop_it(void **state) {
    (void)state;
    lt_tokenizer *tok = tiny();
    for (size_t at = 0; at + 1 < sizeof story; at++)
        for (size_t n = 1; n <= 12 && at + n < sizeof story; n += 1 + at % 3) {
            char stop[16] = { 0 };
            memcpy(stop, story + at, n);
            if (((unsigned char)story[at] & 0xC0) == 0x80 || ((unsigned char)story[at + n] & 0xC0) == 0x80) continue;
            const char *const text[] = { "came to the party", stop, "zzz" };
            const lt_stops stops = { text, 3 };
            lt_writing w;
            write_story(&w, tok, &stops);
            const size_t want = (size_t)(strstr(story, stop) - story);
            assert_true(w.stopped);
            assert_int_equal(w.bytes, want);
            if (want > 0) assert_memory_equal(w.text, story, want);
            lt_writing_clear(&w);
        }
    lt_tokenizer_destroy(tok);
}

static void what_may_begin_a_stop_string_waits(void **state) {
    (void)state;
    lt_tokenizer *tok = tiny();
    const char *const text[] = { "lost.!" };
    const lt_stops stops = { text, 1 };
    lt_writing w;
    lt_err err = { 0 };
    int32_t *ids;
    size_t n;
    assert_ok(lt_tokenizer_encode(tok, story, sizeof story - 1, false, &ids, &n, &err), &err);
    assert_ok(lt_writing_begin(&w, tok, &stops, NULL, 0, &err), &err);
    for (size_t i = 0; i < n; i++) assert_ok(lt_writing_put(&w, ids[i], &err), &err);
    assert_int_equal(w.settled, w.bytes - 5);
    lt_writing_end(&w);
    assert_string_equal(w.text, story);
    lt_free(ids);
    lt_writing_clear(&w);
    lt_tokenizer_destroy(tok);
}

static void ids_that_no_token_has_are_kept_without_text(void **state) {
    (void)state;
    lt_tokenizer *tok = tiny();
    const lt_stops none = { 0 };
    lt_writing w;
    lt_err err = { 0 };
    assert_ok(lt_writing_begin(&w, tok, &none, NULL, 0, &err), &err);
    assert_ok(lt_writing_put(&w, 1 << 20, &err), &err);
    assert_true(w.n_ids == 1 && w.bytes == 0);
    lt_writing_clear(&w);
    lt_tokenizer_destroy(tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_stops_the_text_is_that_of_the_tokens),
        cmocka_unit_test(every_piece_of_a_text_can_stop_it),
        cmocka_unit_test(what_may_begin_a_stop_string_waits),
        cmocka_unit_test(ids_that_no_token_has_are_kept_without_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
