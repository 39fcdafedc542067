/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/commands.h"

#include <string.h>

/* sorted by name */
const lt_command *const lt_commands[] = {
    &lt_cmd_apply,
    &lt_cmd_bench_decode,
    &lt_cmd_bench_prefill,
    &lt_cmd_calibrate,
    &lt_cmd_compare,
    &lt_cmd_compress,
    &lt_cmd_detokenize,
    &lt_cmd_evaluate_kld,
    &lt_cmd_evaluate_perplexity,
    &lt_cmd_export,
    &lt_cmd_forward,
    &lt_cmd_generate,
    &lt_cmd_heal,
    &lt_cmd_inspect,
    &lt_cmd_list,
    &lt_cmd_merge_lora,
    &lt_cmd_plan,
#ifdef LT_HUB
    &lt_cmd_pull,
#endif
    &lt_cmd_report,
    &lt_cmd_run,
    &lt_cmd_stats_import,
    &lt_cmd_stats_merge,
    &lt_cmd_tokenize,
    &lt_cmd_train,
    &lt_cmd_verify,
    NULL,
};

const lt_command *lt_command_find(const char *verb) {
    for (const lt_command *const *c = lt_commands; *c; c++)
        if (strcmp((*c)->name, verb) == 0 || ((*c)->alias && strcmp((*c)->alias, verb) == 0)) return *c;
    return NULL;
}
