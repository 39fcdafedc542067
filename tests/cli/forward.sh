# SPDX-License-Identifier: Apache-2.0
# Logits, hidden states, losses and gradients against float64 values of transformers' own modelling code (golden/models/README.md has the tolerances).
. "$(dirname "$0")/common.sh"
models=$SHARED/golden/models
need "$models/llama-gqa"

families="llama-mha llama-gqa llama-bias mistral qwen2 qwen3 gpt2 gpt2-untied opt opt-350m neox-parallel neox-sequential olmo2 olmo3 phi3 gemma3-text"
for name in $families; do
    folder=$models/$name gold=$models/$name/golden.safetensors out=$TMP/out.safetensors
    check "$HELPER" pick "$gold" "$TMP/in.safetensors" input_ids=input_ids
    expect 0 "loss" "$LATHE" forward "$folder" --input "$TMP/in.safetensors" --output "$out" --grad --json
    cp "$TMP/stdout" "$TMP/result.json"
    for t in logits hidden.0 hidden.1 hidden.2 hidden.3 hidden_last_layer; do check "$HELPER" close "$out" $t "$gold" $t 5e-5; done
    check "$HELPER" close "$out" per_token_nll "$gold" per_token_nll 5e-5
    check "$HELPER" close-grads "$out" "$gold" 2e-5
    want=$("$HELPER" get "$folder/golden.json" loss) got=$("$HELPER" get "$TMP/result.json" loss)
    awk -v a="$got" -v b="$want" 'BEGIN { d = a - b; exit !(d * d <= 25e-12) }' || fail "$name: loss $got, not $want"

    # without gradients, and for any number of threads, the same bytes
    expect 0 "" "$LATHE" forward "$folder" --input "$TMP/in.safetensors" --output "$TMP/one.safetensors" --threads 1
    expect 0 "" "$LATHE" forward "$folder" --input "$TMP/in.safetensors" --output "$TMP/three.safetensors" --threads 3
    check cmp "$TMP/one.safetensors" "$TMP/three.safetensors"
    check "$HELPER" close "$TMP/one.safetensors" logits "$gold" logits 5e-5

    # padding on the left
    check "$HELPER" pick "$gold" "$TMP/in.safetensors" input_ids=input_ids_padded attention_mask=attention_mask position_ids=position_ids_padded
    expect 0 "" "$LATHE" forward "$folder" --input "$TMP/in.safetensors" --output "$out" --outputs logits
    check "$HELPER" close "$out" logits "$gold" logits_padded 5e-5
    check "$HELPER" pick "$gold" "$TMP/in.safetensors" input_ids=input_ids_padded attention_mask=attention_mask
    expect 0 "" "$LATHE" forward "$folder" --input "$TMP/in.safetensors" --output "$out" --outputs logits
    check "$HELPER" close "$out" logits "$gold" logits_padded 5e-5
done

# two documents in one row
gold=$models/llama-gqa/golden.safetensors
check "$HELPER" pick "$gold" "$TMP/in.safetensors" input_ids=packed_input_ids position_ids=packed_position_ids
expect 0 "" "$LATHE" forward "$models/llama-gqa" --input "$TMP/in.safetensors" --output "$TMP/out.safetensors"
check "$HELPER" close "$TMP/out.safetensors" logits "$gold" packed_logits 5e-5

# the same weights rounded to 16 bits
for kind in bf16 f16; do
    check "$HELPER" pick "$models/gpt2/$kind/golden.safetensors" "$TMP/in.safetensors" input_ids=input_ids
    expect 0 "" "$LATHE" forward "$models/gpt2/$kind" --input "$TMP/in.safetensors" --output "$TMP/out.safetensors"
    check "$HELPER" close "$TMP/out.safetensors" logits "$models/gpt2/$kind/golden.safetensors" logits 5e-5
done
check "$HELPER" pick "$gold" "$TMP/in.safetensors" input_ids=input_ids

# the same model in three shards
check "$HELPER" pick "$gold" "$TMP/in.safetensors" input_ids=input_ids
cp -r "$models/llama-gqa/sharded" "$TMP/sharded"
[ -e "$TMP/sharded/config.json" ] || cp "$models/llama-gqa/config.json" "$TMP/sharded/"
expect 0 "" "$LATHE" forward "$TMP/sharded" --input "$TMP/in.safetensors" --output "$TMP/out.safetensors"
check "$HELPER" close "$TMP/out.safetensors" logits "$gold" logits 5e-5

# what is asked for, and no more
expect 0 "" "$LATHE" forward "$models/llama-gqa" --input "$TMP/in.safetensors" --output "$TMP/out.safetensors" --outputs hidden.1,per_token_nll
expect 0 "hidden.1" "$LATHE" inspect "$TMP/out.safetensors"
grep -q "logits\|hidden.0" "$TMP/stdout" && fail "outputs that were not asked for"
expect 2 'no output "hidden.77"' "$LATHE" forward "$models/llama-gqa" --input "$TMP/in.safetensors" --output "$TMP/out.safetensors" --outputs hidden.77
expect 0 "peak memory" "$LATHE" forward "$models/llama-gqa" --input "$TMP/in.safetensors" --output "$TMP/none.safetensors" --estimate
[ ! -e "$TMP/none.safetensors" ] || fail "--estimate wrote the output"
done_testing
