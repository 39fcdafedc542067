/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <string.h>

enum { WIDTH = 100, INDENT = 28 };

static const char *text_of(const json_t *row, const char *key) {
    return json_string_value(json_object_get(row, key));
}

/* Words of text from column `at` on, wrapped at WIDTH and continued at column `indent`. */
static void wrapped(FILE *f, const char *text, size_t at, size_t indent) {
    for (bool first = true; *text; first = false) {
        const size_t n = strcspn(text, " \n");
        const bool fits = at + !first + n <= WIDTH && (first || text[-1] != '\n');
        if (!first) fits ? fputc(' ', f) : fprintf(f, "\n%*s", (int)indent, "");
        at = (fits ? at + !first : indent) + n;
        fprintf(f, "%.*s", (int)n, text);
        text += n;
        if (*text) text++;
    }
    fputc('\n', f);
}

static void upper(FILE *f, const char *name) {
    for (; *name; name++) fputc(*name >= 'a' && *name <= 'z' ? *name - 'a' + 'A' : *name == '-' ? '_' : *name, f);
}

static size_t count(const json_t *row, const char *key) {
    const json_t *v = json_object_get(row, key);
    return json_is_null(v) ? 2 : (size_t)json_integer_value(v);
}

static void usage_line(FILE *f, const json_t *command) {
    size_t i;
    json_t *row;
    fprintf(f, "lathe %s", text_of(command, "name"));
    json_array_foreach(json_object_get(command, "positionals"), i, row) {
        fputs(count(row, "min") == 0 ? " [" : " ", f);
        upper(f, text_of(row, "name"));
        fputs(count(row, "max") > 1 ? " ..." : "", f);
        fputs(count(row, "min") == 0 ? "]" : "", f);
    }
    fputs(" [options]\n", f);
}

/* "--keep WHAT", "--[no-]json", "--score last|all" */
static size_t option_head(FILE *f, const json_t *o) {
    const json_t *choices = json_object_get(o, "choices");
    const char *type = text_of(o, "type"), *meta = text_of(o, "metavar");
    const bool flag = strcmp(type, "flag") == 0;
    const bool on = flag && text_of(o, "default") && strcmp(text_of(o, "default"), "true") == 0;
    size_t n = (size_t)fprintf(f, "--%s%s", on ? "[no-]" : "", text_of(o, "name"));
    if (flag) return n;
    n += (size_t)fprintf(f, " ");
    if (meta || !json_is_array(choices)) {
        if (meta) return n + (size_t)fprintf(f, "%s", meta);
        upper(f, type);
        return n + strlen(type);
    }
    size_t i;
    json_t *choice;
    json_array_foreach(choices, i, choice) n += (size_t)fprintf(f, "%s%s", i ? "|" : "", json_string_value(choice));
    return n;
}

/* What the row knows beside its help: default, range, repetition. */
static void option_facts(char *buf, size_t cap, const json_t *o) {
    const json_t *low = json_object_get(o, "low"), *high = json_object_get(o, "high");
    const char *dflt = text_of(o, "default"), *type = text_of(o, "type");
    size_t n = 0;
    buf[0] = 0;
#define FACT(...)                                                                                                      \
    do {                                                                                                               \
        n += (size_t)snprintf(buf + n, cap - n, "%s", n ? "; " : " (");                                                \
        n += (size_t)snprintf(buf + n, cap - n, __VA_ARGS__);                                                          \
    } while (0)
    if (json_is_true(json_object_get(o, "required"))) FACT("required");
    if (dflt && strcmp(type, "flag") != 0) FACT("default %s", dflt);
    if (strcmp(type, "bytes") != 0 && json_is_number(low)) {
        if (json_is_number(high) && json_number_value(high) < 1e6)
            FACT("%g .. %.15g", json_number_value(low), json_number_value(high));
        else
            FACT("at least %g", json_number_value(low));
    }
    if (json_is_true(json_object_get(o, "repeat"))) FACT("may be repeated");
#undef FACT
    if (n) snprintf(buf + n, cap - n, ")");
}

static void option_line(FILE *f, const json_t *o) {
    char facts[256], text[1024];
    option_facts(facts, sizeof facts, o);
    snprintf(text, sizeof text, "%s%s", text_of(o, "help") ? text_of(o, "help") : "", facts);
    fputs("  ", f);
    const size_t n = 2 + option_head(f, o);
    if (n + 2 > INDENT)
        fprintf(f, "\n%*s", INDENT, "");
    else
        fprintf(f, "%*s", (int)(INDENT - n), "");
    wrapped(f, text, INDENT, INDENT);
}

static void own_option_lines(FILE *f) {
    for (const cli_own_option *o = cli_own_options; o->name; o++) {
        char head[40];
        const int n = o->letter ? snprintf(head, sizeof head, "-%c, --%s", o->letter, o->name)
                                : snprintf(head, sizeof head, "--%s", o->name);
        fprintf(f, "  %s%*s%s\n", head, INDENT - 2 - n, "", o->help);
    }
}

static void option_list(FILE *f, const char *title, const json_t *options) {
    size_t i;
    json_t *o;
    if (json_array_size(options) == 0) return;
    fprintf(f, "\n%s\n", title);
    json_array_foreach(options, i, o) option_line(f, o);
}

void cli_help_verb(FILE *f, const json_t *command) {
    size_t i;
    json_t *row;
    fputs("usage: ", f);
    usage_line(f, command);
    fputc('\n', f);
    wrapped(f, text_of(command, "summary"), 0, 0);
    if (text_of(command, "details")) {
        fputc('\n', f);
        wrapped(f, text_of(command, "details"), 0, 0);
    }
    if (json_array_size(json_object_get(command, "positionals")) > 0) fputs("\narguments\n", f);
    json_array_foreach(json_object_get(command, "positionals"), i, row) {
        const int pad = INDENT - 2 - (int)strlen(text_of(row, "name"));
        fputs("  ", f);
        upper(f, text_of(row, "name"));
        fprintf(f, "%*s", pad > 1 ? pad : 1, "");
        wrapped(f, text_of(row, "help") ? text_of(row, "help") : "", INDENT, INDENT);
    }
    option_list(f, "options", json_object_get(command, "options"));
    option_list(f, "options of every verb", json_object_get(command, "global_options"));
    own_option_lines(f);
    if (text_of(command, "example")) fprintf(f, "\nexample\n  %s\n", text_of(command, "example"));
}

void cli_help(FILE *f, const json_t *rows) {
    size_t i;
    json_t *c;
    fprintf(f,
            "lathe %s: make language models smaller, and show what it cost\n\nusage: lathe VERB [arguments] "
            "[options]\n\nverbs\n",
            text_of(rows, "version"));
    json_array_foreach(json_object_get(rows, "commands"), i, c) {
        const int pad = INDENT - 2 - (int)strlen(text_of(c, "name"));
        fprintf(f, "  %s%*s", text_of(c, "name"), pad > 1 ? pad : 1, "");
        wrapped(f, text_of(c, "summary"), INDENT, INDENT);
    }
    option_list(f, "options of most verbs", json_object_get(rows, "global_options"));
    own_option_lines(f);
    fputs("\nlathe VERB --help says more. Exit codes: 0 done, 1 internal fault, 2 usage, 3 bad input, 4 file system,\n"
          "5 memory limit, 6 unsupported, 7 target not met, 8 verification failed, 130 interrupted.\n",
          f);
}

/* ---- docs/commands.md ---- */
/* A cell: '|' would end it. */
static void cell(FILE *f, const char *text) {
    for (; *text; text++) fputs(*text == '|' ? "\\|" : (char[]){ *text == '\n' ? ' ' : *text, 0 }, f);
}

static void markdown_options(FILE *f, const json_t *options) {
    size_t i;
    json_t *o;
    if (json_array_size(options) == 0) return;
    fputs("\n| option | |\n|---|---|\n", f);
    json_array_foreach(options, i, o) {
        char facts[256], head[256];
        FILE *text = fmemopen(head, sizeof head, "w");
        if (!text) return;
        option_head(text, o);
        fclose(text);
        option_facts(facts, sizeof facts, o);
        fputs("| `", f);
        cell(f, head);
        fputs("` | ", f);
        cell(f, text_of(o, "help") ? text_of(o, "help") : "");
        cell(f, facts);
        fputs(" |\n", f);
    }
}

static void markdown_verb(FILE *f, const json_t *c) {
    size_t i;
    json_t *row;
    fprintf(f, "\n## %s\n\n    ", text_of(c, "name"));
    usage_line(f, c);
    fprintf(f, "\n%s.\n", text_of(c, "summary"));
    if (text_of(c, "details")) fprintf(f, "\n%s\n", text_of(c, "details"));
    const json_t *positionals = json_object_get(c, "positionals");
    if (json_array_size(positionals) > 0) fputs("\n| argument | |\n|---|---|\n", f);
    json_array_foreach(positionals, i, row) {
        fputs("| `", f);
        upper(f, text_of(row, "name"));
        fputs("` | ", f);
        cell(f, text_of(row, "help") ? text_of(row, "help") : "");
        fputs(" |\n", f);
    }
    markdown_options(f, json_object_get(c, "options"));
    if (text_of(c, "example")) fprintf(f, "\nExample:\n\n    %s\n", text_of(c, "example"));
}

void cli_markdown(FILE *f, const json_t *rows) {
    size_t i;
    json_t *c;
    fputs("# Commands\n\nMade from the option rows by `lathe help --markdown`; a test keeps it so. The same verbs and "
          "options serve "
          "`lt_call`\n(`include/lathe/lathe.h`), where an option's name may have underscores.\n\n"
          "Results go to stdout, progress and logs to stderr. Sizes: `K M G T` and `KiB MiB GiB TiB` are powers of "
          "1024, `kB MB GB TB` of\n"
          "1000. `--no-x` switches a flag off, `--x=value` and `--x value` are the same, `--` ends the options.\n\n"
          "| exit code | |\n|---|---|\n| 0 | done |\n| 1 | internal fault: a bug here |\n| 2 | usage: an argument is "
          "wrong |\n"
          "| 3 | bad or inconsistent input |\n| 4 | file system |\n| 5 | memory limit |\n| 6 | a model or operation "
          "that is not supported |\n"
          "| 7 | a target cannot be or was not met |\n| 8 | an output did not read back as written; kept for "
          "inspection |\n"
          "| 130 | interrupted; the same command resumes |\n\n## Options of every verb\n",
          f);
    markdown_options(f, json_object_get(rows, "global_options"));
    fputs("\nA verb that runs at once refuses `--estimate`, one that keeps no outputs `--overwrite`. The program "
          "adds:\n\n| option | "
          "|\n|---|---|\n",
          f);
    for (const cli_own_option *o = cli_own_options; o->name; o++) {
        fputs("| `", f);
        if (o->letter) fprintf(f, "-%c`, `", o->letter);
        fprintf(f, "--%s` | %s |\n", o->name, o->help);
    }
    json_array_foreach(json_object_get(rows, "commands"), i, c) markdown_verb(f, c);
}
