/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/healing_step.h"

#include <string.h>

#include "io/file.h"
#include "pipeline/args.h"
#include "pipeline/commands.h"

static const char step_name[] = "heal", rows_name[] = "heal-rows.safetensors";

/* ---- how much ---- */

static double unit_of(const char *unit) {
    static const struct {
        const char *unit;
        double tokens;
    } units[] = { { "", 1 }, { "k", 1e3 }, { "M", 1e6 }, { "G", 1e9 } };
    for (size_t i = 0; i < LT_COUNTOF(units); i++)
        if (strcmp(unit, units[i].unit) == 0) return units[i].tokens;
    return 0;
}

lt_status lt_heal_budget_parse(lt_train_budget *out, const char *text, lt_err *err) {
    char number[32];
    double amount;
    const size_t digits = strspn(text, "0123456789.");
    const double unit = unit_of(text + digits);
    if (unit > 0 && digits < sizeof number) {
        memcpy(number, text, digits);
        number[digits] = 0;
        if (lt_seconds_parse(&amount, number) && amount * unit >= 1 && amount * unit < 0x1p50) {
            *out = (lt_train_budget){ LT_BY_TOKENS, amount * unit };
            return LT_OK;
        }
    } else if (lt_seconds_parse(&amount, text)) {
        *out = (lt_train_budget){ LT_BY_SECONDS, amount };
        return LT_OK;
    }
    return lt_fail(err, LT_EUSAGE, "--heal: neither tokens as 200k, 2M nor a time as 90s, 30m (%s)", text);
}

/* `heal` with nothing given but its files. */
typedef struct step_options {
    lt_args *args;
    lt_heal_opts o; /* texts are of args */
} step_options;

static void options_clear(step_options *s) {
    lt_heal_opts_clear(&s->o);
    lt_args_destroy(s->args);
}

static lt_status options(step_options *s, const lt_model *m, const lt_tokens *t, const char *rows,
                         const lt_train_budget *b, lt_err *err) {
    json_t *given =
        json_pack("{s:s, s:s, s:s, s:i}", "model", m->path, "data", rows, "output", m->path, "accumulate", 1);
    *s = (step_options){ 0 };
    lt_status st =
        given ? lt_args_create(&s->args, &lt_cmd_heal, given, err) : lt_fail(err, LT_ENOMEM, "heal: out of memory");
    json_decref(given);
    if (st == LT_OK) st = lt_heal_options(&s->o, s->args, m, err);
    if (st != LT_OK) {
        options_clear(s);
        return st;
    }
    s->o.budget = *b;
    for (size_t i = 0; i < t->n_rows; i++) {
        const size_t n = t->row_start[i + 1] - t->row_start[i];
        s->o.seq_len = i ? lt_max_size(s->o.seq_len, n) : n;
    }
    return LT_OK;
}

lt_status lt_heal_step_estimate(lt_estimate *e, const lt_model *m, const lt_tokens *t, const lt_train_budget *b,
                                lt_err *err) {
    step_options s;
    LT_TRY(options(&s, m, t, rows_name, b, err));
    lt_heal_estimate(e, &s.o, m);
    options_clear(&s);
    return LT_OK;
}

lt_dtype lt_heal_dtype(const lt_args *a, const lt_model *m) {
    const lt_dtype asked = lt_dtype_option(a), stored = m->embed.t.dtype;
    if (asked != LT_N_DTYPES) return asked;
    return lt_dtype_get(stored)->block > 1 || stored == LT_F64 ? LT_BF16 : stored;
}

/* ---- the run ---- */

static lt_status produce(lt_produced *made, lt_healed *h, const json_t *training, const lt_heal_step *in,
                         const char *folder, lt_err *err) {
    const lt_export_target *target;
    lt_lineage l = *in->lineage;
    l.training = training;
    LT_TRY(lt_export_find(&target, l.form, err));
    LT_TRY(lt_heal_merge(h, in->c, err));
    return lt_produce(made, &l, &h->trainee->model, target, lt_heal_dtype(in->c->args, in->model), folder, err);
}

static lt_status train(lt_produced *made, json_t **training, const lt_heal_step *in, const lt_heal_opts *o,
                       const char *folder, lt_err *err) {
    lt_healed h = { 0 };
    const lt_heal_in heal = {
        .c = in->c, .out = in->out, .model = in->model, .tokenizer = in->lineage->tokenizer, .o = o, .merge = true
    };
    lt_status st = lt_heal(&h, &heal, err);
    if (st == LT_OK && !(*training = lt_heal_json(&h, o))) st = lt_fail(err, LT_ENOMEM, "heal: out of memory");
    if (st == LT_OK) st = produce(made, &h, *training, in, folder, err);
    lt_healed_clear(&h);
    if (st != LT_OK) return st;
    json_t *note = json_pack("{s:f, s:O}", "logit_gap", made->gap, "training", *training);
    return lt_outdir_mark(in->out, step_name, note, err);
}

lt_status lt_heal_step_run(lt_produced *made, json_t **training, const lt_heal_step *in, const char *folder,
                           lt_err *err) {
    const json_t *before = lt_outdir_step(in->out, step_name);
    step_options s;
    char *rows;
    if (before) {
        *training = json_incref(json_object_get(before, "training"));
        return lt_produced_open(made, in->c, json_number_value(json_object_get(before, "logit_gap")), folder, err);
    }
    LT_TRY(lt_outdir_file(&rows, in->out, rows_name, err));
    lt_status st = options(&s, in->model, in->tokens, rows, &in->budget, err);
    if (st == LT_OK) {
        st = lt_tokens_save(in->tokens, rows, err);
        if (st == LT_OK) st = train(made, training, in, &s.o, folder, err);
        if (st == LT_OK) st = lt_remove_tree(rows, err);
        options_clear(&s);
    }
    lt_free(rows);
    return st;
}
