/* SPDX-License-Identifier: Apache-2.0 */
/* Overlays and saving: what is written is what was there, in every form; dropping an overlay leaves no trace. */
#include "model_test.h"

#include <signal.h>
#include <sys/resource.h>

#include "core/hash.h"
#include "io/file.h"
#include "model/family.h"
#include "model/round.h"
#include "model/shipped.h"

static const char up0[] = "model.layers.0.mlp.up_proj", q1[] = "model.layers.1.self_attn.q_proj";
static const int32_t ids[7] = { 3, 1, 4, 15, 9, 26, 50 };

typedef struct bench {
    tm *m;
    lt_model *model;
    lt_team *team;
    lt_overlay *o;
} bench;

static bench bench_make(tm_spec s, uint32_t seed) {
    bench b = { .m = tm_build(s, seed), .team = tm_team(1) };
    lt_err err = { 0 };
    b.model = tm_open(tm_write(b.m, "base", 1));
    assert_ok(lt_overlay_create(&b.o, b.model, &err), &err);
    return b;
}

static void bench_free(bench *b) {
    lt_overlay_destroy(b->o);
    lt_model_destroy(b->model);
    tm_free(b->m);
    lt_team_destroy(b->team);
}

/* random factors (and bias) over module */
static void factor(bench *b, const char *module, size_t rank, bool bias, lt_dtype t) {
    lt_module mod;
    lt_err err = { 0 };
    assert_true(lt_model_find_module(b->model, module, &mod));
    const size_t out = lt_linear_out(mod.linear), in = lt_linear_in(mod.linear);
    lt_rng r = test_rng(77);
    double *a = malloc(out * rank * sizeof *a), *bb = malloc(rank * in * sizeof *bb), *c = malloc(out * sizeof *c);
    test_fill_normal_f64(a, out * rank, &r);
    test_fill_normal_f64(bb, rank * in, &r);
    test_fill_normal_f64(c, out, &r);
    for (size_t i = 0; i < out * rank; i++) a[i] *= 0.3;
    assert_ok(lt_overlay_factor(b->o, module, rank, a, bb, bias ? c : NULL, t, &err), &err);
    free(a);
    free(bb);
    free(c);
}

static const char *save(const lt_model *m, const char *name, lt_save_opts o) {
    const char *path = test_path(name);
    lt_err err = { 0 };
    assert_ok(lt_remove_tree(path, &err), &err);
    assert_ok(lt_model_save(m, path, &o, NULL, &err), &err);
    return path;
}

static void same_logits(const lt_model *a, const lt_model *b, lt_team *team, double bound) {
    const size_t n = 7 * a->config.vocab_size;
    float *x = tm_logits(a, team, ids, 7), *y = tm_logits(b, team, ids, 7);
    if (bound == 0.0)
        assert_memory_equal(x, y, n * sizeof *x);
    else
        assert_close(y, x, n, bound, bound);
    free(x);
    free(y);
}

static void an_unchanged_model_saves_its_bytes(void **state) {
    (void)state;
    const tm_spec specs[] = { TM_ODD, TM_BIAS };
    for (size_t i = 0; i < LT_COUNTOF(specs); i++) {
        bench b = bench_make(specs[i], 1);
        for (int form = LT_FORM_ABLINEAR; form <= LT_FORM_DENSE; form++) {
            lt_model *again =
                tm_open(save(b.model, "saved", (lt_save_opts){ .form = (lt_save_form)form, .dtype = LT_N_DTYPES }));
            assert_string_equal(again->config.model_type, "llama");
            lt_param_info p, q;
            size_t n = 0;
            for (; lt_model_param(b.model, n, &p); n++) {
                assert_true(lt_model_param(again, n, &q));
                assert_string_equal(p.param->name, q.param->name);
                assert_memory_equal(lt_host(&p.param->t), lt_host(&q.param->t), lt_tensor_bytes(&p.param->t));
            }
            assert_false(lt_model_param(again, n, &q));
            lt_model_destroy(again);
        }
        bench_free(&b);
    }
}

static void factored_models_come_back_in_every_form(void **state) {
    (void)state;
    const tm_spec specs[] = { TM_ODD, TM_BIAS };
    for (size_t i = 0; i < LT_COUNTOF(specs); i++) {
        bench b = bench_make(specs[i], 2);
        factor(&b, up0, 5, false, LT_F32);
        factor(&b, q1, 3, true, LT_F32);
        const lt_model *m = lt_overlay_model(b.o);
        for (int form = LT_FORM_ABLINEAR; form <= LT_FORM_DENSE; form++) {
            const char *path = save(
                m, "saved", (lt_save_opts){ .form = (lt_save_form)form, .dtype = LT_N_DTYPES, .method = "whitened" });
            lt_model *again = tm_open(path);
            same_logits(m, again, b.team, form == LT_FORM_DENSE ? 1e-4 : 0.0);
            assert_string_equal(again->config.model_type, form == LT_FORM_DENSE ? "llama" : "lowrank_llama");
            assert_true(form == LT_FORM_DENSE || json_integer_value(json_object_get(
                                                     json_object_get(again->config.raw, "truncation_ranks"), q1)) == 3);
            lt_model_destroy(again);
        }
        bench_free(&b);
    }
}

/* transformers opens the folder with the shipped Python, which the form "ab" and stock folders go without. */
static void factored_folders_bring_the_python_that_loads_them(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 4);
    lt_err err = { 0 };
    factor(&b, up0, 5, false, LT_F32);
    for (int form = LT_FORM_ABLINEAR; form <= LT_FORM_DENSE; form++) {
        const char *path =
            save(lt_overlay_model(b.o), "code", (lt_save_opts){ .form = (lt_save_form)form, .dtype = LT_N_DTYPES });
        lt_model *again = tm_open(path);
        const json_t *map = json_object_get(again->config.raw, "auto_map");
        assert_true((map != NULL) == (form == LT_FORM_ABLINEAR));
        for (const lt_shipped_file *f = lt_lowrank_files; f->name; f++) {
            char *file = lt_path_join(path, f->name), *text = NULL;
            size_t n = 0;
            assert_true(lt_path_exists(file) == (map != NULL));
            if (map) assert_ok(lt_file_read(&text, &n, file, 1 << 20, &err), &err);
            if (map) assert_int_equal(n, f->size);
            if (map) assert_memory_equal(text, f->bytes, n);
            lt_free(text);
            lt_free(file);
        }
        if (map) {
            assert_string_equal(json_string_value(json_object_get(map, "AutoConfig")),
                                "configuration_lowrank.LowRankLlamaConfig");
            assert_string_equal(json_string_value(json_object_get(map, "AutoModelForCausalLM")),
                                "modeling_lowrank.LowRankLlamaForCausalLM");
        }
        lt_model_destroy(again);
    }
    bench_free(&b);
}

static bool shipped_names(const lt_shipped_file *f, const char *class) {
    char quoted[96];
    snprintf(quoted, sizeof quoted, "\"%s\"", class);
    return memmem(f->bytes, f->size, quoted, strlen(quoted)) != NULL;
}

/* Classes are named LowRank<stock class>; the shipped files list the stock names. */
static void every_family_has_its_classes_in_the_shipped_python(void **state) {
    (void)state;
    const size_t skip = strlen("LowRank");
    assert_string_equal(lt_lowrank_files[0].name, "configuration_lowrank.py");
    assert_string_equal(lt_lowrank_files[1].name, "modeling_lowrank.py");
    for (const lt_family *const *f = lt_families; *f; f++) {
        assert_string_equal((*f)->lowrank_architecture + skip, (*f)->architecture);
        assert_true(shipped_names(&lt_lowrank_files[0], (*f)->lowrank_config + skip));
        assert_true(shipped_names(&lt_lowrank_files[1], (*f)->lowrank_config + skip));
        assert_true(shipped_names(&lt_lowrank_files[1], (*f)->architecture));
    }
}

/* From one form to another and back to a stock model: the low-rank fields go when the factors do. */
static void a_saved_factored_model_saves_again(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 3);
    factor(&b, up0, 5, false, LT_F32);
    lt_model *one =
        tm_open(save(lt_overlay_model(b.o), "one", (lt_save_opts){ .form = LT_FORM_AB, .dtype = LT_N_DTYPES }));
    lt_model *two = tm_open(save(one, "two", (lt_save_opts){ .form = LT_FORM_ABLINEAR, .dtype = LT_N_DTYPES }));
    lt_model *stock = tm_open(save(two, "stock", (lt_save_opts){ .form = LT_FORM_DENSE, .dtype = LT_N_DTYPES }));
    same_logits(one, two, b.team, 0.0);
    same_logits(one, stock, b.team, 1e-4);
    assert_null(json_object_get(stock->config.raw, "low_rank_modules"));
    assert_string_equal(json_string_value(json_array_get(json_object_get(stock->config.raw, "architectures"), 0)),
                        "LlamaForCausalLM");
    assert_string_equal(json_string_value(json_array_get(json_object_get(two->config.raw, "architectures"), 0)),
                        "LowRankLlamaForCausalLM");
    lt_model_destroy(one);
    lt_model_destroy(two);
    lt_model_destroy(stock);
    bench_free(&b);
}

/* A bias that a fit added to one attention linear: the dense form needs it on all of them. */
static void a_new_bias_turns_the_switch_on_in_the_dense_form(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 4);
    factor(&b, q1, 3, true, LT_F32);
    lt_model *dense =
        tm_open(save(lt_overlay_model(b.o), "affine", (lt_save_opts){ .form = LT_FORM_DENSE, .dtype = LT_N_DTYPES }));
    assert_true(dense->config.attn_bias && !dense->config.mlp_bias);
    assert_non_null(dense->layer[0].linear[LT_SLOT_O].bias.name);
    same_logits(lt_overlay_model(b.o), dense, b.team, 1e-4);
    lt_model_destroy(dense);
    bench_free(&b);
}

static void shards_are_cut_and_indexed(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 5);
    const char *path = save(b.model, "shards", (lt_save_opts){ .dtype = LT_N_DTYPES, .shard_bytes = 9000 });
    char *index = lt_path_join(path, "model.safetensors.index.json");
    assert_true(lt_path_exists(index));
    assert_true(test_count_dir(path) > 5);
    lt_model *again = tm_open(path);
    same_logits(b.model, again, b.team, 0.0);
    lt_model_destroy(again);
    lt_free(index);
    bench_free(&b);
}

static void other_dtypes_are_written_on_request(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 6);
    lt_model *again = tm_open(save(b.model, "bf16", (lt_save_opts){ .dtype = LT_BF16 }));
    assert_string_equal(json_string_value(json_object_get(again->config.raw, "torch_dtype")), "bfloat16");
    assert_int_equal(again->layer[0].linear[LT_SLOT_UP].stage[0].w.t.dtype, LT_BF16);
    same_logits(b.model, again, b.team, 0.2);
    lt_model_destroy(again);
    lt_err err = { 0 };
    assert_fails(lt_model_save(b.model, test_path("q8"), &(lt_save_opts){ .dtype = LT_Q8_0 }, NULL, &err), &err,
                 LT_EUNSUPPORTED, "");
    assert_false(lt_path_exists(test_path("q8")));
    assert_fails(lt_model_save(b.model, test_path("bf16"), &(lt_save_opts){ .dtype = LT_BF16 }, NULL, &err), &err,
                 LT_EUSAGE, "exists");
    bench_free(&b);
}

static void parents_files_come_along(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 7);
    tm_write_text(b.model->path, "LICENSE.txt", "free as in air\n");
    tm_write_text(b.model->path, "generation_config.json", "{\"eos_token_id\": [2, 5], \"temperature\": 0.6}");
    const char *path = save(b.model, "with", (lt_save_opts){ .dtype = LT_N_DTYPES });
    size_t bytes;
    char *licence = lt_path_join(path, "LICENSE.txt"), *text = test_read_file(licence, &bytes);
    assert_string_equal(text, "free as in air\n");
    lt_model *again = tm_open(path);
    assert_int_equal(again->config.n_eos, 2);
    lt_model_destroy(again);
    lt_free(text);
    lt_free(licence);
    bench_free(&b);
}

/* A GGUF becomes a folder: permuted rows in Hugging Face order, block types as bf16. */
static void a_gguf_saves_as_a_folder(void **state) {
    (void)state;
    tm_spec s = { .vocab = 64,
                  .d = 32,
                  .layers = 2,
                  .heads = 2,
                  .kv = 1,
                  .head_dim = 16,
                  .ff = 64,
                  .positions = 64,
                  .attn_bias = true };
    tm *m = tm_build(s, 8);
    lt_team *team = tm_team(1);
    lt_model *hf = tm_open(tm_write(m, "hf", 1));
    lt_model *f32 = tm_open(tm_write_gguf(m, "f.gguf", LT_F32, NULL, 0, NULL, 0)),
             *q8 = tm_open(tm_write_gguf(m, "q.gguf", LT_Q8_0, NULL, 0, NULL, 0));
    lt_model *a = tm_open(save(f32, "from-f32", (lt_save_opts){ .dtype = LT_N_DTYPES })),
             *b = tm_open(save(q8, "from-q8", (lt_save_opts){ .dtype = LT_N_DTYPES }));
    same_logits(hf, a, team, 0.0);
    lt_param_info p, q;
    for (size_t i = 0; lt_model_param(hf, i, &p); i++) {
        assert_true(lt_model_param(a, i, &q));
        assert_string_equal(p.param->name, q.param->name);
        assert_memory_equal(lt_host(&p.param->t), lt_host(&q.param->t), lt_tensor_bytes(&p.param->t));
    }
    assert_int_equal(b->embed.t.dtype, LT_BF16);
    assert_int_equal(b->final_norm.w.t.dtype, LT_F32);
    same_logits(q8, b, team, 0.05);
    static const char *const keys[] = {
        "architectures",           "head_dim",    "rope_theta",          "bos_token_id",  "eos_token_id", "vocab_size",
        "max_position_embeddings", "torch_dtype", "num_key_value_heads", "attention_bias"
    };
    for (size_t i = 0; i < LT_COUNTOF(keys); i++) assert_non_null(json_object_get(b->config.raw, keys[i]));
    lt_model_destroy(hf);
    lt_model_destroy(f32);
    lt_model_destroy(q8);
    lt_model_destroy(a);
    lt_model_destroy(b);
    tm_free(m);
    lt_team_destroy(team);
}

/* ---- overlays ---- */

static void restoring_an_overlay_leaves_no_trace(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 9);
    const lt_model *m = lt_overlay_model(b.o);
    lt_err err = { 0 };
    same_logits(b.model, m, b.team, 0.0);
    factor(&b, up0, 5, true, LT_BF16);
    factor(&b, q1, 3, false, LT_F16);
    float *x = tm_logits(b.model, b.team, ids, 7), *y = tm_logits(m, b.team, ids, 7);
    assert_true(test_max_abs_diff(x, y, 7 * 61) > 1e-3);
    free(x);
    free(y);
    assert_ok(lt_overlay_quantize(b.o, LT_BF16, &err), &err);
    factor(&b, up0, 2, false, LT_F32);
    lt_module mod;
    for (size_t i = 0; lt_model_module(b.model, i, &mod); i++)
        if (mod.layer >= 0) assert_ok(lt_overlay_restore(b.o, mod.linear->name, &err), &err);
    for (size_t l = 0; l < 3; l++) assert_memory_equal(&m->layer[l], &b.model->layer[l], sizeof m->layer[l]);
    bench_free(&b);
}

/* The overlay's product is what the factors say, and its own dense form agrees. */
static void factors_and_their_dense_product_agree(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 10);
    lt_err err = { 0 };
    factor(&b, up0, 5, false, LT_F32);
    lt_module mod;
    assert_true(lt_model_find_module(lt_overlay_model(b.o), up0, &mod));
    const float *bb = lt_host(&mod.linear->stage[0].w.t), *a = lt_host(&mod.linear->stage[1].w.t);
    double *w = calloc(37 * 22, sizeof *w);
    for (size_t i = 0; i < 37; i++)
        for (size_t k = 0; k < 5; k++)
            for (size_t j = 0; j < 22; j++) w[i * 22 + j] += (double)a[i * 5 + k] * (double)bb[k * 22 + j];
    lt_overlay *dense;
    assert_ok(lt_overlay_create(&dense, b.model, &err), &err);
    assert_ok(lt_overlay_dense(dense, up0, w, LT_F32, &err), &err);
    same_logits(lt_overlay_model(b.o), lt_overlay_model(dense), b.team, 1e-5);
    w[3] = NAN;
    assert_fails(lt_overlay_dense(dense, up0, w, LT_F32, &err), &err, LT_EDATA, up0);
    w[3] = 1e6;
    assert_fails(lt_overlay_dense(dense, up0, w, LT_F16, &err), &err, LT_EDATA, "f16");
    same_logits(lt_overlay_model(b.o), lt_overlay_model(dense), b.team, 1e-5); /* a refused change changes nothing */
    lt_overlay_destroy(dense);
    free(w);
    bench_free(&b);
}

static void values_are_rounded_once(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 11);
    lt_err err = { 0 };
    double *w = calloc(37 * 22, sizeof *w);
    /* halfway between two bf16 numbers, plus less than f32 can see: twice rounded it would fall to even */
    w[0] = 1.0 + 0x1p-8 + 0x1p-40;
    w[1] = -(1.0 + 0x1p-8 + 0x1p-40);
    w[2] = 1.0 + 0x1p-8 - 0x1p-40;
    assert_ok(lt_overlay_dense(b.o, up0, w, LT_BF16, &err), &err);
    lt_module mod;
    assert_true(lt_model_find_module(lt_overlay_model(b.o), up0, &mod));
    float row[22];
    lt_tensor_row_f32(row, &mod.linear->stage[0].w.t, 0, 0, 22);
    assert_true(row[0] == 1.0f + 0x1p-7f && row[1] == -(1.0f + 0x1p-7f) && row[2] == 1.0f);
    free(w);
    bench_free(&b);
}

/* The bf16 number next to v, of equally near ones the even one: by looking at the neighbours of a guess. */
static uint16_t nearest_bf16(double v) {
    const uint16_t guess = lt_f32_to_bf16((float)v);
    uint16_t best = guess;
    double least = INFINITY;
    for (int step = -1; step <= 1; step++) {
        const uint16_t at = (uint16_t)(guess + step);
        const double off = fabs(v - (double)lt_bf16_to_f32(at));
        if (!(off < least) && !(off == least && !(at & 1))) continue;
        least = off;
        best = at;
    }
    return best;
}

static void any_double_becomes_the_nearest_number(void **state) {
    (void)state;
    enum { N = 64, STEP = 3 };
    double src[N * STEP];
    uint16_t got[N];
    float buf[2 * N];
    uint64_t seed = 7;
    for (int exponent = -145; exponent <= 126; exponent++) {
        for (size_t i = 0; i < N * STEP; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            const double unit = 1.0 + (double)(seed >> 12) * 0x1p-52;
            src[i] = ldexp(i % 2 ? -unit : unit, exponent);
            if (i % 7 == 0) src[i] = ldexp(1.0 + (double)(i % 128 * 2 + 1) * 0x1p-8, exponent); /* halfway */
            if (i % 11 == 0) src[i] = 0.0;
        }
        assert_true(lt_round_row(got, LT_BF16, src, STEP, N, buf));
        for (size_t i = 0; i < N; i++) assert_int_equal(got[i], nearest_bf16(src[i * STEP]));
    }
    static const double refused[] = { INFINITY, -INFINITY, NAN, 1e300, -3.4e38 };
    for (size_t i = 0; i < LT_COUNTOF(refused); i++) {
        src[STEP] = refused[i];
        assert_false(lt_round_row(got, LT_BF16, src, STEP, N, buf));
    }
}

static void what_cannot_be_replaced_is_refused_by_name(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 12);
    lt_err err = { 0 };
    const double one[64] = { 1.0 };
    assert_fails(lt_overlay_factor(b.o, "model.layers.7.mlp.up_proj", 1, one, one, NULL, LT_F32, &err), &err, LT_EDATA,
                 "layers.7");
    assert_fails(lt_overlay_factor(b.o, "lm_head", 1, one, one, NULL, LT_F32, &err), &err, LT_EUNSUPPORTED, "tied");
    assert_fails(lt_overlay_factor(b.o, up0, 0, one, one, NULL, LT_F32, &err), &err, LT_EUSAGE, "rank 0");
    assert_fails(lt_overlay_factor(b.o, up0, 1, one, one, NULL, LT_I32, &err), &err, LT_EUNSUPPORTED, "i32");
    assert_fails(lt_overlay_quantize(b.o, LT_Q8_0, &err), &err, LT_EUNSUPPORTED, "model.embed_tokens.weight");
    bench_free(&b);
}

static void quantising_keeps_the_table_and_the_tied_head_one(void **state) {
    (void)state;
    tm_spec s = {
        .vocab = 64, .d = 32, .layers = 2, .heads = 2, .kv = 1, .head_dim = 16, .ff = 64, .positions = 64, .tied = true
    };
    bench b = bench_make(s, 13);
    lt_err err = { 0 };
    assert_ok(lt_overlay_quantize(b.o, LT_Q8_0, &err), &err);
    const lt_model *m = lt_overlay_model(b.o);
    assert_int_equal(m->embed.t.dtype, LT_Q8_0);
    assert_ptr_equal(lt_host(&m->head.stage[0].w.t), lt_host(&m->embed.t));
    assert_int_equal(m->layer[0].norm[0].w.t.dtype, LT_F32);
    assert_true(lt_model_bytes(m) < lt_model_bytes(b.model) / 3);
    lt_model *wide = tm_open(save(m, "wide", (lt_save_opts){ .dtype = LT_F32 })); /* the same values, stored plainly */
    same_logits(wide, m, b.team, 1e-4);
    lt_model_destroy(wide);
    bench_free(&b);
}

/* ---- hash ---- */

static void hash_of(const lt_model *m, char hex[LT_HASH_HEX]) {
    lt_err err = { 0 };
    assert_ok(lt_model_hash(m, 2, hex, &err), &err);
}

static void the_hash_sees_every_byte_and_no_shard(void **state) {
    (void)state;
    setenv("XDG_CACHE_HOME", test_path("cache"), 1);
    bench b = bench_make(TM_ODD, 14);
    char base[LT_HASH_HEX], other[LT_HASH_HEX];
    hash_of(b.model, base);
    hash_of(b.model, other);
    assert_string_equal(base, other); /* the second from the cache */
    lt_model *many = tm_open(tm_write(b.m, "many", 3));
    hash_of(many, other);
    assert_string_equal(base, other);
    lt_model_destroy(many);
    lt_rng r = test_rng(14);
    for (int i = 0; i < 12; i++) {
        tm_tensor *t = &b.m->t[lt_rng_below(&r, b.m->n)];
        const size_t at = lt_rng_below(&r, t->size[0]);
        const float old = t->data[at];
        t->data[at] = nextafterf(old, 10.0f);
        lt_model *changed = tm_open(tm_write(b.m, "changed", 1));
        hash_of(changed, other);
        assert_string_not_equal(base, other);
        lt_model_destroy(changed);
        t->data[at] = old;
    }
    factor(&b, up0, 5, false, LT_F32);
    hash_of(lt_overlay_model(b.o), other);
    assert_string_not_equal(base, other);
    hash_of(b.model, other);
    assert_string_equal(base, other);
    setenv("XDG_CACHE_HOME", "/proc/no/such/place", 1); /* an unusable cache is not an error */
    hash_of(b.model, other);
    assert_string_equal(base, other);
    bench_free(&b);
}

/* ---- faults ---- */

/* A new name each time: without memory a folder cannot be removed either. */
static const char *next_folder(void) {
    static char path[700];
    static unsigned serial;
    snprintf(path, sizeof path, "%s/fault-%u", test_dir(), serial++);
    return path;
}

static lt_status change_and_save(void *user, lt_err *err) {
    const bench *b = user;
    lt_overlay *o = NULL;
    double a[37], w[22];
    for (size_t i = 0; i < 37; i++) a[i] = 0.1;
    for (size_t i = 0; i < 22; i++) w[i] = 0.1;
    lt_status st;
    LT_GO(lt_overlay_create(&o, b->model, err));
    LT_GO(lt_overlay_factor(o, up0, 1, a, w, a, LT_F32, err));
    LT_GO(lt_overlay_quantize(o, LT_BF16, err));
    LT_GO(lt_model_save(lt_overlay_model(o), next_folder(),
                        &(lt_save_opts){ .dtype = LT_N_DTYPES, .shard_bytes = 20000 }, NULL, err));
    st = lt_model_save(lt_overlay_model(o), next_folder(),
                       &(lt_save_opts){ .form = LT_FORM_DENSE, .dtype = LT_N_DTYPES }, NULL, err);
done:
    lt_overlay_destroy(o);
    return st;
}

/* Whether weights are in memory or in files of the scratch folder, the model is the same; the files have no name. */
static void weights_that_went_to_the_disk_come_back(void **state) {
    (void)state;
    tm_spec s = TM_ODD;
    s.d = 96, s.ff = 1024; /* factors of more than 64 KiB */
    bench held = bench_make(s, 21), spilled = bench_make(s, 21);
    const size_t before = test_count_dir(test_dir());
    lt_err err = { 0 };
    lt_module mod;
    assert_ok(lt_overlay_spill(spilled.o, 100, test_dir(), &err), &err);
    factor(&held, up0, 40, true, LT_F32);
    factor(&spilled, up0, 40, true, LT_F32);
    assert_true(lt_model_find_module(lt_overlay_model(spilled.o), up0, &mod));
    assert_true(mod.linear->stage[1].w.t.buffer->mapped && !mod.linear->bias.t.buffer->mapped);
    same_logits(lt_overlay_model(held.o), lt_overlay_model(spilled.o), held.team, 0.0);
    lt_tensor_drop(&mod.linear->stage[1].w.t);
    same_logits(lt_overlay_model(held.o), lt_overlay_model(spilled.o), held.team, 0.0);
    assert_int_equal(test_count_dir(test_dir()), before);

    assert_ok(lt_overlay_spill(spilled.o, 100, test_path("no-such-folder"), &err), &err);
    double *one = lt_calloc(1024 * 64, sizeof *one); /* enough for a [1024, 64] and b [64, 96] */
    assert_fails(lt_overlay_factor(spilled.o, up0, 64, one, one, NULL, LT_F32, &err), &err, LT_EIO, up0);
    lt_free(one);
    same_logits(lt_overlay_model(held.o), lt_overlay_model(spilled.o), held.team, 0.0);
    bench_free(&held);
    bench_free(&spilled);
}

static void running_out_of_memory_is_an_error_without_leaks(void **state) {
    (void)state;
    tm_spec s = TM_ODD;
    s.layers = 1;
    s.mlp_bias = true;
    bench b = bench_make(s, 15);
    assert_true(test_every_allocation_fails(change_and_save, &b) > 20);
    bench_free(&b);
}

static void a_full_disk_leaves_nothing_behind(void **state) {
    (void)state;
    bench b = bench_make(TM_ODD, 16);
    const size_t before = test_count_dir(test_dir());
    struct rlimit old, small = { .rlim_cur = 10000 };
    lt_err err = { 0 };
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    const char *path = next_folder();
    const lt_status st = lt_model_save(b.model, path, &(lt_save_opts){ .dtype = LT_N_DTYPES }, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_fails(st, &err, LT_EIO, "model.safetensors");
    assert_false(lt_path_exists(path));
    assert_int_equal(test_count_dir(test_dir()), before);
    bench_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unchanged_model_saves_its_bytes),
        cmocka_unit_test(factored_models_come_back_in_every_form),
        cmocka_unit_test(factored_folders_bring_the_python_that_loads_them),
        cmocka_unit_test(every_family_has_its_classes_in_the_shipped_python),
        cmocka_unit_test(a_saved_factored_model_saves_again),
        cmocka_unit_test(a_new_bias_turns_the_switch_on_in_the_dense_form),
        cmocka_unit_test(shards_are_cut_and_indexed),
        cmocka_unit_test(other_dtypes_are_written_on_request),
        cmocka_unit_test(parents_files_come_along),
        cmocka_unit_test(a_gguf_saves_as_a_folder),
        cmocka_unit_test(restoring_an_overlay_leaves_no_trace),
        cmocka_unit_test(factors_and_their_dense_product_agree),
        cmocka_unit_test(values_are_rounded_once),
        cmocka_unit_test(any_double_becomes_the_nearest_number),
        cmocka_unit_test(what_cannot_be_replaced_is_refused_by_name),
        cmocka_unit_test(quantising_keeps_the_table_and_the_tied_head_one),
        cmocka_unit_test(the_hash_sees_every_byte_and_no_shard),
        cmocka_unit_test(weights_that_went_to_the_disk_come_back),
        cmocka_unit_test(running_out_of_memory_is_an_error_without_leaks),
        cmocka_unit_test(a_full_disk_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
