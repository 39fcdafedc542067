/* SPDX-License-Identifier: Apache-2.0 */
#include "io/json.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"

/* ---- reading ---- */

static bool in_number(char c) {
    return (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E';
}

/* Is text[0..n) an integer that int64 cannot hold? JSON has no leading zeros, so length decides first. */
static bool is_wide_integer(const char *text, size_t n) {
    static const char most[] = "9223372036854775807";
    const size_t digits = sizeof most - 1;
    if (n > 0 && text[0] == '-') text++, n--;
    for (size_t i = 0; i < n; i++)
        if (text[i] < '0' || text[i] > '9') return false;
    return n > digits || (n == digits && memcmp(text, most, digits) > 0);
}

/* A copy in which wide integers end in ".0". Python writes 10^30 for "no limit" (tokenizer_config.json:
 * model_max_length), which jansson refuses to hold as an integer. NULL: out of memory. */
static char *with_wide_integers_real(const char *text, size_t bytes, size_t *out_bytes) {
    char *copy = lt_malloc(bytes + bytes / 19 * 2 + 2);
    size_t n = 0;
    bool quoted = false;
    if (!copy) return NULL;
    for (size_t i = 0, end; i < bytes; i = end) {
        end = i + 1;
        if (text[i] == '"') quoted = !quoted;
        if (quoted && text[i] == '\\' && end < bytes) end++;
        const bool number = !quoted && in_number(text[i]);
        while (number && end < bytes && in_number(text[end])) end++;
        memcpy(copy + n, text + i, end - i);
        n += end - i;
        if (number && is_wide_integer(text + i, end - i)) copy[n++] = '.', copy[n++] = '0';
    }
    *out_bytes = n;
    return copy;
}

lt_status lt_json_parse(json_t **out, const char *text, size_t bytes, const char *name, lt_err *err) {
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_error_t e;
    json_t *j = json_loadb(text, bytes, flags, &e);
    if (!j && json_error_code(&e) == json_error_numeric_overflow) {
        size_t n;
        char *copy = with_wide_integers_real(text, bytes, &n);
        if (!copy) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", name);
        j = json_loadb(copy, n, flags, &e);
        lt_free(copy);
    }
    if (!j && json_error_code(&e) == json_error_out_of_memory)
        return lt_fail(err, LT_ENOMEM, "out of memory (%s)", name);
    if (!j)
        return lt_fail(err, LT_EDATA, "not valid JSON: %s (%s: line %d: column %d)", e.text, name, e.line, e.column);
    *out = j;
    return LT_OK;
}

lt_status lt_json_load(json_t **out, const char *path, lt_err *err) {
    char *text;
    size_t bytes;
    LT_TRY(lt_file_read(&text, &bytes, path, 0, err));
    const lt_status st = lt_json_parse(out, text, bytes, path, err);
    lt_free(text);
    return st;
}

/* ---- writing ---- */

typedef struct sink {
    char *text;
    size_t n, cap;
    size_t limit; /* of n: over it, `failed` */
    bool failed;
    bool canonical; /* sorted keys, no spaces, %.17g */
} sink;

static void put(sink *s, const char *text, size_t n) {
    if (s->failed || n > s->limit - s->n) {
        s->failed = true;
        return;
    }
    if (n >= s->cap - s->n) {
        const size_t cap = lt_max_size(2 * s->cap, s->n + n + 256);
        char *more = lt_realloc(s->text, cap);
        if (!more) {
            s->failed = true;
            return;
        }
        s->text = more;
        s->cap = cap;
    }
    memcpy(s->text + s->n, text, n);
    s->n += n;
    s->text[s->n] = 0;
}

static void put_text(sink *s, const char *text) {
    put(s, text, strlen(text));
}

static void put_string(sink *s, const char *text, size_t bytes) {
    put(s, "\"", 1);
    for (size_t i = 0, start = 0; i <= bytes; i++) {
        char escaped[8];
        const unsigned char c = i < bytes ? (unsigned char)text[i] : 0;
        if (i < bytes && c >= 0x20 && c != '"' && c != '\\') continue;
        put(s, text + start, i - start);
        start = i + 1;
        if (i == bytes) break;
        const char *short_form = strchr("\"\"\\\\\nn\tt\rr\bb\ff", c); /* pairs: byte, letter */
        if (c != 0 && short_form)
            snprintf(escaped, sizeof escaped, "\\%c", short_form[1]);
        else
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
        put_text(s, escaped);
    }
    put(s, "\"", 1);
}

/* Shortest of 15 to 17 digits that reads back as x; canonical text is always 17. */
static void put_real(sink *s, double x) {
    char text[40];
    for (int digits = s->canonical ? 17 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    const char *point = localeconv()->decimal_point; /* the host program may have set a locale */
    char *comma = strcmp(point, ".") != 0 ? strstr(text, point) : NULL;
    if (comma) {
        *comma = '.';
        memmove(comma + 1, comma + strlen(point), strlen(comma + strlen(point)) + 1);
    }
    put_text(s, text);
    if (!strpbrk(text, ".e")) put_text(s, ".0"); /* stays a real when read */
}

static void put_value(sink *s, const json_t *j, size_t depth);

static void put_break(sink *s, size_t depth, const char *otherwise) {
    if (depth == 0) {
        put_text(s, otherwise);
        return;
    }
    put(s, "\n", 1);
    for (size_t i = 1; i < depth; i++) put(s, " ", 1);
}

static int by_key(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char **sorted_keys(const json_t *j) {
    const char **keys = lt_malloc(lt_max_size(json_object_size(j), 1) * sizeof *keys);
    const char *key;
    json_t *member;
    size_t n = 0;
    if (!keys) return NULL;
    json_object_foreach((json_t *)j, key, member) keys[n++] = key;
    qsort(keys, n, sizeof *keys, by_key);
    return keys;
}

static void put_member(sink *s, const char *key, const json_t *member, size_t depth) {
    put_string(s, key, strlen(key));
    put_text(s, s->canonical ? ":" : ": ");
    put_value(s, member, depth);
}

/* depth 0: on one line; else members stand one a line, depth - 1 spaces deep. */
static void put_members(sink *s, const json_t *j, size_t depth) {
    const char *comma = s->canonical || depth ? "," : ", ";
    const size_t inner = depth ? depth + 1 : 0;
    const char *key;
    json_t *member;
    size_t i = 0;
    if (json_is_array(j)) {
        json_array_foreach(j, i, member) {
            if (i) put_text(s, comma);
            put_break(s, inner, "");
            put_value(s, member, inner);
        }
    } else if (s->canonical) {
        const char **keys = sorted_keys(j);
        if (!keys) s->failed = true;
        for (; keys && i < json_object_size(j); i++) {
            if (i) put_text(s, comma);
            put_member(s, keys[i], json_object_get(j, keys[i]), 0);
        }
        lt_free(keys);
    } else {
        json_object_foreach((json_t *)j, key, member) {
            if (i++) put_text(s, comma);
            put_break(s, inner, "");
            put_member(s, key, member, inner);
        }
    }
    if (i) put_break(s, depth, "");
}

/* Arrays and objects below the top that fit in 120 bytes stand on one line: a plan reads as a cut a line. */
static bool put_on_one_line(sink *s, const json_t *j) {
    enum { FITS = 120 };
    const size_t start = s->n, limit = s->limit;
    s->limit = lt_min_size(limit, start + FITS);
    put_value(s, j, 0);
    s->limit = limit;
    if (!s->failed) return true;
    s->failed = false; /* out of memory shows again when the long form is written */
    s->n = start;
    return false;
}

static void put_value(sink *s, const json_t *j, size_t depth) {
    char number[32];
    switch (json_typeof(j)) {
    case JSON_STRING:
        put_string(s, json_string_value(j), json_string_length(j));
        break;
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(j));
        put_text(s, number);
        break;
    case JSON_REAL:
        put_real(s, json_real_value(j));
        break;
    case JSON_TRUE:
        put_text(s, "true");
        break;
    case JSON_FALSE:
        put_text(s, "false");
        break;
    case JSON_NULL:
        put_text(s, "null");
        break;
    default:
        if (depth > 1 && put_on_one_line(s, j)) return;
        put_text(s, json_is_array(j) ? "[" : "{");
        put_members(s, j, depth);
        put_text(s, json_is_array(j) ? "]" : "}");
    }
}

lt_status lt_json_save(const json_t *j, const char *path, lt_err *err) {
    sink s = { .limit = SIZE_MAX };
    put_value(&s, j, 1);
    put(&s, "\n", 1);
    const lt_status st =
        s.failed ? lt_fail(err, LT_ENOMEM, "out of memory (%s)", path) : lt_file_write(path, s.text, s.n, err);
    lt_free(s.text);
    return st;
}

char *lt_json_canonical(const json_t *j) {
    sink s = { .limit = SIZE_MAX, .canonical = true };
    put_value(&s, j, 0);
    if (!s.failed) return s.text;
    lt_free(s.text);
    return NULL;
}

/* ---- typed members ---- */

static lt_status find(const json_t **out, const json_t *o, const char *key, const char *where, lt_err *err) {
    if (o && !json_is_object(o))
        return lt_fail(err, LT_EDATA, "not an object where key is looked up (%s: %s)", where, key);
    const json_t *j = json_object_get(o, key);
    *out = json_is_null(j) ? NULL : j;
    return LT_OK;
}

static lt_status wrong(const json_t *j, const char *key, const char *want, const char *where, lt_err *err) {
    char *text = json_dumps(j, JSON_ENCODE_ANY | JSON_COMPACT);
    const lt_status st = lt_fail(err, LT_EDATA, "must be %s (%s: %s: %.60s)", want, where, key, text ? text : "?");
    free(text);
    return st;
}

lt_status lt_json_size(size_t *out, const json_t *o, const char *key, size_t dflt, const char *where, lt_err *err) {
    const json_t *j;
    LT_TRY(find(&j, o, key, where, err));
    const double real = json_real_value(j);
    if (!j)
        *out = dflt;
    else if (json_is_integer(j) && json_integer_value(j) >= 0)
        *out = (size_t)json_integer_value(j);
    else if (json_is_real(j) && real >= 0 && real <= 0x1p53 && real == floor(real))
        *out = (size_t)real;
    else
        return wrong(j, key, "a whole number, not negative", where, err);
    return LT_OK;
}

lt_status lt_json_double(double *out, const json_t *o, const char *key, double dflt, const char *where, lt_err *err) {
    const json_t *j;
    LT_TRY(find(&j, o, key, where, err));
    if (j && !json_is_number(j)) return wrong(j, key, "a number", where, err);
    *out = j ? json_number_value(j) : dflt;
    return LT_OK;
}

lt_status lt_json_bool(bool *out, const json_t *o, const char *key, bool dflt, const char *where, lt_err *err) {
    const json_t *j;
    LT_TRY(find(&j, o, key, where, err));
    if (j && !json_is_boolean(j)) return wrong(j, key, "true or false", where, err);
    *out = j ? json_is_true(j) : dflt;
    return LT_OK;
}

lt_status lt_json_string(const char **out, const json_t *o, const char *key, const char *dflt, const char *where,
                         lt_err *err) {
    const json_t *j;
    LT_TRY(find(&j, o, key, where, err));
    if (j && (!json_is_string(j) || strlen(json_string_value(j)) != json_string_length(j)))
        return wrong(j, key, "a string without NUL", where, err);
    *out = j ? json_string_value(j) : dflt;
    return LT_OK;
}

lt_status lt_json_need(json_t **out, const json_t *o, const char *key, const char *where, lt_err *err) {
    const json_t *j;
    LT_TRY(find(&j, o, key, where, err));
    if (!j) return lt_fail(err, LT_EDATA, "missing key (%s: %s)", where, key);
    *out = json_object_get(o, key);
    return LT_OK;
}
