# SPDX-License-Identifier: Apache-2.0
# verify --source of a smaller model: ranks are the plan's, everything else is the parent's bit for bit.
. "$(dirname "$0")/common.sh"
cd "$TMP" || exit 1
printf '{"format": "lathe-plan/1", "cuts": [{"kind": "rank", "module": "model.layers.0.self_attn.q_proj", "rank": 20, "metric": "weight"},
{"kind": "rank", "module": "model.layers.1.mlp.up_proj", "rank": 30, "metric": "weight"}]}' >plan.json
expect 0 "" "$LATHE" apply "$TINY" --plan plan.json -o cut
expect 0 "2 modules have the ranks of plan.json" "$LATHE" verify cut --source "$TINY"
expect 0 "2 modules have the ranks of plan.json" "$LATHE" verify cut/model --source "$TINY"
# another dtype: each number rounded once
expect 0 "" "$LATHE" apply "$TINY" --plan plan.json --dtype bf16 -o cut16
expect 0 "other tensors are the source's" "$LATHE" verify cut16 --source "$TINY"
# the parent written down is another
cp -r "$TINY" other && chmod -R u+w other
printf '\001' | dd of=other/model.safetensors bs=1 seek=1000000 conv=notrunc status=none
expect 8 "made from another model" "$LATHE" verify cut --source other
# under the names of SVD-LLM, with the parent's own config: nothing but the factors says what was cut
mkdir svdllm && cp "$TINY/config.json" svdllm && LC_ALL=C sed 's/_proj\.ALinear\.weight"/_u_proj.weight"      /g; s/_proj\.BLinear\.weight"/_v_proj.weight"      /g' cut/model/model.safetensors >svdllm/model.safetensors
expect 0 "2 modules are factored; 36 other tensors are the source's" "$LATHE" verify svdllm --source "$TINY"
check "$HELPER" poke svdllm/model.safetensors model.layers.2.mlp.down_proj.weight 77 0.5
expect 8 "model.layers.2.mlp.down_proj.weight" "$LATHE" verify svdllm --source "$TINY"
# a lathe.json that cannot be read is no proof
cp -r cut torn && truncate -s 100 torn/model/lathe.json
expect 8 "lathe.json" "$LATHE" verify torn
one_error_line
# without lathe.json: a tensor that no cut names was changed, and one that was factored
cp -r cut bare && rm bare/model/lathe.json
expect 0 "2 modules have the ranks of config.json" "$LATHE" verify bare --source "$TINY"
check "$HELPER" poke bare/model/model.safetensors model.layers.2.mlp.down_proj.weight 77 0.5
expect 8 "model.layers.2.mlp.down_proj.weight" "$LATHE" verify bare --source "$TINY"
one_error_line
# another plan beside it
sed -i 's/"rank": *30/"rank":31/' cut/plan.json
expect 8 "not the plan that was carried out" "$LATHE" verify cut --source "$TINY"
done_testing
