# SPDX-License-Identifier: Apache-2.0
# The whole road on a small model: calibrate, plan, apply, compare, export, verify; and the same in one call.
. "$(dirname "$0")/common.sh"
valid=$REPO/share/text/wikitext2-valid-slice.txt test=$REPO/share/text/wikitext2-test-slice.txt
cd "$TMP" || exit 1
value() { "$HELPER" get "$1" "$2"; }

expect 0 "tokens" "$LATHE" calibrate "$TINY" --data "$valid" --seq-len 128 --max-rows 32 -o s.safetensors -v
grep -q "the first begins: " stderr || fail "no decoded sample in the log"
[ ! -e s.safetensors.partial ] || fail "the journal is still there"
expect 2 "--overwrite" "$LATHE" calibrate "$TINY" --data "$valid" --seq-len 128 --max-rows 32 -o s.safetensors
expect 0 "" "$LATHE" calibrate "$TINY" --data "$valid" --seq-len 128 --max-rows 32 -o s.safetensors --overwrite

expect 0 "linears of the layers" "$LATHE" plan "$TINY" --stats s.safetensors --keep linears=0.6 -o p.json --json
check test "$(grep -c '"kind"' p.json)" -ge 10
kept=$(value p.json cost.linears_kept)
check awk "BEGIN { exit !($kept <= 0.6 && $kept > 0.59) }"
expect 0 "parameters of the model" "$LATHE" plan "$TINY" --method weight_svd --keep params=0.9 --allocate uniform -o w.json
expect 0 "the plans cut the same" "$LATHE" plan --diff p.json p.json
expect 0 "model.layers.0" "$LATHE" plan --diff p.json w.json
expect 0 "its own form" "$LATHE" plan --check p.json
expect 0 "kept" "$LATHE" plan "$TINY" --check p.json --stats s.safetensors
# cuts are added to a plan, and not twice
expect 0 "" "$LATHE" plan "$TINY" --method weight_svd --keep linears=0.95 --include 'layers\.0\.mlp' -o part.json
expect 0 "" "$LATHE" plan "$TINY" --method weight_svd --keep linears=0.95 --include 'layers\.1\.mlp' --add part.json -o both.json
[ "$(grep -c '"kind"' both.json)" -gt "$(grep -c '"kind"' part.json)" ] || fail "no cut was added"
expect 3 "two cuts of one thing" "$LATHE" plan "$TINY" --method weight_svd --keep linears=0.9 --include 'layers\.0\.mlp' --add part.json -o twice.json

expect 0 "lathe's reader" "$LATHE" apply "$TINY" --plan p.json --stats s.safetensors -o small
for f in model/config.json model/model.safetensors model/tokenizer.json model/tokenizer_config.json model/lathe.json model/README.md plan.json result.json command.txt; do
    [ -s "small/$f" ] || fail "small/$f is missing"
done
check cmp -s "$TINY/tokenizer.json" small/model/tokenizer.json
check cmp -s p.json small/plan.json
# ranks that need no spectra, planned without: the same ranks, no error said, and apply says what is left
expect 0 "" "$LATHE" plan "$TINY" --stats s.safetensors --method whitened --allocate uniform --keep linears=0.6 -o u.json
expect 0 "" "$LATHE" plan "$TINY" --stats s.safetensors --method whitened --allocate uniform --keep linears=0.6 --no-errors -o n.json --ranks-out n.ranks.json --ranks-flat
check grep -q '"rel_error"' u.json
check test -z "$(grep '"rel_error"\|predicted' n.json)"
check test -z "$(grep energy n.ranks.json)"
check test "$(grep -o '"rank": [0-9]*' u.json)" = "$(grep -o '"rank": [0-9]*' n.json)"
expect 0 "rel_error" "$LATHE" plan --diff u.json n.json
expect 0 "kept" "$LATHE" plan "$TINY" --check n.json --stats s.safetensors
expect 0 "" "$LATHE" inspect n.json
expect 0 "mean relative error" "$LATHE" apply "$TINY" --plan n.json --stats s.safetensors -o unsaid
expect 0 "" "$LATHE" apply "$TINY" --plan u.json --stats s.safetensors -o said
check cmp said/model/model.safetensors unsaid/model/model.safetensors
expect 0 "" "$LATHE" report unsaid said -o unsaid.md
expect 2 "--allocate uniform" "$LATHE" plan "$TINY" --stats s.safetensors --method whitened --keep linears=0.6 --no-errors -o x.json
expect 2 "come from predicted errors" "$LATHE" plan "$TINY" --stats s.safetensors --method energy --param energy=0.9 --no-errors -o x.json
expect 2 "cannot leave errors out" "$LATHE" plan "$TINY" --stats s.safetensors --method lathe --keep linears=0.8 --no-errors -o x.json
check test "$(cat small/command.txt)" = "lathe apply $TINY --plan p.json --stats s.safetensors --output small"
for f in configuration_lowrank.py modeling_lowrank.py; do
    check cmp -s "$REPO/share/modeling/$f" "small/model/$f"
done
check test "$(value small/model/config.json auto_map.AutoModelForCausalLM)" = modeling_lowrank.LowRankLlamaForCausalLM
[ ! -e small.partial ] && [ ! -e small.partial.lock ] || fail "something unfinished is left"
expect 2 "--overwrite" "$LATHE" apply "$TINY" --plan p.json --stats s.safetensors -o small
expect 2 "give --stats" "$LATHE" apply "$TINY" --plan p.json -o other
expect 0 "parameters" "$LATHE" inspect small
expect 0 "" "$LATHE" generate small --prompt "The history" --max-new 8
expect 0 "config and every tensor have the hash" "$LATHE" verify small --source "$TINY"

expect 0 "as q8_0" "$LATHE" compare "$TINY" small --data "$test" --window 256 --max-windows 4 --new-tokens 4 --prompt-tokens 64
expect 7 "--require kld.mean<0.0001 is not met" "$LATHE" compare "$TINY" small --data "$test" --window 256 --max-windows 2 --no-speed --require 'kld.mean<0.0001' --json
check test "$(value stdout models.0.role)" = base
expect 0 "" "$LATHE" compare "$TINY" small --data "$test" --window 256 --max-windows 2 --no-speed --no-q8 --require 'kld.mean<5' --require 'params<800000'
expect 0 "ppl_block_256" "$LATHE" evaluate perplexity "$TINY" small --data "$test" --window 256 --max-windows 4
expect 7 "tiny-llama: --require ppl<2 is not met" "$LATHE" evaluate perplexity "$TINY" --data "$test" --window 256 --max-windows 2 --require 'ppl<2'
expect 0 "KL(tiny-llama || model)" "$LATHE" evaluate kld small --base "$TINY" --data "$test" --window 256 --max-windows 2
expect 7 "not met" "$LATHE" evaluate kld small --base "$TINY" --data "$test" --window 256 --max-windows 2 --require 'top1>0.999'
expect 2 "--window: 4096 is more than the 512 positions" "$LATHE" evaluate perplexity "$TINY" --data "$test" --window 4096
expect 2 "did you mean ppl?" "$LATHE" evaluate perplexity "$TINY" --data "$test" --require 'pl<3'

# export: factors multiplied out are the same function; as they are, the same numbers
expect 0 "hf-dense" "$LATHE" export small --to hf-dense -o dense
expect 0 "ablinear" "$LATHE" export small --to ablinear -o ab
check cmp -s small/model/model.safetensors ab/model/model.safetensors
expect 0 "ab" "$LATHE" export small --to ab -o pairs
expect 0 "" "$LATHE" evaluate kld pairs --base small --data "$test" --window 256 --max-windows 1 --require 'kld.max<1e-6'
grep -q '"model_type": "llama"' dense/model/config.json || fail "hf-dense is not a stock model"
grep -q auto_map dense/model/config.json && fail "a stock model asks for remote code"
expect 0 "every tensor; logits within" "$LATHE" verify dense --source small
expect 0 "" "$LATHE" evaluate kld dense --base small --data "$test" --window 256 --max-windows 1 --require 'kld.max<1e-6'
expect 8 "made from another model" "$LATHE" verify dense --source "$TINY"
expect 0 "" "$LATHE" export small --to hf-dense --dtype bf16 -o bf16
expect 6 "there are hf-dense, ablinear" "$LATHE" export small --to onnx -o onnx

# one call; the model is that of the three calls
expect 0 "KLD mean" "$LATHE" compress "$TINY" --method whitened --data "$valid" --seq-len 128 --max-rows 32 --keep linears=0.6 --no-speed -o one
check cmp -s small/model/model.safetensors one/model/model.safetensors
check cmp -s p.json one/plan.json
[ ! -e one/stats.safetensors ] || fail "the stats were left behind"
grep -q "KL divergence to the parent" one/model/README.md || fail "the card lacks what was measured"
expect 0 "" "$LATHE" compress "$TINY" --method weight_svd --keep linears=0.8 --allocate uniform --no-compare -o svd
expect 0 "" "$LATHE" compress "$TINY" --data "$valid" --eval-data "$test" --window 128 --max-windows 2 --seq-len 64 --max-rows 16 --keep 0.9 --no-speed \
    --keep-stats -o two
[ -e two/stats.safetensors ] || fail "--keep-stats"
expect 7 "not met" "$LATHE" compress "$TINY" --data "$valid" --seq-len 64 --max-rows 16 --keep 0.6 --no-speed --require 'kld.mean<1e-6' -o missed
[ -e missed/model/config.json ] || fail "a missed target lost the output"

# the default: fewer channels, fitted with the text; a stock model, and the same in one call
expect 0 "" "$LATHE" plan "$TINY" --method lathe --stats s.safetensors --keep linears=0.8 -o l.json
expect 2 "give --data" "$LATHE" apply "$TINY" --plan l.json -o narrow
expect 0 "" "$LATHE" apply "$TINY" --plan l.json --data "$valid" --seq-len 128 --max-rows 32 -o narrow
if grep -q warning "$TMP/stderr"; then fail "a warning where the text is the one of the stats"; fi
expect 0 "" "$LATHE" apply "$TINY" --plan l.json --data "$valid" --seq-len 128 --max-rows 8 -o narrow-8
grep -q "warning: the text is not the one that the plan's stats are of" "$TMP/stderr" || fail "another text is not said"
expect 0 "" "$LATHE" compress "$TINY" --data "$valid" --seq-len 128 --max-rows 32 --keep linears=0.8 --no-compare -o narrow-1
check cmp -s narrow/model/model.safetensors narrow-1/model/model.safetensors
[ ! -e narrow/layers ] && [ ! -e narrow-1/layers ] || fail "the journal of layers was left behind"
grep -q '"model_type": "llama"' narrow/model/config.json || fail "a narrower model is not a stock model"
expect 0 "" "$LATHE" verify narrow --source "$TINY"

# estimates make nothing
for verb in "calibrate $TINY --data $valid -o e1" "plan $TINY --keep 0.8 -o e2" "apply $TINY --plan p.json --stats s.safetensors -o e3" \
    "compress $TINY --data $valid --keep 0.8 -o e4" "compare $TINY small --data $test" "evaluate perplexity $TINY --data $test" \
    "evaluate kld small --base $TINY --data $test" "export small --to hf-dense -o e5"; do
    expect 0 "peak memory" "$LATHE" $verb --estimate
done
for f in e1 e2 e3 e4 e5; do [ ! -e $f ] && [ ! -e $f.partial ] || fail "--estimate made $f"; done
done_testing
