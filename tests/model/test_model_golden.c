/* SPDX-License-Identifier: Apache-2.0 */
/* The golden models of every family (golden/models/README.md): logits, hidden states and losses to 5e-5, gradients to
 * 2e-5 of the largest entry, greedy ids exactly; the calibration sums; the trained tiny model and its factored form. */
#include "model_test.h"

static const double close = 5e-5;

typedef struct golden {
    lt_safetensors *st;
    lt_model *model;
    lt_team *team;
} golden;

static golden open_golden(const char *model_dir, const char *answers_dir) {
    golden g;
    lt_err err = { 0 };
    char *path = lt_path_join(answers_dir, "golden.safetensors");
    assert_ok(lt_safetensors_open(&g.st, path, &err), &err);
    lt_free(path);
    g.model = tm_open(model_dir);
    g.team = tm_team(2);
    return g;
}

static void close_golden(golden *g) {
    lt_safetensors_close(g->st);
    lt_model_destroy(g->model);
    lt_team_destroy(g->team);
}

static const float *floats(const golden *g, const char *name, size_t n) {
    const lt_tensor *t;
    lt_err err = { 0 };
    assert_ok(lt_safetensors_get(&t, g->st, name, LT_F32, -1, &err), &err);
    assert_int_equal(lt_tensor_count(t), n);
    return lt_host(t);
}

/* int64 ids of [rows, T] */
static size_t read_ids(const golden *g, const char *name, int32_t *ids, size_t cap, size_t *cols) {
    const lt_tensor *t;
    lt_err err = { 0 };
    assert_ok(lt_safetensors_get(&t, g->st, name, LT_I64, -1, &err), &err);
    const size_t n = lt_tensor_count(t);
    assert_true(n <= cap);
    for (size_t i = 0; i < n; i++) {
        int64_t v;
        memcpy(&v, (const char *)lt_host(t) + i * sizeof v, sizeof v);
        ids[i] = (int32_t)v;
    }
    *cols = lt_tensor_cols(t);
    return n;
}

enum { CAP = 512 };
typedef struct docs {
    int32_t ids[CAP];
    lt_piece piece[8];
    lt_batch batch;
} docs;

/* rows of [n, T] as documents */
static void make_docs(docs *d, const golden *g, const char *name) {
    size_t cols;
    const size_t n = read_ids(g, name, d->ids, CAP, &cols), rows = n / cols;
    for (size_t r = 0; r < rows; r++)
        d->piece[r] = (lt_piece){ .row = r * cols, .n = cols, .parent = -1, .seq = (uint32_t)r };
    d->batch = (lt_batch){ .n_rows = n, .n_pieces = rows, .ids = d->ids, .piece = d->piece };
}

/* ---- forward ---- */

static bool wants_border(void *user, lt_site site, int layer, int sub, bool grad) {
    (void)user, (void)layer, (void)sub;
    return !grad && (site == LT_SITE_BLOCK_IN || site == LT_SITE_FINAL_NORM_IN || site == LT_SITE_HEAD_IN);
}

static lt_status see_border(void *user, const lt_obs *obs, lt_err *err) {
    const golden *g = user;
    (void)err;
    char name[32];
    snprintf(name, sizeof name, "hidden.%d",
             obs->site == LT_SITE_HEAD_IN ? (int)g->model->config.n_layers : obs->layer);
    const size_t n = lt_tensor_count(&obs->rows);
    const float *want = floats(g, obs->site == LT_SITE_FINAL_NORM_IN ? "hidden_last_layer" : name, n);
    assert_close((const float *)lt_host(&obs->rows), want, n, close, 0.0);
    return LT_OK;
}

static void check_forward(golden *g) {
    docs d;
    lt_err err = { 0 };
    lt_exec *x;
    make_docs(&d, g, "input_ids");
    const lt_observer look = { wants_border, see_border, g, false };
    assert_ok(lt_exec_create(&x, g->team, &(lt_exec_opts){ .observers = &look, .n_observers = 1 }, &err), &err);
    lt_exec_begin(x, &d.batch);
    const lt_var final = lt_model_hidden(x, g->model), y = lt_model_logits(x, g->model, final);
    int32_t target[CAP];
    const size_t n = d.batch.n_rows, cols = n / d.batch.n_pieces, vocab = g->model->config.vocab_size;
    for (size_t i = 0; i < n; i++) target[i] = (i + 1) % cols ? d.ids[i + 1] : -1;
    const lt_var nll = lt_model_nll(x, g->model, final, target, NULL);
    assert_ok(lt_exec_status(x, &err), &err);
    assert_close(lt_data(x, y), floats(g, "logits", n * vocab), n * vocab, close, 0.0);
    const float *want = floats(g, "per_token_nll", n - d.batch.n_pieces), *got = lt_data(x, nll);
    for (size_t r = 0; r < d.batch.n_pieces; r++) {
        assert_close(got + r * cols, want + r * (cols - 1), cols - 1, close, 0.0);
        assert_true(got[r * cols + cols - 1] == 0.0f);
    }
    lt_exec_destroy(x);
}

/* Padding is taken out before the batch: the real tokens of each row are a document, and their logits are the golden's.
 */
static void check_padded(golden *g) {
    int32_t ids[CAP], mask[CAP], packed[CAP];
    lt_piece piece[8];
    size_t cols, rows = 0;
    const size_t n = read_ids(g, "input_ids_padded", ids, CAP, &cols), vocab = g->model->config.vocab_size;
    read_ids(g, "attention_mask", mask, CAP, &cols);
    const float *want = floats(g, "logits_padded", n * vocab);
    for (size_t r = 0; r < n / cols; r++) {
        piece[r] = (lt_piece){ .row = rows, .parent = -1, .seq = (uint32_t)r };
        for (size_t c = 0; c < cols; c++)
            if (mask[r * cols + c]) packed[rows++] = ids[r * cols + c];
        piece[r].n = rows - piece[r].row;
    }
    const lt_batch batch = { .n_rows = rows, .n_pieces = n / cols, .ids = packed, .piece = piece };
    float *y = tm_logits_of(g->model, g->team, &batch);
    for (size_t i = 0, at = 0; i < n; i++)
        if (mask[i]) assert_close(y + at++ * vocab, want + i * vocab, vocab, close, 0.0);
    free(y);
}

static void check_packed(golden *g) {
    if (!lt_safetensors_find(g->st, "packed_input_ids")) return;
    docs d;
    int32_t doc[CAP];
    size_t cols, first = 0;
    make_docs(&d, g, "packed_input_ids");
    read_ids(g, "packed_doc", doc, CAP, &cols);
    while (first < cols && doc[first] == doc[0]) first++;
    d.piece[0].n = first;
    d.piece[1] = (lt_piece){ .row = first, .n = cols - first, .parent = -1, .seq = 1 };
    d.batch.n_pieces = 2;
    float *y = tm_logits_of(g->model, g->team, &d.batch);
    const size_t n = cols * g->model->config.vocab_size;
    assert_close(y, floats(g, "packed_logits", n), n, close, 0.0);
    free(y);
}

/* ---- generation ---- */

typedef struct greedy {
    const golden *g;
    const int32_t *want;
    size_t n;
} greedy;

static int see_token(void *user, int32_t id, const float *logits) {
    greedy *s = user;
    const size_t vocab = s->g->model->config.vocab_size;
    assert_int_equal(id, s->want[s->n]);
    assert_close(logits, floats(s->g, "greedy_logits", 16 * vocab) + s->n * vocab, vocab, close, 0.0);
    s->n++;
    return 0;
}

static void check_greedy(golden *g) {
    docs d;
    int32_t want[16];
    size_t cols;
    lt_err err = { 0 };
    make_docs(&d, g, "input_ids");
    assert_int_equal(read_ids(g, "greedy_ids", want, 16, &cols), 16);
    greedy s = { g, want, 0 };
    lt_generate_out out;
    const lt_generate_in in = { .model = g->model,
                                .team = g->team,
                                .prompt = d.ids,
                                .n_prompt = d.piece[0].n,
                                .max_new = 16,
                                .ignore_eos = true,
                                .sampler = LT_SAMPLER_GREEDY,
                                .kv_dtype = LT_F32,
                                .on_token = see_token,
                                .user = &s };
    assert_ok(lt_generate(&out, &in, &err), &err);
    assert_true(out.n_new == 16 && s.n == 16 && out.kv_bytes > 0);
}

/* ---- gradients ---- */

static size_t n_gradients(const golden *g) {
    size_t n = 0;
    for (size_t i = 0; i < lt_safetensors_count(g->st); i++)
        n += strncmp(lt_safetensors_at(g->st, i)->name, "grad.", 5) == 0;
    return n;
}

static double largest_gradient(const golden *g) {
    double max = 0.0;
    for (size_t i = 0; i < lt_safetensors_count(g->st); i++) {
        const lt_st_entry *e = lt_safetensors_at(g->st, i);
        if (strncmp(e->name, "grad.", 5) != 0) continue;
        const float *v = lt_host(&e->tensor);
        for (size_t k = 0; k < lt_tensor_count(&e->tensor); k++) max = fmax(max, fabs((double)v[k]));
    }
    return max;
}

static void run_backward(golden *g, bool recompute) {
    docs d;
    lt_err err = { 0 };
    lt_exec *x;
    int32_t target[CAP];
    float seed[CAP];
    make_docs(&d, g, "input_ids");
    const size_t n = d.batch.n_rows, cols = n / d.batch.n_pieces;
    for (size_t i = 0; i < n; i++) target[i] = (i + 1) % cols ? d.ids[i + 1] : -1;
    for (size_t i = 0; i < n; i++) seed[i] = target[i] < 0 ? 0.0f : 1.0f / (float)(n - d.batch.n_pieces);
    assert_ok(lt_exec_create(&x, g->team, &(lt_exec_opts){ .mode = LT_RECORD, .recompute = recompute }, &err), &err);
    lt_exec_begin(x, &d.batch);
    const lt_var nll = lt_model_nll(x, g->model, lt_model_hidden(x, g->model), target, NULL);
    lt_backward(x, nll, seed);
    assert_ok(lt_exec_status(x, &err), &err);
    lt_exec_destroy(x);
}

static void check_gradients(golden *g) {
    lt_err err = { 0 };
    const double bound = 2e-5 * largest_gradient(g);
    assert_ok(lt_model_make_trainable(g->model, &err), &err);
    for (int recompute = 0; recompute <= 1; recompute++) {
        lt_model_zero_grads(g->model);
        run_backward(g, recompute);
        size_t seen = 0;
        lt_param_info p;
        for (size_t i = 0; lt_model_param(g->model, i, &p); i++) {
            char name[192];
            snprintf(name, sizeof name, "grad.%s", p.param->name);
            const lt_tensor *t = lt_safetensors_find(g->st, name);
            if (!t) continue;
            seen++;
            assert_close(p.param->grad, floats(g, name, lt_tensor_count(&p.param->t)), lt_tensor_count(&p.param->t),
                         bound, 0.0);
        }
        assert_true(seen > 0 && seen == n_gradients(g));
    }
}

/* ---- one test per case ---- */

static void check_case(const char *dir, const char *answers) {
    golden g = open_golden(dir, answers);
    check_forward(&g);
    check_padded(&g);
    check_packed(&g);
    check_greedy(&g);
    check_gradients(&g);
    close_golden(&g);
}

/* state: the folder below golden/models, and where its answers lie when not beside it */
typedef struct model_case {
    const char *folder, *answers;
} model_case;

static void whole_model(void **state) {
    const model_case *c = *state;
    char dir[128], answers[128];
    snprintf(dir, sizeof dir, "golden/models/%s", c->folder);
    snprintf(answers, sizeof answers, "golden/models/%s", c->answers ? c->answers : c->folder);
    check_case(TEST_NEED_SHARED(dir), TEST_NEED_SHARED(answers));
}

/* ---- taps ---- */

typedef struct sums {
    const lt_safetensors *taps;
    const lt_model *model;
    size_t checked;
} sums;

/* where the input of a linear passes, and its output where a site of its own has it */
static const struct {
    lt_site in, out;
} sites[LT_N_SLOTS] = {
    [LT_SLOT_Q] = { LT_SITE_MIXER_IN, LT_SITE_Q_PROJ },     [LT_SLOT_K] = { LT_SITE_MIXER_IN, LT_SITE_K_PROJ },
    [LT_SLOT_V] = { LT_SITE_MIXER_IN, LT_SITE_V_PROJ },     [LT_SLOT_QKV] = { LT_SITE_MIXER_IN, LT_N_SITES },
    [LT_SLOT_O] = { LT_SITE_MIXER_ACT, LT_SITE_MIXER_OUT }, [LT_SLOT_GATE] = { LT_SITE_MLP_IN, LT_N_SITES },
    [LT_SLOT_UP] = { LT_SITE_MLP_IN, LT_N_SITES },          [LT_SLOT_GATE_UP] = { LT_SITE_MLP_IN, LT_N_SITES },
    [LT_SLOT_DOWN] = { LT_SITE_MLP_ACT, LT_SITE_MLP_OUT },  [LT_SLOT_HEAD] = { LT_SITE_HEAD_IN, LT_N_SITES },
};

static bool wants_forward(void *user, lt_site site, int layer, int sub, bool grad) {
    (void)user, (void)site, (void)layer, (void)sub;
    return !grad;
}

/* rows' second moments and sums against <module>.<which> */
static void check_sums(sums *s, const lt_obs *obs, const char *module, const char *gram, const char *sum) {
    char name[160];
    const size_t d = obs->rows.size[1], n = obs->rows.size[0];
    const float *v = lt_host(&obs->rows);
    snprintf(name, sizeof name, "%s.%s", module, gram);
    const lt_tensor *want = lt_safetensors_find(s->taps, name);
    if (!want) return;
    double *got = calloc(d * d + d, sizeof *got);
    for (size_t r = 0; r < n; r++)
        for (size_t i = 0; i < d; i++) {
            got[d * d + i] += (double)v[r * d + i];
            for (size_t j = 0; j < d; j++) got[i * d + j] += (double)v[r * d + i] * (double)v[r * d + j];
        }
    const double *w = lt_host(want);
    double scale = 0.0;
    for (size_t i = 0; i < d * d; i++) scale = fmax(scale, fabs(w[i]));
    assert_close_f64(got, w, d * d, 2e-5 * scale, 0.0);
    snprintf(name, sizeof name, "%s.%s", module, sum);
    assert_close_f64(got + d * d, (const double *)lt_host(lt_safetensors_find(s->taps, name)), d, 2e-5 * scale, 0.0);
    free(got);
    s->checked++;
}

static lt_status see_value(void *user, const lt_obs *obs, lt_err *err) {
    sums *s = user;
    lt_module mod;
    (void)err;
    for (size_t i = 0; lt_model_module(s->model, i, &mod); i++) {
        if (mod.layer != obs->layer) continue;
        if (sites[mod.slot].in == obs->site) check_sums(s, obs, mod.linear->name, "XtX", "sum_x");
        if (sites[mod.slot].out == obs->site) check_sums(s, obs, mod.linear->name, "YtY", "sum_y");
    }
    return LT_OK;
}

static size_t count_ends(const lt_safetensors *st, const char *end) {
    size_t n = 0;
    for (size_t i = 0; i < lt_safetensors_count(st); i++) {
        const char *name = lt_safetensors_at(st, i)->name, *dot = strrchr(name, '.');
        n += dot && strcmp(dot, end) == 0;
    }
    return n;
}

/* state: the folder; outputs of fused matrices, gate and up, and of the head have no site of their own */
static void inputs_of_linears_pass_the_taps(void **state) {
    char rel[128];
    snprintf(rel, sizeof rel, "golden/models/%s", (const char *)*state);
    const char *dir = TEST_NEED_SHARED(rel);
    golden g = open_golden(dir, dir);
    lt_err err = { 0 };
    lt_safetensors *taps;
    lt_exec *x;
    docs d;
    char *path = lt_path_join(dir, "taps.safetensors");
    assert_ok(lt_safetensors_open(&taps, path, &err), &err);
    sums s = { taps, g.model, 0 };
    const lt_observer look = { wants_forward, see_value, &s, false };
    make_docs(&d, &g, "input_ids");
    assert_ok(lt_exec_create(&x, g.team, &(lt_exec_opts){ .observers = &look, .n_observers = 1 }, &err), &err);
    lt_exec_begin(x, &d.batch);
    lt_model_hidden(x, g.model);
    assert_ok(lt_exec_status(x, &err), &err);
    assert_true(s.checked >= count_ends(taps, ".XtX") + 2 * 2);
    lt_exec_destroy(x);
    lt_safetensors_close(taps);
    lt_free(path);
    close_golden(&g);
}

/* ---- the trained model, dense and factored ---- */

static float *read_logits(const char *model_dir, size_t *vocab) {
    lt_err err = { 0 };
    lt_safetensors *st;
    char *path = lt_path_join(model_dir, "logits.safetensors");
    assert_ok(lt_safetensors_open(&st, path, &err), &err);
    const lt_tensor *t =
        lt_safetensors_find(st, "logits") ? lt_safetensors_find(st, "logits") : lt_safetensors_find(st, "logits_f64");
    assert_non_null(t);
    float *out = malloc(lt_tensor_count(t) * sizeof *out);
    for (size_t r = 0; r < lt_tensor_rows(t); r++)
        lt_tensor_row_f32(out + r * lt_tensor_cols(t), t, r, 0, lt_tensor_cols(t));
    *vocab = lt_tensor_cols(t);
    lt_safetensors_close(st);
    lt_free(path);
    return out;
}

static void check_logits_file(const char *model_dir, const char *tokens) {
    lt_err err = { 0 };
    lt_safetensors *tok;
    const lt_tensor *ids;
    size_t vocab;
    float *want = read_logits(model_dir, &vocab);
    assert_ok(lt_safetensors_open(&tok, tokens, &err), &err);
    assert_ok(lt_safetensors_get(&ids, tok, "logit_batch", LT_I32, 2, &err), &err);
    lt_model *m = tm_open(model_dir);
    lt_team *team = tm_team(2);
    const size_t cols = ids->size[1];
    for (size_t r = 0; r < ids->size[0]; r++) {
        float *y = tm_logits(m, team, (const int32_t *)lt_host(ids) + r * cols, cols);
        assert_close(y, want + r * cols * vocab, cols * vocab, 1e-4, 0.0);
        free(y);
    }
    lt_team_destroy(team);
    lt_model_destroy(m);
    lt_safetensors_close(tok);
    free(want);
}

static void tiny_llama_dense_and_factored(void **state) {
    (void)state;
    const char *tokens = TEST_NEED_SHARED("golden/compress/tokens.safetensors");
    check_logits_file(TEST_NEED_SHARED("golden/compress/tiny-llama"), tokens);
    check_logits_file(TEST_NEED_SHARED("golden/compress/tiny-llama-w60"), tokens);
}

/* ---- a real model: LATHE_TEST_GGUF is SmolLM2-135M-Instruct.Q4_1.gguf, answers in golden/smollm2 ---- */

static void check_top5(const lt_model *m, lt_team *team, const json_t *prompt) {
    const json_t *top = json_object_get(prompt, "top5_ids"), *logp = json_object_get(prompt, "top5_logprobs");
    int32_t ids[64];
    for (size_t i = 0; i < 64; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(json_object_get(prompt, "ids"), i));
    float *y = tm_logits(m, team, ids, 64);
    const size_t vocab = m->config.vocab_size;
    for (size_t i = 0; i < json_array_size(top); i++) {
        const float *l = y + i * vocab;
        double z = 0.0;
        for (size_t v = 0; v < vocab; v++)
            z += exp((double)l[v] - (double)l[json_integer_value(json_array_get(json_array_get(top, i), 0))]);
        for (size_t k = 0; k < 5; k++) {
            const json_int_t id = json_integer_value(json_array_get(json_array_get(top, i), k));
            const double got =
                (double)l[id] - (double)l[json_integer_value(json_array_get(json_array_get(top, i), 0))] - log(z);
            assert_close_f64(&got, &(double){ json_real_value(json_array_get(json_array_get(logp, i), k)) }, 1, 2e-3,
                             0.0);
        }
    }
    free(y);
}

typedef struct expected {
    const json_t *ids;
    size_t n;
} expected;
static int see_id(void *user, int32_t id, const float *logits) {
    expected *e = user;
    (void)logits;
    assert_int_equal(id, json_integer_value(json_array_get(e->ids, e->n)));
    return ++e->n == json_array_size(e->ids);
}

static void check_continuation(const lt_model *m, lt_team *team, const json_t *row) {
    const json_t *prompt = json_object_get(row, "prompt_ids");
    int32_t ids[256];
    const size_t n = json_array_size(prompt);
    assert_true(n <= 256);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(prompt, i));
    expected e = { json_object_get(row, "new_ids"), 0 };
    const lt_generate_in in = { .model = m,
                                .team = team,
                                .prompt = ids,
                                .n_prompt = n,
                                .max_new = json_array_size(e.ids),
                                .ignore_eos = true,
                                .sampler = LT_SAMPLER_GREEDY,
                                .kv_dtype = LT_F32,
                                .on_token = see_id,
                                .user = &e };
    lt_generate_out out;
    lt_err err = { 0 };
    assert_ok(lt_generate(&out, &in, &err), &err);
    assert_int_equal(e.n, json_array_size(e.ids));
}

static void smollm2_from_gguf(void **state) {
    (void)state;
    const char *gguf = getenv("LATHE_TEST_GGUF");
    const char *answers = TEST_NEED_SHARED("golden/smollm2/golden.json");
    if (!gguf || !*gguf) {
        print_message("skipped: LATHE_TEST_GGUF is not set\n");
        skip();
    }
    lt_err err = { 0 };
    json_t *root;
    assert_ok(lt_json_load(&root, answers, &err), &err);
    const json_t *f32 = json_object_get(root, "f32"), *greedy_rows = json_object_get(f32, "greedy");
    lt_model *m = tm_open(gguf);
    lt_team *team = tm_team(2);
    assert_int_equal(lt_model_n_params(m), 134515008);
    check_top5(m, team, json_object_get(f32, "prompt64"));
    for (size_t i = 0; i < json_array_size(greedy_rows); i++)
        check_continuation(m, team, json_array_get(greedy_rows, i));
    lt_team_destroy(team);
    lt_model_destroy(m);
    json_decref(root);
}

/* Logits do not change by a bit with the number of threads. */
static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    tm_spec s = TM_ODD;
    s.vocab = 700;
    tm *m = tm_build(s, 30);
    lt_model *model = tm_open(tm_write(m, "threads", 1));
    int32_t ids[96];
    tm_ids(ids, 96, s.vocab, 31);
    float *first = NULL;
    for (int threads = 1; threads <= 5; threads += 2) {
        lt_team *team = tm_team(threads);
        float *y = tm_logits(model, team, ids, 96);
        if (first) {
            assert_memory_equal(y, first, 96 * s.vocab * sizeof *y);
            free(y);
        } else
            first = y;
        lt_team_destroy(team);
    }
    free(first);
    lt_model_destroy(model);
    tm_free(m);
}

#define MODEL(folder, answers)                                                                                         \
    {                                                                                                                  \
        "model " folder, whole_model, NULL, NULL, (void *)&(const model_case) {                                        \
            folder, answers                                                                                            \
        }                                                                                                              \
    }

#define TAPS(folder)                                                                                                   \
    { "taps " folder, inputs_of_linears_pass_the_taps, NULL, NULL, (void *)(folder) }

int main(void) {
    const struct CMUnitTest tests[] = {
        MODEL("llama-mha", NULL),
        MODEL("llama-gqa", NULL),
        MODEL("llama-bias", NULL),
        MODEL("llama-gqa/sharded", "llama-gqa"),
        MODEL("mistral", NULL),
        MODEL("qwen2", NULL),
        MODEL("qwen3", NULL),
        MODEL("gpt2", NULL),
        MODEL("gpt2-untied", NULL),
        MODEL("opt", NULL),
        MODEL("opt-350m", NULL),
        MODEL("neox-parallel", NULL),
        MODEL("neox-sequential", NULL),
        MODEL("olmo2", NULL),
        MODEL("olmo3", NULL),
        MODEL("phi3", NULL),
        MODEL("gemma3-text", NULL),
        TAPS("llama-gqa"),
        TAPS("gpt2"),
        TAPS("opt"),
        TAPS("neox-parallel"),
        TAPS("mistral"),
        cmocka_unit_test(tiny_llama_dense_and_factored),
        cmocka_unit_test(smollm2_from_gguf),
        cmocka_unit_test(threads_do_not_change_a_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
