#!/usr/bin/env bash
# lathe's training against PyTorch's (and peft's) in one run, the programs in turn: bench/peers/train.sh VENV FOLDER [STEPS [keep]]
# FOLDER: a model in f32 (bench/peers/run.sh makes one). Steps of 4 x 256 tokens, LoRA of rank 8 on all linears and everything.
# Both run layers again for gradients; keep: both keep what the layers made instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:?usage: train.sh VENV FOLDER [STEPS [keep]]} model=${2:?usage: train.sh VENV FOLDER [STEPS [keep]]} steps=${3:-5} layers=${4:-recompute}
recompute=--recompute
[ "$layers" = recompute ] || recompute=--no-recompute
python=$venv/bin/python lathe=build/release/lathe
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# "tokens/s peak-RSS-bytes": the median of all steps but the first, which allocates
ours() {
    rm -rf "$scratch/out"
    "$lathe" heal "$model" --preset "$1" --data share/text/wikitext2-valid-slice.txt --seq-len 256 --batch 4 --accumulate 1 \
        --steps $((steps + 1)) --validation-share 0 $recompute --threads 2 --quiet -o "$scratch/out" >/dev/null
    sed -n 's/.*"tokens_per_s":\([0-9.e+]*\).*/\1/p' "$scratch/out/speed.jsonl" | tail -n "$steps" | sort -g |
        awk '{ v[NR] = $1 } END { printf "%.1f ", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
    tail -n 1 "$scratch/out/speed.jsonl" | sed 's/.*"peak_rss_bytes":\([0-9]*\).*/\1/'
}
printf '%-28s %10s %10s %8s %12s %12s\n' "4 x 256 tokens, 2 threads" lathe torch ratio "lathe MiB" "torch MiB"
for what in lora full; do
    read -r a a_rss < <(ours $what)
    read -r b b_rss < <("$python" bench/peers/torch_train.py "$model" $what "$steps" "$layers")
    printf '%-28s %10s %10s %8s %12s %12s\n' "$what, tokens/s" "$a" "$b" "$(awk "BEGIN { printf \"%.2fx\", $a / $b }")" \
        "$((a_rss >> 20))" "$((b_rss >> 20))"
done
