/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/cmd_verify.c - is this folder what lathe wrote, and does it still open? */
#include "pipeline/commands.h"

#include <string.h>

#include "export/export.h"
#include "io/file.h"
#include "pipeline/manifest.h"
#include "pipeline/planning.h"
#include "pipeline/produce.h"
#include "pipeline/result.h"
#include "pipeline/subject.h"
#include "pipeline/verify_cut.h"

typedef struct verifying {
    lt_call_ctx *c;
    lt_subject s;
    json_t *manifest; /* NULL: none */
    json_t *rows;
} verifying;

static void say(verifying *v, const char *what, const char *how) {
    lt_result_row(v->rows, "sss", what, "ok", how);
}

/* What an ordinary verb calls bad input is here what was looked for. */
static lt_status as_failure(lt_status st, lt_err *err) {
    if (st != LT_EDATA) return st;
    if (err) err->code = LT_EVERIFY;
    return LT_EVERIFY;
}

static lt_status load_manifest(verifying *v, lt_err *err) {
    char *path = lt_manifest_path(v->s.o.model);
    const lt_status st = path && lt_path_exists(path) ? lt_json_load(&v->manifest, path, err) : LT_OK;
    lt_free(path);
    return st;
}

static const char *hash_in(const json_t *manifest, const char *member) {
    return json_string_value(json_object_get(json_object_get(manifest, member), "hash"));
}

static lt_status check_finite(verifying *v, lt_err *err) {
    LT_TRY(as_failure(lt_check_weights(v->c, v->s.o.model, "verify", err), err));
    say(v, "weights", "every number is finite");
    return LT_OK;
}

static lt_status check_manifest(verifying *v, lt_err *err) {
    const char *own = hash_in(v->manifest, "model");
    if (!v->manifest) {
        lt_result_row(v->rows, "sss", LT_MANIFEST_NAME, "-", "none: not written by lathe");
        return LT_OK;
    }
    if (!own) return lt_fail(err, LT_EVERIFY, "%s names no hash (%s)", LT_MANIFEST_NAME, v->s.o.model->path);
    if (strcmp(own, v->s.hash) != 0)
        return lt_fail(err, LT_EVERIFY,
                       "the weights or the config are not those that were written: hash %s, %s says %s (%s)", v->s.hash,
                       LT_MANIFEST_NAME, own, v->s.o.model->path);
    say(v, LT_MANIFEST_NAME, "config and every tensor have the hash that was written down");
    return LT_OK;
}

/* plan.json beside the model, and the one that lathe.json names; none is fine. */
static lt_status load_plan(lt_plan *plan, bool *there, const verifying *v, lt_err *err) {
    const char *want = json_string_value(json_object_get(v->manifest, "plan_hash"));
    char hash[LT_HASH_HEX];
    char *folder = lt_path_folder(v->s.o.model->path), *path = folder ? lt_path_join(folder, "plan.json") : NULL;
    lt_status st = path ? LT_OK : lt_fail(err, LT_ENOMEM, "verify: out of memory");
    *there = st == LT_OK && want && lt_path_exists(path);
    if (*there) st = as_failure(lt_plan_load(plan, path, err), err);
    if (*there && st == LT_OK) st = lt_planning_hash(hash, plan, err);
    if (*there && st == LT_OK && strcmp(hash, want) != 0)
        st = lt_fail(err, LT_EVERIFY, "not the plan that was carried out: hash %s, %s says %s (%s)", hash,
                     LT_MANIFEST_NAME, want, path);
    lt_free(folder);
    lt_free(path);
    return st;
}

static lt_status check_cut(verifying *v, const lt_model *parent, lt_err *err) {
    lt_plan plan = { 0 };
    lt_cut_check k;
    bool there;
    lt_status st = load_plan(&plan, &there, v, err);
    if (st == LT_OK) st = lt_verify_cut(&k, parent, v->s.o.model, there ? &plan : NULL, err);
    if (st == LT_OK && k.unchecked)
        lt_result_row(v->rows, "ssj", "against the source", "-",
                      json_sprintf("not compared: cuts of kind %s change more than modules", k.unchecked));
    else if (st == LT_OK)
        lt_result_row(
            v->rows, "ssj", "against the source", "ok",
            k.by ? json_sprintf("%zu modules have the ranks of %s; %zu other tensors are the source's", k.n_cut, k.by,
                                k.n_same)
                 : json_sprintf("%zu modules are factored; %zu other tensors are the source's", k.n_cut, k.n_same));
    lt_plan_clear(&plan);
    return st;
}

static lt_status check_whole(verifying *v, const lt_model *source, lt_err *err) {
    double gap = 0.0;
    LT_TRY(lt_verify_model(&gap, source, v->s.o.model->path, lt_arg_real(v->c->args, "max-gap"), v->c->team, err));
    lt_result_row(v->rows, "ssj", "against the source", "ok",
                  json_sprintf("every tensor; logits within %.3g of the largest", gap));
    return LT_OK;
}

static size_t n_factored(const lt_model *m) {
    lt_module mod;
    size_t n = 0;
    for (size_t i = 0; lt_model_module(m, i, &mod); i++) n += mod.linear->n_stages > 1;
    return n;
}

/* An export says what its source says; what was cut says it where nothing was cut; verbs that train change it all. */
static lt_status against(verifying *v, const lt_model *source, lt_err *err) {
    static const char *const keeping[] = { "apply", "compress", "export" };
    const char *verb = json_string_value(json_object_get(v->manifest, "verb"));
    bool keeps = verb == NULL;
    for (size_t i = 0; i < LT_COUNTOF(keeping) && !keeps; i++) keeps = strcmp(verb, keeping[i]) == 0;
    if (json_object_get(v->manifest, "training")) {
        keeps = false;
        verb = "training";
    }
    if (!keeps) {
        lt_result_row(v->rows, "ssj", "against the source", "-",
                      json_sprintf("not compared: %s changes weights", verb));
        return LT_OK;
    }
    const bool cut = v->manifest ? json_array_size(json_object_get(v->manifest, "cuts")) > 0
                                 : n_factored(v->s.o.model) > n_factored(source);
    return cut ? check_cut(v, source, err) : check_whole(v, source, err);
}

static lt_status check_source(verifying *v, lt_err *err) {
    const char *path = lt_arg_string(v->c->args, "source"), *parent = hash_in(v->manifest, "parent");
    lt_subject source;
    if (!path) return LT_OK;
    LT_TRY(lt_subject_open(&source, v->c, path, LT_ADAPT_NO, err));
    lt_status st = LT_OK;
    if (parent && strcmp(parent, source.hash) != 0)
        st = lt_fail(err, LT_EVERIFY, "made from another model: parent %s, this source %s (%s)", parent, source.hash,
                     path);
    if (st == LT_OK && parent) say(v, "source", "is the parent that was written down");
    if (st == LT_OK) st = against(v, source.o.model, err);
    lt_subject_clear(&source);
    return st;
}

static lt_status check(verifying *v, lt_err *err) {
    LT_TRY(as_failure(lt_subject_open(&v->s, v->c, lt_arg_string(v->c->args, "model"), LT_ADAPT_NO, err), err));
    say(v, "folder", "opens strictly: no tensor missing, left over or misshapen");
    LT_TRY(as_failure(load_manifest(v, err), err));
    LT_TRY(check_manifest(v, err));
    LT_TRY(check_finite(v, err));
    return check_source(v, err);
}

static lt_status run(lt_call_ctx *c, json_t **result, lt_err *err) {
    static const char *const columns[] = { "checked", "", "how" };
    verifying v = { .c = c };
    json_t *r = lt_result_new(c);
    v.rows = lt_result_table(r, "", columns, LT_COUNTOF(columns));
    const lt_status st = check(&v, err);
    if (v.s.o.model && st == LT_OK)
        json_object_set_new(r, "model", json_pack("{s:s, s:s}", "model", v.s.id, "hash", v.s.hash));
    json_object_set_new(r, "verified", json_boolean(st == LT_OK));
    json_decref(v.manifest);
    lt_subject_clear(&v.s);
    if (st == LT_OK) return lt_result_finish(result, r, err);
    json_decref(r);
    return st;
}

static const lt_positional positionals[] = {
    { "model", 1, 1, "folder to verify: what apply, compress or export made, or any model" },
    { NULL, 0, 0, NULL },
};

static const lt_option options[] = {
    { "source", LT_OPT_PATH, NULL, 0, 0, NULL, false, "MODEL",
      "what it was made from: an export is compared with it, tensor by tensor and in its logits; of a smaller model "
      "every "
      "tensor that the plan does not name, and the ranks of those it names" },
    { "max-gap", LT_OPT_REAL, "0.1", 0, 1, NULL, false, "X",
      "largest difference of logits, relative to the largest logit" },
    { NULL, LT_OPT_STRING, NULL, 0, 0, NULL, false, NULL, NULL },
};

const lt_command lt_cmd_verify = {
    .name = "verify",
    .summary = "check that a folder opens and is what was written",
    .details = "Opens the folder strictly, looks at every weight, and compares config and tensors with the hash in "
               "lathe.json. With --source the "
               "parent is checked too. A failure is exit code 8.",
    .example = "lathe verify smaller",
    .positionals = positionals,
    .options = options,
    .run = run,
    .without = LT_NO_ESTIMATE | LT_NO_OVERWRITE,
};
