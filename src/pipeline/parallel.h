/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/parallel.h - jobs side by side as processes of the program, within one limit of memory.
 *
 * Processes, because each keeps its own promise about memory and can be killed alone. A job starts when it is ready and
 * what it needs fits beside what the running ones were given; it gets that as its limit, and a share of the threads.
 * One that needs more than there is runs alone with all of it. */
#ifndef LT_PIPELINE_PARALLEL_H
#define LT_PIPELINE_PARALLEL_H

#include "core/core.h"

typedef enum lt_job_ready { LT_JOB_READY, LT_JOB_WAITS, LT_JOB_DONE } lt_job_ready; /* done, or not to be done */
typedef struct lt_parallel_in {
    const lt_ctx *ctx;   /* threads, max_memory (0: no limit) */
    const char *program; /* path of the program whose arguments `command` gives */
    size_t n, at_once;   /* jobs; processes at most */
    lt_job_ready (*ready)(void *user, size_t job);
    /* *bytes: what the job says that it needs when `share` is its limit (0: none); 0: not known. LT_ENOMEM: more. */
    lt_status (*estimate)(size_t *bytes, void *user, size_t job, size_t share, lt_err *err);
    /* Arguments of the program, NULL-terminated, for lt_argv_free. max_memory 0: no limit. */
    lt_status (*command)(char ***argv, void *user, size_t job, size_t max_memory, int threads, lt_err *err);
    lt_status (*finished)(void *user, size_t job, lt_err *err); /* its process has ended well */
    /* It has not: why, in its words. LT_OK: the others go on. */
    lt_status (*failed)(void *user, size_t job, const lt_err *why, lt_err *err);
    void *user;
} lt_parallel_in;
/* A failure that a function above gives back ends all: they are asked to stop, and waited for. */
lt_status lt_run_parallel(const lt_parallel_in *in, lt_err *err);

/* Appends a printf'd argument to a NULL-terminated list; *argv NULL: a new one. */
lt_status lt_argv_add(char ***argv, lt_err *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
void lt_argv_free(char **argv);

#endif
