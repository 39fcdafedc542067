/* SPDX-License-Identifier: Apache-2.0 */
#include "train/schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* t of the shapes; a warm-up that takes all steps leaves nothing to go through */
static double progress(const lt_schedule *s, size_t n) {
    return s->steps > s->warmup ? (double)(n - s->warmup) / (double)(s->steps - s->warmup) : 1.0;
}

static double cosine(const lt_schedule *s, size_t n) {
    return 0.5 * (1.0 + cos(3.14159265358979323846 * progress(s, n)));
}

static double linear(const lt_schedule *s, size_t n) {
    return 1.0 - progress(s, n);
}

static double constant(const lt_schedule *s, size_t n) {
    (void)s, (void)n;
    return 1.0;
}

static double stable_then_decay(const lt_schedule *s, size_t n) {
    const size_t decay = lt_min_size(s->decay, s->steps - lt_min_size(s->warmup, s->steps));
    const size_t from = s->steps - decay;
    return n < from || decay == 0 ? 1.0 : 1.0 - (double)(n - from) / (double)decay;
}

static const lt_schedule_row rows[] = {
    { "cosine", "half a cosine from the rate down to its floor", cosine },
    { "linear", "a straight line down to the floor", linear },
    { "constant", "the same rate after the warm-up", constant },
    { "wsd", "constant, then a straight line over the last steps (--decay-steps)", stable_then_decay },
};
const lt_schedule_row *const lt_schedules[] = { &rows[0], &rows[1], &rows[2], &rows[3], NULL };

lt_status lt_schedule_find(const lt_schedule_row **out, const char *name, lt_err *err) {
    char list[128] = "";
    size_t used = 0;
    for (size_t i = 0; lt_schedules[i]; i++) {
        *out = lt_schedules[i];
        if (strcmp((*out)->name, name) == 0) return LT_OK;
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", (*out)->name);
    }
    return lt_fail(err, LT_EUSAGE, "unknown schedule \"%s\" (there are: %s)", name, list);
}

double lt_schedule_lr(const lt_schedule *s, size_t n) {
    if (n < s->warmup) return s->lr * (double)(n + 1) / (double)s->warmup;
    const double floor = fmin(s->lr, fmax(s->floor_share * s->lr, s->floor));
    return floor + (s->lr - floor) * s->row->shape(s, n);
}
