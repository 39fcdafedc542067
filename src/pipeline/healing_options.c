/* SPDX-License-Identifier: Apache-2.0 */
/* The options of training, and what they become. What is not given comes from the preset. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/healing.h"

bool lt_seconds_parse(double *out, const char *text) {
    static const struct {
        const char *unit;
        double seconds;
    } units[] = { { "", 1 }, { "s", 1 }, { "m", 60 }, { "h", 3600 }, { "d", 86400 } };
    double whole = 0, place = 1;
    const char *p = text;
    bool dot = false, digits = false;
    for (; (*p >= '0' && *p <= '9') || (*p == '.' && !dot); p++) { /* strtod would ask the locale */
        if (*p == '.') {
            dot = true;
            continue;
        }
        digits = true;
        whole = 10 * whole + (*p - '0');
        if (dot) place *= 10;
    }
    for (size_t i = 0; digits && i < LT_COUNTOF(units); i++)
        if (strcmp(p, units[i].unit) == 0) {
            *out = whole / place * units[i].seconds;
            return *out > 0;
        }
    return false;
}

/* What no option says, and what an option without a default of its own says when it is not given. */
static lt_status preset_values(lt_heal_opts *o, const char *preset, lt_err *err) {
    const lt_preset *p;
    LT_TRY(lt_preset_find(&p, preset, err));
    const lt_train_recipe *r = p->recipe;
    *o = (lt_heal_opts){
        .preset = p,
        .budget = { LT_BY_EPOCHS, r->epochs },
        .trainer = { .adamw = { .beta1 = r->beta1, .beta2 = r->beta2, .decay = r->decay },
                     .schedule = { .lr = r->lr, .floor_share = r->floor_share, .warmup = r->warmup_steps } },
        .warmup_share = r->warmup_share,
        .decay_share = 0.2,
        .save_seconds = 600,
        .batch = r->batch,
        .accumulate = r->accumulate,
        .seq_len = r->seq_len,
    };
    return lt_schedule_find(&o->trainer.schedule.row, r->schedule, err);
}

void lt_heal_opts_clear(lt_heal_opts *o) {
    lt_free(o->freeze);
    lt_free(o->only);
    lt_free(o->data);
    lt_free(o->valid_data);
    *o = (lt_heal_opts){ 0 };
}

static void real_option(double *to, const lt_args *a, const char *name) {
    if (lt_arg_given(a, name)) *to = lt_arg_real(a, name);
}

static void size_option(size_t *to, const lt_args *a, const char *name) {
    if (lt_arg_given(a, name)) *to = (size_t)lt_arg_int(a, name);
}

static lt_status list_option(const char ***to, const lt_args *a, const char *name, lt_err *err) {
    const size_t n = lt_arg_count(a, name);
    *to = lt_calloc(n + 1, sizeof **to);
    if (!*to) return lt_fail(err, LT_ENOMEM, "options: out of memory");
    for (size_t i = 0; i < n; i++) (*to)[i] = lt_arg_at(a, name, i);
    return LT_OK;
}

static lt_status budget_option(lt_train_budget *b, const lt_args *a, lt_err *err) {
    static const struct {
        const char *name;
        lt_budget_by by;
    } rows[] = { { "epochs", LT_BY_EPOCHS }, { "steps", LT_BY_STEPS }, { "train-tokens", LT_BY_TOKENS } };
    const char *time = lt_arg_string(a, "time"), *given = time ? "time" : NULL;
    if (time) {
        b->by = LT_BY_SECONDS;
        LT_REQUIRE(err, lt_seconds_parse(&b->amount, time), "--time: not a time as 90s, 30m, 2h (%s)", time);
    }
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        if (!lt_arg_given(a, rows[i].name)) continue;
        LT_REQUIRE(err, !given, "--%s and --%s are two budgets: give one", given, rows[i].name);
        given = rows[i].name;
        b->by = rows[i].by;
        b->amount = rows[i].by == LT_BY_EPOCHS ? lt_arg_real(a, given) : (double)lt_arg_int(a, given);
    }
    return LT_OK;
}

static lt_status schedule_options(lt_heal_opts *o, const lt_args *a, lt_err *err) {
    lt_schedule *s = &o->trainer.schedule;
    if (lt_arg_given(a, "schedule")) LT_TRY(lt_schedule_find(&s->row, lt_arg_string(a, "schedule"), err));
    LT_REQUIRE(err, !lt_arg_given(a, "warmup-steps") || !lt_arg_given(a, "warmup-share"),
               "--warmup-steps and --warmup-share are two warm-ups: give one");
    real_option(&s->lr, a, "lr");
    real_option(&s->floor, a, "min-lr");
    real_option(&s->floor_share, a, "min-lr-share");
    if (lt_arg_given(a, "warmup-steps") || lt_arg_given(a, "warmup-share")) s->warmup = 0, o->warmup_share = 0;
    size_option(&s->warmup, a, "warmup-steps");
    real_option(&o->warmup_share, a, "warmup-share");
    size_option(&s->decay, a, "decay-steps");
    return LT_OK;
}

static void optimiser_options(lt_heal_opts *o, const lt_args *a) {
    real_option(&o->trainer.adamw.decay, a, "weight-decay");
    real_option(&o->trainer.adamw.beta1, a, "beta1");
    real_option(&o->trainer.adamw.beta2, a, "beta2");
    o->trainer.adamw.eps = lt_arg_real(a, "eps");
    o->trainer.clip = lt_arg_real(a, "clip");
    o->decay = strcmp(lt_arg_string(a, "decay"), "all") == 0 ? LT_DECAY_ALL : LT_DECAY_MATRICES;
}

/* A window is at most what the model has positions for; one that was asked for must fit. */
static lt_status window_option(lt_heal_opts *o, const lt_args *a, const lt_model *m, lt_err *err) {
    const size_t most = m->config.max_positions;
    size_option(&o->seq_len, a, "seq-len");
    LT_REQUIRE(err, !lt_arg_given(a, "seq-len") || o->seq_len <= most,
               "--seq-len: %zu is more than the %zu positions of %s", o->seq_len, most, m->path);
    o->seq_len = lt_min_size(o->seq_len, most);
    return LT_OK;
}

static void lora_options(lt_train_lora *l, const lt_args *a) {
    const char *factors = lt_arg_string(a, "lora-factors");
    *l = (lt_train_lora){ .opts = { .rank = (size_t)lt_arg_int(a, "lora-rank"),
                                    .alpha = lt_arg_real(a, "lora-alpha"),
                                    .dropout = lt_arg_real(a, "lora-dropout"),
                                    .rslora = lt_arg_flag(a, "rslora") },
                          .factors = strcmp(factors, "a") == 0   ? LT_LORA_A
                                     : strcmp(factors, "b") == 0 ? LT_LORA_B
                                                                 : LT_LORA_BOTH,
                          .targets = lt_arg_string(a, "lora-targets"),
                          .from = lt_arg_string(a, "adapter") };
}

lt_status lt_heal_options_check(const lt_args *a, lt_err *err) {
    lt_heal_opts o;
    LT_TRY(preset_values(&o, lt_arg_string(a, "preset"), err));
    LT_TRY(budget_option(&o.budget, a, err));
    return schedule_options(&o, a, err);
}

lt_status lt_heal_options(lt_heal_opts *o, const lt_args *a, const lt_model *m, lt_err *err) {
    LT_TRY(preset_values(o, lt_arg_string(a, "preset"), err));
    LT_TRY(list_option(&o->data, a, "data", err));
    LT_TRY(list_option(&o->valid_data, a, "validation-data", err));
    LT_TRY(list_option(&o->freeze, a, "freeze", err));
    LT_TRY(list_option(&o->only, a, "train-only", err));
    LT_TRY(budget_option(&o->budget, a, err));
    LT_TRY(schedule_options(o, a, err));
    optimiser_options(o, a);
    LT_TRY(window_option(o, a, m, err));
    size_option(&o->batch, a, "batch");
    size_option(&o->accumulate, a, "accumulate");
    o->valid_share = lt_arg_real(a, "validation-share");
    o->eval_every = (size_t)lt_arg_int(a, "eval-every");
    o->save_every = (size_t)lt_arg_int(a, "save-every");
    o->keep = (size_t)lt_arg_int(a, "keep-checkpoints");
    o->template_file = lt_arg_string(a, "template");
    o->isolate = lt_arg_flag(a, "isolate");
    o->shuffle = lt_arg_flag(a, "shuffle");
    o->trainer.recompute = lt_arg_flag(a, "recompute");
    if (o->preset->lora) lora_options(&o->lora, a);
    o->take_best = strcmp(lt_arg_string(a, "take"), "best") == 0;
    o->seed = o->trainer.seed = o->lora.seed = (uint64_t)lt_arg_int(a, "seed");
    return LT_OK;
}
