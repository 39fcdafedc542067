/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/options.h - one option row and one text: the value, or a message that names option, value and range.
 *
 *   INT    decimal, sign allowed
 *   REAL   decimal, finite; the same for every locale
 *   BYTES  decimal with an optional unit: K M G T and KiB MiB GiB TiB are powers of 1024, kB KB MB GB TB powers of 1000
 *   FLAG   true false yes no on off 1 0
 *   PATH   any text but the empty one */
#ifndef LT_PIPELINE_OPTIONS_H
#define LT_PIPELINE_OPTIONS_H

#include "pipeline/command.h"

typedef struct lt_value {
    char *text; /* as given, owned */
    int64_t i;  /* INT and BYTES */
    double d;   /* REAL (and the others, as a double) */
    bool flag;
} lt_value;
/* LT_EUSAGE when text is not of the row's type, range or choices. */
lt_status lt_value_parse(lt_value *out, const lt_option *row, const char *text, lt_err *err);
void lt_value_clear(lt_value *v);

bool lt_bytes_parse(size_t *out, const char *text); /* the BYTES form */

/* Names are equal when they differ in '-' and '_' only. */
bool lt_name_equal(const char *a, const char *b);

#endif
