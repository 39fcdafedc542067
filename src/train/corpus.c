/* SPDX-License-Identifier: Apache-2.0 */
#include "train/corpus.h"

#include <ctype.h>
#include <string.h>

#include "calib/text_stream.h"
#include "io/file.h"
#include "train/corpus_row.h"

enum { CHUNK = 1 << 20 };

typedef struct making {
    const lt_corpus_in *in;
    const char *file;
    lt_corpus_note note;
    lt_writer *ids, *docs;
    lt_ids doc; /* the one being made */
    /* text that is read but not used */
    lt_text_stream *stream;
    char *buf;
    size_t used, cap, line, text_bytes;
    bool ended;
} making;

/* ---- documents go out ---- */

static lt_status put_start(making *k, lt_err *err) {
    const uint64_t start = k->note.n_ids;
    return lt_writer_write(k->docs, &start, sizeof start, err);
}

/* What the document has so far. */
static lt_status put_ids(making *k, lt_err *err) {
    for (size_t i = 0; i < k->doc.n; i++) {
        const int32_t id = lt_plain_id(k->doc.id[i]);
        if (id < 0 || (size_t)id >= k->in->vocab_size)
            return lt_fail(err, LT_EDATA, "id is outside the model's vocabulary of %zu (%s: %d)", k->in->vocab_size,
                           k->file, id);
    }
    LT_TRY(lt_writer_write(k->ids, k->doc.id, k->doc.n * sizeof *k->doc.id, err));
    k->note.n_ids += k->doc.n;
    k->doc.n = 0;
    return LT_OK;
}

static lt_status put_doc(making *k, lt_err *err) {
    if (k->doc.n == 0) {
        k->note.n_empty++;
        return LT_OK;
    }
    LT_TRY(put_start(k, err));
    k->note.n_docs++;
    return put_ids(k, err);
}

/* ---- text comes in ---- */

static lt_status read_more(making *k, lt_err *err) {
    size_t n;
    if (k->cap - k->used < CHUNK) {
        char *more = lt_realloc(k->buf, k->cap + 2 * CHUNK);
        if (!more) return lt_fail(err, LT_ENOMEM, "no memory for %zu bytes of text (%s)", k->cap + 2 * CHUNK, k->file);
        k->buf = more;
        k->cap += 2 * CHUNK;
    }
    LT_TRY(lt_text_stream_read(k->stream, k->buf + k->used, k->cap - k->used, &n, err));
    k->used += n;
    k->text_bytes += n;
    k->ended = n == 0;
    return lt_progress(k->in->ctx, err, "tokenise", (double)k->text_bytes, 0, "bytes");
}

static void forget(making *k, size_t n) {
    memmove(k->buf, k->buf + n, k->used - n);
    k->used -= n;
}

/* Length of the text up to its last line end, or all of it at the end of the file. 0: more is needed. */
static size_t whole_lines(const making *k) {
    const char *last = k->used ? memrchr(k->buf, '\n', k->used) : NULL;
    return k->ended ? k->used : last ? (size_t)(last - k->buf) + 1 : 0;
}

/* A text file is one document; it is tokenised by some megabytes, cut at line ends. */
static lt_status text_file(making *k, lt_err *err) {
    bool first = true;
    while (!k->ended || k->used > 0) {
        while (!k->ended && k->used < CHUNK) LT_TRY(read_more(k, err));
        const size_t n = whole_lines(k);
        if (n == 0 && !k->ended) {
            LT_TRY(read_more(k, err));
            continue;
        }
        if (n == 0) break;
        const lt_status st = lt_corpus_text(&k->doc, k->in, k->buf, n, first, err);
        if (st != LT_OK) return lt_context(err, st, "%s", k->file);
        forget(k, n);
        if (first && k->doc.n > 0) {
            LT_TRY(put_start(k, err));
            k->note.n_docs++;
            first = false;
        }
        if (k->ended && k->used == 0) LT_TRY(lt_corpus_end(&k->doc, k->in, err));
        LT_TRY(put_ids(k, err));
    }
    return LT_OK;
}

static bool is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isspace((unsigned char)s[i])) return false;
    return true;
}

static lt_status row_line(making *k, const char *line, size_t n, lt_err *err) {
    json_t *row = NULL;
    k->line++;
    if (is_blank(line, n)) return LT_OK;
    lt_status st = lt_json_parse(&row, line, n, k->file, err);
    if (st == LT_OK) st = lt_corpus_row(&k->doc, k->in, row, k->file, err);
    json_decref(row);
    if (st == LT_OK) st = put_doc(k, err);
    return st == LT_OK ? LT_OK : lt_context(err, st, "line %zu", k->line);
}

static lt_status row_file(making *k, lt_err *err) {
    while (!k->ended || k->used > 0) {
        const size_t n = whole_lines(k);
        if (n == 0 && k->ended) break;
        for (size_t at = 0; at < n;) {
            const char *end = memchr(k->buf + at, '\n', n - at);
            const size_t length = end ? (size_t)(end - k->buf) - at : n - at;
            LT_TRY(row_line(k, k->buf + at, length, err));
            at += length + 1;
        }
        forget(k, lt_min_size(n, k->used));
        if (!k->ended) LT_TRY(read_more(k, err));
    }
    return LT_OK;
}

/* JSON lines by name, or when the first line is an object. */
static bool looks_like_rows(const making *k) {
    if (strstr(lt_path_name(k->file), ".jsonl")) return true;
    size_t at = 0;
    while (at < k->used && isspace((unsigned char)k->buf[at])) at++;
    const char *end = at < k->used ? memchr(k->buf + at, '\n', k->used - at) : NULL;
    if (at == k->used || k->buf[at] != '{') return false;
    json_t *row = NULL;
    const size_t n = end ? (size_t)(end - k->buf) - at : k->used - at;
    const bool object = lt_json_parse(&row, k->buf + at, n, k->file, NULL) == LT_OK && json_is_object(row);
    json_decref(row);
    return object;
}

static lt_status one_file(making *k, const char *file, lt_err *err) {
    k->file = file;
    k->used = k->line = 0;
    k->ended = false;
    LT_REQUIRE(err, k->in->tok, "a tokenizer is needed for text (%s)", file);
    LT_TRY(lt_text_stream_open(&k->stream, file, err));
    lt_status st = LT_OK;
    while (st == LT_OK && !k->ended && k->used < CHUNK) st = read_more(k, err);
    if (st == LT_OK) st = looks_like_rows(k) ? row_file(k, err) : text_file(k, err);
    lt_text_stream_close(k->stream);
    return st;
}

/* ---- token files ---- */

static lt_status token_file(making *k, const char *file, lt_err *err) {
    const lt_tokens_opts o = { .recipe = "plain", .seq_len = 1 };
    lt_tokens t = { 0 };
    k->file = file;
    LT_TRY(lt_tokens_from_data(&t, file, k->in->tok, k->in->vocab_size, &o, err));
    lt_status st = LT_OK;
    for (size_t i = 0; st == LT_OK && i < t.n_rows; i++) {
        st = lt_ids_add(&k->doc, t.ids + t.row_start[i], t.row_start[i + 1] - t.row_start[i], err);
        if (st == LT_OK) st = put_doc(k, err);
    }
    k->note.given = true;
    lt_tokens_clear(&t);
    return st;
}

/* ---- all ---- */

static lt_status all_files(making *k, lt_err *err) {
    for (size_t i = 0; i < k->in->n; i++) {
        const char *file = k->in->files[i];
        const bool tokens = lt_is_token_file(file);
        LT_REQUIRE(err, !tokens || k->in->n == 1, "a token file stands alone: rows of its own (%s)", file);
        LT_TRY(tokens ? token_file(k, file, err) : one_file(k, file, err));
    }
    k->note.isolated = true;
    if (k->note.n_docs == 0)
        return lt_fail(err, LT_EDATA, "no text in it: %zu empty rows (%s)", k->note.n_empty, k->in->files[0]);
    return put_start(k, err);
}

lt_status lt_corpus_make(lt_corpus_note *out, const lt_corpus_in *in, lt_err *err) {
    making k = { .in = in };
    LT_TRY(lt_writer_create(&k.ids, in->ids_path, err));
    lt_status st = lt_writer_create(&k.docs, in->docs_path, err);
    if (st != LT_OK) return lt_writer_abort(k.ids), st;
    st = all_files(&k, err);
    lt_free(k.doc.id);
    lt_free(k.buf);
    if (st != LT_OK) {
        lt_writer_abort(k.ids);
        lt_writer_abort(k.docs);
        return st;
    }
    st = lt_writer_commit(k.ids, err);
    if (st == LT_OK)
        st = lt_writer_commit(k.docs, err);
    else
        lt_writer_abort(k.docs);
    *out = k.note;
    return st;
}

lt_status lt_corpus_open(lt_corpus *out, const char *ids_path, const char *docs_path, const lt_corpus_note *note,
                         lt_err *err) {
    lt_corpus c = { .note = *note };
    LT_TRY(lt_map_open(&c.ids_map, ids_path, err));
    lt_status st = lt_map_open(&c.docs_map, docs_path, err);
    if (st == LT_OK &&
        (c.ids_map.bytes != note->n_ids * sizeof *c.ids || c.docs_map.bytes != (note->n_docs + 1) * sizeof *c.doc))
        st =
            lt_fail(err, LT_EDATA, "files of ids are not as they were made: remove the unfinished work (%s)", ids_path);
    c.ids = c.ids_map.data;
    c.doc = c.docs_map.data;
    if (st == LT_OK)
        *out = c;
    else
        lt_corpus_close(&c);
    return st;
}

void lt_corpus_close(lt_corpus *c) {
    lt_map_close(&c->ids_map);
    lt_map_close(&c->docs_map);
    *c = (lt_corpus){ 0 };
}

lt_status lt_corpus_rows(lt_train_rows *out, const lt_corpus *c, size_t seq_len, bool isolated, lt_err *err) {
    if (!c->note.given)
        return lt_train_rows_cut(out, c->ids, &c->ids_map, c->note.n_ids, c->doc, c->note.n_docs, seq_len, isolated,
                                 err);
    for (size_t i = 0; i < c->note.n_docs; i++)
        if (c->doc[i + 1] - c->doc[i] > seq_len)
            return lt_fail(err, LT_EDATA, "row %zu of the token file has %zu tokens, the longest window is %zu", i,
                           (size_t)(c->doc[i + 1] - c->doc[i]), seq_len);
    return lt_train_rows_given(out, c->ids, &c->ids_map, c->doc, c->note.n_docs, err);
}
