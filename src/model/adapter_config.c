/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_config.json as PEFT 0.21 reads it (peft/tuners/tuners_utils.py, check_target_module_exists;
 * peft/utils/other.py, get_pattern_key). Lists name modules by their ends, single strings are regular expressions of
 * the whole name, keys of the patterns are expressions of an end. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <math.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "model/adapter_impl.h"

/* ---- names and expressions ---- */

typedef struct pattern_item {
    const char *text;    /* borrowed from the config */
    pcre2_code *code;    /* NULL: a name */
    const json_t *value; /* of a rank or alpha pattern */
} pattern_item;

struct lt_lora_pattern {
    pattern_item *item;
    size_t n;
    const char *field, *where;
};

static void pattern_destroy(lt_lora_pattern *p) {
    if (!p) return;
    for (size_t i = 0; i < p->n; i++) pcre2_code_free(p->item[i].code);
    lt_free(p->item);
    lt_free(p);
}

static lt_status pattern_create(lt_lora_pattern **out, size_t n, const char *field, const char *where, lt_err *err) {
    lt_lora_pattern *p = lt_calloc(1, sizeof *p);
    if (p) p->item = lt_calloc(lt_max_size(1, n), sizeof *p->item);
    if (!p || !p->item) {
        lt_free(p);
        return lt_fail(err, LT_ENOMEM, "out of memory (%s)", where);
    }
    p->field = field;
    p->where = where;
    *out = p;
    return LT_OK;
}

static lt_status compile(pcre2_code **out, const char *before, const char *text, const char *after, uint32_t options,
                         const lt_lora_pattern *p, lt_err *err) {
    int code;
    PCRE2_SIZE at;
    PCRE2_UCHAR why[128];
    char *all = lt_asprintf("%s%s%s", before, text, after);
    if (!all) return lt_fail(err, LT_ENOMEM, "out of memory (%s)", p->where);
    *out = pcre2_compile((PCRE2_SPTR)all, PCRE2_ZERO_TERMINATED,
                         PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_ANCHORED | options, &code, &at, NULL);
    lt_free(all);
    if (*out) return LT_OK;
    pcre2_get_error_message(code, why, sizeof why);
    return lt_fail(err, LT_EDATA, "bad regular expression in %s: %s (%s: %.200s)", p->field, (const char *)why,
                   p->where, text);
}

static lt_status matches(bool *yes, const pattern_item *item, const lt_lora_pattern *p, const char *module,
                         size_t *number, lt_err *err) {
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(item->code, NULL);
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    lt_status st = data && limits ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", p->where);
    if (st == LT_OK) {
        pcre2_set_match_limit(limits, 200000); /* names are short: more is an expression that never ends */
        const int rc = pcre2_match(item->code, (PCRE2_SPTR)module, strlen(module), 0, 0, data, limits);
        *yes = rc >= 0;
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
            st = lt_fail(err, LT_EUNSUPPORTED, "expression in %s gives up (PCRE2 error %d) (%s: %.200s)", p->field, rc,
                         p->where, item->text);
        if (rc >= 0 && number) (void)sscanf(module + pcre2_get_ovector_pointer(data)[1], "%zu", number);
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(data);
    return st;
}

/* ---- reading the lists ---- */

static lt_status need_text(const json_t *j, const lt_lora_pattern *p, lt_err *err) {
    const char *s = json_string_value(j);
    if (s && *s && strlen(s) == json_string_length(j)) return LT_OK;
    return lt_fail(err, LT_EDATA, "%s holds what is not a name (%s)", p->field, p->where);
}

/* A list of names (ends, or beginnings for modules_to_save), or one expression of the whole name. */
static lt_status read_names(lt_lora_pattern **out, const json_t *raw, const char *field, const char *where,
                            lt_err *err) {
    const json_t *j = json_object_get(raw, field);
    lt_lora_pattern *p;
    if (!j || json_is_null(j) || (json_is_array(j) && json_array_size(j) == 0)) return LT_OK;
    if (!json_is_array(j) && !json_is_string(j))
        return lt_fail(err, LT_EDATA, "%s is neither a list of names nor an expression (%s)", field, where);
    LT_TRY(pattern_create(&p, json_is_array(j) ? json_array_size(j) : 1, field, where, err));
    *out = p;
    if (json_is_string(j)) {
        LT_TRY(need_text(j, p, err));
        p->item[0].text = json_string_value(j);
        p->n = 1;
        return compile(&p->item[0].code, "(?:", p->item[0].text, ")", PCRE2_ENDANCHORED, p, err);
    }
    for (size_t i = 0; i < json_array_size(j); i++) {
        LT_TRY(need_text(json_array_get(j, i), p, err));
        p->item[p->n++].text = json_string_value(json_array_get(j, i));
    }
    return LT_OK;
}

/* {"expression of an end": number}, the first that matches counts. */
static lt_status read_numbers(lt_lora_pattern **out, const json_t *raw, const char *field, const char *where,
                              lt_err *err) {
    json_t *j = json_object_get(raw, field), *value;
    const char *key;
    lt_lora_pattern *p;
    if (!j || json_is_null(j)) return LT_OK;
    if (!json_is_object(j)) return lt_fail(err, LT_EDATA, "%s is not an object (%s)", field, where);
    LT_TRY(pattern_create(&p, json_object_size(j), field, where, err));
    *out = p;
    json_object_foreach(j, key, value) {
        if (!json_is_number(value)) return lt_fail(err, LT_EDATA, "%s gives no number (%s: %.200s)", field, where, key);
        p->item[p->n] = (pattern_item){ .text = key, .value = value };
        LT_TRY(compile(&p->item[p->n++].code, "(.*\\.)?(", key, ")$", 0, p, err));
    }
    return LT_OK;
}

/* layers_to_transform: numbers; layers_pattern: what stands before them, by default any name. */
static lt_status read_layers(lt_lora_config *c, const char *where, lt_err *err) {
    const json_t *layers = json_object_get(c->raw, "layers_to_transform"),
                 *at = json_object_get(c->raw, "layers_pattern");
    lt_lora_pattern *p;
    if (!layers || json_is_null(layers) || (json_is_array(layers) && json_array_size(layers) == 0)) return LT_OK;
    for (size_t i = 0; i < json_array_size(layers); i++)
        if (!json_is_integer(json_array_get(layers, i)))
            return lt_fail(err, LT_EDATA, "layers_to_transform holds what is not a number (%s)", where);
    if (!json_is_array(layers) && !json_is_integer(layers))
        return lt_fail(err, LT_EDATA, "layers_to_transform is no list of numbers (%s)", where);
    c->layers = layers;
    const bool list = json_is_array(at) && json_array_size(at) > 0, text = json_is_string(at) && json_string_length(at);
    LT_TRY(pattern_create(&p, list ? json_array_size(at) : 1, "layers_pattern", where, err));
    c->layers_at = p;
    for (size_t i = 0; i < (list ? json_array_size(at) : 1); i++) {
        const json_t *name = list ? json_array_get(at, i) : text ? at : NULL;
        if (name) LT_TRY(need_text(name, p, err));
        p->item[i].text = name ? json_string_value(name) : "[^.]*";
        LT_TRY(compile(&p->item[p->n++].code, name ? "(?:^|.*?\\.)(?:" : ".*?\\.(?:", p->item[i].text,
                       ")\\.(?=\\d+\\.)", 0, p, err));
    }
    return LT_OK;
}

/* ---- reading the rest ---- */

/* Fields of other methods: null, false, empty or zero, or the adapter means something else than LoRA. */
static const char *const foreign[] = {
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "layer_replication",
    "megatron_config",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "corda_config",
    "kasa_config",
    "lora_ga_config",
    "monteclora_config",
    "velora_config",
};

static bool means_nothing(const json_t *j) {
    return !j || json_is_null(j) || json_is_false(j) || (json_is_array(j) && json_array_size(j) == 0) ||
           (json_is_object(j) && json_object_size(j) == 0);
}

static lt_status check_words(const lt_lora_config *c, const char *where, lt_err *err) {
    const char *type, *bias;
    const json_t *init = json_object_get(c->raw, "init_lora_weights");
    const char *how = json_string_value(init);
    LT_TRY(lt_json_string(&type, c->raw, "peft_type", "", where, err));
    LT_TRY(lt_json_string(&bias, c->raw, "bias", "none", where, err));
    if (strcmp(type, "LORA") != 0)
        return lt_fail(err, LT_EUNSUPPORTED, "peft_type is not LORA (%s: \"%.40s\")", where, type);
    if (strcmp(bias, "none") != 0)
        return lt_fail(err, LT_EUNSUPPORTED, "bias is not \"none\": trained biases are not read (%s: \"%.40s\")", where,
                       bias);
    if (how && strcmp(how, "gaussian") != 0 && strcmp(how, "orthogonal") != 0 && strcmp(how, "eva") != 0)
        return lt_fail(err, LT_EUNSUPPORTED,
                       "init_lora_weights changes the base weights when it is loaded: convert the adapter first (%s: "
                       "\"%.40s\")",
                       where, how);
    for (size_t i = 0; i < LT_COUNTOF(foreign); i++)
        if (!means_nothing(json_object_get(c->raw, foreign[i])))
            return lt_fail(err, LT_EUNSUPPORTED, "adapter uses %s, which is more than LoRA (%s)", foreign[i], where);
    return LT_OK;
}

static lt_status check_opts(const lt_lora_opts *o, const char *where, const char *module, lt_err *err) {
    enum { MOST = 1 << 20 };
    if (o->rank < 1 || o->rank > MOST) return lt_fail(err, LT_EDATA, "r is outside 1 .. 2^20 (%s: %s)", where, module);
    if (!isfinite(o->alpha)) return lt_fail(err, LT_EDATA, "lora_alpha is not finite (%s: %s)", where, module);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return lt_fail(err, LT_EDATA, "lora_dropout is outside [0, 1) (%s: %g)", where, o->dropout);
    return LT_OK;
}

static bool is_all_linear(const lt_lora_pattern *p, const json_t *raw) {
    return p && json_is_string(json_object_get(raw, "target_modules")) &&
           strcasecmp(p->item[0].text, "all-linear") == 0;
}

static lt_status read_config(lt_lora_config *c, const char *where, lt_err *err) {
    if (!json_is_object(c->raw)) return lt_fail(err, LT_EDATA, "adapter config is not an object (%s)", where);
    LT_TRY(check_words(c, where, err));
    LT_TRY(lt_json_size(&c->rank, c->raw, "r", 8, where, err));
    LT_TRY(lt_json_double(&c->alpha, c->raw, "lora_alpha", 8, where, err));
    LT_TRY(lt_json_double(&c->dropout, c->raw, "lora_dropout", 0, where, err));
    LT_TRY(lt_json_bool(&c->rslora, c->raw, "use_rslora", false, where, err));
    LT_TRY(check_opts(&(lt_lora_opts){ c->rank, c->alpha, c->dropout, c->rslora }, where, "all", err));
    LT_TRY(read_names(&c->targets, c->raw, "target_modules", where, err));
    if (!c->targets) return lt_fail(err, LT_EDATA, "target_modules is missing (%s)", where);
    c->all_linear = is_all_linear(c->targets, c->raw);
    LT_TRY(read_names(&c->exclude, c->raw, "exclude_modules", where, err));
    if (json_is_string(json_object_get(c->raw, "modules_to_save")))
        return lt_fail(err, LT_EDATA, "modules_to_save is no list of names (%s)", where);
    LT_TRY(read_names(&c->save, c->raw, "modules_to_save", where, err));
    LT_TRY(read_numbers(&c->ranks, c->raw, "rank_pattern", where, err));
    LT_TRY(read_numbers(&c->alphas, c->raw, "alpha_pattern", where, err));
    return read_layers(c, where, err);
}

lt_status lt_lora_config_parse(lt_lora_config *out, const char *text, size_t bytes, const char *where, lt_err *err) {
    *out = (lt_lora_config){ .where = lt_strdup(where) };
    lt_status st = out->where ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", where);
    if (st == LT_OK) st = lt_json_parse(&out->raw, text, bytes, where, err);
    if (st == LT_OK) st = read_config(out, out->where, err);
    if (st != LT_OK) lt_lora_config_clear(out);
    return st;
}

void lt_lora_config_clear(lt_lora_config *c) {
    pattern_destroy(c->targets);
    pattern_destroy(c->exclude);
    pattern_destroy(c->save);
    pattern_destroy(c->ranks);
    pattern_destroy(c->alphas);
    pattern_destroy(c->layers_at);
    json_decref(c->raw);
    lt_free(c->where);
    *c = (lt_lora_config){ 0 };
}

/* ---- asking ---- */

static bool ends_with(const char *module, const char *name) {
    const size_t n = strlen(module), m = strlen(name);
    return n >= m && strcmp(module + n - m, name) == 0 && (n == m || module[n - m - 1] == '.');
}

/* exact: some name is the module itself, not only its end */
static lt_status named(bool *yes, bool *exact, const lt_lora_pattern *p, const char *module, lt_err *err) {
    *yes = *exact = false;
    for (size_t i = 0; p && i < p->n && !*exact; i++) {
        if (p->item[i].code)
            LT_TRY(matches(yes, &p->item[i], p, module, NULL, err));
        else if (ends_with(module, p->item[i].text)) {
            *yes = true;
            *exact = strcmp(module, p->item[i].text) == 0;
        }
    }
    return LT_OK;
}

/* Is the module, or what it lies in, one that modules_to_save keeps whole? */
static bool saved_whole(const lt_lora_config *c, const char *module) {
    for (size_t i = 0; c->save && i < c->save->n; i++) {
        const char *name = c->save->item[i].text, *at = module;
        const size_t n = strlen(name);
        while ((at = strstr(at, name)) && !((at == module || at[-1] == '.') && (at[n] == 0 || at[n] == '.'))) at++;
        if (at) return true;
    }
    return false;
}

static bool layer_listed(const lt_lora_config *c, size_t layer) {
    if (json_is_integer(c->layers)) return json_integer_value(c->layers) == (json_int_t)layer;
    for (size_t i = 0; i < json_array_size(c->layers); i++)
        if (json_integer_value(json_array_get(c->layers, i)) == (json_int_t)layer) return true;
    return false;
}

static lt_status in_layers(bool *yes, const lt_lora_config *c, const char *module, lt_err *err) {
    bool found = false;
    size_t layer = 0;
    for (size_t i = 0; !found && i < c->layers_at->n; i++)
        LT_TRY(matches(&found, &c->layers_at->item[i], c->layers_at, module, &layer, err));
    *yes = found && layer_listed(c, layer);
    return LT_OK;
}

lt_status lt_lora_config_targets(bool *yes, const lt_lora_config *c, const char *module, bool head, lt_err *err) {
    bool exact;
    LT_TRY(named(yes, &exact, c->exclude, module, err));
    if (*yes || saved_whole(c, module)) {
        *yes = false;
        return LT_OK;
    }
    if (c->all_linear) {
        *yes = !head;
        return LT_OK;
    }
    LT_TRY(named(yes, &exact, c->targets, module, err));
    const bool by_end = *yes && !exact && !c->targets->item[0].code;
    return by_end && c->layers ? in_layers(yes, c, module, err) : LT_OK;
}

/* *value NULL: no pattern matches */
static lt_status first_match(const json_t **value, const lt_lora_pattern *p, const char *module, lt_err *err) {
    bool yes = false;
    *value = NULL;
    for (size_t i = 0; p && i < p->n && !yes; i++) {
        LT_TRY(matches(&yes, &p->item[i], p, module, NULL, err));
        if (yes) *value = p->item[i].value;
    }
    return LT_OK;
}

lt_status lt_lora_config_opts(lt_lora_opts *out, const lt_lora_config *c, const char *module, lt_err *err) {
    const json_t *rank, *alpha;
    *out = (lt_lora_opts){ c->rank, c->alpha, c->dropout, c->rslora };
    LT_TRY(first_match(&rank, c->ranks, module, err));
    LT_TRY(first_match(&alpha, c->alphas, module, err));
    if (rank) {
        const double r = json_number_value(rank);
        out->rank = r >= 1 && r <= 1 << 20 && r == floor(r) ? (size_t)r : 0;
    }
    if (alpha) out->alpha = json_number_value(alpha);
    return check_opts(out, c->where, module, err);
}
