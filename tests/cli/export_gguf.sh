# SPDX-License-Identifier: Apache-2.0
# Every dtype of GGUF from a folder, from a factored model and from a GGUF; what reads back is what was meant.
. "$(dirname "$0")/common.sh"
text=$REPO/share/text/wikitext2-test-slice.txt
cd "$TMP" || exit 1
for d in f32 f16 bf16 q8_0 q4_0; do
    expect 0 "gguf" "$LATHE" export "$TINY" --to gguf --dtype $d -o out-$d
    for f in model.gguf lathe.json README.md result.json command.txt; do [ -s out-$d/$f ] || fail "out-$d/$f is missing"; done
    [ "$(ls -A out-$d | wc -l)" -eq 5 ] || fail "out-$d holds more than it should"
    expect 0 "config and every tensor have the hash" "$LATHE" verify out-$d --source "$TINY" --max-gap 1
done
expect 0 "f32" "$LATHE" inspect out-f32
head -c 20000 "$text" >slice.txt
for m in "$TINY" out-f32 out-q8_0/model.gguf; do
    expect 0 "" "$LATHE" tokenize "$m" --input slice.txt
    cp stdout "ids-$(echo "$m" | tr -c 'a-z0-9\n' -)"
done
check cmp "ids-out-f32" "ids-out-q8-0-model-gguf"
check cmp "$(ls ids-*tiny*)" ids-out-f32
expect 0 "same top-1" "$LATHE" evaluate kld out-q8_0 --base "$TINY" --data slice.txt --window 128 --max-windows 2 --require 'kld.mean<0.01'
# as stored is the same file again; one command, the same bytes
expect 0 "" "$LATHE" export out-q8_0 --to gguf -o again
check cmp out-q8_0/model.gguf again/model.gguf
# factors are multiplied out, and the result says how many
printf '{"format": "lathe-plan/1", "cuts": [{"kind": "rank", "module": "model.layers.0.self_attn.q_proj", "rank": 20, "metric": "weight"},
{"kind": "rank", "module": "model.layers.1.mlp.up_proj", "rank": 20, "metric": "weight"}]}' >plan.json
expect 0 "" "$LATHE" apply "$TINY" --plan plan.json -o cut
expect 0 "multiplied out" "$LATHE" export cut --to gguf --dtype q8_0 -o cut-q8
check [ "$("$HELPER" get cut-q8/result.json tables.0.rows.0.4)" = 2 ]
expect 0 "" "$LATHE" verify cut-q8 --source cut --max-gap 1
# a window of all layers: the file promises no more positions than it, and the check knows
for window in 200 20; do
    cp -r "$TINY" slides-$window && chmod -R u+w slides-$window
    sed -i "s/\"model_type\": \"llama\"/\"model_type\": \"mistral\", \"sliding_window\": $window/; s/LlamaFor/MistralFor/" slides-$window/config.json
    expect 0 "" "$LATHE" export slides-$window --to gguf -o windows-$window
    grep -q "context_length is the sliding window, $window of" stderr || fail "no word of the shorter context"
    expect 0 "logits within" "$LATHE" verify windows-$window --source slides-$window
done
# refusals
expect 2 "hf-dense is written as one of" "$LATHE" export "$TINY" --to hf-dense --dtype q8_0 -o x
one_error_line
expect 2 "" "$LATHE" export "$TINY" --to gguf --dtype q5_0 -o x
expect 2 "--overwrite" "$LATHE" export "$TINY" --to gguf -o out-f32
expect 6 "no target \"onnx\"" "$LATHE" export "$TINY" --to onnx -o x
[ ! -e x ] && [ ! -e x.partial ] || fail "a refusal left something"
# a full disk: writes fail, nothing is there, and the same command ends as ever
full() { (ulimit -f "$1"; shift; exec "$@"); }
expect 4 "File too large" full 64 "$LATHE" export "$TINY" --to gguf --dtype f32 -o full
one_error_line
[ ! -e full ] || fail "a file that did not fit is there"
[ -z "$(find full.partial -name 'model.gguf*')" ] || fail "a part of a file that did not fit is there"
expect 0 "" "$LATHE" export "$TINY" --to gguf --dtype f32 -o full
check cmp full/model.gguf out-f32/model.gguf
# a damaged file is found
cp -r out-q4_0 bad && printf '\377\177' | dd of=bad/model.gguf bs=1 seek=$(($(stat -c %s bad/model.gguf) - 700)) conv=notrunc status=none
expect 8 "not those that were written" "$LATHE" verify bad
done_testing
