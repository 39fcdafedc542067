/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/commands.h - every verb by name. Adding one: its file cmd_<verb>.c, a line here and a line in commands.c. */
#ifndef LT_PIPELINE_COMMANDS_H
#define LT_PIPELINE_COMMANDS_H

#include "pipeline/command.h"

extern const lt_command lt_cmd_list;

#endif
