"""Scores every token of random windows with transformers on the CPU: torch_score.py FOLDER WINDOW RUNS -> tokens/s (median)"""
import statistics, sys, time
import torch
from transformers import AutoModelForCausalLM

folder, window, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(2)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = torch.randint(100, model.config.vocab_size - 100, (1, window), generator=torch.Generator().manual_seed(1))
times = []
with torch.inference_mode():
    for r in range(runs + 1):
        start = time.perf_counter()
        logits = model(ids).logits[0, :-1]
        nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
        nll.item()
        if r:
            times.append(time.perf_counter() - start)
print(f"{window / statistics.median(times):.1f}")
