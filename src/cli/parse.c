/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const cli_own_option cli_own_options[] = {
    { 0, "json", "print the result as JSON" },
    { 'q', "quiet", "no progress, no warnings" },
    { 'v', "verbose", "say more on stderr; twice: everything" },
    { 'h', "help", "this text" },
    { 0, NULL, NULL },
};

typedef struct parser {
    cli_call *call;
    const json_t *rows;
    int argc, at; /* at: next argument */
    char **argv;
    char **words; /* positional arguments, borrowed */
    size_t n_words;
    bool unknown; /* an option that no row has: the rest is not looked at */
} parser;

static lt_status __attribute__((format(printf, 2, 3))) usage(lt_err *err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return err->code = LT_EUSAGE;
}

static const char *text_of(const json_t *row, const char *key) {
    return json_string_value(json_object_get(row, key));
}

static bool same_name(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] && !(a[i] == '_' && b[i] == '-')) return false;
    return b[n] == 0;
}

static bool is_called(const json_t *row, const char *key, const char *name, size_t n) {
    const char *text = text_of(row, key);
    return text && strlen(text) == n && same_name(name, text, n);
}

/* By name, or by the other name that a verb may have. */
static const json_t *find_in(const json_t *list, const char *name, size_t n) {
    size_t i;
    json_t *row;
    json_array_foreach(list, i,
                       row) if (is_called(row, "name", name, n) || is_called(row, "alias", name, n)) return row;
    return NULL;
}

/* The row of an option: the verb's own, then the global ones (before the verb is known, all of these). */
static const json_t *find_option(const parser *p, const char *name, size_t n) {
    const json_t *command = p->call->command;
    const json_t *row = command ? find_in(json_object_get(command, "options"), name, n) : NULL;
    return row ? row : find_in(json_object_get(command ? command : p->rows, "global_options"), name, n);
}

static bool is_flag(const json_t *row) {
    return strcmp(text_of(row, "type"), "flag") == 0;
}

static lt_status store(parser *p, const char *name, bool repeat, json_t *value, lt_err *err) {
    json_t *options = p->call->options, *old = json_object_get(options, name);
    if (!value) return usage(err, "--%s: the value is not UTF-8 text", name);
    if (old && !repeat) {
        json_decref(value);
        return usage(err, "--%s: given more than once", name);
    }
    if (repeat && !old) json_object_set_new(options, name, old = json_array());
    if (repeat)
        json_array_append_new(old, value);
    else if (json_object_set_new(options, name, value) != 0)
        return usage(err, "an option's name is not UTF-8 text");
    return LT_OK;
}

/* true: it was one of the program's own. */
static bool own_option(parser *p, const char *name, size_t n) {
    cli_call *c = p->call;
    if (n == 4 && memcmp(name, "json", n) == 0) return c->json = true;
    if (n == 5 && memcmp(name, "quiet", n) == 0) return c->quiet = true;
    if (n == 7 && memcmp(name, "verbose", n) == 0) return ++c->verbose > 0;
    if (n == 4 && memcmp(name, "help", n) == 0) return c->help = true;
    if (n == 7 && memcmp(name, "version", n) == 0) return c->version = true;
    if (n == 8 && memcmp(name, "markdown", n) == 0 && strcmp(c->verb, "help") == 0) return c->markdown = true;
    return false;
}

static lt_status option_value(parser *p, const json_t *row, const char *equals, lt_err *err) {
    const char *name = text_of(row, "name"), *value = equals ? equals + 1 : NULL;
    if (is_flag(row)) return store(p, name, false, value ? json_string(value) : json_true(), err);
    if (!value) {
        /* a value may begin with '-' (a negative number, standard input), but "--" is the next option */
        if (p->at >= p->argc || strncmp(p->argv[p->at], "--", 2) == 0)
            return usage(err, "--%s: a value is missing", name);
        value = p->argv[p->at++];
    }
    return store(p, name, json_is_true(json_object_get(row, "repeat")), json_string(value), err);
}

static lt_status long_option(parser *p, const char *arg, lt_err *err) {
    const char *name = arg + 2, *equals = strchr(name, '=');
    const size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const json_t *row = find_option(p, name, n);
    if (row) return option_value(p, row, equals, err);
    if (n > 3 && strncmp(name, "no-", 3) == 0 && !equals) {
        row = find_option(p, name + 3, n - 3);
        if (row && is_flag(row)) return store(p, text_of(row, "name"), false, json_false(), err);
    }
    if (!equals && own_option(p, name, n)) return LT_OK;
    if (!p->call->command) return usage(err, "unknown option --%.*s before a verb", (int)n, name);
    /* lt_call refuses it, and knows what is near */
    char text[80];
    snprintf(text, sizeof text, "%.*s", (int)n, name);
    p->unknown = true;
    json_object_clear(p->call->options);
    return store(p, text, false, json_true(), err);
}

static lt_status short_options(parser *p, const char *arg, lt_err *err) {
    for (const char *c = arg + 1; *c; c++) {
        if (*c == 'o' && c == arg + 1) {
            const json_t *row = find_option(p, "output", 6);
            if (row) return option_value(p, row, c[1] == 0 ? NULL : c[1] == '=' ? c + 1 : c, err);
        }
        const cli_own_option *own = cli_own_options;
        while (own->name && own->letter != *c) own++;
        if (!own->name) return usage(err, "unknown option -%c", isprint((unsigned char)*c) ? *c : '?');
        own_option(p, own->name, strlen(own->name));
    }
    return LT_OK;
}

static bool is_word(const char *arg) {
    return arg[0] != '-' || arg[1] == 0 || isdigit((unsigned char)arg[1]) || arg[1] == '.';
}

static lt_status one_option(parser *p, lt_err *err) {
    const char *arg = p->argv[p->at++];
    return arg[1] == '-' ? long_option(p, arg, err) : short_options(p, arg, err);
}

/* Verbs may have two words: "evaluate perplexity". */
static void take_verb(parser *p) {
    cli_call *c = p->call;
    const char *first = p->argv[p->at++], *second = p->at < p->argc && is_word(p->argv[p->at]) ? p->argv[p->at] : NULL;
    const json_t *commands = json_object_get(p->rows, "commands");
    const size_t n = strlen(first);
    snprintf(c->verb, sizeof c->verb, "%s", first);
    c->command = find_in(commands, c->verb, strlen(c->verb));
    bool begins = false;
    size_t i;
    json_t *row;
    json_array_foreach(commands, i, row) begins =
        begins || (strncmp(text_of(row, "name"), first, n) == 0 && text_of(row, "name")[n] == ' ');
    if (!second || !begins) return;
    char both[sizeof c->verb];
    const int length = snprintf(both, sizeof both, "%s %s", first, second);
    if (length < 0 || (size_t)length >= sizeof both) return;
    const json_t *command = find_in(commands, both, (size_t)length);
    if (!command && c->command) return; /* "stats FILE" where "stats" is a verb too */
    memcpy(c->verb, both, sizeof both);
    c->command = command;
    p->at++;
}

/* Words go to the positional rows in order; a row that takes many leaves what the later ones need. */
static lt_status place_words(parser *p, lt_err *err) {
    const json_t *rows = json_object_get(p->call->command, "positionals");
    size_t at = 0, needed_later = 0, i;
    json_t *row;
    json_array_foreach(rows, i, row) needed_later += (size_t)json_integer_value(json_object_get(row, "min"));
    json_array_foreach(rows, i, row) {
        const json_t *most = json_object_get(row, "max");
        const size_t max = json_is_null(most) ? p->n_words : (size_t)json_integer_value(most);
        needed_later -= (size_t)json_integer_value(json_object_get(row, "min"));
        for (size_t k = 0; k < max && at + needed_later < p->n_words; k++, at++)
            if (store(p, text_of(row, "name"), max > 1 || json_is_null(most), json_string(p->words[at]), err) != LT_OK)
                return err->code;
    }
    if (at < p->n_words) return usage(err, "%s: unexpected argument \"%.80s\"", p->call->verb, p->words[at]);
    return LT_OK;
}

static lt_status parse(parser *p, lt_err *err) {
    while (p->at < p->argc && !is_word(p->argv[p->at]))
        if (one_option(p, err) != LT_OK) return err->code;
    if (p->at >= p->argc) return LT_OK;
    take_verb(p);
    if (!p->call->command && strcmp(p->call->verb, "help") != 0) return LT_OK;
    bool only_words = false;
    while (p->at < p->argc && !p->unknown) {
        if (!only_words && strcmp(p->argv[p->at], "--") == 0) {
            only_words = true;
            p->at++;
        } else if (only_words || is_word(p->argv[p->at]))
            p->words[p->n_words++] = p->argv[p->at++];
        else if (one_option(p, err) != LT_OK)
            return err->code;
    }
    return LT_OK;
}

/* "help VERB" is "VERB --help". */
static void help_of_verb(parser *p) {
    cli_call *c = p->call;
    c->help = true;
    c->verb[0] = 0;
    if (p->n_words == 0) return;
    char *argv[] = { p->words[0], p->n_words > 1 ? p->words[1] : NULL };
    parser inner = { .call = c, .rows = p->rows, .argc = p->n_words > 1 ? 2 : 1, .argv = argv };
    take_verb(&inner);
}

lt_status cli_parse(cli_call *out, const json_t *rows, int argc, char **argv, lt_err *err) {
    *out = (cli_call){ .options = json_object() };
    parser p = { .call = out,
                 .rows = rows,
                 .argc = argc,
                 .at = 1,
                 .argv = argv,
                 .words = calloc((size_t)argc + 1, sizeof *p.words) };
    if (!p.words || !out->options) {
        snprintf(err->message, sizeof err->message, "out of memory");
        err->code = LT_ENOMEM;
    } else if (parse(&p, err) == LT_OK) {
        if (strcmp(out->verb, "help") == 0)
            help_of_verb(&p);
        else if (out->command && !p.unknown && !out->help)
            place_words(&p, err);
    }
    free(p.words);
    return err->code;
}
