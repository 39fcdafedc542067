/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <string.h>
#include <time.h>

enum { BAR = 24 };
static const double redraw_s = 0.1, line_s = 10.0, first_line_s = 2.0;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void duration(char *buf, size_t cap, double s) {
    if (s >= 3600)
        snprintf(buf, cap, "%d:%02d:%02d", (int)(s / 3600), (int)(s / 60) % 60, (int)s % 60);
    else
        snprintf(buf, cap, "%d:%02d", (int)(s / 60), (int)s % 60);
}

/* 12300 is "12.3k" */
static void amount(char *buf, size_t cap, double v) {
    static const char *const units[] = { "", "k", "M", "G", "T" };
    size_t u = 0;
    for (; v >= 9999.5 && u < 4; u++) v /= 1000;
    snprintf(buf, cap, v < 100 && v != (double)(long)v ? "%.1f%s" : "%.0f%s", v, units[u]);
}

void cli_stage_text(char *buf, size_t cap, const cli_stage *s) {
    const double here = s->done - s->from;
    char a[32], b[32], rate[32], left[32];
    amount(a, sizeof a, s->done);
    amount(b, sizeof b, s->total);
    if (s->seconds > 0 && here >= s->seconds) amount(rate, sizeof rate, here / s->seconds);
    size_t n = (size_t)snprintf(buf, cap, "%s: %s", s->name, a);
    if (n < cap && s->total > 0) n += (size_t)snprintf(buf + n, cap - n, "/%s", b);
    if (n < cap && s->unit) n += (size_t)snprintf(buf + n, cap - n, " %s", s->unit);
    if (n < cap && s->seconds > 0 && here >= s->seconds)
        n += (size_t)snprintf(buf + n, cap - n, ", %s/s", rate);
    else if (n < cap && s->seconds > 0 && here > 0)
        n += (size_t)snprintf(buf + n, cap - n, ", %.1f s each", s->seconds / here);
    if (n >= cap || s->total <= 0 || here <= 0 || s->done >= s->total) return;
    duration(left, sizeof left, s->seconds * (s->total - s->done) / here);
    snprintf(buf + n, cap - n, ", ETA %s", left);
}

static void draw(cli_progress *p, const char *text, double share) {
    char bar[BAR + 1];
    const int filled = share < 0 ? 0 : share > 1 ? BAR : (int)(share * BAR);
    for (int i = 0; i < BAR; i++) bar[i] = i < filled ? '#' : '.';
    bar[BAR] = 0;
    fprintf(stderr, "\r\033[K[%s] %s", bar, text);
    fflush(stderr);
    p->drawn = true;
}

void cli_progress_clear(cli_progress *p) {
    if (!p->drawn) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->drawn = false;
}

void cli_progress_show(cli_progress *p, const char *stage, double done, double total, const char *unit) {
    if (p->quiet || p->muted) return;
    const double t = now();
    /* a stage begins with its name, or when it counts from the start again: the next model of a table */
    if (strncmp(p->stage, stage, sizeof p->stage - 1) != 0 || done < p->last_done) {
        snprintf(p->stage, sizeof p->stage, "%s", stage);
        p->stage_start = t;
        p->stage_from = done;
        p->last_shown = p->terminal ? 0 : t - line_s + first_line_s;
    }
    p->last_done = done;
    if (t - p->last_shown < (p->terminal ? redraw_s : line_s)) return;
    char text[256];
    cli_stage_text(text, sizeof text, &(cli_stage){ stage, unit, p->stage_from, done, total, t - p->stage_start });
    p->last_shown = t;
    if (p->terminal)
        draw(p, text, total > 0 ? done / total : 0);
    else
        fprintf(stderr, "lathe: %s\n", text);
}
