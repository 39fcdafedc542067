/* SPDX-License-Identifier: Apache-2.0 */
/* pipeline/inspect_adapter.c - a PEFT folder, without the model that it belongs to. */
#include "pipeline/inspect.h"

#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "pipeline/result.h"

static const char *const shown[] = {
    "peft_type",
    "base_model_name_or_path",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "use_dora",
    "bias",
    "fan_in_fan_out",
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "peft_version",
};

static void config_table(const lt_inspect *in, const json_t *config) {
    const lt_props p = lt_props_begin(in->result, "adapter");
    lt_prop(&p, "path", json_string(in->path));
    for (size_t i = 0; i < LT_COUNTOF(shown); i++) {
        json_t *v = json_object_get(config, shown[i]);
        const bool empty = !v || json_is_null(v) || (json_is_object(v) && json_object_size(v) == 0);
        if (!empty) lt_prop(&p, shown[i], json_incref(v));
    }
}

static void weights_table(const lt_inspect *in, const lt_safetensors *st) {
    static const char *const columns[] = { "tensor", "type and shape", "bytes|B" };
    enum { FEW = 40 };
    const lt_props p = lt_props_begin(in->result, "weights");
    size_t params = 0, bytes = 0, modules = 0;
    char text[96];
    for (size_t i = 0; i < lt_safetensors_count(st); i++) {
        const lt_st_entry *e = lt_safetensors_at(st, i);
        params += lt_tensor_count(&e->tensor);
        bytes += lt_tensor_bytes(&e->tensor);
        modules += strstr(e->name, ".lora_A.") != NULL;
    }
    lt_prop(&p, "adapted modules", json_integer((json_int_t)modules));
    lt_prop(&p, "parameters", json_integer((json_int_t)params));
    lt_prop(&p, "bytes|B", json_integer((json_int_t)bytes));
    if (!in->all && lt_safetensors_count(st) > FEW) return;
    json_t *rows = lt_result_table(in->result, "tensors", columns, LT_COUNTOF(columns));
    for (size_t i = 0; i < lt_safetensors_count(st); i++) {
        const lt_st_entry *e = lt_safetensors_at(st, i);
        lt_result_row(rows, "ssz", e->name, lt_tensor_describe(&e->tensor, text, sizeof text),
                      lt_tensor_bytes(&e->tensor));
    }
}

lt_status lt_inspect_adapter(const lt_inspect *in, lt_err *err) {
    char *config = lt_path_join(in->path, "adapter_config.json"),
         *weights = lt_path_join(in->path, "adapter_model.safetensors");
    json_t *j = NULL;
    lt_safetensors *st = NULL;
    lt_status s = config && weights ? LT_OK : lt_fail(err, LT_ENOMEM, "%s: out of memory", in->path);
    if (s == LT_OK) s = lt_json_load(&j, config, err);
    if (s == LT_OK && !json_is_object(j)) s = lt_fail(err, LT_EDATA, "adapter config is not an object (%s)", config);
    if (s == LT_OK) s = lt_safetensors_open(&st, weights, err);
    if (s == LT_OK) {
        config_table(in, j);
        weights_table(in, st);
    }
    lt_safetensors_close(st);
    json_decref(j);
    lt_free(config);
    lt_free(weights);
    return s;
}
