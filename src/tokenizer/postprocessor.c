/* SPDX-License-Identifier: Apache-2.0 */
/* Post-processors: special tokens around the ids of one text. (Pairs of texts are not built.) */
#include "tokenizer/stage.h"

#include <string.h>

/* What goes around the text: ids, and the place of the text as a negative number. */
enum { THE_TEXT = -1 };

static lt_status keep(void **self, lt_tok_ids *ids, const char *where, lt_err *err) {
    lt_tok_ids *p = lt_malloc(sizeof *p);
    if (!p) {
        lt_tok_ids_clear(ids);
        return lt_fail(err, LT_ENOMEM, "no memory for a post-processor (%s)", where);
    }
    *p = *ids;
    *self = p;
    return LT_OK;
}

static void template_destroy(void *self) {
    lt_tok_ids *ids = self;
    if (!ids) return;
    lt_tok_ids_clear(ids);
    lt_free(ids);
}

static lt_status put_known_id(lt_tok_ids *out, const json_t *id, const lt_tok_source *in, lt_err *err) {
    if (!json_is_integer(id) || !lt_vocab_has(&in->tokenizer->vocab, json_integer_value(id), LT_VOCAB_PRESENT))
        return lt_fail(err, LT_EDATA, "post-processor with an id outside the vocabulary (%s: %lld)", in->where,
                       (long long)json_integer_value(id));
    return lt_tok_ids_put(out, (int32_t)json_integer_value(id), err);
}

/* {"SpecialToken": {"id": NAME}}: the ids that `special_tokens` lists under NAME. */
static lt_status put_special(lt_tok_ids *out, const json_t *special, const json_t *piece, const lt_tok_source *in,
                             lt_err *err) {
    const char *name = json_string_value(json_object_get(piece, "id"));
    const json_t *ids = name ? json_object_get(json_object_get(special, name), "ids") : NULL;
    if (!json_is_array(ids))
        return lt_fail(err, LT_EDATA, "template with an unknown special token (%s: %.80s)", in->where,
                       name ? name : "no id");
    for (size_t i = 0; i < json_array_size(ids); i++) LT_TRY(put_known_id(out, json_array_get(ids, i), in, err));
    return LT_OK;
}

static lt_status put_piece(lt_tok_ids *out, const json_t *special, const json_t *piece, const lt_tok_source *in,
                           lt_err *err) {
    const json_t *token = json_object_get(piece, "SpecialToken"), *sequence = json_object_get(piece, "Sequence");
    if (token) return put_special(out, special, token, in, err);
    const char *name = json_string_value(json_object_get(sequence, "id"));
    if (!name || strcmp(name, "A") != 0)
        return lt_fail(err, LT_EDATA,
                       "template piece is neither a special token nor sequence A (%s: post_processor.single)",
                       in->where);
    return lt_tok_ids_put(out, THE_TEXT, err);
}

static lt_status template_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    json_t *single = NULL;
    lt_tok_ids ids = { 0 };
    LT_TRY(lt_json_need(&single, j, "single", in->where, err));
    if (!json_is_array(single))
        return lt_fail(err, LT_EDATA, "template is not a list (%s: post_processor.single)", in->where);
    for (size_t i = 0; i < json_array_size(single); i++) {
        const lt_status st = put_piece(&ids, json_object_get(j, "special_tokens"), json_array_get(single, i), in, err);
        if (st == LT_OK) continue;
        lt_tok_ids_clear(&ids);
        return st;
    }
    return keep(self, &ids, in->where, err);
}

static lt_status template_run(const void *self, lt_tok_ids *ids, lt_err *err) {
    const lt_tok_ids *template = self;
    lt_tok_ids out = { 0 };
    lt_status st = lt_tok_ids_reserve(&out, ids->n + template->n, err);
    for (size_t i = 0; i < template->n && st == LT_OK; i++) {
        if (template->v[i] != THE_TEXT) {
            st = lt_tok_ids_put(&out, template->v[i], err);
            continue;
        }
        st = lt_tok_ids_reserve(&out, ids->n, err);
        if (st != LT_OK || ids->n == 0) continue;
        memcpy(out.v + out.n, ids->v, ids->n * sizeof *ids->v);
        out.n += ids->n;
    }
    if (st != LT_OK) {
        lt_tok_ids_clear(&out);
        return st;
    }
    lt_tok_ids_clear(ids);
    *ids = out;
    return LT_OK;
}

/* BertProcessing and RobertaProcessing: "cls" and "sep" are [token, id] */
static lt_status cls_sep_parse(void **self, const json_t *j, const lt_tok_source *in, lt_err *err) {
    lt_tok_ids ids = { 0 };
    lt_status st = put_known_id(&ids, json_array_get(json_object_get(j, "cls"), 1), in, err);
    if (st == LT_OK) st = lt_tok_ids_put(&ids, THE_TEXT, err);
    if (st == LT_OK) st = put_known_id(&ids, json_array_get(json_object_get(j, "sep"), 1), in, err);
    if (st == LT_OK) return keep(self, &ids, in->where, err);
    lt_tok_ids_clear(&ids);
    return st;
}

/* ByteLevel as a post-processor only trims offsets, which lathe does not report. */
static lt_status nothing(const void *self, lt_tok_ids *ids, lt_err *err) {
    (void)self;
    (void)ids;
    (void)err;
    return LT_OK;
}

static const lt_tok_row rows[] = {
    { .type = "BertProcessing", .parse = cls_sep_parse, .destroy = template_destroy, .process = template_run },
    { .type = "ByteLevel", .process = nothing },
    { .type = "RobertaProcessing", .parse = cls_sep_parse, .destroy = template_destroy, .process = template_run },
    { .type = "TemplateProcessing", .parse = template_parse, .destroy = template_destroy, .process = template_run },
};
const lt_tok_table lt_tok_postprocessors = { "post_processor", "processors", rows, LT_COUNTOF(rows) };
