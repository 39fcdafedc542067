/* SPDX-License-Identifier: Apache-2.0 */
/* train/schedule.h - the learning rate of step n = 0 .. N-1, a closed form: a row per shape.
 *
 *   lr(n) = lr0 (n + 1) / w                          n < w: warm-up
 *   lr(n) = floor + (lr0 - floor) shape(n)           n >= w
 *   cosine 1/2 (1 + cos pi t), linear 1 - t, constant 1,  t = (n - w) / (N - w)
 *   wsd    1 until the last D steps, then 1 - (n - (N - D)) / D   (Hu et al. 2024, MiniCPM: warm-up, stable, decay)
 * floor is the larger of a share of lr0 and an absolute rate. */
#ifndef LT_TRAIN_SCHEDULE_H
#define LT_TRAIN_SCHEDULE_H

#include "core/core.h"

typedef struct lt_schedule {
    const struct lt_schedule_row *row;
    double lr, floor_share, floor; /* floor_share: of lr */
    size_t steps, warmup, decay;   /* N, w, D; D: wsd only */
} lt_schedule;
typedef struct lt_schedule_row {
    const char *name, *summary;
    double (*shape)(const lt_schedule *s, size_t n); /* n >= warmup */
} lt_schedule_row;
extern const lt_schedule_row *const lt_schedules[]; /* NULL-terminated */
/* LT_EUSAGE lists the rows. */
lt_status lt_schedule_find(const lt_schedule_row **out, const char *name, lt_err *err);
double lt_schedule_lr(const lt_schedule *s, size_t n);

#endif
