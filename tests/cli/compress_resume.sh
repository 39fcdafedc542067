# SPDX-License-Identifier: Apache-2.0
# kill -9 at any moment, then the same command: the same bytes as if nothing had happened. Other settings are refused.
. "$(dirname "$0")/common.sh"
valid=$REPO/share/text/wikitext2-valid-slice.txt
cd "$TMP" || exit 1

calibrate=(calibrate "$TINY" --data "$valid" --seq-len 128 --max-rows 32 --threads 1)
expect 0 "" "$LATHE" "${calibrate[@]}" -o whole.safetensors
until_done killed.safetensors 0.03 1.4 "$LATHE" "${calibrate[@]}" -o killed.safetensors
check cmp whole.safetensors killed.safetensors
expect 0 "" "$LATHE" plan "$TINY" --stats whole.safetensors --keep linears=0.6 -o p.json

apply=(apply "$TINY" --plan p.json --stats whole.safetensors --threads 1)
expect 0 "" "$LATHE" "${apply[@]}" -o whole
until_done killed 0.01 1.4 "$LATHE" "${apply[@]}" -o killed
check diff -r whole/model killed/model
check cmp whole/plan.json killed/plan.json
compress=(compress "$TINY" --data "$valid" --seq-len 128 --max-rows 24 --keep linears=0.6 --no-speed --no-q8)
expect 0 "" "$LATHE" "${compress[@]}" -o whole-c
until_done killed-c 0.03 1.4 "$LATHE" "${compress[@]}" -o killed-c
check cmp whole-c/model/model.safetensors killed-c/model/model.safetensors
check cmp whole-c/plan.json killed-c/plan.json
same_values() { diff <("$HELPER" strip "$1") <("$HELPER" strip "$2"); }
# the name of the folder stands in the result and on the card
sed -i 's/killed-c/whole-c/g' killed-c/result.json killed-c/model/README.md
check same_values whole-c/result.json killed-c/result.json
check diff -r whole-c/model killed-c/model
export=(export whole --to hf-dense --threads 1)
expect 0 "" "$LATHE" "${export[@]}" -o whole-e
until_done killed-e 0.01 1.4 "$LATHE" "${export[@]}" -o killed-e
check diff -r whole-e/model killed-e/model
# a lock file may stay behind a kill, unlocked
for f in *.partial; do [ ! -e "$f" ] || fail "$f is left"; done
echo "$kills kills"

# an interrupted call says so, and other settings do not go on with its work
# the signal goes out when there is work to keep, which a busy machine begins late
stop_at_work() {
    "$LATHE" "${compress[@]}" -o stopped >log 2>&1 &
    local pid=$!
    while kill -0 "$pid" 2>/dev/null && [ ! -e stopped.partial/unfinished.json ]; do sleep 0.01; done
    kill -INT "$pid" 2>/dev/null
    wait "$pid"
    echo $? >code
}
stop_at_work
case $(cat code) in
130) [ -e stopped.partial/unfinished.json ] || fail "nothing to go on with"
    expect 2 'keep "linears=0.6", this call "linears=0.7"' "$LATHE" "${compress[@]/linears=0.6/linears=0.7}" -o stopped
    one_error_line
    expect 2 "tokens_hash" "$LATHE" compress "$TINY" --data "$REPO/share/text/wikitext2-test-slice.txt" --seq-len 128 --max-rows 24 --keep linears=0.6 \
        --no-speed --no-q8 -o stopped
    expect 0 "" "$LATHE" "${compress[@]}" --threads 2 -o stopped # threads are no setting
    check cmp whole-c/model/model.safetensors stopped/model/model.safetensors ;;
0) echo "the machine was faster than the signal" ;;
*) fail "exit code $(cat code): $(cat log)" ;;
esac
done_testing
