/* SPDX-License-Identifier: Apache-2.0 */
/* cli/main.c - parse, call, print. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the handler can reach: beside that of fault.c the one global of the program. */
static volatile sig_atomic_t stop_asked;

/* The first signal asks the verb to stop at its next step, the second one kills. */
static void on_signal(int number) {
    (void)number;
    stop_asked = 1;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

static void catch_signals(void) {
    struct sigaction stop = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&stop.sa_mask);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    cli_catch_bus();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write: exit code 4 */
    signal(SIGXFSZ, SIG_IGN); /* so is a file at its size limit */
}

/* A closed descriptor 0, 1 or 2 would be given to the next file that is opened: an output could end up in a model. */
static void occupy_standard_files(void) {
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            _exit(LT_EIO);
}

/* Two libraries read their settings only when they are loaded, so the program starts itself again, once:
 * Idle threads of libgomp spin for milliseconds by default. Where cores are shared that costs ten times the work
 * itself. OpenBLAS takes a processor that it does not know for an old one. (docs/performance.md has both.) */
static void start_with_settings(char **argv) {
    bool set = false;
    char self[4096];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1); /* by its name, which `ps` shows */
    const char *core = lt_blas_core();
    if (n <= 0) return;
    self[n] = 0;
    if (!getenv("GOMP_SPINCOUNT") && !getenv("OMP_WAIT_POLICY")) set = setenv("GOMP_SPINCOUNT", "2000", 1) == 0;
    if (core && !getenv("OPENBLAS_CORETYPE")) set = setenv("OPENBLAS_CORETYPE", core, 1) == 0 || set;
    if (set) execv(self, argv); /* where that fails, all works but slower */
}

/* glibc gives each thread a heap of its own in pieces of 64 MiB, which the matrices of a fit are too big for: they went
 * back to the system and came again, page by page, with each of them. */
static void share_one_heap(void) {
    mallopt(M_ARENA_MAX, 1);
}

typedef struct program {
    cli_call call;
    cli_progress progress;
    bool streamed, out_failed;
} program;

static int on_progress(void *user, const char *stage, double done, double total, const char *unit) {
    program *p = user;
    cli_progress_show(&p->progress, stage, done, total, unit);
    return stop_asked || p->out_failed;
}

static void on_log(void *user, lt_log_level level, const char *line) {
    static const char *const names[] = { "error", "warning", "info", "debug" };
    program *p = user;
    const int shown = p->call.quiet ? LT_LOG_ERROR : LT_LOG_WARN + p->call.verbose;
    if ((int)level > shown) return;
    cli_progress_clear(&p->progress);
    fprintf(stderr, "lathe: %s: %s\n", names[level], line);
}

static void on_emit(void *user, const char *text, size_t bytes) {
    program *p = user;
    cli_progress_clear(&p->progress);
    p->progress.muted = isatty(STDOUT_FILENO);
    p->streamed = true;
    if (fwrite(text, 1, bytes, stdout) != bytes || fflush(stdout) != 0) p->out_failed = true;
}

static lt_status print_json(const char *text, bool as_json, bool streamed) {
    if (as_json) {
        fputs(text, stdout);
        fputc('\n', stdout);
        return LT_OK;
    }
    json_t *result = json_loads(text, JSON_ALLOW_NUL, NULL);
    if (!result) return LT_EINTERNAL;
    cli_print_result(stdout, result, streamed);
    json_decref(result);
    return LT_OK;
}

/* Verbs that start the program again have an option that says which; it is this one. */
static void name_program(const cli_call *c) {
    static const char name[] = "program";
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(c->command, "options"), i, row) {
        const char *option = json_string_value(json_object_get(row, "name"));
        if (option && strcmp(option, name) == 0 && !json_object_get(c->options, name))
            json_object_set_new(c->options, name, json_string("/proc/self/exe"));
    }
}

static lt_status run_verb(program *p, lt_err *err) {
    lt_ctx ctx;
    lt_ctx_init(&ctx);
    ctx.log = on_log;
    ctx.progress = on_progress;
    ctx.emit = p->call.json ? NULL : on_emit;
    ctx.user = p;
    name_program(&p->call);
    p->progress.quiet = p->call.quiet;
    p->progress.terminal = isatty(STDERR_FILENO);
    char *options = json_dumps(p->call.options, 0), *result = NULL;
    if (!options) {
        snprintf(err->message, sizeof err->message, "options: out of memory");
        return err->code = LT_ENOMEM;
    }
    lt_status st = lt_call(&ctx, p->call.verb, options, &result, err);
    cli_progress_clear(&p->progress);
    if (result && print_json(result, p->call.json, p->streamed) != LT_OK && st == LT_OK) {
        snprintf(err->message, sizeof err->message, "%s: the result is not JSON", p->call.verb);
        st = LT_EINTERNAL;
    }
    lt_result_free(result);
    free(options);
    return st;
}

static lt_status dispatch(program *p, const json_t *rows, lt_err *err) {
    const cli_call *c = &p->call;
    if (c->version) {
        printf("lathe %s\n", lt_version());
        return LT_OK;
    }
    if (c->markdown)
        cli_markdown(stdout, rows);
    else if (c->help && c->command)
        cli_help_verb(stdout, c->command);
    else if (c->help && !c->verb[0])
        cli_help(stdout, rows);
    else if (!c->verb[0]) {
        cli_help(stderr, rows);
        snprintf(err->message, sizeof err->message, "no verb is given");
        return LT_EUSAGE;
    } else
        return run_verb(p, err);
    return LT_OK;
}

/* What stands in a buffer may still fail to reach a full disk or a closed pipe. */
static lt_status finish_output(const program *p, lt_status st, lt_err *err) {
    bool failed = p->out_failed || ferror(stdout) != 0;
    errno = 0;
    failed = fclose(stdout) != 0 || failed;
    if (!failed || (st != LT_OK && st != LT_EINTERRUPTED)) return st;
    if (st == LT_EINTERRUPTED && !p->out_failed) return st;
    snprintf(err->message, sizeof err->message, "standard output could not be written (%s)",
             errno ? strerror(errno) : "write error");
    return LT_EIO;
}

int main(int argc, char **argv) {
    occupy_standard_files();
    start_with_settings(argv);
    share_one_heap();
    catch_signals();
    program p = { 0 };
    lt_err err = { 0 };
    char *text = lt_describe();
    json_t *rows = text ? json_loads(text, 0, NULL) : NULL;
    lt_status st = LT_EINTERNAL;
    lt_result_free(text);
    if (!rows)
        snprintf(err.message, sizeof err.message, "the table of verbs could not be read");
    else
        st = cli_parse(&p.call, rows, argc, argv, &err);
    if (rows && st == LT_OK) st = dispatch(&p, rows, &err);
    st = finish_output(&p, st, &err);
    if (st != LT_OK) fprintf(stderr, "lathe: error: %s\n", err.message[0] ? err.message : "unknown");
    json_decref(p.call.options);
    json_decref(rows);
    return (int)st;
}
