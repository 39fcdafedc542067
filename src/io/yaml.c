/* SPDX-License-Identifier: Apache-2.0 */
#include "io/yaml.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include "io/file.h"

enum { MAX_DEPTH = 64, MAX_NODES = 1000000, MAX_BYTES = 16 << 20 };

typedef struct reading {
    yaml_document_t *doc;
    const char *name;
    size_t nodes;
    json_t *lines;  /* NULL: not wanted */
    char path[512]; /* of the node at hand */
} reading;

static lt_status no_memory(const reading *r, lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "out of memory (%s)", r->name);
}

static lt_status wrong(const reading *r, const yaml_node_t *n, const char *what, lt_err *err) {
    return lt_fail(err, LT_EDATA, "%s (%s: line %zu)", what, r->name, (size_t)n->start_mark.line + 1);
}

/* [-+]?digits with at most one '.', then an exponent: what JSON would call a number, with a leading + or bare dot. */
static bool is_number(const char *s, bool *whole) {
    size_t digits = 0;
    *whole = true;
    if (*s == '+' || *s == '-') s++;
    for (; isdigit((unsigned char)*s) || (*s == '.' && *whole); s++)
        if (*s == '.')
            *whole = false;
        else
            digits++;
    if (digits == 0) return false;
    if (*s != 'e' && *s != 'E') return *s == 0;
    *whole = false;
    s++;
    if (*s == '+' || *s == '-') s++;
    if (!isdigit((unsigned char)*s)) return false;
    while (isdigit((unsigned char)*s)) s++;
    return *s == 0;
}

/* Through jansson, which reads numbers in the C locale: "+.5" becomes "0.5", "007" becomes "7", "5." becomes "5.0". */
static json_t *number(const char *s) {
    char text[128];
    size_t n = 0;
    if (strlen(s) > 100) return NULL;
    if (*s == '-') text[n++] = '-';
    if (*s == '+' || *s == '-') s++;
    while (*s == '0' && isdigit((unsigned char)s[1])) s++;
    if (*s == '.') text[n++] = '0';
    for (; *s; s++) {
        text[n++] = *s;
        if (*s == '.' && !isdigit((unsigned char)s[1])) text[n++] = '0';
    }
    return json_loadb(text, n, JSON_DECODE_ANY, NULL);
}

static bool is_word(const char *s, const char *a, const char *b, const char *c) {
    return strcmp(s, a) == 0 || strcmp(s, b) == 0 || strcmp(s, c) == 0;
}

static json_t *scalar(const yaml_node_t *n) {
    const char *s = (const char *)n->data.scalar.value;
    const size_t bytes = n->data.scalar.length;
    bool whole;
    json_t *j = NULL;
    if (n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strlen(s) == bytes) {
        if (bytes == 0 || strcmp(s, "~") == 0 || is_word(s, "null", "Null", "NULL")) return json_null();
        if (is_word(s, "true", "True", "TRUE")) return json_true();
        if (is_word(s, "false", "False", "FALSE")) return json_false();
        if (is_number(s, &whole)) j = number(s);
    }
    return j ? j : json_stringn(s, bytes);
}

static lt_status convert(json_t **out, reading *r, int index, int depth, lt_err *err);

/* Goes down to a member or item and notes the line where it begins; the end of the path before, for leave(). */
static size_t enter(reading *r, const char *key, const yaml_node_t *at) {
    const size_t n = strlen(r->path);
    if (!r->lines) return n;
    const int added = snprintf(r->path + n, sizeof r->path - n, "/%s", key);
    if (at && added > 0 && (size_t)added < sizeof r->path - n)
        json_object_set_new(r->lines, r->path, json_integer((json_int_t)at->start_mark.line + 1));
    return n;
}

static void leave(reading *r, size_t n) {
    r->path[n] = 0;
}

static lt_status convert_list(json_t **out, reading *r, const yaml_node_t *n, int depth, lt_err *err) {
    json_t *list = json_array();
    lt_status st = list ? LT_OK : no_memory(r, err);
    for (yaml_node_item_t *i = n->data.sequence.items.start; st == LT_OK && i < n->data.sequence.items.top; i++) {
        json_t *item = NULL;
        char key[24];
        snprintf(key, sizeof key, "%zu", (size_t)(i - n->data.sequence.items.start));
        const size_t before = enter(r, key, yaml_document_get_node(r->doc, *i));
        st = convert(&item, r, *i, depth + 1, err);
        leave(r, before);
        if (st == LT_OK && json_array_append_new(list, item) != 0) st = no_memory(r, err);
    }
    if (st == LT_OK)
        *out = list;
    else
        json_decref(list);
    return st;
}

static lt_status convert_pair(json_t *o, reading *r, const yaml_node_pair_t *p, int depth, lt_err *err) {
    const yaml_node_t *key = yaml_document_get_node(r->doc, p->key);
    json_t *value = NULL;
    if (!key || key->type != YAML_SCALAR_NODE)
        return wrong(r, key ? key : yaml_document_get_root_node(r->doc), "a key is not text", err);
    const char *name = (const char *)key->data.scalar.value;
    const size_t n = key->data.scalar.length;
    if (json_object_getn(o, name, n)) return wrong(r, key, "a key is there twice", err);
    const size_t before = enter(r, name, key);
    LT_TRY(convert(&value, r, p->value, depth + 1, err));
    leave(r, before);
    return json_object_setn_new(o, name, n, value) == 0 ? LT_OK : wrong(r, key, "a key is not UTF-8 text", err);
}

static lt_status convert_map(json_t **out, reading *r, const yaml_node_t *n, int depth, lt_err *err) {
    json_t *o = json_object();
    lt_status st = o ? LT_OK : no_memory(r, err);
    for (yaml_node_pair_t *p = n->data.mapping.pairs.start; st == LT_OK && p < n->data.mapping.pairs.top; p++)
        st = convert_pair(o, r, p, depth, err);
    if (st == LT_OK)
        *out = o;
    else
        json_decref(o);
    return st;
}

static bool has_own_tag(const yaml_node_t *n) {
    return n->tag && strncmp((const char *)n->tag, "tag:yaml.org,2002:", 18) != 0;
}

static lt_status convert(json_t **out, reading *r, int index, int depth, lt_err *err) {
    const yaml_node_t *n = yaml_document_get_node(r->doc, index);
    if (!n) return lt_fail(err, LT_EDATA, "a node is missing (%s)", r->name);
    if (depth > MAX_DEPTH) return wrong(r, n, "nested too deeply", err);
    if (++r->nodes > MAX_NODES) return wrong(r, n, "too many nodes, aliases counted", err);
    if (has_own_tag(n)) return wrong(r, n, "tags are not supported", err);
    if (n->type == YAML_SEQUENCE_NODE) return convert_list(out, r, n, depth, err);
    if (n->type == YAML_MAPPING_NODE) return convert_map(out, r, n, depth, err);
    *out = scalar(n);
    return *out ? LT_OK : wrong(r, n, "not UTF-8 text", err);
}

static lt_status fail_parse(const yaml_parser_t *p, const char *name, lt_err *err) {
    if (p->error == YAML_MEMORY_ERROR) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", name);
    return lt_fail(err, LT_EDATA, "not valid YAML: %s (%s: line %zu)", p->problem ? p->problem : "?", name,
                   (size_t)p->problem_mark.line + 1);
}

static lt_status end_of_stream(yaml_parser_t *p, const char *name, lt_err *err) {
    yaml_document_t next;
    if (!yaml_parser_load(p, &next)) return fail_parse(p, name, err);
    const bool more = yaml_document_get_root_node(&next) != NULL;
    yaml_document_delete(&next);
    return more ? lt_fail(err, LT_EDATA, "more than one document (%s)", name) : LT_OK;
}

static lt_status parse(json_t **out, json_t *lines, const char *text, size_t bytes, const char *name, lt_err *err) {
    yaml_parser_t p;
    yaml_document_t doc;
    json_t *j = NULL;
    if (bytes > MAX_BYTES) return lt_fail(err, LT_EDATA, "%zu bytes of YAML are too many (%s)", bytes, name);
    if (!yaml_parser_initialize(&p)) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", name);
    yaml_parser_set_input_string(&p, (const unsigned char *)text, bytes);
    if (!yaml_parser_load(&p, &doc)) {
        const lt_status st = fail_parse(&p, name, err);
        yaml_parser_delete(&p);
        return st;
    }
    reading r = { .doc = &doc, .name = name, .lines = lines };
    lt_status st = yaml_document_get_root_node(&doc) ? convert(&j, &r, 1, 0, err)
                                                     : lt_fail(err, LT_EDATA, "holds nothing (%s)", name);
    if (st == LT_OK) st = end_of_stream(&p, name, err);
    yaml_document_delete(&doc);
    yaml_parser_delete(&p);
    if (st == LT_OK)
        *out = j;
    else
        json_decref(j);
    return st;
}

lt_status lt_yaml_parse(json_t **out, const char *text, size_t bytes, const char *name, lt_err *err) {
    return parse(out, NULL, text, bytes, name, err);
}

lt_status lt_yaml_parse_lines(json_t **out, json_t **lines, const char *text, size_t bytes, const char *name,
                              lt_err *err) {
    json_t *all = json_object();
    const lt_status st =
        all ? parse(out, all, text, bytes, name, err) : lt_fail(err, LT_ENOMEM, "out of memory (%s)", name);
    if (st == LT_OK)
        *lines = all;
    else
        json_decref(all);
    return st;
}

lt_status lt_yaml_load_lines(json_t **out, json_t **lines, const char *path, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(lt_file_read(&text, &bytes, path, MAX_BYTES, err));
    const lt_status st = lt_yaml_parse_lines(out, lines, text, bytes, path, err);
    lt_free(text);
    return st;
}
