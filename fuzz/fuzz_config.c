/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "model/family.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* An accepted config has sizes that can be used, and what is written from it is accepted again. */
static void use(const lt_family *f, const lt_config *c) {
    double freq[64];
    lt_err err = { 0 };
    if (c->n_layers == 0 || !c->layer || c->layer[0].n_q_heads % c->layer[0].n_k_heads != 0) abort();
    for (int a = LT_AXIS_NONE; a < LT_N_AXES; a++)
        if (lt_axis_size((lt_axis)a, c, &c->layer[0]) == 0) abort();
    if (c->rope[0].dim <= 128) lt_rope_frequencies(freq, &c->rope[0]);
    json_t *out = NULL;
    if (lt_family_write_config(f, &out, c, &err) != LT_OK) abort();
    lt_config again = { .raw = out };
    if (lt_family_read_config(f, &again, out, "written", &err) != LT_OK || again.d_model != c->d_model ||
        again.layer[0].qk_dim != c->layer[0].qk_dim)
        abort();
    lt_config_clear(&again);
}

static void finish(const lt_family *f, lt_config *c, lt_status st, const lt_err *err) {
    if (st == LT_OK)
        use(f, c);
    else if (err->code == LT_OK || err->message[0] == 0)
        abort();
    lt_config_clear(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    for (const lt_family *const *f = lt_families; *f; f++) {
        lt_err err = { 0 };
        lt_config c = { 0 };
        lt_gguf *g;
        if (bytes > 4 && memcmp(data, "GGUF", 4) == 0) {
            if (lt_gguf_from_memory(&g, data, bytes, "fuzz", &err) != LT_OK) return 0;
            const lt_status st = lt_family_read_gguf(*f, &c, g, &err);
            finish(*f, &c, st, &err);
            lt_gguf_close(g);
        } else {
            if (lt_json_parse(&c.raw, (const char *)data, bytes, "fuzz", &err) != LT_OK) return 0;
            const lt_status st = lt_family_read_config(*f, &c, c.raw, "fuzz", &err);
            finish(*f, &c, st, &err);
        }
    }
    return 0;
}
