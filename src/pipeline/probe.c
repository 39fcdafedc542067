/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/probe.h"

#include <math.h>
#include <stdio.h>

#include "eval/perplexity.h"

/* A probe is one of many: its progress would be noise. */
static lt_status score(void *user, const lt_model *m, double *mean_nll, lt_err *err) {
    const lt_text_probe *p = user;
    lt_ctx quiet = *p->c->ctx;
    lt_ppl_out out;
    quiet.progress = NULL;
    const lt_ppl_in in = { .model = m, .tokens = &p->tokens, .team = p->c->team, .ctx = &quiet };
    LT_TRY(lt_perplexity(&out, &in, err));
    *mean_nll = isnan(out.mean_nll) ? INFINITY : out.mean_nll;
    lt_ppl_clear(&out);
    return LT_OK;
}

lt_status lt_text_probe_open(lt_text_probe *out, bool *given, const lt_call_ctx *c, const lt_subject *s, lt_err *err) {
    const char *data = lt_arg_string(c->args, "probe-data");
    const size_t len = (size_t)lt_arg_int(c->args, "probe-len"), most = s->o.model->config.max_positions;
    const lt_tokens_opts o = { .recipe = "plain",
                               .seq_len = lt_min_size(len, most),
                               .max_rows = (size_t)lt_arg_int(c->args, "probe-rows") };
    *out = (lt_text_probe){ .c = c };
    *given = data != NULL;
    if (!data) return LT_OK;
    LT_REQUIRE(err, len <= most || !lt_arg_given(c->args, "probe-len"),
               "--probe-len: %zu is more than the %zu positions of %s", len, most, s->id);
    LT_TRY(lt_subject_tokens(&out->tokens, s, c, data, &o, err));
    snprintf(out->what, sizeof out->what, "%zu rows of %.16s", out->tokens.n_rows, out->tokens.hash);
    out->probe = (lt_probe){ score, out, out->what };
    return LT_OK;
}

void lt_text_probe_clear(lt_text_probe *p) {
    lt_tokens_clear(&p->tokens);
}
