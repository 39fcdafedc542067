/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/estimate.h - what a long verb would cost, and how fast this machine is.
 *
 *   seconds = flops / (0.7 x measured sgemm rate) + read_bytes / measured read rate
 * 0.7 is the floor that prefill is built to (docs/performance.md). */
#ifndef LT_PIPELINE_ESTIMATE_H
#define LT_PIPELINE_ESTIMATE_H

#include "pipeline/command.h"

typedef struct lt_estimate {
    double flops;
    size_t memory_bytes, disk_bytes;
    double read_bytes; /* weights streamed for few rows: decoding */
} lt_estimate;
/* The result of `--estimate`: {"estimate": {"seconds", "memory_bytes", "disk_bytes", "flops", "gemm_flops_per_s"}} and
 * a table. */
lt_status lt_estimate_result(json_t **result, const lt_call_ctx *c, const lt_estimate *e, lt_err *err);

/* FLOP/s of a square product of f32 matrices on this team's threads, the best of the runs that fit into about
 * `seconds`: OpenBLAS' sgemm, and our own. */
lt_status lt_probe_sgemm(double *flops_per_s, lt_team *team, double seconds, lt_err *err);
lt_status lt_probe_gemm(double *flops_per_s, lt_team *team, double seconds, lt_err *err);
/* Bytes/s of reading memory: a matrix-vector product over an f32 matrix far larger than the caches (bytes: its size).
 */
lt_status lt_probe_read(double *bytes_per_s, lt_team *team, size_t bytes, double seconds, lt_err *err);

#endif
