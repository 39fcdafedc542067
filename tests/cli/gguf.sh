# SPDX-License-Identifier: Apache-2.0
# A real GGUF becomes a Hugging Face folder: same tokens, same perplexity as float32 on the same weights (golden/smollm2/README.md).
. "$(dirname "$0")/common.sh"
[ -n "${LATHE_TEST_GGUF:-}" ] || { echo "skipped: LATHE_TEST_GGUF is not set"; exit 77; }
need "$LATHE_TEST_GGUF"
text=$REPO/share/text/wikitext2-test-slice.txt golden=$SHARED/golden/smollm2/golden.json
cd "$TMP" || exit 1
expect 0 "hf-dense" "$LATHE" export "$LATHE_TEST_GGUF" --to hf-dense --dtype bf16 -o base
for f in config.json model.safetensors tokenizer.json tokenizer_config.json generation_config.json lathe.json README.md; do
    [ -s base/model/$f ] || fail "base/model/$f is missing"
done
expect 0 "every tensor; logits within" "$LATHE" verify base --source "$LATHE_TEST_GGUF"
head -c 60000 "$text" >slice.txt
for m in "$LATHE_TEST_GGUF" base; do
    expect 0 "" "$LATHE" tokenize "$m" --input slice.txt
    cp stdout "ids-$(basename "$m" .gguf)"
done
check cmp ids-*
expect 0 "same top-1" "$LATHE" evaluate kld base --base "$LATHE_TEST_GGUF" --data slice.txt --window 256 --max-windows 1 --require 'kld.mean<0.001' --require 'top1>0.98'
if [ -e "$golden" ] && [ -e "$SHARED/data/wiki.test.raw" ]; then
    expect 0 "" "$LATHE" evaluate perplexity "$LATHE_TEST_GGUF" --data "$SHARED/data/wiki.test.raw" --window 512 --max-windows 1 --json
    got=$("$HELPER" get stdout models.0.mean_nll) want=$("$HELPER" get "$golden" f32/perplexity/1/nll_sum/0)
    check awk "BEGIN { g = $got * 511 / $want - 1; exit !(g < 2e-6 && g > -2e-6) }"
fi
done_testing
