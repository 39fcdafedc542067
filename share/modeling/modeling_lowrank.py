# SPDX-License-Identifier: Apache-2.0
"""Models whose linears y = Wx + b may be stored as two factors, y = A(Bx) + b.

One class per family, LowRank<stock class>: the stock model, where each linear that config.low_rank_modules names is
replaced by ABLinear. Its two leaves are ordinary torch.nn.Linear, so adapters, quantisers and loaders treat them so.
"""

import torch
import transformers
from transformers.pytorch_utils import Conv1D

from . import configuration_lowrank as configurations

STOCK = {
    "LlamaForCausalLM": "LlamaConfig",
    "MistralForCausalLM": "MistralConfig",
    "Qwen2ForCausalLM": "Qwen2Config",
    "Qwen3ForCausalLM": "Qwen3Config",
    "GPT2LMHeadModel": "GPT2Config",
    "OPTForCausalLM": "OPTConfig",
    "GPTNeoXForCausalLM": "GPTNeoXConfig",
    "Olmo2ForCausalLM": "Olmo2Config",
    "Olmo3ForCausalLM": "Olmo3Config",
    "Phi3ForCausalLM": "Phi3Config",
    "Gemma3ForCausalLM": "Gemma3TextConfig",
}


class ABLinear(torch.nn.Module):
    """y = A(Bx) + b"""

    def __init__(self, in_features, out_features, rank, bias):
        super().__init__()
        self.BLinear = torch.nn.Linear(in_features, rank, bias=False)
        self.ALinear = torch.nn.Linear(rank, out_features, bias=bias)

    def forward(self, x):
        return self.ALinear(self.BLinear(x))


def factored(dense, rank, bias=None):
    out_features, in_features = dense.weight.shape
    if isinstance(dense, Conv1D):  # GPT-2 stores [in, out]
        out_features, in_features = in_features, out_features
    return ABLinear(in_features, out_features, rank, dense.bias is not None if bias is None else bias)


def like(dense, out_features):
    bias = dense.bias is not None
    if not isinstance(dense, Conv1D):
        return torch.nn.Linear(dense.in_features, out_features, bias=bias)
    return Conv1D(out_features, dense.weight.shape[0])


class Parts(torch.nn.Module):
    """A fused linear (q, k, v; gate, up) as one module for each part. Outputs go where the fused matrix has them: one after
    another, or alternating in `groups` runs."""

    def __init__(self, dense, parts, rows, groups):
        super().__init__()
        self.names, self.groups = list(parts), groups
        for name, out_features in zip(parts, rows):
            self.add_module(name, like(dense, out_features))

    def forward(self, x):
        y = [getattr(self, name)(x).unflatten(-1, (self.groups, -1)) for name in self.names]
        return torch.cat(y, -1).flatten(-2)


class LowRankMixin:
    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        for name, how in (getattr(config, "low_rank_parts", None) or {}).items():
            self.set_submodule(name, Parts(self.get_submodule(name), **how))
        for name, how in config.low_rank_modules.items():
            self.set_submodule(name, factored(self.get_submodule(name), **how))


def low_rank_model(stock, config):
    body = {"config_class": config, "__module__": __name__, "__doc__": __doc__}
    return type("LowRank" + stock.__name__, (LowRankMixin, stock), body)


for name, config_name in STOCK.items():
    config = getattr(configurations, "LowRank" + config_name, None)
    if config is not None and hasattr(transformers, name):
        globals()["LowRank" + name] = low_rank_model(getattr(transformers, name), config)
