/* SPDX-License-Identifier: Apache-2.0 */
#include "core/core.h"

#include <stdarg.h>
#include <stdio.h>

LT_API void lt_ctx_init(lt_ctx *ctx) {
    const size_t memory = lt_machine_memory();
    *ctx = (lt_ctx){
        .threads = lt_machine_cpus(),
        .max_memory = memory == SIZE_MAX ? 0 : memory,
    };
}

LT_API const char *lt_version(void) {
    return LT_VERSION;
}

void lt_log(const lt_ctx *ctx, lt_log_level level, const char *format, ...) {
    char line[2048];
    if (!ctx || !ctx->log) return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ctx->log(ctx->user, level, line);
}

lt_status lt_progress(const lt_ctx *ctx, lt_err *err, const char *stage, double done, double total, const char *unit) {
    if (!ctx || !ctx->progress) return LT_OK;
    if (ctx->progress(ctx->user, stage, done, total, unit) == 0) return LT_OK;
    return lt_fail(err, LT_EINTERRUPTED, "interrupted (%s)", stage);
}
