/* SPDX-License-Identifier: Apache-2.0 */
/* calib/stats.h - additive sums per site, and the file "lathe-stats/1" (docs/formats/stats.md).
 *
 * A site is a distinct input of linears: q/k/v share "model.layers.3.mixer_in", gate/up share ".mlp_in", o reads
 * ".mixer_act", down ".mlp_act", the head "head_in"; or it is of another kind (lt_stats_kind). Tensors
 * <site>.<accumulator>, f64 or f32: gram (packed lower triangle of Σ w x xᵀ), sum, abssum, sumsq, count, trace. The
 * header maps sites to modules. Merge is +; hashes and settings must agree. Only sums: means and scores are derived
 * when planning (spectra, which stand for Grams that are too large, are the exception and cannot be merged). */
#ifndef LT_CALIB_STATS_H
#define LT_CALIB_STATS_H

#include "calib/tokens.h"
#include "model/model.h"

/* Rows as accumulators see them: token weights w are put in before. With all weights 1 both are the activations
 * themselves. */
typedef struct lt_stat_in {
    const float *x;    /* [n, cols] w x, for sums of first degree */
    const float *root; /* [n, cols] sqrt(w) x, for sums of squares */
    size_t ldx, ld_root;
    size_t n, cols;
    double weight; /* Σ w */
} lt_stat_in;
/* An accumulator is a row: merge is always +=. */
typedef struct lt_stat {
    const char *name;                                                  /* "gram" */
    size_t (*doubles)(size_t cols);                                    /* size for a site of cols columns */
    void (*observe)(double *acc, lt_team *team, const lt_stat_in *in); /* NULL: derived, not a sum */
} lt_stat;
enum { LT_STAT_COUNT, LT_STAT_SUM, LT_STAT_ABSSUM, LT_STAT_SUMSQ, LT_STAT_GRAM, LT_STAT_TRACE, LT_STAT_LAMBDA };
enum { LT_N_STATS = 7 };
extern const lt_stat *const lt_stat_rows[LT_N_STATS + 1]; /* in the order of the enum, NULL-terminated */
typedef unsigned lt_stat_set;                             /* bit i: lt_stat_rows[i] */
lt_status lt_stat_set_parse(lt_stat_set *out, const char *const *names, size_t n, lt_err *err); /* count is always in */

/* What the rows of a site are. */
typedef enum lt_stats_kind {
    LT_STATS_INPUT,    /* inputs of linears: "<site>" */
    LT_STATS_FIRST,    /* those of the first positions of each row, kept apart: "<site>.first" */
    LT_STATS_GRAD,     /* gradients of the summed loss with respect to a module's outputs: "<module>.grad" */
    LT_STATS_OUTPUT,   /* outputs of a module, without its bias: "<module>.out" (imported) */
    LT_STATS_BIASED,   /* the same with the bias: "<module>.out_biased" */
    LT_STATS_SPECTRUM, /* eigenvalues of W C Wᵀ, and their sum as trace: "<module>.spectrum" */
    LT_N_STATS_KINDS
} lt_stats_kind;
const char *lt_stats_kind_name(lt_stats_kind k); /* "input", "first", ... as in the file */

/* Which value the linear of a slot reads. */
lt_site lt_input_site(lt_slot slot);

typedef struct lt_stats_site {
    const char *name;
    size_t cols;
    lt_stats_kind kind;
    const char *const *modules;
    size_t n_modules;
} lt_stats_site;
typedef struct lt_stats lt_stats; /* an open stats file: mapped, read-only */
/* Reads every byte once, on the team's threads (NULL: on this one): content that does not match its hash is LT_EDATA.
 */
lt_status lt_stats_open(lt_stats **out, const char *path, lt_team *team, lt_err *err);
lt_status lt_stats_from_memory(lt_stats **out, const void *data, size_t bytes, const char *name, lt_err *err);
void lt_stats_close(lt_stats *s);
size_t lt_stats_n_sites(const lt_stats *s);
lt_stats_site lt_stats_site_at(const lt_stats *s, size_t i);
bool lt_stats_site_of(const lt_stats *s, const char *module, lt_stats_site *out); /* the site that feeds a module */
bool lt_stats_find(const lt_stats *s, lt_stats_kind kind, const char *module, lt_stats_site *out);
bool lt_stats_have(const lt_stats *s, const char *site, const char *stat);
bool lt_stats_is_f32(const lt_stats *s);
bool lt_stats_have_kind(const lt_stats *s, lt_stats_kind kind); /* any site of it */
/* A copy of <site>.<stat> as f64, lt_free; LT_EDATA when absent. */
lt_status lt_stats_load(double **out, const lt_stats *s, const char *site, const char *stat, lt_err *err);
/* Mapped values of <site>.<stat> (of files that store f64); LT_EDATA when absent. */
lt_status lt_stats_values(const double **out, const lt_stats *s, const char *site, const char *stat, lt_err *err);
void lt_stats_drop(const lt_stats *s, const char *site);    /* mapped pages of a site's values are not needed for now */
double lt_stats_count(const lt_stats *s, const char *site); /* 0 when absent */
const char *lt_stats_meta(const lt_stats *s,
                          const char *key);   /* model_hash, tokenizer_hash, tokens_hash, settings, ... */
const char *lt_stats_hash(const lt_stats *s); /* SHA-256 of the file's tensors and identity metadata */
lt_status lt_stats_check_model(const lt_stats *s, const char *model_hash, lt_err *err); /* LT_EDATA naming both */
/* out = sum of the inputs, in the given order (the same bytes for one pass and for merged halves need not agree; 1e-12
 * does). Models, tokenizers, settings (but for "data": which text) and sites must agree: LT_EDATA naming the first that
 * differs. */
lt_status lt_stats_merge(const char *out_path, const char *const *paths, size_t n, lt_team *team, lt_err *err);

#endif
