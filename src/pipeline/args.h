/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/args.h - the options of one call: a JSON object against a verb's rows. */
#ifndef LT_PIPELINE_ARGS_H
#define LT_PIPELINE_ARGS_H

#include "pipeline/command.h"

/* options: an object (names with underscores or dashes; values as JSON or as text; arrays for what repeats; null: not
 * given). LT_EUSAGE: an unknown name (with a suggestion), a value that its row does not allow, something required that
 * is missing. */
lt_status lt_args_create(lt_args **out, const lt_command *command, const json_t *options, lt_err *err);
void lt_args_destroy(lt_args *a);
/* Is this one option known, and does its row allow the value? */
lt_status lt_args_check_one(const lt_command *command, const char *name, const json_t *value, lt_err *err);
/* First name that a getter was asked for and no row has, or that has another type: a bug of the verb. NULL: none. */
const char *lt_args_misused(const lt_args *a);
/* "lathe VERB ..." with what was given, quoted for a shell; lt_free; NULL: out of memory. */
char *lt_args_command_line(const lt_args *a);

#endif
