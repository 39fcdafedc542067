/* SPDX-License-Identifier: Apache-2.0 */
/* compress/ranks.h - rank files of the utilized-rank code: module -> target rank (docs/formats/ranks.md).
 *
 *   flat      {"<module>": {"r": 64, ...}, ...}
 *   schema 2  {"schema": 2, "meta": {...}, "layers": {"<module>": {"r": 64, "factorize": true, ...}, ...}}
 * Only r is read (and factorize: false, dense). A rank of 0 or from the break-even on means: leave it as it is. */
#ifndef LT_COMPRESS_RANKS_H
#define LT_COMPRESS_RANKS_H

#include "compress/plan.h"

/* *out: {"<module>": rank} (new reference), whatever the form. model: hash of the model that the ranks were found on;
 * "" where the file does not say. */
lt_status lt_ranks_parse(json_t **out, char model[LT_HASH_HEX], const char *text, size_t bytes, const char *name,
                         lt_err *err);
lt_status lt_ranks_load(json_t **out, char model[LT_HASH_HEX], const char *path, lt_err *err);
size_t lt_ranks_get(const json_t *ranks, const lt_module *module); /* 0: not there */
/* Every module is a linear of the model, or a part of one, and none is named twice; none at all is LT_EDATA. */
lt_status lt_ranks_check(const json_t *ranks, const lt_model *m, lt_err *err);
/* The plan's ranks: schema 2, or flat. Linears of the layers without a cut are there with factorize false. */
lt_status lt_ranks_of_plan(json_t **out, const lt_plan *p, const lt_model *m, bool flat, lt_err *err);

#endif
