/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/args.h"

#include <stdio.h>
#include <string.h>

#include "core/suggest.h"
#include "pipeline/options.h"

/* A positional is an option row of type PATH that needs no "--". */
typedef struct entry {
    lt_option row;
    size_t min; /* of values */
    bool positional, global, given;
    lt_value *value;
    size_t n;
} entry;

struct lt_args {
    const lt_command *command;
    entry *entry;
    size_t n;
    json_t *json;
    const char *misused;
};

static void clear(lt_args *a) {
    for (size_t i = 0; i < a->n; i++) {
        for (size_t k = 0; k < a->entry[i].n; k++) lt_value_clear(&a->entry[i].value[k]);
        lt_free(a->entry[i].value);
    }
    json_decref(a->json);
    lt_free(a->entry);
}

static unsigned refusal_of(const char *global) {
    if (strcmp(global, "estimate") == 0) return LT_NO_ESTIMATE;
    return strcmp(global, "overwrite") == 0 ? LT_NO_OVERWRITE : 0;
}

static size_t count_rows(const lt_command *c) {
    size_t n = 0;
    for (const lt_positional *p = c->positionals; p && p->name; p++) n++;
    for (const lt_option *o = c->options; o && o->name; o++) n++;
    for (const lt_option *o = lt_global_options; o->name; o++) n++;
    return n;
}

static lt_status make_entries(lt_args *a, lt_err *err) {
    a->entry = lt_calloc(count_rows(a->command), sizeof *a->entry);
    if (!a->entry) return lt_fail(err, LT_ENOMEM, "options: out of memory");
    for (const lt_positional *p = a->command->positionals; p && p->name; p++)
        a->entry[a->n++] =
            (entry){ .row = { .name = p->name, .type = LT_OPT_PATH, .repeat = p->max > 1, .help = p->help },
                     .min = p->min,
                     .positional = true };
    for (const lt_option *o = a->command->options; o && o->name; o++)
        a->entry[a->n++] = (entry){ .row = *o, .min = o->dflt == lt_required };
    for (const lt_option *o = lt_global_options; o->name; o++) a->entry[a->n++] = (entry){ .row = *o, .global = true };
    return LT_OK;
}

static bool accepted(const lt_args *a, const entry *e) {
    return !(e->global && (refusal_of(e->row.name) & a->command->without));
}

static entry *find(const lt_args *a, const char *name) {
    for (size_t i = 0; i < a->n; i++)
        if (lt_name_equal(a->entry[i].row.name, name)) return &a->entry[i];
    return NULL;
}

static lt_status unknown(const lt_args *a, const char *name, lt_err *err) {
    char dashed[64], hint[96];
    snprintf(dashed, sizeof dashed, "%s", name);
    for (char *c = dashed; *c; c++)
        if (*c == '_') *c = '-';
    lt_suggestion s = { .word = dashed };
    for (size_t i = 0; i < a->n; i++)
        if (!a->entry[i].positional && accepted(a, &a->entry[i])) lt_suggest(&s, a->entry[i].row.name);
    return lt_fail(err, LT_EUSAGE, "%s: unknown option --%s%s", a->command->name, dashed,
                   lt_suggest_text(&s, "--", hint, sizeof hint));
}

static lt_status add_text(entry *e, const char *text, lt_err *err) {
    if (e->given && e->n > 0 && !e->row.repeat)
        return lt_fail(err, LT_EUSAGE, "--%s: given more than once", e->row.name);
    lt_value *grown = lt_realloc(e->value, (e->n + 1) * sizeof *grown);
    if (!grown) return lt_fail(err, LT_ENOMEM, "--%s: out of memory", e->row.name);
    e->value = grown;
    const lt_status st = lt_value_parse(&e->value[e->n], &e->row, text, err);
    if (st == LT_OK) e->n++;
    return st;
}

static lt_status add_json(entry *e, const json_t *v, lt_err *err) {
    e->given = true;
    if (json_is_string(v)) {
        if (strlen(json_string_value(v)) != json_string_length(v))
            return lt_fail(err, LT_EUSAGE, "--%s: the value holds a NUL character", e->row.name);
        return add_text(e, json_string_value(v), err);
    }
    if (json_is_boolean(v) && e->row.type == LT_OPT_FLAG) return add_text(e, json_is_true(v) ? "true" : "false", err);
    if (json_is_number(v) && e->row.type != LT_OPT_FLAG && e->row.type != LT_OPT_PATH) {
        char text[64];
        const size_t n = json_dumpb(v, text, sizeof text - 1, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        if (n == 0 || n >= sizeof text)
            return lt_fail(err, LT_EINTERNAL, "--%s: a number of %zu digits", e->row.name, n);
        text[n] = 0;
        return add_text(e, text, err);
    }
    return lt_fail(err, LT_EUSAGE, "--%s: a value of this JSON type does not fit", e->row.name);
}

static lt_status add_member(lt_args *a, const char *name, const json_t *v, lt_err *err) {
    entry *e = find(a, name);
    if (!e) return unknown(a, name, err);
    if (json_is_null(v)) return LT_OK;
    if (!accepted(a, e)) return lt_fail(err, LT_EUSAGE, "%s: --%s means nothing here", a->command->name, e->row.name);
    if (e->given) return lt_fail(err, LT_EUSAGE, "--%s: given more than once", e->row.name);
    if (!json_is_array(v)) return add_json(e, v, err);
    for (size_t i = 0; i < json_array_size(v); i++) LT_TRY(add_json(e, json_array_get(v, i), err));
    return LT_OK;
}

/* What was not given takes its default; what must be there is. */
static lt_status complete(lt_args *a, lt_err *err) {
    for (size_t i = 0; i < a->n; i++) {
        entry *e = &a->entry[i];
        if (e->n < e->min)
            return e->positional ? lt_fail(err, LT_EUSAGE, "%s: %s is missing%s", a->command->name, e->row.name,
                                           e->n ? " (more than one is needed)" : "")
                                 : lt_fail(err, LT_EUSAGE, "%s: --%s is missing", a->command->name, e->row.name);
        if (!e->given && e->row.dflt && e->row.dflt != lt_required) LT_TRY(add_text(e, e->row.dflt, err));
    }
    return LT_OK;
}

static json_t *value_json(const entry *e, const lt_value *v) {
    switch (e->row.type) {
    case LT_OPT_INT:
    case LT_OPT_BYTES:
        return json_integer(v->i);
    case LT_OPT_REAL:
        return json_real(v->d);
    case LT_OPT_FLAG:
        return json_boolean(v->flag);
    default:
        return json_string(v->text);
    }
}

static lt_status entry_json(json_t *object, const entry *e, lt_err *err) {
    json_t *v = e->row.repeat ? json_array() : value_json(e, &e->value[0]);
    for (size_t i = 0; e->row.repeat && v && i < e->n; i++)
        if (json_array_append_new(v, value_json(e, &e->value[i])) != 0) {
            json_decref(v);
            v = NULL;
        }
    if (!v || json_object_set_new(object, e->row.name, v) != 0)
        return lt_fail(err, LT_EUSAGE, "--%s: the value is not UTF-8 text", e->row.name);
    return LT_OK;
}

static lt_status make_json(lt_args *a, lt_err *err) {
    a->json = json_object();
    if (!a->json) return lt_fail(err, LT_ENOMEM, "options: out of memory");
    for (size_t i = 0; i < a->n; i++) {
        const entry *e = &a->entry[i];
        if (e->n > 0 && (!e->global || strcmp(e->row.name, "isa") == 0)) LT_TRY(entry_json(a->json, e, err));
    }
    return LT_OK;
}

lt_status lt_args_create(lt_args **out, const lt_command *command, const json_t *options, lt_err *err) {
    LT_REQUIRE(err, json_is_object(options), "%s: the options are not a JSON object", command->name);
    lt_args *a = lt_calloc(1, sizeof *a);
    if (!a) return lt_fail(err, LT_ENOMEM, "options: out of memory");
    a->command = command;
    lt_status st = make_entries(a, err);
    const char *name;
    json_t *v;
    if (st == LT_OK) {
        json_object_foreach((json_t *)options, name, v) LT_GO(add_member(a, name, v, err));
        LT_GO(complete(a, err));
        st = make_json(a, err);
    }
done:
    if (st == LT_OK)
        *out = a;
    else
        lt_args_destroy(a);
    return st;
}

lt_status lt_args_check_one(const lt_command *command, const char *name, const json_t *value, lt_err *err) {
    lt_args a = { .command = command };
    lt_status st = make_entries(&a, err);
    if (st == LT_OK) st = add_member(&a, name, value, err);
    clear(&a);
    return st;
}

void lt_args_destroy(lt_args *a) {
    if (!a) return;
    clear(a);
    lt_free(a);
}

/* The entry of a getter, a wrong name or type being remembered. The object is the verb's own: no other thread reads it.
 */
static const entry *look(const lt_args *a, const char *name, bool right_type, const entry *e) {
    if (!e || !right_type) {
        if (!a->misused) ((lt_args *)a)->misused = name;
        return NULL;
    }
    return e->n > 0 ? e : NULL;
}

static const entry *typed(const lt_args *a, const char *name, lt_opt_type type) {
    const entry *e = find(a, name);
    return look(a, name, e && e->row.type == type, e);
}

const char *lt_arg_string(const lt_args *a, const char *name) {
    const entry *e = look(a, name, true, find(a, name));
    return e ? e->value[0].text : NULL;
}

int64_t lt_arg_int(const lt_args *a, const char *name) {
    const entry *e = typed(a, name, LT_OPT_INT);
    return e ? e->value[0].i : 0;
}

double lt_arg_real(const lt_args *a, const char *name) {
    const entry *e = typed(a, name, LT_OPT_REAL);
    return e ? e->value[0].d : 0.0;
}

size_t lt_arg_bytes(const lt_args *a, const char *name) {
    const entry *e = typed(a, name, LT_OPT_BYTES);
    return e ? (size_t)e->value[0].i : 0;
}

bool lt_arg_flag(const lt_args *a, const char *name) {
    const entry *e = typed(a, name, LT_OPT_FLAG);
    return e && e->value[0].flag;
}

bool lt_arg_given(const lt_args *a, const char *name) {
    const entry *e = look(a, name, true, find(a, name));
    return e && e->given;
}

bool lt_arg_known(const lt_args *a, const char *name) {
    return find(a, name) != NULL;
}

size_t lt_arg_count(const lt_args *a, const char *name) {
    const entry *e = look(a, name, true, find(a, name));
    return e ? e->n : 0;
}

const char *lt_arg_at(const lt_args *a, const char *name, size_t i) {
    const entry *e = look(a, name, true, find(a, name));
    return e && i < e->n ? e->value[i].text : NULL;
}

const json_t *lt_args_json(const lt_args *a) {
    return a->json;
}

const char *lt_args_misused(const lt_args *a) {
    return a->misused;
}

/* ---- the call as a command line ---- */
typedef struct line {
    char *text;
    size_t used, cap;
    bool failed;
} line;

static void put(line *l, const char *text, size_t n) {
    if (l->used + n + 1 > l->cap) {
        const size_t cap = 2 * (l->used + n + 1);
        char *grown = l->failed ? NULL : lt_realloc(l->text, cap);
        if (!grown) {
            l->failed = true;
            return;
        }
        l->text = grown;
        l->cap = cap;
    }
    memcpy(l->text + l->used, text, n);
    l->used += n;
    l->text[l->used] = 0;
}

/* POSIX shell quoting: plain words as they are, others in '...' */
static void put_word(line *l, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,%+@";
    if (*word && word[strspn(word, plain)] == 0) {
        put(l, word, strlen(word));
        return;
    }
    put(l, "'", 1);
    for (const char *c = word; *c; c++) put(l, *c == '\'' ? "'\\''" : c, *c == '\'' ? 4 : 1);
    put(l, "'", 1);
}

static void put_option(line *l, const entry *e, const lt_value *v) {
    put(l, " ", 1);
    if (!e->positional) {
        put(l, "--", 2);
        if (e->row.type == LT_OPT_FLAG && !v->flag) put(l, "no-", 3);
        put(l, e->row.name, strlen(e->row.name));
        if (e->row.type == LT_OPT_FLAG) return;
        put(l, " ", 1);
    }
    put_word(l, v->text);
}

char *lt_args_command_line(const lt_args *a) {
    line l = { 0 };
    put(&l, "lathe ", 6);
    put(&l, a->command->name, strlen(a->command->name));
    for (size_t i = 0; i < a->n; i++)
        for (size_t k = 0; a->entry[i].given && k < a->entry[i].n; k++)
            put_option(&l, &a->entry[i], &a->entry[i].value[k]);
    if (l.failed) {
        lt_free(l.text);
        return NULL;
    }
    return l.text;
}
