/* SPDX-License-Identifier: Apache-2.0 */
/* hub/hub.h - repositories of the Hugging Face hub: found in the standard cache, or pulled into it.
 *
 *   ROOT/models--ORG--NAME/blobs/ETAG               contents, named by what the hub calls them
 *                         /snapshots/COMMIT/FILE    links to ../../blobs/ETAG
 *                         /refs/REVISION            holds COMMIT
 *   ROOT/.locks/models--ORG--NAME/ETAG.lock
 * ROOT is HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub. Data sets
 * lie in datasets--ORG--NAME. Source: huggingface_hub 0.x, "Manage your cache"; behaviour of the library.
 * docs/formats/hub.md. */
#ifndef LT_HUB_HUB_H
#define LT_HUB_HUB_H

#include "core/core.h"

/* What a user may call a model: a path that exists is itself; ORG/NAME[@REVISION][/FILE] or NAME is the snapshot in the
 * cache. *path: lt_free. LT_EIO: neither; the message says how to get it. */
lt_status lt_hub_find(char **path, const char *name, lt_err *err);

/* "org/name" of a path that is a snapshot of the cache, or lies in one; *id NULL: it is none. lt_free. */
lt_status lt_hub_id_of(char **id, const char *path, lt_err *err);

typedef struct lt_hub_pull_in {
    const lt_ctx *ctx;         /* progress and log; may be NULL */
    const char *id, *revision; /* "org/name"; NULL: main */
    bool dataset;
    const char *const *include; /* shell patterns of files, '*' also matches '/'; none: all */
    size_t n_include;
    const char *const *exclude;
    size_t n_exclude;
} lt_hub_pull_in;
typedef struct lt_hub_pull_out {
    char *path; /* of the snapshot; lt_free */
    char commit[65];
    size_t files, fetched; /* in the snapshot; of these not there before */
    uint64_t bytes, fetched_bytes;
} lt_hub_pull_out;
/* Environment: HF_ENDPOINT, HF_TOKEN (or the file HF_TOKEN_PATH, HF_HOME/token), HF_HUB_OFFLINE. What was fetched is
 * checked against the hub's SHA-256 or git hash before it gets its name; an interrupted pull goes on where it stopped.
 * LT_EIO: network, disk, a refused or missing repository, a wrong checksum; LT_EINTERRUPTED: progress said stop. */
lt_status lt_hub_pull(lt_hub_pull_out *out, const lt_hub_pull_in *in, lt_err *err);

#endif
