/* lathe/lathe.h - the public face of liblathe: a context, and one call that runs any verb of the program.
 *
 *   lt_ctx ctx;
 *   lt_ctx_init(&ctx);
 *   char *result = NULL;
 *   lt_err err = { 0 };
 *   if (lt_call(&ctx, "compress", "{\"model\": \"./my-model\", \"keep\": \"linears=0.8\", ...}", &result, &err) !=
 * LT_OK) fprintf(stderr, "%s\n", err.message); lt_result_free(result);
 *
 * Options are those of `lathe VERB --help` (underscores or dashes). The library never prints, exits, installs signal
 * handlers or changes global state; two contexts in two threads work. Return codes equal the program's exit codes. */
#ifndef LATHE_LATHE_H
#define LATHE_LATHE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LT_API __attribute__((visibility("default")))
#else
#define LT_API
#endif

typedef enum lt_status {
    LT_OK = 0,
    LT_EINTERNAL = 1,    /* a bug here */
    LT_EUSAGE = 2,       /* the caller's arguments */
    LT_EDATA = 3,        /* bad or inconsistent input */
    LT_EIO = 4,          /* file system or network */
    LT_ENOMEM = 5,       /* allocator or --max-memory */
    LT_EUNSUPPORTED = 6, /* a model, dtype or operation that no row covers */
    LT_ETARGET = 7,      /* a budget or --require that cannot be or was not met */
    LT_EVERIFY = 8,      /* an output that did not read back as written */
    LT_EINTERRUPTED = 130
} lt_status;

/* One message and where it came from. May be NULL wherever it is a parameter. */
typedef struct lt_err {
    lt_status code;
    char message[1024];
} lt_err;

typedef enum lt_log_level { LT_LOG_ERROR, LT_LOG_WARN, LT_LOG_INFO, LT_LOG_DEBUG } lt_log_level;
typedef struct lt_ctx {
    int threads;         /* >= 1; default the cgroup's cpu limit */
    size_t max_memory;   /* bytes; default the cgroup's limit; 0 = no limit known */
    const char *scratch; /* folder for spill files; NULL: beside the output, or TMPDIR */
    void (*log)(void *user, lt_log_level level, const char *line);
    /* stage, done of total (0 = unknown), unit ("tokens"); non-zero return asks to stop: LT_EINTERRUPTED */
    int (*progress)(void *user, const char *stage, double done, double total, const char *unit);
    /* text produced while a verb runs (streaming generation); NULL: not wanted */
    void (*emit)(void *user, const char *text, size_t bytes);
    void *user;
} lt_ctx;
LT_API void lt_ctx_init(lt_ctx *ctx); /* defaults from the machine; no log, no progress */
LT_API const char *lt_version(void);  /* "0.1.0" */
/* NULL, or what OPENBLAS_CORETYPE should be in the environment before the process starts: the linked OpenBLAS does not
 * know this processor and chose kernels of twenty years ago, which makes plans and fits two to three times as slow. */
LT_API const char *lt_blas_core(void);

/* Runs a verb ("compress", "evaluate perplexity"). options_json: an object of options; unknown or out-of-range ones are
 * LT_EUSAGE with a suggestion. *result_json: a JSON text (lathe-result/1 where something was measured), set on LT_OK,
 * on LT_ETARGET or LT_EVERIFY when there is a result to inspect, and when jobs of "run" failed; NULL otherwise; free
 * with lt_result_free. err may be NULL. */
LT_API lt_status lt_call(lt_ctx *ctx, const char *verb, const char *options_json, char **result_json, lt_err *err);
LT_API void lt_result_free(char *result_json);

/* The verbs and their options as JSON (what help texts and docs are made of); static lifetime is the library's, free
 * with lt_result_free. */
LT_API char *lt_describe(void);

#ifdef __cplusplus
}
#endif
#endif
