/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "model/adapter_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* An accepted config answers for every module, with options that can be used. */
static void ask(const lt_lora_config *c, const char *module, bool head) {
    lt_err err = { 0 };
    bool yes;
    lt_lora_opts o;
    lt_status st = lt_lora_config_targets(&yes, c, module, head, &err);
    if (st == LT_OK && c->all_linear && head && yes) abort();
    if (st == LT_OK) st = lt_lora_config_opts(&o, c, module, &err);
    if (st == LT_OK && (o.rank < 1 || !isfinite(lt_lora_scale(&o)) || !(o.dropout >= 0 && o.dropout < 1))) abort();
    if (st != LT_OK && (err.code == LT_OK || err.message[0] == 0)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    lt_err err = { 0 };
    lt_lora_config c;
    if (lt_lora_config_parse(&c, (const char *)data, bytes, "fuzz", &err) != LT_OK) {
        if (c.raw || err.code == LT_OK || err.message[0] == 0) abort();
        return 0;
    }
    ask(&c, "model.layers.0.self_attn.q_proj", false);
    ask(&c, "model.layers.11.mlp.down_proj.BLinear", false);
    ask(&c, "lm_head", true);
    lt_lora_config_clear(&c);
    return 0;
}
