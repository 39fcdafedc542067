/* SPDX-License-Identifier: Apache-2.0 */
/* io/yaml.h - YAML as JSON values: policies and recipes are then read by the getters of io/json.h.
 *
 * YAML 1.1 by libyaml, scalars by the core schema of YAML 1.2: plain null, true, false, integers and decimal numbers
 * are what they look like, everything else (yes, 1:30, 0x10, quoted) is text. One document. Duplicate keys, keys that
 * are no text, tags, and anything deeper than 64 or larger than a million nodes (aliases count each time) are LT_EDATA
 * naming file and line. */
#ifndef LT_IO_YAML_H
#define LT_IO_YAML_H

#include "io/json.h"

lt_status lt_yaml_parse(json_t **out, const char *text, size_t bytes, const char *name, lt_err *err);
/* Also where it stands: {"/steps/0/verb": 7} for every member (the line of its name) and item. What lies deeper than a
 * path of 500 characters has no line. */
lt_status lt_yaml_parse_lines(json_t **out, json_t **lines, const char *text, size_t bytes, const char *name,
                              lt_err *err);
lt_status lt_yaml_load_lines(json_t **out, json_t **lines, const char *path, lt_err *err);

#endif
