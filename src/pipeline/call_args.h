/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/call_args.h - the options of a call, as whole as they can be before anything is opened. */
#ifndef LT_PIPELINE_CALL_ARGS_H
#define LT_PIPELINE_CALL_ARGS_H

#include "pipeline/args.h"

/* Presets laid under the options (which change), their rows, and the verb's own check. */
lt_status lt_call_args(lt_args **out, const lt_command *command, json_t *options, lt_err *err);

#endif
