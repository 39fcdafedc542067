/* SPDX-License-Identifier: Apache-2.0 */
/* examples/call.c - liblathe from C: any verb through lt_call, options and result as JSON.
 *
 *   cc call.c $(pkg-config --cflags --libs lathe) -o call
 *   ./call ./my-model
 *
 * The result is the JSON that `lathe VERB --json` prints; use the JSON library of your choice. To stay free of one,
 * this program looks for a number by hand. */
#include <lathe/lathe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library reports; what is shown is up to its caller. */
static void on_log(void *user, lt_log_level level, const char *line) {
    (void)user;
    if (level <= LT_LOG_WARN) fprintf(stderr, "log: %s\n", line);
}

/* Called now and then by long verbs; anything but 0 asks them to stop, and lt_call returns LT_EINTERRUPTED. */
static int on_progress(void *user, const char *stage, double done, double total, const char *unit) {
    (void)user;
    fprintf(stderr, "%s: %.0f of %.0f %s\n", stage, done, total, unit);
    return 0;
}

static void on_text(void *user, const char *text, size_t bytes) {
    (void)user;
    fwrite(text, 1, bytes, stdout);
}

/* {"path": "..."}; quotes and backslashes of the path are escaped */
static char *options_for(const char *key, const char *path, const char *rest) {
    char *text = malloc(2 * strlen(path) + strlen(key) + strlen(rest) + 16), *out = text;
    if (!text) return NULL;
    out += sprintf(out, "{\"%s\": \"", key);
    for (; *path; path++) {
        if (*path == '"' || *path == '\\') *out++ = '\\';
        *out++ = *path;
    }
    sprintf(out, "\"%s}", rest);
    return text;
}

static lt_status call(lt_ctx *ctx, const char *verb, char *options, char **result) {
    lt_err err = { 0 };
    const lt_status st = options ? lt_call(ctx, verb, options, result, &err) : LT_ENOMEM;
    if (st != LT_OK) printf("%s: error %d: %s\n", verb, st, err.message);
    free(options);
    return st;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: call MODEL\n");
        return LT_EUSAGE;
    }
    lt_ctx ctx;
    lt_ctx_init(&ctx); /* threads and memory: what this machine or control group allows */
    ctx.log = on_log;
    printf("lathe %s, %d threads\n", lt_version(), ctx.threads);

    char *result = NULL;
    lt_status st = call(&ctx, "inspect", options_for("path", argv[1], ""), &result);
    if (st != LT_OK) return st;
    const char *found = strstr(result, "\"parameters\": ");
    if (found) printf("parameters: %ld\n", strtol(found + strlen("\"parameters\": "), NULL, 10));
    lt_result_free(result);

    /* a mistake comes back as a code and a message; nothing is printed, nothing exits */
    if (call(&ctx, "inspect", options_for("path", argv[1], ", \"frobnicate\": 1"), &result) != LT_EUSAGE)
        return LT_EINTERNAL;

    ctx.progress = on_progress;
    ctx.emit = on_text;
    st = call(&ctx, "generate", options_for("model", argv[1], ", \"prompt\": \"The\", \"max_new\": 8"), &result);
    lt_result_free(result);
    return st;
}
