#!/usr/bin/env bash
# Does --max-memory hold on a model larger than the limit? bench/memory.sh [FOLDER] makes a LLaMA-shaped checkpoint of 3 GiB once,
# then runs calibrate and perplexity with --max-memory 1G and prints predicted and measured peaks.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=${1:-${TMPDIR:-/tmp}/lathe-memory}
lathe=build/release/lathe
cmake --build build/release --target bench_synthetic >/dev/null
mkdir -p "$scratch"
[ -e "$scratch/model/model.safetensors" ] || build/release/bench/bench_synthetic "$scratch/model" 30 2048 5632 16 16 32000 bf16 1
[ -e "$scratch/tokens.safetensors" ] || "$lathe" tokenize share/models/tiny-llama --input share/text/wikitext2-test-slice.txt \
    --pack 256 --max-rows 8 --output "$scratch/tokens.safetensors" --quiet >/dev/null
du -h "$scratch/model/model.safetensors"
measure() { # name, command...
    local name=$1
    shift
    /usr/bin/time -f "%M" -o "$scratch/rss" "$@" --json --quiet >"$scratch/$name.json"
    awk -v name="$name" -v rss="$(tail -n 1 "$scratch/rss")" -v json="$(tr -d '\n' <"$scratch/$name.json")" 'BEGIN {
        match(json, /"predicted_bytes": *[0-9]+/); split(substr(json, RSTART, RLENGTH), p, ": *")
        printf "%-12s predicted %7.1f MiB   measured %7.1f MiB   measured / predicted %.2f\n", name, p[2] / 1048576, rss / 1024, rss * 1024 / p[2] }'
}
rm -rf "$scratch/stats.safetensors"*
measure calibrate "$lathe" calibrate "$scratch/model" --data "$scratch/tokens.safetensors" --methods whitened --max-memory 1G -o "$scratch/stats.safetensors"
measure perplexity "$lathe" evaluate perplexity "$scratch/model" --data "$scratch/tokens.safetensors" --max-memory 1G
