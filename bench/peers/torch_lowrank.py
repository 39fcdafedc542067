"""Whitened low rank the usual way: torch_lowrank.py FOLDER TOKENS.safetensors LENGTH KEEP OUT.safetensors -> "seconds peak-RSS-bytes"

Hooks on every linear of the layers sum X'X and Y'Y over the rows of ids (batches of 4); then, layer by layer, eigh of Y'Y (utilized bases, and what a plan
predicts errors with; f32) and, in f64, the Cholesky factor of X'X and the SVD of W L, cut at the uniform rank (SVD-LLM, as published). The factors are
saved as f32. Seconds without imports and without loading the model.
"""
import resource
import sys
import time

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

folder, tokens, length, keep, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
torch.set_num_threads(2)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
model.config.use_cache = False
ids = load_file(tokens)["input_ids"].long().view(-1, length)
start = time.perf_counter()
linears = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and ".layers." in n}
inputs, outputs = {}, {}


def summing(name):
    def hook(module, args, y):
        x, y = args[0].flatten(0, -2), y.flatten(0, -2)
        if name in inputs:
            inputs[name].addmm_(x.T, x)
            outputs[name].addmm_(y.T, y)
        else:
            inputs[name], outputs[name] = x.T @ x, y.T @ y

    return hook


hooks = [m.register_forward_hook(summing(n)) for n, m in linears.items()]
with torch.no_grad():
    for batch in ids.split(4):
        model.model(input_ids=batch)
    for h in hooks:
        h.remove()
    spectra = {name: torch.linalg.eigh(gram)[0] for name, gram in outputs.items()}
    state, predicted = dict(model.state_dict()), []
    for name, module in linears.items():
        w, c = module.weight.double(), inputs[name].double()
        rank = int(keep * w.numel() / sum(w.shape))
        predicted.append(float(spectra[name][:-rank].sum() / spectra[name].sum()))
        factor, info = torch.linalg.cholesky_ex(c)
        if info:
            c.diagonal().add_(1e-6 - torch.linalg.eigvalsh(c)[0])
            factor = torch.linalg.cholesky(c)
        u, s, vt = torch.linalg.svd(w @ factor, full_matrices=False)
        root = s[:rank].sqrt()
        b = torch.linalg.solve_triangular(factor.T, (root[:, None] * vt[:rank]).T, upper=True).T
        state.pop(name + ".weight")
        state[name + ".ALinear.weight"] = (u[:, :rank] * root).float().contiguous()
        state[name + ".BLinear.weight"] = b.float().contiguous()
    state.pop("lm_head.weight", None)  # tied
    save_file(state, out)
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(f"{time.perf_counter() - start:.2f} {rss}")
print(f"predicted relative error {sum(predicted) / len(predicted):.4f}", file=sys.stderr)
