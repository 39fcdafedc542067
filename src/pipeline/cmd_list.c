/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_list.c - what is built in, straight from the tables that do the work. */
#include "pipeline/commands.h"

#include <stdio.h>
#include <string.h>

#include "calib/recipe.h"
#include "compress/method.h"
#include "core/suggest.h"
#include "export/export.h"
#include "model/family.h"
#include "pipeline/presets.h"
#include "pipeline/result.h"
#include "tokenizer/stage.h"
#include "train/preset.h"
#include "train/schedule.h"

#define TABLE(result, title, ...)                                                                                      \
    lt_result_table((result), (title), (const char *const[]){ __VA_ARGS__ },                                           \
                    sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *))

static json_t *names_json(const char *const *names) {
    json_t *list = json_array();
    for (; names && *names; names++) json_array_append_new(list, json_string(*names));
    return list;
}

static void list_commands(json_t *result) {
    json_t *rows = TABLE(result, "commands", "command", "does");
    for (const lt_command *const *c = lt_commands; *c; c++) lt_result_row(rows, "ss", (*c)->name, (*c)->summary);
}

static void list_methods(json_t *result) {
    json_t *rows = TABLE(result, "methods", "method", "does", "needs", "source");
    for (const lt_method *const *m = lt_methods; *m; m++)
        lt_result_row(rows, "ssjs", (*m)->name, (*m)->summary, names_json((*m)->needs.stats), (*m)->source);
    rows = TABLE(result, "parameters of methods", "method", "parameter", "type", "default", "choices", "help");
    for (const lt_method *const *m = lt_methods; *m; m++)
        for (const lt_method_param *p = (*m)->params; p && p->name; p++) {
            char range[48];
            snprintf(range, sizeof range, "%g to %g", p->lo, p->hi);
            lt_result_row(rows, "ssssss", (*m)->name, p->name, p->type, p->dflt,
                          p->choices      ? p->choices
                          : p->hi > p->lo ? range
                                          : "",
                          p->help);
        }
}

static void list_allocators(json_t *result) {
    json_t *rows = TABLE(result, "allocators", "allocator", "does", "source");
    for (const lt_allocator *const *a = lt_allocators; *a; a++)
        lt_result_row(rows, "sss", (*a)->name, (*a)->summary, (*a)->source);
}

static void list_weights(json_t *result) {
    json_t *rows = TABLE(result, "weights of errors", "weights", "does", "needs");
    for (const lt_weighting *w = lt_weightings; w->name; w++)
        lt_result_row(rows, "ssj", w->name, w->summary, names_json(w->stats));
}

static void list_cuts(json_t *result) {
    json_t *rows = TABLE(result, "kinds of cut", "kind");
    for (const lt_cut_kind *const *k = lt_cut_kinds; *k; k++) lt_result_row(rows, "s", (*k)->kind);
}

static void list_stats(json_t *result) {
    json_t *rows = TABLE(result, "statistics", "name", "numbers for 1024 columns");
    for (const lt_stat *const *s = lt_stat_rows; *s; s++) lt_result_row(rows, "sz", (*s)->name, (*s)->doubles(1024));
}

static void list_families(json_t *result) {
    json_t *rows = TABLE(result, "families", "family", "model_type", "gguf", "factored");
    for (const lt_family *const *f = lt_families; *f; f++)
        lt_result_row(rows, "sjjs", (*f)->name, names_json((*f)->model_types), names_json((*f)->gguf_archs),
                      (*f)->lowrank_model_type);
}

static void list_targets(json_t *result) {
    json_t *rows = TABLE(result, "export targets", "target", "is");
    for (const lt_export_target *const *t = lt_export_targets; *t; t++)
        lt_result_row(rows, "ss", (*t)->name, (*t)->summary);
}

static void list_dtypes(json_t *result) {
    json_t *rows = TABLE(result, "number types", "dtype", "block", "block size|B", "safetensors", "written");
    for (int t = 0; t < LT_N_DTYPES; t++) {
        const lt_dtype_row *r = lt_dtype_get((lt_dtype)t);
        lt_result_row(rows, "szzsb", r->name, r->block, r->bytes, r->safetensors, (int)(r->from_f32 != NULL));
    }
}

static void list_recipes(json_t *result) {
    json_t *rows = TABLE(result, "recipes", "recipe", "makes rows of text so");
    for (const lt_recipe *const *r = lt_recipes; *r; r++) lt_result_row(rows, "ss", (*r)->name, (*r)->summary);
}

static void list_presets(json_t *result) {
    json_t *rows = TABLE(result, "presets of methods", "preset", "does", "sets", "source");
    for (const lt_method_preset *p = lt_method_presets; p->name; p++) {
        json_t *sets = json_array();
        for (const lt_preset_value *v = p->values; v->option; v++)
            json_array_append_new(sets, json_sprintf("--%s %s", v->option, v->value));
        lt_result_row(rows, "ssjs", p->name, p->summary, sets, p->source);
    }
    rows = TABLE(result, "presets of training", "preset", "trains", "lr", "schedule", "epochs", "rows per step",
                 "tokens per row");
    for (const lt_preset *const *p = lt_presets; *p; p++) {
        const lt_train_recipe *r = (*p)->recipe;
        lt_result_row(rows, "ssdsdzz", (*p)->name, (*p)->summary, r->lr, r->schedule, r->epochs,
                      r->batch * r->accumulate, r->seq_len);
    }
    rows = TABLE(result, "schedules", "schedule", "learning rate");
    for (const lt_schedule_row *const *s = lt_schedules; *s; s++) lt_result_row(rows, "ss", (*s)->name, (*s)->summary);
}

static void list_tokenizers(json_t *result) {
    static const lt_tok_table *const stages[] = { &lt_tok_normalizers, &lt_tok_pretokenizers, &lt_tok_postprocessors,
                                                  &lt_tok_decoders };
    static const lt_tok_model_row *const models[] = { &lt_tok_bpe, &lt_tok_unigram, &lt_tok_wordpiece };
    json_t *rows = TABLE(result, "parts of tokenizers", "part", "type in tokenizer.json");
    for (size_t i = 0; i < LT_COUNTOF(stages); i++)
        for (size_t k = 0; k < stages[i]->n; k++) lt_result_row(rows, "ss", stages[i]->stage, stages[i]->row[k].type);
    for (size_t i = 0; i < LT_COUNTOF(models); i++) lt_result_row(rows, "ss", "model", models[i]->type);
}

static void list_kernels(json_t *result) {
    json_t *rows = TABLE(result, "kernels", "kernels", "runs here");
    for (size_t i = 0; lt_kernels_at(i); i++) {
        const char *name = lt_kernels_at(i)->name;
        lt_result_row(rows, "sb", name, (int)(lt_kernels_get(name) != NULL));
    }
}

static const struct {
    const char *name;
    void (*list)(json_t *result);
} topics[] = {
    { "allocators", list_allocators }, { "commands", list_commands }, { "cuts", list_cuts },
    { "dtypes", list_dtypes },         { "families", list_families }, { "kernels", list_kernels },
    { "methods", list_methods },       { "presets", list_presets },   { "recipes", list_recipes },
    { "stats", list_stats },           { "targets", list_targets },   { "tokenizers", list_tokenizers },
    { "weights", list_weights },
};

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    const char *topic = lt_arg_string(c->args, "topic");
    json_t *r = lt_result_new(c);
    lt_suggestion s = { .word = topic ? topic : "" };
    bool found = false;
    for (size_t i = 0; i < LT_COUNTOF(topics); i++) {
        lt_suggest(&s, topics[i].name);
        if (topic && strcmp(topic, topics[i].name) != 0) continue;
        topics[i].list(r);
        found = true;
    }
    if (found) return lt_result_finish(result, r, err);
    json_decref(r);
    char hint[80];
    return lt_fail(err, LT_EUSAGE, "list: no topic \"%.40s\"%s", topic, lt_suggest_text(&s, "", hint, sizeof hint));
}

static const lt_positional positionals[] = {
    { "topic", 0, 1,
      "allocators, commands, cuts, dtypes, families, kernels, methods, presets, recipes, stats, targets, tokenizers or "
      "weights; "
      "default: "
      "all" },
    { NULL, 0, 0, NULL },
};

const lt_command lt_cmd_list = {
    .name = "list",
    .summary = "show what is built in: methods, families, targets, number types",
    .example = "lathe list methods",
    .positionals = positionals,
    .run = run,
    .without = LT_NO_ESTIMATE | LT_NO_OVERWRITE,
};
