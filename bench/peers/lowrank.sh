#!/usr/bin/env bash
# Statistics, plan and apply of whitened low rank against the usual PyTorch way on the same tokens, the programs in turn:
#   bench/peers/lowrank.sh VENV FOLDER [ROWS [LENGTH [KEEP]]]
# FOLDER: a model. Seconds are those of whole commands, three of lathe (with opening and verification) and one of Python; torch's are also told without
# imports and loading.
set -euo pipefail
cd "$(dirname "$0")/../.."
usage="usage: lowrank.sh VENV FOLDER [ROWS [LENGTH [KEEP]]]"
venv=${1:?$usage} model=${2:?$usage} rows=${3:-32} length=${4:-512} keep=${5:-0.8}
python=$venv/bin/python lathe=build/release/lathe
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$lathe" tokenize "$model" --input share/text/wikitext2-valid-slice.txt --pack "$length" --max-rows "$rows" --output "$scratch/tokens.safetensors" --quiet >/dev/null
total=0 peak=0
step() { # name, verb...
    local name=$1 seconds kib
    shift
    /usr/bin/time -f "%e %M" -o "$scratch/time" "$lathe" "$@" --threads 2 --quiet >/dev/null
    read -r seconds kib < <(tail -n 1 "$scratch/time")
    printf '%-34s %8.2f s %8d MiB\n' "lathe $name" "$seconds" $((kib >> 10))
    total=$(awk "BEGIN { print $total + $seconds }")
    [ "$kib" -le "$peak" ] || peak=$kib
}
printf '%s rows of %s tokens, whitened, uniform ranks for %s of the linears, 2 threads\n' "$rows" "$length" "$keep"
step calibrate calibrate "$model" --data "$scratch/tokens.safetensors" --methods whitened -o "$scratch/stats.safetensors"
step plan plan "$model" --stats "$scratch/stats.safetensors" --method whitened --allocate uniform --keep "linears=$keep" --no-errors -o "$scratch/plan.json"
step apply apply "$model" --stats "$scratch/stats.safetensors" --plan "$scratch/plan.json" -o "$scratch/small"
/usr/bin/time -f "%e" -o "$scratch/time" \
    "$python" bench/peers/torch_lowrank.py "$model" "$scratch/tokens.safetensors" "$length" "$keep" "$scratch/torch.safetensors" >"$scratch/told"
read -r inner rss <"$scratch/told"
seconds=$(tail -n 1 "$scratch/time")
printf '%-34s %8.2f s %8d MiB\n' "lathe together" "$total" $((peak >> 10)) "torch" "$seconds" $((rss >> 20))
printf '%-34s %8.2f s\n' "torch without imports and loading" "$inner"
awk "BEGIN { printf \"%.2f times as fast (%.2f without imports and loading), %.2f of the memory\\n\", $seconds / $total, $inner / $total, $peak * 1024 / $rss }"
