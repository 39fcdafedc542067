/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/stage.h"

#include <string.h>

static const lt_tok_row *row_of(const lt_tok_table *table, const char *type) {
    for (size_t i = 0; i < table->n; i++)
        if (strcmp(table->row[i].type, type) == 0) return &table->row[i];
    return NULL;
}

static lt_status unknown_type(const lt_tok_table *table, const char *type, const char *where, lt_err *err) {
    char known[512] = "Sequence";
    size_t len = strlen(known);
    for (size_t i = 0; i < table->n; i++) {
        const size_t more = strlen(table->row[i].type);
        if (len + more + 3 > sizeof known) break;
        memcpy(known + len, ", ", 2);
        memcpy(known + len + 2, table->row[i].type, more + 1);
        len += more + 2;
    }
    return lt_fail(err, LT_EUNSUPPORTED, "unknown type of %s, known are %s (%s: %.80s)", table->stage, known, where,
                   type);
}

static lt_status put_part(lt_tok_stage *s, lt_tok_part part, lt_err *err) {
    if (s->n == s->cap) {
        const size_t cap = s->cap ? s->cap * 2 : 4;
        lt_tok_part *p = lt_realloc(s->part, cap * sizeof *p);
        if (!p) return lt_fail(err, LT_ENOMEM, "tokenizer: no memory for %zu stages", cap);
        s->part = p;
        s->cap = cap;
    }
    s->part[s->n++] = part;
    return LT_OK;
}

static lt_status parse_members(lt_tok_stage *s, const lt_tok_table *table, const json_t *j, const lt_tok_source *in,
                               lt_err *err) {
    json_t *list = NULL;
    LT_TRY(lt_json_need(&list, j, table->members, in->where, err));
    if (!json_is_array(list))
        return lt_fail(err, LT_EDATA, "not a list (%s: %s.%s)", in->where, table->stage, table->members);
    for (size_t i = 0; i < json_array_size(list); i++)
        LT_TRY(lt_tok_stage_parse(s, table, json_array_get(list, i), in, err));
    return LT_OK;
}

lt_status lt_tok_stage_parse(lt_tok_stage *s, const lt_tok_table *table, const json_t *j, const lt_tok_source *in,
                             lt_err *err) {
    const char *type = NULL;
    if (!j || json_is_null(j)) return LT_OK;
    if (!json_is_object(j)) return lt_fail(err, LT_EDATA, "not an object (%s: %s)", in->where, table->stage);
    LT_TRY(lt_json_string(&type, j, "type", NULL, in->where, err));
    if (!type) return lt_fail(err, LT_EDATA, "no type (%s: %s)", in->where, table->stage);
    if (strcmp(type, "Sequence") == 0) return parse_members(s, table, j, in, err);
    lt_tok_part part = { row_of(table, type), NULL };
    if (!part.row) return unknown_type(table, type, in->where, err);
    LT_TRY(put_part(s, part, err));
    return part.row->parse ? part.row->parse(&s->part[s->n - 1].self, j, in, err) : LT_OK;
}

void lt_tok_stage_clear(lt_tok_stage *s) {
    for (size_t i = 0; i < s->n; i++) {
        if (s->part[i].row->destroy)
            s->part[i].row->destroy(s->part[i].self);
        else
            lt_free(s->part[i].self);
    }
    lt_free(s->part);
    *s = (lt_tok_stage){ 0 };
}
