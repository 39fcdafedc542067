/* SPDX-License-Identifier: Apache-2.0 */
/* Grams from elsewhere, safetensors or torch: what is taken in is a stats file that holds together. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "calib/stats_import.h"
#include "io/file.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char folder[64];
static lt_model *model;

static void need(bool ok) {
    if (!ok) abort();
}

static void leave(void) {
    lt_model_destroy(model);
    lt_remove_tree(folder, NULL);
}

/* One layer of width 4, with biases. */
static void write_model(void) {
    static const struct {
        const char *name;
        size_t rows, cols;
    } tensors[] = { { "model.embed_tokens.weight", 8, 4 },
                    { "model.norm.weight", 4, 0 },
                    { "model.layers.0.input_layernorm.weight", 4, 0 },
                    { "model.layers.0.post_attention_layernorm.weight", 4, 0 },
                    { "model.layers.0.self_attn.q_proj.weight", 4, 4 },
                    { "model.layers.0.self_attn.q_proj.bias", 4, 0 },
                    { "model.layers.0.self_attn.k_proj.weight", 2, 4 },
                    { "model.layers.0.self_attn.k_proj.bias", 2, 0 },
                    { "model.layers.0.self_attn.v_proj.weight", 2, 4 },
                    { "model.layers.0.self_attn.v_proj.bias", 2, 0 },
                    { "model.layers.0.self_attn.o_proj.weight", 4, 4 },
                    { "model.layers.0.self_attn.o_proj.bias", 4, 0 },
                    { "model.layers.0.mlp.gate_proj.weight", 6, 4 },
                    { "model.layers.0.mlp.up_proj.weight", 6, 4 },
                    { "model.layers.0.mlp.down_proj.weight", 4, 6 } };
    static const char config[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 4, "
        "\"intermediate_size\": 6, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
        "\"head_dim\": 2, \"vocab_size\": 8, \"max_position_embeddings\": 16, \"rms_norm_eps\": 1e-05, \"hidden_act\": "
        "\"silu\", \"tie_word_embeddings\": true, \"attention_bias\": true, \"mlp_bias\": false, \"torch_dtype\": "
        "\"float32\"}";
    static const float ones[32] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    char path[128];
    lt_st_writer *w;
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "w");
    need(f && fputs(config, f) >= 0 && fclose(f) == 0);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    need(lt_st_writer_create(&w, path, NULL) == LT_OK);
    for (size_t i = 0; i < LT_COUNTOF(tensors); i++) {
        const size_t shape[2] = { tensors[i].rows, tensors[i].cols };
        need(lt_st_writer_declare(w, tensors[i].name, LT_F32, tensors[i].cols ? 2 : 1, shape, NULL) == LT_OK);
    }
    need(lt_st_writer_begin(w, NULL) == LT_OK);
    for (size_t i = 0; i < LT_COUNTOF(tensors); i++) {
        const size_t n = tensors[i].rows * (tensors[i].cols ? tensors[i].cols : 1);
        need(lt_st_writer_bytes(w, ones, n * sizeof *ones, NULL) == LT_OK);
    }
    need(lt_st_writer_commit(w, NULL) == LT_OK);
}

static void set_up(void) {
    strcpy(folder, "/tmp/lathe-fuzz-XXXXXX");
    need(mkdtemp(folder) != NULL);
    atexit(leave);
    write_model();
    need(lt_model_open(&model, folder, NULL) == LT_OK);
}

static void use(const char *path, const lt_import_out *out) {
    lt_stats *s;
    need(lt_stats_open(&s, path, NULL, NULL) == LT_OK && lt_stats_n_sites(s) == out->modules && out->modules > 0);
    for (size_t i = 0; i < out->modules; i++) {
        const lt_stats_site site = lt_stats_site_at(s, i);
        double *gram;
        need(lt_stats_load(&gram, s, site.name, "gram", NULL) == LT_OK && lt_stats_count(s, site.name) >= 0.0);
        lt_free(gram);
    }
    lt_stats_close(s);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    char path[64], to[96];
    lt_err err = { 0 };
    lt_import_out out = { 0 };
    if (!model) set_up();
    const int fd = memfd_create("grams", 0);
    need(fd >= 0 && write(fd, data, bytes) == (ssize_t)bytes);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    snprintf(to, sizeof to, "%s/out.stats", folder);
    const lt_import_in in = { path, to, model, "model", true, bytes % 2 ? 10.0 : 0.0 };
    if (lt_stats_import(&out, &in, &err) == LT_OK)
        use(to, &out);
    else
        need(err.code != LT_OK && err.message[0] != 0);
    close(fd);
    return 0;
}
