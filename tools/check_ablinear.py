#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does transformers open a factored folder, and does it compute what lathe computes?

  lathe forward DIR --input batch.safetensors --output values.safetensors --outputs logits
  tools/check_ablinear.py DIR/model batch.safetensors values.safetensors

Prints the largest difference of the logits over the largest logit and what was missing, unexpected or left at random;
exit 1 beyond 1e-5. Eager attention: the other kinds of transformers ignore GPT-2's scale_attn_by_inverse_layer_idx.
"""

import sys

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

folder, batch, values = sys.argv[1:]
model, loading = AutoModelForCausalLM.from_pretrained(
    folder, trust_remote_code=True, output_loading_info=True, attn_implementation="eager", dtype=torch.float32
)
with torch.no_grad():
    got = model.eval()(load_file(batch)["input_ids"].long()).logits
want = load_file(values)["logits"]
gap = ((got - want).abs().max() / want.abs().max()).item()
factored = sum(type(module).__name__ == "ABLinear" for module in model.modules())
left = {kind: keys for kind, keys in loading.items() if keys}
print(f"{type(model).__name__}: {factored} factored linears, logits differ by {gap:.2g}, loading left {left or 'nothing'}")
sys.exit(gap > 1e-5 or bool(left) or factored == 0)
