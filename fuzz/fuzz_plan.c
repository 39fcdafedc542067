/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "compress/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A plan that is accepted is written as a plan that is accepted, and the second writing changes nothing. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    lt_plan p = { 0 }, q = { 0 };
    if (lt_plan_parse(&p, (const char *)data, bytes, "fuzz", &err) != LT_OK) {
        if (p.head || p.cuts || err.code == LT_OK || err.message[0] == 0) abort();
        return 0;
    }
    for (size_t i = 0; i < p.n_cuts; i++)
        if (!p.cuts[i].kind->target(&p.cuts[i])) abort();
    lt_plan_needs_stats(&p);
    char *text = lt_plan_text(&p);
    if (!text || lt_plan_parse(&q, text, strlen(text), "again", NULL) != LT_OK) abort();
    char *again = lt_plan_text(&q);
    if (!again || strcmp(text, again) != 0 || p.n_cuts != q.n_cuts) abort();
    lt_free(text);
    lt_free(again);
    lt_plan_clear(&p);
    lt_plan_clear(&q);
    return 0;
}
