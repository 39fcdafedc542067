/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/plot.h - lines as SVG, drawn by gnuplot. */
#ifndef LT_PIPELINE_PLOT_H
#define LT_PIPELINE_PLOT_H

#include "core/core.h"

typedef struct lt_plot_series {
    const char *name;
    const double *x, *y; /* [n]; points that are not finite are left out */
    size_t n;
    double level;  /* where levels are asked for */
    size_t colour; /* and kind of line, where they are not */
} lt_plot_series;
typedef struct lt_plot {
    const char *title, *x, *y; /* labels */
    const lt_plot_series *series;
    size_t n_series;
    bool log_x, log_y;
    bool whole_x;      /* marks of the x axis at whole numbers: layers */
    bool unordered;    /* points without lines between them */
    const char *level; /* not NULL: many lines, told apart by colours on a scale of this name instead of by names */
} lt_plot;
/* LT_EUNSUPPORTED when gnuplot is not there. */
lt_status lt_plot_svg(const char *path, const lt_plot *plot, lt_err *err);

#endif
