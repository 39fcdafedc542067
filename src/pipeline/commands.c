/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/commands.h"

#include <string.h>

/* sorted by name */
const lt_command *const lt_commands[] = {
    &lt_cmd_bench_decode, &lt_cmd_bench_prefill, &lt_cmd_detokenize,
    &lt_cmd_forward,      &lt_cmd_generate,      &lt_cmd_inspect,
    &lt_cmd_list,         &lt_cmd_tokenize,      NULL,
};

const lt_command *lt_command_find(const char *verb) {
    for (const lt_command *const *c = lt_commands; *c; c++)
        if (strcmp((*c)->name, verb) == 0) return *c;
    return NULL;
}
