/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/parallel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef struct child {
    pid_t pid; /* 0: free */
    size_t job, memory;
    FILE *log; /* its standard error */
} child;
typedef struct pool {
    const lt_parallel_in *in;
    child *child; /* [in->at_once] */
    size_t n_running, reserved, total;
    size_t *need;  /* [in->n] bytes; 0: not asked yet */
    bool *started; /* [in->n] */
} pool;

/* ---- arguments ---- */

lt_status lt_argv_add(char ***argv, lt_err *err, const char *format, ...) {
    char text[4096];
    size_t n = 0;
    va_list args;
    va_start(args, format);
    const int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    while (*argv && (*argv)[n]) n++;
    char **longer = len >= 0 && len < (int)sizeof text ? lt_realloc(*argv, (n + 2) * sizeof *longer) : NULL;
    if (!longer) return lt_fail(err, LT_ENOMEM, "run: no memory for arguments");
    *argv = longer;
    longer[n + 1] = NULL;
    longer[n] = lt_strdup(text);
    return longer[n] ? LT_OK : lt_fail(err, LT_ENOMEM, "run: no memory for arguments");
}

void lt_argv_free(char **argv) {
    for (size_t i = 0; argv && argv[i]; i++) lt_free(argv[i]);
    lt_free(argv);
}

/* ---- one process ---- */

/* Between fork and exec: nothing but system calls. A group of its own, so that only we pass signals on; when we are
 * gone it is asked to stop. */
static void become(const char *program, char **argv, pid_t parent, int nowhere, int log) {
    static const char says[] = "run: the program for steps cannot be started";
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(LT_EINTERRUPTED);
    if (dup2(nowhere, STDIN_FILENO) < 0 || dup2(nowhere, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
        _exit(LT_EIO);
    execv(program, argv);
    (void)!write(STDERR_FILENO, says, sizeof says - 1);
    _exit(LT_EIO);
}

static lt_status start_process(child *c, const char *program, char **argv, lt_err *err) {
    const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    const pid_t parent = getpid();
    c->log = tmpfile();
    c->pid = nowhere >= 0 && c->log ? fork() : -1;
    if (c->pid == 0) become(program, argv, parent, nowhere, fileno(c->log));
    const int why = errno;
    if (nowhere >= 0) close(nowhere);
    if (c->pid > 0) return LT_OK;
    if (c->log) fclose(c->log);
    *c = (child){ 0 };
    return lt_fail(err, LT_EIO, "run: a step cannot be started: %s (%s)", strerror(why), program);
}

/* What the program said last, without its "lathe: error: ". */
static void last_line(const child *c, char *text, size_t cap) {
    static const char prefix[] = "lathe: error: ";
    char line[1024];
    text[0] = 0;
    rewind(c->log);
    while (fgets(line, sizeof line, c->log)) {
        line[strcspn(line, "\n")] = 0;
        const char *from = strncmp(line, prefix, strlen(prefix)) == 0 ? line + strlen(prefix) : line;
        if (*from) snprintf(text, cap, "%.*s", (int)cap - 1, from);
    }
}

static lt_err failure(const child *c, int status) {
    static const lt_status known[] = { LT_EUSAGE,       LT_EDATA,   LT_EIO,     LT_ENOMEM,
                                       LT_EUNSUPPORTED, LT_ETARGET, LT_EVERIFY, LT_EINTERRUPTED };
    lt_err why = { .code = LT_EINTERNAL };
    char line[sizeof why.message - 64];
    last_line(c, line, sizeof line);
    if (WIFSIGNALED(status))
        snprintf(why.message, sizeof why.message, "ended by signal %d%s%s", WTERMSIG(status), *line ? ": " : "", line);
    else if (*line)
        snprintf(why.message, sizeof why.message, "%s", line);
    else
        snprintf(why.message, sizeof why.message, "ended with status %d without a word", WEXITSTATUS(status));
    for (size_t i = 0; i < LT_COUNTOF(known); i++)
        if (WIFEXITED(status) && WEXITSTATUS(status) == (int)known[i]) why.code = known[i];
    return why;
}

/* ---- ends ---- */

static void forget(pool *p, child *c) {
    p->reserved -= c->memory;
    p->n_running--;
    fclose(c->log);
    *c = (child){ 0 };
}

static lt_status finish(pool *p, child *c, int status, lt_err *err) {
    const size_t job = c->job;
    const bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    const bool too_small = WIFEXITED(status) && WEXITSTATUS(status) == LT_ENOMEM && c->memory < p->total;
    const lt_err why = well || too_small ? (lt_err){ 0 } : failure(c, status);
    forget(p, c);
    if (too_small) { /* more than was foreseen: once more, alone */
        p->need[job] = p->total;
        p->started[job] = false;
    }
    if (too_small) return LT_OK;
    return well ? p->in->finished(p->in->user, job, err) : p->in->failed(p->in->user, job, &why, err);
}

static lt_status reap(pool *p, lt_err *err) {
    for (size_t i = 0; i < p->in->at_once; i++) {
        child *c = &p->child[i];
        int status;
        const pid_t pid = c->pid ? waitpid(c->pid, &status, WNOHANG) : 0;
        if (pid == c->pid && pid > 0) LT_TRY(finish(p, c, status, err));
        if (pid < 0 && errno != EINTR) return lt_fail(err, LT_EIO, "run: a step was lost: %s", strerror(errno));
    }
    return LT_OK;
}

static void stop_all(pool *p) {
    for (size_t i = 0; i < p->in->at_once; i++)
        if (p->child[i].pid) kill(p->child[i].pid, SIGTERM);
    for (size_t i = 0; i < p->in->at_once; i++) {
        child *c = &p->child[i];
        if (!c->pid) continue;
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) continue;
        forget(p, c);
    }
}

/* ---- starts ---- */

static lt_status find_need(pool *p, size_t job, lt_err *err) {
    enum { LEAST = 1 << 20 }; /* that the program takes as a limit */
    const size_t share = lt_max_size(p->total / p->in->at_once, LEAST);
    size_t bytes = 0;
    lt_err why = { 0 };
    if (p->total == 0 || p->need[job]) return LT_OK;
    const lt_status st = p->in->estimate(&bytes, p->in->user, job, share, &why);
    if (st == LT_EINTERRUPTED) return lt_fail(err, st, "%s", why.message);
    if (st == LT_ENOMEM) bytes = p->total; /* any other failure the step meets itself, and says it */
    p->need[job] = lt_min_size(lt_max_size(bytes, share), p->total);
    return LT_OK;
}

static child *free_place(pool *p) {
    size_t i = 0;
    while (i < p->in->at_once && p->child[i].pid) i++;
    return i < p->in->at_once ? &p->child[i] : NULL;
}

static size_t count_ready(const pool *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->in->n; i++) n += !p->started[i] && p->in->ready(p->in->user, i) == LT_JOB_READY;
    return n;
}

static lt_status start(pool *p, size_t job, size_t n_ready, lt_err *err) {
    const size_t beside = lt_min_size(p->in->at_once, p->n_running + n_ready);
    const int threads = p->in->ctx->threads / (int)beside;
    child *c = free_place(p);
    char **argv = NULL;
    lt_status st = p->in->command(&argv, p->in->user, job, p->need[job], threads > 1 ? threads : 1, err);
    if (st == LT_OK) st = start_process(c, p->in->program, argv, err);
    lt_argv_free(argv);
    if (st != LT_OK) return st;
    c->job = job;
    c->memory = p->need[job];
    p->reserved += c->memory;
    p->n_running++;
    p->started[job] = true;
    return LT_OK;
}

static lt_status start_ready(pool *p, lt_err *err) {
    size_t n_ready = count_ready(p);
    for (size_t i = 0; i < p->in->n && n_ready && free_place(p); i++) {
        if (p->started[i] || p->in->ready(p->in->user, i) != LT_JOB_READY) continue;
        LT_TRY(find_need(p, i, err));
        if (p->n_running > 0 && p->need[i] > p->total - p->reserved) continue;
        LT_TRY(start(p, i, n_ready--, err));
    }
    return LT_OK;
}

/* ---- together ---- */

static lt_status run(pool *p, lt_err *err) {
    const struct timespec moment = { .tv_nsec = 20000000 };
    for (;;) {
        size_t done = 0;
        LT_TRY(reap(p, err));
        LT_TRY(start_ready(p, err));
        if (p->n_running == 0) return LT_OK;
        for (size_t i = 0; i < p->in->n; i++) done += p->in->ready(p->in->user, i) == LT_JOB_DONE;
        LT_TRY(lt_progress(p->in->ctx, err, "run", (double)done, (double)p->in->n, "steps"));
        nanosleep(&moment, NULL);
    }
}

lt_status lt_run_parallel(const lt_parallel_in *in, lt_err *err) {
    pool p = { .in = in };
    LT_REQUIRE(err, in->program, "run: --jobs needs the program that steps are run with: give --program");
    if (in->ctx->max_memory) /* beside what this process holds */
        p.total = in->ctx->max_memory - lt_min_size(lt_current_rss_bytes(), in->ctx->max_memory / 2);
    p.child = lt_calloc(in->at_once, sizeof *p.child);
    p.need = lt_calloc(in->n, sizeof *p.need);
    p.started = lt_calloc(in->n, sizeof *p.started);
    lt_status st = p.child && p.need && p.started ? LT_OK : lt_fail(err, LT_ENOMEM, "run: out of memory");
    if (st == LT_OK) st = run(&p, err);
    if (p.child) stop_all(&p);
    lt_free(p.child);
    lt_free(p.need);
    lt_free(p.started);
    return st;
}
