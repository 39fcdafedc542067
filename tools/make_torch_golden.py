#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/torch: files of torch.save, a tiny model as pytorch_model.bin (whole and in shards) and as safetensors, and
pickles that must be refused. Made with torch 2.15.0, safetensors, numpy; run from the repository."""
import collections, io, json, os, pickle, shutil, zipfile

import torch
from safetensors.torch import save_file

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "torch")


def values():
    base = torch.arange(24, dtype=torch.float32)
    d = collections.OrderedDict()
    d["f32"] = base.clone().reshape(4, 6)
    d["shared.rows"] = base.reshape(6, 4)[2:5]  # an offset into a storage
    d["shared.wide"] = base.reshape(4, 6)[:, :4]  # rows apart
    d["shared.transposed"] = base.reshape(4, 6).t()
    d["shared.every_other"] = base[1::2]
    d["f16"] = torch.tensor([1.5, -2.0], dtype=torch.float16)
    d["bf16"] = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    d["f64"] = torch.tensor([1.5, -2.0], dtype=torch.float64)
    d["i64"] = torch.tensor([[-1, 2]], dtype=torch.int64)
    d["bool"] = torch.tensor([True, False, True])
    d["scalar"] = torch.tensor(3.0)
    d["empty"] = torch.zeros(0, 5)
    d["parameter"] = torch.nn.Parameter(torch.tensor([7.0]))
    return d


def tiny():
    g = torch.Generator().manual_seed(1)
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=8, intermediate_size=12, num_hidden_layers=1,
                  num_attention_heads=2, num_key_value_heads=1, head_dim=4, vocab_size=16, max_position_embeddings=32, rms_norm_eps=1e-5,
                  hidden_act="silu", tie_word_embeddings=True, torch_dtype="float32")
    shapes = {"model.embed_tokens": (16, 8), "model.norm": (8,), "model.layers.0.input_layernorm": (8,),
              "model.layers.0.post_attention_layernorm": (8,), "model.layers.0.self_attn.q_proj": (8, 8),
              "model.layers.0.self_attn.k_proj": (4, 8), "model.layers.0.self_attn.v_proj": (4, 8),
              "model.layers.0.self_attn.o_proj": (8, 8), "model.layers.0.mlp.gate_proj": (12, 8), "model.layers.0.mlp.up_proj": (12, 8),
              "model.layers.0.mlp.down_proj": (8, 12)}
    state = {k + ".weight": torch.randn(s, generator=g) for k, s in shapes.items()}
    return config, state


def folder(name, config):
    path = os.path.join(OUT, name)
    os.makedirs(path)
    json.dump(config, open(os.path.join(path, "config.json"), "w"), indent=1)
    return path


def archive(name, data, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(os.path.join(OUT, name), "w", method) as z:
        z.writestr("archive/data.pkl", data)
        z.writestr("archive/version", "3\n")


class Call:
    def __init__(self, f, *args):
        self.f, self.args = f, args

    def __reduce__(self):
        return self.f, self.args


shutil.rmtree(OUT, ignore_errors=True)
os.makedirs(OUT)
for protocol in (2, 3, 4, 5):
    torch.save(values(), os.path.join(OUT, f"values-{protocol}.bin"), pickle_protocol=protocol)
torch.save({"a": torch.zeros(2)}, os.path.join(OUT, "legacy.bin"), _use_new_zipfile_serialization=False)
torch.save({"a": torch.zeros(2).expand(3, 2)}, os.path.join(OUT, "expanded.bin"))
torch.save({"a": torch.zeros(2, dtype=torch.int16)}, os.path.join(OUT, "i16.bin"))
torch.save({"epoch": 3, "model": {}}, os.path.join(OUT, "checkpoint.bin"))
torch.save([torch.zeros(2)], os.path.join(OUT, "list.bin"))
archive("system.bin", pickle.dumps({"a": Call(os.system, "true")}, protocol=2))
archive("eval.bin", pickle.dumps({"a": Call(eval, "1")}, protocol=4))
archive("object.bin", pickle.dumps({"a": collections.Counter()}, protocol=2))
archive("newobj.bin", b"\x80\x02ccollections\nOrderedDict\n)\x81.")
archive("inst.bin", b"\x80\x02(icollections\nOrderedDict\n.")
archive("bytes.bin", pickle.dumps({"a": b"xyz"}, protocol=3))
archive("packed.bin", b"\x80\x02}.", zipfile.ZIP_DEFLATED)

config, state = tiny()
path = folder("tiny-safetensors", config)
save_file(state, os.path.join(path, "model.safetensors"), metadata={"format": "pt"})
path = folder("tiny-bin", config)
whole = dict(state)
whole["lm_head.weight"] = state["model.embed_tokens.weight"]  # tied: one storage, two names
torch.save(collections.OrderedDict(whole), os.path.join(path, "pytorch_model.bin"))
path = folder("tiny-sharded", config)
names = list(state)
index = {"metadata": {}, "weight_map": {}}
for i, part in enumerate((names[:5], names[5:])):
    file = f"pytorch_model-{i + 1:05d}-of-00002.bin"
    torch.save({k: state[k] for k in part}, os.path.join(path, file))
    index["weight_map"].update({k: file for k in part})
json.dump(index, open(os.path.join(path, "pytorch_model.bin.index.json"), "w"), indent=1)
