/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/presets.h"

#include <string.h>

#include "core/suggest.h"
#include "pipeline/options.h"

/* ---- the rows ---- */

static const lt_preset_value svd_llm[] = {
    { "method", "whitened" },
    { "methods", "whitened" },
    { "allocate", "uniform" },
    { "param", "affine=off" },
    { "param", "balance=balanced" },
    { "recipe", "svdllm" },
    { "max-rows", "256" },
    { "seq-len", "2048" },
    { "seed", "3" },
    { "window", "2048" },
    { NULL, NULL },
};
static const lt_preset_value svd_llm_v2[] = {
    { "method", "whitened" },
    { "methods", "whitened" },
    { "allocate", "svd_llm_v2" },
    { "param", "affine=off" },
    { "param", "balance=balanced" },
    { "recipe", "svdllm" },
    { "max-rows", "256" },
    { "seq-len", "2048" },
    { "seed", "3" },
    { "window", "2048" },
    { NULL, NULL },
};
static const lt_preset_value asvd[] = {
    { "method", "asvd" },     { "methods", "asvd" },           { "allocate", "asvd_strs" },
    { "param", "alpha=0.5" }, { "param", "balance=balanced" }, { "recipe", "svdllm" },
    { "max-rows", "32" },     { "seq-len", "2048" },           { "seed", "233" },
    { "probe-rows", "32" },   { "probe-len", "2048" },         { "window", "2048" },
    { NULL, NULL },
};
static const lt_preset_value swift_svd[] = {
    { "method", "whitened" },
    { "methods", "whitened" },
    { "allocate", "swift_svd" },
    { "param", "affine=off" },
    { "param", "balance=orth" },
    { "recipe", "svdllm" },
    { "max-rows", "256" },
    { "seq-len", "2048" },
    { "probe-len", "2048" },
    { "window", "2048" },
    { NULL, NULL },
};
static const lt_preset_value utilized_rank[] = {
    { "method", "utilized" }, { "methods", "utilized" }, { "param", "energy=0.99" },  { "param", "r_min=1" },
    { "param", "guard=off" }, { "param", "affine=off" }, { "param", "balance=orth" }, { "recipe", "rows" },
    { "seq-len", "512" },     { "max-rows", "15000" },   { "window", "512" },         { NULL, NULL },
};

static const char *const of_svd_llm[] = { "sums are f64 (published: f32 sums of f16 activations)",
                                          "a singular Gram takes the eigen route (published: a shift of the diagonal)",
                                          "no LoRA rounds: those are `heal`", NULL };
static const char *const of_v2[] = { "sums are f64, the fit is the equal one-step form (published: two SVDs)",
                                     "1 / ln of the loss, the reading by which a large loss is compressed less",
                                     "removed shares are within 0 and 0.95; a role whose loss is not above 1 has "
                                     "uniform ranks (published: no bounds)",
                                     NULL };
static const char *const of_asvd[] = {
    "sensitivity is measured with factors as they will be applied",
    "sensitivity is measured on --probe-data (published: on the calibration samples)", NULL
};
static const char *const of_swift[] = { "layer importance is the rise of the probe's loss when the layer is cut alone",
                                        "sums are f64 (published: of the model's dtype)", NULL };
static const char *const of_utilized[] = {
    "output Grams are bias-free, without padding, f64 (published: with bias, padding, bf16 sums; see utilized_biased)",
    "calibration ends after 15000 rows, about 1 M positions of WikiText-2 (published: after 1,000,000 positions)",
    "factors have the weight's dtype (published: weights are rounded to f16 and written as f32)",
    "perplexity is of whole windows (published: of rows; `evaluate perplexity --protocol rows_legacy`)", NULL
};

const lt_method_preset lt_method_presets[] = {
    { "asvd", "activation-aware SVD with its rank search", "Yuan et al., ASVD (2023)", asvd, of_asvd },
    { "svd_llm", "whitening, uniform ranks, 256 windows of 2048", "Wang et al., SVD-LLM (ICLR 2025)", svd_llm,
      of_svd_llm },
    { "svd_llm_v2", "whitening, ranks by loss within a role", "Wang et al., SVD-LLM V2 (NAACL 2025)", svd_llm_v2,
      of_v2 },
    { "swift_svd", "output eigenvectors, ranks by importance and loss", "Qi et al., Swift-SVD (2026)", swift_svd,
      of_swift },
    { "utilized_rank", "output projection at 99 % energy", "Garg et al., Revealing the Utilized Rank (2024)",
      utilized_rank, of_utilized },
    { NULL, NULL, NULL, NULL, NULL },
};

/* ---- merging ---- */

static lt_status find_preset(const lt_method_preset **out, const char *name, lt_err *err) {
    char hint[96];
    lt_suggestion s = { .word = name };
    for (const lt_method_preset *p = lt_method_presets; p->name; p++) {
        lt_suggest(&s, p->name);
        *out = p;
        if (strcmp(p->name, name) == 0) return LT_OK;
    }
    return lt_fail(err, LT_EUSAGE, "unknown preset \"%.40s\"%s (`lathe list presets`)", name,
                   lt_suggest_text(&s, "", hint, sizeof hint));
}

static bool has_row(const lt_command *c, const char *option) {
    for (const lt_option *o = c->options; o && o->name; o++)
        if (lt_name_equal(o->name, option)) return true;
    return false;
}

static json_t *given(json_t *options, const char *option) {
    const char *name;
    json_t *value;
    json_object_foreach(options, name, value) {
        if (lt_name_equal(name, option)) return json_is_null(value) ? NULL : value;
    }
    return NULL;
}

/* The VALUE of NAME=VALUE in a list of them (or one), for the NAME of `like`; NULL: not there. */
static const char *param_like(const json_t *list, const char *like) {
    const size_t n = strcspn(like, "=") + 1;
    const size_t count = json_is_array(list) ? json_array_size(list) : list ? 1 : 0;
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_is_array(list) ? json_array_get(list, i) : list);
        if (text && strncmp(text, like, n) == 0) return text + n;
    }
    return NULL;
}

static int add_param(json_t *options, const char *value) {
    json_t *list = given(options, "param");
    if (param_like(list, value)) return 0;
    if (!json_is_array(list)) {
        json_t *fresh = json_array();
        if (fresh && list) json_array_append(fresh, list);
        if (!fresh || json_object_set_new(options, "param", fresh) != 0) return -1;
        list = fresh;
    }
    return json_array_append_new(list, json_string(value));
}

static bool decides_ranks(const json_t *options, const char *value) {
    return strncmp(value, "energy=", 7) == 0 && (json_object_get(options, "keep") || json_object_get(options, "ranks"));
}

lt_status lt_presets_merge(json_t *options, const lt_command *command, lt_err *err) {
    const char *name = json_string_value(json_object_get(options, "preset"));
    const lt_method_preset *p;
    if (!command->presets || !name) return LT_OK;
    LT_TRY(find_preset(&p, name, err));
    for (const lt_preset_value *v = p->values; v->option; v++) {
        int failed = 0;
        if (!has_row(command, v->option)) continue;
        if (strcmp(v->option, "param") == 0)
            failed = decides_ranks(options, v->value) ? 0 : add_param(options, v->value);
        else if (!given(options, v->option))
            failed = json_object_set_new(options, v->option, json_string(v->value));
        if (failed) return lt_fail(err, LT_ENOMEM, "preset %s: out of memory", name);
    }
    return LT_OK;
}

/* ---- reporting ---- */

/* As text: 2048 and "2048" are one. */
static bool same(const json_t *used, const char *published) {
    char *text = json_is_string(used) ? NULL : json_dumps(used, JSON_ENCODE_ANY);
    const bool equal = strcmp(text ? text : json_is_string(used) ? json_string_value(used) : "", published) == 0;
    free(text);
    return equal;
}

static json_t *deviation(const json_t *args, const lt_preset_value *v) {
    const bool param = strcmp(v->option, "param") == 0;
    json_t *used = given((json_t *)args, v->option);
    const char *value = param ? param_like(used, v->value) : NULL;
    if (param && value && strcmp(value, strchr(v->value, '=') + 1) == 0) return NULL;
    if (!param && used && same(used, v->value)) return NULL;
    return json_pack("{s:s, s:s, s:o}", "option", v->option, "published", v->value, "used",
                     param  ? (value ? json_string(value) : json_null())
                     : used ? json_incref(used)
                            : json_null());
}

json_t *lt_presets_report(const lt_args *args, const lt_command *command) {
    const json_t *all = lt_args_json(args);
    const char *name = command->presets ? json_string_value(json_object_get(all, "preset")) : NULL;
    const lt_method_preset *p;
    if (!name || find_preset(&p, name, NULL) != LT_OK) return NULL;
    json_t *list = json_array();
    for (const lt_preset_value *v = p->values; list && v->option; v++) {
        json_t *d = has_row(command, v->option) ? deviation(all, v) : NULL;
        if (d) json_array_append_new(list, d);
    }
    for (const char *const *d = p->deviations; list && *d; d++) json_array_append_new(list, json_string(*d));
    return json_pack("{s:s, s:s, s:o}", "name", p->name, "source", p->source, "deviations", list);
}
