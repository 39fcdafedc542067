/* SPDX-License-Identifier: Apache-2.0 */
/* calib/stats_file.h - writing lathe-stats/1, and the hash that reader and writer agree on; private to the room. */
#ifndef LT_CALIB_STATS_FILE_H
#define LT_CALIB_STATS_FILE_H

#include "calib/stats.h"
#include "io/json.h"

#define LT_STATS_FORMAT "lathe-stats/1"

/* The identity metadata, in the order in which they are hashed. source is told, not hashed. */
enum { LT_N_STATS_IDS = 4 };
extern const char *const lt_stats_ids[LT_N_STATS_IDS]; /* model_hash, tokenizer_hash, tokens_hash, settings */
typedef struct lt_stats_head {
    const char *id[LT_N_STATS_IDS], *source, *machine;
    json_t *sites;
    const lt_stat_set *sets; /* of each site, where they differ; NULL: one for all */
    bool f32;                /* all but counts are stored as f32 */
} lt_stats_head;
/* sites: {"<site>": {"cols": 576, "modules": ["...", ...], "kind": "first"}, ...}; no kind: "input" */

/* Order of tensors: sites as in the header, accumulators as in the table. */
typedef struct lt_stats_hasher {
    lt_hash *h;
} lt_stats_hasher;
lt_status lt_stats_hash_begin(lt_stats_hasher *s, const lt_stats_head *head, lt_err *err);
void lt_stats_hash_tensor(lt_stats_hasher *s, const char *name, const char *hex); /* hex: SHA-256 of its bytes */
void lt_stats_hash_end(lt_stats_hasher *s, char hex[LT_HASH_HEX]);

/* Values of one tensor, valid until the next call; asked for twice, in order: for the hash, then to be written. */
typedef lt_status (*lt_stats_source)(void *user, const char *site, size_t cols, const lt_stat *stat,
                                     const double **values, lt_err *err);
lt_status lt_stats_write(const char *path, const lt_stats_head *head, lt_stat_set set, lt_stats_source values,
                         void *user, lt_err *err);

/* A stats file made tensor by tensor, in any order and over several runs, at a path of its own. head must stay. */
typedef struct lt_stats_parts lt_stats_parts;
lt_status lt_stats_parts_open(lt_stats_parts **out, const char *path, const lt_stats_head *head, lt_err *err);
/* values: of <site>.<stat>, all n of them. Digest and bytes are those of the stored dtype. Any thread. */
lt_status lt_stats_parts_digest(char hex[LT_HASH_HEX], const lt_stats_parts *p, size_t stat, const double *values,
                                size_t n, lt_err *err);
lt_status lt_stats_parts_put(const lt_stats_parts *p, const char *site, size_t stat, const double *values, size_t n,
                             lt_err *err);
/* Does the file at path hold these tensors? digests: {"<site>.<stat>": SHA-256 in hex, ...} */
bool lt_stats_parts_hold(const lt_stats_parts *p, const json_t *digests);
/* digests: of all tensors. The file is whole and on disk; frees p either way. */
lt_status lt_stats_parts_commit(lt_stats_parts *p, const json_t *digests, lt_err *err);
void lt_stats_parts_close(lt_stats_parts *p); /* what was put stays; NULL is fine */

/* First member in which two settings objects differ; members named in skip (NULL-terminated) aside. NULL: none.
 * Borrowed from a or b. */
const char *lt_settings_differ(const json_t *a, const json_t *b, const char *const *skip);

#endif
