/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/plot.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file.h"

extern char **environ;

/* A text as gnuplot quotes it: in double quotes, what it would interpret escaped, control characters as blanks. */
static void put_text(FILE *f, const char *text) {
    fputc('"', f);
    for (const char *c = text; *c; c++) {
        if (strchr("\\\"`$", *c)) fputc('\\', f);
        fputc((unsigned char)*c < 0x20 ? ' ' : *c, f);
    }
    fputc('"', f);
}

static void put_label(FILE *f, const char *what, const char *text) {
    fprintf(f, "set %s ", what);
    put_text(f, text);
    fputs(" noenhanced\n", f);
}

/* From the first line to the last: dark blue to orange, as bright on screens as on paper. */
static void put_levels(FILE *f, const lt_plot *p) {
    double lo = INFINITY, hi = -INFINITY;
    for (size_t s = 0; s < p->n_series; s++) lo = fmin(lo, p->series[s].level), hi = fmax(hi, p->series[s].level);
    fputs("unset key\nset palette defined (0 '#1b2a6b', 0.5 '#1a9c8c', 1 '#e8862e')\n", f);
    put_label(f, "cblabel", p->level);
    fprintf(f, "set cbrange [%.17g:%.17g]\n", lo, hi > lo ? hi : lo + 1);
}

static void put_script(FILE *f, const lt_plot *p, const char *svg) {
    fputs("set terminal svg size 760,480 dynamic background rgb 'white' font 'sans-serif,13'\nset output ", f);
    put_text(f, svg);
    fputs("\nset grid\nset key bmargin center horizontal noenhanced\n", f);
    put_label(f, "title", p->title);
    put_label(f, "xlabel", p->x);
    put_label(f, "ylabel", p->y);
    for (size_t s = 0; s < p->n_series; s++) {
        fprintf(f, "$d%zu << EOD\n", s);
        for (size_t i = 0; i < p->series[s].n; i++)
            if (isfinite(p->series[s].x[i]) && isfinite(p->series[s].y[i]))
                fprintf(f, "%.17g %.17g\n", p->series[s].x[i], p->series[s].y[i]);
        fputs("EOD\n", f);
    }
    if (p->log_y) fputs("set logscale y\nset format y '10^{%T}'\n", f);
    if (p->level) put_levels(f, p);
    for (size_t s = 0; s < p->n_series; s++) {
        fprintf(f, "%s $d%zu using ", s ? "," : "plot", s);
        if (p->level)
            fprintf(f, "1:2:(%.17g) with lines lw 1.5 lc palette notitle", p->series[s].level);
        else {
            fputs("1:2 with linespoints pt 7 ps 0.5 lw 2 title ", f);
            put_text(f, p->series[s].name);
        }
    }
    fputc('\n', f);
}

static lt_status write_script(const char *path, const lt_plot *p, const char *svg, lt_err *err) {
    FILE *f = fopen(path, "w");
    if (!f) return lt_fail(err, LT_EIO, "cannot be made: %s (%s)", strerror(errno), path);
    put_script(f, p, svg);
    const bool failed = ferror(f);
    return fclose(f) || failed ? lt_fail(err, LT_EIO, "cannot be written (%s)", path) : LT_OK;
}

/* Its own output goes nowhere: the library never prints. */
static lt_status run_gnuplot(const char *script, lt_err *err) {
    char *argv[] = { "gnuplot", (char *)script, NULL };
    posix_spawn_file_actions_t quiet;
    pid_t pid;
    int status = 0;
    if (posix_spawn_file_actions_init(&quiet) != 0) return lt_fail(err, LT_ENOMEM, "plot: out of memory");
    posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    const int failed = posix_spawnp(&pid, argv[0], &quiet, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&quiet);
    if (failed)
        return lt_fail(err, LT_EUNSUPPORTED, "plots are drawn by gnuplot, which is not there (%s)", strerror(failed));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return lt_fail(err, LT_EIO, "gnuplot was lost: %s", strerror(errno));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? LT_OK
               : lt_fail(err, LT_EIO, "gnuplot failed with status %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

lt_status lt_plot_svg(const char *path, const lt_plot *plot, lt_err *err) {
    char *script = lt_asprintf("%s.gp.partial", path), *svg = lt_asprintf("%s.partial", path);
    lt_status st = script && svg ? LT_OK : lt_fail(err, LT_ENOMEM, "plot: out of memory");
    if (st == LT_OK) st = write_script(script, plot, svg, err);
    if (st == LT_OK) st = run_gnuplot(script, err);
    if (st == LT_OK) st = lt_rename(svg, path, err);
    if (script) unlink(script);
    if (svg && st != LT_OK) unlink(svg);
    lt_free(script);
    lt_free(svg);
    return st;
}
