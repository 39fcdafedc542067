/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/recipe.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/suggest.h"
#include "io/file.h"
#include "io/yaml.h"
#include "pipeline/call_args.h"

enum { MAX_JOBS = 100000 };

typedef struct parser {
    lt_recipe *r;
    const lt_recipe_opts *o;
    json_t *set, *matrix, *steps; /* borrowed; set and matrix may be NULL */
    const json_t *combo;          /* {axis: value} of the combination at hand */
    char *place;                  /* [PLACE] what is looked at: a path as in io/yaml.h */
    lt_err *err;
} parser;
enum { PLACE = 512 };

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "recipe: out of memory");
}

__attribute__((format(printf, 2, 3))) static void look_at(const parser *p, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(p->place, PLACE, format, args);
    va_end(args);
}

/* "recipe.yaml: line 12: step plan"; the line where the place has one. */
static void name_place(const parser *p, const char *step, char *text, size_t cap) {
    const json_t *line = json_object_get(p->o->lines, p->place);
    char number[32] = "";
    if (line) snprintf(number, sizeof number, ": line %lld", (long long)json_integer_value(line));
    snprintf(text, cap, "%s%s%s%s", p->r->name, number, step ? ": step " : "", step ? step : "");
}

static lt_status wrong(const parser *p, const char *step, const char *what, const char *value) {
    char where[400];
    name_place(p, step, where, sizeof where);
    return lt_fail(p->err, LT_EDATA, "%s (%s%s%s)", what, where, value ? ": " : "", value ? value : "");
}

/* A name that is not one of those that s was shown. */
static lt_status unknown(const parser *p, const char *step, const char *what, const lt_suggestion *s) {
    char text[200], hint[96];
    snprintf(text, sizeof text, "%s%s", what, lt_suggest_text(s, "", hint, sizeof hint));
    return wrong(p, step, text, s->word);
}

/* A mapping has members of these names only. */
static lt_status check_members(const parser *p, const char *step, const json_t *mapping, const char *const *known,
                               const char *what) {
    char at[PLACE];
    const char *key;
    json_t *v;
    snprintf(at, sizeof at, "%s", p->place);
    json_object_foreach((json_t *)mapping, key, v) {
        lt_suggestion s = { .word = key };
        bool found = false;
        for (size_t i = 0; known[i]; i++) {
            found |= strcmp(key, known[i]) == 0;
            lt_suggest(&s, known[i]);
        }
        look_at(p, "%s/%s", at, key);
        if (!found) return unknown(p, step, what, &s);
    }
    look_at(p, "%s", at);
    return LT_OK;
}

/* ---- --set ---- */

/* The member that a part of a path names; of a list of steps the one of that name. *index: where in the list. */
static json_t *member(json_t *at, const char *key, size_t n, size_t *index) {
    if (!json_is_array(at)) return json_object_getn(at, key, n);
    for (*index = 0; *index < json_array_size(at); ++*index) {
        json_t *item = json_array_get(at, *index);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && strlen(name) == n && strncmp(name, key, n) == 0) return item;
    }
    return NULL;
}

static lt_status no_member(const parser *p, json_t *at, const char *text, const char *key, const char *end) {
    char word[80], hint[96];
    const char *name;
    json_t *v;
    size_t i;
    snprintf(word, sizeof word, "%.*s", (int)lt_min_size((size_t)(end - key), 60), key);
    lt_suggestion s = { .word = word };
    json_object_foreach(at, name, v) lt_suggest(&s, name);
    json_array_foreach(at, i, v) {
        name = json_string_value(json_object_get(v, "name"));
        if (name) lt_suggest(&s, name);
    }
    return lt_fail(p->err, LT_EUSAGE, "--set: the recipe has no %.*s%s (%s)", (int)(end - text), text,
                   lt_suggest_text(&s, "", hint, sizeof hint), p->r->name);
}

/* Goes down into the member key of *at. */
static lt_status descend(const parser *p, json_t **at, const char *text, const char *key, const char *end) {
    const size_t n = (size_t)(end - key), used = strlen(p->place);
    size_t index = 0;
    json_t *below = member(*at, key, n, &index);
    if (!below) return no_member(p, *at, text, key, end);
    if (json_is_array(*at))
        snprintf(p->place + used, PLACE - used, "/%zu", index);
    else
        snprintf(p->place + used, PLACE - used, "/%.*s", (int)n, key);
    *at = below;
    return LT_OK;
}

/* What was said on the command line stands on no line of the file. */
static void forget_lines(const parser *p) {
    const size_t n = strlen(p->place);
    const char *path;
    json_t *line;
    void *next;
    json_object_foreach_safe(p->o->lines, next, path,
                             line) if (strncmp(path, p->place, n) == 0 && (path[n] == 0 || path[n] == '/'))
        json_object_del(p->o->lines, path);
}

/* Options may be added to a step; a variable or axis that is not there already would change nothing. */
static lt_status apply_set(const parser *p, const char *text) {
    const char *eq = strchr(text, '='), *key = text;
    json_t *at = p->r->root, *value;
    char name[96];
    LT_REQUIRE(p->err, eq && eq > text, "--set: \"%.80s\" is not a.b=value", text);
    look_at(p, "%s", "");
    for (const char *dot; (dot = memchr(key, '.', (size_t)(eq - key))); key = dot + 1)
        LT_TRY(descend(p, &at, text, key, dot));
    LT_REQUIRE(p->err, json_is_object(at), "--set: %.*s is in no mapping of the recipe (%s)", (int)(eq - text), text,
               p->r->name);
    const bool fixed = at == json_object_get(p->r->root, "set") || at == json_object_get(p->r->root, "matrix");
    if (fixed && !json_object_getn(at, key, (size_t)(eq - key))) return no_member(p, at, text, key, eq);
    snprintf(name, sizeof name, "--set %.*s", (int)lt_min_size((size_t)(eq - text), 80), text);
    LT_TRY(lt_yaml_parse(&value, eq[1] ? eq + 1 : "''", eq[1] ? strlen(eq + 1) : 2, name, p->err));
    const size_t used = strlen(p->place);
    snprintf(p->place + used, PLACE - used, "/%.*s", (int)(eq - key), key);
    forget_lines(p);
    return json_object_setn_new(at, key, (size_t)(eq - key), value) == 0 ? LT_OK : no_memory(p->err);
}

/* ---- shape ---- */

static bool is_name(const char *s) {
    static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return s && *s && s[strspn(s, ok)] == 0;
}

static bool is_scalar(const json_t *j) {
    return json_is_string(j) || json_is_number(j) || json_is_boolean(j);
}

static lt_status check_axis(const parser *p, const char *key, const json_t *values) {
    if (!is_name(key) || !json_is_array(values) || json_array_size(values) == 0)
        return wrong(p, NULL, "an axis of the matrix is a name with a list of values", key);
    if (json_object_get(p->set, key)) return wrong(p, NULL, "name is a variable and an axis", key);
    for (size_t i = 0; i < json_array_size(values); i++) {
        const json_t *v = json_array_get(values, i);
        look_at(p, "/matrix/%s/%zu", key, i);
        if (!is_scalar(v)) return wrong(p, NULL, "value of an axis is no text or number", key);
        for (size_t k = 0; k < i; k++)
            if (json_equal(v, json_array_get(values, k))) return wrong(p, NULL, "value of an axis is there twice", key);
    }
    return LT_OK;
}

static lt_status check_variables(const parser *p) {
    const char *key;
    json_t *v;
    json_object_foreach(p->set, key, v) {
        look_at(p, "/set/%s", key);
        if (!is_name(key) || json_is_object(v))
            return wrong(p, NULL, "a variable is a name with a value or a list", key);
    }
    json_object_foreach(p->matrix, key, v) {
        look_at(p, "/matrix/%s", key);
        LT_TRY(check_axis(p, key, v));
    }
    return LT_OK;
}

static lt_status check_step(const parser *p, size_t index) {
    static const char *const known[] = { "name", "verb", "with", NULL };
    json_t *s = json_array_get(p->steps, index), *with = json_object_get(s, "with");
    const char *name = json_string_value(json_object_get(s, "name"));
    size_t first;
    look_at(p, "/steps/%zu", index);
    if (!json_is_object(s)) return wrong(p, NULL, "a step is a mapping with name, verb and with", NULL);
    LT_TRY(check_members(p, name, s, known, "unknown member: options of the verb stand under \"with\""));
    if (!is_name(name)) return wrong(p, NULL, "a step needs a name of letters, digits, _ and -", name);
    if (member(p->steps, name, strlen(name), &first) != s) return wrong(p, name, "name is there twice", NULL);
    if (json_object_get(p->set, name) || json_object_get(p->matrix, name))
        return wrong(p, name, "name is a step and a variable", NULL);
    if (!json_is_string(json_object_get(s, "verb"))) return wrong(p, name, "verb is missing", NULL);
    look_at(p, "/steps/%zu/with", index);
    return !with || json_is_object(with) ? LT_OK : wrong(p, name, "with is no mapping of options", NULL);
}

static lt_status check_root(parser *p) {
    static const char *const known[] = { "set", "matrix", "steps", "output", "title", NULL };
    json_t *root = p->r->root;
    look_at(p, "%s", "");
    if (!json_is_object(root)) return wrong(p, NULL, "recipe is no mapping", NULL);
    LT_TRY(check_members(p, NULL, root, known, "unknown member: a recipe has set, matrix, steps, output and title"));
    p->set = json_object_get(root, "set");
    p->matrix = json_object_get(root, "matrix");
    p->steps = json_object_get(root, "steps");
    look_at(p, "/set");
    if (p->set && !json_is_object(p->set)) return wrong(p, NULL, "set is no mapping", NULL);
    look_at(p, "/matrix");
    if (p->matrix && !json_is_object(p->matrix)) return wrong(p, NULL, "matrix is no mapping", NULL);
    if (p->matrix && json_object_size(p->matrix) == 0) return wrong(p, NULL, "matrix has no axis", NULL);
    look_at(p, "/steps");
    if (!json_is_array(p->steps) || json_array_size(p->steps) == 0)
        return wrong(p, NULL, "steps is no list of steps", NULL);
    LT_TRY(check_variables(p));
    for (size_t i = 0; i < json_array_size(p->steps); i++) LT_TRY(check_step(p, i));
    return LT_OK;
}

/* ---- names in texts ---- */

/* The job of an earlier step in this combination; NULL: none. */
static lt_job *job_of(const parser *p, const char *step, size_t n) {
    for (size_t i = 0; i < p->r->n; i++) {
        lt_job *j = &p->r->job[i];
        const char *axis;
        json_t *v;
        bool same = strlen(j->step) == n && strncmp(j->step, step, n) == 0;
        json_object_foreach(j->axes, axis, v) same = same && json_equal(v, json_object_get(p->combo, axis));
        if (same) return j;
    }
    return NULL;
}

static lt_status need(const parser *p, lt_job *j, const lt_job *other) {
    const size_t index = (size_t)(other - p->r->job);
    for (size_t i = 0; i < j->n_needs; i++)
        if (j->needs[i] == index) return LT_OK;
    size_t *grown = lt_realloc(j->needs, (j->n_needs + 1) * sizeof *grown);
    if (!grown) return no_memory(p->err);
    j->needs = grown;
    j->needs[j->n_needs++] = index;
    return json_object_update(j->axes, other->axes) == 0 ? LT_OK : no_memory(p->err);
}

static lt_status no_name(const parser *p, const lt_job *j, const char *name, size_t n) {
    char word[80];
    const char *key;
    json_t *v;
    snprintf(word, sizeof word, "%.*s", (int)lt_min_size(n, 60), name);
    lt_suggestion s = { .word = word };
    json_object_foreach(p->set, key, v) lt_suggest(&s, key);
    json_object_foreach(p->matrix, key, v) lt_suggest(&s, key);
    for (size_t i = 0; i < p->r->n; i++) lt_suggest(&s, p->r->job[i].step);
    return unknown(p, j->step, "no variable, axis or earlier step has the name of a ${...}", &s);
}

/* What ${name} stands for; new reference. */
static lt_status look_up(json_t **out, const parser *p, lt_job *j, const char *name, size_t n) {
    char word[80];
    const json_t *axis = json_object_getn(p->combo, name, n);
    json_t *set = json_object_getn(p->set, name, n);
    const lt_job *other = job_of(p, name, n);
    snprintf(word, sizeof word, "${%.*s}", (int)lt_min_size(n, 60), name);
    if (axis) {
        *out = json_deep_copy(axis);
        if (*out && json_object_setn(j->axes, name, n, *out) != 0) return no_memory(p->err);
    } else if (set) {
        *out = json_deep_copy(set);
    } else if (other) {
        if (!other->output) return wrong(p, j->step, "the step that is named makes no output", word);
        LT_TRY(need(p, j, other));
        *out = json_string(other->output);
    } else {
        return no_name(p, j, name, n);
    }
    return *out ? LT_OK : no_memory(p->err);
}

static void put_value(FILE *f, const json_t *v) {
    if (json_is_string(v)) {
        fputs(json_string_value(v), f);
        return;
    }
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
    fputs(text ? text : "", f);
    free(text);
}

static lt_status put_parts(FILE *f, const parser *p, lt_job *j, const char *text) {
    for (const char *at; (at = strstr(text, "${")); text = strchr(at, '}') + 1) {
        const char *end = strchr(at, '}');
        json_t *v = NULL;
        if (!end) return wrong(p, j->step, "${ without }", text);
        LT_TRY(look_up(&v, p, j, at + 2, (size_t)(end - at - 2)));
        fwrite(text, 1, (size_t)(at - text), f);
        put_value(f, v);
        json_decref(v);
    }
    fputs(text, f);
    return LT_OK;
}

static lt_status resolve_text(json_t **out, const parser *p, lt_job *j, const char *text) {
    const size_t n = strlen(text);
    if (n > 3 && strncmp(text, "${", 2) == 0 && strchr(text, '}') == text + n - 1)
        return look_up(out, p, j, text + 2, n - 3); /* the whole: numbers and lists stay what they are */
    char *buf = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&buf, &bytes);
    if (!f) return no_memory(p->err);
    lt_status st = put_parts(f, p, j, text);
    if (fclose(f) != 0 && st == LT_OK) st = no_memory(p->err);
    if (st == LT_OK) *out = json_string(buf);
    free(buf);
    return st == LT_OK && !*out ? no_memory(p->err) : st;
}

static lt_status resolve(json_t **out, const parser *p, lt_job *j, const json_t *v) {
    if (json_is_string(v)) return resolve_text(out, p, j, json_string_value(v));
    if (json_is_object(v)) return wrong(p, j->step, "an option is text, a number or a list", NULL);
    if (!json_is_array(v)) {
        *out = json_deep_copy(v);
        return *out ? LT_OK : no_memory(p->err);
    }
    json_t *list = json_array();
    lt_status st = list ? LT_OK : no_memory(p->err);
    for (size_t i = 0; st == LT_OK && i < json_array_size(v); i++) {
        json_t *item = NULL;
        st = resolve(&item, p, j, json_array_get(v, i));
        if (st == LT_OK && json_array_append_new(list, item) != 0) st = no_memory(p->err);
    }
    if (st == LT_OK)
        *out = list;
    else
        json_decref(list);
    return st;
}

/* ---- one job ---- */

static void job_clear(lt_job *j) {
    json_decref(j->axes);
    json_decref(j->options);
    lt_free(j->cell);
    lt_free(j->base);
    lt_free(j->output);
    lt_free(j->needs);
    *j = (lt_job){ 0 };
}

/* "axis=value,axis=value" in the order of the matrix, as a folder can be called. */
static lt_status name_cell(const parser *p, lt_job *j) {
    char *buf = NULL;
    size_t bytes = 0;
    const char *axis;
    json_t *all, *comma = NULL;
    FILE *f = open_memstream(&buf, &bytes);
    if (!f) return no_memory(p->err);
    json_object_foreach(p->matrix, axis, all) {
        const json_t *v = json_object_get(j->axes, axis);
        if (!v) continue;
        fprintf(f, "%s%s=", comma ? "," : "", axis);
        put_value(f, v);
        comma = all;
    }
    if (fclose(f) == 0) j->cell = lt_strdup(buf);
    free(buf);
    for (char *c = j->cell; c && *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,=+", *c)) *c = '_';
    return j->cell ? LT_OK : no_memory(p->err);
}

static const lt_option *output_row(const lt_command *verb) {
    for (const lt_option *o = verb->options; o && o->name; o++)
        if (strcmp(o->name, "output") == 0) return o;
    return NULL;
}

char *lt_job_base(const char *out, const char *cell, const char *step) {
    return lt_asprintf("%s/%s%s%s", out, cell, *cell ? "/" : "", step);
}

/* OUT/cell/NAME: the name that the step gives, or its own for a folder. */
static lt_status place_output(const parser *p, lt_job *j) {
    const lt_option *row = output_row(j->verb);
    const json_t *given = json_object_get(j->options, "output");
    const char *name = json_string_value(given);
    j->base = lt_job_base(p->o->out, j->cell, j->step);
    if (!j->base) return no_memory(p->err);
    if (given && (!name || *name == '/' || strstr(name, "..") || !*name))
        return wrong(p, j->step, "output is a name below the recipe's folder", name);
    if (!row || (!name && row->dflt != lt_required)) return LT_OK;
    if (!name && strcmp(row->metavar, "DIR") != 0)
        return wrong(p, j->step, "output is missing: a file needs a name", NULL);
    j->output =
        name ? lt_asprintf("%.*s%s", (int)(strlen(j->base) - strlen(j->step)), j->base, name) : lt_strdup(j->base);
    if (!j->output) return no_memory(p->err);
    return json_object_set_new(j->options, "output", json_string(j->output)) == 0 ? LT_OK : no_memory(p->err);
}

/* What a verb says about its options, with the place of the recipe before it. */
static lt_status refused(const parser *p, const lt_job *j, lt_status st) {
    char where[400];
    name_place(p, j->step, where, sizeof where);
    return lt_context(p->err, st, "%s%s%s", where, *j->cell ? " " : "", j->cell);
}

static lt_status check_options(const parser *p, const lt_job *j, size_t index) {
    const char *key;
    json_t *v;
    json_object_foreach(j->options, key, v) {
        look_at(p, "/steps/%zu/with/%s", index, key);
        const lt_status st = lt_args_check_one(j->verb, key, v, p->err);
        if (st != LT_OK) return refused(p, j, st);
    }
    look_at(p, "/steps/%zu", index);
    lt_args *a = NULL;
    json_t *merged = json_copy(j->options); /* a preset adds to it */
    const lt_status st = merged ? lt_call_args(&a, j->verb, merged, p->err) : no_memory(p->err);
    lt_args_destroy(a);
    json_decref(merged);
    return st == LT_OK ? LT_OK : refused(p, j, st);
}

static lt_status find_verb(lt_job *j, const parser *p, const json_t *step) {
    const char *name = json_string_value(json_object_get(step, "verb"));
    lt_suggestion s = { .word = name };
    j->verb = lt_command_find(name);
    if (j->verb && strcmp(j->verb->name, "run") == 0) return wrong(p, j->step, "a recipe cannot run recipes", name);
    if (j->verb) return LT_OK;
    for (const lt_command *const *c = lt_commands; *c; c++) lt_suggest(&s, (*c)->name);
    return unknown(p, j->step, "no such verb", &s);
}

static lt_status make_job(lt_job *j, const parser *p, size_t index) {
    const json_t *step = json_array_get(p->steps, index);
    const char *key;
    json_t *v;
    *j = (lt_job){ .step = json_string_value(json_object_get(step, "name")),
                   .axes = json_object(),
                   .options = json_object() };
    if (!j->axes || !j->options) return no_memory(p->err);
    look_at(p, "/steps/%zu/verb", index);
    LT_TRY(find_verb(j, p, step));
    json_object_foreach(json_object_get(step, "with"), key, v) {
        json_t *value = NULL;
        look_at(p, "/steps/%zu/with/%s", index, key);
        LT_TRY(resolve(&value, p, j, v));
        if (json_object_set_new(j->options, key, value) != 0) return no_memory(p->err);
    }
    LT_TRY(name_cell(p, j));
    look_at(p, "/steps/%zu/with/output", index);
    LT_TRY(place_output(p, j));
    return check_options(p, j, index);
}

/* Two jobs never write the same thing. */
static lt_status check_apart(const parser *p, const lt_job *j, const lt_job *other) {
    if (strcmp(other->base, j->base) == 0) return wrong(p, j->step, "two cells would have the same folder", j->cell);
    if (j->output && other->output && strcmp(other->output, j->output) == 0)
        return wrong(p, j->step, "two steps would have the same output", j->output);
    return LT_OK;
}

/* The same step over the same axes was made by another combination. */
static lt_status add_job(const parser *p, lt_job *j, bool wanted) {
    lt_recipe *r = p->r;
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->job[i].base, j->base) != 0 || !json_equal(r->job[i].axes, j->axes)) {
            LT_TRY(check_apart(p, j, &r->job[i]));
            continue;
        }
        r->job[i].wanted |= wanted;
        job_clear(j);
        return LT_OK;
    }
    if (r->n == MAX_JOBS) return wrong(p, NULL, "more than 100000 jobs", NULL);
    lt_job *grown = lt_realloc(r->job, (r->n + 1) * sizeof *grown);
    if (!grown) return no_memory(p->err);
    r->job = grown;
    j->wanted = wanted;
    r->job[r->n++] = *j;
    *j = (lt_job){ 0 };
    return LT_OK;
}

static lt_status add_combination(parser *p, size_t index) {
    const bool wanted = index % p->o->shards == p->o->shard - 1;
    lt_status st = LT_OK;
    for (size_t i = 0; i < json_array_size(p->steps) && st == LT_OK; i++) {
        lt_job j;
        st = make_job(&j, p, i);
        if (st == LT_OK) st = add_job(p, &j, wanted);
        if (st != LT_OK) job_clear(&j);
    }
    return st;
}

/* Combination number index: the last axis runs fastest. false: there are no more. */
static bool combination(json_t *combo, const json_t *matrix, size_t index) {
    const size_t n = json_object_size(matrix);
    const char *axis, *names[64];
    json_t *values;
    size_t k = 0;
    if (n > LT_COUNTOF(names)) return false;
    json_object_foreach((json_t *)matrix, axis, values) names[k++] = axis;
    while (k-- > 0) {
        values = json_object_get(matrix, names[k]);
        json_object_set(combo, names[k], json_array_get(values, index % json_array_size(values)));
        index /= json_array_size(values);
    }
    return index == 0;
}

/* An axis that no step depends on would only look like a sweep. */
static lt_status check_axes_used(const parser *p) {
    const char *axis;
    json_t *values;
    json_object_foreach(p->matrix, axis, values) {
        bool used = false;
        for (size_t i = 0; i < p->r->n; i++) used |= json_object_get(p->r->job[i].axes, axis) != NULL;
        look_at(p, "/matrix/%s", axis);
        if (!used) return wrong(p, NULL, "no step uses the axis", axis);
    }
    return LT_OK;
}

lt_status lt_recipe_parse(lt_recipe *r, json_t *root, const char *name, const lt_recipe_opts *o, lt_err *err) {
    *r = (lt_recipe){ .root = root, .name = name };
    char place[PLACE] = "";
    parser p = { .r = r, .o = o, .place = place, .err = err };
    for (size_t i = 0; i < o->n_set; i++) LT_TRY(apply_set(&p, o->set[i]));
    LT_TRY(check_root(&p));
    look_at(&p, "/matrix");
    if (json_object_size(p.matrix) > 64) return wrong(&p, NULL, "more than 64 axes", NULL);
    json_t *combo = json_object();
    lt_status st = combo ? LT_OK : no_memory(err);
    p.combo = combo;
    for (size_t i = 0; st == LT_OK && combination(combo, p.matrix, i); i++) st = add_combination(&p, i);
    json_decref(combo);
    return st == LT_OK ? check_axes_used(&p) : st;
}

void lt_recipe_clear(lt_recipe *r) {
    for (size_t i = 0; i < r->n; i++) job_clear(&r->job[i]);
    lt_free(r->job);
    json_decref(r->root);
    *r = (lt_recipe){ 0 };
}

/* ---- keys ---- */

/* Small files by content, large ones and those of folders by name, size and time of change. */
static lt_status fingerprint(lt_hash *h, const char *path, int depth, lt_err *err) {
    enum { SMALL = 16 << 20 };
    char hex[LT_HASH_HEX], line[96];
    uint64_t bytes;
    int64_t mtime;
    lt_hash_update(h, lt_path_name(path), strlen(lt_path_name(path)) + 1);
    if (!lt_path_exists(path)) return LT_OK; /* the verb will say so */
    if (lt_path_is_dir(path)) {
        char **names;
        size_t n;
        LT_TRY(lt_list_dir(&names, &n, path, err));
        lt_status st = LT_OK;
        for (size_t i = 0; i < n; i++) {
            char *below = lt_path_join(path, names[i]);
            if (!below) st = no_memory(err);
            if (st == LT_OK && depth < 3) st = fingerprint(h, below, depth + 1, err);
            lt_free(below);
            lt_free(names[i]);
        }
        lt_free(names);
        return st;
    }
    LT_TRY(lt_file_stat(path, &bytes, &mtime, err));
    if (bytes <= SMALL) {
        LT_TRY(lt_hash_file(path, hex, err));
        lt_hash_update(h, hex, sizeof hex);
        return LT_OK;
    }
    snprintf(line, sizeof line, "%llu %lld", (unsigned long long)bytes, (long long)mtime);
    lt_hash_update(h, line, strlen(line) + 1);
    return LT_OK;
}

static bool is_path(const lt_command *verb, const char *name) {
    for (const lt_positional *p = verb->positionals; p && p->name; p++)
        if (strcmp(p->name, name) == 0) return true;
    for (const lt_option *o = verb->options; o && o->name; o++)
        if (strcmp(o->name, name) == 0) return o->type == LT_OPT_PATH;
    return false;
}

/* An input: another job's output by that job's key, anything else by what it holds. */
static lt_status hash_input(lt_hash *h, const lt_recipe *r, const lt_job *j, const char *path, lt_err *err) {
    for (size_t i = 0; i < j->n_needs; i++) {
        const lt_job *other = &r->job[j->needs[i]];
        const size_t n = strlen(other->output);
        if (strncmp(path, other->output, n) != 0 || (path[n] && path[n] != '/')) continue;
        lt_hash_update(h, other->key, LT_HASH_HEX);
        lt_hash_update(h, path + n, strlen(path + n) + 1);
        return LT_OK;
    }
    return fingerprint(h, path, 0, err);
}

static lt_status hash_option(lt_hash *h, const lt_recipe *r, const lt_job *j, const char *name, const json_t *v,
                             lt_err *err) {
    lt_hash_update(h, name, strlen(name) + 1);
    if (is_path(j->verb, name)) {
        if (json_is_string(v)) return hash_input(h, r, j, json_string_value(v), err);
        for (size_t i = 0; i < json_array_size(v); i++)
            if (json_is_string(json_array_get(v, i)))
                LT_TRY(hash_input(h, r, j, json_string_value(json_array_get(v, i)), err));
        return LT_OK;
    }
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    if (!text) return no_memory(err);
    lt_hash_update(h, text, strlen(text) + 1);
    free(text);
    return LT_OK;
}

static lt_status make_key(const lt_recipe *r, lt_job *j, lt_err *err) {
    const char *name;
    json_t *v;
    lt_status st = LT_OK;
    lt_hash *h = lt_hash_create();
    if (!h) return no_memory(err);
    lt_hash_update(h, j->verb->name, strlen(j->verb->name) + 1);
    lt_hash_update(h, lt_version(), strlen(lt_version()) + 1);
    json_object_foreach(j->options, name, v) if (strcmp(name, "output") != 0 && st == LT_OK) st =
        hash_option(h, r, j, name, v, err);
    lt_hash_finish(h, j->key);
    return st;
}

lt_status lt_recipe_keys(lt_recipe *r, lt_err *err) {
    for (size_t i = 0; i < r->n; i++) LT_TRY(make_key(r, &r->job[i], err));
    return LT_OK;
}
