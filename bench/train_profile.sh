#!/usr/bin/env bash
# Where a training step's time goes, and what a second thread brings: bench/train_profile.sh FOLDER [STEPS [PRESET...]]
# FOLDER: a model. Steps of 4 x 256 tokens with 1 and 2 threads in turn (median of all but the first, losses compared), then
# seven seconds of the steps alone under perf, where perf is there. "products" are the functions of linalg/ that multiply,
# pack and split for it; attention's products and the adapters' are among them, dropout's masks are not.
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:?usage: train_profile.sh FOLDER [STEPS [PRESET...]]} steps=${2:-4}
shift; [ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- lora full
lathe=build/release/lathe objects=build/release/CMakeFiles/lt_linalg_objects.dir/src/linalg
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

heal() { # PRESET STEPS THREADS FOLDER
    rm -rf "$4" "$4.partial"
    exec "$lathe" heal "$model" --preset "$1" --data share/text/wikitext2-valid-slice.txt --seq-len 256 --batch 4 --accumulate 1 \
        --steps "$2" --validation-share 0 --recompute --threads "$3" --quiet -o "$4" >/dev/null
}
seconds() { # the median of all steps but the first
    sed -n 's/.*"seconds":\([0-9.e+-]*\).*/\1/p' "$1/speed.jsonl" | tail -n +2 | sort -g |
        awk '{ v[NR] = $1 } END { printf "%.3f", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
product_symbols() {
    nm --defined-only "$objects"/{gemm,parts,packed,thin}.c.o | awk 'NF == 3 { print $3 }'
    nm --defined-only "$objects"/kernel/isa_*.c.o | awk 'NF == 3 { print $3 }' |
        grep -E '^(tile|pack|left|right|multiply|sum_|store_square|store_|put_)' || true
}
share() { # of the samples in products, in percent
    perf report -i "$1" --no-children -g none --stdio -F overhead,dso,symbol 2>/dev/null | grep -v '^#' | awk -v list="$2" '
        BEGIN { while ((getline line < list) > 0) product[line] = 1 }
        NF >= 3 { p = $1; sub("%", "", p); name = $NF; all += p; if (product[name] || $2 ~ /blas/) sum += p }
        END { if (all > 0) printf "%.1f", 100 * sum / all }'
}
product_symbols | sort -u >"$scratch/products"
for preset in "$@"; do
    for threads in 1 2; do
        (heal "$preset" $((steps + 1)) $threads "$scratch/$threads")
        eval "s$threads=$(seconds "$scratch/$threads")"
    done
    same=$(cmp -s "$scratch/1/metrics.jsonl" "$scratch/2/metrics.jsonl" && echo "the same bytes" || echo "DIFFERENT")
    awk -v p="$preset" -v a="$s1" -v b="$s2" -v same="$same" 'BEGIN {
        printf "%-6s 1 thread %.1f tokens/s, 2 threads %.1f: %.2fx, metrics %s\n", p, 1024 / a, 1024 / b, a / b, same }'
    command -v perf >/dev/null || continue
    heal "$preset" 1000 2 "$scratch/long" 2>/dev/null & pid=$!
    until [ -s "$scratch/long.partial/speed.jsonl" ] && [ "$(wc -l <"$scratch/long.partial/speed.jsonl")" -ge 2 ]; do
        kill -0 $pid || exit 1
        sleep 0.1
    done
    perf record -q -F 499 -o "$scratch/perf" -p $pid -- sleep 7 >/dev/null 2>&1
    kill $pid; wait $pid || true
    echo "$preset: $(share "$scratch/perf" "$scratch/products") % of the time in products; besides:"
    perf report -i "$scratch/perf" --no-children -g none --stdio -F overhead,symbol --percent-limit 0.5 2>/dev/null |
        grep -v '^#' | awk 'NF >= 3' | grep -vwFf "$scratch/products" | head -12
done
