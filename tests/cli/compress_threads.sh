# SPDX-License-Identifier: Apache-2.0
# One thread or three: the same bytes of stats, plan, model and every value of a result.
. "$(dirname "$0")/common.sh"
valid=$REPO/share/text/wikitext2-valid-slice.txt test=$REPO/share/text/wikitext2-test-slice.txt
cd "$TMP" || exit 1
for t in 1 3; do
    mkdir $t && cd $t || exit 1
    expect 0 "" "$LATHE" calibrate "$TINY" --data "$valid" --seq-len 128 --max-rows 24 --threads $t -o s.safetensors
    expect 0 "" "$LATHE" plan "$TINY" --stats s.safetensors --keep linears=0.6 --threads $t -o p.json
    expect 0 "" "$LATHE" apply "$TINY" --plan p.json --stats s.safetensors --threads $t -o small
    expect 0 "" "$LATHE" export small --to hf-dense --threads $t -o dense
    expect 0 "" "$LATHE" compress "$TINY" --data "$valid" --seq-len 128 --max-rows 24 --keep linears=0.6 --no-speed --threads $t -o one
    expect 0 "" "$LATHE" evaluate perplexity "$TINY" small --data "$test" --window 128 --max-windows 20 --threads $t --json
    "$HELPER" strip ../stdout >ppl.json
    expect 0 "" "$LATHE" compare "$TINY" small --data "$test" --window 128 --max-windows 8 --no-speed --threads $t --json
    "$HELPER" strip ../stdout >compare.json
    expect 0 "" "$LATHE" evaluate kld small --base "$TINY" --data "$test" --window 128 --max-windows 8 --threads $t --json
    "$HELPER" strip ../stdout >kld.json
    for d in small dense one; do
        "$HELPER" strip $d/result.json >$d/values.json
        rm $d/result.json $d/command.txt
    done
    cd ..
done
check diff -r 1 3
done_testing
