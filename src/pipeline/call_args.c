/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/call_args.h"

#include "pipeline/presets.h"

lt_status lt_call_args(lt_args **out, const lt_command *command, json_t *options, lt_err *err) {
    LT_TRY(lt_presets_merge(options, command, err));
    LT_TRY(lt_args_create(out, command, options, err));
    const lt_status st = command->check ? command->check(*out, err) : LT_OK;
    if (st == LT_OK) return LT_OK;
    lt_args_destroy(*out);
    *out = NULL;
    return st;
}
