/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cli.h - the program around liblathe: argv to options, results to text. It knows lathe/lathe.h and the rows of
 * lt_describe() only. */
#ifndef LT_CLI_CLI_H
#define LT_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "lathe/lathe.h"

/* ---- parse.c ---- */
typedef struct cli_call {
    char verb[64];
    const json_t *command; /* its row; NULL: unknown verb, or none */
    json_t *options;       /* for lt_call, owned */
    bool json, quiet, help, version, markdown;
    int verbose;
} cli_call;
/* LT_EUSAGE with a message for what the rows cannot say (missing value, too many arguments). Unknown verbs and options
 * are left to lt_call: it knows what was meant. */
lt_status cli_parse(cli_call *out, const json_t *rows, int argc, char **argv, lt_err *err);
typedef struct cli_own_option {
    char letter;
    const char *name, *help;
} cli_own_option;
extern const cli_own_option cli_own_options[]; /* what the program adds to every verb; NULL-name-terminated */

/* ---- help.c ---- */
void cli_help(FILE *f, const json_t *rows);
void cli_help_verb(FILE *f, const json_t *command);
void cli_markdown(FILE *f, const json_t *rows);

/* ---- print.c ---- */
/* "text" (unless it was streamed already) and "tables" of a result */
void cli_print_result(FILE *f, const json_t *result, bool text_was_streamed);

/* ---- progress.c ---- */
typedef struct cli_stage {
    const char *name, *unit;
    double from; /* what was done when it began here: a resumed run begins in the middle */
    double done, total, seconds;
} cli_stage;
/* "name: done/total unit, rate, ETA"; rate and ETA are those of what was done since it began. */
void cli_stage_text(char *buf, size_t cap, const cli_stage *s);
typedef struct cli_progress {
    bool quiet, terminal, drawn, muted; /* muted: text is streaming to the terminal */
    char stage[64];
    double stage_start, stage_from, last_shown;
    double last_done;
} cli_progress;
void cli_progress_show(cli_progress *p, const char *stage, double done, double total, const char *unit);
void cli_progress_clear(cli_progress *p); /* before anything else is written to the terminal */

/* From now on a mapped file that becomes shorter ends the program with exit code 4 and one line that names it. */
void cli_catch_bus(void);

#endif
