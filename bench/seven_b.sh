#!/usr/bin/env bash
# Does a model larger than memory go the whole way? bench/seven_b.sh FOLDER [LAYERS [ROWS [LIMIT]]] makes a checkpoint of LLaMA-7B's shape (32 layers:
# 13 GB) and ROWS x 256 tokens in FOLDER once, then runs calibrate, plan (uniform ranks for 80 % of the linears, errors left out) and apply with
# --max-memory and prints seconds, peak RSS and estimate of each. METHOD (whitened) and KEEP (0.8) in the environment are others; fewer than 16 rows
# leave Grams of 4096 inputs singular, which real text does not.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?usage: seven_b.sh FOLDER [LAYERS [ROWS [LIMIT]]]} layers=${2:-32} rows=${3:-24} limit=${4:-8G} method=${METHOD:-whitened} keep=${KEEP:-0.8}
lathe=build/release/lathe
cmake --build build/release --target lathe bench_synthetic >/dev/null
mkdir -p "$folder"
model=$folder/model-$layers stats=$folder/stats.safetensors plan=$folder/plan.json tokens=$folder/tokens-$rows.safetensors
[ -e "$model/model.safetensors" ] || build/release/bench/bench_synthetic "$model" "$layers" 4096 11008 32 32 32000 bf16 1
[ -e "$tokens" ] || "$lathe" tokenize share/models/tiny-llama --input share/text/wikitext2-test-slice.txt \
    --pack 256 --max-rows "$rows" --output "$tokens" --quiet >/dev/null
rm -rf "$stats"* "$plan" "$folder/small" "$folder/small.partial"
du -h "$model/model.safetensors"
step() { # name, command...
    local name=$1 seconds kib predicted
    shift
    predicted=$("$@" --estimate --json --quiet | tr -d '\n' | sed -n 's/.*"memory_bytes": *\([0-9]*\).*/\1/p')
    /usr/bin/time -f "%e %M" -o "$folder/time" "$@" --quiet >/dev/null
    read -r seconds kib < <(tail -n 1 "$folder/time")
    printf '%-10s %8.1f s   peak RSS %6d MiB, estimated %6d MiB\n' "$name" "$seconds" $((kib >> 10)) $((predicted >> 20))
}
step calibrate "$lathe" calibrate "$model" --data "$tokens" --methods "$method" --store f32 --max-memory "$limit" -o "$stats"
step plan "$lathe" plan "$model" --stats "$stats" --method "$method" --allocate uniform --keep "linears=$keep" --no-errors --max-memory "$limit" -o "$plan"
step apply "$lathe" apply "$model" --stats "$stats" --plan "$plan" --max-memory "$limit" -o "$folder/small"
du -h "$folder/small/model" | tail -n 1
