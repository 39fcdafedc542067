/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/speed.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "model/settle.h"

enum { RUNS = 3 };
static const double enough_s = 8.0; /* of runs; a slow model is measured once */

typedef struct task {
    lt_generate_in in;
    lt_speed speed;
    lt_status st;
    lt_err err;
} task;

static lt_status measure(task *t, lt_err *err) {
    lt_generate_out out;
    lt_generate_in warm = t->in;
    warm.n_prompt = lt_min_size(warm.n_prompt, 16);
    warm.max_new = 2;
    lt_model_settle(t->in.model); /* as generate does; this process is here for it alone */
    LT_TRY(lt_generate(&out, &warm, err));
    double spent = 0;
    for (int run = 0; run < RUNS && (run == 0 || spent < enough_s); run++) {
        LT_TRY(lt_generate(&out, &t->in, err));
        const double prefill = (double)t->in.n_prompt / out.prefill_s, decode = (double)(out.n_new - 1) / out.decode_s;
        if (prefill > t->speed.prefill_tok_s) t->speed.prefill_tok_s = prefill;
        if (decode > t->speed.decode_tok_s) t->speed.decode_tok_s = decode;
        spent += out.prefill_s + out.decode_s;
    }
    t->speed.peak_bytes = lt_peak_rss_bytes();
    return LT_OK;
}

static void *run_task(void *arg) {
    task *t = arg;
    t->st = measure(t, &t->err);
    return NULL;
}

/* The forked thread's OpenMP team stayed behind in the parent; a new thread makes one of its own. */
static void child(task *t, int fd) {
    pthread_t thread;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (pthread_create(&thread, NULL, run_task, t) != 0 || pthread_join(thread, NULL) != 0) _exit(1);
    const char *p = (const char *)t;
    for (size_t done = 0; done < sizeof *t;) {
        const ssize_t n = write(fd, p + done, sizeof *t - done);
        if (n <= 0) _exit(1);
        done += (size_t)n;
    }
    _exit(0);
}

/* Reads the child's answer; *got: bytes of it. Between waits the caller may ask to stop. */
static lt_status receive(task *t, size_t *got, int fd, const lt_speed_in *in, lt_err *err) {
    struct pollfd p = { .fd = fd, .events = POLLIN };
    for (*got = 0; *got < sizeof *t;) {
        LT_TRY(lt_progress(in->c->ctx, err, "measure speed", (double)in->at, (double)in->of, "models"));
        const int ready = poll(&p, 1, 100);
        if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
        const ssize_t n = ready > 0 ? read(fd, (char *)t + *got, sizeof *t - *got) : -1;
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return LT_OK;
        *got += (size_t)n;
    }
    return LT_OK;
}

static lt_status in_child(task *t, const lt_speed_in *in, lt_err *err) {
    int fd[2];
    if (pipe(fd) != 0) return lt_fail(err, LT_EIO, "speed: no pipe (%s)", strerror(errno));
    const pid_t pid = fork();
    if (pid == 0) {
        close(fd[0]);
        child(t, fd[1]);
    }
    close(fd[1]);
    task answer;
    size_t got = 0;
    lt_status st = pid > 0 ? receive(&answer, &got, fd[0], in, err)
                           : lt_fail(err, LT_ENOMEM, "speed: no child process (%s)", strerror(errno));
    close(fd[0]);
    if (pid > 0 && st != LT_OK) kill(pid, SIGKILL);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    if (st != LT_OK) return st;
    if (got < sizeof answer)
        return lt_fail(err, LT_ENOMEM, "speed: the process that measures ended early; out of memory?");
    *t = answer;
    return LT_OK;
}

lt_status lt_speed_measure(lt_speed *out, const lt_speed_in *in, lt_err *err) {
    const size_t most = in->model->config.max_positions;
    LT_REQUIRE(err, in->prompt >= 1 && in->new_tokens >= 2 && most >= 3,
               "speed: a prompt and two new tokens are needed");
    task t = { .in = { .model = in->model,
                       .team = in->c->team,
                       .prompt = in->ids,
                       .ignore_eos = true,
                       .sampler = LT_SAMPLER_GREEDY,
                       .kv_dtype = LT_F32 } };
    t.in.max_new = lt_min_size(in->new_tokens, most / 2 + 1);
    t.in.n_prompt = lt_min_size(in->prompt, most + 1 - t.in.max_new);
    t.speed.prompt = t.in.n_prompt;
    t.speed.new_tokens = t.in.max_new;
    LT_TRY(in_child(&t, in, err));
    if (t.st != LT_OK) return lt_fail(err, t.st, "%s", t.err.message);
    *out = t.speed;
    return LT_OK;
}
