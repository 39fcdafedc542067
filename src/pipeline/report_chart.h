/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/report_chart.h - what a report draws: quality against size, against what was predicted, ranks, spectra,
 * curves. */
#ifndef LT_PIPELINE_REPORT_CHART_H
#define LT_PIPELINE_REPORT_CHART_H

#include "pipeline/plot.h"
#include "pipeline/report.h"

/* [{"group", "title", "x", "y", "left_out", "log_x", "log_y", "whole_x", "unordered", "level", "series": [{"name",
 * "level", "colour", "points": [[x, y]]}]}]; left_out: values that are not finite; those after it as in lt_plot and not
 * always there. Charts of a group follow each other. NULL: out of memory */
json_t *lt_report_charts(const lt_report *r);
lt_status lt_report_draw(const char *svg, const json_t *chart, lt_err *err);

#endif
