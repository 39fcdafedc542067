/* SPDX-License-Identifier: Apache-2.0 */
/* compress/batch.h - spectra or fits of many modules, a few layers at a time; private to the room, but for what it
 * needs of memory.
 *
 * Jobs are taken in order while memory has room for them, until there are enough to keep all threads busy; the sites of
 * a chunk are prepared once each, in parallel, then its modules, largest first. Results do not depend on chunks or
 * threads. */
#ifndef LT_COMPRESS_BATCH_H
#define LT_COMPRESS_BATCH_H

#include "calib/stats.h"
#include "compress/lowrank.h"

/* What errors are measured in. */
typedef struct lt_lowrank_how {
    lt_metric metric;
    double alpha;   /* LT_METRIC_ABS */
    double damping; /* of the left metric */
    bool left;      /* also by the Gram of output gradients */
    bool rest;      /* without the first positions of each row, which the stats keep apart */
} lt_lowrank_how;
typedef struct lt_lowrank_job {
    const lt_linear *linear;
    lt_lowrank_how how;
    bool affine; /* where the metric may be centred */
    lt_balance balance;
    size_t rank;  /* of a fit; 0: the spectrum is wanted */
    bool nested;  /* fit: lowrank.h */
    bool measure; /* fit: also the error on all outputs, out_error of out_total; needs the Gram */
    double out_error, out_total;
    double *lambda;             /* spectrum: [min(m, d)], the caller's memory */
    double total;               /* what lambda adds up to, for a fit too: its error is a part of it */
    double weight_norm2;        /* spectrum: ‖W‖² */
    double *a, *b, *bias_delta; /* fit: valid during done(); bias_delta when affine */
    double error;
    const lt_metric_form *form; /* of the chunk */
} lt_lowrank_job;
typedef struct lt_batch_in {
    const lt_stats *stats; /* NULL: no job needs any */
    lt_team *team;
    const lt_ctx *ctx; /* progress under `stage`; max_memory decides the chunk; may be NULL */
    const char *stage;
    /* With the fits of a chunk, in job order; NULL: nobody wants them. */
    lt_status (*done)(void *user, const lt_lowrank_job *job, size_t n, lt_err *err);
    void *user;
} lt_batch_in;
/* What one job asks of memory. */
typedef struct lt_batch_load {
    size_t m, d, rank;   /* rank 0: its spectrum */
    size_t weight_bytes; /* as stored: its pages are there while it is read */
    size_t site;         /* equal numbers: one metric; SIZE_MAX: none */
    lt_factor factor;    /* of the site, for all jobs of it the most that one wants */
    bool left, measure;
} lt_batch_load;
/* Peak of a batch of such jobs beside what the process has already. memory: what may be used; the peak is more where
 * one job at a time needs more. Reads and evens out load[].factor. */
size_t lt_lowrank_batch_bytes(lt_batch_load *load, size_t n, int threads, size_t memory);
/* What a batch may use beside what the process has: of max_memory, or where there is none of half of the machine's. */
size_t lt_lowrank_batch_memory(const lt_ctx *ctx);
/* Errors name the module. LT_ENOMEM when one module at a time is still too much for max_memory. */
lt_status lt_lowrank_batch(lt_lowrank_job *jobs, size_t n, const lt_batch_in *in, lt_err *err);

#endif
