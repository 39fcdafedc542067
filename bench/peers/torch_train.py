"""Training steps on the CPU: torch_train.py FOLDER lora|full STEPS recompute|keep -> "tokens/s (median) peak-RSS-bytes"

Batches of 4 x 256 random ids, f32, AdamW, clipping at 1; LoRA (peft) of rank 8 on every linear of the layers. recompute:
gradient checkpointing of layers, as lathe's --recompute.
"""
import resource
import statistics
import sys
import time

import torch
from transformers import AutoModelForCausalLM

folder, what, steps, layers = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(2)
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
if what == "lora":
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear"))
    model.enable_input_require_grads()
if layers == "recompute":
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
model.config.use_cache = False
model.train()
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.01)
times = []
for step in range(steps + 1):
    ids = torch.randint(100, model.config.vocab_size - 100, (4, 256))
    start = time.perf_counter()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    loss.item()
    if step:  # the first allocates
        times.append(time.perf_counter() - start)
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(f"{4 * 256 / statistics.median(times):.1f} {rss}")
