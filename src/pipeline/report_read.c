/* SPDX-License-Identifier: Apache-2.0 */
/* What a report is made from: results, steps of recipes, plans, training curves, spectra, results of lm-eval-harness.
 */
#include <stdio.h>
#include <string.h>

#include "core/hash.h"
#include "io/file.h"
#include "pipeline/recipe.h"
#include "pipeline/report.h"
#include "pipeline/text_rows.h"

/* One input: where it lies, what its models are called, the axes of its cell. */
typedef struct origin {
    lt_report *r;
    const lt_ctx *ctx;
    const char *path, *name;
    json_t *axes; /* borrowed; NULL: none */
} origin;

/* A number of a result: its path, the path of its standard error, whether that is relative (of a logarithm). */
typedef struct number {
    const char *path, *error;
    bool of_text, relative; /* of_text: measured on the text of the protocol */
} number;
static const number of_models[] = {
    { "params", NULL, false, false },
    { "bytes", NULL, false, false },
    { "ppl", "stderr_nll", true, true },
    { "mean_nll", "stderr_nll", true, false },
    { "kld.mean", "kld.stderr", true, false },
    { "kld.median", NULL, true, false },
    { "kld.p99", NULL, true, false },
    { "kld.max", NULL, true, false },
    { "top1", NULL, true, false },
    { "ppl_base", NULL, true, false },
};
static const number of_results[] = {
    { "model.params", NULL, false, false },
    { "model.bytes", NULL, false, false },
    { "cost.linears_kept", NULL, false, false },
    { "cost.params_kept", NULL, false, false },
    { "cost.predicted.rel_error", NULL, false, false },
};
static const number of_training[] = {
    { "ppl_before", NULL, true, false },
    { "ppl_after", NULL, true, false },
    { "ppl_best", NULL, true, false },
    { "ppl_saved", NULL, true, false },
};

/* ---- small ---- */

/* Member by a path of names between dots. */
static json_t *at(const json_t *j, const char *path) {
    char name[64];
    for (const char *p = path; j; p++) {
        const size_t n = strcspn(p, ".");
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        j = json_object_get(j, name);
        p += n;
        if (!*p) break;
    }
    return (json_t *)j;
}

static const char *text_at(const json_t *j, const char *path) {
    return json_string_value(at(j, path));
}

/* "cost.predicted.rel_error" is measured as "predicted.rel_error", "model.bytes" as "bytes". */
static const char *metric_of(const char *path) {
    static const char *const prefixes[] = { "cost.", "model." };
    for (size_t i = 0; i < LT_COUNTOF(prefixes); i++)
        if (strncmp(path, prefixes[i], strlen(prefixes[i])) == 0) return path + strlen(prefixes[i]);
    return path;
}

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static lt_status no_memory(lt_err *err) {
    return lt_fail(err, LT_ENOMEM, "report: out of memory");
}

/* ---- results ---- */

/* v: model, id and conditions are set. Members that are not there are not measured. */
static lt_status add_number(const origin *o, const number *n, const json_t *from, lt_report_value v, lt_err *err) {
    json_t *error = n->error ? at(from, n->error) : NULL, *scaled = NULL;
    v.value = at(from, n->path);
    if (!v.value || json_is_null(v.value)) return LT_OK;
    if (n->relative && json_is_real(v.value) && json_is_real(error)) {
        scaled = json_real(json_real_value(v.value) * json_real_value(error));
        if (!scaled) return no_memory(err);
        error = scaled;
    } else if (n->relative)
        error = NULL;
    v.metric = metric_of(n->path);
    v.uncertainty = error;
    if (!n->of_text) v.protocol = v.data = NULL, v.window = v.windows = v.tokens = NULL;
    const lt_status st = lt_report_add(o->r, &v, o->path, err);
    json_decref(scaled);
    return st;
}

static lt_status add_numbers(const origin *o, const number *n, size_t count, const json_t *from, lt_report_value v,
                             lt_err *err) {
    for (size_t i = 0; i < count; i++) LT_TRY(add_number(o, &n[i], from, v, err));
    return LT_OK;
}

static lt_status add_parent(const origin *o, const char *hash, lt_err *err) {
    return !hash || json_object_set_new(o->r->parents, hash, json_true()) == 0 ? LT_OK : no_memory(err);
}

/* Tokens that were predicted: as the model says, else those of the block protocol, all but the first of each window.
 * New reference; NULL: not known. */
static json_t *scored_tokens(const json_t *result, const json_t *model) {
    json_t *scored = json_object_get(model, "scored_tokens");
    if (!scored) scored = json_object_get(result, "scored_tokens");
    const json_t *tokens = at(result, "protocol.tokens"), *windows = at(result, "protocol.windows");
    if (scored || !json_is_integer(tokens) || !json_is_integer(windows)) return json_incref(scored);
    const json_int_t t = json_integer_value(tokens), w = json_integer_value(windows);
    return w >= 0 && w <= t ? json_integer(t - w) : NULL;
}

/* The file and the beginning of the hash of its tokens: texts of one name may differ, and so may tokenizers. */
static char *data_of(const json_t *result, const json_t *model) {
    const char *data = text_at(result, "protocol.data"), *hash = text_at(model, "tokens_hash");
    if (!hash) hash = text_at(result, "protocol.tokens_hash");
    return lt_asprintf("%s%s%.8s", data ? data : "", hash ? "#" : "", hash ? hash : "");
}

static lt_status add_conditions(const origin *o, const json_t *result, const json_t *model, lt_report_value v,
                                lt_err *err) {
    json_t *tokens = scored_tokens(result, model), *windows = json_object_get(model, "windows");
    char *data = data_of(result, model);
    v.protocol = text_at(result, "protocol.name");
    v.data = data;
    v.window = at(result, "protocol.window");
    v.windows = windows ? windows : at(result, "protocol.windows");
    v.tokens = tokens;
    const lt_status st = data ? add_numbers(o, of_models, LT_COUNTOF(of_models), model, v, err) : no_memory(err);
    json_decref(tokens);
    lt_free(data);
    return st;
}

/* A model of a result; base q8_0 and its like are named after what they are. */
static lt_status add_model(const origin *o, const json_t *result, const json_t *model, lt_err *err) {
    const char *name = text_at(model, "model"), *role = text_at(model, "role"), *hash = text_at(model, "hash");
    if (!name) return lt_fail(err, LT_EDATA, "a model has no name (%s)", o->path);
    const bool variant = role && strcmp(role, "base") != 0 && strcmp(role, "model") != 0;
    char *shown = variant ? lt_asprintf("%s (%s)", name, role) : lt_strdup(name);
    if (!shown) return no_memory(err);
    /* without a hash of its own it is known by its name */
    const lt_report_value v = { .source = "measured", .model = shown, .id = hash ? hash : shown, .axes = o->axes };
    lt_status st = add_conditions(o, result, model, v, err);
    if (st == LT_OK && role && strcmp(role, "base") == 0) st = add_parent(o, v.id, err);
    lt_free(shown);
    return st;
}

/* Perplexities of a training are those of its validation rows. */
static lt_status add_training(const origin *o, const json_t *result, lt_report_value v, lt_err *err) {
    v.protocol = "validation rows of the training";
    v.window = at(result, "training.recipe.seq_len");
    v.windows = at(result, "training.validation_rows");
    return add_numbers(o, of_training, LT_COUNTOF(of_training), at(result, "training.validation"), v, err);
}

static lt_status add_result(const origin *o, const json_t *result, lt_err *err) {
    size_t i;
    json_t *model;
    const char *model_hash = text_at(result, "model.hash"), *plan = text_at(result, "plan.hash");
    const lt_report_value v = {
        .source = "measured", .model = o->name, .id = model_hash ? model_hash : plan, .axes = o->axes
    };
    if (model_hash && json_object_set_new(o->r->made, model_hash, json_true()) != 0) return no_memory(err);
    if (model_hash && plan && json_object_set_new(o->r->cut, plan, json_true()) != 0) return no_memory(err);
    LT_TRY(add_parent(o, text_at(result, "source.hash"), err));
    LT_TRY(add_parent(o, text_at(result, "base.hash"), err));
    LT_TRY(add_numbers(o, of_results, LT_COUNTOF(of_results), result, v, err));
    json_array_foreach(json_object_get(result, "models"), i, model) LT_TRY(add_model(o, result, model, err));
    return add_training(o, result, v, err);
}

/* ---- plans ---- */

static char *name_in_cell(const origin *o) {
    char *name = lt_strdup(o->name);
    const char *axis;
    json_t *value;
    json_object_foreach(o->axes, axis, value) {
        char *text = lt_report_text(value);
        char *longer = name && text ? lt_asprintf("%s, %s=%s", name, axis, text) : NULL;
        lt_free(text);
        lt_free(name);
        name = longer;
    }
    return name;
}

/* Its step, its copy beside the model: the same plan is kept once. */
static lt_status add_plan(const origin *o, json_t *plan, lt_err *err) {
    size_t i;
    json_t *known;
    json_array_foreach(o->r->plans, i, known) if (json_equal(json_object_get(known, "plan"), plan)) return LT_OK;
    char *name = name_in_cell(o);
    json_t *entry = name ? json_pack("{s:s, s:O}", "name", name, "plan", plan) : NULL;
    lt_free(name);
    return entry && json_array_append_new(o->r->plans, entry) == 0 ? LT_OK : no_memory(err);
}

/* ---- curves ---- */

static lt_status add_point(json_t *list, const json_t *line, const char *key, lt_err *err) {
    json_t *step = json_object_get(line, "step"), *value = json_object_get(line, key);
    if (!value) return LT_OK;
    return json_array_append_new(list, json_pack("[O, O]", step, value)) == 0 ? LT_OK : no_memory(err);
}

static lt_status add_lines(json_t *train, json_t *valid, const char *path, lt_err *err) {
    lt_text_rows rows;
    json_t *line;
    LT_TRY(lt_text_rows_open(&rows, path, "jsonl", err));
    lt_status st;
    while ((st = lt_text_rows_next(&rows, &line, err)) == LT_OK && line) {
        if (!json_is_integer(json_object_get(line, "step")))
            st = lt_fail(err, LT_EDATA, "no step: not the metrics of a training (%s: line %zu)", path, rows.line);
        if (st == LT_OK) st = add_point(train, line, "loss", err);
        if (st == LT_OK) st = add_point(valid, line, "valid_loss", err);
        json_decref(line);
        if (st != LT_OK) break;
    }
    lt_text_rows_close(&rows);
    return st;
}

static lt_status read_curves(const origin *o, lt_err *err) {
    char *name = name_in_cell(o);
    json_t *train = json_array(), *valid = json_array();
    lt_status st = name && train && valid ? add_lines(train, valid, o->path, err) : no_memory(err);
    json_t *entry = st == LT_OK ? json_pack("{s:s, s:O, s:O}", "name", name, "train", train, "valid", valid) : NULL;
    if (st == LT_OK) st = entry ? lt_report_once(o->r->curves, entry, err) : no_memory(err);
    json_decref(entry);
    json_decref(train);
    json_decref(valid);
    lt_free(name);
    return st;
}

/* ---- results of lm-eval-harness: {"results": {TASK: {"METRIC,FILTER": x, "METRIC_stderr,FILTER": e}}} ---- */

static lt_status add_task(const origin *o, const json_t *root, const char *task, const json_t *of, lt_err *err) {
    const char *key, *model = text_at(root, "model_name");
    json_t *value;
    char protocol[64] = "lm-eval", metric[96], error[128];
    const json_t *shots = json_object_get(json_object_get(root, "n-shot"), task);
    if (json_is_integer(shots))
        snprintf(protocol, sizeof protocol, "lm-eval, %lld-shot", (long long)json_integer_value(shots));
    json_object_foreach((json_t *)of, key, value) {
        const size_t n = strcspn(key, ",");
        const char *filter = key + n;
        if (!json_is_number(value) || !*filter || strstr(key, "_stderr,")) continue;
        snprintf(metric, sizeof metric, "%.*s%s", (int)n, key, strcmp(filter, ",none") == 0 ? "" : filter);
        snprintf(error, sizeof error, "%.*s_stderr%s", (int)n, key, filter);
        json_t *uncertainty = json_object_get(of, error);
        const lt_report_value v = { .source = "measured",
                                    .model = model ? model : o->name,
                                    .axes = o->axes,
                                    .metric = metric,
                                    .protocol = protocol,
                                    .data = task,
                                    .value = value,
                                    .uncertainty = json_is_number(uncertainty) ? uncertainty : NULL };
        LT_TRY(lt_report_add(o->r, &v, o->path, err));
    }
    return LT_OK;
}

static lt_status add_tasks(const origin *o, const json_t *root, lt_err *err) {
    const char *task;
    json_t *of;
    json_object_foreach(json_object_get(root, "results"), task, of) LT_TRY(add_task(o, root, task, of, err));
    return LT_OK;
}

/* ---- files and folders ---- */

static lt_status read_member(const origin *o, const char *folder, const char *name, bool *there,
                             lt_status (*reader)(const origin *o, lt_err *err), lt_err *err) {
    char *path = lt_path_join(folder, name);
    if (!path) return no_memory(err);
    origin member = *o;
    member.path = path;
    *there = lt_path_exists(path);
    const lt_status st = *there ? reader(&member, err) : LT_OK;
    lt_free(path);
    return st;
}

static lt_status read_json(const origin *o, lt_err *err);

/* plan.json and metrics.jsonl of an output folder */
static lt_status read_companions(const origin *o, const char *folder, lt_err *err) {
    bool there;
    LT_TRY(read_member(o, folder, "plan.json", &there, read_json, err));
    return read_member(o, folder, "metrics.jsonl", &there, read_curves, err);
}

/* What the step NAME.step.json made lies beside it: the folder NAME, or the plan NAME.json. */
static lt_status read_step(const origin *o, const json_t *step, lt_err *err) {
    static const char end[] = LT_RECORD_END;
    const char *name = text_at(step, "step");
    json_t *axes = json_object_get(step, "axes");
    if (!name || (axes && !json_is_object(axes)))
        return lt_fail(err, LT_EDATA, "step or axes are not as run writes them (%s)", o->path);
    if (!json_is_true(json_object_get(step, "done"))) {
        lt_log(o->ctx, LT_LOG_WARN, "report: the step is not done and left out (%s)", o->path);
        return LT_OK;
    }
    origin cell = *o;
    cell.name = name;
    cell.axes = axes;
    LT_TRY(add_result(&cell, json_object_get(step, "result"), err));
    if (!ends_with(o->path, end)) return LT_OK;
    char *base = lt_asprintf("%.*s", (int)(strlen(o->path) - strlen(end)), o->path);
    char *plan = base ? lt_asprintf("%s.json", base) : NULL;
    lt_status st = plan ? LT_OK : no_memory(err);
    cell.path = plan;
    if (st == LT_OK && strcmp(lt_path_name(plan), "plan.json") == 0 && lt_path_exists(plan)) st = read_json(&cell, err);
    if (st == LT_OK && lt_path_is_dir(base)) st = read_companions(&cell, base, err);
    lt_free(base);
    lt_free(plan);
    return st;
}

/* ---- the folder of a recipe ---- */

static lt_status read_spectra(const origin *o, const char *file, lt_err *err) {
    origin named = *o;
    named.name = file;
    char *name = name_in_cell(&named);
    const lt_status st = name ? lt_report_spectra(o->r, o->path, name, err) : no_memory(err);
    lt_free(name);
    return st;
}

/* Keeps why the job is not done, unless another input has it done; why NULL: it is. */
static lt_status note_job(const origin *o, const char *key, const json_t *job, const char *why, lt_err *err) {
    if (why && json_is_true(json_object_get(o->r->jobs, key))) return LT_OK;
    json_t *v = why ? json_pack("{s:O, s:O, s:s}", "step", json_object_get(job, "step"), "cell",
                                json_object_get(job, "cell"), "why", why)
                    : json_true();
    return json_object_set_new(o->r->jobs, key, v) == 0 ? LT_OK : no_memory(err);
}

/* A record counts when it is of the job as the recipe has it now. */
static const char *why_not(const json_t *record, const json_t *job) {
    const char *failed = text_at(record, "failed.message");
    if (!record || !json_equal(json_object_get(record, "key"), json_object_get(job, "key"))) return "not run yet";
    if (json_is_true(json_object_get(record, "done"))) return NULL;
    return failed ? failed : "not finished";
}

/* The record of the job at o->path, and the spectra that it may have made. */
static lt_status read_record(const origin *o, const json_t *record, const char *folder, const json_t *job,
                             lt_err *err) {
    const char *output = text_at(job, "output");
    LT_TRY(read_step(o, record, err));
    if (!output || !ends_with(output, ".safetensors")) return LT_OK;
    origin made = *o;
    char *path = lt_path_join(folder, output);
    if (!path) return no_memory(err);
    made.path = path;
    made.axes = json_object_get(record, "axes");
    const lt_status st = lt_report_has_spectra(path) ? read_spectra(&made, lt_path_name(path), err) : LT_OK;
    lt_free(path);
    return st;
}

static lt_status read_job(const origin *o, const char *recipe, const json_t *job, lt_err *err) {
    const char *step = text_at(job, "step"), *cell = text_at(job, "cell");
    json_t *record = NULL;
    if (!step || !cell || !text_at(job, "key"))
        return lt_fail(err, LT_EDATA, "jobs are not as run writes them (%s)", o->path);
    char *folder = lt_path_folder(o->path), *key = lt_asprintf("%s %s %s", recipe, step, cell);
    char *base = folder ? lt_job_base(folder, cell, step) : NULL;
    char *path = base ? lt_asprintf("%s" LT_RECORD_END, base) : NULL;
    lt_status st = key && path ? LT_OK : no_memory(err);
    if (st == LT_OK && lt_path_exists(path)) st = lt_json_load(&record, path, err);
    const char *why = why_not(record, job);
    if (st == LT_OK) st = note_job(o, key, job, why, err);
    origin entry = *o;
    entry.path = path;
    if (st == LT_OK && !why) st = read_record(&entry, record, folder, job, err);
    json_decref(record);
    lt_free(folder);
    lt_free(key);
    lt_free(base);
    lt_free(path);
    return st;
}

/* recipe.json: the jobs in their order. Shards of a recipe may lie in several folders. */
static lt_status read_recipe(const origin *o, const json_t *j, lt_err *err) {
    const json_t *recipe = json_object_get(j, "recipe");
    const char *title = text_at(recipe, "title");
    char hex[LT_HASH_HEX], *text = recipe ? lt_json_canonical(recipe) : NULL;
    size_t i;
    json_t *job;
    if (!text) return lt_fail(err, LT_EDATA, "no recipe in it (%s)", o->path);
    lt_hash_bytes(text, strlen(text), hex);
    lt_free(text);
    if (title && json_object_set_new(o->r->titles, title, json_true()) != 0) return no_memory(err);
    json_array_foreach(json_object_get(j, "jobs"), i, job) LT_TRY(read_job(o, hex, job, err));
    return LT_OK;
}

static lt_status add_json(const origin *o, json_t *j, lt_err *err) {
    const char *format = text_at(j, "format");
    if (format && strcmp(format, "lathe-result/1") == 0) return add_result(o, j, err);
    if (format && strcmp(format, "lathe-step/1") == 0) return read_step(o, j, err);
    if (format && strcmp(format, "lathe-plan/1") == 0) return add_plan(o, j, err);
    if (format && strcmp(format, "lathe-recipe/1") == 0) return read_recipe(o, j, err);
    if (json_is_object(json_object_get(j, "results"))) return add_tasks(o, j, err);
    return lt_fail(err, LT_EDATA,
                   "no result, recipe, step of a recipe, plan, training metrics, spectra, or result of lm-eval-harness "
                   "(%s)",
                   o->path);
}

static lt_status read_json(const origin *o, lt_err *err) {
    json_t *j;
    LT_TRY(lt_json_load(&j, o->path, err));
    const lt_status st = add_json(o, j, err);
    json_decref(j);
    return st;
}

static lt_status read_file(const origin *o, lt_err *err) {
    if (ends_with(o->path, ".safetensors")) return lt_report_spectra(o->r, o->path, o->name, err);
    return ends_with(o->path, ".jsonl") ? read_curves(o, err) : read_json(o, err);
}

static lt_status read_folder(const origin *o, lt_err *err) {
    bool there;
    LT_TRY(read_member(o, o->path, "result.json", &there, read_json, err));
    if (there) return read_companions(o, o->path, err);
    LT_TRY(read_member(o, o->path, LT_RECIPE_NAME, &there, read_json, err));
    return there ? LT_OK : lt_fail(err, LT_EDATA, "neither result.json nor recipe.json in it (%s)", o->path);
}

/* What a result is called that does not say it: its folder, or itself. */
static char *name_of(const char *path) {
    static const char *const common[] = { "result.json", "plan.json", "metrics.jsonl" };
    char *folder = lt_path_folder(path), *name = NULL;
    bool by_folder = false;
    for (size_t i = 0; i < LT_COUNTOF(common); i++) by_folder |= strcmp(lt_path_name(path), common[i]) == 0;
    by_folder = by_folder && folder && strcmp(folder, ".") != 0;
    if (folder) name = lt_strdup(lt_path_name(by_folder ? folder : path));
    lt_free(folder);
    return name;
}

lt_status lt_report_read(lt_report *r, const lt_ctx *ctx, const char *path, lt_err *err) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    char *clean = lt_asprintf("%.*s", (int)n, path), *name = clean ? name_of(clean) : NULL;
    const origin o = { .r = r, .ctx = ctx, .path = clean, .name = name };
    lt_status st = name ? LT_OK : no_memory(err);
    if (st == LT_OK) st = lt_path_is_dir(clean) ? read_folder(&o, err) : read_file(&o, err);
    lt_free(clean);
    lt_free(name);
    return st;
}
