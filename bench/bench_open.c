/* SPDX-License-Identifier: Apache-2.0 */
/* bench_open FOLDER [runs]: how long opening a sharded checkpoint of 10 GB takes. The folder is made when it is not
 * there: a LLaMA of 7B widths in bf16, 24 layers, one shard a layer, as sparse files (holes take no disk). Prints the
 * seconds of each run; the first of a fresh folder finds nothing in the page cache but what writing left. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "model/model.h"

enum { LAYERS = 24, D = 4096, FF = 11008, VOCAB = 32000, HEADS = 32 };

typedef struct shard {
    json_t *header;
    size_t bytes;
} shard;

static void put(shard *s, json_t *map, const char *file, const char *name, size_t rows, size_t cols) {
    const size_t n = rows * (cols ? cols : 1) * 2;
    json_t *shape = cols ? json_pack("[I, I]", (json_int_t)rows, (json_int_t)cols) : json_pack("[I]", (json_int_t)rows);
    json_object_set_new(s->header, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", "BF16", "shape", shape, "data_offsets",
                                  (json_int_t)s->bytes, (json_int_t)(s->bytes + n)));
    json_object_set_new(map, name, json_string(file));
    s->bytes += n;
}

static void put_layer(shard *s, json_t *map, const char *file, size_t l) {
    static const struct {
        const char *name;
        size_t rows, cols;
    } parts[] = { { "input_layernorm", D, 0 },  { "self_attn.q_proj", D, D }, { "self_attn.k_proj", D, D },
                  { "self_attn.v_proj", D, D }, { "self_attn.o_proj", D, D }, { "post_attention_layernorm", D, 0 },
                  { "mlp.gate_proj", FF, D },   { "mlp.up_proj", FF, D },     { "mlp.down_proj", D, FF } };
    char name[96];
    for (size_t i = 0; i < LT_COUNTOF(parts); i++) {
        snprintf(name, sizeof name, "model.layers.%zu.%s.weight", l, parts[i].name);
        put(s, map, file, name, parts[i].rows, parts[i].cols);
    }
}

static bool write_shard(const shard *s, const char *path) {
    char *text = json_dumps(s->header, JSON_COMPACT);
    const size_t used = strlen(text),
                 n = (used + 7) / 8 * 8; /* padded, as every writer does: data that is not aligned is copied */
    uint8_t length[8];
    text = realloc(text, n + 1);
    if (!text) return false;
    memset(text + used, ' ', n - used);
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)n >> (8 * i));
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    const bool fine = fd >= 0 && write(fd, length, 8) == 8 && write(fd, text, n) == (ssize_t)n &&
                      ftruncate(fd, (off_t)(8 + n + s->bytes)) == 0;
    if (fd >= 0) close(fd);
    free(text);
    return fine;
}

static lt_status save(json_t *j, const char *folder, const char *name, lt_err *err) {
    char *path = lt_path_join(folder, name);
    const lt_status st = lt_json_save(j, path, err);
    lt_free(path);
    json_decref(j);
    return st;
}

static lt_status make(const char *folder, lt_err *err) {
    json_t *map = json_object();
    LT_TRY(lt_make_dirs(folder, err));
    for (size_t l = 0; l <= LAYERS; l++) {
        char file[64];
        shard s = { .header = json_object() };
        snprintf(file, sizeof file, "model-%05zu-of-%05d.safetensors", l + 1, LAYERS + 1);
        if (l < LAYERS) {
            put_layer(&s, map, file, l);
        } else {
            put(&s, map, file, "model.embed_tokens.weight", VOCAB, D);
            put(&s, map, file, "model.norm.weight", D, 0);
            put(&s, map, file, "lm_head.weight", VOCAB, D);
        }
        char *path = lt_path_join(folder, file);
        const bool fine = write_shard(&s, path);
        lt_free(path);
        json_decref(s.header);
        if (!fine) return lt_fail(err, LT_EIO, "cannot write %s", file);
    }
    LT_TRY(save(json_pack("{s:{}, s:o}", "metadata", "weight_map", map), folder, "model.safetensors.index.json", err));
    return save(json_pack("{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:f}", "architectures", "LlamaForCausalLM",
                          "model_type", "llama", "hidden_size", D, "intermediate_size", FF, "num_hidden_layers", LAYERS,
                          "num_attention_heads", HEADS, "vocab_size", VOCAB, "max_position_embeddings", 4096,
                          "rms_norm_eps", 1e-5),
                folder, "config.json", err);
}

int main(int argc, char **argv) {
    lt_err err = { 0 };
    const int runs = argc > 2 ? atoi(argv[2]) : 5;
    if (argc < 2) {
        fprintf(stderr, "usage: bench_open FOLDER [runs]\n");
        return 2;
    }
    if (!lt_path_exists(argv[1]) && make(argv[1], &err) != LT_OK) {
        fprintf(stderr, "%s\n", err.message);
        return err.code;
    }
    for (int i = 0; i < runs; i++) {
        lt_model *m;
        const double start = lt_seconds();
        if (lt_model_open(&m, argv[1], &err) != LT_OK) {
            fprintf(stderr, "%s\n", err.message);
            return err.code;
        }
        printf("opened %.2f GB in %.4f s\n", (double)lt_model_bytes(m) / 1e9, lt_seconds() - start);
        lt_model_destroy(m);
    }
    return 0;
}
