# SPDX-License-Identifier: Apache-2.0
# compress --heal: the loss of the cut is trained away in part; kill -9 at any moment and the same command give the same bytes.
. "$(dirname "$0")/common.sh"
valid=$REPO/share/text/wikitext2-valid-slice.txt
cd "$TMP" || exit 1
value() { "$HELPER" get "$1" "$2"; }

compress=(compress "$TINY" --data "$valid" --seq-len 64 --max-rows 32 --keep linears=0.6 --no-speed --no-q8)
for method in lathe whitened; do
    expect 0 "healed" "$LATHE" "${compress[@]}" --method $method --heal 20k -o $method
    [ "$(value $method/result.json models.1.role)" = unhealed ] || fail "no row of what the cut left"
    before=$(value $method/result.json models.1.ppl) after=$(value $method/result.json models.2.ppl)
    check awk "BEGIN { exit !($after < 0.99 * $before) }"
    for f in compressed layers data.ids heal-rows.safetensors; do [ ! -e $method/$f ] || fail "$f is left"; done
    check test "$(value $method/model/lathe.json training.targets)" -ge 20000
    expect 0 "training changes weights" "$LATHE" verify $method --source "$TINY"
done
# without --heal the bytes are those of before, and what is compared on is the same
expect 0 "" "$LATHE" "${compress[@]}" -o plain
[ "$(value plain/result.json models.1.ppl)" = "$(value lathe/result.json models.1.ppl)" ] || fail "healing changed the cut or the rows compared on"
# --require is about what is written
expect 7 "not met" "$LATHE" "${compress[@]}" --heal 1000 --require 'ppl<2' -o missed

# ---- kills ----
heal=("${compress[@]}" --heal 1500)
expect 0 "" "$LATHE" "${heal[@]}" --threads 1 -o whole
until_done killed 0.05 1.6 "$LATHE" "${heal[@]}" --threads 1 -o killed
echo "$kills kills"
sed -i 's/killed/whole/g' killed/result.json killed/model/README.md
check diff -r whole/model killed/model
check cmp whole/metrics.jsonl killed/metrics.jsonl
check diff <("$HELPER" strip whole/result.json) <("$HELPER" strip killed/result.json)
expect 0 "" "$LATHE" "${heal[@]}" --threads 2 -o threads
check cmp whole/model/model.safetensors threads/model/model.safetensors

# ---- a text of its own to compare with; papers' rows; a time ----
expect 0 "healed" "$LATHE" "${compress[@]}" --eval-data "$REPO/share/text/wikitext2-test-slice.txt" --window 64 --max-windows 4 --heal 1k -o own
expect 0 "healed" "$LATHE" compress "$TINY" --data "$valid" --method weight_svd --keep 0.8 --seq-len 64 --no-speed --heal 3s -o time
expect 0 "" "$LATHE" "${compress[@]}" --no-compare --heal 1k -o silent
expect 0 "peak memory" "$LATHE" "${compress[@]}" --heal 1k --estimate -o none
for budget in soon 0 -1 1.5.2k k 3x ""; do
    expect 2 "--heal" "$LATHE" "${compress[@]}" "--heal=$budget" -o x
    one_error_line
done
expect 2 "--data is missing" "$LATHE" compress "$TINY" --method weight_svd --keep 0.8 --no-compare --heal 1k -o x
done_testing
