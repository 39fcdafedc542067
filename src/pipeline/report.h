/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/report.h - measured values from many files, and the formats that show them.
 *
 * Every value keeps what it was measured under: a perplexity without its protocol is refused. */
#ifndef LT_PIPELINE_REPORT_H
#define LT_PIPELINE_REPORT_H

#include "pipeline/sink.h"

/* Everything read so far, as JSON: members as in lt_report_value, null where not known. */
typedef struct lt_report {
    json_t *axes;    /* names, in the order they were met */
    json_t *values;  /* objects */
    json_t *parents; /* hashes of models that others were made from or compared with, as keys */
    json_t *made;    /* hashes of models that a result made, as keys */
    json_t *cut;     /* hashes of plans that a model was made by, as keys */
    json_t *plans;   /* {"name", "plan"} */
    json_t *curves;  /* {"name", "train": [[step, loss]], "valid": [[step, loss]]} */
    json_t *titles;  /* of recipes, as keys */
    json_t *jobs; /* of recipes, by recipe, step and cell: {"step", "cell", "why"}; true once one input has it done */
    json_t *spectra; /* {"name", "modules": [{"role", "layer", "n", "points": [[i, share]], "rank90", "rank99"}]} */
} lt_report;
lt_status lt_report_create(lt_report *r, lt_err *err); /* clear also after a failure */
void lt_report_clear(lt_report *r);

typedef struct lt_report_value {
    const char *source, *model, *id;                         /* "measured", "published"; id: the same for one model */
    const char *metric, *protocol, *data;                    /* protocol and data may be NULL */
    json_t *axes;                                            /* object */
    json_t *window, *windows, *tokens, *value, *uncertainty; /* borrowed; NULL: not known */
} lt_report_value;
/* LT_EDATA names the file `where`: not a number, a perplexity without protocol or window. */
lt_status lt_report_add(lt_report *r, const lt_report_value *v, const char *where, lt_err *err);

/* Appends what is not there already: two shards may both have it. */
lt_status lt_report_once(json_t *list, json_t *entry, lt_err *err);

/* A file or folder of results (docs/report.md); LT_EDATA when it is none. */
lt_status lt_report_read(lt_report *r, const lt_ctx *ctx, const char *path, lt_err *err);
/* Is it a file of statistics with spectra? Those are added under a name. */
bool lt_report_has_spectra(const char *path);
lt_status lt_report_spectra(lt_report *r, const char *path, const char *name, lt_err *err);
/* Rows of the tidy CSV, as published values. text[bytes] is NUL; it is overwritten. */
lt_status lt_report_published(lt_report *r, char *text, size_t bytes, const char *where, lt_err *err);
/* Values read twice are kept once. A parent that no result made is of no cell; one that was made and that many cells
 * measured alike is listed once, without the axes that differ. What a plan says is left to the model made by it. What
 * is not done is told. */
lt_status lt_report_finish(lt_report *r, const lt_ctx *ctx, lt_err *err);

/* ---- shown ---- */

/* Short text of a cell: numbers with 6 digits (integers whole), "" for null. lt_free; NULL: out of memory. */
char *lt_report_text(const json_t *v);
/* The same with all digits. */
char *lt_report_exact(const json_t *v);
/* "block, windows of 128, 254 tokens of wiki.txt"; "" without a protocol. lt_free; NULL: out of memory. */
char *lt_report_conditions(const json_t *value);
/* "model.layers.12.mlp.up_proj": layer 12 of "mlp.up_proj"; NULL: it is of no layer. */
const char *lt_report_role(double *layer, const char *module);
/* Titles of the recipes; lt_free, NULL: out of memory. */
char *lt_report_title(const lt_report *r);
/* Jobs that are not done, and why; then tables of models against metrics, one for each set of conditions: [{"title",
 * "right", "columns": [..], "rows": [[..]]}], all texts; "right": the first column that holds numbers; then those of
 * lt_report_inner. NULL: out of memory. */
json_t *lt_report_tables(const lt_report *r);
/* Adds a table of the ranks of all plans by role, and one of each spectra; false: out of memory. */
bool lt_report_inner(json_t *tables, const lt_report *r);
/* Name of the column of an axis: "axis_" before the names that other columns have. lt_free; NULL: out of memory. */
char *lt_report_column(const char *axis);
extern const char *const lt_report_columns[]; /* of the tidy CSV besides the axes; NULL-terminated */
enum { LT_REPORT_LEADING = 2 };               /* of them stand before the axes */

typedef struct lt_report_out {
    lt_sink sink;
    const char *path; /* drawings are made beside it */
} lt_report_out;
/* Printf form; a failure is the sink's. */
lt_status lt_report_put(lt_report_out *o, lt_err *err, const char *format, ...) __attribute__((format(printf, 3, 4)));

typedef struct lt_report_format {
    const char *name, *suffix; /* "latex", ".tex" */
    bool needs_file;           /* draws beside it: cannot go to standard output */
    lt_status (*write)(lt_report_out *o, const lt_report *r, lt_err *err);
} lt_report_format;
extern const lt_report_format lt_report_md, lt_report_csv, lt_report_latex, lt_report_html;
extern const lt_report_format *const lt_report_formats[]; /* NULL-terminated */

#endif
