# SPDX-License-Identifier: Apache-2.0
# Many prompts: JSON lines in order, the same for every batch; stop strings, samples, bad input.
. "$(dirname "$0")/common.sh"

printf 'The game\n\nOnce upon a time\r\nIn 1969, the first\nA\nRoses are red, violets are blue, and so on\n' >"$TMP/lines"
for options in "" "--temperature 0.9 --top-p 0.9 --repetition-penalty 1.2 --seed 5 --samples 3"; do
    for batch in 1 4 32; do
        # shellcheck disable=SC2086
        expect 0 "" "$LATHE" generate "$TINY" --prompts "$TMP/lines" --max-new 20 --batch $batch $options
        [ "$batch" = 1 ] && cp "$TMP/stdout" "$TMP/one"
        check cmp "$TMP/stdout" "$TMP/one"
    done
done
[ "$(wc -l <"$TMP/one")" -eq 15 ] || fail "5 prompts, 3 samples, $(wc -l <"$TMP/one") lines"

# a prompt among others is that prompt alone
expect 0 "" "$LATHE" generate "$TINY" --prompts "$TMP/lines" --max-new 20 --output "$TMP/out"
sed -n 2p "$TMP/out" >"$TMP/second"
[ "$("$HELPER" get "$TMP/second" prompt)" = "Once upon a time" ] || fail "line ends belong to no prompt"
expect 0 "" "$LATHE" generate "$TINY" --prompt "Once upon a time" --max-new 20 --json
[ "$("$HELPER" get "$TMP/stdout" text)" = "$("$HELPER" get "$TMP/second" text)" ] || fail "another text in a batch"
[ "$("$HELPER" get "$TMP/stdout" ids)" = "$("$HELPER" get "$TMP/second" ids)" ] || fail "other ids in a batch"
[ "$("$HELPER" get "$TMP/stdout" finish_reason)" = "$("$HELPER" get "$TMP/second" finish_reason)" ] || fail "another end"
check cmp <(cut -d, -f1 "$TMP/out") <(printf '{"id":%d\n' 0 1 2 3 4)

# JSON lines: ids of the caller, token ids instead of text
printf '{"id": "a", "prompt": "The game"}\n{"prompt_ids": [1, 2, 3], "id": 7}\n' >"$TMP/rows"
expect 0 "" "$LATHE" generate "$TINY" --prompts "$TMP/rows" --max-new 5 --ignore-eos --json
"$HELPER" get "$TMP/stdout" text >"$TMP/text"
check grep -q '^{"id":"a","prompt":"The game",' "$TMP/text"
check grep -q '^{"id":7,"text":.*"finish_reason":"length","n_prompt":3,"n_new":5}$' "$TMP/text"

# a stop string is found across tokens and left out
expect 0 "" "$LATHE" generate "$TINY" --prompt "The game" --max-new 40 --ignore-eos --json
"$HELPER" get "$TMP/stdout" text >"$TMP/whole"
stop=$(awk '{ if (length($0) > length(l)) l = $0 } END { print substr(l, 4, 6) }' "$TMP/whole")
expect 0 "" "$LATHE" generate "$TINY" --prompt "The game" --max-new 40 --ignore-eos --json --stop "$stop" --stop never
[ "$("$HELPER" get "$TMP/stdout" finish_reason)" = stop ] || fail "no stop at \"$stop\""
"$HELPER" get "$TMP/stdout" text >"$TMP/cut"
grep -qF -- "$stop" "$TMP/cut" && fail "the stop string is in the text"
expect 0 "" "$LATHE" generate "$TINY" --prompt "The game" --max-new 40 --ignore-eos --stop "$stop"
check cmp "$TMP/stdout" "$TMP/cut"

# samples of one prompt
expect 0 '"sample":1' "$LATHE" generate "$TINY" --prompt "The game" --max-new 4 --samples 2 --temperature 1

# bad input
expect 2 "--prompts" "$LATHE" generate "$TINY" --prompt x --prompts "$TMP/lines"
expect 2 "--output" "$LATHE" generate "$TINY" --prompt x --output "$TMP/o"
expect 2 "stop" "$LATHE" generate "$TINY" --prompt x --stop ""
: >"$TMP/none"
expect 3 "no prompts" "$LATHE" generate "$TINY" --prompts "$TMP/none"
printf '{"prompt": "a"}\n{"text": "a"}\n' >"$TMP/rows"
expect 3 "line 2" "$LATHE" generate "$TINY" --prompts "$TMP/rows"
printf '{"prompt": "a"}\n{"prompt": 3}\n' >"$TMP/rows"
expect 3 "not a string" "$LATHE" generate "$TINY" --prompts "$TMP/rows"
printf '{"prompt_ids": [1, "x"]}\n' >"$TMP/rows"
expect 3 "entry 1" "$LATHE" generate "$TINY" --prompts "$TMP/rows"
printf '{"prompt_ids": []}\n' >"$TMP/rows"
expect 3 "no tokens" "$LATHE" generate "$TINY" --prompts "$TMP/rows"
head -c 200000 /dev/zero | tr '\0' 'a' | sed 's/aaaa/ abc/g' >"$TMP/long"
expect 3 "positions" "$LATHE" generate "$TINY" --prompts "$TMP/long"
expect 5 "max-memory" "$LATHE" generate "$TINY" --prompts "$TMP/lines" --max-memory 1M
done_testing
