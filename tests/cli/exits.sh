# SPDX-License-Identifier: Apache-2.0
# Exit codes of what goes wrong with inputs, outputs and limits.
. "$(dirname "$0")/common.sh"

# 4: the file system
expect 4 "$TMP/nowhere" "$LATHE" inspect "$TMP/nowhere"
one_error_line
expect 4 "$TMP/nowhere" "$LATHE" generate "$TMP/nowhere" --prompt x
expect 4 "$TMP/nowhere" "$LATHE" tokenize "$TINY" --input "$TMP/nowhere"
expect 4 "" "$LATHE" tokenize "$TINY" --input /etc/passwd --output "$TMP/no/such/folder/x"

# 3: data
mkdir "$TMP/empty" "$TMP/broken" "$TMP/bert"
expect 3 "$TMP/empty" "$LATHE" inspect "$TMP/empty"
expect 3 "$TMP/empty" "$LATHE" generate "$TMP/empty" --prompt x
echo '{"model_type": "llama", ' >"$TMP/broken/config.json"
expect 3 "$TMP/broken/config.json" "$LATHE" inspect "$TMP/broken"
one_error_line
printf 'GGUF\003\000' >"$TMP/short.gguf"
expect 3 "short.gguf" "$LATHE" inspect "$TMP/short.gguf"
echo 'hello' >"$TMP/text"
expect 3 "neither GGUF, safetensors nor JSON" "$LATHE" inspect "$TMP/text"
echo '{"texts": "x"}' >"$TMP/wrong.jsonl"
expect 3 "wrong.jsonl: line 1" "$LATHE" tokenize "$TINY" --input "$TMP/wrong.jsonl" --format jsonl
printf '{"text": "a"}\n{"text": 5}\n' >"$TMP/wrong.jsonl"
expect 3 "wrong.jsonl: line 2" "$LATHE" tokenize "$TINY" --input "$TMP/wrong.jsonl" --output "$TMP/out.jsonl"
[ ! -e "$TMP/out.jsonl" ] || fail "a failed verb left an output"
echo '{"ids": [1, 99999999]}' >"$TMP/wrong.jsonl"
expect 3 "line 1" "$LATHE" detokenize "$TINY" --input "$TMP/wrong.jsonl"
cp -r "$TINY" "$TMP/cut"
chmod -R u+w "$TMP/cut"
truncate -s 100000 "$TMP/cut/model.safetensors"
expect 3 "model.safetensors" "$LATHE" inspect "$TMP/cut"

# 5: memory
expect 5 "more than --max-memory allows" "$LATHE" generate "$TINY" --prompt x --max-memory 1MiB
one_error_line

# 6: unsupported
echo '{"model_type": "bert", "architectures": ["BertModel"]}' >"$TMP/bert/config.json"
expect 6 "bert" "$LATHE" inspect "$TMP/bert"
expect 6 "" "$LATHE" inspect "$TINY" --isa neon

# outputs that cannot be written
expect 0 "" "$LATHE" inspect "$TINY"
if [ -e /dev/full ]; then
    for args in "inspect $TINY" "inspect $TINY --json" "--help" "--version" "help --markdown" "generate $TINY --prompt x --max-new 4" \
        "tokenize $TINY --input $REPO/README.md"; do
        [ -e "$REPO/README.md" ] || [ "${args%% *}" != tokenize ] || continue
        "$LATHE" $args >/dev/full 2>"$TMP/stderr"
        [ $? -eq 4 ] || fail "/dev/full: exit code of $args"
        grep -q "standard output could not be written" "$TMP/stderr" || fail "/dev/full: message of $args: $(cat "$TMP/stderr")"
    done
fi
"$LATHE" inspect "$TINY" >&- 2>"$TMP/stderr"
[ $? -eq 4 ] || fail "closed stdout: exit code"
{ "$LATHE" generate "$TINY" --prompt x --max-new 200 --ignore-eos 2>"$TMP/stderr"; echo $? >"$TMP/code"; } | head -c 1 >/dev/null
[ "$(cat "$TMP/code")" -eq 4 ] || fail "closed pipe: exit code $(cat "$TMP/code")"
# a model that is cut short while it is read: one line that names it, and exit code 4
cp -r "$TINY" "$TMP/shrinks" && chmod -R u+w "$TMP/shrinks"
for _ in $(seq 40); do cat "$REPO/share/text/wikitext2-test-slice.txt"; done >"$TMP/long.txt"
"$LATHE" evaluate perplexity "$TMP/shrinks" --data "$TMP/long.txt" --window 128 >"$TMP/stdout" 2>"$TMP/stderr" &
pid=$!
for _ in $(seq 200); do # until it reads the weights
    grep -q "shrinks/model.safetensors" /proc/$pid/maps 2>/dev/null && break
    sleep 0.05
done
sleep 1
: >"$TMP/shrinks/model.safetensors"
wait $pid
[ $? -eq 4 ] || fail "exit code of a model that was cut short: $(cat "$TMP/stderr")"
grep -q "^lathe: error: file became shorter.*shrinks/model.safetensors)$" "$TMP/stderr" || fail "not named: $(cat "$TMP/stderr")"

done_testing
