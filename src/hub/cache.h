/* SPDX-License-Identifier: Apache-2.0 */
/* hub/cache.h - names and places of the cache; private to the room. Strings: lt_free. */
#ifndef LT_HUB_CACHE_H
#define LT_HUB_CACHE_H

#include "core/core.h"

lt_status lt_hub_root(char **out, lt_err *err);
/* ROOT/models--ORG--NAME */
lt_status lt_hub_repo(char **out, const char *id, bool dataset, lt_err *err);
/* The snapshot that a revision means, *out NULL: not in the cache. */
lt_status lt_hub_snapshot(char **out, const char *repo, const char *revision, lt_err *err);
bool lt_hub_offline(void);
lt_status lt_hub_endpoint(char **out, lt_err *err); /* without a '/' at its end */
lt_status lt_hub_token(char **out, lt_err *err);    /* *out NULL: none */

/* Names come from users and servers, and become paths: */
bool lt_hub_is_id(const char *id, size_t n);   /* NAME or ORG/NAME of letters, digits, '-', '_', '.' */
bool lt_hub_is_file(const char *path);         /* relative, no "..", no control bytes */
bool lt_hub_is_revision(const char *revision); /* the same, shorter */
bool lt_hub_is_commit(const char *s);          /* 40 hex digits */
bool lt_hub_is_etag(const char *s);            /* letters, digits, '-', '_', '.' */

#endif
