#!/usr/bin/env bash
# lathe against PyTorch and llama.cpp in one run, the programs in turn: bench/peers/run.sh VENV MODEL.gguf [RUNS]
# MODEL.gguf: any GGUF of the model; f32 and f16 files, and a bf16 folder for lathe and transformers, are made from it in a scratch folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:?usage: run.sh VENV MODEL.gguf [RUNS]} gguf=${2:?} runs=${3:-5}
python=$venv/bin/python lathe=build/release/lathe
scratch=${LATHE_BENCH_SCRATCH:-${TMPDIR:-/tmp}/lathe-bench}
mkdir -p "$scratch"
for t in f32 f16; do
    [ -e "$scratch/$t.gguf" ] || "$python" bench/peers/make_gguf.py "$gguf" "$scratch/$t.gguf" $t
    [ -e "$scratch/$t" ] || "$lathe" export "$gguf" --to hf-dense --dtype $t -o "$scratch/$t" >/dev/null
done
[ -e "$scratch/bf16" ] || "$lathe" export "$gguf" --to hf-dense --dtype bf16 -o "$scratch/bf16" >/dev/null

ours() { "$lathe" bench "$@" --runs "$runs" --json --quiet | sed -n 's/.*"tokens_per_second": *\([0-9.]*\).*/\1/p' | head -n 1; }
row() { printf '%-34s %10s %10s %8s\n' "$1" "$2" "$3" "$(awk "BEGIN { printf \"%.2fx\", $2 / $3 }")"; }
printf '%-34s %10s %10s %8s\n' "tokens/s, 2 threads" lathe peer ratio
for window in 512 2048; do
    row "score all, $window, f32: transformers" \
        "$(ours prefill "$scratch/f32/model" --tokens $window --score all)" "$("$python" bench/peers/torch_score.py "$scratch/f32/model" $window "$runs")"
done
row "prefill 512, f32: llama.cpp f32" \
    "$(ours prefill "$scratch/f32/model" --tokens 512 --score last)" "$("$python" bench/peers/llama_cpp.py "$scratch/f32.gguf" prefill 512 "$runs")"
row "prefill 512, f32: llama.cpp f16" \
    "$(ours prefill "$scratch/f32/model" --tokens 512 --score last)" "$("$python" bench/peers/llama_cpp.py "$scratch/f16.gguf" prefill 512 "$runs")"
row "decode 64, bf16: llama.cpp f16" \
    "$(ours decode "$scratch/bf16/model" --tokens 64)" "$("$python" bench/peers/llama_cpp.py "$scratch/f16.gguf" decode 64 "$runs")"
