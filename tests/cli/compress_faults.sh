# SPDX-License-Identifier: Apache-2.0
# What can be wrong with the inputs of compression, each named in one line; and a disk that is full.
. "$(dirname "$0")/common.sh"
valid=$REPO/share/text/wikitext2-valid-slice.txt
cd "$TMP" || exit 1

expect 0 "" "$LATHE" calibrate "$TINY" --data "$valid" --seq-len 64 --max-rows 16 -o s.safetensors
expect 0 "" "$LATHE" plan "$TINY" --stats s.safetensors --keep linears=0.7 -o p.json

# another model: a bit of one weight is enough
cp -r "$TINY" other && chmod -R u+w other
printf '\001' | dd of=other/model.safetensors bs=1 seek=1000000 conv=notrunc status=none
expect 3 "stats" "$LATHE" plan other --stats s.safetensors --keep linears=0.7 -o x.json
one_error_line
expect 3 "the plan was made for another model" "$LATHE" apply other --plan p.json --stats s.safetensors -o x
one_error_line
# stats of another text than the plan's
expect 0 "" "$LATHE" calibrate "$TINY" --data "$valid" --seq-len 64 --max-rows 8 -o s2.safetensors
expect 3 "the plan was made from other stats" "$LATHE" apply "$TINY" --plan p.json --stats s2.safetensors -o x
# a stats file that was changed or cut short
cp s.safetensors cut.safetensors && truncate -s -100 cut.safetensors
expect 3 "cut.safetensors" "$LATHE" plan "$TINY" --stats cut.safetensors --keep linears=0.7 -o x.json
expect 3 "" "$LATHE" plan "$TINY" --stats "$TINY/model.safetensors" --keep linears=0.7 -o x.json
expect 2 "needs stats" "$LATHE" plan "$TINY" --keep linears=0.7 -o x.json
expect 3 "cut.safetensors" "$LATHE" stats merge s.safetensors cut.safetensors -o m.safetensors
expect 0 "" "$LATHE" calibrate other --data "$valid" --seq-len 64 --max-rows 8 -o s3.safetensors
expect 3 "cannot merge: model_hash differs" "$LATHE" stats merge s.safetensors s3.safetensors -o m.safetensors
expect 0 "" "$LATHE" stats merge s.safetensors s2.safetensors -o m.safetensors

# plans written by hand
plan() { printf '{"format": "lathe-plan/1", "cuts": [%s]}' "$1" >hand.json; }
cut='{"kind": "rank", "module": "model.layers.0.mlp.up_proj", "rank": 20, "metric": "weight"}'
plan "$cut"
expect 0 "" "$LATHE" apply "$TINY" --plan hand.json -o hand
plan "${cut/20/94}" # 94 (128 + 352) >= 128 x 352
expect 3 "model.layers.0.mlp.up_proj" "$LATHE" apply "$TINY" --plan hand.json -o x
one_error_line
plan "${cut/layers.0/layers.9}"
expect 3 "model.layers.9.mlp.up_proj" "$LATHE" apply "$TINY" --plan hand.json -o x
plan "$cut, $cut"
expect 3 "two cuts of one thing" "$LATHE" apply "$TINY" --plan hand.json -o x
plan "${cut/\"rank\": 20/\"rank\": 20, \"colour\": 1}"
expect 3 "colour" "$LATHE" apply "$TINY" --plan hand.json -o x
plan "${cut/\"kind\": \"rank\"/\"kind\": \"magic\"}"
expect 6 "magic" "$LATHE" apply "$TINY" --plan hand.json -o x
printf '{"format": "lathe-plan/1", "cuts": [' >hand.json
expect 3 "hand.json" "$LATHE" plan --check hand.json

# weights that are not numbers
cp -r "$TINY" nan && chmod -R u+w nan
check "$HELPER" poke nan/model.safetensors model.layers.2.mlp.down_proj.weight 77 nan
expect 3 "layer 2: mlp_out" "$LATHE" compress nan --data "$valid" --seq-len 64 --max-rows 8 --keep linears=0.7 --no-compare -o x
one_error_line
rm -rf x.partial
expect 3 "model.layers.2.mlp.down_proj: weight holds a value that is not finite" "$LATHE" compress nan --method weight_svd --keep linears=0.7 --no-compare -o x
rm -rf x.partial
expect 0 "inf" "$LATHE" evaluate perplexity nan --data "$valid" --window 64 --max-windows 1
expect 8 "model.layers.2.mlp.down_proj.weight" "$LATHE" verify nan

# text: none, too little, none at all
: >empty.txt
echo "Too short." >short.txt
for verb in "calibrate $TINY -o x" "evaluate perplexity $TINY" "compress $TINY --keep 0.8 -o x" "compare $TINY $TINY" "evaluate kld $TINY --base $TINY"; do
    for text in empty.txt short.txt; do
        expect 3 "$text" "$LATHE" $verb --data $text
        one_error_line
    done
    expect 4 "nowhere.txt" "$LATHE" $verb --data nowhere.txt
done

# budgets and options
expect 7 "cannot be met" "$LATHE" plan "$TINY" --method weight_svd --keep linears=0.001 -o x.json
expect 2 "did you mean linears?" "$LATHE" plan "$TINY" --method weight_svd --keep linear=0.5 -o x.json
expect 2 "did you mean whitened?" "$LATHE" plan "$TINY" --method whitend --keep 0.8 -o x.json
expect 6 "there are lathe" "$LATHE" plan "$TINY" --method weight_svd --keep 0.8 --for vllm -o x.json
expect 6 "tied" "$LATHE" plan "$TINY" --method weight_svd --keep 0.8 --include-head -o x.json
expect 2 "--keep is missing" "$LATHE" plan "$TINY" -o x.json
expect 2 "no parameter" "$LATHE" plan "$TINY" --method weight_svd --keep 0.8 --param colour=red -o x.json
expect 2 "--data is missing" "$LATHE" compress "$TINY" --keep 0.8 -o x
expect 2 "--require needs the comparison" "$LATHE" compress "$TINY" --method weight_svd --keep 0.8 --no-compare --require 'ppl<3' -o x

# what is refused before anything is made of it leaves no folder in the way of the next call; `compress` looks before it calibrates
nothing_left() { [ ! -e x ] && [ ! -e x.partial ] || fail "a refusal left something"; }
for wrong in "--exclude (" "--include nothing" "--param colour=red" "--ranks nowhere.json" "--max-memory 1MiB" "--include-head"; do
    "$LATHE" compress "$TINY" --data "$valid" --seq-len 64 --max-rows 16 --method whitened --keep linears=0.7 --no-compare $wrong -o x >stdout 2>stderr && fail "$wrong is taken"
    one_error_line
    nothing_left
done
for method in whitened lathe; do
    expect 7 "rank 1 everywhere still leaves" "$LATHE" compress "$TINY" --data "$valid" --seq-len 64 --max-rows 16 --method $method --keep linears=0.001 --no-compare -o x
    one_error_line
    nothing_left
done
expect 0 "" "$LATHE" calibrate "$TINY" --data "$valid" --seq-len 64 --max-rows 16 --keep spectra -o spectra.safetensors
expect 0 "" "$LATHE" plan "$TINY" --stats spectra.safetensors --keep linears=0.7 -o spectra.json
expect 3 "stats lack gram" "$LATHE" apply "$TINY" --plan spectra.json --stats spectra.safetensors -o x
nothing_left
expect 5 "for this module alone" "$LATHE" apply "$TINY" --plan p.json --stats s.safetensors --max-memory 2MiB -o x
nothing_left

# options that contradict each other, or that nothing would read
plan="plan $TINY --stats s.safetensors"
expect 2 "for --allocate global, not for uniform" "$LATHE" $plan --keep linears=0.7 --allocate uniform --weights unit -o x.json
expect 2 "for --allocate global, not for svd_llm_v2" "$LATHE" $plan --keep linears=0.7 --allocate svd_llm_v2 --floor 0.2 -o x.json
expect 2 "for --allocate policy" "$LATHE" $plan --keep linears=0.7 --policy p.yaml -o x.json
expect 2 "leave --output out" "$LATHE" $plan --frontier linears -o x.json
expect 2 "leave --keep out" "$LATHE" plan --check p.json --keep linears=0.7
expect 2 "leave --output out" "$LATHE" plan --diff p.json p.json -o x.json
expect 2 "draws a --frontier" "$LATHE" $plan --keep linears=0.7 --plot x.svg -o x.json
expect 2 "give --ranks-out" "$LATHE" $plan --keep linears=0.7 --ranks-flat -o x.json
calibrate="calibrate $TINY --data $valid --seq-len 64 --max-rows 8 -o x.safetensors"
expect 2 "leave --sink-rows out" "$LATHE" $calibrate --keep spectra --sink-rows 1
expect 2 "needs the Grams" "$LATHE" $calibrate --keep spectra --methods two_sided
expect 2 "left out by --skip-first 3" "$LATHE" $calibrate --sink-rows 2 --skip-first 3
expect 3 "leave no other in rows of 64" "$LATHE" $calibrate --sink-rows 64
one_error_line
[ ! -e x.safetensors ] || fail "a refused calibration has left a file"

# ranks that another model's plan left, and more positions than there are
expect 0 "" "$LATHE" $plan --keep linears=0.7 --ranks-out ranks.json -o ranks.plan.json
expect 0 "the ranks were found on another model (ranks.json" "$LATHE" plan other --method weight_svd --ranks ranks.json -o other.json
expect 2 "positions of" "$LATHE" $plan --keep linears=0.7 --allocate asvd_strs --probe-data "$valid" --probe-len 100000 -o x.json

# a token file's rows are cut, and its seed is its own
expect 0 "" "$LATHE" tokenize "$TINY" --input "$valid" --pack 64 --max-rows 8 --recipe svdllm --seed 9 --output t.tok
expect 0 "" "$LATHE" calibrate "$TINY" --data t.tok --seq-len 32 -o t.safetensors
grep -q "warning: --seq-len says nothing of a token file" "$TMP/stderr" || fail "an option without effect is not said"
check grep -aq '\\"seed\\"' s.safetensors
grep -aq '\\"seed\\"' t.safetensors && fail "stats of a token file tell a seed"

# a family that no row covers lists those that are
mkdir bert && echo '{"model_type": "bert", "architectures": ["BertModel"]}' >bert/config.json
for verb in "calibrate bert --data $valid -o x" "compress bert --data $valid --keep 0.8 -o x" "export bert --to hf-dense -o x" "evaluate perplexity bert --data $valid"; do
    expect 6 "llama" "$LATHE" $verb
    one_error_line
done

# memory and disk
expect 5 "" "$LATHE" calibrate "$TINY" --data "$valid" --seq-len 512 --max-memory 2MiB -o x.safetensors
# file sizes are limited to what is smaller than the output; the signal is ignored, so that writes fail as on a full disk
full() { (ulimit -f "$1"; shift; exec "$@"); }
expect 4 "File too large" full 64 "$LATHE" calibrate "$TINY" --data "$valid" --seq-len 64 --max-rows 16 -o full.safetensors
one_error_line
[ ! -e full.safetensors ] || fail "a stats file that did not fit is there"
expect 0 "" "$LATHE" calibrate "$TINY" --data "$valid" --seq-len 64 --max-rows 16 -o full.safetensors
check cmp -s full.safetensors s.safetensors
expect 4 "File too large" full 64 "$LATHE" apply "$TINY" --plan p.json --stats s.safetensors -o full
[ ! -e full ] || fail "a model that did not fit is there"
expect 0 "" "$LATHE" apply "$TINY" --plan p.json --stats s.safetensors -o full
expect 0 "" "$LATHE" apply "$TINY" --plan p.json --stats s.safetensors -o roomy
check diff -r full/model roomy/model
expect 4 "File too large" full 64 "$LATHE" export "$TINY" --to hf-dense -o exported
[ ! -e exported ] || fail "an export that did not fit is there"
touch in-the-way
expect 4 "in-the-way" "$LATHE" export "$TINY" --to hf-dense -o in-the-way/out

# exit code 8: what was written is not what was meant
cp -r roomy changed && chmod -R u+w changed
check "$HELPER" poke changed/model/model.safetensors model.norm.weight 3 0.5
expect 8 "not those that were written" "$LATHE" verify changed
rm changed/model/model.safetensors
expect 4 "model.safetensors" "$LATHE" verify changed
done_testing
