/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/result.h - small helpers of verbs that build their result (docs/formats/result.md). */
#ifndef LT_PIPELINE_RESULT_H
#define LT_PIPELINE_RESULT_H

#include "pipeline/command.h"

/* Appends a row to a table made by lt_result_table: one letter a cell. s: const char * (NULL: empty), z: size_t, i:
 * int64_t, d: double (not finite: "inf", "-inf", "nan" as text), b: bool, j: json_t * (stolen). */
void lt_result_row(json_t *rows, const char *cells, ...);
/* A number as JSON: jansson has no infinities, so they become the texts "inf", "-inf", "nan". */
json_t *lt_result_real(double v);
/* "1.5 GiB" into buf */
const char *lt_bytes_text(double bytes, char *buf, size_t cap);
/* Every table has columns and rows of that length. */
bool lt_result_is_whole(const json_t *result);
/* What a call is made of can run out of memory at any jansson call; a result is whole, or this says it is not: every
 * table with its rows. */
lt_status lt_result_finish(json_t **out, json_t *result, lt_err *err);
/* j as text, indented by 1; lt_free. NULL: out of memory. */
char *lt_result_text(const json_t *j);

#endif
