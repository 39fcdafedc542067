/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/inspect_files.c - stats, plans, token files, and containers whose content lathe does not know. */
#include "pipeline/inspect.h"

#include <math.h>
#include <string.h>

#include "calib/stats.h"
#include "compress/plan.h"
#include "io/safetensors.h"
#include "linalg/decomp.h"
#include "linalg/gemm.h"
#include "pipeline/result.h"

#define COLUMNS(...)                                                                                                   \
    (const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *)
enum { FEW = 40 }; /* so many rows are listed without --all */

static json_t *text_or_empty(const char *text) {
    json_t *v = json_string(text ? text : "");
    return v ? v : json_string("(not UTF-8)");
}

/* ---- tensors of a container ---- */
typedef struct totals {
    size_t tensors[LT_N_DTYPES], elements[LT_N_DTYPES], bytes[LT_N_DTYPES];
} totals;

static void add_tensor(totals *t, const lt_tensor *x) {
    t->tensors[x->dtype]++;
    t->elements[x->dtype] += lt_tensor_count(x);
    t->bytes[x->dtype] += lt_tensor_bytes(x);
}

static void totals_table(json_t *result, const totals *t) {
    json_t *rows = lt_result_table(result, "tensors by type", COLUMNS("dtype", "tensors", "elements", "bytes|B"));
    for (int i = 0; i < LT_N_DTYPES; i++)
        if (t->tensors[i])
            lt_result_row(rows, "szzz", lt_dtype_get((lt_dtype)i)->name, t->tensors[i], t->elements[i], t->bytes[i]);
}

static json_t *begin_tensors(json_t *result) {
    return lt_result_table(result, "tensors", COLUMNS("tensor", "type and shape", "bytes|B"));
}

static void tensor_row(json_t *rows, const char *name, const lt_tensor *t) {
    char text[96];
    lt_result_row(rows, "ssz", name, lt_tensor_describe(t, text, sizeof text), lt_tensor_bytes(t));
}

/* ---- GGUF ---- */
lt_status lt_inspect_gguf(const lt_inspect *in, lt_err *err) {
    lt_gguf *g;
    char text[256];
    totals t = { 0 };
    LT_TRY(lt_gguf_open(&g, in->path, err));
    json_t *rows = lt_result_table(in->result, "metadata", COLUMNS("key", "value"));
    for (size_t i = 0; i < lt_gguf_n_keys(g); i++)
        lt_result_row(rows, "ss", lt_gguf_key(g, i), lt_gguf_value_text(g, i, text, sizeof text));
    for (size_t i = 0; i < lt_gguf_count(g); i++) add_tensor(&t, &lt_gguf_at(g, i)->tensor);
    totals_table(in->result, &t);
    rows = in->all ? begin_tensors(in->result) : NULL;
    for (size_t i = 0; rows && i < lt_gguf_count(g); i++)
        tensor_row(rows, lt_gguf_at(g, i)->name, &lt_gguf_at(g, i)->tensor);
    lt_gguf_close(g);
    lt_err why = { 0 };
    const lt_status st = lt_inspect_model(in, &why);
    /* another architecture is not an error here: what the file says has been shown */
    return st == LT_OK || st == LT_EUNSUPPORTED ? LT_OK : lt_fail(err, st, "%s", why.message);
}

/* ---- stats ---- */
static json_t *accumulators(const lt_stats *s, const char *site) {
    json_t *list = json_array();
    for (const lt_stat *const *r = lt_stat_rows; *r; r++)
        if (lt_stats_have(s, site, (*r)->name)) json_array_append_new(list, json_string((*r)->name));
    return list;
}

static json_t *names_json(const char *const *names, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_string(names[i]));
    return list;
}

static void stats_tables(const lt_inspect *in, const lt_stats *s) {
    static const char *const keys[] = { "model_hash", "tokenizer_hash", "tokens_hash", "settings" };
    const lt_props p = lt_props_begin(in->result, "stats");
    lt_prop(&p, "sites", json_integer((json_int_t)lt_stats_n_sites(s)));
    lt_prop(&p, "hash", json_string(lt_stats_hash(s)));
    for (size_t i = 0; i < LT_COUNTOF(keys); i++)
        if (lt_stats_meta(s, keys[i])) lt_prop(&p, keys[i], text_or_empty(lt_stats_meta(s, keys[i])));
    json_t *rows = lt_result_table(in->result, "sites", COLUMNS("site", "columns", "count", "accumulators", "modules"));
    for (size_t i = 0; i < lt_stats_n_sites(s); i++) {
        const lt_stats_site site = lt_stats_site_at(s, i);
        lt_result_row(rows, "szdjj", site.name, site.cols, lt_stats_count(s, site.name), accumulators(s, site.name),
                      names_json(site.modules, site.n_modules));
    }
}

/* w descending. entropy: exp(-Σ p log p), p = λ/Σλ (Roy & Vetterli 2007); energy: fewest λ that hold 99 % of the sum */
static void spectrum_row(json_t *rows, const char *site, const double *w, size_t n) {
    double total = 0, entropy = 0, sum = 0;
    size_t energy = 0;
    for (size_t i = 0; i < n; i++) total += fmax(w[i], 0);
    for (size_t i = 0; i < n && total > 0; i++) {
        const double p = fmax(w[i], 0) / total;
        if (p > 0) entropy -= p * log(p);
        if (sum < 0.99) energy = i + 1;
        sum += p;
    }
    lt_result_row(rows, "szdzd", site, n, total > 0 ? exp(entropy) : 0.0, energy,
                  n ? w[0] / (total > 0 ? total : 1) * 100 : 0.0);
}

static lt_status site_spectrum(lt_call_ctx *c, json_t *rows, const lt_stats *s, lt_stats_site site, lt_err *err) {
    double *gram = NULL;
    size_t count;
    if (!lt_stats_have(s, site.name, "gram")) return LT_OK;
    if (!lt_mul_size(site.cols, site.cols, &count))
        return lt_fail(err, LT_ENOMEM, "%s: %zu columns", site.name, site.cols);
    lt_eigh_problem p = { .n = site.cols, .a = lt_calloc(count, sizeof *p.a), .w = lt_calloc(site.cols, sizeof *p.w) };
    lt_status st =
        p.a && p.w ? LT_OK : lt_fail(err, LT_ENOMEM, "%s: a Gram matrix of %zu columns", site.name, site.cols);
    if (st == LT_OK) st = lt_stats_load(&gram, s, site.name, "gram", err);
    if (st == LT_OK) {
        lt_unpack_lower(p.a, gram, site.cols);
        st = lt_eigh(c->team, &p, err);
    }
    if (st == LT_OK) spectrum_row(rows, site.name, p.w, site.cols);
    lt_free(gram);
    lt_free(p.a);
    lt_free(p.w);
    return st;
}

static lt_status spectra_table(const lt_inspect *in, const lt_stats *s, lt_err *err) {
    json_t *rows = lt_result_table(in->result, "spectra",
                                   COLUMNS("site", "columns", "effective rank", "rank at 99 % energy", "largest|%"));
    const size_t n = lt_stats_n_sites(s);
    for (size_t i = 0; i < n; i++) {
        LT_TRY(lt_progress(in->c->ctx, err, "spectra", (double)i, (double)n, "sites"));
        LT_TRY(site_spectrum(in->c, rows, s, lt_stats_site_at(s, i), err));
    }
    return LT_OK;
}

static lt_status inspect_stats(const lt_inspect *in, lt_err *err) {
    lt_stats *s;
    LT_TRY(lt_stats_open(&s, in->path, in->c->team, err));
    stats_tables(in, s);
    const lt_status st = lt_arg_flag(in->c->args, "spectra") ? spectra_table(in, s, err) : LT_OK;
    lt_stats_close(s);
    return st;
}

/* ---- tokens ---- */
static lt_status inspect_tokens(const lt_inspect *in, lt_err *err) {
    lt_tokens t = { 0 };
    LT_TRY(lt_tokens_load(&t, in->path, err));
    size_t shortest = SIZE_MAX, longest = 0;
    for (size_t i = 0; i < t.n_rows; i++) {
        const size_t n = t.row_start[i + 1] - t.row_start[i];
        shortest = lt_min_size(shortest, n);
        longest = lt_max_size(longest, n);
    }
    const lt_props p = lt_props_begin(in->result, "tokens");
    lt_prop(&p, "rows", json_integer((json_int_t)t.n_rows));
    lt_prop(&p, "tokens", json_integer((json_int_t)t.n_ids));
    lt_prop(&p, "shortest row", json_integer(t.n_rows ? (json_int_t)shortest : 0));
    lt_prop(&p, "longest row", json_integer((json_int_t)longest));
    lt_prop(&p, "isolated", json_boolean(t.isolated));
    lt_prop(&p, "recipe", text_or_empty(t.recipe));
    lt_prop(&p, "source", text_or_empty(t.source));
    lt_prop(&p, "tokenizer_hash", text_or_empty(t.tokenizer_hash));
    lt_prop(&p, "hash", text_or_empty(t.hash));
    lt_tokens_clear(&t);
    return LT_OK;
}

/* ---- safetensors ---- */
static void safetensors_tables(const lt_inspect *in, const lt_safetensors *file) {
    const size_t n = lt_safetensors_count(file);
    totals t = { 0 };
    for (size_t i = 0; i < n; i++) add_tensor(&t, &lt_safetensors_at(file, i)->tensor);
    totals_table(in->result, &t);
    if (!in->all && n > FEW) return;
    json_t *rows = begin_tensors(in->result);
    for (size_t i = 0; i < n; i++)
        tensor_row(rows, lt_safetensors_at(file, i)->name, &lt_safetensors_at(file, i)->tensor);
}

lt_status lt_inspect_safetensors(const lt_inspect *in, lt_err *err) {
    lt_safetensors *file;
    LT_TRY(lt_safetensors_open(&file, in->path, err));
    const char *format = lt_safetensors_meta(file, "format");
    const bool stats = format && strcmp(format, "lathe-stats/1") == 0,
               tokens = format && strcmp(format, "lathe-tokens/1") == 0;
    if (!stats && !tokens) safetensors_tables(in, file);
    lt_safetensors_close(file);
    if (stats) return inspect_stats(in, err);
    return tokens ? inspect_tokens(in, err) : LT_OK;
}

/* ---- JSON: plans and results ---- */
typedef struct ranks {
    size_t n, lo, hi;
    double sum;
} ranks;

static void cut_tables(const lt_inspect *in, const lt_plan *plan) {
    json_t *kinds =
        lt_result_table(in->result, "cuts", COLUMNS("kind", "cuts", "smallest rank", "mean rank", "largest rank"));
    for (const lt_cut_kind *const *k = lt_cut_kinds; *k; k++) {
        ranks r = { .lo = SIZE_MAX };
        size_t cuts = 0;
        for (size_t i = 0; i < plan->n_cuts; i++) {
            if (plan->cuts[i].kind != *k) continue;
            cuts++;
            const json_t *rank = json_object_get(plan->cuts[i].json, "rank");
            if (!json_is_integer(rank)) continue;
            const size_t v = (size_t)json_integer_value(rank);
            r = (ranks){ r.n + 1, lt_min_size(r.lo, v), lt_max_size(r.hi, v), r.sum + (double)v };
        }
        if (cuts && r.n)
            lt_result_row(kinds, "szzdz", (*k)->kind, cuts, r.lo, r.sum / (double)r.n, r.hi);
        else if (cuts)
            lt_result_row(kinds, "szsss", (*k)->kind, cuts, "", "", "");
    }
    if (!in->all && plan->n_cuts > FEW) return;
    json_t *rows = lt_result_table(in->result, "list of cuts", COLUMNS("kind", "of", "rank", "relative error"));
    for (size_t i = 0; i < plan->n_cuts; i++) {
        const lt_cut *c = &plan->cuts[i];
        json_t *rank = json_object_get(c->json, "rank"), *error = json_object_get(c->json, "rel_error");
        lt_result_row(rows, "ssjj", c->kind->kind, c->kind->target(c), rank ? json_incref(rank) : json_string(""),
                      error ? json_incref(error) : json_string(""));
    }
}

static lt_status inspect_plan(const lt_inspect *in, lt_err *err) {
    lt_plan plan = { 0 };
    LT_TRY(lt_plan_load(&plan, in->path, err));
    const json_t *cost = json_object_get(plan.head, "cost");
    const lt_props p = lt_props_begin(in->result, "plan");
    lt_prop(&p, "cuts", json_integer((json_int_t)plan.n_cuts));
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)cost, key, v) if (!json_is_object(v)) lt_prop(&p, key, json_incref(v));
    json_object_set(in->result, "head", plan.head);
    cut_tables(in, &plan);
    lt_plan_clear(&plan);
    return LT_OK;
}

lt_status lt_inspect_json(const lt_inspect *in, lt_err *err) {
    json_t *j;
    LT_TRY(lt_json_load(&j, in->path, err));
    const char *format = json_string_value(json_object_get(j, "format"));
    lt_status st = LT_OK;
    if (format && strcmp(format, "lathe-plan/1") == 0)
        st = inspect_plan(in, err);
    else if (format && strcmp(format, "lathe-result/1") == 0) {
        json_t *tables = json_object_get(j, "tables");
        if (!lt_result_is_whole(j))
            st = lt_fail(err, LT_EDATA, "%s: a table's rows do not fit its columns", in->path);
        else if (tables)
            json_object_set(in->result, "tables", tables);
        json_object_set(in->result, "of", j);
    } else if (json_is_object(json_object_get(j, "model")) && json_object_get(j, "added_tokens"))
        st = lt_inspect_tokenizer(in, err);
    else
        st = lt_fail(err, LT_EDATA, "%s: JSON, but neither a plan, a result nor a tokenizer", in->path);
    json_decref(j);
    return st;
}
