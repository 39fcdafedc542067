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

enum { WIDTH = 760, INNER = 620, ABOVE = 430, BELOW = 62, ROW = 20, LETTER = 8, SAMPLE = 60, MAX_MARKS = 12 };

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
    fprintf(f, "set cbrange [%.17g:%.17g]\nset cbtics %.17g\n", lo, hi > lo ? hi : lo + 1,
            fmax(1.0, ceil((hi - lo) / MAX_MARKS)));
}

/* ---- layout ---- */

/* Rows of the legend below the drawing: as many names in a row as the longest lets. */
static int legend_rows(const lt_plot *p, int *columns) {
    size_t longest = 1;
    if (p->level || (p->n_series == 1 && !*p->series[0].name)) return *columns = 0;
    for (size_t s = 0; s < p->n_series; s++) longest = lt_max_size(longest, strlen(p->series[s].name));
    const size_t fit = (size_t)INNER / (SAMPLE + LETTER * lt_min_size(longest, INNER));
    *columns = (int)lt_max_size(lt_min_size(fit, p->n_series), 1);
    return (int)((p->n_series + (size_t)*columns - 1) / (size_t)*columns);
}

/* Least and most of the x or y coordinates. */
static void range_of(const lt_plot *p, bool of_x, double *lo, double *hi) {
    *lo = INFINITY, *hi = -INFINITY;
    for (size_t s = 0; s < p->n_series; s++)
        for (size_t i = 0; i < p->series[s].n; i++) {
            const double v = of_x ? p->series[s].x[i] : p->series[s].y[i];
            if (isfinite(v)) *lo = fmin(*lo, v), *hi = fmax(*hi, v);
        }
}

/* At whole numbers, at most a dozen of them. */
static void put_whole_marks(FILE *f, const lt_plot *p) {
    double lo, hi;
    range_of(p, true, &lo, &hi);
    if (isfinite(lo)) fprintf(f, "set xtics %.17g\n", fmax(1.0, ceil((hi - lo) / MAX_MARKS)));
}

/* A logarithmic axis: over few decades marks at 1, 2 and 5, the range ending at such a mark; else at powers of ten. */
static void put_log(FILE *f, const lt_plot *p, const char *axis) {
    static const double steps[] = { 1.0, 2.0, 5.0, 10.0 };
    double lo, hi;
    range_of(p, *axis == 'x', &lo, &hi);
    fprintf(f, "set logscale %s\n", axis);
    if (!(lo > 0.0) || hi / lo > 1e3) {
        fprintf(f, "set format %s '10^{%%T}'\n", axis);
        return;
    }
    const int first = (int)floor(log10(lo)), last = (int)ceil(log10(hi));
    double least = lo, most = hi;
    fprintf(f, "set %stics (", axis);
    for (int e = first; e <= last; e++)
        for (size_t i = 0; i < 3; i++) {
            const double mark = steps[i] * pow(10.0, e), next = steps[i + 1] * pow(10.0, e);
            if (mark <= lo && next > lo) least = mark;
            if (mark < hi && next >= hi) most = next;
            fprintf(f, "%s%.6g", e == first && i == 0 ? "" : ", ", mark);
        }
    fprintf(f, ")\nset %srange [%.17g:%.17g]\n", axis, least, most);
}

static void put_frame(FILE *f, const lt_plot *p, const char *svg) {
    int columns;
    const int rows = legend_rows(p, &columns), height = ABOVE + ROW * rows;
    fprintf(f,
            "set terminal svg size %d,%d dynamic background rgb 'white' font 'sans-serif,13'\n"
            "set border 3 lc rgb '#666666'\nset tics nomirror textcolor rgb '#333333'\n"
            "set grid lc rgb '#dddddd' lt 1 lw 0.7\nset bmargin at screen %.4f\nset output ",
            WIDTH, height, (double)(BELOW + ROW * rows) / height);
    put_text(f, svg);
    fprintf(f, "\nset key at screen 0.5, screen %.4f center bottom horizontal maxcols %d Left reverse noenhanced\n",
            6.0 / height, columns > 0 ? columns : 1);
    put_label(f, "title", p->title);
    put_label(f, "xlabel", p->x);
    put_label(f, "ylabel", p->y);
    if (p->whole_x) put_whole_marks(f, p);
    if (p->log_x) put_log(f, p, "x");
    if (p->log_y) put_log(f, p, "y");
    if (p->level) put_levels(f, p);
}

static void put_data(FILE *f, const lt_plot *p) {
    for (size_t s = 0; s < p->n_series; s++) {
        fprintf(f, "$d%zu << EOD\n", s);
        for (size_t i = 0; i < p->series[s].n; i++)
            if (isfinite(p->series[s].x[i]) && isfinite(p->series[s].y[i]))
                fprintf(f, "%.17g %.17g\n", p->series[s].x[i], p->series[s].y[i]);
        fputs("EOD\n", f);
    }
}

/* Colours that differ for all kinds of eyes and stand out from white (Okabe and Ito's, the light ones darker); where
 * they come round again the points are others, and lines are broken. */
static void put_line(FILE *f, const lt_plot *p, size_t s) {
    static const char *const colour[] = { "#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                          "#b8860b", "#3ba3d6", "#555555", "#7b4fa3" };
    static const int point[] = { 7, 5, 9, 11, 13, 6, 4, 8 }, dashes[] = { 1, 2, 4, 5 };
    const size_t n = LT_COUNTOF(colour), which = p->series[s].colour, round = which / n;
    fprintf(f, "1:2 with %s pt %d ps 0.6 lw 2 dt %d lc rgb '%s' title ", p->unordered ? "points" : "linespoints",
            point[round % LT_COUNTOF(point)], dashes[round % LT_COUNTOF(dashes)], colour[which % n]);
    put_text(f, p->series[s].name);
}

static void put_script(FILE *f, const lt_plot *p, const char *svg) {
    put_frame(f, p, svg);
    put_data(f, p);
    for (size_t s = 0; s < p->n_series; s++) {
        fprintf(f, "%s $d%zu using ", s ? "," : "plot", s);
        if (p->level)
            fprintf(f, "1:2:(%.17g) with lines lw 1.5 lc palette notitle", p->series[s].level);
        else
            put_line(f, p, s);
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
        return lt_fail(err, LT_EUNSUPPORTED, "drawings are made by gnuplot, which is not there: package gnuplot (%s)",
                       strerror(failed));
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
