"""llama.cpp through its Python binding: llama_cpp.py FILE.gguf prefill|decode TOKENS RUNS -> tokens/s (median)

prefill: last-token logits of a prompt of TOKENS; decode: greedy steps after a prompt of 16. Flash attention on, 2 threads."""
import statistics, sys, time
sys.path.pop(0)  # this file's name must not hide the package
from llama_cpp import Llama

path, mode, tokens, runs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
llm = Llama(path, n_ctx=max(1024, tokens + 64), n_batch=max(512, tokens), n_ubatch=512, n_threads=2, n_threads_batch=2,
            flash_attn=True, verbose=False)
prompt = [(i * 7919) % 40000 + 100 for i in range(tokens)]
times = []
for r in range(runs + 1):
    llm.reset()
    if mode == "prefill":
        start = time.perf_counter()
        llm.eval(prompt)
    else:
        llm.eval(prompt[:16])
        start = time.perf_counter()
        for i in range(tokens):
            llm.eval([prompt[i]])
    if r:
        times.append(time.perf_counter() - start)
print(f"{tokens / statistics.median(times):.1f}")
