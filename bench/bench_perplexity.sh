#!/usr/bin/env bash
# Perplexity of a model by the block protocol: tokens per second, FLOP/s, and the share of the machine's sgemm rate that this is.
#   bench/bench_perplexity.sh MODEL TEXT [WINDOW [WINDOWS [RUNS]]]      one run per line; the first one also reads the weights
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:?usage: bench_perplexity.sh MODEL TEXT [WINDOW [WINDOWS [RUNS]]]} text=${2:?} window=${3:-2048} windows=${4:-4} runs=${5:-3}
lathe=${LATHE:-build/release/lathe}
number() { sed -n "s/.*\"$1\": *\([0-9.e+]*\).*/\1/p" <<<"$2" | head -n 1; }

for ((i = 1; i <= runs; i++)); do
    # the rate of products is measured beside each run: it changes with what else the machine does
    rate=$(number gemm_flops_per_s "$("$lathe" evaluate perplexity "$model" --data "$text" --window "$window" --max-windows "$windows" --estimate --json --quiet)")
    out=$("$lathe" evaluate perplexity "$model" --data "$text" --window "$window" --max-windows "$windows" --json --quiet)
    awk -v run=$i -v ppl="$(number ppl "$out")" -v tok="$(number tokens_per_s "$out")" -v flops="$(number flops_per_s "$out")" -v rate="$rate" 'BEGIN {
        printf "run %d: ppl %.6g, %.0f tokens/s, %.1f GFLOP/s, %.0f %% of sgemm (%.1f GFLOP/s)\n", run, ppl, tok, flops / 1e9, 100 * flops / rate, rate / 1e9 }'
done
