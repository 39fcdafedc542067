/* io/json.h - jansson with our manners: errors with file and position, typed getters, canonical text. */
#ifndef LT_IO_JSON_H
#define LT_IO_JSON_H

#include <jansson.h>

#include "core/core.h"

/* Parses text (U+0000 allowed, duplicates refused); *out is a new reference. name is for messages. */
lt_status lt_json_parse(json_t **out, const char *text, size_t bytes, const char *name, lt_err *err);
lt_status lt_json_load(json_t **out, const char *path, lt_err *err);
/* Atomic write, indented by 1, trailing newline, member order kept. */
lt_status lt_json_save(const json_t *j, const char *path, lt_err *err);
/* Canonical: sorted keys, compact, 17 significant digits; lt_free. */
char *lt_json_canonical(const json_t *j);

/* Typed members of object o; a missing or null member gives *out its default. A wrong type is LT_EDATA
 * that names `where` (a file) and key. Range checks are the caller's. */
lt_status lt_json_size(size_t *out, const json_t *o, const char *key, size_t dflt, const char *where, lt_err *err);
lt_status lt_json_double(double *out, const json_t *o, const char *key, double dflt, const char *where, lt_err *err);
lt_status lt_json_bool(bool *out, const json_t *o, const char *key, bool dflt, const char *where, lt_err *err);
/* borrowed from o */
lt_status lt_json_string(const char **out, const json_t *o, const char *key, const char *dflt, const char *where,
                         lt_err *err);
/* Finds a required member of any type; LT_EDATA when missing. Borrowed. */
lt_status lt_json_need(json_t **out, const json_t *o, const char *key, const char *where, lt_err *err);

#endif
