/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/bench.h - what the bench verbs share: random tokens, times of several runs. */
#ifndef LT_PIPELINE_BENCH_H
#define LT_PIPELINE_BENCH_H

#include "model/model.h"
#include "pipeline/command.h"

typedef struct lt_times {
    double median, best, worst;
} lt_times;
/* Sorts seconds [n], n >= 1. */
lt_times lt_times_of(double *seconds, size_t n);
/* n ids of the vocabulary, the same for the same seed; lt_free. NULL: out of memory. */
int32_t *lt_bench_ids(size_t n, size_t vocab_size, uint64_t seed);
/* LT_EUSAGE when the model has fewer positions. */
lt_status lt_bench_check_positions(const lt_model *m, size_t n, lt_err *err);

#endif
