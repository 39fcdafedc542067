/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/yaml.h"
#include "pipeline/args.h"

enum { MAX_JOBS = 100000 };

typedef struct parser {
    lt_recipe *r;
    const lt_recipe_opts *o;
    json_t *set, *matrix, *steps; /* borrowed; set and matrix may be NULL */
    const json_t *combo;          /* {axis: value} of the combination at hand */
    lt_err *err;
} parser;

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "recipe: out of memory");
}

static lt_status wrong(const parser *p, const char *step, const char *what, const char *value) {
    return lt_fail(p->err, LT_EDATA, "%s (%s: %s%s%s%s%s)", what, p->r->name, step ? "step " : "", step ? step : "",
                   step && value ? ": " : "", value ? value : "", !step && !value ? "recipe" : "");
}

/* ---- --set ---- */

/* The member that a part of a path names; of a list of steps the one of that name. */
static json_t *member(json_t *at, const char *key, size_t n) {
    if (!json_is_array(at)) return json_object_getn(at, key, n);
    for (size_t i = 0; i < json_array_size(at); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(at, i), "name"));
        if (name && strlen(name) == n && strncmp(name, key, n) == 0) return json_array_get(at, i);
    }
    return NULL;
}

static lt_status apply_set(const parser *p, const char *text) {
    const char *eq = strchr(text, '='), *key = text;
    json_t *at = p->r->root, *value;
    LT_REQUIRE(p->err, eq && eq > text, "--set: \"%.80s\" is not a.b=value", text);
    for (const char *dot; (dot = memchr(key, '.', (size_t)(eq - key))); key = dot + 1) {
        at = member(at, key, (size_t)(dot - key));
        if (!at)
            return lt_fail(p->err, LT_EUSAGE, "--set: the recipe has no %.*s (%s)", (int)(dot - text), text,
                           p->r->name);
    }
    LT_REQUIRE(p->err, json_is_object(at), "--set: %.*s is in no mapping of the recipe (%s)", (int)(eq - text), text,
               p->r->name);
    LT_TRY(lt_yaml_parse(&value, eq[1] ? eq + 1 : "''", eq[1] ? strlen(eq + 1) : 2, "--set", p->err));
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

static lt_status check_variables(const parser *p) {
    const char *key;
    json_t *v;
    json_object_foreach(p->set, key, v) if (!is_name(key) || json_is_object(v)) return wrong(
        p, NULL, "a variable is a name with a value or a list", key);
    json_object_foreach(p->matrix, key, v) {
        if (!is_name(key) || !json_is_array(v) || json_array_size(v) == 0)
            return wrong(p, NULL, "an axis of the matrix is a name with a list of values", key);
        if (json_object_get(p->set, key)) return wrong(p, NULL, "name is a variable and an axis", key);
        for (size_t i = 0; i < json_array_size(v); i++)
            if (!is_scalar(json_array_get(v, i))) return wrong(p, NULL, "value of an axis is no text or number", key);
    }
    return LT_OK;
}

static lt_status check_steps(const parser *p) {
    static const char *const known[] = { "name", "verb", "with" };
    for (size_t i = 0; i < json_array_size(p->steps); i++) {
        json_t *s = json_array_get(p->steps, i), *v;
        const char *name = json_string_value(json_object_get(s, "name")), *key;
        if (!is_name(name)) return wrong(p, NULL, "a step needs a name of letters, digits, _ and -", name);
        if (member(p->steps, name, strlen(name)) != s) return wrong(p, name, "name is there twice", NULL);
        if (json_object_get(p->set, name) || json_object_get(p->matrix, name))
            return wrong(p, name, "name is a step and a variable", NULL);
        if (!json_is_string(json_object_get(s, "verb"))) return wrong(p, name, "verb is missing", NULL);
        json_object_foreach(s, key, v) {
            bool found = false;
            for (size_t k = 0; k < LT_COUNTOF(known); k++) found |= strcmp(key, known[k]) == 0;
            if (!found) return wrong(p, name, "unknown member: options of the verb stand under \"with\"", key);
        }
        v = json_object_get(s, "with");
        if (v && !json_is_object(v)) return wrong(p, name, "with is no mapping of options", NULL);
    }
    return LT_OK;
}

static lt_status check_root(parser *p) {
    static const char *const known[] = { "set", "matrix", "steps", "output", "title" };
    const char *key;
    json_t *v;
    if (!json_is_object(p->r->root)) return wrong(p, NULL, "recipe is no mapping", NULL);
    json_object_foreach(p->r->root, key, v) {
        bool found = false;
        for (size_t k = 0; k < LT_COUNTOF(known); k++) found |= strcmp(key, known[k]) == 0;
        if (!found) return wrong(p, NULL, "unknown member: a recipe has set, matrix, steps, output and title", key);
    }
    p->set = json_object_get(p->r->root, "set");
    p->matrix = json_object_get(p->r->root, "matrix");
    p->steps = json_object_get(p->r->root, "steps");
    if (p->set && !json_is_object(p->set)) return wrong(p, NULL, "set is no mapping", NULL);
    if (p->matrix && !json_is_object(p->matrix)) return wrong(p, NULL, "matrix is no mapping", NULL);
    if (!json_is_array(p->steps) || json_array_size(p->steps) == 0)
        return wrong(p, NULL, "steps is no list of steps", NULL);
    LT_TRY(check_variables(p));
    return check_steps(p);
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
        return wrong(p, j->step, "no variable, axis or earlier step has this name", word);
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

/* OUT/cell/NAME: the name that the step gives, or its own for a folder. */
static lt_status place_output(const parser *p, lt_job *j) {
    const lt_option *row = output_row(j->verb);
    const json_t *given = json_object_get(j->options, "output");
    const char *name = json_string_value(given);
    j->base =
        *j->cell ? lt_asprintf("%s/%s/%s", p->o->out, j->cell, j->step) : lt_asprintf("%s/%s", p->o->out, j->step);
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

static lt_status check_options(const parser *p, const lt_job *j) {
    lt_args *a;
    const lt_status st = lt_args_create(&a, j->verb, j->options, p->err);
    if (st != LT_OK) return lt_context(p->err, st, "%s: step %s", p->r->name, j->step);
    lt_args_destroy(a);
    return LT_OK;
}

static lt_status make_job(lt_job *j, const parser *p, const json_t *step) {
    const char *verb = json_string_value(json_object_get(step, "verb")), *key;
    json_t *v;
    *j = (lt_job){ .step = json_string_value(json_object_get(step, "name")),
                   .verb = lt_command_find(verb),
                   .axes = json_object(),
                   .options = json_object() };
    if (!j->axes || !j->options) return no_memory(p->err);
    if (!j->verb) return wrong(p, j->step, "no such verb", verb);
    if (strcmp(verb, "run") == 0) return wrong(p, j->step, "a recipe cannot run recipes", verb);
    json_object_foreach(json_object_get(step, "with"), key, v) {
        json_t *value = NULL;
        LT_TRY(resolve(&value, p, j, v));
        if (json_object_set_new(j->options, key, value) != 0) return no_memory(p->err);
    }
    LT_TRY(name_cell(p, j));
    LT_TRY(place_output(p, j));
    return check_options(p, j);
}

/* The same step over the same axes was made by another combination. */
static lt_status add_job(const parser *p, lt_job *j, bool wanted) {
    lt_recipe *r = p->r;
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->job[i].base, j->base) != 0) continue;
        if (!json_equal(r->job[i].axes, j->axes))
            return wrong(p, j->step, "two cells would have the same folder", j->cell);
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
        st = make_job(&j, p, json_array_get(p->steps, i));
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

lt_status lt_recipe_parse(lt_recipe *r, json_t *root, const char *name, const lt_recipe_opts *o, lt_err *err) {
    *r = (lt_recipe){ .root = root, .name = name };
    parser p = { .r = r, .o = o, .err = err };
    for (size_t i = 0; i < o->n_set; i++) LT_TRY(apply_set(&p, o->set[i]));
    LT_TRY(check_root(&p));
    if (json_object_size(p.matrix) > 64) return wrong(&p, NULL, "more than 64 axes", NULL);
    json_t *combo = json_object();
    lt_status st = combo ? LT_OK : no_memory(err);
    p.combo = combo;
    for (size_t i = 0; st == LT_OK && combination(combo, p.matrix, i); i++) st = add_combination(&p, i);
    json_decref(combo);
    return st;
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
