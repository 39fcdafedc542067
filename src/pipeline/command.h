/* pipeline/command.h - verbs as rows, options as rows: shared by the command line, recipes, lt_call and the reference
 * docs.
 *
 * A verb is one file cmd_<verb>.c and one line in commands.c. Its run function gets validated options and gives back a
 * JSON result; it never prints. Results: {"format": "lathe-result/1", ..., "tables": [...], "run": {...}}
 * (docs/formats/result.md); what a terminal shows is made from "tables" ([{"title", "columns": [..], "rows": [[..]]}])
 * and "text". Dates, times and machine facts live in "run" alone. */
#ifndef LT_PIPELINE_COMMAND_H
#define LT_PIPELINE_COMMAND_H

#include "io/json.h"
#include "linalg/team.h"

typedef enum lt_opt_type { LT_OPT_STRING, LT_OPT_PATH, LT_OPT_INT, LT_OPT_REAL, LT_OPT_BYTES, LT_OPT_FLAG } lt_opt_type;
typedef struct lt_option {
    const char *name; /* with dashes: "max-memory" */
    lt_opt_type type;
    const char *dflt;    /* as text; NULL: none; lt_required: must be given */
    double lo, hi;       /* range of INT, REAL, BYTES, both ends allowed; lo == hi: any (BYTES: any >= 0) */
    const char *choices; /* "uniform|global"; NULL: free */
    bool repeat;         /* may be given more than once (JSON: array) */
    const char *metavar, *help;
} lt_option;
extern const char lt_required[];
typedef struct lt_positional {
    const char *name;
    size_t min, max;
    const char *help;
} lt_positional; /* max SIZE_MAX: any number */

typedef struct lt_args lt_args; /* validated options of one call; getters take names with dashes */
const char *lt_arg_string(const lt_args *a, const char *name); /* NULL: not given and no default */
int64_t lt_arg_int(const lt_args *a, const char *name);
double lt_arg_real(const lt_args *a, const char *name);
size_t lt_arg_bytes(const lt_args *a, const char *name);
bool lt_arg_flag(const lt_args *a, const char *name);
bool lt_arg_given(const lt_args *a, const char *name);
bool lt_arg_known(const lt_args *a, const char *name);   /* whether the verb has such an option at all */
size_t lt_arg_count(const lt_args *a, const char *name); /* of a repeated option or positional */
const char *lt_arg_at(const lt_args *a, const char *name, size_t i);
/* The verb's own options and positionals with their defaults, and "isa": what decides a result and a resumed run
 * compares. Other global options (threads, max-memory, ...) are not in it. A verb leaves out what it may change (its
 * output path) itself. */
const json_t *lt_args_json(const lt_args *a);

/* One call of a verb. team and seconds are made for it. */
typedef struct lt_call_ctx {
    lt_ctx *ctx;
    lt_team *team;
    const char *verb;
    const lt_args *args;
} lt_call_ctx;

typedef struct lt_command {
    const char *name;                 /* "evaluate perplexity" */
    const char *alias;                /* another name for it; NULL: none */
    const char *summary, *details;    /* a line; paragraphs (may be NULL) */
    const char *example;              /* a command line that works */
    const lt_positional *positionals; /* NULL-name-terminated */
    const lt_option *options;         /* NULL-name-terminated */
    /* What can be wrong about the options taken together, nothing being opened: a call and a recipe ask this first.
     * NULL: nothing. */
    lt_status (*check)(const lt_args *a, lt_err *err);
    /* *result: set on LT_OK, and on a failure that leaves one to inspect (LT_ETARGET, LT_EVERIFY, jobs of run). "run"
     * is added by lt_call.
     */
    lt_status (*run)(lt_call_ctx *c, json_t **result, lt_err *err);
    bool presets;     /* takes the methods' presets (pipeline/presets.h) in an option "preset" */
    unsigned without; /* global options that mean nothing here and are refused: LT_NO_ESTIMATE | LT_NO_OVERWRITE */
} lt_command;
enum { LT_NO_ESTIMATE = 1, LT_NO_OVERWRITE = 2 };
extern const lt_command *const lt_commands[]; /* NULL-terminated */
extern const lt_option
    lt_global_options[]; /* threads, max-memory, isa, scratch, estimate, overwrite ...; NULL-name-terminated */

const lt_command *lt_command_find(const char *verb); /* NULL: unknown */

/* {"command", "version", "threads", "kernels", "blas", "machine", "seconds", "peak_rss_bytes", "started"} */
json_t *lt_run_info(const lt_call_ctx *c, double started);
/* A result object of this verb with format and verb set. */
json_t *lt_result_new(const lt_call_ctx *c);
/* Appends a table; columns "name" or "name|unit". Returns its rows array (borrowed). */
json_t *lt_result_table(json_t *result, const char *title, const char *const *columns, size_t n);

#endif
