# SPDX-License-Identifier: Apache-2.0
# Parts of fused matrices (q, k, v; gate, up) are planned, cut, saved, reopened, multiplied out and refused like linears of their own.
. "$(dirname "$0")/common.sh"
models=$SHARED/golden/models
need "$models/gpt2"
cd "$TMP" || exit 1
fused() { case $1 in gpt2*) echo transformer.h.0.attn.c_attn ;; neox*) echo gpt_neox.layers.0.attention.query_key_value ;; *) echo model.layers.0.self_attn.qkv_proj ;; esac; }

for name in gpt2 neox-parallel phi3; do
    at=$(fused "$name")
    check "$HELPER" pick "$models/$name/golden.safetensors" in.safetensors input_ids=input_ids
    expect 0 "" "$LATHE" calibrate "$models/$name" --data in.safetensors -o "$name.st"
    expect 0 "" "$LATHE" plan "$models/$name" --parts --allocate uniform --stats "$name.st" --keep linears=0.6 -o "$name.json" --ranks-out "$name.ranks"
    grep -q "\"module\": \"$at#k\"" "$name.json" || fail "$name: no cut of #k"
    grep -q "\"module\": \"$at\"" "$name.json" && fail "$name: the whole is cut as well"
    grep -q "\"$at#v\"" "$name.ranks" || fail "$name: no rank of #v"
    expect 0 "" "$LATHE" apply "$models/$name" --plan "$name.json" --stats "$name.st" -o "$name-small"
    expect 0 "" "$LATHE" verify "$name-small"
    expect 0 "modules have the ranks of plan.json" "$LATHE" verify "$name-small" --source "$models/$name"
    cp -r "$name-small/model" "$name-bare" && rm "$name-bare/lathe.json"
    expect 0 "modules have the ranks of config.json" "$LATHE" verify "$name-bare" --source "$models/$name"
    grep -q "\"$at.q\"" "$name-small/model/config.json" || fail "$name: $at.q is not in the config"
    expect 0 "" "$LATHE" export "$name-small" --to hf-dense -o "$name-dense"
    grep -q low_rank "$name-dense/model/config.json" && fail "$name: low-rank fields in a stock config"
    expect 0 "" "$LATHE" forward "$name-small" --input in.safetensors --output small.safetensors
    expect 0 "" "$LATHE" forward "$name-dense" --input in.safetensors --output dense.safetensors
    check "$HELPER" close small.safetensors logits dense.safetensors logits 2e-5
    expect 0 "" "$LATHE" export "$name-small" --to ab -o "$name-ab"
    expect 0 "" "$LATHE" forward "$name-ab" --input in.safetensors --output ab.safetensors
    check "$HELPER" close small.safetensors logits ab.safetensors logits 1e-6

    # the rank file leads to the same plan; what is small can be calibrated and cut again, its parts by either name
    expect 0 "" "$LATHE" plan "$models/$name" --stats "$name.st" --ranks "$name.ranks" -o "$name-again.json"
    expect 0 "the plans cut the same" "$LATHE" plan --diff "$name.json" "$name-again.json"

    # one part at full rank leaves the logits as they are, to rounding
    rows=$("$HELPER" get "$models/$name/config.json" "$([ "$name" = gpt2 ] && echo n_embd || echo hidden_size)")
    printf '{"format": "lathe-plan/1", "cuts": [{"kind": "rank", "module": "%s#q", "rank": %d, "metric": "weight", "force": true}]}' "$at" "$rows" >full.json
    expect 0 "" "$LATHE" apply "$models/$name" --plan full.json -o "$name-full"
    expect 0 "" "$LATHE" forward "$name-full" --input in.safetensors --output full.safetensors
    check "$HELPER" close full.safetensors logits "$models/$name/golden.safetensors" logits 1e-4
    # parts that were not cut are the parent's
    expect 0 "1 modules have the ranks" "$LATHE" verify "$name-full" --source "$models/$name"
    cp -r "$name-full" "$name-poked" && rm "$name-poked/model/lathe.json" && check "$HELPER" poke "$name-poked/model/model.safetensors" "$at.v.weight" 5 0.5
    expect 8 "values are not those of the source ($at.v.weight" "$LATHE" verify "$name-poked" --source "$models/$name"
    expect 0 "" "$LATHE" export "$name-full" --to hf-dense -o "$name-back"
    expect 0 "" "$LATHE" forward "$name-back" --input in.safetensors --output back.safetensors
    check "$HELPER" close back.safetensors logits "$models/$name/golden.safetensors" logits 1e-4

    # only what a pattern names is taken in parts
    expect 0 "" "$LATHE" plan "$models/$name" --stats "$name.st" --keep linears=0.95 --include '#q$' -o only.json --overwrite
    grep -q "#[kv]\"" only.json && fail "$name: more than q is cut"
    grep -q "#q\"" only.json || fail "$name: q is not cut"

    # a part of what is small, by both of its names
    printf '{"format": "lathe-plan/1", "cuts": [{"kind": "rank", "module": "%s#k", "rank": 3, "metric": "weight"}]}' "$at" >k.json
    expect 0 "" "$LATHE" apply "$name-full" --plan k.json -o "$name-k"
    sed 's/#k/.k/' k.json >k2.json
    expect 0 "" "$LATHE" apply "$name-full" --plan k2.json -o "$name-k2"
    cmp -s "$name-k/model/model.safetensors" "$name-k2/model/model.safetensors" || fail "$name: two names of one part differ"
    expect 6 "already factored" "$LATHE" apply "$name-full" --plan full.json -o x
done

# what is told of a part by stats of the whole is what is told of it once it stands alone
for name in neox-parallel gpt2; do
    check "$HELPER" pick "$models/$name/golden.safetensors" in.safetensors input_ids=input_ids
    printf '{"%s#k": {"r": 4}}' "$(fused "$name")" >k.ranks
    for model in "$models/$name" "$name-full"; do
        expect 0 "" "$LATHE" calibrate "$model" --data in.safetensors --methods two_sided,asvd -o two.st --overwrite
        for method in two_sided asvd; do
            expect 0 "" "$LATHE" plan "$model" --method $method --stats two.st --ranks k.ranks -o "k-$method.json" --overwrite
            grep -o '"rank": [0-9]*\|"rel_error": [0-9.e-]*' "k-$method.json" | head -2 | sed 's/.* //'
        done
    done | xargs >told.txt
    awk '{ exit !(NF == 8 && $1 == $5 && $3 == $7 && ($2 - $6) ^ 2 < 1e-8 * $2 ^ 2 && ($4 - $8) ^ 2 < 1e-8 * $4 ^ 2) }' told.txt || fail "$name: whole and part differ: $(cat told.txt)"
done

# drift: fitted to the inputs of the changed model, with a journal
for name in gpt2 phi3; do
    rm -f in.safetensors
    expect 0 "" "$LATHE" plan "$models/$name" --method sequential --parts --stats "$name.st" --keep linears=0.6 -o seq.json --overwrite
    check "$HELPER" pick "$models/$name/golden.safetensors" in.safetensors input_ids=input_ids
    expect 0 "" "$LATHE" apply "$models/$name" --plan seq.json --data in.safetensors -o "$name-seq"
    expect 0 "" "$LATHE" verify "$name-seq"
done

# roles: q, k and v of a fused matrix have multipliers of their own
expect 0 "" "$LATHE" plan "$models/gpt2" --parts --allocate qkv_heavier --stats gpt2.st --keep linears=0.5 -o roles.json
rank() { grep -o "c_attn#$1\", \"rank\": [0-9]*" roles.json | head -1 | grep -o "[0-9]*$"; }
[ "$(rank q)" -gt "$(rank k)" ] || fail "qkv_heavier: q ($(rank q)) has no more than k ($(rank k))"

# refusals
check "$HELPER" pick "$models/gpt2/golden.safetensors" in.safetensors input_ids=input_ids
two='{"format": "lathe-plan/1", "cuts": [{"kind": "rank", "module": "transformer.h.0.attn.c_attn", "rank": 5, "metric": "weight"}, {"kind": "rank", "module": "transformer.h.0.attn.c_attn#q", "rank": 5, "metric": "weight"}]}'
printf "%s" "$two" >two.json
expect 6 "two cuts change one module (transformer.h.0.attn.c_attn#q" "$LATHE" apply "$models/gpt2" --plan two.json -o x
one_error_line
printf '{"format": "lathe-plan/1", "cuts": [{"kind": "rank", "module": "transformer.h.0.attn.c_attn#gate", "rank": 5, "metric": "weight"}]}' >unknown.json
expect 3 "no such part: it has q, k, v (plan: transformer.h.0.attn.c_attn#gate)" "$LATHE" apply "$models/gpt2" --plan unknown.json -o x
printf '{"format": "lathe-plan/1", "cuts": [{"kind": "rank", "module": "transformer.h.0.attn.c_proj#q", "rank": 5, "metric": "weight"}]}' >unknown.json
expect 3 "no such part: it has none" "$LATHE" plan "$models/gpt2" --check unknown.json
printf '{"transformer.h.0.attn.c_attn#v": {"r": 5}, "transformer.h.0.attn.c_attn": {"r": 5}}' >twice.json
expect 3 "names one module twice" "$LATHE" plan "$models/gpt2" --method weight_svd --ranks twice.json -o x
expect 2 "no linear to cut" "$LATHE" plan "$models/gpt2" --method weight_svd --keep linears=0.7 --include 'c_attn#x' -o x
expect 0 "" "$LATHE" calibrate "$models/gpt2" --data in.safetensors --methods whitened,fisher -o f.st
expect 6 "do not tell its parts apart" "$LATHE" plan "$models/gpt2" --parts --weights fisher --stats f.st --keep linears=0.7 -o x
done_testing
