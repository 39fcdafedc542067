# SPDX-License-Identifier: Apache-2.0
# Through the program to the perplexities that float64 gives for the same calibration tokens (golden/compress/README.md; f32 gap 3e-8, ten times
# that and a little for the f32 factors).
. "$(dirname "$0")/common.sh"
golden=$SHARED/golden/compress
need "$golden/tokens.safetensors"
model=$golden/tiny-llama
cd "$TMP" || exit 1
check "$HELPER" pick "$golden/tokens.safetensors" calib.safetensors input_ids=calib
check "$HELPER" pick "$golden/tokens.safetensors" test.safetensors input_ids=test
expect 0 "" "$LATHE" calibrate "$model" --data calib.safetensors -o s.safetensors

# near GOT WANT
near() { awk "BEGIN { g = $1 / $2 - 1; exit !(g < 1e-6 && g > -1e-6) }" || fail "perplexity $1, golden $2 ($3)"; }
ppl() {
    expect 0 "" "$LATHE" evaluate perplexity "$1" --data test.safetensors --json
    "$HELPER" get stdout models.0.ppl
}
near "$(ppl "$model")" "$("$HELPER" get "$golden/apply_tiny-llama.json" dense_ppl)" dense
for keep in 0.8 0.6 0.4; do
    for case in whitened_uniform weight_svd_uniform whitened_budget; do
        method=${case%_*} allocate=uniform
        [ "${case##*_}" = budget ] && allocate=global
        expect 0 "" "$LATHE" plan "$model" --method $method --stats s.safetensors --keep linears=$keep --allocate $allocate -o $case$keep.json
        expect 0 "" "$LATHE" apply "$model" --plan $case$keep.json --stats s.safetensors -o $case$keep
        near "$(ppl $case$keep)" "$("$HELPER" get "$golden/apply_tiny-llama.json" "cases/${case}_$keep/ppl")" "$case $keep"
    done
done
# two halves of the text, merged, are the whole
"$LATHE" stats merge s.safetensors s.safetensors -o twice.safetensors >/dev/null || fail "stats merge"
expect 0 "" "$LATHE" plan "$model" --stats twice.safetensors --keep linears=0.6 --allocate uniform -o merged.json
expect 0 "" "$LATHE" apply "$model" --plan merged.json --stats twice.safetensors -o merged
near "$(ppl merged)" "$("$HELPER" get "$golden/apply_tiny-llama.json" "cases/whitened_uniform_0.6/ppl")" "twice the same text"
done_testing
