# SPDX-License-Identifier: Apache-2.0
# Every family goes the whole road: calibrate, plan, apply (reopened and verified), the factored model run again, and multiplied out to a stock
# checkpoint whose logits are those of the factored one.
. "$(dirname "$0")/common.sh"
models=$SHARED/golden/models
need "$models/gpt2"
cd "$TMP" || exit 1

for name in mistral qwen2 qwen3 gpt2 gpt2-untied opt opt-350m neox-parallel neox-sequential olmo2 olmo3 phi3 gemma3-text; do
    check "$HELPER" pick "$models/$name/golden.safetensors" in.safetensors input_ids=input_ids
    expect 0 "" "$LATHE" calibrate "$models/$name" --data in.safetensors -o "$name.st"
    expect 0 "" "$LATHE" plan "$models/$name" --method whitened --stats "$name.st" --keep linears=0.7 -o "$name.json"
    expect 0 "" "$LATHE" apply "$models/$name" --plan "$name.json" --stats "$name.st" -o "$name-small"
    expect 0 "" "$LATHE" export "$name-small" --to hf-dense -o "$name-dense"
    expect 0 "" "$LATHE" forward "$name-small" --input in.safetensors --output small.safetensors
    expect 0 "" "$LATHE" forward "$name-dense" --input in.safetensors --output dense.safetensors
    check "$HELPER" close small.safetensors logits dense.safetensors logits 2e-5
    want=$("$HELPER" get "$models/$name/config.json" model_type)
    dense=$name-dense
    [ -e "$dense/config.json" ] || dense=$dense/model
    [ "$("$HELPER" get "$dense/config.json" model_type)" = "$want" ] || fail "$name: not a stock $want"
    grep -q "low_rank" "$dense/config.json" && fail "$name: low-rank fields in a stock config"
done
expect 0 "gemma3_text" "$LATHE" list
done_testing
