/* SPDX-License-Identifier: Apache-2.0 */
#include "compress/ranks.h"

#include <stdio.h>
#include <string.h>

#include "compress/method.h"
#include "compress/module_weight.h"
#include "io/file.h"

enum { MAX_BYTES = 64 << 20 };

static lt_status read_record(json_t *to, const char *module, const json_t *record, const char *where, lt_err *err) {
    size_t r;
    bool factorize;
    json_t *value;
    if (!json_is_object(record))
        return lt_fail(err, LT_EDATA, "a rank is not an object with \"r\" (%s: %s)", where, module);
    LT_TRY(lt_json_need(&value, record, "r", where, err));
    LT_TRY(lt_json_size(&r, record, "r", 0, where, err));
    LT_TRY(lt_json_bool(&factorize, record, "factorize", true, where, err));
    return json_object_set_new(to, module, json_integer(factorize ? (json_int_t)r : 0)) == 0
               ? LT_OK
               : lt_fail(err, LT_ENOMEM, "out of memory (%s)", where);
}

static lt_status read_layers(json_t **out, const json_t *layers, const char *where, lt_err *err) {
    const char *module;
    json_t *record;
    json_t *to = json_object();
    lt_status st = to ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", where);
    json_object_foreach((json_t *)layers, module, record) {
        if (st == LT_OK) st = read_record(to, module, record, where, err);
    }
    if (st == LT_OK)
        *out = to;
    else
        json_decref(to);
    return st;
}

/* A flat file does not say whose ranks it holds. */
static void read_model(char *model, const json_t *file) {
    const json_t *of = json_object_get(json_object_get(file, "meta"), "model");
    const char *hash = json_string_value(json_object_get(of, "hash"));
    snprintf(model, LT_HASH_HEX, "%s", hash ? hash : "");
}

lt_status lt_ranks_parse(json_t **out, char model[LT_HASH_HEX], const char *text, size_t bytes, const char *name,
                         lt_err *err) {
    json_t *j;
    LT_TRY(lt_json_parse(&j, text, bytes, name, err));
    read_model(model, j);
    const json_t *schema = json_object_get(j, "schema"), *layers = json_object_get(j, "layers");
    const bool wrapped = json_is_integer(schema);
    lt_status st;
    if (!json_is_object(j))
        st = lt_fail(err, LT_EDATA, "not a rank file: no JSON object (%s)", name);
    else if (wrapped && json_integer_value(schema) != 2)
        st = lt_fail(err, LT_EDATA, "rank file of an unknown schema (%s: %lld)", name,
                     (long long)json_integer_value(schema));
    else if (wrapped && !json_is_object(layers))
        st = lt_fail(err, LT_EDATA, "\"layers\" must be an object (%s)", name);
    else
        st = read_layers(out, wrapped ? layers : j, name, err);
    json_decref(j);
    return st;
}

lt_status lt_ranks_load(json_t **out, char model[LT_HASH_HEX], const char *path, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(lt_file_read(&text, &bytes, path, MAX_BYTES, err));
    const lt_status st = lt_ranks_parse(out, model, text, bytes, path, err);
    lt_free(text);
    return st;
}

size_t lt_ranks_get(const json_t *ranks, const lt_module *module) {
    const char *name;
    json_t *rank;
    json_object_foreach((json_t *)ranks, name, rank) {
        if (lt_module_is(module, name)) return (size_t)json_integer_value(rank);
    }
    return 0;
}

static lt_status check_once(const json_t *ranks, const lt_module *mod, lt_err *err) {
    const char *name, *first = NULL;
    json_t *rank;
    json_object_foreach((json_t *)ranks, name, rank) {
        if (!lt_module_named(mod, name)) continue;
        if (first) return lt_fail(err, LT_EDATA, "the rank file names one module twice (%s, %s)", first, name);
        first = name;
    }
    return LT_OK;
}

lt_status lt_ranks_check(const json_t *ranks, const lt_model *m, lt_err *err) {
    const char *module;
    json_t *rank;
    lt_module mod;
    if (json_object_size(ranks) == 0) return lt_fail(err, LT_EDATA, "the rank file names no module");
    json_object_foreach((json_t *)ranks, module, rank) {
        LT_TRY(lt_find_linear(&mod, m, module, "rank file", err));
        LT_TRY(check_once(ranks, &mod, err));
    }
    return LT_OK;
}

/* ---- writing ---- */

static json_t *record_of(const json_t *cut, size_t m, size_t d, bool flat) {
    const size_t r = cut ? (size_t)json_integer_value(json_object_get(cut, "rank")) : lt_min_size(m, d);
    const double dense = (double)m * (double)d, factored = (double)r * (double)(m + d),
                 rel_error = json_number_value(json_object_get(cut, "rel_error"));
    const bool known = !cut || json_object_get(cut, "rel_error");
    json_t *o = json_pack("{s:I, s:I, s:I}", "r", (json_int_t)r, "d_out", (json_int_t)m, "d_in", (json_int_t)d);
    if (o && known) json_object_set_new(o, "energy", json_real(1.0 - rel_error));
    if (flat || !o) return o;
    json_object_set_new(o, "factorize", json_boolean(cut != NULL));
    json_object_set_new(o, "params_dense", json_integer((json_int_t)dense));
    json_object_set_new(o, "params_factored", json_integer((json_int_t)(cut ? factored : dense)));
    json_object_set_new(o, "param_ratio", json_real(cut ? factored / dense : 1.0));
    if (known) json_object_set_new(o, "rel_error", json_real(rel_error));
    return o;
}

static const json_t *cut_of(const lt_plan *p, const lt_module *mod) {
    for (size_t i = 0; i < p->n_cuts; i++)
        if (strcmp(p->cuts[i].kind->kind, "rank") == 0 && lt_module_is(mod, p->cuts[i].kind->target(&p->cuts[i])))
            return p->cuts[i].json;
    return NULL;
}

static void add_record(json_t *layers, const lt_plan *p, const lt_module *mod, bool flat) {
    const json_t *cut = cut_of(p, mod);
    if (mod->layer < 0 && !cut) return;
    json_object_set_new(layers, mod->linear->name,
                        record_of(cut, lt_linear_out(mod->linear), lt_linear_in(mod->linear), flat));
}

/* A fused matrix is there in parts when one of them is cut. */
static void add_records(json_t *layers, const lt_plan *p, const lt_module *mod, bool flat) {
    lt_module part;
    bool apart = false;
    for (size_t i = 0; lt_module_part(mod, i, &part); i++) apart |= cut_of(p, &part) != NULL;
    for (size_t i = 0; apart && lt_module_part(mod, i, &part); i++) add_record(layers, p, &part, flat);
    if (!apart) add_record(layers, p, mod, flat);
}

static json_t *meta_of(const lt_plan *p) {
    static const char *const members[] = { "model", "stats", "made_by" };
    json_t *meta = json_object();
    for (size_t i = 0; meta && i < LT_COUNTOF(members); i++)
        if (json_object_get(p->head, members[i]))
            json_object_set(meta, members[i], json_object_get(p->head, members[i]));
    return meta;
}

lt_status lt_ranks_of_plan(json_t **out, const lt_plan *p, const lt_model *m, bool flat, lt_err *err) {
    json_t *layers = json_object();
    lt_module mod;
    for (size_t i = 0; layers && lt_model_module(m, i, &mod); i++) add_records(layers, p, &mod, flat);
    *out = flat ? layers : json_pack("{s:i, s:o, s:o}", "schema", 2, "meta", meta_of(p), "layers", layers);
    return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "rank file: out of memory");
}
