/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/require.h - `--require 'kld.mean<0.05'`: a measured value that must hold, else exit code 7 with the result
 * kept. */
#ifndef LT_PIPELINE_REQUIRE_H
#define LT_PIPELINE_REQUIRE_H

#include "pipeline/command.h"

#define LT_REQUIRE_OPTION                                                                                              \
    {                                                                                                                  \
        "require", LT_OPT_STRING, NULL, 0, 0, NULL, true, "CONDITION",                                                 \
            "a value that must hold, else exit code 7: 'ppl<20', 'kld.mean<=0.05'"                                     \
    }
/* NAME (<, <=, >, >=) NUMBER; NAME is one of the NULL-terminated names. Before any work: LT_EUSAGE for what cannot be
 * checked. */
lt_status lt_requires_check(const lt_args *a, const char *const *names, lt_err *err);
/* LT_ETARGET naming the first condition that record (an object; "a.b" is member b of member a) does not meet, and its
 * value. */
lt_status lt_requires_met(const lt_args *a, const char *model, const json_t *record, lt_err *err);

#endif
