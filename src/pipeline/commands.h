/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/commands.h - every verb by name. Adding one: its file cmd_<verb>.c, a line here and a line in commands.c. */
#ifndef LT_PIPELINE_COMMANDS_H
#define LT_PIPELINE_COMMANDS_H

#include "pipeline/command.h"

extern const lt_command lt_cmd_apply;
extern const lt_command lt_cmd_bench_decode;
extern const lt_command lt_cmd_bench_prefill;
extern const lt_command lt_cmd_calibrate;
extern const lt_command lt_cmd_compare;
extern const lt_command lt_cmd_compress;
extern const lt_command lt_cmd_detokenize;
extern const lt_command lt_cmd_evaluate_kld;
extern const lt_command lt_cmd_evaluate_perplexity;
extern const lt_command lt_cmd_export;
extern const lt_command lt_cmd_forward;
extern const lt_command lt_cmd_generate;
extern const lt_command lt_cmd_heal;
extern const lt_command lt_cmd_inspect;
extern const lt_command lt_cmd_list;
extern const lt_command lt_cmd_merge_lora;
extern const lt_command lt_cmd_plan;
extern const lt_command lt_cmd_pull; /* with LT_HUB */
extern const lt_command lt_cmd_report;
extern const lt_command lt_cmd_run;
extern const lt_command lt_cmd_stats_import;
extern const lt_command lt_cmd_stats_merge;
extern const lt_command lt_cmd_tokenize;
extern const lt_command lt_cmd_train;
extern const lt_command lt_cmd_verify;

#endif
