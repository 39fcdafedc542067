/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/call.c - lt_call and lt_describe of the public header. */
#include "pipeline/command.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/suggest.h"
#include "io/file.h"
#include "pipeline/call_args.h"
#include "pipeline/result.h"

static lt_status find_verb(const lt_command **out, const char *verb, lt_err *err) {
    char hint[96];
    *out = lt_command_find(verb);
    if (*out) return LT_OK;
    lt_suggestion s = { .word = verb };
    for (const lt_command *const *c = lt_commands; *c; c++) lt_suggest(&s, (*c)->name);
    return lt_fail(err, LT_EUSAGE, "unknown verb \"%.60s\"%s", verb, lt_suggest_text(&s, "", hint, sizeof hint));
}

static lt_status parse_options(json_t **out, const char *text, lt_err *err) {
    if (!text) {
        *out = json_object();
        return *out ? LT_OK : lt_fail(err, LT_ENOMEM, "options: out of memory");
    }
    const lt_status st = lt_json_parse(out, text, strlen(text), "options", err);
    if (st == LT_EDATA && err) err->code = LT_EUSAGE; /* the caller's text, not a file's */
    return st == LT_EDATA ? LT_EUSAGE : st;
}

/* The call's own context: the caller's with the global options laid over it. */
static lt_ctx make_ctx(const lt_ctx *ctx, const lt_args *args) {
    lt_ctx own = *ctx;
    if (lt_arg_given(args, "threads")) own.threads = (int)lt_arg_int(args, "threads");
    if (lt_arg_given(args, "max-memory")) own.max_memory = lt_arg_bytes(args, "max-memory");
    if (lt_arg_given(args, "scratch")) own.scratch = lt_arg_string(args, "scratch");
    return own;
}

/* A verb may have begun "run" with timings of its own. */
static void add_run(json_t *result, const lt_call_ctx *c, double started) {
    json_t *run = lt_run_info(c, started), *own = json_object_get(result, "run");
    if (own)
        json_object_update_missing(own, run);
    else
        json_object_set(result, "run", run);
    json_decref(run);
}

static lt_status run_command(json_t **result, lt_ctx *ctx, const lt_command *command, const lt_args *args,
                             lt_err *err) {
    const double started = lt_seconds();
    char machine[160];
    lt_call_ctx c = { .ctx = ctx, .verb = command->name, .args = args };
    LT_TRY(lt_team_create(&c.team, ctx->threads, lt_arg_string(args, "isa"), err));
    lt_log(ctx, LT_LOG_INFO, "lathe %s: %s", lt_version(), lt_team_describe(c.team, machine, sizeof machine));
    const char *core = lt_blas_core();
    if (core)
        lt_log(ctx, LT_LOG_WARN,
               "OpenBLAS takes this processor for an old one: plans and fits are slow unless "
               "OPENBLAS_CORETYPE=%s is set when the process starts",
               core);
    lt_status st = command->run(&c, result, err);
    if (lt_args_misused(args)) {
        json_decref(*result);
        *result = NULL;
        st = lt_fail(err, LT_EINTERNAL, "%s: no option row fits \"%s\"", command->name, lt_args_misused(args));
    }
    if (*result) add_run(*result, &c, started);
    lt_team_destroy(c.team);
    return st;
}

/* Rooms below know no output: theirs is the folder that this call names. */
static lt_status run_with_spill(json_t **result, lt_ctx *ctx, const lt_command *command, const lt_args *args,
                                lt_err *err) {
    char *folder = lt_spill_folder(ctx, json_string_value(json_object_get(lt_args_json(args), "output")));
    if (!folder) return lt_fail(err, LT_ENOMEM, "%s: out of memory", command->name);
    ctx->scratch = folder;
    const lt_status st = run_command(result, ctx, command, args, err);
    lt_free(folder);
    return st;
}

lt_status lt_call(lt_ctx *ctx, const char *verb, const char *options_json, char **result_json, lt_err *err) {
    lt_err own_err = { 0 };
    if (!err) err = &own_err; /* codes are read back from it */
    if (result_json) *result_json = NULL;
    LT_REQUIRE(err, ctx && verb && ctx->threads >= 1, "lt_call: a context made by lt_ctx_init and a verb are needed");
    const lt_command *command;
    json_t *options = NULL, *result = NULL;
    lt_args *args = NULL;
    LT_TRY(find_verb(&command, verb, err));
    lt_status st;
    LT_GO(parse_options(&options, options_json, err));
    LT_GO(lt_call_args(&args, command, options, err));
    lt_ctx own = make_ctx(ctx, args);
    st = run_with_spill(&result, &own, command, args, err);
    if (result && result_json) {
        *result_json = lt_result_text(result);
        if (!*result_json) st = lt_fail(err, LT_ENOMEM, "%s: the result as text: out of memory", verb);
    }
done:
    json_decref(result);
    lt_args_destroy(args);
    json_decref(options);
    return st;
}

void lt_result_free(char *result_json) {
    lt_free(result_json);
}

/* ---- the rows as JSON ---- */
static const char *type_name(lt_opt_type t) {
    static const char *const names[] = { "string", "path", "int", "real", "bytes", "flag" };
    return names[t];
}

static json_t *choices_json(const char *choices) {
    if (!choices) return json_null();
    json_t *list = json_array();
    for (const char *c = choices; *c;) {
        const size_t n = strcspn(c, "|");
        json_array_append_new(list, json_stringn(c, n));
        c += n + (c[n] == '|');
    }
    return list;
}

static json_t *option_json(const lt_option *o) {
    const bool required = o->dflt == lt_required, ranged = o->lo != o->hi;
    return json_pack("{s:s, s:s, s:b, s:s?, s:o, s:o, s:o, s:b, s:s?, s:s?}", "name", o->name, "type",
                     type_name(o->type), "required", required, "default", required ? NULL : o->dflt, "low",
                     ranged ? lt_result_real(o->lo) : json_null(), "high", ranged ? lt_result_real(o->hi) : json_null(),
                     "choices", choices_json(o->choices), "repeat", o->repeat, "metavar", o->metavar, "help", o->help);
}

static json_t *options_json_of(const lt_option *rows, unsigned without) {
    json_t *list = json_array();
    for (const lt_option *o = rows; o && o->name; o++) {
        if ((without & LT_NO_ESTIMATE) && strcmp(o->name, "estimate") == 0) continue;
        if ((without & LT_NO_OVERWRITE) && strcmp(o->name, "overwrite") == 0) continue;
        json_array_append_new(list, option_json(o));
    }
    return list;
}

static json_t *command_json(const lt_command *c) {
    json_t *positionals = json_array();
    for (const lt_positional *p = c->positionals; p && p->name; p++)
        json_array_append_new(positionals,
                              json_pack("{s:s, s:I, s:o, s:s?}", "name", p->name, "min", (json_int_t)p->min, "max",
                                        p->max > 1u << 30 ? json_null() : json_integer((json_int_t)p->max), "help",
                                        p->help));
    return json_pack("{s:s, s:s?, s:s?, s:s?, s:s?, s:o, s:o, s:o}", "name", c->name, "alias", c->alias, "summary",
                     c->summary, "details", c->details, "example", c->example, "positionals", positionals, "options",
                     options_json_of(c->options, 0), "global_options", options_json_of(lt_global_options, c->without));
}

char *lt_describe(void) {
    json_t *commands = json_array();
    for (const lt_command *const *c = lt_commands; *c; c++) json_array_append_new(commands, command_json(*c));
    json_t *all = json_pack("{s:s, s:o, s:o}", "version", lt_version(), "commands", commands, "global_options",
                            options_json_of(lt_global_options, 0));
    char *text = all ? lt_result_text(all) : NULL;
    json_decref(all);
    return text;
}
