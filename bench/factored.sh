#!/usr/bin/env bash
# How much of the FLOPs that factored models save their time gives back: bench/factored.sh MODEL TEXT [FOLDER]
# Compresses MODEL twice (whitened, 80 % and half of the linears), once for all runs, into FOLDER; then base and factored models take turns:
# prefill of 512 and 2048 tokens, 64 steps of decoding. ISA, RUNS and ONLY in the environment are those of bench_factored.
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:?usage: factored.sh MODEL TEXT [FOLDER]} text=${2:?usage: factored.sh MODEL TEXT [FOLDER]} folder=${3:-${TMPDIR:-/tmp}/lathe-factored}
lathe=build/release/lathe
cmake --build build/release --target lathe bench_factored >/dev/null
for keep in 0.8 0.5; do
    [ -e "$folder/$keep/result.json" ] || "$lathe" compress "$model" --method whitened --keep linears=$keep --data "$text" --max-rows 16 \
        --no-compare --no-speed --no-q8 --quiet -o "$folder/$keep" >/dev/null
done
GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-2000} exec build/release/bench/bench_factored "$model" "$folder/0.8/model" "$folder/0.5/model"
