# SPDX-License-Identifier: Apache-2.0
# --adapter wherever a model is taken, merge-lora, and what is refused. peft's logits: tests/model/test_adapter.c.
. "$REPO/tests/cli/common.sh"
G=$SHARED/golden/compress
need "$G/lora_dense_final"
DATA=$REPO/share/text/wikitext2-test-slice.txt
PPL="--data $DATA --window 64 --max-windows 4 --json"

ppl() {
    "$LATHE" evaluate perplexity "$@" $PPL | tr ',' '\n' | sed -n 's/.*"ppl": *\([0-9.]*\).*/\1/p' | head -1
}

# beside the weights and merged: the same model, another than the base
for form in dense:tiny-llama factored:tiny-llama-w60; do
    base=$TMP/${form#*:}
    cp -r "$G/${form#*:}" "$base"
    cp "$G"/tiny-llama/tokenizer*.json "$base"
    adapter=$G/lora_${form%:*}_final
    expect 0 "logit gap" "$LATHE" merge-lora "$base" --adapter "$adapter" -o "$TMP/${form%:*}"
    expect 0 "" "$LATHE" verify "$TMP/${form%:*}"
    a=$(ppl "$base" --adapter "$adapter") b=$(ppl "$TMP/${form%:*}") c=$(ppl "$base")
    [ -n "$a" ] && [ "${a:0:7}" = "${b:0:7}" ] || fail "perplexity $a beside, $b merged"
    [ "$a" != "$c" ] || fail "the adapter changes nothing"
done
grep -q '"adapter": {"id": "lora_dense_final"' "$TMP/dense/model/lathe.json" || fail "no lineage in lathe.json"
expect 2 "" "$LATHE" merge-lora "$G/tiny-llama" --adapter "$G/lora_dense_final" -o "$TMP/dense"

# every verb that takes a model
M="$G/tiny-llama --adapter $G/lora_dense_final"
expect 0 "" "$LATHE" generate $M --prompt "The" --max-new 4
expect 0 "tiny-llama + lora_dense_final" "$LATHE" evaluate kld --base "$G/tiny-llama" $M --data "$DATA" --window 64 --max-windows 2
expect 0 "tiny-llama + lora_dense_final" "$LATHE" compare "$G/tiny-llama" $M --data "$DATA" --window 64 --max-windows 2
expect 0 "" "$LATHE" export $M --to hf-dense -o "$TMP/exported"
expect 0 "" "$LATHE" calibrate $M --data "$DATA" --seq-len 64 --max-rows 8 -o "$TMP/s.safetensors"
expect 0 "" "$LATHE" plan $M --stats "$TMP/s.safetensors" --keep linears=0.8 -o "$TMP/plan.json"
expect 0 "" "$LATHE" apply $M --plan "$TMP/plan.json" --stats "$TMP/s.safetensors" -o "$TMP/applied"
expect 3 "" "$LATHE" apply "$G/tiny-llama" --plan "$TMP/plan.json" --stats "$TMP/s.safetensors" -o "$TMP/other"
cmp -s "$TMP/exported/model/model.safetensors" "$TMP/dense/model/model.safetensors" || fail "export merges something else"

# gradients of the adapter's matrices beside those of the model
check "$HELPER" pick "$G/tokens.safetensors" "$TMP/in.safetensors" input_ids=logit_batch
expect 0 "" "$LATHE" forward $M --input "$TMP/in.safetensors" --output "$TMP/values.safetensors" --outputs per_token_nll --grad
for name in weight lora_A.weight lora_B.weight; do
    grep -aq "\"grad.model.layers.0.self_attn.q_proj.$name\"" "$TMP/values.safetensors" || fail "no gradient: $name"
done

# inspect, and what does not fit
expect 0 "adapted modules" "$LATHE" inspect "$G/lora_dense_final"
expect 3 "down_proj.ALinear.lora_A" "$LATHE" generate "$G/tiny-llama" --adapter "$G/lora_factored_final" --prompt x
one_error_line
expect 3 "does not fit the model" "$LATHE" generate "$G/tiny-gpt2" --adapter "$G/lora_dense_final" --prompt x
expect 4 "no such folder" "$LATHE" generate "$G/tiny-llama" --adapter "$TMP/nowhere" --prompt x
expect 3 "no adapter_config.json" "$LATHE" generate "$G/tiny-llama" --adapter "$TMP" --prompt x
cp -r "$G/lora_dense_final" "$TMP/dora"
sed 's/"use_dora": false/"use_dora": true/' "$G/lora_dense_final/adapter_config.json" >"$TMP/dora/adapter_config.json"
expect 6 "use_dora" "$LATHE" merge-lora "$G/tiny-llama" --adapter "$TMP/dora" -o "$TMP/no"
done_testing
