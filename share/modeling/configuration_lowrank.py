# SPDX-License-Identifier: Apache-2.0
"""Configurations of models whose linears are stored as two factors.

One class per family, LowRank<stock class>: the stock configuration under a model_type of its own, so that a loader
that does not know the form refuses the folder. The members low_rank_* say which linears are factored.
"""

import transformers

STOCK = (
    "LlamaConfig",
    "MistralConfig",
    "Qwen2Config",
    "Qwen3Config",
    "GPT2Config",
    "OPTConfig",
    "GPTNeoXConfig",
    "Olmo2Config",
    "Olmo3Config",
    "Phi3Config",
    "Gemma3TextConfig",
)


def low_rank_config(stock):
    body = {"model_type": "lowrank_" + stock.model_type, "__module__": __name__, "__doc__": __doc__}
    return type("LowRank" + stock.__name__, (stock,), body)


for name in STOCK:
    if hasattr(transformers, name):  # older releases lack the youngest families
        globals()["LowRank" + name] = low_rank_config(getattr(transformers, name))
