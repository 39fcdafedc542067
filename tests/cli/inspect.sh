# SPDX-License-Identifier: Apache-2.0
# inspect and list say what is there.
. "$(dirname "$0")/common.sh"
expect 0 "803968" "$LATHE" inspect "$TINY"
for text in family llama q_heads "parameters by role" embed tokenizer memory; do grep -q "$text" "$TMP/stdout" || fail "inspect: no $text"; done
expect 0 "model.layers.3.mlp.down_proj" "$LATHE" inspect "$TINY" --all
expect 0 '"container": "safetensors"' "$LATHE" inspect "$TINY" --json
check "$HELPER" get "$TMP/stdout" model.parameters
check "$HELPER" get "$TMP/stdout" run.kernels
expect 0 "tensors by type" "$LATHE" inspect "$TINY/model.safetensors"
expect 0 "ids" "$LATHE" inspect "$TINY/tokenizer.json"
mkdir "$TMP/tok"
cp "$TINY/tokenizer.json" "$TMP/tok"
expect 0 "tokenizer" "$LATHE" inspect "$TMP/tok"
mkdir "$TMP/out"
ln -s "$TINY" "$TMP/out/model"
expect 0 "803968" "$LATHE" inspect "$TMP/out"
while read -r topic text; do expect 0 "$text" "$LATHE" list "$topic"; done <<'TOPICS'
methods whitened
families lowrank_llama
commands bench decode
targets hf-dense
dtypes bf16
allocators uniform
cuts rank
stats gram
kernels ref
recipes svdllm
tokenizers ByteLevel
TOPICS
expect 0 "whitened" "$LATHE" list
done_testing
